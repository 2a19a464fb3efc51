"""The table of parts: who may do what, and that many workers at a time bring a task to one end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import OUTPUT, Aws, Clock, unsent
from transcoding.data.part_table import PartTable
from transcoding.data.task_table import TaskTable
from transcoding.errors import Failure, LeaseLostError, TaskFailedError, UnavailableError
from transcoding.model import Order, Part, Status, Task

LEASE = timedelta(seconds=60)
RETENTION = timedelta(days=30)

pytestmark = pytest.mark.usefixtures("serialised")


def plan(task: Task, pictures: int = 3) -> list[Part]:
    """Cut a task into its sound and so many pieces of 100 ticks, the last one open."""
    ends = [*range(100, 100 * pictures, 100), None]
    return [
        Part(task.id, task.attempt, 0, "sound", 0, None),
        *(Part(task.id, task.attempt, n + 1, "picture", 100 * n, end) for n, end in enumerate(ends)),
    ]


def fan_out(table: TaskTable, parts: PartTable, pictures: int = 3, queued: int = 0) -> Task:
    task_id = table.create(Order("s3://bucket/key", 5, "m3u8"), None, unsent)[0].id
    task = table.claim(task_id, "planner", LEASE)
    assert task is not None
    parts.fan_out(task, plan(task, pictures), queued)
    return read(table, task)


def read(table: TaskTable, task: Task) -> Task:
    found = table.get(task.id)
    assert found is not None
    return found


def take(parts: PartTable, task: Task, number: int, owner: str = "worker") -> Part:
    part = parts.claim(task, number, f"{owner} {number}", LEASE)
    assert part is not None
    return part


def complete_all(parts: PartTable, task: Task) -> None:
    for number in range(task.parts):
        parts.complete(take(parts, task, number))


# Cutting and queueing


def test_a_task_that_is_cut_is_left_to_the_workers_of_its_parts(
    table: TaskTable, parts: PartTable, aws: Aws, clock: Clock
) -> None:
    task = fan_out(table, parts)
    assert (task.status, task.attempt, task.lease_owner) == (Status.RUNNING, 1, "")
    assert (task.parts, task.parts_left, task.parts_queued) == (4, 4, 0)
    assert float(aws.item(task.id)["attention_at"]["N"]) == clock.now + 60
    assert parts.all(task) == sorted(plan(task), key=lambda part: (part.kind, part.start))
    assert aws.item(f"part#{task.id}#1#0")["expires_at"] == {"N": str(int(clock.now) + 3 * 86400)}


def test_a_task_may_have_more_parts_than_a_batch(table: TaskTable, parts: PartTable, aws: Aws) -> None:
    task = fan_out(table, parts, pictures=120)
    assert [part.start for part in parts.all(task)] == [*range(0, 12000, 100), 0]
    parts.remove(task)
    assert parts.all(task) == []
    assert not [item for item in aws.items() if item["id"]["S"].startswith("part#")]


@pytest.mark.parametrize("event", ["taken over", "deleted", "failed"])
def test_a_worker_that_lost_its_task_does_not_cut_it(
    table: TaskTable, parts: PartTable, aws: Aws, clock: Clock, event: str
) -> None:
    task_id = table.create(Order("s3://bucket/key", 5, "m3u8"), None, unsent)[0].id
    task = table.claim(task_id, "planner", LEASE)
    assert task is not None
    if event == "taken over":
        clock.advance(61)
        table.claim(task_id, "another", LEASE)
    elif event == "deleted":
        table.delete(task_id, RETENTION)
    else:
        table.fail(task_id, "planner", Failure.DAMAGED, "It is damaged.")
    before = read(table, task)
    with pytest.raises(LeaseLostError):
        parts.fan_out(task, plan(task), 2)
    assert read(table, task) == before
    assert not [item for item in aws.items() if item["id"]["S"].startswith("part#")]


def test_each_number_is_queued_once(table: TaskTable, parts: PartTable) -> None:
    task = fan_out(table, parts, pictures=11)
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda _: parts.next_part(task.id, 1), range(16)))
    assert sorted(number for number in numbers if number is not None) == list(range(12))
    assert parts.next_part(task.id, 1) is None


def test_the_first_parts_are_counted_as_queued_when_the_task_is_cut(
    table: TaskTable, parts: PartTable, clock: Clock
) -> None:
    task = fan_out(table, parts, queued=3)
    assert task.parts_queued == 3
    by_number = sorted(parts.all(task), key=lambda part: part.number)
    assert [(part.sends, part.sent_at) for part in by_number] == [(1, clock.now)] * 3 + [(0, 0.0)]
    assert parts.next_part(task.id, 1) == 3


def test_several_numbers_are_taken_at_once_while_nobody_else_takes_any(
    table: TaskTable, parts: PartTable
) -> None:
    task = fan_out(table, parts, pictures=11, queued=2)
    assert parts.next_parts(task, -1) == range(0)
    assert parts.next_parts(task, 3) == range(2, 5)
    assert parts.next_parts(task, 3) == range(0)
    task = read(table, task)
    assert parts.next_part(task.id, 1) == 5
    assert parts.next_parts(task, 3) == range(0)
    assert parts.next_parts(read(table, task), 100) == range(6, 12)
    assert parts.next_parts(read(table, task), 100) == range(0)
    table.delete(task.id, RETENTION)
    assert read(table, task).parts_queued == 12


def test_what_was_sent_is_noted_of_parts_that_are_not_done(
    table: TaskTable, parts: PartTable, aws: Aws, clock: Clock
) -> None:
    task = fan_out(table, parts)
    parts.complete(take(parts, task, 0))
    items = len(aws.items())
    parts.note_sent(task, [0, 1, 2, 9])
    clock.advance(30)
    parts.note_sent(task, [2])
    noted = {part.number: (part.sends, part.sent_at) for part in parts.all(task)}
    assert noted == {0: (0, 0.0), 1: (1, clock.now - 30), 2: (2, clock.now), 3: (0, 0.0)}
    assert len(aws.items()) == items


def test_a_part_that_waits_again_has_the_message_that_comes_back_or_none(
    table: TaskTable, parts: PartTable, clock: Clock
) -> None:
    task = fan_out(table, parts, queued=4)
    parts.note_sent(task, [1, 2])
    given_back, lost = take(parts, task, 1), take(parts, task, 2)
    clock.advance(61)
    parts.release(given_back, Failure.INTERNAL, "It broke.")
    assert parts.take_back(lost) is True
    assert parts.take_back(lost) is False
    waiting = {part.number: (part.sends, part.sent_at) for part in parts.all(task)}
    assert (waiting[1], waiting[2]) == ((1, clock.now), (0, 0.0))


def test_nothing_is_queued_of_what_does_not_run(table: TaskTable, parts: PartTable) -> None:
    task = fan_out(table, parts)
    assert parts.next_part(task.id, 2) is None
    assert parts.next_part("neverwas", 1) is None
    table.delete(task.id, RETENTION)
    assert parts.next_part(task.id, 1) is None


# The life of a part


def test_a_part_goes_from_its_claim_to_its_end(table: TaskTable, parts: PartTable, clock: Clock) -> None:
    task = fan_out(table, parts)
    part = take(parts, task, 1)
    assert (part.kind, part.start, part.end, part.tries) == ("picture", 0, 100, 1)
    assert (part.lease_owner, part.lease_expires_at) == ("worker 1", clock.now + 60)
    clock.advance(30)
    parts.heartbeat(part, 0.5, LEASE)
    beating = parts.all(task)[0]
    assert (beating.progress, beating.lease_expires_at, beating.done) == (0.5, clock.now + 60, False)
    assert parts.complete(part) is False
    done = parts.all(task)[0]
    assert (done.progress, done.lease_expires_at, done.done) == (1.0, 0.0, True)
    assert read(table, task).parts_left == 3
    assert parts.claim(task, 1, "other", LEASE) is None


@pytest.mark.parametrize(
    ("reported", "noted"), [(0.4, 0.5), (0.7, 0.7), (7.0, 1.0), (-1.0, 0.5), (float("nan"), 0.5)]
)
def test_a_parts_progress_never_falls_also_over_tries(
    table: TaskTable, parts: PartTable, clock: Clock, reported: float, noted: float
) -> None:
    task = fan_out(table, parts)
    parts.heartbeat(take(parts, task, 1), 0.5, LEASE)
    clock.advance(61)
    second = take(parts, task, 1, "second")
    assert (second.tries, second.progress) == (2, 0.5)
    parts.heartbeat(second, reported, LEASE)
    part = parts.all(task)[0]
    assert (part.progress, part.lease_expires_at) == (noted, clock.now + 60)


def test_one_of_many_claims_of_a_part_wins(table: TaskTable, parts: PartTable) -> None:
    task = fan_out(table, parts)
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda n: parts.claim(task, 2, f"worker {n}", LEASE), range(16)))
    (winner,) = [claim for claim in claims if claim]
    assert winner.tries == 1
    assert winner in parts.all(task)


def test_what_there_is_not_cannot_be_claimed(table: TaskTable, parts: PartTable, aws: Aws) -> None:
    task = fan_out(table, parts)
    items = len(aws.items())
    assert parts.claim(task, 4, "worker", LEASE) is None
    assert parts.fail_unowned(task.id, 1, 4, Failure.WORKER_LOST, "Lost.") is False
    assert len(aws.items()) == items


def test_the_lease_of_a_part_can_be_taken_when_it_is_over(
    table: TaskTable, parts: PartTable, clock: Clock
) -> None:
    task = fan_out(table, parts)
    take(parts, task, 1)
    clock.advance(60)
    assert parts.claim(task, 1, "second", LEASE) is None
    clock.advance(0.001)
    second = take(parts, task, 1, "second")
    # Nothing is to be left out for that: nobody knows why the first was lost.
    assert (second.tries, second.faults) == (2, 0)


def test_after_six_lost_workers_of_a_part_the_task_fails(
    table: TaskTable, parts: PartTable, clock: Clock
) -> None:
    task = fan_out(table, parts)
    for _ in range(6):
        take(parts, task, 1)
        assert parts.claim(task, 1, "other", LEASE) is None
        assert read(table, task).status is Status.RUNNING
        clock.advance(61)
    with pytest.raises(TaskFailedError):
        parts.claim(task, 1, "other", LEASE)
    assert parts.claim(task, 1, "other", LEASE) is None
    failed = read(table, task)
    assert (failed.status, failed.error_code) == (Status.FAILED, Failure.WORKER_LOST)
    assert failed.error_info


def test_a_part_that_is_given_back_is_tried_three_times_and_then_fails_the_task(
    table: TaskTable, parts: PartTable
) -> None:
    task = fan_out(table, parts)
    for attempt in (1, 2, 3):
        part = take(parts, task, 1)
        assert (part.tries, part.faults) == (attempt, attempt - 1)
        assert parts.release(part, Failure.INTERNAL, "It broke.") is (attempt < 3)
    failed = read(table, task)
    assert (failed.status, failed.error_code, failed.error_info) == (3, Failure.INTERNAL, "It broke.")


def test_a_part_whose_encoder_is_killed_is_tried_six_times(table: TaskTable, parts: PartTable) -> None:
    task = fan_out(table, parts)
    for attempt in range(1, 7):
        part = take(parts, task, 1)
        again = parts.release(part, Failure.INTERNAL, "It was killed.", is_fault=False)
        assert again is (attempt < 6)
    assert read(table, task).error_info == "It was killed."


def test_a_third_error_of_a_part_is_its_last_whatever_was_lost_before(
    table: TaskTable, parts: PartTable
) -> None:
    task = fan_out(table, parts)
    for _ in range(2):
        assert parts.release(take(parts, task, 1), Failure.INTERNAL, "It was killed.", is_fault=False)
    for faults in (1, 2, 3):
        assert parts.release(take(parts, task, 1), Failure.INTERNAL, "It broke.") is (faults < 3)
    assert read(table, task).error_info == "It broke."


def test_a_part_that_cannot_be_encoded_fails_the_task_once_and_stops_the_others(
    table: TaskTable, parts: PartTable, aws: Aws, clock: Clock
) -> None:
    task = fan_out(table, parts)
    first, second = take(parts, task, 1), take(parts, task, 2)
    parts.fail(first, Failure.DAMAGED, "It is damaged.")
    failed = read(table, task)
    assert (failed.status, failed.error_code, failed.error_info) == (3, 2005, "It is damaged.")
    assert float(aws.item(task.id)["attention_at"]["N"]) == clock.now + 60
    for act in ACTS.values():
        with pytest.raises(LeaseLostError):
            act(parts, second)
    assert read(table, task) == failed


ACTS: dict[str, Callable[[PartTable, Part], object]] = {
    "heartbeat": lambda parts, part: parts.heartbeat(part, 0.5, LEASE),
    "complete": lambda parts, part: parts.complete(part),
    "split": lambda parts, part: parts.split(part, part.start + 50),
    "fail": lambda parts, part: parts.fail(part, Failure.DAMAGED, "It is damaged."),
}


@pytest.mark.parametrize(
    "act",
    [*ACTS.values(), lambda parts, part: parts.release(part, Failure.INTERNAL, "It broke.")],
    ids=[*ACTS, "release"],
)
@pytest.mark.parametrize("event", ["taken over", "done by another", "split by another", "released"])
def test_a_worker_that_lost_its_part_can_do_nothing(
    table: TaskTable,
    parts: PartTable,
    clock: Clock,
    act: Callable[[PartTable, Part], object],
    event: str,
) -> None:
    task = fan_out(table, parts)
    part = take(parts, task, 1, "first")
    if event == "released":
        parts.release(part, Failure.INTERNAL, "It broke.")
    else:
        clock.advance(61)
        second = take(parts, task, 1, "second")
        if event == "done by another":
            parts.complete(second)
        elif event == "split by another":
            parts.split(second, 30)
    before = (read(table, task), parts.all(read(table, task)))
    with pytest.raises(LeaseLostError):
        act(parts, part)
    assert (read(table, task), parts.all(read(table, task))) == before


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_the_workers_of_a_deleted_task_can_do_nothing(
    table: TaskTable, parts: PartTable, act: Callable[[PartTable, Part], object]
) -> None:
    task = fan_out(table, parts)
    part = take(parts, task, 1)
    table.delete(task.id, RETENTION)
    before = (read(table, task), parts.all(task))
    with pytest.raises(LeaseLostError):
        act(parts, part)
    assert (read(table, task), parts.all(task)) == before


def test_a_dead_letter_ends_only_what_no_live_worker_has(
    table: TaskTable, parts: PartTable, clock: Clock
) -> None:
    task = fan_out(table, parts)
    take(parts, task, 1)
    parts.complete(take(parts, task, 2))
    for attempt, number in ((1, 1), (1, 2), (2, 3)):
        assert parts.fail_unowned(task.id, attempt, number, Failure.WORKER_LOST, "Lost.") is False
    clock.advance(61)
    assert parts.fail_unowned(task.id, 1, 1, Failure.WORKER_LOST, "Lost.") is True
    assert read(table, task).error_code == Failure.WORKER_LOST
    assert parts.fail_unowned(task.id, 1, 3, Failure.WORKER_LOST, "Lost.") is False


# Progress of the whole


def test_the_progress_of_parts_adds_up_and_never_reaches_1(table: TaskTable, parts: PartTable) -> None:
    task = fan_out(table, parts)
    seen = [0.0]
    for delta in (0.25, 0.25, 0.0, -0.5, float("nan"), 0.4, 0.3, 0.1, 5.0):
        parts.add_progress(task.id, 1, delta)
        seen.append(read(table, task).progress)
    assert seen == [0.0, 0.25, 0.5, 0.5, 0.5, 0.5, 0.9, 0.999, 0.999, 0.999]


def test_progress_is_added_only_to_a_running_attempt(table: TaskTable, parts: PartTable) -> None:
    task = fan_out(table, parts)
    parts.add_progress(task.id, 1, 0.25)
    parts.add_progress(task.id, 2, 0.25)
    parts.add_progress("neverwas", 1, 0.25)
    assert read(table, task).progress == 0.25
    assert table.get("neverwas") is None
    table.delete(task.id, RETENTION)
    parts.add_progress(task.id, 1, 0.25)
    assert read(table, task).progress == 0.25


# Completing and finishing


def test_only_the_last_part_leaves_none(table: TaskTable, parts: PartTable) -> None:
    task = fan_out(table, parts)
    told = [parts.complete(take(parts, task, number)) for number in (3, 0, 2, 1)]
    assert told == [False, False, False, True]


def test_thirty_parts_that_are_done_at_once_are_all_counted(
    table: TaskTable, parts: PartTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in DynamoDB, a transaction is refused while another one writes to the same item."""
    task = fan_out(table, parts, pictures=29)
    taken = [take(parts, task, number) for number in range(30)]
    client, writing, conflicts = table._connection.client, threading.Lock(), []
    call = client._make_api_call

    def contend(operation: str, arguments: Any) -> Any:
        if operation != "TransactWriteItems":
            return call(operation, arguments)
        if not writing.acquire(blocking=False):
            conflicts.append(operation)
            raise refuse("TransactionConflict")
        try:
            time.sleep(0.005)
            return call(operation, arguments)
        finally:
            writing.release()

    monkeypatch.setattr(client, "_make_api_call", contend)
    with ThreadPoolExecutor(30) as pool:
        told = list(pool.map(parts.complete, taken))
    assert conflicts
    assert told.count(True) >= 1
    assert read(table, task).parts_left == 0
    assert all(part.done for part in parts.all(task))


def test_a_worker_that_is_done_is_patient(
    table: TaskTable, parts: PartTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = fan_out(table, parts)
    part = take(parts, task, 0)
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    client, refusals = table._connection.client, [refuse("None", "TransactionConflict")] * 20
    call = client._make_api_call

    def contend(operation: str, arguments: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return call(operation, arguments)

    monkeypatch.setattr(client, "_make_api_call", contend)
    parts.complete(part)
    assert read(table, task).parts_left == 3
    assert len(waits) == 20
    assert max(waits) <= 3.2


def test_a_task_is_taken_up_again_only_when_all_parts_are_done(
    table: TaskTable, parts: PartTable, clock: Clock
) -> None:
    task = fan_out(table, parts)
    clock.advance(3600)
    assert table.claim(task.id, "finisher", LEASE) is None
    assert read(table, task) == task
    parts.add_progress(task.id, 1, 0.9)
    complete_all(parts, task)
    finishing = table.claim(task.id, "finisher", LEASE)
    assert finishing is not None
    assert (finishing.status, finishing.attempt, finishing.progress) == (Status.RUNNING, 1, 0.9)
    assert (finishing.finishes, finishing.lease_owner) == (1, "finisher")
    assert finishing.lease_expires_at == clock.now + 60
    table.heartbeat(task.id, "finisher", 0.5, LEASE)
    assert read(table, task).progress == 0.9
    table.succeed(task.id, "finisher", "https://media.example.com/1", OUTPUT)
    assert read(table, task).status is Status.SUCCEEDED
    assert table.claim(task.id, "another", LEASE) is None


def test_one_of_many_finishes(table: TaskTable, parts: PartTable) -> None:
    task = fan_out(table, parts)
    complete_all(parts, task)
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda n: table.claim(task.id, f"worker {n}", LEASE), range(16)))
    (winner,) = [claim for claim in claims if claim]
    assert read(table, task) == winner


def test_finishing_is_tried_three_times_and_progress_stays(table: TaskTable, parts: PartTable) -> None:
    task = fan_out(table, parts)
    parts.add_progress(task.id, 1, 0.9)
    complete_all(parts, task)
    for finish in (1, 2, 3):
        claimed = table.claim(task.id, "finisher", LEASE)
        assert claimed is not None
        assert (claimed.finishes, claimed.attempt, claimed.progress) == (finish, 1, 0.9)
        again = table.release(task.id, "finisher", Failure.INTERNAL, "It broke.")
        assert again is (finish < 3)
        if again:
            given_back = read(table, task)
            assert (given_back.status, given_back.lease_owner) == (Status.RUNNING, "")
            assert (given_back.progress, given_back.parts) == (0.9, 4)
    assert (read(table, task).status, read(table, task).error_code) == (3, Failure.INTERNAL)


def test_after_three_lost_finishers_a_task_fails(table: TaskTable, parts: PartTable, clock: Clock) -> None:
    task = fan_out(table, parts)
    complete_all(parts, task)
    for _ in range(3):
        assert table.claim(task.id, "finisher", LEASE)
        assert table.claim(task.id, "other", LEASE) is None
        clock.advance(61)
    with pytest.raises(TaskFailedError):
        table.claim(task.id, "finisher", LEASE)
    assert (read(table, task).status, read(table, task).error_code) == (3, Failure.WORKER_LOST)


def test_a_stale_message_of_the_whole_does_not_end_what_is_worked_on(
    table: TaskTable, parts: PartTable, clock: Clock
) -> None:
    task = fan_out(table, parts)
    clock.advance(3600)
    assert table.fail_unowned(task.id, Failure.WORKER_LOST, "Lost.") is False
    complete_all(parts, task)
    table.claim(task.id, "finisher", LEASE)
    assert table.fail_unowned(task.id, Failure.WORKER_LOST, "Lost.") is False
    clock.advance(61)
    assert table.fail_unowned(task.id, Failure.WORKER_LOST, "Lost.") is True


# Splitting


def test_a_part_is_split_where_its_worker_has_come(table: TaskTable, parts: PartTable) -> None:
    task = fan_out(table, parts)
    parts.split(take(parts, task, 1), 40)
    task = read(table, task)
    assert (task.parts, task.parts_left) == (5, 4)
    first, rest = parts.all(task)[:2]
    assert (first.number, first.start, first.end, first.done) == (1, 0, 40, True)
    assert (rest.number, rest.start, rest.end, rest.done, rest.tries) == (4, 40, 100, False, 0)
    assert [parts.next_part(task.id, 1) for _ in range(6)] == [0, 1, 2, 3, 4, None]
    parts.complete(take(parts, task, 4))
    assert read(table, task).parts_left == 3


@pytest.mark.parametrize("at", [-1, 0, 100, 101])
def test_a_split_leaves_no_part_empty(table: TaskTable, parts: PartTable, at: int) -> None:
    task = fan_out(table, parts)
    with pytest.raises(ValueError):
        parts.split(take(parts, task, 1), at)
    assert read(table, task).parts == 4


def test_parts_that_are_split_at_the_same_time_get_numbers_of_their_own(
    table: TaskTable, parts: PartTable
) -> None:
    task = fan_out(table, parts, pictures=8)
    taken = [take(parts, task, number) for number in range(1, 9)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda part: parts.split(part, part.start + 50), taken))
    task = read(table, task)
    assert (task.parts, task.parts_left) == (17, 9)
    assert sorted(part.number for part in parts.all(task)) == list(range(17))
    assert_tiled(parts.all(task))


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_is_split_the_parts_tile_the_source(
    table: TaskTable, parts: PartTable, data: st.DataObject
) -> None:
    task = fan_out(table, parts, pictures=data.draw(st.integers(1, 4)))
    for _ in range(data.draw(st.integers(0, 6))):
        open_ = [part for part in parts.all(read(table, task)) if not part.done]
        part = take(parts, task, data.draw(st.sampled_from(open_)).number)
        last = part.start + 1000 if part.end is None else part.end - 1
        if part.start + 1 <= last and data.draw(st.booleans()):
            parts.split(part, data.draw(st.integers(part.start + 1, last)))
        else:
            parts.release(part, Failure.INTERNAL, "It broke.")
        if read(table, task).status is Status.FAILED:
            return
        assert_tiled(parts.all(read(table, task)))
    open_ = [part for part in parts.all(read(table, task)) if not part.done]
    told = [parts.complete(take(parts, task, part.number)) for part in open_]
    assert told == [False] * (len(open_) - 1) + [True]


def assert_tiled(parts: list[Part]) -> None:
    for kind in ("picture", "sound"):
        of_kind = [part for part in parts if part.kind == kind]
        assert of_kind[0].start == 0
        assert all(part.end == following.start for part, following in pairwise(of_kind))
        assert of_kind[-1].end is None


# Answers that are lost, and other failures


def refuse(*reasons: str) -> ClientError:
    response: Any = {
        "Error": {"Code": "TransactionCanceledException", "Message": "no"},
        "CancellationReasons": [{"Code": reason} for reason in reasons],
    }
    return ClientError(response, "TransactWriteItems")


def test_writes_whose_answers_are_lost_do_what_they_should(
    table: TaskTable, parts: PartTable, request: pytest.FixtureRequest
) -> None:
    task_id = table.create(Order("s3://bucket/key", 5, "m3u8"), None, unsent)[0].id
    task = table.claim(task_id, "planner", LEASE)
    assert task is not None
    request.getfixturevalue("repeated")
    parts.fan_out(task, plan(task, pictures=1), 0)
    assert [parts.next_part(task.id, 1) for _ in range(3)] == [0, 1, None]
    sound, picture = take(parts, task, 0), take(parts, task, 1)
    assert (sound.tries, sound.lease_owner) == (1, "worker 0")
    assert parts.release(sound, Failure.INTERNAL, "It broke.") is True
    sound = take(parts, task, 0)
    assert sound.tries == 2
    parts.add_progress(task.id, 1, 0.25)
    assert read(table, task).progress == 0.25
    parts.heartbeat(sound, 0.5, LEASE)
    assert parts.complete(sound) is False
    parts.split(picture, 40)
    cut = read(table, task)
    assert (cut.parts, cut.parts_left) == (3, 1)
    assert_tiled(parts.all(cut))
    assert parts.complete(take(parts, task, 2)) is True
    parts.remove(cut)
    assert parts.all(cut) == []


@pytest.mark.parametrize("end", ["fail", "release", "claim", "fail_unowned", "fail_incomplete"])
def test_an_end_whose_answer_is_lost_is_known_to_who_has_written_it(
    table: TaskTable, parts: PartTable, clock: Clock, request: pytest.FixtureRequest, end: str
) -> None:
    task = fan_out(table, parts)
    for number in (1, 2, 3):
        part = take(parts, task, 1)
        if number < 3:
            parts.release(part, Failure.INTERNAL, "It broke.")
    for _ in range(3 if end == "claim" else 0):
        clock.advance(61)
        take(parts, task, 1)
    request.getfixturevalue("repeated")
    if end == "fail":
        parts.fail(part, Failure.INTERNAL, "It broke.")
    elif end == "release":
        assert parts.release(part, Failure.INTERNAL, "It broke.") is False
    elif end == "claim":
        clock.advance(61)
        with pytest.raises(TaskFailedError):
            parts.claim(task, 1, "another", LEASE)
    elif end == "fail_unowned":
        assert parts.fail_unowned(task.id, 1, 2, Failure.INTERNAL, "It broke.") is True
        assert parts.fail_unowned(task.id, 1, 2, Failure.INTERNAL, "It broke.") is False
    else:
        assert parts.fail_incomplete(task, Failure.INTERNAL, "It broke.") is True
        assert parts.fail_incomplete(task, Failure.INTERNAL, "It broke.") is False
    assert read(table, task).status is Status.FAILED


def test_completing_again_after_unavailability_gives_the_same(table: TaskTable, parts: PartTable) -> None:
    task = fan_out(table, parts, pictures=1)
    sound, picture = take(parts, task, 0), take(parts, task, 1)
    assert [parts.complete(part) for part in (sound, sound, picture, picture)] == [False, False, True, True]
    assert read(table, task).parts_left == 0


def test_unavailability_is_told(table: TaskTable, parts: PartTable, monkeypatch: pytest.MonkeyPatch) -> None:
    task = fan_out(table, parts)
    part = take(parts, task, 1)

    def fail(*_: object) -> None:
        raise EndpointConnectionError(endpoint_url="http://dynamodb")

    monkeypatch.setattr(table._connection.client, "_make_api_call", fail)
    for call in (
        *(lambda act=act: act(parts, part) for act in ACTS.values()),
        lambda: parts.claim(task, 2, "worker", LEASE),
        lambda: parts.all(task),
        lambda: parts.remove(task),
    ):
        with pytest.raises(UnavailableError):
            call()


def test_items_that_dynamodb_leaves_out_of_a_batch_are_unavailability(
    table: TaskTable, parts: PartTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = table.create(Order("s3://bucket/key", 5, "m3u8"), None, unsent)[0].id
    task = table.claim(task_id, "planner", LEASE)
    assert task is not None
    client = table._connection.client
    call = client._make_api_call

    def leave_out(operation: str, arguments: Any) -> Any:
        if operation == "BatchWriteItem":
            return {"UnprocessedItems": arguments["RequestItems"]}
        return call(operation, arguments)

    monkeypatch.setattr(client, "_make_api_call", leave_out)
    with pytest.raises(UnavailableError):
        parts.fan_out(task, plan(task), 2)
    assert read(table, task) == task
