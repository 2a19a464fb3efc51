"""Many clients at once on the running service: how long calls take, and whether any task is lost or double.

The workers are off, so that only the calls are measured. They share the processors with the emulator and with
the clients.
"""

from __future__ import annotations

import http.client
import json
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from benchmarks.sources import Sizes
from local.deploy import client
from local.stack import Stack

CLIENTS = 64
_TIMEOUT = 60.0
#: Of each create's client, how often it makes another call, too.
_SHARES = {"get-transcode": 0.2, "get-transcodes": 0.1, "delete-transcode": 0.1, "delete-transcodes": 0.02}
_PAGE = 100
_LISTED = {"count", "results"}


class Caller:
    """One client with a connection of its own, which makes a call again where it was told to."""

    def __init__(self, stack: Stack, number: int) -> None:
        self._url = urlsplit(stack["api_url"])
        self._headers = {"x-api-key": stack["api_key"], "Content-Type": "application/json"}
        self._connection = http.client.HTTPConnection(self._url.netloc, timeout=_TIMEOUT)
        self.dice = random.Random(number)
        self.made: list[str] = []
        self.deleted: set[str] = set()
        self.seconds: dict[str, list[float]] = {}
        self.told: Counter[tuple[str, int]] = Counter()
        self.complaints: list[str] = []

    def call(self, method: str, name: str, key: str = "", **parameters: Any) -> dict[str, Any]:
        """Make a call, until its answer is not that it is to be made again."""
        path, body = f"{self._url.path}/transcoding/api/{name}", None
        if method == "GET":
            path += f"?{urlencode(parameters)}"
        else:
            body = json.dumps(parameters)
        headers = self._headers | ({"Idempotency-Key": key} if key else {})
        while True:
            started = time.perf_counter()
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
            content = response.read()
            self.seconds.setdefault(name, []).append(time.perf_counter() - started)
            self.told[name, response.status] += 1
            try:
                answer: dict[str, Any] = json.loads(content)
            except ValueError:
                answer = {}
            if not (
                _LISTED if name == "get-transcodes" and response.status == 200 else {"errcode", "msg"}
            ) <= (answer.keys()):
                self.complaints.append(f"{name}: {response.status} {content[:80]!r}")
            if response.status not in {429, 500, 502, 503, 504}:
                return answer
            time.sleep(self.dice.uniform(0.1, 0.5))

    def work(self, numbers: Iterator[int]) -> None:
        """Create tasks as long as there are numbers, and make other calls among them."""
        for number in numbers:
            order = {"origin_url": f"s3://transcoding-sources/{number}.mp4", "format": "m3u8"}
            answer = self.call("POST", "create-transcode", key=f"load-{number}", **order)
            self.made.append(answer["id"])
            for name, share in _SHARES.items():
                if self.dice.random() < share:
                    self._more(name)

    def _more(self, name: str) -> None:
        left = [task_id for task_id in self.made[-20:] if task_id not in self.deleted]
        if name == "get-transcodes":
            answer = self.call("GET", name, page=self.dice.randrange(1, 4), limit=_PAGE)
            ids = [task["id"] for task in answer["results"]]
            if len(ids) != len(set(ids)):
                self.complaints.append("a page has a task twice")
        elif left:
            chosen = self.dice.choice(left)
            if name == "get-transcode":
                answer = self.call("GET", name, id=chosen)
                if answer.get("transcoding", {}).get("id") != chosen:
                    self.complaints.append(f"a task that was created is not found: {answer}")
            elif name == "delete-transcode":
                self.call("POST", name, id=chosen)
                self.deleted.add(chosen)
            else:
                self.call("POST", name, ids=",".join(left))
                self.deleted.update(left)


def measure(stack: Stack, _: Path, sizes: Sizes) -> dict[str, Any]:
    """Create the tasks, and compare what is listed then with what was created and not deleted."""
    lambda_ = client("lambda", stack["aws_endpoint_url"])
    mappings = lambda_.list_event_source_mappings(FunctionName=stack["functions"]["WorkerFunction"])
    for mapping in mappings["EventSourceMappings"]:
        lambda_.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    callers = [Caller(stack, number) for number in range(CLIENTS)]
    before = callers[0].call("GET", "get-transcodes", limit=1)["count"]
    numbers, lock = iter(range(sizes.creates)), threading.Lock()

    def shared() -> Iterator[int]:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            yield number

    started = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda caller: caller.work(shared()), callers))
    took = time.perf_counter() - started
    made = [task_id for caller in callers for task_id in caller.made]
    deleted = set[str]().union(*(caller.deleted for caller in callers))
    listed, count = _all(callers[0])
    complaints = [text for caller in callers for text in caller.complaints]
    told: Counter[tuple[str, int]] = sum((caller.told for caller in callers), Counter())
    calls = {}
    for name in ("create-transcode", *_SHARES):
        seconds = sorted(time for caller in callers for time in caller.seconds.get(name, ()))
        calls[name] = {
            "calls": len(seconds),
            "not 200": sum(n for (call, status), n in told.items() if call == name and status != 200),
            "median": statistics.median(seconds),
            "p99": seconds[len(seconds) * 99 // 100],
            "longest": seconds[-1],
        }
    expected = set(made) - deleted
    there = Counter(listed)
    result = {
        "clients": CLIENTS,
        "created": len(made),
        "deleted": len(deleted),
        "double": len(made) - len(set(made)) + sum(n - 1 for n in there.values()),
        "lost": len(expected - there.keys()),
        "count is wrong by": count - before - len(expected),
        "answers of another form": len(complaints),
        "seconds": took,
        "calls": calls,
    }
    print(f"  {result} {complaints[:3]}", flush=True)
    return result


def _all(caller: Caller) -> tuple[list[str], int]:
    """Return the ids on all pages, and the number of tasks that the last page tells."""
    ids: list[str] = []
    page = 1
    while True:
        answer = caller.call("GET", "get-transcodes", page=page, limit=_PAGE)
        ids += [task["id"] for task in answer["results"]]
        if page * _PAGE >= answer["count"]:
            return ids, answer["count"]
        page += 1
