"""POST /transcoding/api/delete-transcodes: delete tasks."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.logging.correlation_paths import API_GATEWAY_REST
from aws_lambda_powertools.utilities.typing import LambdaContext

from transcoding.api.answers import OK, Deleted
from transcoding.api.operation import PREFIX, Operation
from transcoding.api.parameters import DELETE_TRANSCODES
from transcoding.data.object_store import ObjectStore
from transcoding.data.task_table import TaskTable
from transcoding.logs import create_logger
from transcoding.service import tasks
from transcoding.settings import DeleteSettings

settings = DeleteSettings.read()
table = TaskTable(settings.table_name)
store = ObjectStore(settings.output_bucket, patient=False)
logger = create_logger()


def delete_transcodes(ids: list[str]) -> Deleted:
    """Delete tasks."""
    tasks.delete(table, store, settings.retention, ids)
    return {**OK}


operation = Operation(
    method="POST",
    path=f"{PREFIX}/delete-transcodes",
    function=delete_transcodes,
    id="deleteTranscodes",
    summary="Delete tasks",
    description="As delete-transcode does. Where some ids never existed, the others are still deleted.",
    body=DELETE_TRANSCODES,
    refusals={
        400: "The ids are missing, or too many",
        404: "No such tasks: their ids",
        413: "The body is over 64 KiB",
    },
    unavailable="some of the tasks may be deleted already, and the call may be repeated",
)


@logger.inject_lambda_context(correlation_id_path=API_GATEWAY_REST)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer an API Gateway proxy event."""
    return operation.answer(event, context)
