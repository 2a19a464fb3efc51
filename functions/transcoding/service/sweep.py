"""The sweep: moves on the tasks that are stuck, and folds the counts of the list.

Where no message of a task, or of a part of one, is known to be on the queue, one is sent: for the part of a
worker that died, or one that was counted as queued by a worker which died before it could send the message.

A message that is known to be on the queue may be lost all the same, or wait behind many others, and these
cannot be told apart. It is sent again after five minutes, and then each time when the task or the part has
waited about twice as long. So nothing waits for a lost message for ever, and on a queue on which messages
wait for hours, each gets a handful of twins. A message that comes twice changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta

from aws_lambda_powertools import Logger

from transcoding.data.object_store import ObjectStore
from transcoding.data.part_table import PartTable
from transcoding.data.queue import JobQueue
from transcoding.data.table import SOON
from transcoding.data.task_table import QUEUE_PATIENCE, TaskTable
from transcoding.errors import WORKER_LOST_INFO, Failure
from transcoding.model import Part, Status, Task
from transcoding.service.outcomes import Outcome

_BATCH = 100
#: The sweep ends when it has less than these seconds left.
_RESERVE = 10
#: The counts are left to the next sweep when it has less than these seconds left.
_COUNTING_RESERVE = 35
#: When to try again what could not be done.
_AGAIN = timedelta(minutes=5)
#: How long after a task's end a worker that has lost it may store: no invocation lasts longer.
LINGER = timedelta(minutes=15)

logger = Logger(child=True)


class Sweep:
    """Looks at each task that is due, and does for it what should have happened by itself.

    Reads the index of tasks that need attention; sends messages, removes objects that nobody needs any more.
    `window` is how many parts of a task are on the queue, or with a worker, at a time.
    """

    def __init__(
        self,
        table: TaskTable,
        parts: PartTable,
        queue: JobQueue,
        store: ObjectStore,
        *,
        window: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._table = table
        self._parts = parts
        self._queue = queue
        self._store = store
        self._window = window
        self._clock = clock

    def run(self, seconds_left: Callable[[], float]) -> Iterator[Outcome]:
        """Look at all due tasks as long as time allows, and yield the outcomes.

        Raises UnavailableError, and in the end an ExceptionGroup where the counts could not be folded.
        """
        failures = self._count(lambda: seconds_left() - _COUNTING_RESERVE)
        yield from self._look_at_all(seconds_left)
        if failures:
            raise ExceptionGroup("the counts could not be folded", failures)

    def _look_at_all(self, seconds_left: Callable[[], float]) -> Iterator[Outcome]:
        while batch := self._table.due(_BATCH):
            for task in batch:
                if seconds_left() < _RESERVE:
                    logger.warning("Out of time; the next sweep goes on")
                    return
                yield Outcome.SWEPT
                try:
                    failed = self._look_at(task)
                except Exception:
                    # One task must not keep the sweep from the others.
                    logger.exception("Will try again", task_id=task.id)
                    self._table.postpone(task, _AGAIN)
                else:
                    if failed:
                        yield Outcome.FAILED

    def _count(self, seconds_left: Callable[[], float]) -> list[Exception]:
        """Fold the counts, and adopt the tasks of version 0.1.0; return what went wrong."""
        failures = []
        for step in (self._table.fold, self._table.adopt):
            try:
                step(seconds_left)
            except Exception as error:
                # The counts are right all the same, and the next sweep goes on.
                logger.exception("Could not %s", step.__name__)
                failures.append(error)
        return failures

    def _look_at(self, task: Task) -> bool:
        """Do for a task what has to be done; True where it ended as failed."""
        lease_left = task.lease_expires_at - self._clock()
        logger.info("Looking at a task", task_id=task.id, status=task.status.name, lease_left=lease_left)
        match task.status:
            case Status.ACCEPTED:
                self._queue.send(task.id)
                self._table.mark_waiting(task.id)
            case Status.RUNNING if lease_left > 0:
                self._table.postpone(task, timedelta(seconds=lease_left))
            case Status.RUNNING if task.parts_left:
                return self._look_at_parts(task)
            case Status.WAITING | Status.RUNNING:
                self._queue.send(task.id)
                since = max(task.updated_at.timestamp(), task.lease_expires_at)
                self._table.postpone(task, max(QUEUE_PATIENCE, timedelta(seconds=self._clock() - since)))
            case Status.SUCCEEDED | Status.FAILED | Status.DELETED:
                self._clean_up(task)
        return False

    def _clean_up(self, task: Task) -> None:
        """Remove all that an ended task has stored but its result; again when no worker can store more."""
        if task.status is Status.SUCCEEDED:
            self._store.remove_all_but(task.id, task.attempt)
            may_come_back = task.attempt > 1 or task.parts > 0
        else:
            self._store.remove_task(task.id)
            may_come_back = task.attempt > 0
        if task.parts:
            self._parts.remove(task)
        lingering = task.updated_at.timestamp() + LINGER.total_seconds() - self._clock()
        if may_come_back and lingering > 0:
            self._table.postpone(task, timedelta(seconds=lingering))
        else:
            self._table.settle(task)

    def _look_at_parts(self, task: Task) -> bool:
        parts, now = self._parts.all(task), self._clock()
        if len(parts) < task.parts:
            return self._parts.fail_incomplete(task, Failure.WORKER_LOST, WORKER_LOST_INFO)
        queued = [part for part in parts if part.number < task.parts_queued and not part.done]
        lease_ends = [part.lease_expires_at for part in queued if part.lease_expires_at > now]
        lost = [part for part in queued if 0 < part.lease_expires_at <= now and self._parts.take_back(part)]
        waiting = [(part, _due(part)) for part in queued if not part.lease_expires_at]
        late = [part for part, due in waiting if due <= now]
        more = self._parts.next_parts(task, self._window - len(queued))
        numbers = [*(part.number for part in (*lost, *late)), *more]
        self._queue.send_part(task.id, task.attempt, *numbers)
        self._parts.note_sent(task, numbers)
        # Also of a part that is on the queue now, the next worker may die.
        look = now + (SOON if numbers else QUEUE_PATIENCE).total_seconds()
        looks = [look, *lease_ends, *(due for _, due in waiting if due > now)]
        self._table.postpone(task, timedelta(seconds=min(looks) - now))
        return False


def _due(part: Part) -> float:
    """Return when a message of a part that waits is to be sent, seconds since the epoch."""
    patience = QUEUE_PATIENCE * 2 ** (part.sends - 1) if part.sends else timedelta(0)
    return part.sent_at + patience.total_seconds()
