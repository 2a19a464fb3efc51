"""The environment variables of each function, read and checked once when it starts."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(min_length=1)]


class Settings(BaseModel):
    """The environment of every function. Fields have the variables' names, in lower case."""

    model_config = ConfigDict(frozen=True, alias_generator=str.upper)

    table_name: Name
    #: The zone of the times in responses.
    timezone: ZoneInfo = ZoneInfo("Asia/Shanghai")

    @classmethod
    def read(cls) -> Self:
        """Return this process's settings. Raises pydantic's ValidationError, which names the variable."""
        return cls.model_validate(dict(os.environ))


class CreateSettings(Settings):
    """The environment of create_transcode."""

    queue_url: Name


class ShowSettings(Settings):
    """The environment of get_transcode and get_transcodes."""

    #: The part of `target_url` before the object's key, without a slash at its end.
    output_base_url: Name


class DeleteSettings(Settings):
    """The environment of delete_transcode and delete_transcodes."""

    output_bucket: Name
    #: At least a day, so that a task outlives the idempotency key that it was created with.
    retention_days: Annotated[int, Field(ge=1)] = 30

    @property
    def retention(self) -> timedelta:
        """How long a deleted task can still be looked up."""
        return timedelta(days=self.retention_days)


class DeadLetterSettings(Settings):
    """The environment of dead_letter."""

    output_bucket: Name


class SweepSettings(Settings):
    """The environment of sweep."""

    queue_url: Name
    output_bucket: Name
    #: The most workers that run at once, and the most parts of one task that are queued at once.
    max_workers: Annotated[int, Field(ge=1)] = 10


class WorkerSettings(Settings):
    """The environment of the worker."""

    queue_url: Name
    output_bucket: Name
    lease_seconds: Annotated[int, Field(ge=5)] = 60
    #: The most workers that run at once, and the most parts of one task that are queued at once.
    max_workers: Annotated[int, Field(ge=1)] = 10
    #: The length of a part, and of the longest source that one worker transcodes by itself, in seconds of
    #: 1080p at 30 frames a second. Smaller pictures are less work, so their parts are longer.
    part_seconds: Annotated[float, Field(ge=1)]
    fan_out_seconds: Annotated[float, Field(ge=0)]
    ffmpeg_dir: Path = Path("/opt/bin")
    #: The most bytes that the worker copies from an http(s) source.
    max_source_bytes: Annotated[int, Field(gt=0)]

    @property
    def lease(self) -> timedelta:
        """How long a worker owns its task after its last heartbeat."""
        return timedelta(seconds=self.lease_seconds)
