"""Creates and deletes at once, where DynamoDB cancels one of two transactions on the same item."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from botocore.exceptions import ClientError

from benchmarks.contention import LOCK_SECONDS, Locks, Simulation, run
from tests.conftest import Clock
from transcoding.data import counts
from transcoding.data.task_table import TaskTable


def load(table: TaskTable, clock: Clock) -> tuple[dict[str, Any], set[str]]:
    """A moment of the load that the service must bear, with sweeps meanwhile."""
    return run(table, clock.now, creates=200, deletes=100, seconds=0.3, sweep=0.1)


def test_creates_and_deletes_that_overlap_all_succeed_and_count(
    table: TaskTable, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Also slices that are written to are folded, which makes more conflicts.
    monkeypatch.setattr(counts, "OVER_SECONDS", -60)
    seen, live = load(table, clock)
    assert seen["503"] == 0
    assert 0 < seen["cancelled"] < seen["transactions"] / 2
    assert seen["created"] - seen["deleted"] == len(live)
    tasks, count = table.page(1, 100)
    assert count == len(live)
    assert {task.id for task in tasks} == live
    clock.advance(3600)
    table.fold(lambda: 60.0)
    assert table.page(1, 100)[1] == len(live)


def test_with_one_pending_item_most_would_be_cancelled(
    table: TaskTable, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "SHARDS", 1)
    seen, live = load(table, clock)
    assert seen["cancelled"] > seen["transactions"] / 2
    assert table.page(1, 100)[1] == len(live)


def test_the_simulation_runs_one_call_at_a_time_in_the_order_of_time() -> None:
    threads = set(threading.enumerate())
    simulation, seen = Simulation(100.0), list[tuple[str, float]]()

    def call(name: str, seconds: float) -> None:
        seen.append((name, simulation.now))
        simulation.sleep(seconds)
        seen.append((name, simulation.now))

    simulation.at(101.0, lambda: call("a", 3.0))
    simulation.at(102.0, lambda: call("b", 1.0))
    simulation.run()
    assert seen == [("a", 101.0), ("b", 102.0), ("b", 103.0), ("a", 104.0)]
    assert set(threading.enumerate()) <= threads


def test_locks_refuse_what_overlaps_and_nothing_else() -> None:
    simulation, done, refused = Simulation(0.0), list[str](), list[str]()
    locks = Locks(simulation, lambda operation, arguments: done.append(operation))

    def write(operation: str, *ids: str) -> None:
        keys = [{"Key": {"id": {"S": id_}}} for id_ in ids]
        arguments = {"TransactItems": [{"Update": key} for key in keys]} if len(ids) > 1 else keys[0]
        try:
            locks(operation, arguments)
        except ClientError as error:
            refused.append(error.response["Error"]["Code"])

    transaction = "TransactWriteItems"
    simulation.at(0.0, lambda: write(transaction, "a", "b"))
    simulation.at(0.0, lambda: write(transaction, "b", "c"))
    simulation.at(0.0, lambda: write(transaction, "c", "d"))
    simulation.at(0.0, lambda: write("UpdateItem", "a"))
    simulation.at(0.0, lambda: write("UpdateItem", "e"))
    simulation.at(0.0, lambda: write("GetItem", "a"))
    simulation.at(2 * LOCK_SECONDS, lambda: write(transaction, "b", "c"))
    simulation.run()
    assert sorted(refused) == ["TransactionCanceledException", "TransactionConflictException"]
    assert sorted(done) == ["GetItem", *[transaction] * 3, "UpdateItem"]
