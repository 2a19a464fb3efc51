"""Reads http(s) sources, and nothing that is not on the public Internet (see transcoding/web.py).

Each redirect goes through the same check. No cookies or credentials are kept.
"""

from __future__ import annotations

import http.client
import math
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Self
from urllib.parse import quote, urljoin

from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ReadTimeoutError
from urllib3.response import HTTPResponse

from transcoding.errors import Failure, TaskFailedError
from transcoding.web import IPAddress, RefusedUrlError, Url, connect, is_public, resolve

CHUNK_BYTES = 1024 * 1024
CONNECT_SECONDS = 10.0
IDLE_SECONDS = 30.0
#: Seconds within which the head of an answer must have come, and what one read asks for: more than may pass
#: without a byte, after which another request may help.
HEAD_SECONDS, READ_SECONDS = 60.0, 60.0
#: A server that sends fewer bytes a second than this, over so many seconds of waiting for it, is given up.
LEAST_RATE, RATE_SECONDS = 4 * 1024, 60.0
MAX_REDIRECTS = 5
#: Pauses before a request is sent again, over the whole life of a source.
RETRY_PAUSES = (1.0, 2.0, 4.0)
USER_AGENT = "transcoding/1.0"
#: Seconds between looks at what is overdue.
_WATCH = 0.5


class _PassingError(TaskFailedError):
    """A failure that another request may not meet."""


def _empty() -> TaskFailedError:
    return TaskFailedError(Failure.SOURCE_EMPTY, "The source is empty: it has 0 bytes. Upload it again.")


def _unreachable(info: str) -> TaskFailedError:
    return TaskFailedError(Failure.SOURCE_UNREACHABLE, info)


@contextmanager
def _checked() -> Iterator[None]:
    """Turn the refusal of a URL into the task's failure."""
    try:
        yield
    except RefusedUrlError as error:
        raise TaskFailedError(Failure.SOURCE_ADDRESS_REFUSED, str(error)) from error


def _parse(text: str) -> Url:
    with _checked():
        return Url.parse(text)


def _joined(url: Url, location: str) -> str:
    try:
        return urljoin(url.text, location)
    except ValueError as error:
        text = f"{url.host} redirects to a URL that is not valid."
        raise TaskFailedError(Failure.SOURCE_ADDRESS_REFUSED, text) from error


class HttpSource:
    """A file of the bytes behind an http(s) URL, read once from start to end.

        with HttpSource(url, max_bytes=10**10, deadline=time.monotonic() + 600) as source:
            s3.upload_fileobj(source, bucket, key)

    Entering opens it. Where the connection breaks, and the server can serve the rest of the same file,
    reading goes on from there. `deadline`, in seconds of `time.monotonic()`, is when the last byte must have
    come; only the system's look-up of a name can overrun it. Opening and reading raise TaskFailedError with
    one of the SOURCE_* codes, and ValueError after `abort`.
    """

    #: Size in bytes as the server declares it, None where it does not.
    length: int | None
    #: Bytes read so far.
    offset: int

    def __init__(
        self,
        url: str,
        *,
        max_bytes: int,
        deadline: float,
        resolve: Callable[[str], list[IPAddress]] = resolve,
        is_allowed: Callable[[IPAddress], bool] = is_public,
    ) -> None:
        self.length = None
        self.offset = 0
        self._url = _parse(url)
        self._max_bytes = max_bytes
        self._deadline = deadline
        self._resolve = resolve
        self._is_allowed = is_allowed
        self._pauses = iter(RETRY_PAUSES)
        self._aborted = threading.Event()
        self._transfer = ExitStack()
        self._socket: socket.socket | None = None
        #: When what is waited for must have come.
        self._due = math.inf
        #: Seconds of waiting, and the bytes that came in them.
        self._waited, self._received = 0.0, 0
        self._validator: str | None = None

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._aborted.set()
        self._transfer.close()

    def abort(self) -> None:
        """Stop opening or reading, from another thread."""
        self._aborted.set()
        self._hang_up()

    def read(self, size: int = -1) -> bytes:
        """Read `size` bytes; fewer only at the end, as S3 takes no small part but the last of an upload.

        Without `size`, all that is left.
        """
        data = bytearray()
        if size < 0:
            size = self._max_bytes
        while len(data) < size and (chunk := self._read_chunk(min(CHUNK_BYTES, size - len(data)))):
            data += chunk
        return bytes(data)

    def _read_chunk(self, size: int) -> bytes:
        while True:
            self._time_left()
            try:
                started = time.monotonic()
                with self._named_failures(self._url), self._waiting(self._url, READ_SECONDS):
                    # Returns the bytes of a single receive: none of them is lost when the connection breaks.
                    chunk = self._response.read1(size)
                self._waited += time.monotonic() - started
                self._received += len(chunk)
                with self._named_failures(self._url):
                    if not chunk and self.length is not None and self.offset < self.length:
                        raise http.client.IncompleteRead(b"")
            except _PassingError as failure:
                self._open(failure)
                continue
            self.offset += len(chunk)
            self._check_size(self.offset)
            if chunk:
                self._check_rate()
            if not chunk and not self.offset:
                raise _empty()
            return chunk

    def _open(self, failure: _PassingError | None = None) -> None:
        """Request the bytes from `offset` on, again after each passing failure while tries are left."""
        while True:
            if failure:
                pause = next(self._pauses, None)
                if pause is None or (self.offset and not self._validator):
                    raise failure
                self._aborted.wait(min(pause, self._time_left()))
            try:
                self._response = self._request()
            except _PassingError as error:
                failure = error
            else:
                self._waited, self._received = 0.0, 0
                return

    def _request(self) -> HTTPResponse:
        """Follow redirects to an answer with a body, from the user's URL each time: signed targets expire.

        Going from https to http is allowed: the URL carries no credentials of ours that could leak, and who
        could alter the media on its way could have named an http source in the first place.
        """
        url = self._url
        for _ in range(MAX_REDIRECTS + 1):
            with self._named_failures(url):
                response = self._get(url)
            location = response.headers.get("Location")
            if response.status not in (301, 302, 303, 307, 308) or location is None:
                self._check_answer(url, response)
                return response
            # http.client decodes headers as Latin-1; raw UTF-8 is common in this one.
            location = quote(location.encode("latin-1"), safe="/%:@!$&'()*+,;=~?#[]")
            url = _parse(_joined(url, location))
        raise _unreachable(f"{self._url.host} redirects more than {MAX_REDIRECTS} times.")

    def _get(self, url: Url) -> HTTPResponse:
        headers = {
            "Host": url.authority,
            "User-Agent": USER_AGENT,
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "Connection": "close",
        }
        if self.offset and self._validator:
            headers |= {"Range": f"bytes={self.offset}-", "If-Range": self._validator}
        self._transfer.close()
        connection = self._transfer.enter_context(closing(self._connect(url)))
        self._socket = connection.sock
        # A server that sends a byte now and then is never idle: only hanging up ends such a read in time.
        closed = threading.Event()
        self._transfer.callback(closed.set)
        threading.Thread(target=self._watch, args=[closed], daemon=True).start()
        with self._waiting(url, HEAD_SECONDS):
            connection.request(
                "GET", url.target, headers=headers, preload_content=False, decode_content=False
            )
            return self._transfer.enter_context(closing(connection.getresponse()))

    @contextmanager
    def _waiting(self, url: Url, seconds: float) -> Iterator[None]:
        """Wait for the server in the block, for at most so many seconds."""
        due = self._due = time.monotonic() + seconds
        try:
            yield
        finally:
            self._due = math.inf
            # What was cut off by hanging up may look whole.
            self._time_left()
            if time.monotonic() >= due:
                text = f"{url.authority} is too slow: it has sent nothing of the file for {seconds:g} s."
                raise _PassingError(Failure.SOURCE_TIMED_OUT, text)

    def _watch(self, closed: threading.Event) -> None:
        """Hang up when what is waited for is overdue, and after `abort`, also one before the request."""
        while not closed.wait(max(0.0, min(_WATCH, self._deadline - time.monotonic()))):
            if self._aborted.is_set() or time.monotonic() >= min(self._deadline, self._due):
                self._hang_up()
                return

    def _connect(self, url: Url) -> HTTPConnection:
        with _checked():
            connection = connect(
                url,
                seconds=lambda: min(CONNECT_SECONDS, self._time_left()),
                resolve=self._resolve,
                is_allowed=self._is_allowed,
            )
        connection.timeout = IDLE_SECONDS
        return connection

    def _hang_up(self) -> None:
        if self._socket:
            with suppress(OSError):
                # Not SSLSocket.shutdown, which would have the reader take ciphertext for data.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _time_left(self) -> float:
        if self._aborted.is_set():
            raise ValueError("the source is closed")
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise self._too_slow()
        return left

    def _too_slow(self) -> TaskFailedError:
        text = f"{self._url.host} is too slow: only {self.offset} bytes came in the time there is."
        return TaskFailedError(Failure.SOURCE_TIMED_OUT, text)

    def _check_rate(self) -> None:
        if self._waited < RATE_SECONDS:
            return
        if self._received < LEAST_RATE * self._waited:
            raise self._too_slow()
        self._waited, self._received = 0.0, 0

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            text = f"The source is larger than the limit of {self._max_bytes} bytes."
            raise TaskFailedError(Failure.SOURCE_TOO_LARGE, text)

    def _check_answer(self, url: Url, response: HTTPResponse) -> None:
        """Check that an answer carries the file from `offset` on. Raises TaskFailedError."""
        status = response.status
        answered = f"{url.host} answered with HTTP status {status}"
        if status in (404, 410):
            raise TaskFailedError(
                Failure.SOURCE_NOT_FOUND, f"{answered}: there is no such file. Check the URL."
            )
        if status in (401, 403, 407, 451):
            text = f"{answered}. The URL must open without a login, and a signed one not have expired."
            raise TaskFailedError(Failure.SOURCE_FORBIDDEN, text)
        if status in (408, 429) or status >= 500:
            raise _PassingError(Failure.SOURCE_UNREACHABLE, f"{answered}. Try again later.")
        if self.offset:
            rest = f"bytes {self.offset}-"
            whole = "" if self.length is None else f"/{self.length}"
            content_range = response.headers.get("Content-Range", "")
            if status != 206 or not (content_range.startswith(rest) and content_range.endswith(whole)):
                raise _unreachable(f"{url.host} broke off at byte {self.offset} and cannot go on from there.")
            return
        if status != 200:
            raise _unreachable(f"{answered}. Check the URL.")
        # Some stores answer with codings that are none, like "aws-chunked" or "utf-8".
        coding = response.headers.get("Content-Encoding", "").lower()
        if re.search(r"gzip|deflate|compress|br|zstd", coding):
            raise _unreachable(f"{url.host} serves the file compressed ({coding[:20]}) only.")
        self.length = response.length_remaining
        if self.length == 0:
            raise _empty()
        self._check_size(self.length or 0)
        # Only a strong entity tag proves the same bytes (RFC 9110, section 13.1.5).
        tag = response.headers.get("ETag", "W/")
        self._validator = response.headers.get("Last-Modified") if tag.startswith("W/") else tag

    @contextmanager
    def _named_failures(self, url: Url) -> Iterator[None]:
        try:
            yield
        except (HTTPError, http.client.HTTPException, OSError) as error:
            self._time_left()
            raise _failure(url, error) from error


def _failure(url: Url, error: Exception) -> TaskFailedError:
    """Return the failure that an error means; its text shows no more of the network than the URL does."""
    if isinstance(error, ReadTimeoutError | TimeoutError):
        text = f"{url.authority} sent nothing for {IDLE_SECONDS:g} s."
        return _PassingError(Failure.SOURCE_TIMED_OUT, text)
    kind: type[TaskFailedError] = _PassingError
    match error:
        case socket.gaierror(errno=socket.EAI_AGAIN):
            text = f"The name {url.host} cannot be resolved at the moment. Try again later."
        case socket.gaierror():
            kind, text = TaskFailedError, f"The name {url.host} does not resolve. Check the URL."
        case ssl.SSLCertVerificationError():
            reason = error.verify_message.rstrip(".")
            kind, text = TaskFailedError, f"The certificate of {url.host} is not valid: {reason}."
        case ssl.SSLError():
            text = f"{url.authority} fails to speak TLS."
        case NewConnectionError():
            text = f"{url.authority} does not take connections."
        case ConnectTimeoutError():
            text = f"{url.authority} did not take a connection within {CONNECT_SECONDS:g} s."
        case _:
            text = f"{url.authority} broke the connection off."
    return kind(Failure.SOURCE_UNREACHABLE, text)
