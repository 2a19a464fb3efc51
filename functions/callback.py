"""Send the callbacks of the callback queue (SQS)."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSEvent
from aws_lambda_powertools.utilities.typing import LambdaContext

from transcoding.data.callback_key import CallbackKey
from transcoding.data.queue import CallbackQueue
from transcoding.logs import create_logger
from transcoding.service.callbacks import Callbacks, NotTakenError
from transcoding.service.outcomes import Outcome
from transcoding.settings import CallbackSettings

settings = CallbackSettings.read()
callbacks = Callbacks(
    CallbackQueue(settings.callback_queue_url),
    settings.callback_dead_letter_queue_url,
    CallbackKey(settings.callback_key_name),
)
logger, metrics = create_logger(), Metrics()


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Handle an SQS event of one message. A callback that was not taken is no error of the function."""
    (record,) = SQSEvent(event).records
    attributes = record.attributes
    try:
        outcome = callbacks.send(
            record.body,
            record.receipt_handle,
            int(attributes.approximate_receive_count),
            int(attributes.sent_timestamp) / 1000,
        )
    except NotTakenError:
        metrics.add_metric(Outcome.CALLBACK_FAILED, MetricUnit.Count, 1)
        return {"batchItemFailures": [{"itemIdentifier": record.message_id}]}
    metrics.add_metric(outcome, MetricUnit.Count, 1)
    return {"batchItemFailures": []}
