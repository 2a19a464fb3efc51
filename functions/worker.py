"""Worker: takes a task, or a part of one, from the queue, transcodes its source and publishes the result."""

from __future__ import annotations

import time
from typing import Any

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from transcoding.data.object_store import ObjectStore
from transcoding.data.part_table import PartTable
from transcoding.data.queue import JobQueue
from transcoding.data.task_table import TaskTable
from transcoding.logs import create_logger
from transcoding.media.ffmpeg.tools import Tools
from transcoding.pipeline.transcoder import Transcoder
from transcoding.service.jobs import RETRY_SECONDS, Job, RetryLaterError
from transcoding.settings import WorkerSettings

logger = create_logger()
metrics = Metrics()
settings = WorkerSettings.read()
queue = JobQueue(settings.queue_url)
store = ObjectStore(settings.output_bucket)
job = Job(
    TaskTable(settings.table_name),
    PartTable(settings.table_name),
    queue,
    store,
    Transcoder(
        store,
        Tools.within(settings.ffmpeg_dir),
        max_source_bytes=settings.max_source_bytes,
        part_seconds=settings.part_seconds,
        fan_out_seconds=settings.fan_out_seconds,
        workers=settings.max_workers,
        source_buckets=settings.source_buckets,
    ),
    lease=settings.lease,
    window=settings.max_workers,
)
# A message that fails is reported as such; raising as well would count as an error of the function.
processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


def work_on(record: SQSRecord, lambda_context: LambdaContext) -> None:
    """Do the task, or the part of one, that a message names."""
    deadline = time.monotonic() + lambda_context.get_remaining_time_in_millis() / 1000
    owner = f"{lambda_context.aws_request_id}/{record.message_id}"
    try:
        message = record.json_body
        with logger.append_context_keys(task_id=message["task_id"]):
            if message["step"] == "part":
                outcome = job.run_part(
                    message["task_id"], message["attempt"], message["part"], owner, deadline
                )
            else:
                age = time.time() - int(record.attributes.sent_timestamp) / 1000
                outcome = job.run(message["task_id"], owner, deadline, age)
    except Exception as error:
        # Otherwise it would stay invisible for the whole visibility timeout.
        seconds = error.seconds if isinstance(error, RetryLaterError) else RETRY_SECONDS
        queue.postpone(record.receipt_handle, seconds)
        raise
    metrics.add_metric(outcome, MetricUnit.Count, 1)


@logger.inject_lambda_context
@metrics.log_metrics(capture_cold_start_metric=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Handle an SQS event of one message."""
    return dict(
        process_partial_response(event=event, record_handler=work_on, processor=processor, context=context)
    )
