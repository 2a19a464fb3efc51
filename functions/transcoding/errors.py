"""The errors that modules of several layers raise and handle, and the table of failure codes."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType


class Failure(IntEnum):
    """Why a task failed: the `error_code` of a task with status 3. Codes never change their meaning.

    1xxx: the source could not be fetched. 2xxx: the source cannot be transcoded as asked.
    3xxx: the service could not do the work.
    """

    SOURCE_NOT_FOUND = 1001
    SOURCE_FORBIDDEN = 1002
    SOURCE_UNREACHABLE = 1003
    SOURCE_ADDRESS_REFUSED = 1004
    SOURCE_TOO_LARGE = 1005
    SOURCE_TIMED_OUT = 1006
    SOURCE_EMPTY = 1007
    SOURCE_CHANGED = 1008
    NOT_MEDIA = 2001
    NO_STREAMS = 2002
    ENCRYPTED = 2003
    CODEC_UNSUPPORTED = 2004
    DAMAGED = 2005
    DIMENSIONS_UNSUPPORTED = 2006
    FORMAT_NEEDS_PICTURE = 2007
    FORMAT_NEEDS_SOUND = 2008
    TOO_LONG = 2009
    TIMED_OUT = 3001
    WORKER_LOST = 3002
    INTERNAL = 3003
    STORAGE_FULL = 3004
    MEMORY_FULL = 3005


#: The `error_info` of WORKER_LOST.
WORKER_LOST_INFO = (
    "The workers that took this task up were all lost before they were done. Create the task again; if that "
    "fails too, the source is probably too large or too demanding for a worker: try a lower quality."
)

#: The `error_info` where a worker has too little storage or memory.
SHORTAGE_INFO: Mapping[Failure, str] = MappingProxyType(
    {
        Failure.STORAGE_FULL: (
            "The result does not fit into a worker's temporary storage. Ask for m3u8 or mpd, which take "
            "little of it, or for a lower quality; or deploy the service with a larger WorkerStorage."
        ),
        Failure.MEMORY_FULL: (
            "Transcoding the source takes more memory than a worker has. Ask for a lower quality, or deploy "
            "the service with a larger WorkerMemory. If its picture is small, it is damaged: export it again."
        ),
    }
)


class TaskFailedError(Exception):
    """The task cannot succeed, however often it is tried.

    `info` is shown to the user as `error_info`: what is wrong, and what to do about it.
    """

    def __init__(self, code: Failure, info: str) -> None:
        super().__init__(f"{code.name}: {info}")
        self.code = code
        self.info = info


class ApiError(Exception):
    """A call that is refused; `status` is the HTTP status, `msg` says what is wrong."""

    def __init__(self, status: int, msg: str) -> None:
        super().__init__(msg)
        self.status = status
        self.msg = msg


class LeaseLostError(Exception):
    """The worker no longer owns its task: it was deleted, or another worker has taken it over."""


class EncoderLostError(OSError):
    """FFmpeg was killed, by whom is not known: nothing is said of the source."""


class UnknownTaskError(Exception):
    """There is no such task, or not yet: its message is sent before it is stored."""


class UnknownUploadError(Exception):
    """S3 has no such upload: it never was, is complete, or was removed."""


class StaleAttemptError(Exception):
    """What an attempt has stored cannot be used: another version of the service stored some of it.

    The task is to be planned again.
    """


class OutOfTimeError(Exception):
    """The invocation ends before the work is done."""


class UnavailableError(Exception):
    """A backing service did not answer, or refused for now; the same call may succeed later.

    Where it did not answer, the call may have had its effect.
    """

    def __init__(self, service: str) -> None:
        super().__init__(f"{service} is not available")
        self.service = service
