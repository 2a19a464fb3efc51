"""What calls raise."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transcoding_client.models import Task


class TranscodingError(Exception):
    """Any error of this package. The message can be shown to a user."""


class UnknownServiceError(TranscodingError):
    """Nothing says which service to talk to, or with which key."""


class RefusedError(TranscodingError):
    """The service refuses the call. `errcode` is 1000 + the HTTP status, `msg` says what is wrong."""

    def __init__(self, errcode: int, msg: str) -> None:
        super().__init__(msg)
        self.errcode = errcode
        self.msg = msg


class ApiKeyError(RefusedError):
    """The API key is missing or wrong (1403)."""


class NotFoundError(RefusedError):
    """There is no such task or upload (1404)."""


class UnavailableError(TranscodingError):
    """The service did not answer, or answered 429 or 5xx, and did so again when the call was repeated.

    `errcode` is None where what answered, if anything did, is not the service. What the call asked for may
    have been done all the same.
    """

    def __init__(self, msg: str, errcode: int | None = None) -> None:
        super().__init__(msg)
        self.errcode = errcode
        self.msg = msg


class UploadError(TranscodingError):
    """An upload was broken off. `Client.upload` with this `upload_id` goes on with it, within a day."""

    def __init__(self, msg: str, upload_id: str) -> None:
        super().__init__(msg)
        self.upload_id = upload_id


class FileChangedError(UploadError):
    """The file is not, or not any more, the one that the upload was begun with."""


class TaskFailedError(TranscodingError):
    """The task has failed: the `error_info` of `task` says why, and what to do about it."""

    def __init__(self, task: Task) -> None:
        super().__init__(f"{task.id} failed ({task.error_code}): {task.error_info}")
        self.task = task


class TaskDeletedError(TranscodingError):
    """The task was deleted."""

    def __init__(self, task: Task) -> None:
        super().__init__(f"{task.id} was deleted")
        self.task = task


class WaitTimeoutError(TranscodingError, TimeoutError):
    """The task was not done in time; it goes on. `task` is what it was last."""

    def __init__(self, task: Task, seconds: float) -> None:
        super().__init__(f"{task.id} was not done within {seconds:g} s; it goes on")
        self.task = task
