"""The worker's handler: what becomes of a message."""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any

import pytest

from tests.conftest import QUEUE_URL, Aws, lambda_context

ENVIRONMENT = {"MAX_SOURCE_BYTES": "1000", "PART_SECONDS": "7", "FAN_OUT_SECONDS": "60"}


@pytest.fixture
def worker(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    # What it was imported with before may have been another test's table.
    monkeypatch.delitem(sys.modules, "worker", raising=False)
    return importlib.import_module("worker")


def handle(worker: Any, aws: Aws, age: float) -> tuple[list[str], int]:
    """Hand a message over whose task is not stored. Return what comes again, and in how many seconds."""
    waits: list[int] = []
    aws.sqs.send_message(
        QueueUrl=QUEUE_URL, MessageBody=json.dumps({"task_id": "notyet00", "step": "transcode"})
    )
    (message,) = aws.sqs.receive_message(QueueUrl=QUEUE_URL)["Messages"]
    record = {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": {"SentTimestamp": str(int((time.time() - age) * 1000))},
        "eventSource": "aws:sqs",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker.queue, "postpone", lambda handle, seconds: waits.append(seconds))
        answer = worker.handler({"Records": [record]}, lambda_context())
    return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]], sum(waits)


def test_a_message_that_is_younger_than_its_task_comes_again_soon(worker: Any, aws: Aws) -> None:
    for age, seconds in ((0.0, 1), (6.0, 6)):
        failed, wait = handle(worker, aws, age)
        assert len(failed) == 1
        assert wait == seconds


def test_a_message_without_a_task_is_dropped(worker: Any, aws: Aws) -> None:
    assert handle(worker, aws, 31.0) == ([], 0)
