"""The bodies of the API's requests and responses."""

from __future__ import annotations

from datetime import tzinfo
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from transcoding.api.fields import FormatName, Quality, SourceUrl, TaskId, TaskIds
from transcoding.errors import Failure
from transcoding.model import Task

_ID = "17lok52y"
_TIME = "2010-11-22T15:16:17+08:00"


class Request(BaseModel):
    """A request body. Unknown fields are ignored."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, body: dict[str, Any]) -> dict[str, Any]:
        """Treat a field that is null as absent."""
        return {name: value for name, value in body.items() if value is not None}


class CreateTranscode(Request):
    """What to transcode, and into what."""

    origin_url: Annotated[
        SourceUrl,
        Field(
            description="The source: `s3://bucket/key` or an `http(s)` URL.",
            examples=["s3://my-bucket/holiday.mov", "https://example.com/holiday.mp4"],
        ),
    ]
    task_config_temp_id: Annotated[
        Quality,
        Field(
            description="The quality: 1 is 360p, 2 is 480p, 3 is 720p, 4 is 1080p, 5 is the source's own. "
            "It limits the shorter side; nothing is scaled up.",
            examples=[3],
        ),
    ] = 5
    format: Annotated[FormatName, Field(description="The format of the result.", examples=["m3u8"])] = "m3u8"


class DeleteTranscode(Request):
    """Which task to delete."""

    id: Annotated[TaskId, Field(description="The task's id.", examples=[_ID])]


class DeleteTranscodes(Request):
    """Which tasks to delete."""

    ids: Annotated[
        TaskIds,
        Field(
            description="Up to 100 ids, separated by commas. Spaces and repeated ids are ignored.",
            examples=["17lok52y,82md0xk1"],
        ),
    ]


def _require_all(schema: dict[str, Any]) -> None:
    """Mark all fields as required, also those with a default: a response always has them."""
    schema["required"] = list(schema["properties"])


class Answer(BaseModel):
    """The response of a call that succeeds."""

    model_config = ConfigDict(json_schema_extra=_require_all)

    errcode: Annotated[Literal[1000], Field(description="1000: success.")] = 1000
    msg: Literal["OK"] = "OK"


class Refusal(BaseModel):
    """The response of a call that is refused or fails."""

    errcode: Annotated[int, Field(description="1000 + the HTTP status.", ge=1400, le=1599, examples=[1400])]
    msg: Annotated[
        str,
        Field(
            description="What is wrong, and in which parameter.",
            examples=["task_config_temp_id: must be a whole number from 1 to 5"],
        ),
    ]


class Transcoding(BaseModel):
    """A task."""

    id: Annotated[str, Field(pattern="^[0-9a-z]{8}$", examples=[_ID])]
    created_at: Annotated[
        str, Field(description="ISO 8601, to the second, with an offset.", examples=[_TIME])
    ]
    updated_at: Annotated[
        str, Field(description="ISO 8601, to the second, with an offset.", examples=[_TIME])
    ]
    task_config_temp_id: Annotated[int, Field(description="The quality, 1 to 5.", ge=1, le=5, examples=[3])]
    origin_url: Annotated[str, Field(description="The source.", examples=["s3://my-bucket/holiday.mov"])]
    target_url: Annotated[
        str,
        Field(
            description="The result; empty until the task has succeeded.",
            examples=["https://media.example.com/outputs/17lok52y/1/master.m3u8"],
        ),
    ]
    format: Annotated[str, Field(examples=["m3u8"])]
    status: Annotated[
        int,
        Field(
            description="-1: accepted, 0: waiting, 1: being transcoded, 2: succeeded, 3: failed, 4: deleted.",
            ge=-1,
            le=4,
            examples=[2],
        ),
    ]
    progress: Annotated[
        float, Field(description="0.0 to 1.0; 1.0 when the task has succeeded.", ge=0, le=1, examples=[1.0])
    ]
    error_code: Annotated[
        int,
        Field(
            description="0 unless the task has failed. "
            + ", ".join(f"{code.value}: {code.name.lower().replace('_', ' ')}" for code in Failure)
            + ".",
            examples=[0],
        ),
    ]
    error_info: Annotated[
        str,
        Field(
            description="Empty unless the task has failed: why it failed, and what to do about it.",
            examples=[""],
        ),
    ]

    @classmethod
    def of(cls, task: Task, zone: tzinfo, base_url: str) -> Self:
        """Return what the API shows of a task, with its times in a zone and its result under a URL."""
        is_key = task.target and "://" not in task.target
        return cls(
            id=task.id,
            created_at=task.created_at.astimezone(zone).isoformat(timespec="seconds"),
            updated_at=task.updated_at.astimezone(zone).isoformat(timespec="seconds"),
            task_config_temp_id=task.quality,
            origin_url=task.origin_url,
            target_url=f"{base_url}/{task.target}" if is_key else task.target,
            format=task.format,
            status=task.status,
            progress=task.progress,
            error_code=task.error_code,
            error_info=task.error_info,
        )


class Created(Answer):
    """The response to create-transcode."""

    id: Annotated[str, Field(description="The new task's id.", pattern="^[0-9a-z]{8}$", examples=[_ID])]


class Found(Answer):
    """The response to get-transcode."""

    transcoding: Transcoding


class Listed(Answer):
    """The response to get-transcodes."""

    results: Annotated[list[Transcoding], Field(description="The tasks of the page, newest first.")]
    count: Annotated[int, Field(description="The number of all tasks in the list.", ge=0, examples=[33])]


class Deleted(Answer):
    """The response to delete-transcode and delete-transcodes."""
