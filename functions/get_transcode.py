"""GET /transcoding/api/get-transcode: show a task."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.logging.correlation_paths import API_GATEWAY_REST
from aws_lambda_powertools.utilities.typing import LambdaContext

from transcoding.api.answers import OK, Found, described
from transcoding.api.operation import PREFIX, Operation
from transcoding.api.parameters import ID
from transcoding.data.task_table import TaskTable
from transcoding.logs import create_logger
from transcoding.service import tasks
from transcoding.settings import ShowSettings

settings = ShowSettings.read()
table = TaskTable(settings.table_name)
logger = create_logger()


def get_transcode(id: str) -> Found:
    """Show a task."""
    task = tasks.find(table, id)
    return {**OK, "transcoding": described(task, settings.timezone, settings.output_base_url)}


operation = Operation(
    method="GET",
    path=f"{PREFIX}/get-transcode",
    function=get_transcode,
    id="getTranscode",
    summary="Show a task",
    description="A deleted task is shown for a retention time, 30 days by default.",
    query=(ID,),
    refusals={400: "The id is missing", 404: "No such task"},
    unavailable="the call may be repeated",
)


@logger.inject_lambda_context(correlation_id_path=API_GATEWAY_REST)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer an API Gateway proxy event."""
    return operation.answer(event, context)
