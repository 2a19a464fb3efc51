"""How an attempt ends: what becomes of the task, of its message and of its objects."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import BUCKET, OUTPUT, QUEUE_URL, Aws, unsent
from transcoding.data import task_table
from transcoding.data.object_store import ObjectStore, output_prefix, work_prefix
from transcoding.data.part_table import PartTable
from transcoding.data.queue import JobQueue
from transcoding.data.task_table import TaskTable
from transcoding.errors import EncoderLostError, Failure, StaleAttemptError, TaskFailedError, UnavailableError
from transcoding.model import Order, Output, Part, Status, Task
from transcoding.pipeline.progress import ENCODED
from transcoding.service import heartbeat, jobs
from transcoding.service.jobs import Job, RetryLaterError
from transcoding.service.outcomes import Outcome
from transcoding.service.sweep import Sweep

LEASE = timedelta(seconds=60)

# Heartbeats come from a thread of their own.
pytestmark = pytest.mark.usefixtures("serialised")


class Transcoder:
    """Stores one object, then does what a test says; cuts a source into as many parts as a test says."""

    def __init__(self, aws: Aws) -> None:
        self.aws = aws
        self.then: Callable[..., int | None] = lambda task, report, part=None: None
        self.then_finish: Callable[..., None] = lambda task, report: None
        self.cuts = 0
        self.joined: list[int] = []

    def prepare(self, task: Task, report: Callable[[float], None], deadline: float) -> SimpleNamespace:
        return SimpleNamespace(task=task, share=lambda part: ENCODED / self.cuts)

    def parts(self, prepared: SimpleNamespace) -> list[Part]:
        task, numbers = prepared.task, range(self.cuts)
        ends = [*(100 * n for n in numbers[1:]), None]
        return [Part(task.id, task.attempt, n, "picture", 100 * n, ends[n]) for n in numbers]

    def store(self, prepared: SimpleNamespace, parts: list[Part]) -> None:
        self.aws.put_object(f"{work_prefix(prepared.task.id, prepared.task.attempt)}source.json")

    def recall(self, task: Task, part: Part) -> SimpleNamespace:
        return self.prepare(task, lambda progress: None, 0.0)

    def run(self, prepared: SimpleNamespace, folder: Path, report: Callable[[float], None]) -> Output:
        task = prepared.task
        self.aws.put_object(self.target_key(task))
        self.then(task, report)
        return OUTPUT

    def run_part(
        self, prepared: SimpleNamespace, part: Part, folder: Path, report: Callable[[float], None]
    ) -> int | None:
        task = prepared.task
        self.aws.put_object(f"{output_prefix(task.id, task.attempt)}{part.start}.m4s")
        return self.then(task, report, part)

    def target_key(self, task: Task) -> str:
        return output_prefix(task.id, task.attempt) + ("master.m3u8" if task.parts else "video.mp4")

    def finish(self, task: Task, parts: list[Part], report: Callable[[float], None]) -> Output:
        self.joined.append(len(parts))
        self.aws.put_object(self.target_key(task))
        self.then_finish(task, report)
        return OUTPUT

    def finished(self, task: Task) -> Output | None:
        return OUTPUT if self.target_key(task) in set(self.aws.keys()) else None


@pytest.fixture(autouse=True)
def quick_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "TASK_INTERVAL", 0.05)
    monkeypatch.setattr(jobs, "PART_INTERVAL", 0.05)


@pytest.fixture
def transcoder(aws: Aws) -> Transcoder:
    return Transcoder(aws)


@pytest.fixture
def worker(aws: Aws, table: TaskTable, parts: PartTable, transcoder: Any) -> Job:
    return Job(
        table,
        parts,
        JobQueue(QUEUE_URL),
        ObjectStore(BUCKET),
        transcoder,
        lease=LEASE,
        window=2,
    )


@pytest.fixture
def run(worker: Job) -> Callable[..., Outcome]:
    def run(task_id: str, age: float = 0.1) -> Outcome:
        return worker.run(task_id, f"worker-{time.monotonic_ns()}", time.monotonic() + 900, age)

    return run


@pytest.fixture
def run_part(worker: Job) -> Callable[..., Outcome]:
    def run(task: Task, number: int, *, seconds: float = 900, attempt: int = 1) -> Outcome:
        owner = f"worker-{time.monotonic_ns()}"
        return worker.run_part(task.id, attempt, number, owner, time.monotonic() + seconds)

    return run


@pytest.fixture
def task(table: TaskTable) -> Task:
    return table.create(Order("s3://source/key", 5, "mp4"), None, unsent)[0]


def read(table: TaskTable, task: Task) -> Task:
    found = table.get(task.id)
    assert found is not None
    return found


def fail(error: Exception) -> Callable[..., None]:
    def then(task: Task, report: Callable[[float], None], part: Part | None = None) -> None:
        raise error

    return then


def wait_for_loss(task: Task, report: Callable[[float], None], part: Part | None = None) -> None:
    for _ in range(200):
        report(0.5)
        time.sleep(0.05)


def test_a_result_is_published(run, table, task, aws):
    assert run(task.id) is Outcome.SUCCEEDED
    done = read(table, task)
    assert (done.status, done.progress) == (Status.SUCCEEDED, 1.0)
    assert done.target == f"outputs/{task.id}/1/video.mp4"
    assert aws.keys() == [f"outputs/{task.id}/1/video.mp4"]


def test_a_task_that_has_nothing_left_to_remove_is_not_looked_at_again(run, task, aws):
    run(task.id)
    assert "attention" not in aws.item(task.id)


@pytest.mark.parametrize("error", [UnavailableError("the output bucket"), RuntimeError("unforeseen")])
def test_a_result_is_published_also_where_what_is_beside_it_cannot_be_removed(
    run, table, task, aws, worker, monkeypatch, error
):
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(worker._outputs, "remove_all_but", refuse)
    assert run(task.id) is Outcome.SUCCEEDED
    assert read(table, task).status is Status.SUCCEEDED
    assert aws.keys() == [f"outputs/{task.id}/1/video.mp4"]
    # The sweep is to remove it.
    assert aws.item(task.id)["attention"] == {"S": "1"}


def test_nothing_is_removed_before_the_task_is_known_to_have_succeeded(
    run, table, task, aws, transcoder, monkeypatch
):
    def then(task: Task, report: Callable[[float], None]) -> None:
        table._clock.advance(61)
        assert table.claim(task.id, "another", LEASE)
        aws.put_object(f"work/{task.id}/2/source")

    monkeypatch.setattr(table, "heartbeat", lambda *_: None)
    transcoder.then = then
    assert run(task.id) is Outcome.LOST
    assert aws.keys() == [f"work/{task.id}/2/source"]


def test_the_sweep_looks_at_a_task_whose_first_worker_may_come_back(run, table, task, aws, clock):
    table.claim(task.id, "lost", LEASE)
    clock.advance(61)
    assert run(task.id) is Outcome.SUCCEEDED
    assert aws.item(task.id)["attention"] == {"S": "1"}


def test_objects_that_a_lost_worker_cannot_remove_are_no_fault_of_its_message(
    run, table, task, transcoder, worker, monkeypatch
):
    def unavailable(*_: object) -> None:
        raise UnavailableError("the output bucket")

    def then(task: Task, report: Callable[[float], None]) -> None:
        table.delete(task.id, timedelta(days=30))
        wait_for_loss(task, report)

    transcoder.then = then
    monkeypatch.setattr(worker._outputs, "remove_attempt", unavailable)
    assert run(task.id) is Outcome.LOST


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
    assert done.target == ""
    assert aws.keys() == []


def test_an_attempt_that_does_not_end_in_time_fails_the_task(worker, table, task, transcoder, aws):
    transcoder.then = lambda task, report: report(0.5)
    assert worker.run(task.id, "worker", time.monotonic() + 1, 0.1) is Outcome.FAILED
    assert read(table, task).error_code == Failure.TIMED_OUT
    assert aws.keys() == []


@pytest.mark.parametrize(("age", "seconds"), [(0.02, 1), (1.2, 1), (8.0, 8), (29.0, 29)])
def test_a_message_that_comes_before_its_task_is_stored_comes_again(run, age, seconds):
    with pytest.raises(RetryLaterError) as error:
        run("notyet00", age)
    assert error.value.seconds == seconds


def test_a_message_comes_again_also_where_its_task_is_stored_right_after_it_was_looked_for(
    run, table, monkeypatch
):
    get, looks = table.get, []

    def get_and_store(task_id):
        found = get(task_id)
        looks.append(found)
        if len(looks) < 2:
            return found
        monkeypatch.setattr(table, "get", get)
        monkeypatch.setattr(task_table, "_new_id", lambda: task_id)
        table.create(Order("s3://source/key", 5, "mp4"), None, lambda task_id: True)
        return found

    monkeypatch.setattr(table, "get", get_and_store)
    with pytest.raises(RetryLaterError):
        run("notyet00")
    assert run("notyet00", 1.1) is Outcome.SUCCEEDED


def test_a_message_whose_task_was_never_stored_is_dropped(run):
    """Before it comes so often that SQS takes it for a dead letter."""
    age, times = 0.02, 0
    while True:
        try:
            assert run("notyet00", age) is Outcome.IDLE
        except RetryLaterError as error:
            age, times = age + error.seconds, times + 1
        else:
            break
    assert age >= 30
    assert times < 9


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
        # Its heartbeat may come in between.
        while not table.claim(task.id, "another", LEASE):
            clock.advance(61)
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


def test_a_task_whose_last_worker_was_lost_ends_as_failed(run, table, task, clock):
    for number in range(3):
        assert table.claim(task.id, f"lost {number}", LEASE)
        clock.advance(61)
    assert run(task.id) is Outcome.FAILED
    assert read(table, task).error_code == Failure.WORKER_LOST
    assert run(task.id) is Outcome.IDLE


def test_a_task_that_is_stored_a_moment_after_its_message_came_is_done_at_once(worker, table, monkeypatch):
    stored = []

    def create(seconds: float) -> None:
        stored.append(table.create(Order("s3://source/key", 5, "mp4"), None, lambda task_id: True)[0])

    monkeypatch.setattr(jobs.time, "sleep", create)
    monkeypatch.setattr("transcoding.data.task_table._new_id", lambda: "17lok52y")
    assert worker.run("17lok52y", "worker", time.monotonic() + 900, 0.1) is Outcome.SUCCEEDED
    assert len(stored) == 1


# Tasks in parts.


@pytest.fixture
def cut_task(run, task, transcoder, aws) -> Task:
    """A task that was cut into four parts, of which two are queued."""
    transcoder.cuts = 4
    assert run(task.id) is Outcome.FANNED_OUT
    return task


def queued(aws: Aws) -> list[int]:
    return [message["part"] for message in aws.take_messages() if message["step"] == "part"]


def test_a_task_that_is_cut_queues_as_many_parts_as_there_are_workers(cut_task, table, aws):
    assert queued(aws) == [0, 1]
    cut = read(table, cut_task)
    assert (cut.status, cut.parts, cut.parts_left) == (Status.RUNNING, 4, 4)


def test_cutting_takes_as_few_calls_as_can_be_however_many_workers_there_are(
    run, task, transcoder, worker, aws, monkeypatch
):
    transcoder.cuts = 200
    monkeypatch.setattr(worker, "_window", 100)
    calls: Counter[str] = Counter()
    for client in (worker._table._connection.client, worker._queue._sqs):
        count_calls(monkeypatch, client, calls)
    assert run(task.id) is Outcome.FANNED_OUT
    # A batch has at most 25 items, or 10 messages.
    assert (calls["BatchWriteItem"], calls["SendMessageBatch"]) == (200 / 25, 100 / 10)
    # The claim, and the cut; a slow machine adds heartbeats.
    assert 2 <= calls["UpdateItem"] < 20
    assert sorted(queued(aws)) == list(range(100))


def count_calls(monkeypatch: pytest.MonkeyPatch, client: Any, calls: Counter[str]) -> None:
    call = client._make_api_call

    def count(operation: str, arguments: dict[str, Any]) -> Any:
        calls[operation] += 1
        return call(operation, arguments)

    monkeypatch.setattr(client, "_make_api_call", count)


def test_a_part_that_is_queued_after_another_is_noted_as_sent(cut_task, run_part, table, parts, aws):
    run_part(cut_task, 1)
    noted = {part.number: part.sends for part in parts.all(read(table, cut_task))}
    assert noted == {0: 1, 1: 1, 2: 1, 3: 0}


def test_a_part_that_could_not_be_sent_is_not_noted_as_sent(
    cut_task, run_part, table, parts, worker, monkeypatch
):
    def unavailable(*_: object) -> None:
        raise UnavailableError("the job queue")

    monkeypatch.setattr(worker._queue, "send_part", unavailable)
    assert run_part(cut_task, 1) is Outcome.PART_DONE
    assert read(table, cut_task).parts_queued == 3
    noted = {part.number: part.sends for part in parts.all(read(table, cut_task))}
    assert noted == {0: 1, 1: 1, 2: 0, 3: 0}


def test_each_part_that_is_done_queues_another_and_the_last_finishes_the_task(
    cut_task, run_part, table, transcoder, aws
):
    queued(aws)
    assert [run_part(cut_task, n) for n in (1, 0, 2)] == [Outcome.PART_DONE] * 3
    assert queued(aws) == [2, 3]
    shown = read(table, cut_task).progress
    assert shown == pytest.approx(0.75 * ENCODED)
    assert run_part(cut_task, 3) is Outcome.SUCCEEDED
    done = read(table, cut_task)
    assert (done.status, done.progress) == (Status.SUCCEEDED, 1.0)
    assert done.target.endswith("/1/master.m3u8")
    assert transcoder.joined == [4]
    names = ("0.m4s", "100.m4s", "200.m4s", "300.m4s", "master.m3u8")
    assert aws.keys() == [f"outputs/{cut_task.id}/1/{name}" for name in names]


def test_what_an_earlier_worker_of_a_part_stores_after_its_task_has_succeeded_is_removed(
    cut_task, run_part, table, parts, worker, aws
):
    assert [run_part(cut_task, number) for number in range(4)][-1] is Outcome.SUCCEEDED
    aws.put_object(f"work/{cut_task.id}/1/parts/1.json")
    sweep = Sweep(table, parts, worker._queue, worker._outputs, window=2, clock=table._clock)
    table._clock.advance(16 * 60)
    list(sweep.run(lambda: 60.0))
    stored = aws.keys()
    assert stored
    assert all(key.startswith(f"outputs/{cut_task.id}/1/") for key in stored)
    assert "attention" not in aws.item(cut_task.id)


def test_a_read_that_fails_costs_a_part_no_try(cut_task, run_part, table, parts, monkeypatch):
    def unavailable(*_: object) -> None:
        raise UnavailableError("the database")

    with monkeypatch.context() as patch:
        patch.setattr(table, "get", unavailable)
        with pytest.raises(UnavailableError):
            run_part(cut_task, 1)
    (part,) = [part for part in parts.all(read(table, cut_task)) if part.number == 1]
    assert (part.tries, part.lease_owner) == (0, "")


@pytest.mark.parametrize(
    ("error", "faults"), [(EncoderLostError("signal 9"), 0), (OSError("a stream could not be copied"), 1)]
)
def test_what_is_lost_is_no_fault_of_the_source(cut_task, run_part, table, parts, transcoder, error, faults):
    transcoder.then = fail(error)
    with pytest.raises(RetryLaterError):
        run_part(cut_task, 1)
    (part,) = [part for part in parts.all(read(table, cut_task)) if part.number == 1]
    assert (part.tries, part.faults) == (1, faults)


def test_a_part_whose_last_worker_was_lost_ends_its_task_as_failed(cut_task, run_part, table, parts):
    for number in range(6):
        assert parts.claim(read(table, cut_task), 1, f"lost {number}", LEASE)
        table._clock.advance(61)
    assert run_part(cut_task, 1) is Outcome.FAILED
    assert read(table, cut_task).error_code == Failure.WORKER_LOST
    assert run_part(cut_task, 1) is Outcome.IDLE


@pytest.mark.parametrize(("attempt", "number"), [(0, 0), (2, 0), ("1", 0), (1, 9), (1, -1), (1, None)])
def test_what_there_is_not_is_not_taken_up(cut_task, run_part, table, attempt, number):
    before = read(table, cut_task)
    assert run_part(cut_task, number, attempt=attempt) is Outcome.IDLE
    assert read(table, cut_task) == before


def test_messages_of_parts_that_come_again_change_nothing(cut_task, run_part, table, transcoder, run):
    for number in (0, 0, 1, 2, 3, 3, 1):
        run_part(cut_task, number)
    assert run(cut_task.id) is Outcome.IDLE
    assert transcoder.joined == [4]
    assert read(table, cut_task).status is Status.SUCCEEDED
    assert run_part(cut_task, 0, attempt=2) is Outcome.IDLE


def test_a_part_that_runs_out_of_time_leaves_its_rest_to_another(cut_task, run_part, table, transcoder, aws):
    queued(aws)
    transcoder.then = lambda task, report, part: 150 if (part.start, part.tries) == (100, 1) else None
    assert run_part(cut_task, 1) is Outcome.PART_DONE
    assert read(table, cut_task).parts == 5
    assert [run_part(cut_task, n) for n in (0, 2, 3)] == [Outcome.PART_DONE] * 3
    assert queued(aws) == [2, 3, 4]
    assert run_part(cut_task, 4) is Outcome.SUCCEEDED
    assert transcoder.joined == [5]


def test_a_part_that_cannot_be_encoded_fails_the_task_once(cut_task, run_part, table, transcoder, aws):
    transcoder.then = fail(TaskFailedError(Failure.DAMAGED, "It is torn."))
    assert run_part(cut_task, 1) is Outcome.FAILED
    failed = read(table, cut_task)
    assert (failed.status, failed.error_code, failed.error_info) == (Status.FAILED, 2005, "It is torn.")
    assert aws.keys() == []
    transcoder.then = fail(TaskFailedError(Failure.NOT_MEDIA, "It is a letter."))
    assert run_part(cut_task, 0) is Outcome.IDLE
    assert read(table, cut_task) == failed


def test_a_task_counts_once_as_failed_whatever_its_other_parts_do(
    cut_task, run_part, table, transcoder, parts
):
    """The worker of part 1 learns of it, part 0 fails meanwhile, and part 2 was not begun."""

    def then(task: Task, report: Callable[[float], None], part: Part) -> None:
        if part.number == 0:
            raise TaskFailedError(Failure.DAMAGED, "It is torn.")
        others.append(run_part(cut_task, 0))
        wait_for_loss(task, report)

    others: list[Outcome] = []
    transcoder.then = then
    outcomes = [run_part(cut_task, number) for number in (1, 2)]
    assert others == [Outcome.FAILED]
    assert outcomes == [Outcome.PART_LOST, Outcome.IDLE]


def test_a_part_is_tried_three_times_and_then_fails_the_task(cut_task, run_part, table, transcoder, aws):
    transcoder.then = fail(OSError("the disk is on fire"))
    for _ in range(2):
        with pytest.raises(RetryLaterError):
            run_part(cut_task, 1)
        assert read(table, cut_task).status is Status.RUNNING
    assert run_part(cut_task, 1) is Outcome.FAILED
    assert read(table, cut_task).error_code == Failure.INTERNAL
    assert aws.keys() == []


def test_parts_of_a_task_that_is_deleted_stop_and_leave_nothing(cut_task, run_part, table, transcoder, aws):
    def then(task: Task, report: Callable[[float], None], part: Part) -> None:
        table.delete(task.id, timedelta(days=30))
        wait_for_loss(task, report)

    transcoder.then = then
    assert run_part(cut_task, 1) is Outcome.PART_LOST
    assert read(table, cut_task).status is Status.DELETED
    assert aws.keys() == []
    assert run_part(cut_task, 0) is Outcome.IDLE


def test_a_worker_without_time_to_finish_leaves_it_to_another(cut_task, run_part, run, table, aws):
    for number in (0, 1, 2):
        run_part(cut_task, number)
    aws.take_messages()
    assert run_part(cut_task, 3, seconds=100) is Outcome.PART_DONE
    assert aws.take_messages() == [{"task_id": cut_task.id, "step": "transcode"}]
    assert run(cut_task.id) is Outcome.SUCCEEDED


def test_the_progress_of_a_part_is_added_while_it_runs(cut_task, run_part, table, transcoder):
    def then(task: Task, report: Callable[[float], None], part: Part) -> None:
        for progress in (0.2, 0.4, 0.5):
            time.sleep(0.2)
            report(progress)
        assert 0 < read(table, task).progress <= 0.125

    transcoder.then = then
    assert run_part(cut_task, 1) is Outcome.PART_DONE


def test_what_was_joined_before_its_worker_died_is_not_joined_again(
    cut_task, run_part, run, table, transcoder, monkeypatch
):
    succeed = table.succeed

    def unavailable(*_: object) -> None:
        raise UnavailableError("the database")

    monkeypatch.setattr(table, "succeed", unavailable)
    for number in (0, 1, 2):
        run_part(cut_task, number)
    with pytest.raises(RetryLaterError):
        run_part(cut_task, 3)
    monkeypatch.setattr(table, "succeed", succeed)
    table._clock.advance(61)
    assert run(cut_task.id) is Outcome.SUCCEEDED
    assert transcoder.joined == [4]
    assert read(table, cut_task).target.endswith("/1/master.m3u8")


def test_a_message_of_a_part_finishes_a_task_that_could_not_be_finished(
    cut_task, run_part, table, transcoder, aws
):
    transcoder.then_finish = fail(OSError("the disk is on fire"))
    for number in (0, 1, 2):
        run_part(cut_task, number)
    with pytest.raises(RetryLaterError):
        run_part(cut_task, 3)
    transcoder.then_finish = lambda task, report: None
    assert run_part(cut_task, 3) is Outcome.SUCCEEDED
    assert run_part(cut_task, 3) is Outcome.IDLE
    assert not [item for item in aws.items() if item["id"]["S"].startswith("part#")]


def test_a_worker_that_joins_too_late_leaves_what_another_has_published(
    cut_task, run_part, run, table, transcoder, aws
):
    def then(task: Task, report: Callable[[float], None]) -> None:
        transcoder.then_finish = lambda task, report: None
        # Its heartbeat may come in between.
        while (outcome := run(task.id)) is Outcome.IDLE:
            table._clock.advance(61)
        assert outcome is Outcome.SUCCEEDED
        raise TaskFailedError(Failure.DAMAGED, "Its parts are gone.")

    transcoder.then_finish = then
    for number in (0, 1, 2):
        run_part(cut_task, number)
    assert run_part(cut_task, 3) is Outcome.LOST
    assert read(table, cut_task).status is Status.SUCCEEDED
    assert aws.keys()[-1] == f"outputs/{cut_task.id}/1/master.m3u8"


@pytest.mark.parametrize("at", ["a part", "the end"])
def test_a_task_whose_parts_another_version_has_stored_is_planned_again(
    cut_task, run_part, run, table, transcoder, aws, at
):
    stale = fail(StaleAttemptError("source.json"))
    if at == "a part":
        transcoder.then = stale
        assert run_part(cut_task, 0) is Outcome.PART_LOST
    else:
        transcoder.then_finish = stale
        outcomes = [run_part(cut_task, number) for number in range(4)]
        assert outcomes == [*[Outcome.PART_DONE] * 3, Outcome.PLANNED_AGAIN]
    waiting = read(table, cut_task)
    assert (waiting.status, waiting.parts, waiting.attempt) == (Status.WAITING, 0, 1)
    assert {"task_id": cut_task.id, "step": "transcode"} in aws.take_messages()
    assert run_part(cut_task, 1) is Outcome.IDLE
    transcoder.then = lambda task, report, part=None: None
    transcoder.then_finish = lambda task, report: None
    assert run(cut_task.id) is Outcome.FANNED_OUT
    outcomes = [run_part(cut_task, number, attempt=2) for number in range(4)]
    assert outcomes == [*[Outcome.PART_DONE] * 3, Outcome.SUCCEEDED]
    stored = aws.keys()
    assert all(key.startswith(f"outputs/{cut_task.id}/2/") for key in stored)


def test_a_task_is_not_planned_again_without_end(cut_task, run_part, run, table, transcoder):
    transcoder.then = fail(StaleAttemptError("source.json"))
    for attempt in (1, 2):
        assert run_part(cut_task, 0, attempt=attempt) is Outcome.PART_LOST
        assert run(cut_task.id) is Outcome.FANNED_OUT
    for _ in range(2):
        with pytest.raises(RetryLaterError):
            run_part(cut_task, 0, attempt=3)
    assert run_part(cut_task, 0, attempt=3) is Outcome.FAILED
    assert read(table, cut_task).error_code == Failure.INTERNAL


def test_parts_that_do_not_fit_fail_the_task_and_leave_nothing(cut_task, run_part, table, transcoder, aws):
    transcoder.then_finish = fail(TaskFailedError(Failure.DAMAGED, "It is torn."))
    outcomes = [run_part(cut_task, number) for number in range(4)]
    assert outcomes == [Outcome.PART_DONE] * 3 + [Outcome.FAILED]
    assert read(table, cut_task).error_info == "It is torn."
    assert aws.keys() == []


def test_a_short_lease_is_extended_in_time(run, table, task, transcoder, monkeypatch, worker):
    monkeypatch.setattr(jobs, "TASK_INTERVAL", 60)
    monkeypatch.setattr(worker, "_lease", timedelta(seconds=1))
    first = table._clock.now

    def then(task: Task, report: Callable[[float], None]) -> None:
        table._clock.advance(0.9)
        time.sleep(0.6)
        assert read(table, task).lease_expires_at == first + 1.9

    transcoder.then = then
    assert run(task.id) is Outcome.SUCCEEDED


def test_a_worker_that_does_not_join_does_not_wait_for_what_joins():
    loaded = "import sys, transcoding.service.jobs; sys.exit('av' in sys.modules)"
    folder = Path(jobs.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", loaded], cwd=folder, check=False).returncode == 0
