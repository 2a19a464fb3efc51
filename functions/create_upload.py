"""POST /transcoding/api/create-upload: begin an upload, or go on with one."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.logging.correlation_paths import API_GATEWAY_REST
from aws_lambda_powertools.utilities.typing import LambdaContext

from transcoding.api.answers import OK, UploadParts
from transcoding.api.operation import PREFIX, Operation
from transcoding.api.parameters import CREATE_UPLOAD
from transcoding.data.upload_store import UploadStore
from transcoding.errors import ApiError
from transcoding.logs import create_logger
from transcoding.service import uploads
from transcoding.settings import CreateUploadSettings

settings = CreateUploadSettings.read()
store = UploadStore(settings.upload_bucket)
logger = create_logger()


def create_upload(name: str | None, size: int | None, upload_id: str | None, first_part: int) -> UploadParts:
    """Begin an upload, or go on with one."""
    if upload_id is not None:
        upload = uploads.find(upload_id, settings.max_source_bytes)
    elif name is not None and size is not None:
        upload = uploads.create(store, name, size, settings.max_source_bytes)
    else:
        missing = [field for field, value in (("name", name), ("size", size)) if value is None]
        raise ApiError(400, "; ".join(f"{field}: is required without upload_id" for field in missing))
    parts = uploads.parts(store, upload, first_part, begun=upload_id is not None)
    return {
        **OK,
        "upload_id": upload.id,
        "origin_url": uploads.origin_url(store, upload),
        "part_size": upload.part_size,
        "urls": parts.urls,
        "etags": parts.etags,
    }


operation = Operation(
    method="POST",
    path=f"{PREFIX}/create-upload",
    function=create_upload,
    id="createUpload",
    summary="Begin an upload, or go on with one",
    description="Returns URLs that take the parts of a file by PUT, in any order and several at once, "
    "without the API key. With `upload_id`, returns them for later parts (`first_part`), or again, and the "
    "ETags of the parts that S3 has: so an upload that was broken off goes on from anywhere. What is not "
    "complete after a day is removed.",
    body=CREATE_UPLOAD,
    refusals={
        400: "A parameter is missing or wrong, or the file is too large",
        404: "No such upload",
        413: "The body is over 64 KiB",
    },
    unavailable="the call may be repeated",
)


@logger.inject_lambda_context(correlation_id_path=API_GATEWAY_REST)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer an API Gateway proxy event."""
    return operation.answer(event, context)
