"""The output bucket (S3): what tasks store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transcoding.data import clients
from transcoding.errors import UnavailableError

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef


def output_prefix(task_id: str, attempt: int) -> str:
    """Where an attempt stores its result: apart from every other, so that no two can mix."""
    return f"outputs/{task_id}/{attempt}/"


def work_prefix(task_id: str, attempt: int) -> str:
    """Where an attempt stores what it needs only for itself."""
    return f"work/{task_id}/{attempt}/"


class OutputStore:
    """The objects of tasks: results under `outputs/{id}/`, what is temporary under `work/{id}/`."""

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket
        self._s3 = clients.s3()

    def holds(self, key: str) -> bool:
        """Tell whether there is an object of this key. Raises UnavailableError."""
        with clients.availability("the output bucket"):
            answer = self._s3.list_objects_v2(Bucket=self._bucket, Prefix=key, MaxKeys=1)
        return any(item["Key"] == key for item in answer.get("Contents", []))

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
        with clients.availability("the output bucket"):
            for page in self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix
            ):
                keys: list[ObjectIdentifierTypeDef] = [
                    {"Key": item["Key"]} for item in page.get("Contents", [])
                ]
                if not keys:
                    continue
                answer = self._s3.delete_objects(Bucket=self._bucket, Delete={"Objects": keys, "Quiet": True})
                # A request that removes only some of its objects still answers 200.
                if answer.get("Errors"):
                    raise UnavailableError("the output bucket")
