"""The queues (SQS): of jobs, and of callbacks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from transcoding.data import clients
from transcoding.errors import UnavailableError

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

#: The most that SQS takes in a request.
_BATCH = 10
_CALLBACKS = "the callback queue"


class JobQueue:
    """Sends tasks, and parts of them, to the workers.

    A message names a task and a step; all state is in the table. A task's messages are a group: of a standard
    queue, SQS then gives out the messages of other groups first while one has many (a "fair queue").
    """

    def __init__(self, queue_url: str) -> None:
        self._url = queue_url
        self._sqs = clients.sqs()

    def send(self, task_id: str) -> None:
        """Queue a task for transcoding. Raises UnavailableError."""
        message = json.dumps({"task_id": task_id, "step": "transcode"})
        with clients.availability("the job queue"):
            self._sqs.send_message(QueueUrl=self._url, MessageBody=message, MessageGroupId=task_id)

    def send_part(self, task_id: str, attempt: int, *numbers: int) -> None:
        """Queue parts of a task for encoding. Raises UnavailableError; some may be on the queue then."""
        for first in range(0, len(numbers), _BATCH):
            entries: list[SendMessageBatchRequestEntryTypeDef] = [
                {
                    "Id": str(number),
                    "MessageBody": json.dumps(
                        {"task_id": task_id, "step": "part", "attempt": attempt, "part": number}
                    ),
                    "MessageGroupId": task_id,
                }
                for number in numbers[first : first + _BATCH]
            ]
            self._send_all(entries)

    def _send_all(self, entries: list[SendMessageBatchRequestEntryTypeDef]) -> None:
        for _ in range(clients.MAX_ATTEMPTS):
            with clients.availability("the job queue"):
                answer = self._sqs.send_message_batch(QueueUrl=self._url, Entries=entries)
            # A request that sends only some of its messages still answers 200.
            failed = {failure["Id"] for failure in answer.get("Failed", [])}
            entries = [entry for entry in entries if entry["Id"] in failed]
            if not entries:
                return
        raise UnavailableError("the job queue")

    def postpone(self, receipt_handle: str, seconds: int) -> None:
        """Let a message that was received come again after so many seconds. Raises UnavailableError."""
        with clients.availability("the job queue"):
            self._sqs.change_message_visibility(
                QueueUrl=self._url, ReceiptHandle=receipt_handle, VisibilityTimeout=seconds
            )


class CallbackQueue:
    """The callbacks that are to be sent, each a message.

    Those to one host are a group, so that a host that is slow, or down, does not keep others waiting (see
    JobQueue).
    """

    def __init__(self, queue_url: str) -> None:
        self._url = queue_url
        self._sqs = clients.sqs()

    def send(self, callbacks: Sequence[tuple[str, str]]) -> set[int]:
        """Queue callbacks, each a host and a message; return the places of those that were not taken."""
        failed = set()
        for first in range(0, len(callbacks), _BATCH):
            entries: list[SendMessageBatchRequestEntryTypeDef] = [
                {"Id": str(place), "MessageBody": message, "MessageGroupId": _group(host)}
                for place, (host, message) in enumerate(callbacks[first : first + _BATCH], first)
            ]
            with clients.availability(_CALLBACKS):
                answer = self._sqs.send_message_batch(QueueUrl=self._url, Entries=entries)
            failed |= {int(failure["Id"]) for failure in answer.get("Failed", [])}
        return failed

    def postpone(self, receipt_handle: str, seconds: int) -> None:
        """Let a message that was received come again after so many seconds. Raises UnavailableError."""
        with clients.availability(_CALLBACKS):
            self._sqs.change_message_visibility(
                QueueUrl=self._url, ReceiptHandle=receipt_handle, VisibilityTimeout=seconds
            )

    def give_up(self, dead_letter_queue_url: str, message: str) -> None:
        """Put a message on the dead-letter queue. Raises UnavailableError."""
        with clients.availability("the dead-letter queue of the callbacks"):
            self._sqs.send_message(QueueUrl=dead_letter_queue_url, MessageBody=message)


def _group(host: str) -> str:
    """Return the group of a host, whose name may be longer than that of a group."""
    return hashlib.sha256(host.encode()).hexdigest()
