"""Make tasks of what is put into the watch folder (SQS, events of S3 through EventBridge)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from transcoding.api.order import read_order
from transcoding.api.parameters import ORIGIN_URL, RefusedError
from transcoding.data.queue import JobQueue
from transcoding.data.task_table import TaskTable
from transcoding.errors import ApiError
from transcoding.logs import create_logger
from transcoding.service import tasks
from transcoding.settings import InboxSettings

settings = InboxSettings.read()
#: What is asked for of every object.
ORDER = read_order("", settings.inbox_quality, settings.inbox_format, None, None, None)
table = TaskTable(settings.table_name)
queue = JobQueue(settings.queue_url)
logger, metrics = create_logger(), Metrics()
processor = BatchProcessor(EventType.SQS)


def take(record: SQSRecord) -> None:
    """Create the task of an object, once, however often its event comes.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
    """
    detail = record.json_body["detail"]
    bucket, item = detail["bucket"]["name"], detail["object"]
    if item["key"].endswith("/"):
        logger.info("A folder is no source", bucket=bucket, key=item["key"])
        return
    try:
        origin_url = ORIGIN_URL.read(f"s3://{bucket}/{item['key']}")
    except RefusedError as error:
        logger.warning("No task can be made of an object", bucket=bucket, key=item["key"], why=str(error))
        return
    # The sequencer is another one each time that an object is written. No caller's key has line breaks.
    key = "\n".join(("inbox", bucket, item["key"], item["sequencer"]))
    try:
        tasks.create(table, queue, replace(ORDER, origin_url=origin_url), key)
    except ApiError:
        logger.info("A task was made of an object before, with other parameters", origin_url=origin_url)
        return
    metrics.add_metric("TasksCreated", MetricUnit.Count, 1)


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> PartialItemFailureResponse:
    """Take the messages of a batch one by one."""
    metrics.add_metric("TasksCreated", MetricUnit.Count, 0)
    return process_partial_response(event, take, processor, context)
