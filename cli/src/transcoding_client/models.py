"""What the service answers. Fields that a newer service adds are kept, as attributes too."""

from __future__ import annotations

from datetime import datetime
from enum import IntEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, PlainSerializer


def _iso(time: datetime) -> str:
    return time.isoformat()


#: As the service spells it.
Time = Annotated[datetime, PlainSerializer(_iso, return_type=str, when_used="json")]


class Quality(IntEnum):
    """The `task_config_temp_id` of a task: a limit of the shorter side. Nothing is scaled up."""

    P360 = 1
    P480 = 2
    P720 = 3
    P1080 = 4
    #: As the source.
    SOURCE = 5
    #: Every quality up to the source's, in one result.
    ADAPTIVE = 6


class Status(IntEnum):
    """The state of a task."""

    #: Not yet on the queue.
    ACCEPTED = -1
    WAITING = 0
    RUNNING = 1
    SUCCEEDED = 2
    FAILED = 3
    DELETED = 4

    @property
    def is_final(self) -> bool:
        """Whether a task stays in it (one that has ended may still be deleted)."""
        return self >= Status.SUCCEEDED


class _Answer(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class Rendition(_Answer):
    """A stream of the result that a player may choose. Of sound only, sizes and frame rate are None."""

    codec: str
    #: Bits per second.
    bit_rate: int
    #: Bits per second, of any segment, or 6 s of a file.
    peak_bit_rate: int
    #: Pixels.
    width: int | None = None
    height: int | None = None
    #: Frames per second.
    frame_rate: float | None = None


class Output(_Answer):
    """What came out of a task that has succeeded."""

    #: Seconds.
    duration: float
    #: Of all objects.
    bytes: int
    #: The best first.
    renditions: list[Rendition]
    #: Empty where none was made.
    poster_url: str
    #: WebVTT; empty where none were made.
    thumbnails_url: str


class Task(_Answer):
    """A task."""

    id: str
    created_at: Time
    updated_at: Time
    task_config_temp_id: int
    origin_url: str
    #: Empty until the task has succeeded.
    target_url: str
    format: str
    status: Status
    #: 0.0 to 1.0.
    progress: float
    #: 0 unless the task has failed.
    error_code: int
    error_info: str
    #: None until the task has succeeded, and in lists.
    output: Output | None = None


class TaskPage(_Answer):
    """A page of the list, newest first, and the number of all tasks."""

    results: list[Task]
    count: int


class Created(_Answer):
    """The id of a new task."""

    id: str


class Uploaded(_Answer):
    """The `origin_url` of an upload that is complete."""

    origin_url: str


class UploadParts(_Answer):
    """Consecutive parts of an upload: a URL for each and its ETag, empty where S3 does not have it."""

    upload_id: str
    origin_url: str
    #: Bytes of each part but the last.
    part_size: int
    urls: list[str]
    etags: list[str]
