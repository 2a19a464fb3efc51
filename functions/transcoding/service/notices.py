"""Tells of changes of tasks' status: an event each and, where the task has a callback URL, a callback.

The source is the table's stream, so a status that was written is a status that is told, whatever dies
between. Lambda repeats a batch from the first record that is named as failed: a change may be told more than
once, and then has the same sequence number.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from aws_lambda_powertools import Logger

from transcoding.data.event_bus import DETAIL_TYPE, EventBus
from transcoding.data.queue import CallbackQueue
from transcoding.data.stream import changed_task, sequence_number
from transcoding.errors import UnavailableError
from transcoding.model import Task

logger = Logger(child=True)

Show = Callable[[Task], Mapping[str, Any]]


def tell(
    records: Sequence[Mapping[str, Any]], bus: EventBus, callbacks: CallbackQueue, show: Show
) -> list[str]:
    """Tell of the changes of status among records of the table's stream.

    Returns the sequence numbers of the records that were not told. `show` returns a task as get-transcode
    shows it.
    """
    changes = []
    failed: set[str] = set()
    for record in records:
        try:
            task = changed_task(record)
        except Exception:
            logger.exception("A record of the stream cannot be read")
            failed.add(sequence_number(record))
            continue
        if task:
            logger.info("telling", task_id=task.id, status=task.status.name, sequence=task.sequence)
            changes.append((sequence_number(record), task))

    def attempt(send: Callable[[], set[int]], numbers: list[str]) -> None:
        try:
            places = send()
        except UnavailableError as error:
            logger.warning("Changes are told later", exc_info=error)
            failed.update(numbers)
        else:
            failed.update(numbers[place] for place in places)

    details = [dump({**show(task), "sequence": task.sequence}) for _, task in changes]
    attempt(lambda: bus.put(details), [number for number, _ in changes])
    called = [(number, task) for number, task in changes if task.callback_url]
    messages = [
        (
            urlsplit(task.callback_url).netloc,
            dump({"callback_url": task.callback_url, "body": callback_body(task, show)}),
        )
        for _, task in called
    ]
    attempt(lambda: callbacks.send(messages), [number for number, _ in called])
    return [number for record in records if (number := sequence_number(record)) in failed]


def callback_body(task: Task, show: Show) -> str:
    """Return the body of the callback that tells of a task's status."""
    return dump({"event": DETAIL_TYPE, "sequence": task.sequence, "transcoding": show(task)})


def dump(value: object) -> str:
    """Return a value as JSON of ASCII alone, so that its characters are its bytes."""
    return json.dumps(value, separators=(",", ":"))
