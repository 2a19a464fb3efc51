"""What a transcoding task is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum


class Status(IntEnum):
    """The contract's task states."""

    ACCEPTED = -1
    WAITING = 0
    RUNNING = 1
    SUCCEEDED = 2
    FAILED = 3
    DELETED = 4


#: How many workers may take a task up before it fails.
MAX_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Task:
    """A task as it is stored. Times are aware datetimes in UTC; `progress` is 0.0 to 1.0."""

    id: str
    origin_url: str
    quality: int
    format: str
    created_at: datetime
    updated_at: datetime
    status: Status = Status.ACCEPTED
    progress: float = 0.0
    target_url: str = ""
    error_code: int = 0
    error_info: str = ""
    #: How often a worker has taken the task up; also the name of the folder the attempt stores into.
    attempt: int = 0
    lease_owner: str = ""
    #: When the owner's lease ends, seconds since the epoch; 0 without a lease.
    lease_expires_at: float = 0.0
