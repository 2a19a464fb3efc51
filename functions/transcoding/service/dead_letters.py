"""The consumer of dead letters: ends the tasks whose messages no worker could process."""

from __future__ import annotations

import json

from aws_lambda_powertools import Logger

from transcoding.data.object_store import ObjectStore
from transcoding.data.part_table import PartTable
from transcoding.data.task_table import TaskTable
from transcoding.errors import WORKER_LOST_INFO, Failure, UnavailableError
from transcoding.service.outcomes import Outcome

logger = Logger(child=True)


def bury(table: TaskTable, parts: PartTable, store: ObjectStore, message: str) -> tuple[Outcome, ...]:
    """End the task of a message that no worker could process, if there is anything to end.

    Raises UnavailableError.
    """
    match _parse(message):
        case {"task_id": str(task_id), "step": "part", "attempt": int(attempt), "part": int(part)} if task_id:
            failed = parts.fail_unowned(task_id, attempt, part, Failure.WORKER_LOST, WORKER_LOST_INFO)
        case {"task_id": str(task_id), "step": "transcode"} if task_id:
            failed = table.fail_unowned(task_id, Failure.WORKER_LOST, WORKER_LOST_INFO)
        case _:
            logger.error("Dropped a message that names no task", body=message)
            return (Outcome.IDLE,)
    if not failed:
        return (Outcome.IDLE,)
    try:
        store.remove_task(task_id)
    except UnavailableError:
        logger.warning("The sweep will remove the objects", task_id=task_id, exc_info=True)
    return Outcome.BURIED, Outcome.FAILED


def _parse(message: str) -> object:
    try:
        return json.loads(message)
    except ValueError:
        return None
