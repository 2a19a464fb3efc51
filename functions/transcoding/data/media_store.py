"""Media in and out of S3, for the worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Protocol, cast

from botocore.exceptions import ClientError
from s3transfer.futures import TransferFuture
from s3transfer.manager import TransferConfig, TransferManager
from s3transfer.subscribers import BaseSubscriber

from transcoding.data import clients
from transcoding.data.streams import ObjectReader, ObjectWriter, StoredObject
from transcoding.errors import Failure, TaskFailedError

#: How long a presigned URL lasts, seconds: longer than any invocation.
_URL_SECONDS = 3600
#: 16 MiB a part: at most 160 GB an object with S3's 10,000 parts, and 128 MiB of memory for 8 at a time.
_PART_BYTES = 16 * 1024 * 1024
_CONCURRENCY = 8
#: What is published never changes under its key.
_CACHE_CONTROL = "public, max-age=31536000, immutable"


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int = -1, /) -> bytes:
        """Give `size` bytes, fewer only at the end; without `size`, all that is left."""
        ...


class MediaStore:
    """Reads sources from wherever the service's role may, and writes into the output bucket."""

    def __init__(self, output_bucket: str) -> None:
        self.bucket = output_bucket
        self._s3 = clients.media_s3()
        self._transfers = TransferManager(
            self._s3,
            TransferConfig(
                multipart_threshold=_PART_BYTES,
                multipart_chunksize=_PART_BYTES,
                max_request_concurrency=_CONCURRENCY,
                max_in_memory_upload_chunks=_CONCURRENCY,
            ),
        )

    def look_at(self, bucket: str, key: str) -> tuple[int, str]:
        """Return an object's size in bytes, and what changes with its content.

        Raises TaskFailedError where it is missing or may not be read.
        """
        try:
            found = self._s3.head_object(Bucket=bucket, Key=key)
            return found["ContentLength"], found["ETag"]
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            name = f"s3://{bucket}/{key}"
            if status == 404:
                raise TaskFailedError(Failure.SOURCE_NOT_FOUND, f"There is no {name}.") from error
            if status in {301, 400, 403}:
                raise TaskFailedError(
                    Failure.SOURCE_FORBIDDEN,
                    f"The service may not read {name}. Put it into the source bucket, "
                    "or deploy the service with ExtraSourceArns naming this bucket of the same region.",
                ) from error
            raise

    def presigned_url(self, bucket: str, key: str) -> str:
        """Return a URL that reads an object without credentials for an hour."""
        return self._s3.generate_presigned_url(
            "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=_URL_SECONDS
        )

    def upload(
        self, path: Path, key: str, content_type: str, on_bytes: Callable[[int], None] | None = None
    ) -> TransferFuture:
        """Begin to upload a file; `on_bytes` is told of every so many bytes that are through."""
        return self._transfers.upload(
            str(path),
            self.bucket,
            key,
            extra_args={"ContentType": content_type, "CacheControl": _CACHE_CONTROL},
            subscribers=[_Report(on_bytes)] if on_bytes else None,
        )

    def put(self, text: str, key: str, content_type: str) -> None:
        """Store a text."""
        self._s3.put_object(
            Bucket=self.bucket,
            Key=key,
            Body=text.encode(),
            ContentType=content_type,
            CacheControl=_CACHE_CONTROL,
        )

    def get(self, key: str) -> bytes:
        """Read a small object of the output bucket."""
        return self._s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def reading(self, objects: Sequence[StoredObject]) -> ObjectReader:
        """Give objects of the output bucket, one after the other, as a stream."""
        return ObjectReader(self._s3, self.bucket, objects)

    def writing(self, key: str, content_type: str, head_bytes: int) -> ObjectWriter:
        """Give a new object to write into, of which the first `head_bytes` can be amended."""
        return ObjectWriter(self._s3, self.bucket, key, content_type, _CACHE_CONTROL, head_bytes)

    def copy_in(self, stream: Readable, key: str) -> TransferFuture:
        """Begin to store a stream of unknown length, in bounded memory."""
        return self._transfers.upload(cast("IO[bytes]", stream), self.bucket, key)


class _Report(BaseSubscriber):
    def __init__(self, on_bytes: Callable[[int], None]) -> None:
        self._on_bytes = on_bytes

    def on_progress(self, future: TransferFuture, bytes_transferred: int, **_: Any) -> None:
        self._on_bytes(bytes_transferred)
