"""GET /transcoding/api/get-transcodes: list the tasks."""

from __future__ import annotations

from typing import Annotated, Any

from aws_lambda_powertools import Tracer
from aws_lambda_powertools.event_handler.openapi.params import Query
from aws_lambda_powertools.logging.correlation_paths import API_GATEWAY_REST
from aws_lambda_powertools.utilities.typing import LambdaContext

from transcoding.api.fields import Limit, Page
from transcoding.api.resolver import PREFIX, ApiResolver
from transcoding.api.schemas import Listed, Transcoding
from transcoding.data.task_table import TaskTable
from transcoding.logs import create_logger
from transcoding.service import tasks
from transcoding.settings import ShowSettings

settings = ShowSettings.read()
table = TaskTable(settings.table_name)
logger, tracer = create_logger(), Tracer()
app = ApiResolver("the call may be repeated")


@app.get(
    f"{PREFIX}/get-transcodes",
    summary="List the tasks",
    description="Newest first, without those that are deleted. A page past the end is empty.",
    operation_id="getTranscodes",
    responses=app.answers(Listed, {400: "A parameter is wrong"}),
)
def get_transcodes(
    page: Annotated[Page, Query(description="Which page, from 1.")] = 1,
    limit: Annotated[Limit, Query(description="How many tasks a page has.")] = 15,
) -> Listed:
    """List the tasks."""
    found, count = tasks.page(table, page, limit)
    shown = [Transcoding.of(task, settings.timezone, settings.output_base_url) for task in found]
    return Listed(results=shown, count=count)


@logger.inject_lambda_context(correlation_id_path=API_GATEWAY_REST)
@tracer.capture_lambda_handler(capture_response=False)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer an API Gateway proxy event."""
    return app.resolve(event, context)
