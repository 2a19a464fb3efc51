"""Tell of changes of tasks' status (DynamoDB, the stream of the table)."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from transcoding.api.answers import DescribedTranscoding, described
from transcoding.data.event_bus import EventBus
from transcoding.data.queue import CallbackQueue
from transcoding.logs import create_logger
from transcoding.model import Task
from transcoding.service.notices import tell
from transcoding.settings import NotifySettings

settings = NotifySettings.read()
bus = EventBus()
callbacks = CallbackQueue(settings.callback_queue_url)
logger = create_logger()


class NothingToldError(Exception):
    """None of a batch was told. Lambda hands it out again, in halves."""


def show(task: Task) -> DescribedTranscoding:
    """Return a task as get-transcode shows it."""
    return described(task, settings.timezone, settings.output_base_url)


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Take the records of a batch, and name those that are to come again."""
    failed = tell(event["Records"], bus, callbacks, show)
    if len(failed) == len(event["Records"]):
        raise NothingToldError
    return {"batchItemFailures": [{"itemIdentifier": number} for number in failed]}
