"""The types of the API's parameters. Each validates a value, words its refusal and has a JSON Schema.

A refusal is a phrase that follows the parameter's name: "must be a whole number from 1 to 5". Values are
matched against the same patterns that the OpenAPI description shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from transcoding.media.planning.formats import FORMATS

MAX_URL_LENGTH = 2048
MAX_IDS = 100
MAX_KEY_LENGTH = 255

_PORT = "[0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"
_S3_URL = r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[^\x00-\x1f\x7f-\x9f]+"
_HTTP_URL = rf"https?://[A-Za-z0-9][A-Za-z0-9._-]{{0,252}}(:({_PORT}))?([/?#][^\x00-\x20\x7f-\xa0]*)?"
_URL = f"^({_S3_URL}|{_HTTP_URL})$"
_KEY = "^[!-~]([ -~]{0,253}[!-~])?$"
_BLANKS = " \t\r\n"


def _refuse(phrase: str) -> PydanticCustomError:
    return PydanticCustomError("refused", "{phrase}", {"phrase": phrase})


# Compared by identity: Powertools puts annotations into sets, and a dict has no hash.
@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """A pydantic annotation: `read` validates and converts a value, `schema` describes the valid ones."""

    read: Callable[[Any], Any]
    schema: dict[str, Any]

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> CoreSchema:
        """Return the schema of `read` alone, whatever the annotated type is."""
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Return the JSON Schema of the valid values."""
        return self.schema


def _whole_number(digits: str, phrase: str) -> Callable[[Any], int]:
    """Return a reader of whole numbers. `digits` is the pattern of those in range, `phrase` the refusal."""

    def read(value: Any) -> int:
        # To JSON Schema, 3.0 is an integer. To Python, True is one; to JSON it is not.
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not re.fullmatch(digits, value):
            raise _refuse(phrase)
        return int(value)

    return read


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _refuse("must be a string")
    if not value:
        raise _refuse("must not be empty")
    return value


def _source_url(value: Any) -> str:
    url = _text(value)
    if len(url) > MAX_URL_LENGTH:
        raise _refuse(f"must have at most {MAX_URL_LENGTH} characters")
    if re.fullmatch(_URL, url):
        return url
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in {"s3", "http", "https"}:
        raise _refuse("must start with s3://, http:// or https://")
    if re.search(r"[\x00-\x1f\x7f-\x9f]", url):
        raise _refuse("must not have control characters")
    if scheme == "s3":
        raise _refuse("must be s3://bucket/key, with the name of a bucket as S3 allows it")
    if re.search(r"[\x20\xa0]", url):
        raise _refuse("must not have spaces; they are written %20 in a URL")
    if "@" in re.split("[/?#]", rest)[0]:
        raise _refuse("must not have a user name or password in it")
    raise _refuse("must have a host name or an IPv4 address, and a port from 0 to 65535 if any")


def _format(value: Any) -> str:
    if not isinstance(value, str) or value not in FORMATS:
        raise _refuse(f"must be one of {', '.join(FORMATS)}")
    return value


def _ids(value: Any) -> list[str]:
    if not isinstance(value, str):
        raise _refuse("must be a string of ids separated by commas")
    ids = list(dict.fromkeys(id_ for piece in value.split(",") if (id_ := piece.strip(_BLANKS))))
    if not ids:
        raise _refuse("must have at least one id")
    if len(ids) > MAX_IDS:
        raise _refuse(f"must have at most {MAX_IDS} different ids, has {len(ids)}")
    return ids


def _key(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(_KEY, value):
        raise _refuse(f"must have 1 to {MAX_KEY_LENGTH} characters, all of them printable ASCII")
    return value


SourceUrl = Annotated[
    str, Read(_source_url, {"type": "string", "maxLength": MAX_URL_LENGTH, "pattern": _URL})
]

#: In a JSON body, null means the default.
Quality = Annotated[
    int,
    Read(
        _whole_number("[1-5]", "must be a whole number from 1 to 5"),
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 5},
                {"type": "string", "pattern": "^[1-5]$"},
                {"type": "null"},
            ]
        },
    ),
]
FormatName = Annotated[str, Read(_format, {"enum": [*FORMATS, None]})]

TaskId = Annotated[str, Read(_text, {"type": "string", "minLength": 1})]
TaskIds = Annotated[list[str], Read(_ids, {"type": "string", "pattern": f"[^,{_BLANKS}]"})]

# Query strings and headers are always text, so their schemas describe what the text means.
Page = Annotated[
    int,
    Read(
        _whole_number("[1-9][0-9]{0,999}", "must be a whole number, 1 or more"),
        {"type": "integer", "minimum": 1},
    ),
]
Limit = Annotated[
    int,
    Read(
        _whole_number("[1-9][0-9]?|100", "must be a whole number from 1 to 100"),
        {"type": "integer", "minimum": 1, "maximum": 100},
    ),
]
IdempotencyKey = Annotated[
    str | None, Read(_key, {"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH, "pattern": _KEY})
]
