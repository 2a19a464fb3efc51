"""POST /transcoding/api/create-transcode: create a task and start it."""

from __future__ import annotations

from typing import Annotated, Any

from aws_lambda_powertools import Tracer, single_metric
from aws_lambda_powertools.event_handler.openapi.params import Header
from aws_lambda_powertools.logging.correlation_paths import API_GATEWAY_REST
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from transcoding.api.fields import IdempotencyKey
from transcoding.api.resolver import PREFIX, ApiResolver
from transcoding.api.schemas import Created, CreateTranscode
from transcoding.data.queue import JobQueue
from transcoding.data.task_table import TaskTable
from transcoding.logs import create_logger
from transcoding.service import tasks
from transcoding.settings import CreateSettings

settings = CreateSettings.read()
table = TaskTable(settings.table_name)
queue = JobQueue(settings.queue_url)
logger, tracer = create_logger(), Tracer()
app = ApiResolver(
    "it is not known whether a task was created. With the same Idempotency-Key, the call may be repeated and "
    "makes no second one"
)


@app.post(
    f"{PREFIX}/create-transcode",
    summary="Create a task and start it",
    description="The task is queued at once; `get-transcode` reports its progress.",
    operation_id="createTranscode",
    responses=app.answers(Created, {400: "A parameter is missing or wrong", 413: "The body is over 64 KiB"}),
)
def create_transcode(
    body: CreateTranscode,
    idempotency_key: Annotated[
        IdempotencyKey,
        Header(
            alias="Idempotency-Key",
            description="Within 24 hours, a call with the same key returns the same task: with it, a call "
            "whose answer was lost can be repeated.",
        ),
    ] = None,
) -> Created:
    """Create a task."""
    task = tasks.create(
        table,
        queue,
        origin_url=body.origin_url,
        quality=body.task_config_temp_id,
        format_name=body.format,
        idempotency_key=idempotency_key,
    )
    with single_metric("TasksCreated", MetricUnit.Count, 1):
        return Created(id=task.id)


@logger.inject_lambda_context(correlation_id_path=API_GATEWAY_REST)
@tracer.capture_lambda_handler(capture_response=False)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer an API Gateway proxy event."""
    return app.resolve(event, context)
