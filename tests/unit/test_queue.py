"""The job queue: what its messages say, and that none is left out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import QUEUE_URL, Aws
from transcoding.data.queue import JobQueue
from transcoding.errors import UnavailableError


@pytest.fixture
def queue(aws: Aws) -> JobQueue:
    return JobQueue(QUEUE_URL)


def test_a_tasks_messages_are_a_group(queue: JobQueue, aws: Aws) -> None:
    queue.send("aaaaaaaa")
    queue.send_part("bbbbbbbb", 2, 7)
    messages = aws.sqs.receive_message(
        QueueUrl=QUEUE_URL, MaxNumberOfMessages=10, MessageSystemAttributeNames=["MessageGroupId"]
    )["Messages"]
    assert {m["Attributes"]["MessageGroupId"]: json.loads(m["Body"]) for m in messages} == {
        "aaaaaaaa": {"task_id": "aaaaaaaa", "step": "transcode"},
        "bbbbbbbb": {"task_id": "bbbbbbbb", "step": "part", "attempt": 2, "part": 7},
    }


@pytest.mark.parametrize("count", [0, 1, 10, 23])
def test_any_number_of_parts_is_queued(queue: JobQueue, aws: Aws, count: int) -> None:
    queue.send_part("aaaaaaaa", 1, *range(count))
    assert sorted(message["part"] for message in aws.take_messages()) == list(range(count))


def test_messages_that_sqs_leaves_out_are_sent_again(
    queue: JobQueue, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, left_out = queue._sqs.send_message_batch, [["3", "5"], ["5"]]

    def leave_out(*, QueueUrl: str, Entries: list[dict[str, Any]]) -> Any:
        ids = left_out.pop(0) if left_out else []
        sent = [entry for entry in Entries if entry["Id"] not in ids]
        answer: Any = send(QueueUrl=QueueUrl, Entries=sent) if sent else {}
        return answer | {
            "Failed": [{"Id": id_, "SenderFault": False, "Code": "InternalError"} for id_ in ids]
        }

    monkeypatch.setattr(queue._sqs, "send_message_batch", leave_out)
    queue.send_part("aaaaaaaa", 1, *range(10))
    assert sorted(message["part"] for message in aws.take_messages()) == list(range(10))


def test_messages_that_sqs_does_not_take_are_unavailability(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*, QueueUrl: str, Entries: list[dict[str, Any]]) -> Any:
        return {"Failed": [{"Id": e["Id"], "SenderFault": False, "Code": "InternalError"} for e in Entries]}

    monkeypatch.setattr(queue._sqs, "send_message_batch", refuse)
    with pytest.raises(UnavailableError):
        queue.send_part("aaaaaaaa", 1, 0)
