"""The objects of S3: sources, wherever the service's role may read them, and all of the output bucket.

| prefix in the output bucket | |
|---|---|
| `outputs/{task}/{attempt}/` | the result of an attempt: apart from every other, so that no two can mix |
| `work/{task}/{attempt}/` | what an attempt needs only for itself; the lifecycle removes what is left |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

from botocore.exceptions import ClientError

from transcoding.data import clients
from transcoding.data.streams import ObjectReader, ObjectWriter, StoredObject
from transcoding.errors import Failure, TaskFailedError, UnavailableError

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef, ObjectTypeDef
    from s3transfer.futures import TransferFuture
    from s3transfer.manager import TransferManager
    from s3transfer.subscribers import BaseSubscriber

#: How long a presigned URL lasts, seconds: longer than any invocation.
_URL_SECONDS = 3600
#: 16 MiB a part: at most 160 GB an object with S3's 10,000 parts, and 128 MiB of memory for 8 at a time.
_PART_BYTES = 16 * 1024 * 1024
_CONCURRENCY = 8
#: What is published never changes under its key.
_CACHE_CONTROL = "public, max-age=31536000, immutable"
_SERVICE = "the output bucket"


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int = -1, /) -> bytes:
        """Return `size` bytes, fewer only at the end; without `size`, all that is left."""
        ...


def output_prefix(task_id: str, attempt: int) -> str:
    """Return where an attempt stores its result."""
    return f"outputs/{task_id}/{attempt}/"


def work_prefix(task_id: str, attempt: int) -> str:
    """Return where an attempt stores what it needs only for itself."""
    return f"work/{task_id}/{attempt}/"


def forbidden(bucket: str, key: str) -> TaskFailedError:
    """Return the failure of a task whose source may not be read."""
    return TaskFailedError(
        Failure.SOURCE_FORBIDDEN,
        f"The service may not read s3://{bucket}/{key}. Put it into the source bucket, "
        "or deploy the service with ExtraSourceArns naming this bucket of the same region.",
    )


class ObjectStore:
    """Reads sources; stores, reads and removes the objects of the output bucket.

    One that is not `patient` gives a slow S3 up soon (`clients.s3`).
    """

    def __init__(self, output_bucket: str, *, patient: bool = True) -> None:
        self.bucket = output_bucket
        self._s3 = clients.s3(patient=patient)

    # Sources.

    def look_at(self, bucket: str, key: str) -> tuple[int, str]:
        """Return an object's size in bytes, and what changes with its content.

        Raises TaskFailedError where it is missing or may not be read.
        """
        try:
            found = self._s3.head_object(Bucket=bucket, Key=key)
            return found["ContentLength"], found["ETag"]
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status == 404:
                text = f"There is no s3://{bucket}/{key}."
                raise TaskFailedError(Failure.SOURCE_NOT_FOUND, text) from error
            if status in {301, 400, 403}:
                raise forbidden(bucket, key) from error
            raise

    def presigned_url(self, bucket: str, key: str) -> str:
        """Return a URL that reads an object without credentials for an hour."""
        return self._s3.generate_presigned_url(
            "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=_URL_SECONDS
        )

    # Storing.

    def upload(
        self, path: Path, key: str, content_type: str, on_bytes: Callable[[int], None] | None = None
    ) -> TransferFuture:
        """Begin to upload a file; `on_bytes` is told of every so many bytes that are through."""
        return self._transfers.upload(
            str(path),
            self.bucket,
            key,
            extra_args={"ContentType": content_type, "CacheControl": _CACHE_CONTROL},
            subscribers=[cast("BaseSubscriber", _Report(on_bytes))] if on_bytes else None,
        )

    def copy_in(self, stream: Readable, key: str) -> TransferFuture:
        """Begin to store a stream of unknown length, in bounded memory."""
        return self._transfers.upload(cast("IO[bytes]", stream), self.bucket, key)

    def put(self, text: str, key: str, content_type: str) -> None:
        """Store a text."""
        self._s3.put_object(
            Bucket=self.bucket,
            Key=key,
            Body=text.encode(),
            ContentType=content_type,
            CacheControl=_CACHE_CONTROL,
        )

    def writing(self, key: str, content_type: str, head_bytes: int) -> ObjectWriter:
        """Return a new object to write into, of which the first `head_bytes` can be amended."""
        return ObjectWriter(self._s3, self.bucket, key, content_type, _CACHE_CONTROL, head_bytes)

    # Reading what was stored.

    def get(self, key: str) -> bytes:
        """Return the content of a small object."""
        return self._s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def find(self, key: str) -> bytes | None:
        """Return the content of a small object; None where there is none of this key."""
        try:
            return self.get(key)
        except self._s3.exceptions.NoSuchKey:
            return None

    def reading(self, objects: Sequence[StoredObject]) -> ObjectReader:
        """Return objects, one after the other, as a stream."""
        return ObjectReader(self._s3, self.bucket, objects)

    def size(self, prefix: str) -> int:
        """Return how many bytes all objects have whose key starts with `prefix`. Raises UnavailableError."""
        with clients.availability(_SERVICE):
            return sum(item["Size"] for items in self._listed(prefix) for item in items)

    # Removing.

    def remove_task(self, task_id: str) -> None:
        """Remove all that a task has stored. Raises UnavailableError."""
        for folder in (f"outputs/{task_id}/", f"work/{task_id}/"):
            self._remove(folder)

    def remove_attempt(self, task_id: str, attempt: int) -> None:
        """Remove what one attempt has stored. Raises UnavailableError."""
        for folder in (output_prefix(task_id, attempt), work_prefix(task_id, attempt)):
            self._remove(folder)

    def remove_all_but(self, task_id: str, attempt: int) -> None:
        """Remove what is not the result that an attempt has published. Raises UnavailableError."""
        self._remove(f"work/{task_id}/")
        for other in range(1, attempt):
            self._remove(output_prefix(task_id, other))

    def _remove(self, prefix: str) -> None:
        """Remove all objects whose key starts with `prefix`, a thousand (the most S3 takes) a request."""
        with clients.availability(_SERVICE):
            for items in self._listed(prefix):
                if keys := [item["Key"] for item in items]:
                    self.remove(keys)

    def _listed(self, prefix: str) -> Iterator[list[ObjectTypeDef]]:
        """Yield the objects whose key starts with `prefix`, at most a thousand at a time."""
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
            yield page.get("Contents", [])

    def remove(self, keys: Sequence[str]) -> None:
        """Remove objects, at most a thousand, whether they exist or not. Raises UnavailableError."""
        objects: list[ObjectIdentifierTypeDef] = [{"Key": key} for key in keys]
        with clients.availability(_SERVICE):
            answer = self._s3.delete_objects(Bucket=self.bucket, Delete={"Objects": objects, "Quiet": True})
        # A request that removes only some of its objects still answers 200.
        if answer.get("Errors"):
            raise UnavailableError(_SERVICE)

    @cached_property
    def _transfers(self) -> TransferManager:
        # Only the worker uploads: the API's functions start 30 ms sooner without it.
        from s3transfer.manager import TransferConfig, TransferManager  # noqa: PLC0415

        return TransferManager(
            self._s3,
            TransferConfig(
                multipart_threshold=_PART_BYTES,
                multipart_chunksize=_PART_BYTES,
                max_request_concurrency=_CONCURRENCY,
                max_in_memory_upload_chunks=_CONCURRENCY,
            ),
        )


class _Report:
    """Is told by s3transfer how an upload gets on."""

    def __init__(self, on_bytes: Callable[[int], None]) -> None:
        self._on_bytes = on_bytes

    def on_progress(self, future: TransferFuture, bytes_transferred: int, **_: Any) -> None:
        self._on_bytes(bytes_transferred)
