"""The API's parameters. Each validates a value, words its refusal and has a JSON Schema.

A refusal is a phrase that follows the parameter's name: "must be a whole number from 1 to 5". Values are
matched against the same patterns that the OpenAPI description shows.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from transcoding.media.planning.formats import FORMATS
from transcoding.web import is_public

MAX_URL_LENGTH = 2048
MAX_IDS = 100
MAX_KEY_LENGTH = 255
MAX_NAME_LENGTH = 255
MAX_ETAGS = 10_000

_PORT = "[0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"
_S3_URL = r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[^\x00-\x1f\x7f-\x9f]+"
_HTTP_URL = rf"https?://[A-Za-z0-9][A-Za-z0-9._-]{{0,252}}(:({_PORT}))?([/?#][^\x00-\x20\x7f-\xa0]*)?"
_URL = f"^({_S3_URL}|{_HTTP_URL})$"
_CALLBACK_URL = f"^{_HTTP_URL}$"
_KEY = "^[!-~]([ -~]{0,253}[!-~])?$"
#: The codecs of which there is a choice.
_CODECS = list(dict.fromkeys(codec.name for target in FORMATS.values() for codec in target.codec_choices))
_CODEC = "|".join(_CODECS)
_ETAG = '^"?[0-9a-f]{32}"?$'
_BLANKS = " \t\r\n"


class RefusedError(ValueError):
    """A value that is not valid; the message is the phrase that says why."""


class Parameter(NamedTuple):
    """A parameter of a call.

    `read` returns what a valid value means and raises RefusedError for others. `schema` is the JSON Schema of
    the valid ones. A parameter that is absent means `default`, unless it is `required`.
    """

    name: str
    description: str
    read: Callable[[Any], Any]
    schema: Mapping[str, Any]
    examples: tuple[object, ...] = ()
    required: bool = False
    default: Any = None

    @property
    def argument(self) -> str:
        """The name of the argument that the function of a call takes it as."""
        return self.name.replace("-", "_")


class Body(NamedTuple):
    """The body of a request: a JSON object. Unknown fields are ignored; a field that is null is absent."""

    name: str
    description: str
    fields: tuple[Parameter, ...]


def _whole_number(digits: str, phrase: str) -> Callable[[Any], int]:
    """Return a reader of whole numbers. `digits` is the pattern of those in range, `phrase` the refusal."""

    def read(value: Any) -> int:
        # To JSON Schema, 3.0 is an integer. To Python, True is one; to JSON it is not.
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not re.fullmatch(digits, value):
            raise RefusedError(phrase)
        return int(value)

    return read


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise RefusedError("must be a string")
    if not value:
        raise RefusedError("must not be empty")
    return value


def _source_url(value: Any) -> str:
    return _url(value, _URL, ("s3", "http", "https"))


def _callback_url(value: Any) -> str:
    url = _url(value, _CALLBACK_URL, ("http", "https"))
    if not _may_be_public(urlsplit(url).hostname or ""):
        raise RefusedError("must be on the public Internet")
    return url


def _may_be_public(host: str) -> bool:
    """Return whether a host is a public address, or a name: where that leads shows when it is called."""
    host = host.removesuffix(".")
    if host == "localhost" or host.endswith(".localhost"):
        return False
    try:
        # Also in the spellings that only systems know: decimal, octal, with fewer than four numbers.
        return is_public(ip_address(socket.inet_aton(host)))
    except (OSError, ValueError):
        return True


def _url(value: Any, pattern: str, schemes: tuple[str, ...]) -> str:
    url = _text(value)
    if len(url) > MAX_URL_LENGTH:
        raise RefusedError(f"must have at most {MAX_URL_LENGTH} characters")
    if re.fullmatch(pattern, url):
        return url
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in schemes:
        *others, last = (f"{name}://" for name in schemes)
        raise RefusedError(f"must start with {', '.join(others)} or {last}")
    if re.search(r"[\x00-\x1f\x7f-\x9f]", url):
        raise RefusedError("must not have control characters")
    if scheme == "s3":
        raise RefusedError("must be s3://bucket/key, with the name of a bucket as S3 allows it")
    if re.search(r"[\x20\xa0]", url):
        raise RefusedError("must not have spaces; they are written %20 in a URL")
    if "@" in re.split("[/?#]", rest)[0]:
        raise RefusedError("must not have a user name or password in it")
    raise RefusedError("must have a host name or an IPv4 address, and a port from 0 to 65535 if any")


def _format(value: Any) -> str:
    if not isinstance(value, str) or value not in FORMATS:
        raise RefusedError(f"must be one of {', '.join(FORMATS)}")
    return value


def _codecs(value: Any) -> tuple[str, ...]:
    if not isinstance(value, str) or not re.fullmatch(f"({_CODEC})( *, *({_CODEC}))?", value):
        raise RefusedError(f"must be one of {', '.join(_CODECS)}, or two of them with a comma")
    names = tuple(name.strip() for name in value.split(","))
    if len(set(names)) < len(names):
        raise RefusedError("must not name a codec twice")
    return names


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise RefusedError("must be true or false")
    return value


def _ids(value: Any) -> list[str]:
    if not isinstance(value, str):
        raise RefusedError("must be a string of ids separated by commas")
    ids = list(dict.fromkeys(id_ for piece in value.split(",") if (id_ := piece.strip(_BLANKS))))
    if not ids:
        raise RefusedError("must have at least one id")
    if len(ids) > MAX_IDS:
        raise RefusedError(f"must have at most {MAX_IDS} different ids, has {len(ids)}")
    return ids


def _key(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(_KEY, value):
        raise RefusedError(f"must have 1 to {MAX_KEY_LENGTH} characters, all of them printable ASCII")
    return value


def _name(value: Any) -> str:
    name = _text(value)
    if len(name) > MAX_NAME_LENGTH:
        raise RefusedError(f"must have at most {MAX_NAME_LENGTH} characters")
    return name


def _etags(value: Any) -> list[str]:
    if not isinstance(value, list) or not value:
        raise RefusedError("must be a list of the parts' ETags")
    if len(value) > MAX_ETAGS:
        raise RefusedError(f"must have at most {MAX_ETAGS} ETags, has {len(value)}")
    for number, etag in enumerate(value, 1):
        if not isinstance(etag, str) or not re.fullmatch(_ETAG, etag):
            raise RefusedError(f"that of part {number} must be 32 hexadecimal digits, as S3 answers them")
    return [etag.strip('"') for etag in value]


ORIGIN_URL = Parameter(
    "origin_url",
    "The source: `s3://bucket/key` or an `http(s)` URL.",
    _source_url,
    {"type": "string", "maxLength": MAX_URL_LENGTH, "pattern": _URL},
    examples=("s3://my-bucket/holiday.mov", "https://example.com/holiday.mp4"),
    required=True,
)
QUALITY = Parameter(
    "task_config_temp_id",
    "The quality: 1 is 360p, 2 is 480p, 3 is 720p, 4 is 1080p, 5 is the source's own. It limits the shorter "
    "side; nothing is scaled up. 6 is adaptive: every quality up to the source's, for m3u8 and mpd.",
    _whole_number("[1-6]", "must be a whole number from 1 to 6"),
    {
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": 6},
            {"type": "string", "pattern": "^[1-6]$"},
            {"type": "null"},
        ]
    },
    examples=(3,),
    default=5,
)
FORMAT = Parameter(
    "format",
    "The format of the result.",
    _format,
    {"enum": [*FORMATS, None]},
    examples=("m3u8",),
    default="m3u8",
)
CODEC = Parameter(
    "codec",
    "The codec of the picture; for adaptive tasks also two, separated by a comma, of which a player takes "
    "the one it does best. Without it, it is `h264`, and for webm `vp9`.",
    _codecs,
    {"type": ["string", "null"], "pattern": f"^({_CODEC})( *, *({_CODEC}))?$"},
    examples=("h264",),
)
THUMBNAILS = Parameter(
    "thumbnails",
    "Whether a poster and thumbnails are made. Adaptive tasks have them unless it is false.",
    _truth,
    {"type": ["boolean", "null"]},
    examples=(True,),
)
CALLBACK_URL = Parameter(
    "callback_url",
    "An `http(s)` URL on the public Internet, which is called at each change of the task's status.",
    _callback_url,
    {"type": ["string", "null"], "maxLength": MAX_URL_LENGTH, "pattern": _CALLBACK_URL},
    examples=("https://example.com/transcoded",),
)
ID = Parameter(
    "id",
    "The task's id.",
    _text,
    {"type": "string", "minLength": 1},
    examples=("17lok52y",),
    required=True,
)
IDS = Parameter(
    "ids",
    "Up to 100 ids, separated by commas. Spaces and repeated ids are ignored.",
    _ids,
    {"type": "string", "pattern": f"[^,{_BLANKS}]"},
    examples=("17lok52y,82md0xk1",),
    required=True,
)

# Query strings and headers are always text, so their schemas describe what the text means.
PAGE = Parameter(
    "page",
    "Which page, from 1.",
    _whole_number("[1-9][0-9]{0,999}", "must be a whole number, 1 or more"),
    {"type": "integer", "minimum": 1},
    default=1,
)
LIMIT = Parameter(
    "limit",
    "How many tasks a page has.",
    _whole_number("[1-9][0-9]?|100", "must be a whole number from 1 to 100"),
    {"type": "integer", "minimum": 1, "maximum": 100},
    default=15,
)
IDEMPOTENCY_KEY = Parameter(
    "idempotency-key",
    "Within 24 hours, a call with the same key returns the same task: with it, a call whose answer was lost "
    "can be repeated.",
    _key,
    {"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH, "pattern": _KEY},
)
NAME = Parameter(
    "name",
    "The file's name, to begin an upload. The key in S3 ends with it; characters that a key should not have "
    "become `_`.",
    _name,
    {"type": ["string", "null"], "minLength": 1, "maxLength": MAX_NAME_LENGTH},
    examples=("holiday.mov",),
)
SIZE = Parameter(
    "size",
    "The file's bytes, to begin an upload; at most what the deployment allows (`MaxSourceBytes`, 20 GiB by "
    "default).",
    _whole_number("[1-9][0-9]{0,14}", "must be a whole number of bytes, 1 or more"),
    {
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": 999_999_999_999_999},
            {"type": "string", "pattern": "^[1-9][0-9]{0,14}$"},
            {"type": "null"},
        ]
    },
    examples=(12_345_678,),
)
UPLOAD_ID = Parameter(
    "upload_id",
    "An upload that was begun, of which more URLs are asked for. Then `name` and `size` are not needed.",
    _text,
    {"type": ["string", "null"], "minLength": 1},
    examples=("WyI1ZTYzYTNjMSIsIjJ-aGl2UCIsMTIzNDU2Nzhd",),
)
FIRST_PART = Parameter(
    "first_part",
    "The number of the part that the first URL is for, from 1.",
    _whole_number("[1-9][0-9]{0,3}|10000", "must be a whole number from 1 to 10000"),
    {
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": MAX_ETAGS},
            {"type": "string", "pattern": "^([1-9][0-9]{0,3}|10000)$"},
            {"type": "null"},
        ]
    },
    examples=(1001,),
    default=1,
)
UPLOAD_TO_COMPLETE = Parameter(
    "upload_id",
    "The upload.",
    _text,
    {"type": "string", "minLength": 1},
    examples=UPLOAD_ID.examples,
    required=True,
)
ETAGS = Parameter(
    "etags",
    "What S3 answered to each part as ETag, in the order of the parts, with or without its quotes.",
    _etags,
    {
        "type": "array",
        "items": {"type": "string", "pattern": _ETAG},
        "minItems": 1,
        "maxItems": MAX_ETAGS,
    },
    examples=(["9b2cf535f27731c974343645a3985328"],),
    required=True,
)

CREATE_TRANSCODE = Body(
    "CreateTranscode",
    "What to transcode, and into what.",
    (ORIGIN_URL, QUALITY, FORMAT, CODEC, THUMBNAILS, CALLBACK_URL),
)
DELETE_TRANSCODE = Body("DeleteTranscode", "Which task to delete.", (ID,))
CREATE_UPLOAD = Body(
    "CreateUpload",
    "`name` and `size` of a file, or the `upload_id` of an upload that was begun.",
    (NAME, SIZE, UPLOAD_ID, FIRST_PART),
)
COMPLETE_UPLOAD = Body("CompleteUpload", "An upload and its parts.", (UPLOAD_TO_COMPLETE, ETAGS))
DELETE_TRANSCODES = Body("DeleteTranscodes", "Which tasks to delete.", (IDS,))
