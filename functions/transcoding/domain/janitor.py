"""What keeps tasks from being stuck or lost: the sweep, and the consumer of dead letters."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import timedelta

from aws_lambda_powertools import Logger

from transcoding.data.queue import JobQueue
from transcoding.data.storage import OutputStore
from transcoding.data.task_table import QUEUE_PATIENCE, TaskTable
from transcoding.domain.errors import WORKER_LOST_INFO, Failure, UnavailableError
from transcoding.domain.model import Status, Task

_BATCH = 100
#: The sweep ends when it has less than these seconds left.
_RESERVE = 10
#: When to try again what could not be done.
_AGAIN = timedelta(minutes=5)

logger = Logger(child=True)


class Sweep:
    """Looks at each task that is due, and does for it what should have happened by itself.

    Reads the index of tasks that need attention; sends messages, removes failed and deleted tasks' objects.
    """

    def __init__(
        self, table: TaskTable, queue: JobQueue, store: OutputStore, clock: Callable[[], float] = time.time
    ) -> None:
        self._table = table
        self._queue = queue
        self._store = store
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
            case Status.WAITING if backlog:
                # Its message may be one of those. A second would lengthen the queue, and each sweep more.
                self._table.postpone(task, QUEUE_PATIENCE)
            case Status.WAITING | Status.RUNNING:
                self._queue.send(task.id)
                self._table.postpone(task, QUEUE_PATIENCE)
            case Status.FAILED | Status.DELETED:
                self._store.remove_task(task.id)
                self._table.settle(task.id)


def bury(table: TaskTable, store: OutputStore, message: str) -> bool:
    """End the task of a message that no worker could deal with; False when there is nothing to end.

    Raises UnavailableError.
    """
    try:
        task_id = json.loads(message)["task_id"]
    except (ValueError, TypeError, KeyError):
        task_id = None
    if not isinstance(task_id, str) or not task_id:
        logger.error("Dropped a message that names no task", body=message)
        return False
    if not table.fail_unowned(task_id, Failure.WORKER_LOST, WORKER_LOST_INFO):
        return False
    try:
        store.remove_task(task_id)
    except UnavailableError:
        logger.warning("The sweep will remove the objects", task_id=task_id, exc_info=True)
    return True
