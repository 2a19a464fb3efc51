"""The five calls of the API."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta

from aws_lambda_powertools import Logger

from transcoding.data.object_store import ObjectStore
from transcoding.data.queue import JobQueue
from transcoding.data.task_table import TaskTable
from transcoding.errors import ApiError, UnavailableError
from transcoding.model import Order, Task

#: Seconds. Together well within API Gateway's 29 s for a call.
DELETING_TIME = 12
REMOVING_TIME = 12
#: How many tasks are deleted, and have their objects removed, at a time.
_DELETERS, _REMOVERS = 8, 16
#: How much of an id that cannot be one is quoted.
_QUOTED = 40

logger = Logger(child=True)


def create(table: TaskTable, queue: JobQueue, order: Order, idempotency_key: str | None) -> Task:
    """Queue a task and store it. Raises ApiError (400) for a key that was used with other parameters.

    A message whose task could not be stored names none, and does nothing.
    """

    def send(task_id: str) -> bool:
        try:
            queue.send(task_id)
        except Exception:
            logger.exception("The sweep will queue the task", task_id=task_id)
            return False
        return True

    task, _ = table.create(order, idempotency_key, send)
    logger.info("created", task_id=task.id, origin_url=task.origin_url, format=task.format)
    return task


def find(table: TaskTable, task_id: str) -> Task:
    """Read a task. Raises ApiError (404)."""
    task = table.get(task_id) if _can_exist(task_id) else None
    if task is None:
        raise _no_such_task([task_id])
    return task


def page(table: TaskTable, number: int, limit: int) -> tuple[list[Task], int]:
    """Return a page of the tasks that are not deleted, newest first, and the exact number of all."""
    return table.page(number, limit)


def delete(table: TaskTable, store: ObjectStore, retention: timedelta, task_ids: list[str]) -> None:
    """Delete tasks and what they have stored. Raises ApiError (404) in the end if some never existed.

    After UnavailableError, some of them may be deleted. The same call deletes the others: a task that is
    deleted already is passed over.
    """
    deadline = time.monotonic() + DELETING_TIME
    deleted: set[str] = set()

    def delete_one(task_id: str) -> None:
        if time.monotonic() > deadline:
            raise UnavailableError("the database")
        if _can_exist(task_id) and table.delete(task_id, retention):
            deleted.add(task_id)
            logger.info("deleted", task_id=task_id)

    wanted = list(dict.fromkeys(task_ids))
    try:
        with ThreadPoolExecutor(_DELETERS) as pool:
            list(pool.map(delete_one, wanted))
    finally:
        _remove_objects(store, deleted)
    if unknown := [task_id for task_id in wanted if task_id not in deleted]:
        raise _no_such_task(unknown)


def _remove_objects(store: ObjectStore, task_ids: Iterable[str]) -> None:
    """Remove what deleted tasks have stored, as far as time allows; the sweep removes the rest."""
    pool = ThreadPoolExecutor(_REMOVERS)
    removals = [pool.submit(store.remove_task, task_id) for task_id in task_ids]
    done, late = wait(removals, REMOVING_TIME)
    pool.shutdown(wait=False, cancel_futures=True)
    failures = [error for removal in done if (error := removal.exception())]
    if late or failures:
        logger.warning("The sweep will remove the rest", late=len(late), failures=[str(e) for e in failures])


def _can_exist(task_id: str) -> bool:
    return re.fullmatch("[0-9a-z]{8}", task_id) is not None


def _no_such_task(task_ids: Iterable[str]) -> ApiError:
    return ApiError(404, f"no such task: {', '.join(task_id[:_QUOTED] for task_id in task_ids)}")
