"""A stack whose calls of AWS go through a proxy, the tasks made on it, and what is left of them."""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

from local import stack as local_stack
from local.deploy import client
from local.emulator import Emulator
from local.package import ROOT
from local.stack import Stack
from tests.chaos.orders import Wish
from tests.chaos.proxy import Proxy
from tests.conftest import small_disk
from tests.integration.inside import call_api, sweep

WAITING, RUNNING, SUCCEEDED, FAILED, DELETED = range(5)


@dataclass
class Made:
    """A task, and what became of it."""

    number: int
    wish: Wish
    id: str
    deleted: bool = False
    created_at: float = field(default_factory=time.time)


class Run:
    """One run: a stack, its world, the tasks and what is to be said of them."""

    def __init__(self, home: Path, seed: int, parameters: dict[str, str]) -> None:
        self.home, self.clips, self._parameters = home, home / "clips", parameters
        self.proxy = Proxy(seed)
        self.emulator = Emulator(home)
        self.made: list[Made] = []
        self.odd_answers: list[str] = []
        self.stack: Stack

    def start(self) -> None:
        self.stack = local_stack.start(
            self.home, self._parameters, port=0, functions_endpoint_url=self.proxy.url
        )
        self.proxy.emulator = self.stack["aws_endpoint_url"]

    def upload(self, clip: Path) -> None:
        """Store a clip, of which tasks are created by its name."""
        s3 = client("s3", self.stack["aws_endpoint_url"])
        s3.upload_file(str(clip), self.stack["source_bucket"], clip.name)

    # ------------------------------------------------------------------------------------------ calls

    def call(self, method: str, name: str, **parameters: Any) -> dict[str, Any]:
        """Call the API as a patient client does: what may be repeated is."""
        key, deadline = str(uuid.uuid4()), time.monotonic() + 300
        while True:
            # Where a function was killed, or could not start, the answer is the emulator's own and no JSON.
            with suppress(OSError, HTTPException, ValueError):
                headers = {"Idempotency-Key": key} if method == "POST" else {}
                status, answer = call_api(self.stack, method, name, parameters, headers)
                if not {"errcode", "msg"} <= answer.keys() and name != "get-transcodes":
                    self.odd_answers.append(f"{name}: {status} {answer}")
                if status < 500 and status != 429:
                    return answer
            assert time.monotonic() < deadline, f"{name} goes on failing"
            time.sleep(0.5)

    def create(self, wish: Wish) -> Made:
        number = len(self.made)
        key = f"chaos-{number}-{wish.clip}"
        if (self.clips / wish.clip).exists():
            source = {"Bucket": self.stack["source_bucket"], "Key": wish.clip}
            client("s3", self.stack["aws_endpoint_url"]).copy_object(
                Bucket=self.stack["source_bucket"], Key=key, CopySource=source
            )
        origin = f"s3://{self.stack['source_bucket']}/{key}"
        answer = self.call("POST", "create-transcode", origin_url=origin, **dict(wish.parameters))
        assert answer["errcode"] == 1000, answer
        made = Made(number, wish, answer["id"])
        self.made.append(made)
        return made

    def delete(self, made: Made) -> None:
        self.call("POST", "delete-transcode", id=made.id)
        made.deleted = True

    def task(self, made: Made) -> dict[str, Any]:
        """Read a task; one that does not exist is empty."""
        task: dict[str, Any] = self.call("GET", "get-transcode", id=made.id).get("transcoding", {})
        return task

    def unfinished(self) -> list[Made]:
        with ThreadPoolExecutor(4) as pool:
            tasks = list(pool.map(self.task, self.made))
        return [m for m, t in zip(self.made, tasks, strict=True) if t and t["status"] < SUCCEEDED]

    def settle(self, seconds: float) -> list[Made]:
        """Wait until all tasks have ended; return those that have not, after a time in seconds."""
        deadline = time.monotonic() + seconds
        while (left := self.unfinished()) and time.monotonic() < deadline:
            time.sleep(3)
        return left

    # ------------------------------------------------------------------------------------- what is left

    def objects(self) -> dict[str, set[str]]:
        """Return the keys of all objects of results and of unfinished work, by task."""
        s3 = client("s3", self.stack["aws_endpoint_url"])
        found: dict[str, set[str]] = {}
        for prefix in ("outputs/", "work/"):
            pages = s3.get_paginator("list_objects_v2").paginate(
                Bucket=self.stack["output_bucket"], Prefix=prefix
            )
            for page in pages:
                for item in page.get("Contents", []):
                    found.setdefault(item["Key"].split("/")[1], set()).add(item["Key"])
        return found

    @staticmethod
    def left(task: dict[str, Any], keys: set[str]) -> set[str]:
        """Return which of a task's keys are of no use: all, where it has no result."""
        if task["status"] != SUCCEEDED:
            return keys
        folder = task["target_url"].rpartition("/")[0].partition("/outputs/")[2]
        return {key for key in keys if not key.startswith(f"outputs/{folder}/")}

    def let_time_pass(self) -> None:
        """Have the sweep find that the time has passed after which no worker can come back."""
        dynamodb = client("dynamodb", self.stack["aws_endpoint_url"])
        then = time.strftime("%Y-%m-%dT%H:%M:%S.000000+0000", time.gmtime(time.time() - 3600))
        for made in self.made:
            with suppress(dynamodb.exceptions.ConditionalCheckFailedException):
                dynamodb.update_item(
                    TableName=self.stack["table"],
                    Key={"id": {"S": made.id}},
                    UpdateExpression="SET attention_at = :now, updated_at = :then",
                    ConditionExpression="attribute_exists(attention)",
                    ExpressionAttributeValues={":now": {"N": "0"}, ":then": {"S": then}},
                )
        # A sweep looks at so many tasks, and the schedule's own may be at it.
        for _ in range(5):
            sweep(self.stack)


@contextmanager
def running(seed: int, parameters: dict[str, str], disk: str = "") -> Iterator[tuple[Run, Path | None]]:
    """Give a run in a folder of its own, and its small disk for /tmp; stop its stack in the end.

    `disk` is the disk's size, as mount(8) takes it. Without one, and where none can be mounted, it is None.
    """
    parent = ROOT / ".local"
    parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="chaos-", dir=parent) as folder, ExitStack() as world:
        home = Path(folder)
        small = world.enter_context(small_disk(home / "tmp", disk)) if disk else None
        world.callback(local_stack.stop, home)
        yield Run(home, seed, parameters), small
