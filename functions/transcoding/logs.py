"""The log: JSON lines, and no secret of a URL in any of them.

A signed URL lets its reader in, and URLs come up where no one thinks of them: in FFmpeg's error output, in
tracebacks, in warnings of libraries. So they are stripped where records are formatted, which every record
has to pass.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import Any

from aws_lambda_powertools import Logger

#: Everything up to a blank belongs to a URL: rather too much is left out than too little.
_USER = re.compile(r"(//|\\/\\/)[^/?#\x00-\x20\x7f-\xa0]*@")
_QUERY = re.compile(r"(://[^?#\x00-\x20\x7f-\xa0]*)([?#][^\x00-\x20\x7f-\xa0]*)?")
#: The query of a URL that is logged without its scheme and host, as in "GET /film.mp4?token=1".
_BARE_QUERY = re.compile(r"\?[^\x00-\x20\x7f-\xa0=?]+=[^\x00-\x20\x7f-\xa0]*")
#: What is secret wherever it comes up, by its name.
_NAMES = r"(?i:X-Amz-(?:Signature|Credential|Security-Token)|x-api-key)"
#: It follows its name in a query or header (escaped, too), JSON (also inside JSON) or what Python shows.
_BY_NAME = re.compile(
    rf"({_NAMES})([\\\"')\]]*(?:[=:,\[\s]|%(?:25)*3[AaDd])(?:[\s=:,\[\](\\\"']|%(?:25)*(?:3[AaDd]|20)"
    r"|(?:b|(?i:\w{0,20}value))(?=[\\\"']))*)[^\x00-\x20\x7f-\xa0\\\"'&\])]+"
)
_IS_SECRET = re.compile(_NAMES)

#: The header of signed calls of AWS: the rest of its line.
_AUTHORIZATION = re.compile(r"(AWS4-HMAC-SHA256 )[^\r\n]+")


def redacted(text: str) -> str:
    """Return a text without what is secret in it: of URLs user and password, query and fragment.

    >>> redacted("GET https://user:password@example.com/film.mp4?token=1#t=2 failed")
    'GET https://…@example.com/film.mp4?… failed'
    """
    text = _USER.sub(r"\1…@", text)
    text = _QUERY.sub(lambda url: url[1] + ("?…" if url[2] else ""), text)
    text = _AUTHORIZATION.sub(r"\1…", _BARE_QUERY.sub("?…", text))
    return _BY_NAME.sub(r"\1\2…", text)


def create_logger() -> Logger:
    """Return the logger of a function; those of modules (`Logger(child=True)`) write through it.

    What libraries log goes to the handlers of the root logger, which Lambda sets up before the function is
    imported, or to Python's handler of last resort: their records are stripped as well.
    """
    for handler in (*logging.getLogger().handlers, logging.lastResort):
        if handler and not isinstance(handler.formatter, _RedactingFormatter):
            handler.setFormatter(_RedactingFormatter(handler.formatter))
    return Logger(json_serializer=_serialize)


class _RedactingFormatter(logging.Formatter):
    """Formats as another formatter does, and redacts what that returns."""

    def __init__(self, formatter: logging.Formatter | None) -> None:
        super().__init__()
        self._formatter = formatter or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        return redacted(self._formatter.format(record))


def _serialize(record: Mapping[str, Any]) -> str:
    return json.dumps(_clean(record), ensure_ascii=False, separators=(",", ":"))


def _is_name(value: Any) -> bool:
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    return isinstance(text, str) and _IS_SECRET.fullmatch(text) is not None


def _clean(value: Any) -> Any:
    # Before it is JSON, in which a quote inside a URL would look like its end.
    match value:
        case None | bool() | int() | float():
            return value
        case Mapping():
            named = any(map(_is_name, value.values()))
            return {
                str(key): "…" if _is_name(key) or (named and str(key).lower() == "value") else _clean(item)
                for key, item in value.items()
            }
        case [name, _] if _is_name(name):
            return [_clean(name), "…"]
        case list() | tuple():
            return [_clean(item) for item in value]
        case _:
            return redacted(str(value))
