"""Uploads: a caller sends a file to S3 in parts, by presigned URLs, and goes on where it was broken off.

The service keeps nothing of an upload: its id holds all that is to be known, and S3 has the parts.
"""

from __future__ import annotations

import json
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Self
from unicodedata import category, normalize

from transcoding.data.upload_store import UploadStore
from transcoding.errors import ApiError, UnknownUploadError

#: S3's limits: 10,000 parts, each but the last of 5 MiB to 5 GiB.
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
MAX_PARTS = 10_000
MAX_BYTES = MAX_PARTS * 5 * 1024**3
PART_BYTES = 8 * 1024**2
#: The most URLs of one call. With a role's session token they are about 2 MB; Lambda answers at most 6 MB.
MAX_URLS = 1000

_MIB = 1024**2
#: Bytes of UTF-8, of the 1,024 that a key may have.
_NAME_BYTES = 200
_EXTENSION_BYTES = 20
_KEY = re.compile(r"[0-9a-f]{32}/[^/\x00-\x1f\x7f-\x9f]{1,200}")
_S3_ID = re.compile(r"[A-Za-z0-9._~-]{1,1024}")
#: How many parts a message names.
_NAMED = 10


def part_size(size: int) -> int:
    """Return the bytes of each part but the last: 8 MiB, or as many MiB more as 10,000 parts need."""
    return max(PART_BYTES, -(-size // (MAX_PARTS * _MIB)) * _MIB)


def safe_name(name: str) -> str:
    """Return a file's name as the last piece of a key, at most 200 bytes of UTF-8.

    Letters and digits of all scripts stay, and the extension; what has a meaning in paths, URLs or shells,
    and what is not seen, becomes `_`.
    """
    kept = "".join(c if category(c)[0] in "LMN" or c in "._-()" else "_" for c in normalize("NFC", name))
    # Not hidden, and not "." or "..", which URLs drop.
    kept = f"_{kept}" if kept.startswith(".") else kept
    extension = PurePosixPath(kept).suffix
    if len(extension.encode()) > _EXTENSION_BYTES:
        extension = ""
    stem = kept.removesuffix(extension)
    return stem.encode()[: _NAME_BYTES - len(extension.encode())].decode(errors="ignore") + extension


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload of `size` bytes to a key, which S3 knows by `s3_id`."""

    key: str
    s3_id: str
    size: int

    @property
    def part_size(self) -> int:
        """The bytes of each part but the last."""
        return part_size(self.size)

    @property
    def part_count(self) -> int:
        """How many parts there are."""
        return -(-self.size // self.part_size)

    def size_of(self, number: int) -> int:
        """Return the bytes of a part, from number 1."""
        return min(self.part_size, self.size - (number - 1) * self.part_size)

    @property
    def id(self) -> str:
        """The `upload_id` of the API."""
        text = json.dumps([self.key, self.s3_id, self.size], separators=(",", ":"), ensure_ascii=False)
        return urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def of_id(cls, upload_id: str) -> Self:
        """Return the upload of an `upload_id`. Raises ApiError (404) where it cannot be one.

        Whether it is one, S3 knows.
        """
        try:
            # Also raised by what is no base64, no UTF-8, and no list of three.
            key, s3_id, size = json.loads(urlsafe_b64decode(upload_id + "=" * (-len(upload_id) % 4)))
            upload = cls(key, s3_id, size)
            # Any other spelling, which the decoder passes over, is not an id that was given out.
            is_one = (
                _KEY.fullmatch(key)
                and _S3_ID.fullmatch(s3_id)
                and type(size) is int
                and 0 < size <= MAX_BYTES
                and upload.id == upload_id
            )
        except (ValueError, TypeError, RecursionError):
            is_one = None
        if not is_one:
            raise _no_such_upload()
        return upload


@dataclass(frozen=True, slots=True)
class Parts:
    """Consecutive parts of an upload: a URL for each, and its entity tag, `""` where it has to be sent."""

    urls: list[str]
    etags: list[str]


def origin_url(store: UploadStore, upload: Upload) -> str:
    """Return the URL with which a task takes an upload as its source."""
    return f"s3://{store.bucket}/{upload.key}"


def create(store: UploadStore, name: str, size: int, max_bytes: int) -> Upload:
    """Begin an upload. Raises ApiError (400) where it is larger than `max_bytes`."""
    _check_size(size, max_bytes)
    key = f"{secrets.token_hex(16)}/{safe_name(name)}"
    return Upload(key, store.create(key), size)


def find(upload_id: str, max_bytes: int) -> Upload:
    """Return an upload that was begun. Raises ApiError: 404, or 400 where it is larger than `max_bytes`."""
    upload = Upload.of_id(upload_id)
    _check_size(upload.size, max_bytes)
    return upload


def parts(store: UploadStore, upload: Upload, first: int, *, begun: bool) -> Parts:
    """Return at most 1,000 parts, from number `first` on. Raises ApiError (400, 404).

    `begun`: some of them may have been sent.
    """
    if first > upload.part_count:
        raise ApiError(400, f"first_part: must be at most {upload.part_count}, the number of parts")
    numbers = range(first, min(first + MAX_URLS, upload.part_count + 1))
    try:
        stored = store.parts(upload.key, upload.s3_id, numbers) if begun else {}
    except UnknownUploadError:
        raise _no_such_upload() from None
    # One of another size is no part of this file: it has to be sent again.
    sent = {number: part.etag for number, part in stored.items() if part.size == upload.size_of(number)}
    return Parts(
        [store.part_url(upload.key, upload.s3_id, number, upload.size_of(number)) for number in numbers],
        [sent.get(number, "") for number in numbers],
    )


def complete(store: UploadStore, upload_id: str, etags: Sequence[str]) -> str:
    """Make the object of an upload's parts, and return its URL. Raises ApiError (400, 404).

    An upload that is complete already stays as it is.
    """
    upload = Upload.of_id(upload_id)
    try:
        _check_parts(store, upload, etags)
        store.complete(upload.key, upload.s3_id, etags)
    except UnknownUploadError:
        # S3 forgets an upload when it is complete.
        if store.size(upload.key) != upload.size:
            raise _no_such_upload() from None
    return origin_url(store, upload)


def _check_parts(store: UploadStore, upload: Upload, etags: Sequence[str]) -> None:
    """Check that S3 has the parts that the caller says. Raises ApiError (400) and UnknownUploadError."""
    stored = store.parts(upload.key, upload.s3_id, range(1, upload.part_count + 1))
    if len(etags) != upload.part_count:
        raise ApiError(400, f"etags: must be {upload.part_count}, one for each part, are {len(etags)}")
    missing, of_other_size, other = [], [], []
    for number, etag in enumerate(etags, 1):
        part = stored.get(number)
        if part is None:
            missing.append(number)
        elif part.size != upload.size_of(number):
            of_other_size.append(number)
        elif part.etag != etag:
            other.append(number)
    wrong = [
        f"{_named(numbers)} {words}"
        for numbers, words in (
            (missing, "was not sent"),
            (of_other_size, "has another size than its URL was made for: send it again"),
            (other, "has another ETag: send it again, or name the one that S3 answered last"),
        )
        if numbers
    ]
    if wrong:
        raise ApiError(400, f"etags: {'; '.join(wrong)}")


def _named(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:_NAMED]))
    more = f" and {len(numbers) - _NAMED} more" if len(numbers) > _NAMED else ""
    return f"part {shown}{more}"


def _check_size(size: int, max_bytes: int) -> None:
    if size > min(max_bytes, MAX_BYTES):
        raise ApiError(400, f"size: must be at most {min(max_bytes, MAX_BYTES)} bytes")


def _no_such_upload() -> ApiError:
    return ApiError(404, "no such upload: it was never begun, is complete, or was removed after a day")
