"""POST /transcoding/api/delete-transcode: delete a task."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.logging.correlation_paths import API_GATEWAY_REST
from aws_lambda_powertools.utilities.typing import LambdaContext

from transcoding.api.answers import OK, Deleted
from transcoding.api.operation import PREFIX, Operation
from transcoding.api.parameters import DELETE_TRANSCODE
from transcoding.data.object_store import ObjectStore
from transcoding.data.task_table import TaskTable
from transcoding.logs import create_logger
from transcoding.service import tasks
from transcoding.settings import DeleteSettings

settings = DeleteSettings.read()
table = TaskTable(settings.table_name)
store = ObjectStore(settings.output_bucket, patient=False)
logger = create_logger()


def delete_transcode(id: str) -> Deleted:
    """Delete a task."""
    tasks.delete(table, store, settings.retention, [id])
    return {**OK}


operation = Operation(
    method="POST",
    path=f"{PREFIX}/delete-transcode",
    function=delete_transcode,
    id="deleteTranscode",
    summary="Delete a task",
    description="In any status. A task that is running is stopped, and its stored objects are removed.",
    body=DELETE_TRANSCODE,
    refusals={400: "The id is missing", 404: "No such task", 413: "The body is over 64 KiB"},
    unavailable="the task may be deleted already, and the call may be repeated",
)


@logger.inject_lambda_context(correlation_id_path=API_GATEWAY_REST)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer an API Gateway proxy event."""
    return operation.answer(event, context)
