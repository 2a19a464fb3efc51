"""GET /transcoding/api/get-transcodes: list the tasks."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.logging.correlation_paths import API_GATEWAY_REST
from aws_lambda_powertools.utilities.typing import LambdaContext

from transcoding.api.answers import OK, Listed, transcoding
from transcoding.api.operation import PREFIX, Operation
from transcoding.api.parameters import LIMIT, PAGE
from transcoding.data.task_table import TaskTable
from transcoding.logs import create_logger
from transcoding.service import tasks
from transcoding.settings import ShowSettings

settings = ShowSettings.read()
table = TaskTable(settings.table_name)
logger = create_logger()


def get_transcodes(page: int, limit: int) -> Listed:
    """List the tasks."""
    found, count = tasks.page(table, page, limit)
    shown = [transcoding(task, settings.timezone, settings.output_base_url) for task in found]
    return {**OK, "results": shown, "count": count}


operation = Operation(
    method="GET",
    path=f"{PREFIX}/get-transcodes",
    function=get_transcodes,
    id="getTranscodes",
    summary="List the tasks",
    description="Newest first, without those that are deleted. A page past the end is empty.",
    query=(PAGE, LIMIT),
    refusals={400: "A parameter is wrong"},
    unavailable="the call may be repeated",
)


@logger.inject_lambda_context(correlation_id_path=API_GATEWAY_REST)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer an API Gateway proxy event."""
    return operation.answer(event, context)
