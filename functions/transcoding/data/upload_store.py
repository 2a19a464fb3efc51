"""The bucket that callers upload into: multipart uploads of S3, whose parts they send by presigned URLs.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import ClientError

from transcoding.data import clients
from transcoding.errors import UnavailableError, UnknownUploadError

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

#: How long a presigned URL lasts, seconds. It ends with the credentials that signed it, if those end sooner.
URL_SECONDS = 86_400
_SERVICE = "the upload bucket"
#: The most parts that S3 lists at once.
_PAGE = 1000
#: S3's codes where the parts are not what the caller says. They were, when they were listed.
_CHANGED = frozenset({"EntityTooSmall", "InvalidPart", "InvalidPartOrder"})


class StoredPart(NamedTuple):
    """A part that S3 has: its entity tag without quotes, and its size in bytes."""

    etag: str
    size: int


class UploadStore:
    """Creates and completes multipart uploads. All methods but `part_url` raise UnavailableError."""

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket
        self._s3 = clients.s3(patient=False)

    def create(self, key: str) -> str:
        """Begin an upload, and return S3's id of it."""
        with clients.availability(_SERVICE):
            return self._s3.create_multipart_upload(Bucket=self.bucket, Key=key)["UploadId"]

    def part_url(self, key: str, s3_id: str, number: int, size: int) -> str:
        """Return a URL that takes a part by PUT, of exactly `size` bytes, without credentials."""
        return self._s3.generate_presigned_url(
            "upload_part",
            Params={
                "Bucket": self.bucket,
                "Key": key,
                "UploadId": s3_id,
                "PartNumber": number,
                "ContentLength": size,
            },
            ExpiresIn=URL_SECONDS,
        )

    def parts(self, key: str, s3_id: str, numbers: range) -> Mapping[int, StoredPart]:
        """Return those of the parts that S3 has, by number. Raises UnknownUploadError."""
        found: dict[int, StoredPart] = {}
        after, more = numbers.start - 1, bool(numbers)
        with clients.availability(_SERVICE):
            while more:
                try:
                    page = self._s3.list_parts(
                        Bucket=self.bucket,
                        Key=key,
                        UploadId=s3_id,
                        PartNumberMarker=after,
                        MaxParts=min(_PAGE, numbers.stop - 1 - after),
                    )
                except self._s3.exceptions.NoSuchUpload:
                    raise UnknownUploadError from None
                for part in page.get("Parts", []):
                    after = part["PartNumber"]
                    if after in numbers:
                        found[after] = StoredPart(part["ETag"].strip('"'), part["Size"])
                more = page["IsTruncated"] and bool(page.get("Parts")) and after + 1 in numbers
        return found

    def complete(self, key: str, s3_id: str, etags: Sequence[str]) -> None:
        """Make the object of all parts, in order. Raises UnknownUploadError.

        Raises UnavailableError also where a part was sent again meanwhile.
        """
        parts: list[CompletedPartTypeDef] = [
            {"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)
        ]
        with clients.availability(_SERVICE):
            try:
                self._s3.complete_multipart_upload(
                    Bucket=self.bucket, Key=key, UploadId=s3_id, MultipartUpload={"Parts": parts}
                )
            except self._s3.exceptions.NoSuchUpload:
                raise UnknownUploadError from None
            except ClientError as error:
                if error.response["Error"]["Code"] in _CHANGED:
                    raise UnavailableError(_SERVICE) from error
                raise

    def size(self, key: str) -> int | None:
        """Return the size of an object in bytes; None where there is none of this key."""
        with clients.availability(_SERVICE):
            try:
                return self._s3.head_object(Bucket=self.bucket, Key=key)["ContentLength"]
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    return None
                raise
