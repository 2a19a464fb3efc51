"""The protocol of docs/STATES.md as a whole: random histories against the real code.

Each call of the API, delivery of a message and sweep is an actor: a thread that stops before each of its
calls of AWS, until the history lets it go on. So whatever the order is in which actors read and write, and
wherever one ends, a history has it. DynamoDB and S3 are moto's, a queue is a list, FFmpeg's work is a few
objects; all else is the service's own code.
"""

from __future__ import annotations

import base64
import inspect
import json
import logging
import os
import textwrap
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar, cast

import botocore.client
import pytest
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from moto import mock_aws
from moto.dynamodb.models import dynamodb_backends
from moto.s3.models import s3_backends

from tests.conftest import BUCKET, OUTPUT, QUEUE_URL, REGION, TABLE, TABLE_SCHEMA, _clients
from tests.unit.test_cuts import source as picture_facts
from transcoding.data import part_table, table, task_table
from transcoding.data.object_store import ObjectStore, output_prefix, work_prefix
from transcoding.data.part_table import PartTable
from transcoding.data.queue import JobQueue
from transcoding.data.task_table import TaskTable
from transcoding.errors import (
    ApiError,
    EncoderLostError,
    Failure,
    LeaseLostError,
    OutOfTimeError,
    StaleAttemptError,
    TaskFailedError,
    UnavailableError,
)
from transcoding.media.inspection.facts import TextFacts
from transcoding.media.planning.formats import FORMATS
from transcoding.media.planning.plan import plan
from transcoding.model import Order, Output, Part, Status, Task
from transcoding.pipeline import transcoder as pipeline
from transcoding.service import dead_letters, jobs, sweep, tasks
from transcoding.service.jobs import Job, RetryLaterError
from transcoding.service.outcomes import Outcome
from transcoding.service.sweep import Sweep

ACCOUNT = "123456789012"
LEASE = timedelta(seconds=60)
RETENTION = timedelta(days=30)
#: An invocation's most, less what clocks may differ by.
LIFETIME = 860.0
SKEWS = (-20.0, 0.0, 20.0)
#: A message that is received more often is a dead letter.
RECEIVES = 13
#: Within which all has to have ended after the last fault, seconds: an hour's wait is at most doubled.
SETTLED_WITHIN = 12 * 3600.0

FINAL = {Status.SUCCEEDED, Status.FAILED, Status.DELETED}
CHANGES = {
    None: {Status.ACCEPTED, Status.WAITING},
    Status.ACCEPTED: {Status.WAITING, Status.RUNNING, Status.FAILED, Status.DELETED},
    Status.WAITING: {Status.RUNNING, Status.FAILED, Status.DELETED},
    Status.RUNNING: {Status.RUNNING, Status.WAITING, Status.SUCCEEDED, Status.FAILED, Status.DELETED},
    Status.SUCCEEDED: {Status.DELETED},
    Status.FAILED: {Status.DELETED},
    Status.DELETED: set[Status](),
}
READS = {"GetItem", "BatchGetItem", "Query", "Scan", "GetObject", "HeadObject", "ListObjectsV2"}


class Fault(StrEnum):
    """What becomes of a call of AWS."""

    REFUSED = "is not made, and fails"
    UNANSWERED = "is made, and fails"
    REPEATED = "is made twice, as botocore does when the first answer is lost"
    CRASH_BEFORE = "is not made, and its caller is killed"
    CRASH_AFTER = "is made, and its caller is killed"


class Trouble(StrEnum):
    """What goes wrong in a worker's own work."""

    DAMAGED = "the source cannot be transcoded"
    BROKEN = "an error that may pass"
    KILLED = "FFmpeg is killed"
    LATE = "the invocation ends before the work does"
    STALE = "another version has stored what is read"


class Crash(BaseException):
    """The end of a process."""


_current = threading.local()


class Actor(threading.Thread):
    """Some code of the service that stops before each call of AWS; `skew` is how far its clock is ahead."""

    def __init__(self, what: str, work: Callable[[], object], skew: float, started: float) -> None:
        super().__init__(name=what, daemon=True)
        self.what, self.work, self.skew, self.started = what, work, skew, started
        self.owner, self.trouble = "", cast("Trouble | None", None)
        self.made = self.ended = self.dead = self.hit = False
        self.outcome: object = None
        self.error: BaseException | None = None
        #: The faults that it has had, and the calls that had them.
        self.faults: list[tuple[Fault, str, str]] = []
        self._fault: Fault | None = None
        self._turn, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self.start()
        self._stopped.acquire()

    def run(self) -> None:
        _current.actor = self
        try:
            self.outcome = self.work()
        except BaseException as error:
            self.error = error
        self.ended = True
        self._stopped.release()

    def go_on(self, fault: Fault | None = None) -> None:
        """Make the next call, and whatever comes before the one after it."""
        self._fault = fault
        self._turn.release()
        self._stopped.acquire()

    def kill(self) -> None:
        while not self.ended:
            self.go_on(Fault.CRASH_BEFORE)

    def call(self, service: str, operation: str, make: Callable[[], Any]) -> Any:
        """Make a call in its turn, with its fault."""
        if not self.dead:
            self._stopped.release()
            self._turn.acquire()
        fault = None if self.dead else self._fault
        self.hit |= fault is not None
        if fault is Fault.CRASH_BEFORE:
            self.dead = True
        if self.dead:
            raise Crash
        if fault:
            self.faults.append((fault, service, operation))
        if fault is Fault.REFUSED:
            raise EndpointConnectionError(endpoint_url="https://aws")
        answer = make()
        if fault is Fault.REPEATED and operation not in READS:
            answer = make()
        if fault is Fault.CRASH_AFTER:
            self.dead = True
            raise Crash
        if fault is Fault.UNANSWERED:
            raise ReadTimeoutError(endpoint_url="https://aws")
        return answer


class InTurn(Executor):
    """Does at once what is submitted, in the actor's own thread."""

    def __init__(self, *_: object) -> None: ...

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(work(*arguments, **named))
        except Exception as error:
            future.set_exception(error)
        return future


class Beats:
    """The service's heartbeat, which beats whenever the work reports, and on the actor's clock."""

    def __init__(self, beat: Callable[[float, timedelta], None], lease: timedelta, interval: float) -> None:
        self._beat, self._lease = beat, lease
        self._ends = Machine.world.clock() + lease.total_seconds()

    def __enter__(self) -> Beats:
        return self

    def __exit__(self, *_: object) -> None: ...

    def report(self, progress: float) -> None:
        sent = Machine.world.clock()
        try:
            self._beat(progress, self._lease)
        except LeaseLostError:
            raise
        except Exception:
            if Machine.world.clock() > self._ends:
                raise LeaseLostError from None
        else:
            self._ends = sent + self._lease.total_seconds()


@dataclass
class Message:
    body: dict[str, Any]
    sent_at: float
    receives: int = 0


@dataclass
class World:
    """What is outside of the service, and what has been seen of it."""

    now: float = 1795360577.0
    messages: list[Message] = field(default_factory=list)
    #: Who has taken what up.
    claims: dict[tuple[object, ...], str] = field(default_factory=dict)
    #: The objects of each attempt's result.
    published: dict[tuple[str, int], set[str]] = field(default_factory=dict)
    #: Tasks whose source cannot be transcoded, and those that something else has happened to.
    damaged: set[str] = field(default_factory=set)
    troubled: set[str] = field(default_factory=set)
    #: By task: its status, sequence and attempt.
    seen: dict[str, tuple[Status, int, int]] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)

    def clock(self) -> float:
        actor = getattr(_current, "actor", None)
        return self.now + (actor.skew if actor else 0.0)

    def items(self) -> dict[str, dict[str, Any]]:
        """Read all items, past the service."""
        stored = dynamodb_backends[ACCOUNT][REGION].tables[TABLE].items
        plain = ({name: value.cast_value for name, value in item.attrs.items()} for item in stored.values())
        return {item["id"]: item for item in plain}

    def keys(self) -> set[str]:
        return set(s3_backends[ACCOUNT]["aws"].buckets[BUCKET].keys.keys())

    def tasks(self) -> dict[str, dict[str, Any]]:
        return {key: item for key, item in self.items().items() if "origin_url" in item}

    def claim(self, *what: object) -> None:
        owner = _current.actor.owner
        assert self.claims.setdefault(what, owner) == owner, f"two workers have {what}"

    def queue(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        entries = arguments["Entries"] if operation == "SendMessageBatch" else [arguments]
        self.messages += [Message(json.loads(entry["MessageBody"]), self.now) for entry in entries]
        return {"MessageId": "1"}

    def check(self) -> None:
        """Check what holds at any time, between any two writes of anyone."""
        items = self.items()
        found = {key: item for key, item in items.items() if "origin_url" in item}
        for task_id, item in found.items():
            status, sequence = Status(int(item["status"])), int(item["sequence"])
            before, count, _ = self.seen.get(task_id, (None, 0, 0))
            if (status, sequence) != (before, count):
                assert status in CHANGES[before], f"{task_id} went from {before!r} to {status!r}"
                assert sequence == count + 1, f"{task_id} has counted {sequence - count} changes of status"
            self.seen[task_id] = status, sequence, int(item["attempt"])
            if status in FINAL:
                assert "lease_owner" not in item or status is Status.DELETED, f"{task_id} is still owned"
            if status is Status.DELETED:
                assert "expires_at" in item
            assert task_id not in self.deleted or status is Status.DELETED, f"{task_id} is back"
        assert found.keys() >= self.seen.keys(), "a task is lost"
        for key, item in items.items():
            assert int(item.get("tries", 0)) <= 6, f"{key} was taken up {item['tries']} times"
            assert int(item.get("faults", 0)) <= 2, f"{key} was tried after {item['faults']} errors"
        assert counted(items) == sum("month" in item for item in found.values()), "the counts are wrong"
        listed = [item for item in found.values() if int(item["status"]) != Status.DELETED]
        assert len(listed) == sum("month" in item for item in found.values())
        wanted = {
            key
            for task_id, (status, _, attempt) in self.seen.items()
            if status is Status.SUCCEEDED
            for key in self.published[task_id, attempt]
        }
        if wanted:
            assert wanted <= self.keys(), f"a result lacks {wanted - self.keys()}"
        by_key = [item["origin_url"] for item in found.values() if "idempotent" in item["origin_url"]]
        assert len(by_key) == len(set(by_key)), "a key has made two tasks"

    def check_ended(self, actor: Actor) -> None:
        """Check what an actor leaves that was not killed."""
        if isinstance(actor.error, AssertionError):
            raise actor.error
        assert actor.error is None or isinstance(
            actor.error, UnavailableError | RetryLaterError | ApiError | ExceptionGroup | Crash
        ), f"{actor.what} ended with {actor.error!r}"
        if isinstance(actor.error, Crash) or not actor.owner:
            return
        # Where a write may have been made unknown to its caller, or the last one was refused, a lease stays.
        knows = all(operation in READS or fault is Fault.REPEATED for fault, _, operation in actor.faults)
        if actor.error is None or knows:
            held = [
                key
                for key, item in self.items().items()
                if item.get("lease_owner") == actor.owner
                and item.get("lease_expires_at", 0) > 0
                and int(item.get("status", Status.RUNNING)) == Status.RUNNING
            ]
            assert not held, f"{actor.what} has ended ({actor.outcome}, {actor.error!r}) and holds {held}"
        if actor.made and all(service == "s3" for _, service, _ in actor.faults):
            ends = (Outcome.SUCCEEDED, Outcome.LOST)
            assert actor.outcome in ends, f"{actor.what} threw a finished result away: {actor.outcome}"


def counted(items: dict[str, dict[str, Any]]) -> int:
    """Sum the folded counts and the pending ones up."""
    pending = sum(
        int(number)
        for key, item in items.items()
        if key.startswith("pending#")
        for name, number in item.items()
        if name.isdigit()
    )
    packed = items.get("counts", {}).get("days")
    days = json.loads(zlib.decompress(unpacked(packed))) if packed else {}
    return pending + sum(days.values())


def unpacked(value: Any) -> bytes:
    """Return the bytes of a binary attribute, which moto keeps as it was sent or as it was read."""
    data = value if isinstance(value, bytes) else str(value).encode()
    # What zlib begins with: 0x78.
    while data[:1] != b"\x78" or data.isalnum():
        data = base64.b64decode(data)
    return data


class Transcoder:
    """Stores objects as the pipeline does, and has its own code decide of parts of text alone."""

    facts: ClassVar[Any] = picture_facts(300.0)

    def __init__(self, world: World, store: ObjectStore) -> None:
        self._world, self._store = world, store

    def _put(self, key: str) -> str:
        self._store.put("x", key, "text/plain")
        return key

    def _trouble(self, task: Task) -> Trouble | None:
        actor: Actor = _current.actor
        if actor.trouble:
            self._world.troubled.add(task.id)
        if actor.trouble is Trouble.DAMAGED:
            self._world.damaged.add(task.id)
            raise TaskFailedError(Failure.DAMAGED, "It is torn.")
        if actor.trouble is Trouble.BROKEN:
            raise OSError("the disk is on fire")
        if actor.trouble is Trouble.KILLED:
            raise EncoderLostError("FFmpeg was killed")
        if actor.trouble is Trouble.STALE and task.parts:
            raise StaleAttemptError("source.json")
        return actor.trouble

    def prepare(self, task: Task, report: Callable[[float], None], deadline: float) -> SimpleNamespace:
        self._world.claim("attempt", task.id, task.attempt)
        report(0.0)
        return SimpleNamespace(task=task, share=lambda part: 0.3)

    def parts(self, prepared: SimpleNamespace) -> list[Part]:
        task = prepared.task
        if task.format != "m3u8":
            return []
        return [
            Part(task.id, task.attempt, 0, "sound", 0, None),
            Part(task.id, task.attempt, 1, "picture", 0, 100),
            Part(task.id, task.attempt, 2, "picture", 100, 200),
            Part(task.id, task.attempt, 3, "picture", 200, None),
        ]

    def store(self, prepared: SimpleNamespace, parts: list[Part]) -> None:
        self._put(f"{work_prefix(prepared.task.id, prepared.task.attempt)}source.json")

    def recall(self, task: Task, part: Part) -> SimpleNamespace:
        self._world.claim("part", task.id, task.attempt, part.number, part.tries)
        if self._store.find(f"{work_prefix(task.id, task.attempt)}source.json") is None:
            raise StaleAttemptError("source.json")
        return SimpleNamespace(task=task, share=lambda part: 0.3)

    def run(self, prepared: SimpleNamespace, folder: Path, report: Callable[[float], None]) -> Output:
        task = prepared.task
        keys = {self._put(f"{output_prefix(task.id, task.attempt)}0.ts")}
        report(0.5)
        if self._trouble(task) is Trouble.LATE:
            raise OutOfTimeError
        keys.add(self._put(self.target_key(task)))
        self._world.published[task.id, task.attempt] = keys
        _current.actor.made = True
        return OUTPUT

    def run_part(
        self, prepared: SimpleNamespace, part: Part, folder: Path, report: Callable[[float], None]
    ) -> int | None:
        task, rest = prepared.task, None
        if part.kind == "sound":
            self._run_text(part)
        self._put(segment(task, part.kind, part.start))
        report(0.5)
        if self._trouble(task) is Trouble.LATE:
            end = part.start + 100 if part.end is None else part.end
            if part.kind == "sound" or end - part.start < 2:
                raise OutOfTimeError
            rest = (part.start + end) // 2
        self._put(made(task, part.number))
        return rest

    def _run_text(self, part: Part) -> None:
        """Run the pipeline's own code for a part of text alone, of which its third try leaves nothing."""
        facts = pipeline.replace(self.facts, audio=None, subtitles=(TextFacts(2, "subrip"),))
        planned = plan(facts, FORMATS["m3u8"], 4, may_copy=part.faults < 1, with_text=part.faults < 2)
        package = SimpleNamespace(part_prefix=lambda task: "", store_texts=lambda *_: [])
        sources = SimpleNamespace(url=lambda source: "https://source")
        real = SimpleNamespace(_package=lambda planned: package, _tools=None, _sources=sources)
        prepared = SimpleNamespace(task=None, plan=planned, source=None)
        folder = Path(os.devnull) / "none"
        try:
            run_sound: Any = pipeline.Transcoder._run_sound
            run_sound(real, prepared, folder, None, print)
        except NotADirectoryError:
            # It is about to run FFmpeg, which refuses to without an output.
            if not planned.has_sound_or_text:
                raise TaskFailedError(Failure.DAMAGED, "FFmpeg has no output.") from None

    def target_key(self, task: Task) -> str:
        return output_prefix(task.id, task.attempt) + ("master.m3u8" if task.parts else "video.mp4")

    def finished(self, task: Task) -> Output | None:
        self._world.claim("finish", task.id, task.attempt, task.finishes)
        found = self._store.find(f"{work_prefix(task.id, task.attempt)}output.json")
        return OUTPUT if found else None

    def finish(self, task: Task, parts: list[Part], report: Callable[[float], None]) -> Output:
        for part in parts:
            if self._store.find(made(task, part.number)) is None:
                raise StaleAttemptError(made(task, part.number))
        report(0.9)
        if self._trouble(task) is Trouble.LATE:
            raise OutOfTimeError
        keys = {segment(task, part.kind, part.start) for part in parts} | {self.target_key(task)}
        self._put(self.target_key(task))
        self._world.published[task.id, task.attempt] = keys
        self._put(f"{work_prefix(task.id, task.attempt)}output.json")
        _current.actor.made = True
        return OUTPUT


def segment(task: Task, kind: str, start: int) -> str:
    return f"{output_prefix(task.id, task.attempt)}{kind}/{start}.m4s"


def made(task: Task, number: int) -> str:
    return f"{work_prefix(task.id, task.attempt)}parts/{number}.json"


def calls_of(world: World) -> Callable[..., Any]:
    """Return botocore's method of all calls, so that actors make theirs in turn."""
    real = botocore.client.BaseClient._make_api_call  # type: ignore[attr-defined]

    def make_api_call(client: Any, operation: str, arguments: Any) -> Any:
        service = client.meta.service_model.service_name
        make = partial(real, client, operation, arguments)
        if service == "sqs":
            make = partial(world.queue, operation, arguments)
        actor = getattr(_current, "actor", None)
        return actor.call(service, operation, make) if actor else make()

    return make_api_call


faults = st.none() | st.sampled_from(list(Fault))
troubles = st.sampled_from([None, None, None, *Trouble])
skews = st.sampled_from(SKEWS)
#: How far an actor goes: so many calls, the last of them with a fault; whether it then goes on to its end.
ways = st.tuples(st.integers(0, 24), faults, st.booleans())
TO_THE_END = (0, None, True)


class Machine(RuleBasedStateMachine):
    """The service, and a history of what happens to it."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self._patch = pytest.MonkeyPatch()
        self._aws = mock_aws()
        self._aws.start()
        clients = _clients()
        clients.dynamodb.create_table(**TABLE_SCHEMA)
        clients.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        self.w = Machine.world = World()
        self.actors: list[Actor] = []
        self.broken = False
        self._count = 0
        self._patch.setattr(botocore.client.BaseClient, "_make_api_call", calls_of(self.w))
        for module in (part_table, task_table, tasks):
            self._patch.setattr(module, "ThreadPoolExecutor", InTurn)
        self._patch.setattr(jobs, "Heartbeat", Beats)
        self._patch.setattr(jobs, "_SECOND_LOOK", 0)
        self._patch.setattr(table, "_FIRST_WAIT", 0)
        # Of the same choices, hypothesis wants the same history.
        self._patch.setattr(task_table, "_new_id", self._new_id)
        self._table, self._parts = TaskTable(TABLE, self.w.clock), PartTable(TABLE, self.w.clock)
        self._queue, self._store = JobQueue(QUEUE_URL), ObjectStore(BUCKET)
        window = {"window": 2}
        self._sweep = Sweep(self._table, self._parts, self._queue, self._store, clock=self.w.clock, **window)
        self._job = Job(
            self._table,
            self._parts,
            self._queue,
            self._store,
            cast(Any, Transcoder(self.w, self._store)),
            lease=LEASE,
            **window,
        )

    # What may happen.

    @rule(
        format_=st.sampled_from(["mp4", "m3u8"]),
        key=st.sampled_from([None, None, "a", "b"]),
        skew=skews,
        way=ways,
    )
    def create(self, format_: str, key: str | None, skew: float, way: Any) -> None:
        if len(self.w.seen) >= 4:
            return
        self._count += 1
        url = f"s3://source/{self._count}" if key is None else f"s3://source/idempotent-{key}"
        order = Order(url, 5, "m3u8" if key == "a" else "mp4" if key else format_)
        self._begin("create", partial(tasks.create, self._table, self._queue, order, key), skew, way)

    @precondition(lambda self: self.w.seen)
    @rule(which=st.integers(0, 3), skew=skews, way=ways)
    def delete(self, which: int, skew: float, way: Any) -> None:
        task_id = sorted(self.w.seen)[which % len(self.w.seen)]

        def work() -> None:
            tasks.delete(self._table, self._store, RETENTION, [task_id])
            self.w.deleted.add(task_id)

        self._begin(f"delete {task_id}", work, skew, way)

    @precondition(lambda self: self.w.messages)
    @rule(which=st.integers(0, 20), stays=st.booleans(), trouble=troubles, skew=skews, way=ways)
    def deliver(self, which: int, stays: bool, trouble: Trouble | None, skew: float, way: Any) -> None:
        message = self.w.messages[which % len(self.w.messages)]
        self._deliver(message, trouble, skew, way, stays=stays)

    @rule(skew=skews, way=ways)
    def sweep(self, skew: float, way: Any) -> None:
        self._begin("sweep", lambda: list(self._sweep.run(lambda: 300.0)), skew, way)

    @precondition(lambda self: self.w.messages)
    @rule(which=st.integers(0, 20))
    def work(self, which: int) -> None:
        """Deliver a message to a worker to whom nothing happens."""
        self._deliver(self.w.messages[which % len(self.w.messages)], None, 0.0, TO_THE_END)

    @precondition(lambda self: self.w.messages)
    @rule(which=st.integers(0, 20), buried=st.sampled_from([False, False, False, True]), way=ways)
    def lose(self, which: int, buried: bool, way: Any) -> None:
        message = self.w.messages[which % len(self.w.messages)]
        if buried:
            self._bury(message, way)
        else:
            self.w.messages.remove(message)

    @precondition(lambda self: self.actors)
    @rule(which=st.integers(0, 5), way=ways)
    def go_on(self, which: int, way: Any) -> None:
        self._go(self.actors[which % len(self.actors)], way)

    @rule(seconds=st.sampled_from([1.0, 20.0, 61.0, 301.0, 960.0]))
    def wait(self, seconds: float) -> None:
        self._advance(seconds)

    # How it happens.

    def _new_id(self) -> str:
        self._count += 1
        return f"task{self._count:04}"

    def _begin(self, what: str, work: Callable[[], object], skew: float, way: Any, **more: Any) -> Actor:
        actor = Actor.__new__(Actor)
        actor.__init__(what, _with_owner(actor, work, **more), skew, self.w.now)  # type: ignore[misc]
        self.actors.append(actor)
        self._go(actor, way)
        return actor

    def _go(self, actor: Actor, way: tuple[int, Fault | None, bool]) -> None:
        calls, fault, on = way
        for left in reversed(range(calls)):
            if actor.ended:
                break
            self._step(actor, None if left else fault)
        while on and not actor.ended:
            self._step(actor, None)
        if actor.ended and actor in self.actors:
            self.actors.remove(actor)
            self._checked(lambda: self.w.check_ended(actor))

    def _step(self, actor: Actor, fault: Fault | None) -> None:
        actor.go_on(fault)
        self._checked(self.w.check)

    def _checked(self, check: Callable[[], None]) -> None:
        try:
            check()
        except BaseException:
            self.broken = True
            raise

    def _deliver(
        self, message: Message, trouble: Trouble | None, skew: float, way: Any, *, stays: bool = False
    ) -> Actor:
        message.receives += 1
        body, age = message.body, self.w.now - message.sent_at
        self._count += 1
        owner = f"worker-{self._count}"
        deadline = time.monotonic() + 900

        def work() -> Outcome:
            if body["step"] == "part":
                outcome = self._job.run_part(body["task_id"], body["attempt"], body["part"], owner, deadline)
            else:
                outcome = self._job.run(body["task_id"], owner, deadline, age)
            # Only what was dealt with is taken off the queue, and not for certain then.
            if not stays and message in self.w.messages:
                self.w.messages.remove(message)
            return outcome

        return self._begin(f"deliver {body}", work, skew, way, owner=owner, trouble=trouble)

    def _bury(self, message: Message, way: Any) -> None:
        self.w.troubled.add(message.body["task_id"])

        def work() -> None:
            dead_letters.bury(self._table, self._parts, self._store, json.dumps(message.body))
            if message in self.w.messages:
                self.w.messages.remove(message)

        self._begin(f"bury {message.body}", work, 0.0, way)

    def _advance(self, seconds: float) -> None:
        self.w.now += seconds
        for actor in [actor for actor in self.actors if self.w.now - actor.started > LIFETIME]:
            actor.kill()
            self.actors.remove(actor)

    # How it ends.

    def teardown(self) -> None:
        try:
            if not self.broken:
                self._settle()
        finally:
            for actor in self.actors:
                actor.kill()
            self._patch.undo()
            self._aws.stop()

    def _settle(self) -> None:
        """Without more faults, all comes to an end, and nothing is left."""
        for actor in list(self.actors):
            self._go(actor, TO_THE_END)
        began = self.w.now
        while True:
            for message in list(self.w.messages):
                if message.receives >= RECEIVES:
                    self._bury(message, TO_THE_END)
                else:
                    self._deliver(message, None, 0.0, TO_THE_END)
            self._begin("sweep", lambda: list(self._sweep.run(lambda: 300.0)), 0.0, TO_THE_END)
            found = self.w.tasks()
            due = [float(item["attention_at"]) for item in found.values() if "attention" in item]
            unfinished = [key for key, item in found.items() if Status(int(item["status"])) not in FINAL]
            if not due and not self.w.messages:
                break
            assert self.w.now - began < SETTLED_WITHIN, f"{unfinished or due} stand still"
            # A worker that waits for its task to be stored, or an attempt that was given back, comes sooner.
            soon = self.w.now + (31 if self.w.messages else 60)
            self._advance(max(soon, min(due, default=0) if not self.w.messages else 0) + 1 - self.w.now)
        assert not unfinished, f"{unfinished} are forgotten"
        for task_id, item in found.items():
            if int(item["status"]) == Status.FAILED:
                code = Failure(int(item["error_code"]))
                assert code is not Failure.DAMAGED or task_id in self.w.damaged, f"{task_id}: {code!r}"
        live = {
            key
            for task_id, (status, _, attempt) in self.w.seen.items()
            if status is Status.SUCCEEDED
            for key in self.w.published[task_id, attempt]
        }
        stored = self.w.keys()
        left = {key for key in stored if key.startswith("work/")} | {
            key
            for key in stored
            # What workers of one attempt have stored twice is named as the result's own objects.
            if key not in live and self.w.seen[key.split("/")[1]][0] is not Status.SUCCEEDED
        }
        assert not left, f"left over: {sorted(left)}"
        parts = {key: item for key, item in self.w.items().items() if key.startswith("part#")}
        assert all("expires_at" in item for item in parts.values())
        shown, total = self._table.page(1, 100)
        listed = {task_id for task_id, (status, *_) in self.w.seen.items() if status is not Status.DELETED}
        assert ({task.id for task in shown}, total) == (listed, len(listed))


def _with_owner(
    actor: Actor, work: Callable[[], object], owner: str = "", trouble: Trouble | None = None
) -> Callable[[], object]:
    def owned() -> object:
        actor.owner, actor.trouble = owner, trouble
        return work()

    return owned


def run_histories(examples: int, steps: int, **more: Any) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            report_multiple_bugs=False,
            **more,
        ),
    )


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Drop the logs: of a thousand faults, there are many."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def create(machine: Machine, format_: str) -> None:
    order = Order("s3://source/key", 5, format_)
    work = partial(tasks.create, machine._table, machine._queue, order, None)
    machine._begin("create", work, 0.0, TO_THE_END)


def with_a_fault(format_: str, before: int, fault: Fault, at: int) -> bool:
    """Do a task; tell if the delivery after `before` others made the call that has the fault."""
    machine = Machine()
    try:
        create(machine, format_)
        for _ in range(before):
            machine._deliver(machine.w.messages[0], None, 0.0, TO_THE_END)
        return machine._deliver(machine.w.messages[0], None, 0.0, (at, fault, True)).hit
    finally:
        machine.teardown()


#: Deliveries that do all of a task, that cut one, that make a part, and that make the last part and join all.
DELIVERIES = {"whole": ("mp4", 0), "cut": ("m3u8", 0), "part": ("m3u8", 1), "last": ("m3u8", 4)}


def run_all_faults(delivery: str, *faults: Fault) -> None:
    """Have each fault at each call of a delivery."""
    for fault in faults:
        assert with_a_fault(*DELIVERIES[delivery], fault, 1)
        at = 2
        while with_a_fault(*DELIVERIES[delivery], fault, at):
            at += 1


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("fault", Fault)
def test_a_fault_at_any_call_of_a_worker_loses_nothing(fault: Fault) -> None:
    run_all_faults("whole", fault)


@pytest.mark.slow
@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("delivery", ["cut", "part", "last"])
def test_a_fault_at_any_call_of_a_worker_of_parts_loses_nothing(delivery: str, fault: Fault) -> None:
    run_all_faults(delivery, fault)


@pytest.mark.usefixtures("environment")
def test_the_third_try_of_a_part_of_text_alone_succeeds() -> None:
    machine = Machine()
    create(machine, "m3u8")
    machine._deliver(machine.w.messages[0], None, 0.0, TO_THE_END)
    for _ in range(2):
        machine._deliver(machine.w.messages[0], Trouble.BROKEN, 0.0, TO_THE_END)
    machine.teardown()
    assert {status for status, *_ in machine.w.seen.values()} == {Status.SUCCEEDED}


@pytest.mark.usefixtures("environment")
def test_histories() -> None:
    """`make states` has more of them."""
    run_histories(int(os.environ.get("STATES_EXAMPLES", "20")), 30, phases=[Phase.generate])


@dataclass(frozen=True)
class Defect:
    """A mistake that the service once had: what its code was, in a function of a module."""

    module: ModuleType
    function: str
    code: str
    mistake: str

    def put_back(self, patch: pytest.MonkeyPatch) -> None:
        *path, name = self.function.split(".")
        owner: Any = self.module
        for step in path:
            owner = getattr(owner, step)
        text = inspect.getsource(getattr(owner, name))
        assert text.count(self.code) == 1, "the code has changed: so must the mistake"
        made: dict[str, Any] = {}
        wrong = textwrap.dedent(text.replace(self.code, self.mistake))
        exec("from __future__ import annotations\n" + wrong, vars(self.module), made)
        patch.setattr(owner, name, made[name])


DEFECTS = {
    "a result is thrown away where what is beside it cannot be removed": Defect(
        jobs,
        "Job._attempt",
        "return self._transcoder.run(prepared, folder, report)",
        "return (self._transcoder.run(prepared, folder, report), "
        "self._outputs.remove_all_but(task.id, task.attempt))[0]",
    ),
    "the third try of a part of text alone fails": Defect(
        pipeline, "Transcoder._run_sound", "if not planned.has_sound_or_text:", "if False:"
    ),
    "a part is not sent again while any message waits": Defect(
        sweep,
        "Sweep._look_at_parts",
        "late = [part for part, due in waiting if due <= now]",
        "late = []",
    ),
    "a task is not sent again while any message waits": Defect(
        sweep, "Sweep._look_at", "self._queue.send(task.id)\n                since", "since"
    ),
    "a write does not know its own": Defect(
        table,
        "Table._change",
        "return found if found and found.last_write == mark else None",
        "return None",
    ),
    "a part is claimed before its task is read": Defect(
        jobs,
        "Job.run_part",
        "        task = self._cut(task_id, attempt)\n",
        "        class Named:\n"
        "            id = task_id\n"
        "        Named.attempt = attempt\n"
        "        self._parts.claim(Named, number, owner, self._lease)\n"
        "        task = self._cut(task_id, attempt)\n",
    ),
}


@pytest.mark.slow
@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("name", DEFECTS)
def test_what_once_was_wrong_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    DEFECTS[name].put_back(monkeypatch)
    with pytest.raises(AssertionError):
        run_all()


def run_all() -> None:
    test_the_third_try_of_a_part_of_text_alone_succeeds()
    for delivery in DELIVERIES:
        run_all_faults(delivery, Fault.REFUSED, Fault.REPEATED, Fault.CRASH_BEFORE)
    run_histories(200, 30, phases=[Phase.generate])
