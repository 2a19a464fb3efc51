"""GET /transcoding/api/get-transcode: show a task."""

from __future__ import annotations

from typing import Annotated, Any

from aws_lambda_powertools import Tracer
from aws_lambda_powertools.event_handler.openapi.params import Query
from aws_lambda_powertools.logging.correlation_paths import API_GATEWAY_REST
from aws_lambda_powertools.utilities.typing import LambdaContext

from transcoding.api.fields import TaskId
from transcoding.api.resolver import PREFIX, ApiResolver
from transcoding.api.schemas import Found, Transcoding
from transcoding.data.task_table import TaskTable
from transcoding.logs import create_logger
from transcoding.service import tasks
from transcoding.settings import ShowSettings

settings = ShowSettings.read()
table = TaskTable(settings.table_name)
logger, tracer = create_logger(), Tracer()
app = ApiResolver("the call may be repeated")


@app.get(
    f"{PREFIX}/get-transcode",
    summary="Show a task",
    description="A deleted task is shown for a retention time, 30 days by default.",
    operation_id="getTranscode",
    responses=app.answers(Found, {400: "The id is missing", 404: "No such task"}),
)
def get_transcode(id: Annotated[TaskId, Query(description="The task's id.")]) -> Found:
    """Show a task."""
    task = tasks.find(table, id)
    return Found(transcoding=Transcoding.of(task, settings.timezone, settings.output_base_url))


@logger.inject_lambda_context(correlation_id_path=API_GATEWAY_REST)
@tracer.capture_lambda_handler(capture_response=False)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer an API Gateway proxy event."""
    return app.resolve(event, context)
