"""The bodies of the API's responses.

docs/openapi.py makes their schemas from the annotations. While the service runs they are text, which costs a
start nothing.
"""

from __future__ import annotations

from datetime import tzinfo
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from transcoding import model
from transcoding.errors import Failure
from transcoding.model import Task

_ID: dict[str, Any] = {"pattern": "^[0-9a-z]{8}$", "examples": ["17lok52y"]}
_TIME = {
    "description": "ISO 8601, to the second, with an offset.",
    "examples": ["2010-11-22T15:16:17+08:00"],
}
_CODES = ", ".join(f"{code.value}: {code.name.lower().replace('_', ' ')}" for code in Failure)


class Answer(TypedDict):
    """The response of a call that succeeds."""

    errcode: Annotated[Literal[1000], {"description": "1000: success.", "default": 1000}]
    msg: Annotated[Literal["OK"], {"default": "OK"}]


class Refusal(TypedDict):
    """The response of a call that is refused or fails."""

    errcode: Annotated[
        int,
        {"maximum": 1599, "minimum": 1400, "description": "1000 + the HTTP status.", "examples": [1400]},
    ]
    msg: Annotated[
        str,
        {
            "description": "What is wrong, and in which parameter.",
            "examples": ["task_config_temp_id: must be a whole number from 1 to 5"],
        },
    ]


class Transcoding(TypedDict):
    """A task."""

    id: Annotated[str, _ID]
    created_at: Annotated[str, _TIME]
    updated_at: Annotated[str, _TIME]
    task_config_temp_id: Annotated[
        int, {"maximum": 6, "minimum": 1, "description": "The quality, 1 to 6.", "examples": [3]}
    ]
    origin_url: Annotated[str, {"description": "The source.", "examples": ["s3://my-bucket/holiday.mov"]}]
    target_url: Annotated[
        str,
        {
            "description": "The result; empty until the task has succeeded.",
            "examples": ["https://media.example.com/outputs/17lok52y/1/master.m3u8"],
        },
    ]
    format: Annotated[str, {"examples": ["m3u8"]}]
    status: Annotated[
        int,
        {
            "maximum": 4,
            "minimum": -1,
            "description": "-1: accepted, 0: waiting, 1: being transcoded, 2: succeeded, 3: failed, "
            "4: deleted.",
            "examples": [2],
        },
    ]
    progress: Annotated[
        float,
        {
            "maximum": 1,
            "minimum": 0,
            "description": "0.0 to 1.0; 1.0 when the task has succeeded.",
            "examples": [1],
        },
    ]
    error_code: Annotated[int, {"description": f"0 unless the task has failed. {_CODES}.", "examples": [0]}]
    error_info: Annotated[
        str,
        {
            "description": "Empty unless the task has failed: why it failed, and what to do about it.",
            "examples": [""],
        },
    ]


class Rendition(TypedDict):
    """A stream of the result that a player may choose."""

    width: NotRequired[Annotated[int, {"description": "Of a picture: pixels.", "examples": [1280]}]]
    height: NotRequired[Annotated[int, {"description": "Of a picture: pixels.", "examples": [720]}]]
    frame_rate: NotRequired[
        Annotated[float, {"description": "Of a picture: frames per second.", "examples": [29.97]}]
    ]
    codec: Annotated[
        str, {"description": "As in CODECS of playlists (RFC 6381).", "examples": ["avc1.64001f"]}
    ]
    bit_rate: Annotated[int, {"description": "Bits per second, on average.", "examples": [1_800_000]}]
    peak_bit_rate: Annotated[
        int,
        {"description": "Bits per second, of any segment, or 6 s of a file.", "examples": [2_900_000]},
    ]


class Output(TypedDict):
    """What came out of a task that has succeeded."""

    duration: Annotated[float, {"description": "Seconds.", "examples": [59.96]}]
    bytes: Annotated[int, {"description": "Of all objects.", "examples": [14_600_000]}]
    renditions: Annotated[list[Rendition], {"description": "The best first; of sound only without pictures."}]
    poster_url: Annotated[str, {"description": "A JPEG; empty where none was made.", "examples": [""]}]
    thumbnails_url: Annotated[str, {"description": "WebVTT; empty where none were made.", "examples": [""]}]


class DescribedTranscoding(Transcoding):
    """A task, and what came out."""

    output: Annotated[
        Output | None,
        {"description": "null unless the task has succeeded, and of tasks of version 0.1.0."},
    ]


class Created(Answer):
    """The response to create-transcode."""

    id: Annotated[str, {"description": "The new task's id."} | _ID]


class Found(Answer):
    """The response to get-transcode."""

    transcoding: DescribedTranscoding


class Listed(Answer):
    """The response to get-transcodes."""

    results: Annotated[list[Transcoding], {"description": "The tasks of the page, newest first."}]
    count: Annotated[
        int, {"minimum": 0, "description": "The number of all tasks in the list.", "examples": [33]}
    ]


class Deleted(Answer):
    """The response to delete-transcode and delete-transcodes."""


class UploadParts(Answer):
    """The response to create-upload."""

    upload_id: Annotated[
        str,
        {
            "description": "What the other calls of this upload take.",
            "examples": ["WyI1ZTYzYTNjMSIsIjJ-aGl2UCIsMTIzNDU2Nzhd"],
        },
    ]
    origin_url: Annotated[
        str,
        {
            "description": "The `origin_url` for create-transcode, once the upload is complete.",
            "examples": ["s3://uploads-5e63a3c1/0123456789abcdef0123456789abcdef/holiday.mov"],
        },
    ]
    part_size: Annotated[
        int,
        {
            "minimum": 8388608,
            "description": "Bytes of each part but the last one, which has the rest.",
            "examples": [8388608],
        },
    ]
    urls: Annotated[
        list[str],
        {
            "maxItems": 1000,
            "description": "One a part, from `first_part` on. Each takes its part by PUT, with exactly its "
            "bytes and without the API key, and answers with the header ETag. Valid for a day, or until the "
            "session of the function that signed it ends, which may be sooner: where S3 answers 403, ask for "
            "the URLs again.",
        },
    ]
    etags: Annotated[
        list[str],
        {
            "maxItems": 1000,
            "description": "The ETag of each part of `urls` that S3 has already; empty for those to be sent.",
            "examples": [["9b2cf535f27731c974343645a3985328", ""]],
        },
    ]


class Uploaded(Answer):
    """The response to complete-upload."""

    origin_url: Annotated[
        str,
        {
            "description": "The `origin_url` for create-transcode.",
            "examples": ["s3://uploads-5e63a3c1/0123456789abcdef0123456789abcdef/holiday.mov"],
        },
    ]


OK = Answer(errcode=1000, msg="OK")


def transcoding(task: Task, zone: tzinfo, base_url: str) -> Transcoding:
    """Return what the API shows of a task, with its times in a zone and its result under a URL."""
    is_key = task.target and "://" not in task.target
    return {
        "id": task.id,
        "created_at": task.created_at.astimezone(zone).isoformat(timespec="seconds"),
        "updated_at": task.updated_at.astimezone(zone).isoformat(timespec="seconds"),
        "task_config_temp_id": task.quality,
        "origin_url": task.origin_url,
        "target_url": f"{base_url}/{task.target}" if is_key else task.target,
        "format": task.format,
        "status": task.status,
        "progress": task.progress,
        "error_code": task.error_code,
        "error_info": task.error_info,
    }


def described(task: Task, zone: tzinfo, base_url: str) -> DescribedTranscoding:
    """Return what the API shows of a task, as `transcoding`, with what came out of it."""
    return {**transcoding(task, zone, base_url), "output": _output(task.output, base_url)}


def _output(output: model.Output | None, base_url: str) -> Output | None:
    if output is None:
        return None
    return {
        "duration": output.duration,
        "bytes": output.bytes,
        "renditions": [_rendition(rendition) for rendition in output.renditions],
        "poster_url": output.poster and f"{base_url}/{output.poster}",
        "thumbnails_url": output.thumbnails and f"{base_url}/{output.thumbnails}",
    }


def _rendition(made: model.OutputRendition) -> Rendition:
    rates: Rendition = {"codec": made.codec, "bit_rate": made.bit_rate, "peak_bit_rate": made.peak_bit_rate}
    if not made.width:
        return rates
    return {"width": made.width, "height": made.height, "frame_rate": made.frame_rate, **rates}
