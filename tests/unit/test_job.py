"""How an attempt ends: what becomes of the task, of its message and of its objects."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BUCKET, Aws
from transcoding.data.storage import OutputStore, output_prefix
from transcoding.data.task_table import TaskTable
from transcoding.domain import heartbeat
from transcoding.domain.errors import Failure, TaskFailedError, UnavailableError
from transcoding.domain.job import Job, Outcome, RetryLaterError
from transcoding.domain.model import Status, Task

LEASE = timedelta(seconds=60)


class Transcoder:
    """Stores one object, then does what a test says."""

    def __init__(self, aws: Aws) -> None:
        self.aws = aws
        self.then: Callable[[Task, Callable[[float], None]], None] = lambda task, report: None

    def run(self, task: Task, folder: Path, report: Callable[[float], None], deadline: float) -> str:
        key = f"{output_prefix(task.id, task.attempt)}video.mp4"
        self.aws.put_object(key)
        self.then(task, report)
        return key


@pytest.fixture(autouse=True)
def quick_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.05)


@pytest.fixture
def transcoder(aws: Aws) -> Transcoder:
    return Transcoder(aws)


@pytest.fixture
def run(table: TaskTable, transcoder: Any) -> Callable[[str], Outcome]:
    job = Job(table, OutputStore(BUCKET), transcoder, base_url="https://cdn.example.com", lease=LEASE)
    return lambda task_id: job.run(task_id, f"worker-{time.monotonic_ns()}", time.monotonic() + 900)


@pytest.fixture
def task(table: TaskTable) -> Task:
    return table.create("s3://source/key", 5, "mp4", None)[0]


def read(table: TaskTable, task: Task) -> Task:
    found = table.get(task.id)
    assert found is not None
    return found


def fail(error: Exception) -> Callable[[Task, Callable[[float], None]], None]:
    def then(task: Task, report: Callable[[float], None]) -> None:
        raise error

    return then


def wait_for_loss(task: Task, report: Callable[[float], None]) -> None:
    for _ in range(200):
        report(0.5)
        time.sleep(0.05)


def test_a_result_is_published(run, table, task, aws):
    assert run(task.id) is Outcome.SUCCEEDED
    done = read(table, task)
    assert (done.status, done.progress) == (Status.SUCCEEDED, 1.0)
    assert done.target_url == f"https://cdn.example.com/outputs/{task.id}/1/video.mp4"
    assert aws.keys() == [f"outputs/{task.id}/1/video.mp4"]


def test_a_second_message_does_nothing(run, table, task, aws):
    run(task.id)
    before = read(table, task)
    assert run(task.id) is Outcome.IDLE
    assert read(table, task) == before
    assert aws.keys() == [f"outputs/{task.id}/1/video.mp4"]


def test_progress_reaches_the_table_while_it_runs(run, table, task, transcoder):
    def then(task: Task, report: Callable[[float], None]) -> None:
        report(0.25)
        time.sleep(0.3)
        assert read(table, task).progress == 0.25

    transcoder.then = then
    assert run(task.id) is Outcome.SUCCEEDED


def test_a_source_that_cannot_be_transcoded_fails_the_task_at_once(run, table, task, transcoder, aws):
    transcoder.then = fail(TaskFailedError(Failure.NOT_MEDIA, "It is a letter."))
    assert run(task.id) is Outcome.FAILED
    done = read(table, task)
    assert (done.status, done.error_code, done.error_info) == (Status.FAILED, 2001, "It is a letter.")
    assert done.target_url == ""
    assert aws.keys() == []


def test_an_attempt_that_does_not_end_in_time_fails_the_task(table, task, transcoder, aws):
    transcoder.then = lambda task, report: report(0.5)
    job = Job(table, OutputStore(BUCKET), transcoder, base_url="https://cdn.example.com", lease=LEASE)
    assert job.run(task.id, "worker", time.monotonic() + 1) is Outcome.FAILED
    assert read(table, task).error_code == Failure.TIMED_OUT
    assert aws.keys() == []


def test_what_may_pass_is_tried_three_times_and_then_fails(run, table, task, transcoder, aws):
    transcoder.then = fail(OSError("the disk is on fire"))
    for attempt in (1, 2):
        with pytest.raises(RetryLaterError):
            run(task.id)
        assert (read(table, task).status, read(table, task).attempt) == (Status.WAITING, attempt)
        assert aws.keys() == []
    assert run(task.id) is Outcome.FAILED
    done = read(table, task)
    assert (done.status, done.error_code) == (Status.FAILED, Failure.INTERNAL)
    assert "disk" not in done.error_info
    assert aws.keys() == []


def test_a_second_attempt_leaves_only_its_own_result(run, table, task, transcoder, aws):
    aws.put_object(f"outputs/{task.id}/1/left-by-a-worker-that-was-killed.mp4")
    aws.put_object(f"work/{task.id}/1/source")
    transcoder.then = fail(OSError())
    with pytest.raises(RetryLaterError):
        run(task.id)
    aws.put_object(f"outputs/{task.id}/1/left-by-a-worker-that-was-killed.mp4")
    transcoder.then = lambda task, report: None
    assert run(task.id) is Outcome.SUCCEEDED
    assert aws.keys() == [f"outputs/{task.id}/2/video.mp4"]


def test_a_task_that_is_deleted_while_it_runs_stays_deleted_and_leaves_nothing(
    run, table, task, transcoder, aws
):
    def then(task: Task, report: Callable[[float], None]) -> None:
        table.delete(task.id, timedelta(days=30))
        wait_for_loss(task, report)

    transcoder.then = then
    assert run(task.id) is Outcome.LOST
    assert read(table, task).status is Status.DELETED
    assert aws.keys() == []


def test_a_worker_that_was_overtaken_removes_only_its_own(run, table, task, transcoder, aws, clock):
    def then(task: Task, report: Callable[[float], None]) -> None:
        clock.advance(61)
        assert table.claim(task.id, "another", LEASE)
        aws.put_object(f"outputs/{task.id}/2/video.mp4")
        wait_for_loss(task, report)

    transcoder.then = then
    assert run(task.id) is Outcome.LOST
    assert read(table, task).lease_owner == "another"
    assert aws.keys() == [f"outputs/{task.id}/2/video.mp4"]


def test_a_lease_that_cannot_be_extended_counts_as_lost(run, table, task, transcoder, aws, monkeypatch):
    def unavailable(*_: object) -> None:
        raise UnavailableError("the database")

    monkeypatch.setattr(table, "heartbeat", unavailable)
    monkeypatch.setattr(heartbeat.Heartbeat, "_ends", property(lambda _: 0.0, lambda *_: None), raising=False)
    transcoder.then = wait_for_loss
    assert run(task.id) is Outcome.LOST
    assert aws.keys() == []


def test_when_it_is_unknown_whether_success_was_written_the_result_stays(run, table, task, aws, monkeypatch):
    succeed = table.succeed

    def lose_the_answer(*arguments: Any) -> None:
        succeed(*arguments)
        raise UnavailableError("the database")

    monkeypatch.setattr(table, "succeed", lose_the_answer)
    with pytest.raises(RetryLaterError):
        run(task.id)
    assert read(table, task).status is Status.SUCCEEDED
    assert aws.keys() == [f"outputs/{task.id}/1/video.mp4"]


def test_success_that_is_written_twice_is_success(table, task):
    claimed = table.claim(task.id, "worker", LEASE)
    assert claimed
    table.succeed(task.id, "worker", "https://cdn.example.com/x")
    table.succeed(task.id, "worker", "https://cdn.example.com/x")
    assert read(table, task).status is Status.SUCCEEDED
