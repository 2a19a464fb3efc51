"""The worker's work: a task, or a part of one, from its source to what is published."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial

from aws_lambda_powertools import Logger

from transcoding.data.object_store import ObjectStore
from transcoding.data.part_table import PartTable
from transcoding.data.queue import JobQueue
from transcoding.data.task_table import TaskTable
from transcoding.errors import (
    EncoderLostError,
    Failure,
    LeaseLostError,
    OutOfTimeError,
    StaleAttemptError,
    TaskFailedError,
    UnavailableError,
    UnknownTaskError,
)
from transcoding.model import Output, Part, Status, Task
from transcoding.pipeline.progress import Report
from transcoding.pipeline.scratch import scratch_folder
from transcoding.pipeline.transcoder import Prepared, Transcoder
from transcoding.service.heartbeat import Heartbeat
from transcoding.service.outcomes import Outcome

#: An invocation's time that is reserved for cleaning up, seconds.
_RESERVE = 30.0
#: Joining the parts is left to another invocation where less than this is left, seconds.
_JOINING = 300.0

#: Seconds between two heartbeats of a worker: for a task, and for a part, of which there may be many. Also
#: how late a worker learns that its task was deleted.
TASK_INTERVAL, PART_INTERVAL = 2.0, 4.0
#: Writes a second of its progress to a task's item, by all of its workers.
_PROGRESS_WRITES = 25

#: Seconds until a message whose task could not be brought to an end comes again.
RETRY_SECONDS = 10
#: How long after its message a task may be stored, seconds: as long as its caller may wait.
_STORING_SECONDS = 30
#: Seconds after which a worker looks again for a task that is not stored yet, before it returns the message.
_SECOND_LOOK = 0.25

_OUT_OF_TIME = (
    "The source takes longer to transcode than a worker has time. Ask for a lower quality, "
    "or send it in parts."
)

logger = Logger(child=True)


class RetryLaterError(Exception):
    """The message must come again, in so many seconds: its task was given back, or is not stored yet."""

    def __init__(self, task_id: str, seconds: int = RETRY_SECONDS) -> None:
        super().__init__(task_id)
        self.seconds = seconds


class Job:
    """Takes tasks and parts up, one at a time, and brings each to an end.

    `window` is how many parts of a task are on the queue, or with a worker, at a time.
    """

    def __init__(
        self,
        table: TaskTable,
        parts: PartTable,
        queue: JobQueue,
        outputs: ObjectStore,
        transcoder: Transcoder,
        *,
        lease: timedelta,
        window: int,
    ) -> None:
        self._table = table
        self._parts = parts
        self._queue = queue
        self._outputs = outputs
        self._transcoder = transcoder
        self._lease = lease
        self._window = window

    def run(self, task_id: str, owner: str, deadline: float, age: float) -> Outcome:
        """Do a task, if there is anything to do; `deadline` (`time.monotonic()`) is the invocation's end.

        `age` is that of the task's message, in seconds: it is sent before the task is stored. A task whose
        parts are all done is finished. Raises RetryLaterError when an attempt failed that another may not,
        and where the task may be stored yet.
        """
        try:
            task = self._claim(task_id, owner, age)
        except TaskFailedError as error:
            logger.warning("failed", task_id=task_id, error_code=int(error.code))
            return Outcome.FAILED
        except UnknownTaskError:
            if age < _STORING_SECONDS:
                # As long again, so that it comes no more often than a message may.
                raise RetryLaterError(task_id, max(1, round(age))) from None
            logger.info("no such task", task_id=task_id)
            return Outcome.IDLE
        if task is None:
            logger.info("nothing to do", task_id=task_id)
            return Outcome.IDLE
        logger.info("taken up", task_id=task.id, attempt=task.attempt, origin_url=task.origin_url)
        beat = partial(self._table.heartbeat, task.id, task.lease_owner)
        try:
            with Heartbeat(beat, self._lease, TASK_INTERVAL) as heartbeat:
                report = _until(deadline - _RESERVE, heartbeat.report)
                return self._finish(task, report) if task.parts else self._attempt(task, report, deadline)
        except LeaseLostError:
            logger.info("task lost", task_id=task.id, attempt=task.attempt)
            if task.parts:
                self._remove_ended(task.id)
            else:
                self._remove_quietly(task)
            return Outcome.LOST

    def _claim(self, task_id: str, owner: str, age: float) -> Task | None:
        """Take a task up. That of a new message may be stored a moment later: it is looked for twice."""
        try:
            return self._table.claim(task_id, owner, self._lease)
        except UnknownTaskError:
            if age >= _STORING_SECONDS:
                raise
            time.sleep(_SECOND_LOOK)
            return self._table.claim(task_id, owner, self._lease)

    def run_part(self, task_id: str, attempt: int, number: int, owner: str, deadline: float) -> Outcome:
        """Do a part of a task, if there is anything to do, and queue another; finish the task after the last.

        `deadline` and errors as in `run`.
        """
        # Before the part is claimed: a read that fails here costs it no try.
        task = self._cut(task_id, attempt)
        if task and not task.parts_left:
            # The worker of the last part could not finish the task, or did not learn that it was last.
            return self.run(task_id, owner, deadline, math.inf)
        try:
            part = self._parts.claim(task, number, owner, self._lease) if task else None
            if task is None or part is None:
                logger.info("nothing to do", task_id=task_id, part=number)
                return Outcome.IDLE
            logger.info("part taken up", task_id=task_id, attempt=attempt, part=number, tries=part.tries)
            with Heartbeat(partial(self._parts.heartbeat, part), self._lease, PART_INTERVAL) as heartbeat:
                last = self._part(task, part, _until(deadline - _RESERVE, heartbeat.report))
        except LeaseLostError:
            logger.info("part lost", task_id=task_id, attempt=attempt, part=number)
            self._remove_ended(task_id)
            return Outcome.PART_LOST
        except TaskFailedError as error:
            logger.warning(
                "failed", task_id=task_id, part=number, error_code=int(error.code), error_info=error.info
            )
            return Outcome.FAILED
        if last and time.monotonic() < deadline - _JOINING:
            return self.run(task_id, owner, deadline, math.inf)
        if last:
            self._queue.send(task_id)
        return Outcome.PART_DONE

    def _cut(self, task_id: str, attempt: int) -> Task | None:
        """Return a task that was cut into parts in an attempt which still runs."""
        task = self._table.get(task_id)
        runs = task is not None and (task.status, task.attempt) == (Status.RUNNING, attempt)
        return task if task and runs and task.parts else None

    def _attempt(self, task: Task, report: Report, deadline: float) -> Outcome:
        def make() -> Output | None:
            prepared = self._transcoder.prepare(task, report, deadline - _RESERVE)
            parts = self._transcoder.parts(prepared)
            if parts:
                self._fan_out(prepared, parts)
                return None
            with scratch_folder() as folder:
                return self._transcoder.run(prepared, folder, report)

        return self._end(task, make)

    def _finish(self, task: Task, report: Report) -> Outcome:
        def make() -> Output:
            # Where there is one, a worker has joined the parts but could not record that.
            output = self._transcoder.finished(task)
            return output or self._transcoder.finish(task, self._parts.all(task), report)

        return self._end(task, make)

    def _end(self, task: Task, make: Callable[[], Output | None]) -> Outcome:
        """Make a task's result and end the task; without a result, the task goes on in parts."""
        try:
            output = make()
        except (LeaseLostError, RetryLaterError):
            raise
        except (TaskFailedError, OutOfTimeError) as error:
            failure = _failure(error)
            logger.warning("failed", task_id=task.id, error_code=int(failure.code), error_info=failure.info)
            if not task.parts:
                self._remove_quietly(task)
            self._table.fail(task.id, task.lease_owner, failure.code, failure.info)
            if task.parts:
                # Only now: if another worker owned the task by now, the objects would be that worker's.
                self._remove_ended(task.id)
            return Outcome.FAILED
        except Exception as error:
            logger.exception("attempt failed", task_id=task.id, attempt=task.attempt)
            if isinstance(error, StaleAttemptError) and self._plan_again(task):
                return Outcome.PLANNED_AGAIN
            if not task.parts:
                self._remove_quietly(task)
            if self._table.release(task.id, task.lease_owner, *_fault(task.id, task.attempt)):
                raise RetryLaterError(task.id) from None
            return Outcome.FAILED
        if output is None:
            return Outcome.FANNED_OUT
        try:
            key = self._transcoder.target_key(task)
            succeeded = self._table.succeed(task.id, task.lease_owner, key, output)
        except UnavailableError as error:
            # Whether it was written is not known, so what is stored must stay. If it was not, another worker
            # takes the task up when the lease is over, and removes it.
            raise RetryLaterError(task.id) from error
        logger.info("succeeded", task_id=task.id)
        self._clean_up(succeeded)
        return Outcome.SUCCEEDED

    def _fan_out(self, prepared: Prepared, parts: list[Part]) -> None:
        task = prepared.task
        self._transcoder.store(prepared, parts)
        logger.info("cut into parts", task_id=task.id, parts=len(parts))
        first = range(min(self._window, len(parts)))
        try:
            self._parts.fan_out(task, parts, len(first))
        except UnavailableError as error:
            # Whether the task is cut is not known, so what its parts need must stay.
            raise RetryLaterError(task.id) from error
        with _left_to_the_sweep(task):
            self._queue.send_part(task.id, task.attempt, *first)

    def _queue_next(self, task: Task) -> None:
        """Queue one more part of a task, if one is left."""
        with _left_to_the_sweep(task):
            number = self._parts.next_part(task.id, task.attempt)
            if number is not None:
                self._queue.send_part(task.id, task.attempt, number)
                self._parts.note_sent(task, [number])

    def _part(self, task: Task, part: Part, report: Report) -> bool:
        """Make a part; return whether it was the last. Raises TaskFailedError where the whole task ends."""
        try:
            prepared = self._transcoder.recall(task, part)
            task_progress = _TaskProgress(self._parts, task, part, prepared.share(part), self._window)

            def report_both(progress: float) -> None:
                report(progress)
                task_progress.report(progress)

            with scratch_folder() as folder:
                rest = self._transcoder.run_part(prepared, part, folder, report_both)
        except LeaseLostError:
            raise
        except (TaskFailedError, OutOfTimeError) as error:
            failure = _failure(error)
            self._parts.fail(part, failure.code, failure.info)
            self._remove_ended(task.id)
            raise failure from None
        except Exception as error:
            logger.exception("try failed", task_id=task.id, part=part.number, tries=part.tries)
            if isinstance(error, StaleAttemptError) and self._plan_again(task):
                raise LeaseLostError(task.id) from error
            is_fault = not isinstance(error, EncoderLostError)
            if self._parts.release(part, *_fault(task.id, part.tries), is_fault=is_fault):
                raise RetryLaterError(task.id) from None
            self._remove_ended(task.id)
            raise TaskFailedError(*_fault(task.id, part.tries)) from None
        last = False
        try:
            if rest is None:
                task_progress.end()
                last = self._parts.complete(part)
            else:
                logger.info("part split", task_id=task.id, part=part.number, at=rest)
                self._parts.split(part, rest)
        except UnavailableError as error:
            raise RetryLaterError(task.id) from error
        logger.info("part done", task_id=task.id, part=part.number)
        self._queue_next(task)
        return last

    def _plan_again(self, task: Task) -> bool:
        """Give up the parts of an attempt, and queue another; False where there is none."""
        if not self._parts.plan_again(task):
            return False
        with _left_to_the_sweep(task):
            self._queue.send(task.id)
        return True

    def _clean_up(self, task: Task) -> None:
        """Remove all that a task has stored but its result, now that no other worker can take it up.

        It has succeeded even if this fails: the sweep removes what is left.
        """
        try:
            self._outputs.remove_all_but(task.id, task.attempt)
            if task.parts:
                self._parts.remove(task)
            if task.attempt == 1 and not task.parts:
                # Otherwise, a worker of an earlier attempt, or of an earlier try of a part, may come back and
                # store: see the sweep.
                self._table.settle(task)
        except Exception:
            logger.exception("The sweep will clean up", task_id=task.id)

    def _remove_ended(self, task_id: str) -> None:
        """Remove what this worker may have stored after its task has ended without a result."""
        with suppress(Exception):  # the sweep removes it then
            found = self._table.get(task_id)
            if found is None or found.status in {Status.FAILED, Status.DELETED}:
                self._outputs.remove_task(task_id)

    def _remove_quietly(self, task: Task) -> None:
        with suppress(Exception):  # the sweep removes it then
            self._outputs.remove_attempt(task.id, task.attempt)


class _TaskProgress:
    """Adds a part's progress to that of its task: less often where there are many workers."""

    def __init__(self, parts: PartTable, task: Task, part: Part, share: float, workers: int) -> None:
        self._parts = parts
        self._task = task
        self._share = share
        self._added = part.progress
        self._progress = part.progress
        self._interval = max(PART_INTERVAL, min(task.parts, workers) / _PROGRESS_WRITES)
        self._due = time.monotonic() + self._interval

    def report(self, progress: float) -> None:
        """Note how far the part is, 0.0 to 1.0."""
        self._progress = max(self._progress, progress)
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + self._interval
            self._add()

    def end(self) -> None:
        """Note that the part is done."""
        self._progress = 1.0
        self._add()

    def _add(self) -> None:
        delta = (self._progress - self._added) * self._share
        self._added = self._progress
        with suppress(UnavailableError):  # it is for display only
            self._parts.add_progress(self._task.id, self._task.attempt, delta)


@contextmanager
def _left_to_the_sweep(task: Task) -> Iterator[None]:
    """Leave to the sweep what cannot be queued now, for whatever reason."""
    try:
        yield
    except Exception:
        logger.exception("The sweep will queue what is not queued", task_id=task.id)


def _until(deadline: float, report: Report) -> Report:
    """Return a report that raises OutOfTimeError from the deadline on."""

    def checked(progress: float) -> None:
        report(progress)
        if time.monotonic() > deadline:
            raise OutOfTimeError

    return checked


def _failure(error: TaskFailedError | OutOfTimeError) -> TaskFailedError:
    return error if isinstance(error, TaskFailedError) else TaskFailedError(Failure.TIMED_OUT, _OUT_OF_TIME)


def _fault(task_id: str, tries: int) -> tuple[Failure, str]:
    return (
        Failure.INTERNAL,
        f"The service could not transcode the source in {tries} attempts. "
        f"Create the task again; if it fails again, tell the operators of the service its id, {task_id}.",
    )
