"""POST /transcoding/api/delete-transcodes: delete tasks."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Tracer
from aws_lambda_powertools.logging.correlation_paths import API_GATEWAY_REST
from aws_lambda_powertools.utilities.typing import LambdaContext

from transcoding.api.resolver import PREFIX, ApiResolver
from transcoding.api.schemas import Deleted, DeleteTranscodes
from transcoding.data.object_store import ObjectStore
from transcoding.data.task_table import TaskTable
from transcoding.logs import create_logger
from transcoding.service import tasks
from transcoding.settings import DeleteSettings

settings = DeleteSettings.read()
table = TaskTable(settings.table_name)
store = ObjectStore(settings.output_bucket, patient=False)
logger, tracer = create_logger(), Tracer()
app = ApiResolver("some of the tasks may be deleted already, and the call may be repeated")


@app.post(
    f"{PREFIX}/delete-transcodes",
    summary="Delete tasks",
    description="As delete-transcode does. Where some ids never existed, the others are still deleted.",
    operation_id="deleteTranscodes",
    responses=app.answers(
        Deleted,
        {
            400: "The ids are missing, or too many",
            404: "No such tasks: their ids",
            413: "The body is over 64 KiB",
        },
    ),
)
def delete_transcodes(body: DeleteTranscodes) -> Deleted:
    """Delete tasks."""
    tasks.delete(table, store, settings.retention, body.ids)
    return Deleted()


@logger.inject_lambda_context(correlation_id_path=API_GATEWAY_REST)
@tracer.capture_lambda_handler(capture_response=False)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer an API Gateway proxy event."""
    return app.resolve(event, context)
