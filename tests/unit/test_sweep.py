"""The sweep and the consumer of dead letters, through their handlers."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from tests.conftest import OUTPUT, QUEUE_URL, Aws, Clock, lambda_context, unsent
from transcoding.data.part_table import PartTable
from transcoding.data.queue import JobQueue
from transcoding.data.task_table import TaskTable
from transcoding.errors import Failure, TaskFailedError
from transcoding.model import Order, Part, Status, Task

LEASE = timedelta(seconds=60)


class Keepers:
    """The two handlers."""

    def __init__(self) -> None:
        self.sweeper = importlib.import_module("sweep")
        self.dead_letters = importlib.import_module("dead_letter")

    def sweep(self, seconds_left: float = 60) -> None:
        self.sweeper.handler({"source": "aws.events"}, lambda_context(seconds_left))

    def bury(self, *bodies: str) -> list[str]:
        """Hand dead letters over; give those that come back."""
        records = [{"messageId": str(n), "eventSource": "aws:sqs", "body": b} for n, b in enumerate(bodies)]
        answer = self.dead_letters.handler({"Records": records}, lambda_context())
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]


@pytest.fixture
def keepers(aws: Aws, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Keepers:
    keepers = Keepers()
    monkeypatch.setattr(keepers.sweeper.sweep, "_clock", clock)
    monkeypatch.setattr(keepers.sweeper.sweep._table, "_clock", clock)
    monkeypatch.setattr(keepers.sweeper.sweep._parts, "_clock", clock)
    monkeypatch.setattr(keepers.sweeper.sweep, "_window", 3)
    monkeypatch.setattr(keepers.dead_letters.table, "_clock", clock)
    monkeypatch.setattr(keepers.dead_letters.parts, "_clock", clock)
    return keepers


def create(table: TaskTable) -> str:
    return table.create(Order("s3://bucket/key", 5, "m3u8"), None, unsent)[0].id


def status(table: TaskTable, task_id: str) -> Status:
    task = table.get(task_id)
    assert task is not None
    return task.status


def queued(aws: Aws) -> list[str]:
    return [message["task_id"] for message in aws.take_messages()]


def message(task_id: str) -> str:
    return json.dumps({"task_id": task_id, "step": "transcode"})


def part_message(task_id: str, attempt: int, number: int) -> str:
    return json.dumps({"task_id": task_id, "step": "part", "attempt": attempt, "part": number})


def fan_out(table: TaskTable, parts: PartTable, count: int = 5, queued: int = 0) -> Task:
    """Cut a task into parts of which some are queued."""
    task = table.claim(create(table), "planner", LEASE)
    assert task is not None
    parts.fan_out(task, [Part(task.id, 1, n, "picture", 10 * n, 10 * n + 10) for n in range(count)], queued)
    cut = table.get(task.id)
    assert cut is not None
    return cut


def take(parts: PartTable, task: Task, number: int) -> Part:
    part = parts.claim(task, number, "worker", LEASE)
    assert part is not None
    return part


def queued_parts(aws: Aws) -> list[int]:
    return sorted(message["part"] for message in aws.take_messages())


# The sweep


def test_a_task_that_was_not_queued_is_queued(
    keepers: Keepers, table: TaskTable, aws: Aws, clock: Clock
) -> None:
    task_id = create(table)
    clock.advance(59)
    keepers.sweep()
    assert queued(aws) == []
    clock.advance(1)
    keepers.sweep()
    assert queued(aws) == [task_id]
    assert status(table, task_id) is Status.WAITING
    keepers.sweep()
    assert queued(aws) == []


def sweep_for(keepers: Keepers, aws: Aws, clock: Clock, minutes: int) -> list[tuple[int, dict[str, Any]]]:
    """Sweep every minute, with a message of another task on the queue; return what is sent, and when."""
    sent = []
    for minute in range(1, minutes + 1):
        clock.advance(60)
        JobQueue(QUEUE_URL).send("another0")
        keepers.sweep()
        sent += [(minute, message) for message in aws.take_messages() if message["task_id"] != "another0"]
    return sent


HOURS = 6 * 60


def test_a_task_whose_message_is_lost_is_queued_again_and_the_longer_it_waits_the_less_often(
    keepers: Keepers, table: TaskTable, aws: Aws, clock: Clock
) -> None:
    task_id = create(table)
    table.mark_waiting(task_id)
    sent = sweep_for(keepers, aws, clock, HOURS)
    assert [minute for minute, _ in sent] == [5, 10, 20, 40, 80, 160, 320]
    assert {message["task_id"] for _, message in sent} == {task_id}


def test_a_task_whose_last_worker_died_is_queued_again_though_others_wait(
    keepers: Keepers, table: TaskTable, aws: Aws, clock: Clock
) -> None:
    table.claim(create(table), "worker", LEASE)
    assert [minute for minute, _ in sweep_for(keepers, aws, clock, 45)] == [1, 6, 11, 21, 41]


def test_a_long_queue_is_not_made_much_longer(
    keepers: Keepers, table: TaskTable, aws: Aws, clock: Clock
) -> None:
    for _ in range(30):
        table.mark_waiting(create(table))
    # A worker takes one every four minutes, so the last one waits for two hours.
    waiting = [task.id for task in table.page(1, 100)[0]]
    twins = 0
    while waiting:
        twins += len(sweep_for(keepers, aws, clock, 4))
        task = table.claim(waiting.pop(), "worker", timedelta(days=1))
        assert task is not None
    assert 30 < twins <= 30 * 4


def test_a_task_that_makes_the_sweep_fail_does_not_keep_it_from_the_others(
    keepers: Keepers, table: TaskTable, aws: Aws, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = create(table), create(table)
    send = keepers.sweeper.sweep._queue.send

    def refuse(task_id: str) -> None:
        if task_id == bad:
            raise RuntimeError("unforeseen")
        send(task_id)

    monkeypatch.setattr(keepers.sweeper.sweep._queue, "send", refuse)
    clock.advance(60)
    keepers.sweep()
    assert queued(aws) == [good]


def test_a_task_that_was_given_back_is_queued_soon(
    keepers: Keepers, table: TaskTable, aws: Aws, clock: Clock
) -> None:
    task_id = create(table)
    table.claim(task_id, "worker", LEASE)
    table.release(task_id, "worker", Failure.INTERNAL, "It broke.")
    clock.advance(60)
    keepers.sweep()
    assert queued(aws) == [task_id]


def test_a_live_worker_is_left_alone(keepers: Keepers, table: TaskTable, aws: Aws, clock: Clock) -> None:
    task_id = create(table)
    table.claim(task_id, "worker", LEASE)
    for _ in range(10):
        clock.advance(30)
        table.heartbeat(task_id, "worker", 0.1, LEASE)
        keepers.sweep()
    assert queued(aws) == []
    assert float(aws.item(task_id)["attention_at"]["N"]) > clock.now


def test_the_task_of_a_dead_worker_is_queued_again(
    keepers: Keepers, table: TaskTable, aws: Aws, clock: Clock
) -> None:
    task_id = create(table)
    for attempt in (1, 2, 3):
        claimed = table.claim(task_id, "worker", LEASE)
        assert claimed is not None
        assert claimed.attempt == attempt
        clock.advance(61)
        keepers.sweep()
        keepers.sweep()
        assert queued(aws) == [task_id]
    with pytest.raises(TaskFailedError):
        table.claim(task_id, "worker", LEASE)
    assert status(table, task_id) is Status.FAILED


@pytest.mark.parametrize("end", ["failed", "deleted"])
def test_what_a_dead_task_left_is_removed_and_what_a_worker_that_comes_back_stores(
    keepers: Keepers, table: TaskTable, aws: Aws, clock: Clock, end: str
) -> None:
    task_id = create(table)
    table.claim(task_id, "worker", LEASE)
    if end == "failed":
        table.fail(task_id, "worker", Failure.DAMAGED, "It is damaged.")
    else:
        table.delete(task_id, timedelta(days=30))
    aws.put_object(f"outputs/{task_id}/1/0")
    aws.put_object(f"outputs/{task_id}/2/0")
    aws.put_object(f"work/{task_id}/source")
    aws.put_object("outputs/other000/1/0")
    clock.advance(120)
    keepers.sweep()
    assert aws.keys() == ["outputs/other000/1/0"]
    aws.put_object(f"outputs/{task_id}/1/1")
    clock.advance(15 * 60)
    keepers.sweep()
    assert aws.keys() == ["outputs/other000/1/0"]
    assert "attention" not in aws.item(task_id)
    assert "attention_at" not in aws.item(task_id)
    assert queued(aws) == []


def test_a_task_that_no_worker_had_is_cleaned_up_once(
    keepers: Keepers, table: TaskTable, aws: Aws, clock: Clock
) -> None:
    task_id = create(table)
    table.delete(task_id, timedelta(days=30))
    clock.advance(60)
    keepers.sweep()
    assert "attention" not in aws.item(task_id)


def succeed(table: TaskTable, task_id: str, attempts: int, clock: Clock) -> None:
    """End a task well after so many attempts, of which only the last one's worker lives."""
    for attempt in range(1, attempts + 1):
        assert table.claim(task_id, f"worker {attempt}", LEASE)
        if attempt < attempts:
            clock.advance(61)
    table.succeed(task_id, f"worker {attempts}", "https://media.example.com/1", OUTPUT)


def test_what_a_task_that_succeeded_left_beside_its_result_is_removed(
    keepers: Keepers, table: TaskTable, aws: Aws, clock: Clock
) -> None:
    task_id = create(table)
    succeed(table, task_id, 1, clock)
    aws.put_object(f"outputs/{task_id}/1/master.m3u8")
    aws.put_object(f"work/{task_id}/1/source")
    clock.advance(60)
    keepers.sweep()
    assert aws.keys() == [f"outputs/{task_id}/1/master.m3u8"]
    assert "attention" not in aws.item(task_id)
    clock.advance(10 * 86400)
    assert table.due(100) == []


def test_what_workers_that_come_back_store_of_a_task_that_succeeded_without_them_is_removed(
    keepers: Keepers, table: TaskTable, aws: Aws, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = create(table)
    succeed(table, task_id, 3, clock)
    result = f"outputs/{task_id}/3/master.m3u8"
    for key in (result, f"outputs/{task_id}/1/0", f"outputs/{task_id}/2/0"):
        aws.put_object(key)
    clock.advance(60)

    def fail(**_: object) -> None:
        raise EndpointConnectionError(endpoint_url="http://s3")

    with monkeypatch.context() as patch:
        patch.setattr(keepers.sweeper.sweep._store._s3, "delete_objects", fail)
        keepers.sweep()
    clock.advance(300)
    keepers.sweep()
    assert aws.keys() == [result]
    aws.put_object(f"outputs/{task_id}/1/1")
    clock.advance(15 * 60)
    keepers.sweep()
    assert aws.keys() == [result]
    assert "attention" not in aws.item(task_id)
    assert status(table, task_id) is Status.SUCCEEDED


def test_what_cannot_be_done_is_tried_again_and_does_not_stop_the_rest(
    keepers: Keepers, table: TaskTable, aws: Aws, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted = create(table)
    table.delete(deleted, timedelta(days=30))
    clock.advance(1)
    lost = create(table)
    clock.advance(120)

    def fail(**_: object) -> None:
        raise EndpointConnectionError(endpoint_url="http://s3")

    with monkeypatch.context() as patch:
        patch.setattr(
            keepers.sweeper.sweep._store._s3, "get_paginator", lambda _: type("P", (), {"paginate": fail})
        )
        keepers.sweep()
    assert queued(aws) == [lost]
    assert float(aws.item(deleted)["attention_at"]["N"]) == clock.now + 300
    clock.advance(300)
    keepers.sweep()
    assert "attention" not in aws.item(deleted)


def test_more_than_a_batch_is_swept(
    keepers: Keepers, table: TaskTable, aws: Aws, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transcoding.service.sweep._BATCH", 2)
    ids = [create(table) for _ in range(5)]
    clock.advance(60)
    keepers.sweep()
    assert sorted(queued(aws)) == sorted(ids)


def test_a_sweep_ends_in_time(keepers: Keepers, table: TaskTable, aws: Aws, clock: Clock) -> None:
    create(table)
    clock.advance(60)
    keepers.sweep(seconds_left=5)
    assert queued(aws) == []


@pytest.mark.parametrize("step", ["fold", "adopt"])
def test_a_sweep_that_cannot_fold_the_counts_does_all_else_and_fails(
    keepers: Keepers, table: TaskTable, aws: Aws, clock: Clock, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    task_id = create(table)
    clock.advance(60)

    def fail(seconds_left: object) -> None:
        raise ValueError("a count of another shape")

    fail.__name__ = step
    monkeypatch.setattr(keepers.sweeper.sweep._table, step, fail)
    with pytest.raises(ExceptionGroup) as failure:
        keepers.sweep()
    assert failure.group_contains(ValueError, match="a count of another shape")
    assert queued(aws) == [task_id]


# What is counted


def counted(capsys: pytest.CaptureFixture[str]) -> Counter[str]:
    """Add up the metrics that were written since."""
    counts: Counter[str] = Counter()
    for line in capsys.readouterr().out.splitlines():
        told = json.loads(line)
        for directive in told.get("_aws", {}).get("CloudWatchMetrics", []):
            counts.update({metric["Name"]: sum(told[metric["Name"]]) for metric in directive["Metrics"]})
    return counts


def test_a_task_that_the_sweep_fails_counts_once(
    keepers: Keepers,
    table: TaskTable,
    parts: PartTable,
    aws: Aws,
    clock: Clock,
    capsys: pytest.CaptureFixture[str],
) -> None:
    task = fan_out(table, parts, queued=3)
    aws.dynamodb.delete_item(TableName="tasks", Key={"id": {"S": f"part#{task.id}#1#4"}})
    for _ in range(30):
        clock.advance(60)
        keepers.sweep()
    assert status(table, task.id) is Status.FAILED
    # It is failed, cleaned up, and cleaned up again.
    assert counted(capsys) == {"TasksSwept": 3, "TasksFailed": 1}


def test_a_task_that_a_dead_letter_fails_counts_once(
    keepers: Keepers, table: TaskTable, aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    task_id = create(table)
    keepers.bury(message(task_id), message(task_id), message("neverwas"), "{")
    assert counted(capsys) == {"TasksFailed": 1, "TasksBuried": 1, "MessagesIdle": 3}


# The sweep, of tasks with parts


def test_the_parts_of_a_planner_that_died_are_queued_a_window_at_a_time(
    keepers: Keepers, table: TaskTable, parts: PartTable, aws: Aws, clock: Clock
) -> None:
    task = fan_out(table, parts, queued=3)
    clock.advance(60)
    keepers.sweep()
    assert aws.take_messages() == []
    clock.advance(240)
    keepers.sweep()
    assert aws.take_messages() == [json.loads(part_message(task.id, 1, number)) for number in (0, 1, 2)]
    for number in (0, 1, 2):
        parts.complete(take(parts, task, number))
    clock.advance(300)
    keepers.sweep()
    assert queued_parts(aws) == [3, 4]


def test_parts_that_are_worked_on_are_left_alone(
    keepers: Keepers, table: TaskTable, parts: PartTable, aws: Aws, clock: Clock
) -> None:
    task = fan_out(table, parts, queued=3)
    taken = [take(parts, task, number) for number in range(3)]
    for _ in range(10):
        clock.advance(30)
        for part in taken:
            parts.heartbeat(part, 0.5, LEASE)
        keepers.sweep()
    assert aws.take_messages() == []
    assert clock.now < float(aws.item(task.id)["attention_at"]["N"]) <= clock.now + 60


def test_the_part_of_a_dead_worker_is_queued_again_soon_also_behind_a_backlog(
    keepers: Keepers, table: TaskTable, parts: PartTable, aws: Aws, clock: Clock
) -> None:
    task = fan_out(table, parts, queued=3)
    live, dead = take(parts, task, 0), take(parts, task, 1)
    JobQueue(QUEUE_URL).send("another")
    for second in (30, 60, 90, 120):
        clock.advance(30)
        parts.heartbeat(live, 0.5, LEASE)
        if second <= 60:
            parts.heartbeat(dead, 0.5, LEASE)
        keepers.sweep()
    assert [message.get("part") for message in aws.take_messages()] == [None, 1]


def test_each_part_of_workers_that_die_one_after_another_is_queued_soon_and_once(
    keepers: Keepers, table: TaskTable, parts: PartTable, aws: Aws, clock: Clock
) -> None:
    task = fan_out(table, parts, queued=2)
    take(parts, task, 0)
    clock.advance(45)
    dead = take(parts, task, 1)
    JobQueue(QUEUE_URL).send("another")
    for _ in range(2):
        clock.advance(30)
        parts.heartbeat(dead, 0.5, LEASE)
        keepers.sweep()
    for _ in range(9):
        clock.advance(19)
        keepers.sweep()
    assert [message.get("part") for message in aws.take_messages()] == [None, 0, 2, 1]


def test_a_worker_that_gives_a_sign_of_life_late_keeps_its_part(
    table: TaskTable, parts: PartTable, clock: Clock
) -> None:
    task = fan_out(table, parts, queued=1)
    seen = take(parts, task, 0)
    clock.advance(61)
    parts.heartbeat(seen, 0.5, LEASE)
    parts.take_back(seen)
    parts.heartbeat(seen, 0.6, LEASE)


def test_a_part_that_was_counted_and_never_sent_is_sent_though_others_wait(
    keepers: Keepers, table: TaskTable, parts: PartTable, aws: Aws, clock: Clock
) -> None:
    task = fan_out(table, parts, queued=2)
    taken = [take(parts, task, number) for number in (0, 1)]
    # Its worker dies before it can send the next one.
    parts.complete(taken[0])
    assert parts.next_part(task.id, 1) == 2
    sent = []
    for minute in range(1, 11):
        parts.heartbeat(taken[1], 0.5, timedelta(minutes=2))
        sent += [(minute, message["part"]) for _, message in sweep_for(keepers, aws, clock, 1)]
    # Of both, messages are known to be on the queue from then on.
    assert sent == [(1, 2), (1, 3), (6, 2), (6, 3)]


def test_a_part_whose_message_is_lost_is_sent_again_and_the_longer_it_waits_the_less_often(
    keepers: Keepers, table: TaskTable, parts: PartTable, aws: Aws, clock: Clock
) -> None:
    task = fan_out(table, parts, queued=3)
    parts.complete(take(parts, task, 0))
    parts.complete(take(parts, task, 1))
    sent = sweep_for(keepers, aws, clock, HOURS)
    for number, minutes in (
        (2, [5, 15, 35, 75, 155, 315]),
        (3, [1, 6, 16, 36, 76, 156, 316]),
    ):
        assert [minute for minute, message in sent if message["part"] == number] == minutes
    assert {message["part"] for _, message in sent} == {2, 3, 4}


def test_a_part_that_could_not_be_sent_after_its_worker_died_is_sent_soon(
    keepers: Keepers,
    table: TaskTable,
    parts: PartTable,
    aws: Aws,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = fan_out(table, parts, count=1, queued=1)
    take(parts, task, 0)

    def fail(**_: object) -> None:
        raise EndpointConnectionError(endpoint_url="http://sqs")

    clock.advance(61)
    with monkeypatch.context() as patch:
        patch.setattr(keepers.sweeper.sweep._queue._sqs, "send_message_batch", fail)
        keepers.sweep()
    assert not parts.all(task)[0].lease_owner
    assert [minute for minute, _ in sweep_for(keepers, aws, clock, 9)] == [5]


def test_a_task_whose_parts_are_done_is_queued_until_it_is_finished(
    keepers: Keepers, table: TaskTable, parts: PartTable, aws: Aws, clock: Clock
) -> None:
    task = fan_out(table, parts, count=1, queued=1)
    parts.complete(take(parts, task, 0))
    for owner in ("first", "second"):
        clock.advance(300)
        keepers.sweep()
        assert aws.take_messages() == [json.loads(message(task.id))]
        assert table.claim(task.id, owner, LEASE)
        keepers.sweep()
    table.succeed(task.id, "second", "https://media.example.com/1", OUTPUT)
    clock.advance(300)
    keepers.sweep()
    assert aws.take_messages() == []


def test_a_task_whose_parts_have_expired_fails(
    keepers: Keepers, table: TaskTable, parts: PartTable, aws: Aws, clock: Clock
) -> None:
    task = fan_out(table, parts, queued=3)
    aws.dynamodb.delete_item(TableName="tasks", Key={"id": {"S": f"part#{task.id}#1#4"}})
    clock.advance(60)
    keepers.sweep()
    assert status(table, task.id) is Status.FAILED
    assert aws.take_messages() == []


@pytest.mark.parametrize("end", ["failed", "deleted"])
def test_what_the_workers_of_parts_store_late_is_removed_and_so_are_the_parts(
    keepers: Keepers, table: TaskTable, parts: PartTable, aws: Aws, clock: Clock, end: str
) -> None:
    task = fan_out(table, parts, queued=3)
    if end == "failed":
        parts.fail(take(parts, task, 0), Failure.DAMAGED, "It is damaged.")
    else:
        table.delete(task.id, timedelta(days=30))
    aws.put_object(f"work/{task.id}/1/parts/0")
    clock.advance(60)
    keepers.sweep()
    assert aws.keys() == []
    assert not [item for item in aws.items() if item["id"]["S"].startswith("part#")]
    aws.put_object(f"outputs/{task.id}/1/0")
    clock.advance(900)
    keepers.sweep()
    assert aws.keys() == []
    assert "attention" not in aws.item(task.id)


# Dead letters


def test_a_dead_letter_ends_its_task_and_removes_what_it_stored(
    keepers: Keepers, table: TaskTable, aws: Aws
) -> None:
    task_id = create(table)
    aws.put_object(f"outputs/{task_id}/1/0")
    assert keepers.bury(message(task_id)) == []
    task = table.get(task_id)
    assert task is not None
    assert (task.status, task.error_code) == (Status.FAILED, Failure.WORKER_LOST)
    assert "Create the task again" in task.error_info
    assert aws.keys() == []


def test_a_dead_letter_does_not_end_what_lives_or_is_done(
    keepers: Keepers, table: TaskTable, aws: Aws
) -> None:
    running, done, deleted = create(table), create(table), create(table)
    table.claim(running, "worker", LEASE)
    table.claim(done, "worker", LEASE)
    table.succeed(done, "worker", "https://media.example.com/1", OUTPUT)
    table.delete(deleted, timedelta(days=30))
    aws.put_object(f"outputs/{done}/1/0")
    assert keepers.bury(message(running), message(done), message(deleted), message("neverwas")) == []
    assert [status(table, task_id) for task_id in (running, done, deleted)] == [1, 2, 4]
    assert aws.keys() == [f"outputs/{done}/1/0"]


def test_a_dead_letter_of_a_part_ends_the_task_if_no_worker_has_the_part(
    keepers: Keepers, table: TaskTable, parts: PartTable, aws: Aws, clock: Clock
) -> None:
    task = fan_out(table, parts)
    take(parts, task, 0)
    parts.complete(take(parts, task, 1))
    letters = [message(task.id), *(part_message(task.id, *of) for of in ((1, 0), (1, 1), (2, 2), (1, 9)))]
    assert keepers.bury(*letters) == []
    assert status(table, task.id) is Status.RUNNING
    aws.put_object(f"work/{task.id}/1/parts/1")
    assert keepers.bury(part_message(task.id, 1, 2)) == []
    failed = table.get(task.id)
    assert failed is not None
    assert (failed.status, failed.error_code) == (Status.FAILED, Failure.WORKER_LOST)
    assert aws.keys() == []


@pytest.mark.parametrize(
    "body",
    [
        *("", "{", "[]", "null", "{}", '{"task_id": 1}', '{"task_id": ""}', '{"task_id": null}', '"x"', "1"),
        '{"task_id": "", "step": "transcode"}',
        '{"task_id": "17lok52y", "step": "part", "attempt": 1}',
    ],
)
def test_letters_that_name_no_task_are_dropped(keepers: Keepers, aws: Aws, body: str) -> None:
    assert keepers.bury(body) == []
    assert aws.items() == []


def test_letters_come_back_while_the_database_is_away(
    keepers: Keepers, table: TaskTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = create(table)
    client = keepers.dead_letters.table._connection.client
    call = client._make_api_call

    def fail(operation: str, arguments: dict[str, Any]) -> Any:
        if arguments.get("Key") == {"id": {"S": task_id}}:
            raise EndpointConnectionError(endpoint_url="http://dynamodb")
        return call(operation, arguments)

    with monkeypatch.context() as patch:
        patch.setattr(client, "_make_api_call", fail)
        assert keepers.bury(message(task_id), message("neverwas")) == ["0"]
    assert keepers.bury(message(task_id)) == []
    assert status(table, task_id) is Status.FAILED
