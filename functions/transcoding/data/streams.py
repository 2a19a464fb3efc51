"""Objects of S3 as files that are read or written from beginning to end, in bounded memory."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, cast

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

#: Parts are 16 MiB, and so much larger for each thousand before them that S3's 10,000 hold 880 GB.
_PART_BYTES = 16 * 1024 * 1024
_GROWTH = 1000
#: Parts under way at once.
_WRITERS = 4

#: What is read at once, bytes, and how many such reads are under way for one reader.
_READ_BYTES = 4 * 1024 * 1024
_READERS = 6
#: How often a read is begun that breaks off.
_READ_TRIES = 4


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A key and how many bytes are stored under it."""

    key: str
    size: int


class ObjectReader:
    """Several objects, one after the other, as one stream; what comes next is read ahead.

    Raises botocore's errors.
    """

    def __init__(self, s3: S3Client, bucket: str, objects: Sequence[StoredObject]) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._ranges = _ranges(objects)
        self._pool = ThreadPoolExecutor(_READERS)
        self._ahead: deque[Future[bytes]] = deque()
        self._chunk = memoryview(b"")

    def __enter__(self) -> ObjectReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none only at the end."""
        if not self._chunk:
            self._chunk = memoryview(self._next())
        taken, self._chunk = self._chunk[:size], self._chunk[size:]
        return bytes(taken)

    def close(self) -> None:
        """End it, with all that is under way."""
        self._pool.shutdown(cancel_futures=True)

    def _next(self) -> bytes:
        for key, begin, end in self._ranges:
            self._ahead.append(self._pool.submit(self._get, key, begin, end))
            if len(self._ahead) == _READERS:
                break
        return self._ahead.popleft().result() if self._ahead else b""

    def _get(self, key: str, begin: int, end: int) -> bytes:
        for again in reversed(range(_READ_TRIES)):
            answer = self._s3.get_object(Bucket=self._bucket, Key=key, Range=f"bytes={begin}-{end - 1}")
            try:
                return answer["Body"].read()
            except BotoCoreError:
                # The connection broke; botocore repeats only what has not been answered.
                if not again:
                    raise
        raise AssertionError


def _ranges(objects: Sequence[StoredObject]) -> Iterator[tuple[str, int, int]]:
    for stored in objects:
        for begin in range(0, stored.size, _READ_BYTES):
            yield stored.key, begin, min(begin + _READ_BYTES, stored.size)


class ObjectWriter:
    """A new object, written from its beginning to its end; its first bytes can be amended until then.

    It exists when the `with` block ends, and nothing is left of it when an exception ends the block. At least
    `head_bytes` are kept back. Raises botocore's errors, those of the parts before too.
    """

    def __init__(
        self, s3: S3Client, bucket: str, key: str, content_type: str, cache_control: str, head_bytes: int
    ) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._key = key
        self._content_type = content_type
        self._cache_control = cache_control
        self._head = bytearray()
        self._head_bytes = max(head_bytes, _PART_BYTES)
        self._tail = bytearray()
        self._position = self._size = 0
        self._upload_id: str | None = None
        self._pool = ThreadPoolExecutor(_WRITERS)
        self._under_way: set[Future[CompletedPartTypeDef]] = set()
        self._parts: list[CompletedPartTypeDef] = []
        self._begun = 0
        self.closed = False

    def __enter__(self) -> ObjectWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind:
            self.abort()
        else:
            self.close()

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Write all of the data at the position.

        Raises io.UnsupportedOperation where that would amend what has been sent.
        """
        self._check_open()
        if not data:
            return 0
        view = memoryview(data)
        end = self._position + len(view)
        inside = max(0, min(end, self._head_bytes) - self._position)
        if inside < len(view) and self._position + inside != max(self._size, self._head_bytes):
            raise io.UnsupportedOperation("what has been sent cannot be amended")
        # Whoever seeks over the end leaves zeros.
        self._head += bytes(max(0, min(self._position, self._head_bytes) - len(self._head)))
        if inside:
            self._head[self._position : self._position + inside] = view[:inside]
        self._position = end
        self._size = max(self._size, end)
        rest = view[inside:]
        while rest:
            room = _PART_BYTES * (1 + self._begun // _GROWTH) - len(self._tail)
            self._tail += rest[:room]
            if len(rest) >= room:
                self._send(self._tail)
                self._tail = bytearray()
            rest = rest[room:]
        return len(view)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position to the end, or to within what is kept back; return it.

        Raises io.UnsupportedOperation for any other place.
        """
        self._check_open()
        position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if position < 0:
            raise ValueError(f"there is no position {position}")
        if position != self._size and position > self._head_bytes:
            raise io.UnsupportedOperation("only the end and the first bytes can be written")
        self._position = position
        return position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def close(self) -> None:
        """Store the object. Where that fails, nothing is left of it."""
        if self.closed:
            return
        try:
            self._finish()
        except BaseException:
            self.abort()
            raise
        self.closed = True
        self._pool.shutdown()

    def abort(self) -> None:
        """Give the object up, when nothing is being sent any more."""
        if self.closed:
            return
        self.closed = True
        self._pool.shutdown(cancel_futures=True)
        if self._upload_id:
            # What cannot be removed now, the bucket's lifecycle removes.
            with suppress(BotoCoreError, ClientError):
                self._s3.abort_multipart_upload(Bucket=self._bucket, Key=self._key, UploadId=self._upload_id)

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("the object is closed")

    def _finish(self) -> None:
        if not self._upload_id:
            self._s3.put_object(
                Bucket=self._bucket,
                Key=self._key,
                Body=bytes(self._head + self._tail),
                ContentType=self._content_type,
                CacheControl=self._cache_control,
            )
            return
        if self._tail:
            self._send(self._tail)
        self._send(self._head, first=True)
        while self._under_way:
            self._wait()
        self._parts.sort(key=lambda part: part["PartNumber"])
        self._s3.complete_multipart_upload(
            Bucket=self._bucket,
            Key=self._key,
            UploadId=self._upload_id,
            MultipartUpload={"Parts": self._parts},
        )

    def _send(self, body: bytearray, *, first: bool = False) -> None:
        """Begin to send a part when not too many are under way; the object's `first` is sent last."""
        if not self._upload_id:
            answer = self._s3.create_multipart_upload(
                Bucket=self._bucket,
                Key=self._key,
                ContentType=self._content_type,
                CacheControl=self._cache_control,
                ChecksumAlgorithm="CRC32",
            )
            self._upload_id = answer["UploadId"]
        while len(self._under_way) >= _WRITERS:
            self._wait()
        self._begun += not first
        number = 1 if first else self._begun + 1
        self._under_way.add(self._pool.submit(self._upload, number, body))

    def _wait(self) -> None:
        done, self._under_way = wait(self._under_way, return_when=FIRST_COMPLETED)
        self._parts += [future.result() for future in done]

    def _upload(self, number: int, body: bytearray) -> CompletedPartTypeDef:
        answer = self._s3.upload_part(
            Bucket=self._bucket,
            Key=self._key,
            UploadId=self._upload_id or "",
            PartNumber=number,
            Body=cast("bytes", body),
            ChecksumAlgorithm="CRC32",
        )
        return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC32": answer["ChecksumCRC32"]}
