"""The table's stream, as Lambda hands it out: which of its records tell of a task's change of status.

Of the writes of a status, the stream has each, and has it once:
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.Lambda.html
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Any

from transcoding.data.records import STATUS_MARK, TaskRecord
from transcoding.model import Task


def changed_task(record: Mapping[str, Any]) -> Task | None:
    """Return the task of a record as it was after its change of status; None for any other change.

    Other records than these are kept back by the template's filter; a write that leaves the mark of the
    last change on the item passes it.
    """
    images = record["dynamodb"]
    new, old = images.get("NewImage", {}), images.get("OldImage", {})
    marked = new.get("last_write", {}).get("S", "").startswith(STATUS_MARK)
    if not marked or new.get("sequence") == old.get("sequence"):
        return None
    return TaskRecord.from_raw_data({name: _stored(value) for name, value in new.items()}).task()


def _stored(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a value as DynamoDB's clients have it: bytes are in base64 in what Lambda hands out."""
    return {"B": b64decode(value["B"])} if "B" in value else value


def sequence_number(record: Mapping[str, Any]) -> str:
    """Return what names a record within its stream."""
    number: str = record["dynamodb"]["SequenceNumber"]
    return number
