"""The worker's work: one task, from its source to its published result."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import suppress
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from aws_lambda_powertools import Logger

from transcoding.data.storage import OutputStore
from transcoding.data.task_table import TaskTable
from transcoding.domain.errors import Failure, LeaseLostError, TaskFailedError, UnavailableError
from transcoding.domain.heartbeat import Heartbeat
from transcoding.domain.model import Task
from transcoding.domain.transcode import Transcoder

#: Kept of an invocation's time for cleaning up, seconds.
_RESERVE = 30.0
_FOLDER_PREFIX = "transcoding-"
#: A folder this old belongs to a worker that was killed, seconds: no invocation lasts longer.
_STALE = 1800.0

logger = Logger(child=True)


class Outcome(StrEnum):
    """How a message ended; the values are names of metrics."""

    SUCCEEDED = "TasksSucceeded"
    FAILED = "TasksFailed"
    #: It was deleted, or taken over, while this worker had it.
    LOST = "TasksLost"
    #: There was nothing to do.
    IDLE = "MessagesIdle"


class RetryLaterError(Exception):
    """The task was given back: its message must come again."""


class Job:
    """Takes tasks up, one at a time, and brings each to an end."""

    def __init__(
        self,
        table: TaskTable,
        outputs: OutputStore,
        transcoder: Transcoder,
        *,
        base_url: str,
        lease: timedelta,
    ) -> None:
        self._table = table
        self._outputs = outputs
        self._transcoder = transcoder
        self._base_url = base_url
        self._lease = lease

    def run(self, task_id: str, owner: str, deadline: float) -> Outcome:
        """Do a task, if there is anything to do; `deadline` (`time.monotonic()`) is the invocation's end.

        Raises RetryLaterError when an attempt failed that another may not.
        """
        _remove_stale_folders()
        task = self._table.claim(task_id, owner, self._lease)
        if task is None:
            logger.info("nothing to do", task_id=task_id)
            return Outcome.IDLE
        logger.info("taken up", task_id=task.id, attempt=task.attempt, origin_url=task.origin_url)
        try:
            with Heartbeat(self._table, task, self._lease) as heartbeat:
                return self._attempt(task, heartbeat, deadline - _RESERVE)
        except LeaseLostError:
            logger.info("task lost", task_id=task.id, attempt=task.attempt)
            self._outputs.remove_attempt(task.id, task.attempt)
            return Outcome.LOST

    def _attempt(self, task: Task, heartbeat: Heartbeat, deadline: float) -> Outcome:
        def report(progress: float) -> None:
            heartbeat.report(progress)
            if time.monotonic() > deadline:
                raise TaskFailedError(
                    Failure.TIMED_OUT,
                    "The source takes longer to transcode than a worker has time. "
                    "Ask for a lower quality, or send it in parts.",
                )

        try:
            with tempfile.TemporaryDirectory(prefix=_FOLDER_PREFIX) as folder:
                key = self._transcoder.run(task, Path(folder), report, deadline)
            self._outputs.remove_all_but(task.id, task.attempt)
        except LeaseLostError:
            raise
        except TaskFailedError as failure:
            logger.warning("failed", task_id=task.id, error_code=int(failure.code), error_info=failure.info)
            self._remove_quietly(task)
            self._table.fail(task.id, task.lease_owner, failure.code, failure.info)
            return Outcome.FAILED
        except Exception:
            logger.exception("attempt failed", task_id=task.id, attempt=task.attempt)
            self._remove_quietly(task)
            again = self._table.release(
                task.id,
                task.lease_owner,
                Failure.INTERNAL,
                f"The service could not transcode the source in {task.attempt} attempts. "
                "Create the task again; if it fails again, tell the operators of the service its id.",
            )
            if again:
                raise RetryLaterError(task.id) from None
            return Outcome.FAILED
        try:
            self._table.succeed(task.id, task.lease_owner, f"{self._base_url}/{key}")
        except UnavailableError as error:
            # Whether it was written is not known, so what is stored must stay. If it was not, another worker
            # takes the task up when the lease is over, and removes it.
            raise RetryLaterError(task.id) from error
        logger.info("succeeded", task_id=task.id)
        return Outcome.SUCCEEDED

    def _remove_quietly(self, task: Task) -> None:
        with suppress(Exception):  # the sweep removes it then
            self._outputs.remove_attempt(task.id, task.attempt)


def _remove_stale_folders() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER_PREFIX}*"):
        with suppress(OSError):
            if folder.stat().st_mtime < time.time() - _STALE:
                shutil.rmtree(folder)
