"""POST /transcoding/api/create-transcode: create a task and start it."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import single_metric
from aws_lambda_powertools.logging.correlation_paths import API_GATEWAY_REST
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from transcoding.api.answers import OK, Created
from transcoding.api.operation import PREFIX, Operation
from transcoding.api.order import read_order
from transcoding.api.parameters import CREATE_TRANSCODE, IDEMPOTENCY_KEY
from transcoding.data.queue import JobQueue
from transcoding.data.task_table import TaskTable
from transcoding.logs import create_logger
from transcoding.service import tasks
from transcoding.settings import CreateSettings

settings = CreateSettings.read()
table = TaskTable(settings.table_name)
queue = JobQueue(settings.queue_url)
logger = create_logger()


def create_transcode(
    origin_url: str,
    task_config_temp_id: int,
    format: str,
    codec: tuple[str, ...] | None,
    thumbnails: bool | None,
    callback_url: str | None,
    idempotency_key: str | None,
) -> Created:
    """Create a task."""
    order = read_order(origin_url, task_config_temp_id, format, codec, thumbnails, callback_url)
    task = tasks.create(table, queue, order, idempotency_key)
    with single_metric("TasksCreated", MetricUnit.Count, 1):
        return {**OK, "id": task.id}


operation = Operation(
    method="POST",
    path=f"{PREFIX}/create-transcode",
    function=create_transcode,
    id="createTranscode",
    summary="Create a task and start it",
    description="The task is queued at once; `get-transcode` reports its progress.",
    body=CREATE_TRANSCODE,
    headers=(IDEMPOTENCY_KEY,),
    refusals={400: "A parameter is missing or wrong", 413: "The body is over 64 KiB"},
    unavailable="it is not known whether a task was created. With the same Idempotency-Key, the call may be "
    "repeated and makes no second one",
)


@logger.inject_lambda_context(correlation_id_path=API_GATEWAY_REST)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer an API Gateway proxy event."""
    return operation.answer(event, context)
