"""POST /transcoding/api/complete-upload: make a source of an upload's parts."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.logging.correlation_paths import API_GATEWAY_REST
from aws_lambda_powertools.utilities.typing import LambdaContext

from transcoding.api.answers import OK, Uploaded
from transcoding.api.operation import PREFIX, Operation
from transcoding.api.parameters import COMPLETE_UPLOAD
from transcoding.data.upload_store import UploadStore
from transcoding.logs import create_logger
from transcoding.service import uploads
from transcoding.settings import UploadSettings

settings = UploadSettings.read()
store = UploadStore(settings.upload_bucket)
logger = create_logger()


def complete_upload(upload_id: str, etags: list[str]) -> Uploaded:
    """Make a source of an upload's parts."""
    return {**OK, "origin_url": uploads.complete(store, upload_id, etags)}


operation = Operation(
    method="POST",
    path=f"{PREFIX}/complete-upload",
    function=complete_upload,
    id="completeUpload",
    summary="Complete an upload",
    description="Makes one object of the parts, which create-transcode then takes as its source. An upload "
    "that is complete already is answered in the same way.",
    body=COMPLETE_UPLOAD,
    refusals={
        400: "A parameter is missing or wrong, or a part is missing or another one",
        404: "No such upload",
        413: "The body is over 512 KiB",
    },
    unavailable="the upload may be complete already, and the call may be repeated",
    # 10,000 ETags in quotes of their own.
    max_body_bytes=512 * 1024,
)


@logger.inject_lambda_context(correlation_id_path=API_GATEWAY_REST)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer an API Gateway proxy event."""
    return operation.answer(event, context)
