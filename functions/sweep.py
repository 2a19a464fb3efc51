"""Every minute: move on the tasks that have got stuck (EventBridge schedule)."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from transcoding.data.object_store import ObjectStore
from transcoding.data.part_table import PartTable
from transcoding.data.queue import JobQueue
from transcoding.data.task_table import TaskTable
from transcoding.logs import create_logger
from transcoding.service.outcomes import Outcome
from transcoding.service.sweep import Sweep
from transcoding.settings import SweepSettings

settings = SweepSettings.read()
sweep = Sweep(
    TaskTable(settings.table_name),
    PartTable(settings.table_name),
    JobQueue(settings.queue_url),
    ObjectStore(settings.output_bucket, patient=False),
    window=settings.max_workers,
)
logger, metrics = create_logger(), Metrics()


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    """Look at the tasks that are due."""
    metrics.add_metric(Outcome.SWEPT, MetricUnit.Count, 0)
    for outcome in sweep.run(lambda: context.get_remaining_time_in_millis() / 1000):
        metrics.add_metric(outcome, MetricUnit.Count, 1)
