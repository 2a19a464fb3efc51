"""A worker that does what is queued, each message in a process of its own, until its standard input ends.

Prints a line of JSON for each message: its body, how the process ended, seconds, and the most memory that it
or one of its FFmpegs had, in bytes.
"""

from __future__ import annotations

import json
import logging
import os
import select
import sys
import time
from types import SimpleNamespace
from typing import Any

import boto3

from tests.media.worker_process import message

#: Seconds and MB of an invocation: small ones, so that what is slow or large shows.
SECONDS = 90
MEMORY = 2048


def main() -> None:
    logging.basicConfig(format="[%(levelname)s]\t%(message)s")
    import worker
    from transcoding.data import clients

    # What a process would do again for each message; none has connected yet.
    clients.s3(patient=True), clients.sqs()
    queue_url = worker.settings.queue_url
    boto3.setup_default_session()
    while True:
        if select.select([sys.stdin], [], [], 0)[0]:
            return
        try:
            event = message(queue_url)
        except (KeyError, ValueError):
            continue
        started = time.monotonic()
        pid = os.fork()
        if pid == 0:
            _work(worker.handler, event)
        _, status, used = os.wait4(pid, 0)
        line = {
            "body": event["Records"][0]["body"],
            "ended": os.waitstatus_to_exitcode(status),
            "seconds": time.monotonic() - started,
            "bytes": used.ru_maxrss * 1024,
        }
        print(json.dumps(line), flush=True)


def _work(handler: Any, event: dict[str, Any]) -> None:
    deadline = time.monotonic() + SECONDS
    context = SimpleNamespace(
        function_name="worker",
        function_version="1",
        memory_limit_in_mb=MEMORY,
        invoked_function_arn="arn:aws:lambda:us-east-1:123456789012:function:worker",
        aws_request_id=event["Records"][0]["messageId"],
        get_remaining_time_in_millis=lambda: int(1000 * (deadline - time.monotonic())),
    )
    status = 1
    try:
        # Its log, which powertools writes to standard output, is another's.
        os.dup2(sys.stderr.fileno(), 1)
        failed = handler(event, context)["batchItemFailures"]
        if not failed:
            record = event["Records"][0]
            boto3.client("sqs").delete_message(
                QueueUrl=os.environ["QUEUE_URL"], ReceiptHandle=record["receiptHandle"]
            )
        status = 0
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
