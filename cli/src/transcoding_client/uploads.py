"""Sends a file to S3 in parts, several at once, by the URLs that the service presigns."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx

from transcoding_client.errors import FileChangedError, UploadError
from transcoding_client.models import UploadParts
from transcoding_client.retries import TRIES, is_worth_repeating, seconds_before

#: Parts that are sent at once.
PARALLEL = 4
_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class UploadProgress:
    """How far an upload is: bytes that S3 has or that are on their way, of all."""

    upload_id: str
    sent: int
    size: int


class Calls(Protocol):
    """The calls of the service that an upload makes."""

    def create_upload(self, name: str, size: int) -> UploadParts:
        """Begin an upload."""

    def continue_upload(self, upload_id: str, first_part: int = 1) -> UploadParts:
        """Return the parts of an upload from a number on."""

    def complete_upload(self, upload_id: str, etags: list[str]) -> str:
        """Make a source of the parts."""


class FileUpload:
    """One file on its way. `send` begins the upload, or goes on with one, and completes it."""

    def __init__(
        self,
        calls: Calls,
        storage: httpx.Client,
        path: Path,
        report: Callable[[UploadProgress], object] | None,
    ) -> None:
        self._calls = calls
        self._storage = storage
        self._path = path
        self._report = report
        self._version = self._current_version()
        self._size = self._version[0]
        self._lock = threading.Lock()
        #: Bytes of each part, by number, and of all.
        self._sent: dict[int, int] = {}
        self._total = 0
        self._stop = threading.Event()
        self._id = ""
        self._part_size = 1

    def send(self, upload_id: str | None) -> str:
        """Send what S3 does not have, and return the `origin_url`. Raises TranscodingError and OSError."""
        if upload_id is None:
            page = self._calls.create_upload(self._path.name, self._size)
        else:
            page = self._calls.continue_upload(upload_id)
        self._id, self._part_size = page.upload_id, page.part_size
        self._note(0, 0)
        count = -(-self._size // self._part_size)
        etags: list[str] = []
        pool = ThreadPoolExecutor(PARALLEL)
        try:
            while True:
                if len(etags) + len(page.urls) > count:
                    raise self._changed()
                etags += self._send_page(pool, page, len(etags) + 1)
                if len(etags) == count:
                    break
                page = self._calls.continue_upload(self._id, len(etags) + 1)
        finally:
            # What is not begun is not begun any more; what is being sent ends at its next chunk. Not waited
            # for: a connection may hang.
            self._stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
        if self._current_version() != self._version:
            raise self._changed()
        return self._calls.complete_upload(self._id, etags)

    def _send_page(self, pool: ThreadPoolExecutor, page: UploadParts, first: int) -> list[str]:
        parts = [
            pool.submit(self._send_part, number, url, etag)
            for number, (url, etag) in enumerate(zip(page.urls, page.etags, strict=True), first)
        ]
        for part in as_completed(parts):
            # The first failure ends all.
            part.result()
        return [part.result() for part in parts]

    def _send_part(self, number: int, url: str, etag: str) -> str:
        """Return the ETag of a part that S3 has now."""
        if etag and etag == self._digest(number):
            self._note(number, self._length(number))
            return etag
        for retry in range(1, TRIES + 1):
            response = None
            try:
                response = self._storage.put(
                    url, content=self._chunks(number), headers={"Content-Length": str(self._length(number))}
                )
            except httpx.TransportError as error:
                problem = f"{type(error).__name__} while sending part {number}: {error}"
            else:
                if response.is_success:
                    self._note(number, self._length(number))
                    return response.headers["ETag"].strip('"')
                problem = f"HTTP {response.status_code} for part {number}"
                if response.status_code == httpx.codes.FORBIDDEN:
                    # It was signed with credentials that are over.
                    url = self._calls.continue_upload(self._id, number).urls[0]
                elif not is_worth_repeating(response):
                    break
            self._note(number, 0)
            if retry < TRIES and self._stop.wait(seconds_before(retry, response)):
                break
        raise UploadError(f"The upload was broken off: {problem}", self._id)

    def _chunks(self, number: int) -> Iterator[bytes]:
        left = self._length(number)
        with self._path.open("rb") as file:
            file.seek(self._start(number))
            while left:
                if self._stop.is_set():
                    raise UploadError("The upload was broken off.", self._id)
                chunk = file.read(min(_CHUNK, left))
                if not chunk:
                    raise self._changed()
                left -= len(chunk)
                yield chunk
                self._note(number, self._length(number) - left)

    def _digest(self, number: int) -> str:
        """Return the ETag that S3 gives a part of these bytes: another one is of another file."""
        digest = hashlib.md5(usedforsecurity=False)
        left = self._length(number)
        with self._path.open("rb") as file:
            file.seek(self._start(number))
            while left and (chunk := file.read(min(_CHUNK, left))):
                digest.update(chunk)
                left -= len(chunk)
        return digest.hexdigest()

    def _start(self, number: int) -> int:
        return (number - 1) * self._part_size

    def _length(self, number: int) -> int:
        return min(self._part_size, self._size - self._start(number))

    def _note(self, number: int, sent: int) -> None:
        with self._lock:
            self._total += sent - self._sent.get(number, 0)
            self._sent[number] = sent
            if self._report:
                self._report(UploadProgress(self._id, self._total, self._size))

    def _current_version(self) -> tuple[int, int]:
        stat = self._path.stat()
        return stat.st_size, stat.st_mtime_ns

    def _changed(self) -> FileChangedError:
        return FileChangedError(
            f"{self._path} is not the file any more that the upload was begun with: send it again.", self._id
        )
