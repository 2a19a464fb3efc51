"""A transcoding task and its parts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Literal


class Status(IntEnum):
    """The contract's task states."""

    ACCEPTED = -1
    WAITING = 0
    RUNNING = 1
    SUCCEEDED = 2
    FAILED = 3
    DELETED = 4


#: How many workers may take a task up before it fails, or the joining of its parts; and how often one of its
#: parts may end with an error.
MAX_ATTEMPTS = 3
#: How many workers may take a part up. By chance alone, three may be lost over one of a thousand parts, or
#: over the sound of hours, which is one.
MAX_TRIES = 6


@dataclass(frozen=True, slots=True)
class Order:
    """What a caller asks for.

    `codecs` names those of the picture, separated by a comma; empty: the format's default one. `thumbnails`:
    whether a poster and thumbnails are made. `callback_url`: where changes of its status are sent to; empty:
    nowhere.
    """

    origin_url: str
    quality: int
    format: str
    codecs: str = ""
    thumbnails: bool = False
    callback_url: str = ""


@dataclass(frozen=True, slots=True)
class OutputRendition:
    """One rendition of a result: of its picture or, where it has none, of its sound.

    `codec` is the codecs parameter of RFC 6381, of that stream alone. Bit rates are in bits per second; the
    peak is the largest of any segment or, in a file, of any run as long as one. `width` and `height` in
    pixels and `frame_rate`, frames per second, are 0 for sound.
    """

    codec: str
    bit_rate: int
    peak_bit_rate: int
    width: int = 0
    height: int = 0
    frame_rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Output:
    """What came out of a task: its length in seconds, the bytes of all its objects, renditions, best first.

    `poster` and `thumbnails` (WebVTT) are keys, empty where none were made.
    """

    duration: float
    bytes: int
    renditions: tuple[OutputRendition, ...]
    poster: str = ""
    thumbnails: str = ""


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
    #: The key of the result; where version 0.1.0 has stored it, its URL. Empty until the task has succeeded.
    target: str = ""
    error_code: int = 0
    error_info: str = ""
    #: How often a worker has taken the task up; also the name of the folder the attempt stores into.
    attempt: int = 0
    lease_owner: str = ""
    #: When the owner's lease ends, seconds since the epoch; 0 without a lease.
    lease_expires_at: float = 0.0
    #: How many parts it was cut into; 0 where one worker does all of it. Then, how many are not done, and how
    #: many, from number 0, are counted as queued.
    parts: int = 0
    parts_left: int = 0
    parts_queued: int = 0
    #: How often a worker has taken it up to join its parts.
    finishes: int = 0
    #: As in its `Order`.
    codecs: str = ""
    thumbnails: bool = False
    #: None until it has succeeded, and where a version that did not note it has made the result.
    output: Output | None = None
    callback_url: str = ""
    #: How often its status was set: 1 when it is created. 0 where an earlier version has stored it, and no
    #: other status since.
    sequence: int = 0


PartKind = Literal["picture", "sound"]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an attempt at a task, which one worker encodes.

    `start` and `end` (exclusive; None: the source's end) are ticks of the source's time base.
    """

    task_id: str
    attempt: int
    #: From 0, in the order in which parts are queued.
    number: int
    kind: PartKind
    start: int
    end: int | None
    #: How often a worker has taken it up.
    tries: int = 0
    #: How many of its tries have ended with an error, and not with the loss of the worker or of FFmpeg.
    faults: int = 0
    #: The worker that has it or, of a part that is done, the one that has done it.
    lease_owner: str = ""
    #: When the owner's lease ends, seconds since the epoch; 0 without a lease.
    lease_expires_at: float = 0.0
    done: bool = False
    #: How many messages were sent since it began to wait for a worker, and when the last one was, in seconds
    #: since the epoch. Both are 0 for a part that is counted as queued but may not have been sent.
    sends: int = 0
    sent_at: float = 0.0
    #: 0.0 to 1.0; the most that any worker has reached.
    progress: float = 0.0
