"""Creates and deletes under DynamoDB's rule that of two transactions on the same item one is cancelled.

No emulator has this rule, so `Locks` adds it: for 25 ms a transaction keeps a lock on each of its items, and
what else would write to these is refused meanwhile. The time is simulated: each call of the service runs in a
thread of its own, one thread at a time, and where a call would wait, the clock goes on to what comes next.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from unittest import mock

from botocore.exceptions import ClientError

from transcoding.data import table as table_module
from transcoding.data.task_table import TaskTable
from transcoding.errors import UnavailableError
from transcoding.model import Order

#: How long a transaction keeps its items, and how long an answer to any other request takes, in seconds.
LOCK_SECONDS, ANSWER_SECONDS = 0.025, 0.005
CREATES, DELETES, SECONDS = 200, 100, 60
_SWEEP_SECONDS = 60
_RETENTION = timedelta(days=30)


class Simulation:
    """A clock, and calls that share it: one runs at a time, until it sleeps or ends."""

    def __init__(self, now: float) -> None:
        self.now = now
        self._order = itertools.count()
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._idle = threading.Semaphore(0)
        self._failures: list[BaseException] = []

    def clock(self) -> float:
        """Return the time."""
        return self.now

    def at(self, time: float, call: Callable[[], object]) -> None:
        """Make a call at a time."""

        def run() -> None:
            try:
                call()
            except BaseException as error:
                self._failures.append(error)
            finally:
                self._idle.release()

        self._push(time, threading.Thread(target=run, daemon=True).start)

    def sleep(self, seconds: float) -> None:
        """Let others go on, in the thread of a call."""
        goes_on = threading.Event()
        self._push(self.now + seconds, goes_on.set)
        self._idle.release()
        goes_on.wait()

    def run(self) -> None:
        """Make all calls. Raises what a call has raised."""
        while self._agenda:
            self.now, _, go_on = heapq.heappop(self._agenda)
            go_on()
            self._idle.acquire()
            if self._failures:
                raise self._failures[0]

    def _push(self, time: float, go_on: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (time, next(self._order), go_on))


class Locks:
    """The locks of transactions, in front of a botocore client."""

    def __init__(self, simulation: Simulation, call: Callable[[str, Mapping[str, Any]], Any]) -> None:
        self._simulation = simulation
        self._call = call
        self._locked: set[str] = set()
        self.counts: Counter[str] = Counter()

    def __call__(self, operation: str, arguments: Mapping[str, Any]) -> Any:
        """Make a request of the client, or refuse it."""
        self.counts[operation] += 1
        if operation == "TransactWriteItems":
            return self._transact(operation, arguments)
        self._simulation.sleep(ANSWER_SECONDS)
        if operation in {"UpdateItem", "PutItem", "DeleteItem"} and _id(arguments) in self._locked:
            self.counts["refused"] += 1
            raise _error("TransactionConflictException", operation)
        return self._call(operation, arguments)

    def _transact(self, operation: str, arguments: Mapping[str, Any]) -> Any:
        items = [_id(write) for item in arguments["TransactItems"] for write in item.values()]
        taken = [item in self._locked for item in items]
        if any(taken):
            self._simulation.sleep(ANSWER_SECONDS)
            self.counts["cancelled"] += 1
            reasons = [{"Code": "TransactionConflict" if was else "None"} for was in taken]
            raise _error("TransactionCanceledException", operation, CancellationReasons=reasons)
        self._locked |= set(items)
        try:
            self._simulation.sleep(LOCK_SECONDS)
            return self._call(operation, arguments)
        finally:
            self._locked -= set(items)


def _id(write: Mapping[str, Any]) -> str:
    key: str = (write.get("Key") or write["Item"])["id"]["S"]
    return key


def _error(code: str, operation: str, **more: Any) -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": ""}, **more}
    return ClientError(response, operation)


@contextmanager
def contended(table: TaskTable, simulation: Simulation) -> Iterator[Locks]:
    """Have a table run on a simulation's clock, with its locks."""
    client: Any = table._connection.client
    locks = Locks(simulation, client._make_api_call)
    with (
        mock.patch.object(client, "_make_api_call", locks),
        mock.patch.object(table_module, "time", SimpleNamespace(sleep=simulation.sleep)),
        mock.patch.object(table, "_clock", simulation.clock),
    ):
        yield locks


def run(
    table: TaskTable, start: float, *, creates: int, deletes: int, seconds: float, sweep: float
) -> tuple[dict[str, Any], set[str]]:
    """Create and delete so many tasks a second, and sweep. Return what was seen, and the live tasks' ids."""
    simulation, random_ = Simulation(start), random.Random(3)
    live: list[str] = []
    tally: Counter[str] = Counter()
    latencies: list[float] = []

    def timed(call: Callable[[], None]) -> None:
        began = simulation.now
        try:
            call()
        except UnavailableError:
            tally["503"] += 1
        latencies.append(simulation.now - began)

    def create() -> None:
        live.append(table.create(Order("s3://bucket/key", 5, "m3u8"), None, lambda task_id: True)[0].id)
        tally["created"] += 1

    def delete() -> None:
        if live:
            task_id = live.pop(random_.randrange(len(live)))
            try:
                table.delete(task_id, _RETENTION)
            except UnavailableError:
                live.append(task_id)
                raise
            tally["deleted"] += 1

    for call, rate in ((create, creates), (delete, deletes)):
        for _ in range(int(rate * seconds)):
            simulation.at(start + random_.uniform(0, seconds), lambda call=call: timed(call))  # type: ignore[misc]
    for number in range(1, int(seconds // sweep) + 1):
        simulation.at(start + number * sweep, lambda: table.fold(lambda: 60.0))
    with contended(table, simulation) as locks:
        simulation.run()
    latencies.sort()
    return {
        **tally,
        "503": tally["503"],
        "transactions": locks.counts["TransactWriteItems"],
        "cancelled": locks.counts["cancelled"],
        "median": latencies[len(latencies) // 2],
        "p99": latencies[len(latencies) * 99 // 100],
        "longest": latencies[-1],
    }, set(live)


def measure(table: TaskTable) -> dict[str, Any]:
    """Run at full load on an empty table, and check the count and the list before and after all is folded."""
    start = table._clock()
    seen, live = run(
        table, start, creates=CREATES, deletes=DELETES, seconds=SECONDS, sweep=_SWEEP_SECONDS / 2
    )
    for _ in range(2):
        assert table.page(1, 1)[1] == len(live)
        table._counts.fold(start + 3600, lambda: 600.0)
    listed = [task.id for page in range(1, len(live) // 100 + 2) for task in table.page(page, 100)[0]]
    assert len(listed) == len(live)
    assert set(listed) == live
    print(f"  {seen}", flush=True)
    return seen
