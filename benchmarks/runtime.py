"""Run a function as Lambda does, in its own process, and measure each call.

`python -m benchmarks.runtime MODULE` imports `MODULE.handler`, prints a line when it is ready, and then reads
calls from standard input, a line of JSON each. All other output goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from local.package import ROOT


@dataclass(frozen=True, slots=True)
class Spent:
    """What an action took: seconds of the clock, and of processors with all processes that it started."""

    wall: float
    cpu: float
    #: What AWS bills: reads and writes of DynamoDB in units, "log_bytes", and requests by number.
    requests: Mapping[str, int] = field(default_factory=dict)


class Function:
    """A function in its own process. `started` is what its start took."""

    def __init__(self, module: str, environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        before = time.perf_counter()
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.runtime", module],
                cwd=ROOT,
                env={**environment, "PYTHONPATH": f"{ROOT / 'functions'}:{ROOT}"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        ready = self._answer()
        self.started = Spent(time.perf_counter() - before, ready["cpu"])

    def __enter__(self) -> Function:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def call(self, event: object, seconds: float = 900) -> tuple[Any, Spent]:
        """Call the handler with a time limit in seconds. Return its result and what the call took."""
        assert self._process.stdin
        logged = self._log.stat().st_size
        self._process.stdin.write(json.dumps({"event": event, "seconds": seconds}) + "\n")
        self._process.stdin.flush()
        done = self._answer()
        billed = {**done["requests"], "log_bytes": self._log.stat().st_size - logged}
        return done["answer"], Spent(done["wall"], done["cpu"], billed)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the function has ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


class _Context:
    function_name = memory_limit_in_mb = invoked_function_arn = aws_request_id = "bench"

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return int((self._end - time.monotonic()) * 1000)


def _billed(request: Any) -> tuple[str, int]:
    """Return the item that a request is billed as, and its number of units."""
    target = request.headers.get("X-Amz-Target", "")
    service, _, operation = (target.decode() if isinstance(target, bytes) else target).partition(".")
    if service.startswith("AmazonSQS"):
        return "sqs", 1
    if not service:
        listing = "list-type=" in request.url
        return ("s3_get" if request.method in {"GET", "HEAD"} and not listing else "s3_put"), 1
    body = json.loads(request.body)
    if operation == "TransactWriteItems":
        items = [next(iter(item.values())) for item in body["TransactItems"]]
        return "writes", sum(1 + _write_units(item) for item in items)
    if operation == "BatchWriteItem":
        return "writes", sum(map(len, body["RequestItems"].values()))
    if operation == "BatchGetItem":
        return "reads", sum(len(table["Keys"]) for table in body["RequestItems"].values())
    return ("reads", 1) if operation in {"GetItem", "Query"} else ("writes", _write_units(body))


def _write_units(write: Mapping[str, Any]) -> int:
    """Return the units of a write to an item of at most 1 KB, and to the indexes, which have its keys only.

    A new task is written to both indexes. An update writes to the sweep's where it changes the time of its
    next look: it removes an entry and adds another.
    """
    if "Key" not in write:
        return 3 if "origin_url" in write["Item"] else 1
    changes_index = "attention_at" in write.get("ExpressionAttributeNames", {}).values()
    return 3 if changes_index else 1


def _cpu() -> float:
    both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def _serve(module: str) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    handler = importlib.import_module(module).handler
    print(json.dumps({"cpu": _cpu()}), file=answers)

    from botocore.httpsession import URLLib3Session  # noqa: PLC0415 - not before the function imports it

    requests: Counter[str] = Counter()
    send = URLLib3Session.send

    def counted(session: URLLib3Session, request: Any) -> Any:
        name, units = _billed(request)
        requests[name] += units
        return send(session, request)

    setattr(URLLib3Session, "send", counted)  # noqa: B010 - type checkers refuse an assignment
    for line in sys.stdin:
        call = json.loads(line)
        requests.clear()
        started, cpu = time.perf_counter(), _cpu()
        answer = handler(call["event"], _Context(call["seconds"]))
        done = {"wall": time.perf_counter() - started, "cpu": _cpu() - cpu, "requests": dict(requests)}
        print(json.dumps({"answer": answer, **done}), file=answers)


if __name__ == "__main__":
    _serve(sys.argv[1])
