"""End the tasks whose messages no worker could deal with (SQS, the dead-letter queue)."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from transcoding.data.object_store import ObjectStore
from transcoding.data.part_table import PartTable
from transcoding.data.task_table import TaskTable
from transcoding.logs import create_logger
from transcoding.service.dead_letters import bury as bury_task
from transcoding.settings import DeadLetterSettings

settings = DeadLetterSettings.read()
table = TaskTable(settings.table_name)
parts = PartTable(settings.table_name)
store = ObjectStore(settings.output_bucket, patient=False)
logger, metrics = create_logger(), Metrics()
processor = BatchProcessor(EventType.SQS)


def bury(record: SQSRecord) -> None:
    """End one message's task."""
    for outcome in bury_task(table, parts, store, record.body):
        metrics.add_metric(outcome, MetricUnit.Count, 1)


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    """Take the messages of a batch one by one."""
    return process_partial_response(event, bury, processor, context)
