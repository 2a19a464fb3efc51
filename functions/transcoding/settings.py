"""The environment variables of each function, read and checked once when it starts."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo


class SettingsError(ValueError):
    """An environment variable is missing or wrong; the message names it."""


def _setting(read: Callable[[str], Any], **default: Any) -> Any:
    """Return a field. `read` returns the value of a variable's text, and raises ValueError if it is wrong."""
    return field(**default, metadata={"read": read})


def _text(value: str) -> str:
    if not value:
        raise ValueError("must not be empty")
    return value


def _number(kind: type[float], least: float) -> Callable[[str], float]:
    def read(value: str) -> float:
        number = kind(value)
        # Also false for what is not a number.
        if not number >= least:
            raise ValueError(f"must be {least} or more")
        return number

    return read


def _buckets(value: str) -> tuple[str, ...]:
    """Read names of buckets, or ARNs of them and of what is in them, with commas between."""
    names = (name.rpartition(":")[2].partition("/")[0] for name in value.split(","))
    return tuple(dict.fromkeys(name for name in names if name))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The environment of every function. Fields have the variables' names, in lower case."""

    table_name: str = _setting(_text)
    #: The zone of the times in responses.
    timezone: ZoneInfo = _setting(ZoneInfo, default=ZoneInfo("Asia/Shanghai"))  # noqa: RUF009

    @classmethod
    def read(cls) -> Self:
        """Return this process's settings. Raises SettingsError."""
        values = {}
        for setting in fields(cls):
            name = setting.name.upper()
            if name in os.environ:
                try:
                    values[setting.name] = setting.metadata["read"](os.environ[name])
                # ZoneInfo raises KeyError or OSError for a zone that does not exist.
                except (ValueError, KeyError, OSError) as error:
                    raise SettingsError(f"{name}: {error}") from error
            elif setting.default is MISSING:
                raise SettingsError(f"{name} is missing")
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class CreateSettings(Settings):
    """The environment of create_transcode."""

    queue_url: str = _setting(_text)


@dataclass(frozen=True, kw_only=True)
class InboxSettings(CreateSettings):
    """The environment of inbox."""

    #: What the objects of the watch folder become: as `format` and `task_config_temp_id` of create-transcode.
    inbox_format: str = _setting(_text)
    inbox_quality: int = _setting(_number(int, 1))


@dataclass(frozen=True, kw_only=True)
class ShowSettings(Settings):
    """The environment of get_transcode and get_transcodes."""

    #: The part of `target_url` before the object's key, without a slash at its end.
    output_base_url: str = _setting(_text)


@dataclass(frozen=True, kw_only=True)
class ConsoleSettings(ShowSettings):
    """The environment of console."""

    #: The URL of the upload bucket, or a pattern of it as a Content-Security-Policy has them.
    upload_url: str = _setting(_text)


@dataclass(frozen=True, kw_only=True)
class DeleteSettings(Settings):
    """The environment of delete_transcode and delete_transcodes."""

    output_bucket: str = _setting(_text)
    #: At least a day, so that a task outlives the idempotency key that it was created with.
    retention_days: int = _setting(_number(int, 1), default=30)

    @property
    def retention(self) -> timedelta:
        """How long a deleted task can still be looked up."""
        return timedelta(days=self.retention_days)


@dataclass(frozen=True, kw_only=True)
class UploadSettings(Settings):
    """The environment of complete_upload."""

    upload_bucket: str = _setting(_text)


@dataclass(frozen=True, kw_only=True)
class CreateUploadSettings(UploadSettings):
    """The environment of create_upload."""

    #: The most bytes of an upload.
    max_source_bytes: int = _setting(_number(int, 1))


@dataclass(frozen=True, kw_only=True)
class DeadLetterSettings(Settings):
    """The environment of dead_letter."""

    output_bucket: str = _setting(_text)


@dataclass(frozen=True, kw_only=True)
class NotifySettings(ShowSettings):
    """The environment of notify."""

    callback_queue_url: str = _setting(_text)


@dataclass(frozen=True, kw_only=True)
class CallbackSettings(Settings):
    """The environment of callback."""

    callback_queue_url: str = _setting(_text)
    callback_dead_letter_queue_url: str = _setting(_text)
    #: The name of the parameter, in Parameter Store, that has the key of the signatures.
    callback_key_name: str = _setting(_text)


@dataclass(frozen=True, kw_only=True)
class SweepSettings(Settings):
    """The environment of sweep."""

    queue_url: str = _setting(_text)
    output_bucket: str = _setting(_text)
    #: The most workers that run at once, and the most parts of one task that are queued at once.
    max_workers: int = _setting(_number(int, 1), default=10)


@dataclass(frozen=True, kw_only=True)
class WorkerSettings(Settings):
    """The environment of the worker."""

    queue_url: str = _setting(_text)
    output_bucket: str = _setting(_text)
    lease_seconds: int = _setting(_number(int, 5), default=60)
    #: The most workers that run at once, and the most parts of one task that are queued at once.
    max_workers: int = _setting(_number(int, 1), default=10)
    #: The length of a part, and of the longest source that one worker transcodes by itself, in seconds of
    #: 1080p at 30 frames a second. Smaller pictures are less work, so their parts are longer.
    part_seconds: float = _setting(_number(float, 1))
    fan_out_seconds: float = _setting(_number(float, 0))
    ffmpeg_dir: Path = _setting(Path, default=Path("/opt/bin"))  # noqa: RUF009
    #: The most bytes that the worker copies from an http(s) source.
    max_source_bytes: int = _setting(_number(int, 1))
    #: Patterns of the names of the buckets that sources are read from.
    source_buckets: tuple[str, ...] = _setting(_buckets, default=("*",))

    @property
    def lease(self) -> timedelta:
        """How long a worker owns its task after its last heartbeat."""
        return timedelta(seconds=self.lease_seconds)
