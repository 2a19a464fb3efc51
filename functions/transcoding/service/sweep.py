"""The sweep: moves on the tasks that are stuck."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from aws_lambda_powertools import Logger

from transcoding.data.object_store import ObjectStore
from transcoding.data.part_table import PartTable
from transcoding.data.queue import JobQueue
from transcoding.data.table import SOON
from transcoding.data.task_table import QUEUE_PATIENCE, TaskTable
from transcoding.errors import WORKER_LOST_INFO, Failure
from transcoding.model import Status, Task

_BATCH = 100
#: The sweep ends when it has less than these seconds left.
_RESERVE = 10
#: When to try again what could not be done.
_AGAIN = timedelta(minutes=5)
#: How long after a task's end the workers of its parts may store: as long as the longest lease.
PARTS_LINGER = timedelta(minutes=15)

logger = Logger(child=True)


class Sweep:
    """Looks at each task that is due, and does for it what should have happened by itself.

    Reads the index of tasks that need attention; sends messages, removes failed and deleted tasks' objects.
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

    def run(self, seconds_left: Callable[[], float]) -> int:
        """Look at all due tasks as long as time allows; return how many. Raises UnavailableError."""
        looked_at = 0
        backlog = self._queue.has_waiting()
        while batch := self._table.due(_BATCH):
            for task in batch:
                if seconds_left() < _RESERVE:
                    logger.warning("Out of time; the next sweep goes on")
                    return looked_at
                try:
                    self._look_at(task, backlog=backlog)
                except Exception:
                    # One task must not keep the sweep from the others.
                    logger.exception("Will try again", task_id=task.id)
                    self._table.postpone(task, _AGAIN)
                looked_at += 1
        return looked_at

    def _look_at(self, task: Task, *, backlog: bool) -> None:
        lease_left = task.lease_expires_at - self._clock()
        logger.info("Looking at a task", task_id=task.id, status=task.status.name, lease_left=lease_left)
        match task.status:
            case Status.ACCEPTED:
                self._queue.send(task.id)
                self._table.mark_waiting(task.id)
            case Status.RUNNING if lease_left > 0:
                self._table.postpone(task, timedelta(seconds=lease_left))
            case Status.RUNNING if task.parts_left:
                self._look_at_parts(task, backlog=backlog)
            case Status.WAITING if backlog:
                # Its message may be one of those. A second would lengthen the queue, and each sweep more.
                self._table.postpone(task, QUEUE_PATIENCE)
            case Status.WAITING | Status.RUNNING:
                self._queue.send(task.id)
                self._table.postpone(task, QUEUE_PATIENCE)
            case Status.FAILED | Status.DELETED:
                self._store.remove_task(task.id)
                self._parts.remove(task)
                lingering = task.updated_at.timestamp() + PARTS_LINGER.total_seconds() - self._clock()
                if task.parts and lingering > 0:
                    self._table.postpone(task, timedelta(seconds=lingering))
                    return
                self._table.settle(task.id)

    def _look_at_parts(self, task: Task, *, backlog: bool) -> None:
        parts, now = self._parts.all(task), self._clock()
        if len(parts) < task.parts:
            self._parts.fail_incomplete(task, Failure.WORKER_LOST, WORKER_LOST_INFO)
            return
        begun = [part for part in parts if part.number < task.parts_queued and not part.done]
        lease_ends = [part.lease_expires_at for part in begun if part.lease_expires_at > now]
        lost = [part for part in begun if 0 < part.lease_expires_at <= now]
        for part in lost:
            self._parts.take_back(part)
        # The message of a part that waits for a worker may be one of the backlog.
        waiting = [] if backlog else [part for part in begun if not part.lease_expires_at]
        stuck = [part.number for part in (*lost, *waiting)]
        for _ in range(min(task.parts - task.parts_queued, self._window - len(begun))):
            number = self._parts.next_part(task.id, task.attempt)
            if number is not None:
                stuck.append(number)
        self._queue.send_part(task.id, task.attempt, *stuck)
        # Also of a part that is on the queue now, the next worker may die.
        delays = [timedelta(seconds=end - now) for end in lease_ends]
        self._table.postpone(task, min([*delays, SOON if stuck else QUEUE_PATIENCE]))
