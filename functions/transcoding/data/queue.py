"""The job queue (SQS)."""

from __future__ import annotations

import json

from transcoding.data import clients


class JobQueue:
    """Sends tasks to the workers. A message names a task and a step; all state is in the table."""

    def __init__(self, queue_url: str) -> None:
        self._url = queue_url
        self._sqs = clients.sqs()

    def send(self, task_id: str) -> None:
        """Queue a task for transcoding. Raises UnavailableError."""
        message = json.dumps({"task_id": task_id, "step": "transcode"})
        with clients.availability("the job queue"):
            self._sqs.send_message(QueueUrl=self._url, MessageBody=message)

    def has_waiting(self) -> bool:
        """Tell whether messages wait for a worker, as far as SQS knows. Raises UnavailableError."""
        with clients.availability("the job queue"):
            answer = self._sqs.get_queue_attributes(
                QueueUrl=self._url, AttributeNames=["ApproximateNumberOfMessages"]
            )
        return int(answer["Attributes"]["ApproximateNumberOfMessages"]) > 0

    def postpone(self, receipt_handle: str, seconds: int) -> None:
        """Let a message that was received come again after so many seconds. Raises UnavailableError."""
        with clients.availability("the job queue"):
            self._sqs.change_message_visibility(
                QueueUrl=self._url, ReceiptHandle=receipt_handle, VisibilityTimeout=seconds
            )
