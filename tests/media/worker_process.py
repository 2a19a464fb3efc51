"""A worker's process: runs the handler on one message of the queue, as Lambda does.

python -m tests.media.worker_process [--remove-source]

`--remove-source` removes a source in S3 as soon as it has been looked at. The servers of tests are on this
machine, where no source may be otherwise.
"""

from __future__ import annotations

import logging
import sys
from types import SimpleNamespace
from typing import Any

import boto3

from transcoding.pipeline import fetch
from transcoding.pipeline.transcoder import Transcoder

SECONDS = 900


def message(queue_url: str) -> dict[str, Any]:
    """Receive a message, and return the event that Lambda makes of it."""
    (received,) = boto3.client("sqs").receive_message(
        QueueUrl=queue_url, WaitTimeSeconds=5, MessageSystemAttributeNames=["All"]
    )["Messages"]
    record = {
        "messageId": received["MessageId"],
        "receiptHandle": received["ReceiptHandle"],
        "body": received["Body"],
        "attributes": received["Attributes"],
        "messageAttributes": {},
        "eventSource": "aws:sqs",
    }
    return {"Records": [record]}


def main() -> None:
    # As Lambda's runtime does before it imports a function.
    logging.basicConfig(format="[%(levelname)s]\t%(message)s")
    fetch.HttpSource.__init__.__kwdefaults__["is_allowed"] = lambda address: True  # type: ignore[index]
    import worker

    if "--remove-source" in sys.argv:
        look_at = Transcoder.prepare

        def prepare(transcoder: Any, *arguments: Any) -> Any:
            prepared = look_at(transcoder, *arguments)
            boto3.client("s3").delete_object(Bucket=prepared.source.bucket, Key=prepared.source.key)
            return prepared

        Transcoder.prepare = prepare  # type: ignore[method-assign]
    context = SimpleNamespace(
        function_name="worker",
        function_version="1",
        memory_limit_in_mb=10240,
        invoked_function_arn="arn:aws:lambda:us-east-1:123456789012:function:worker",
        aws_request_id="8a7c5c1e-0000-4000-8000-000000000000",
        get_remaining_time_in_millis=lambda: SECONDS * 1000,
    )
    worker.handler(message(worker.settings.queue_url), context)


if __name__ == "__main__":
    main()
