"""The items of the DynamoDB table, as pynamodb models. Only the tables use them.

| item | key | attributes |
|---|---|---|
| task | its id | those of `TaskRecord` |
| part of a task | `part#` + task's id + `#` + attempt + `#` + number | those of `PartRecord` |
| live tasks, by day | `counts` | `fold`, `folds`, `days` |
| live tasks of a day, by slice | `counts#2026-11-22` | `fold`, `slices` |
| changes of these that are pending, by slice | `pending#` + shard | `fold`, `179536057`: a number, … |
| idempotency key | `idempotency#` + its SHA-256 | those of `IdempotencyRecord` |
"""

from __future__ import annotations

import json
import zlib
from typing import Any, Self, TypeVar, cast

from pynamodb.attributes import (
    Attribute,
    BooleanAttribute,
    NumberAttribute,
    UnicodeAttribute,
    UTCDateTimeAttribute,
)
from pynamodb.constants import BINARY
from pynamodb.indexes import AllProjection, GlobalSecondaryIndex, KeysOnlyProjection
from pynamodb.models import Model

from transcoding.data import clients
from transcoding.model import Output, OutputRendition, Part, PartKind, Status, Task

#: How the mark of a change begins that sets a task's status: only these changes are told, and the template
#: has the table's stream filtered by it.
STATUS_MARK = "status#"

_Value = TypeVar("_Value")


class ByMonth(GlobalSecondaryIndex["TaskRecord"]):  # type: ignore[no-untyped-call]
    """The tasks that are not deleted, a month a partition, by time."""

    class Meta:
        """The index of the template."""

        index_name = "by_month"
        projection = KeysOnlyProjection()

    month = UnicodeAttribute(hash_key=True)
    created = UnicodeAttribute(range_key=True)


class ByPeriod(GlobalSecondaryIndex["TaskRecord"]):  # type: ignore[no-untyped-call]
    """The tasks that version 0.1.0 has stored and that are not yet counted here."""

    class Meta:
        """The index of the template."""

        index_name = "by_period"
        projection = AllProjection()

    period = UnicodeAttribute(hash_key=True)
    created = UnicodeAttribute(range_key=True)


class Attention(GlobalSecondaryIndex["TaskRecord"]):  # type: ignore[no-untyped-call]
    """The tasks that the sweep has to look at, by the time when it should."""

    class Meta:
        """The index of the template."""

        index_name = "attention"
        projection = KeysOnlyProjection()

    attention = UnicodeAttribute(hash_key=True)
    attention_at = NumberAttribute(range_key=True)


class Record(Model):
    """What all items have, and the one connection that they share."""

    class Meta:
        """`table_name` is set by the task table. Without `host`, botocore reads `AWS_ENDPOINT_URL`."""

        table_name = ""
        connect_timeout_seconds = clients.CONNECT_TIMEOUT
        read_timeout_seconds = clients.READ_TIMEOUT
        max_retry_attempts = clients.MAX_ATTEMPTS - 1
        max_pool_connections = clients.MAX_CONNECTIONS

    id = UnicodeAttribute(hash_key=True)
    #: When DynamoDB may remove the item, seconds since the epoch (the table's TTL attribute).
    expires_at = NumberAttribute(null=True)
    #: A random mark of the last change, by which a write that is repeated knows what it has itself written.
    #: That of a change of a task's status starts with STATUS_MARK.
    last_write = UnicodeAttribute(null=True)

    by_month = ByMonth()
    by_period = ByPeriod()
    attention_index = Attention()


class PackedAttribute(Attribute[_Value]):
    """A value as compressed JSON: a day's slices are 8,640 numbers, most of which are alike."""

    attr_type = BINARY

    def serialize(self, value: _Value) -> bytes:
        """Pack a value."""
        return zlib.compress(json.dumps(value, separators=(",", ":")).encode())

    def deserialize(self, value: bytes) -> _Value:
        """Unpack a value."""
        return cast(_Value, json.loads(zlib.decompress(value)))


class TaskRecord(Record):
    """A task."""

    origin_url = UnicodeAttribute()
    quality = NumberAttribute()
    format = UnicodeAttribute()
    created_at = UTCDateTimeAttribute()
    updated_at = UTCDateTimeAttribute()
    status = NumberAttribute()
    progress = NumberAttribute()
    #: The key of the result in the output bucket; version 0.1.0 has stored its URL.
    target_url = UnicodeAttribute()
    error_code = NumberAttribute()
    error_info = UnicodeAttribute()
    attempt = NumberAttribute()
    lease_owner = UnicodeAttribute(null=True)
    lease_expires_at = NumberAttribute(null=True)
    #: These are there only where they are not the default.
    codecs = UnicodeAttribute(null=True)
    thumbnails = BooleanAttribute(null=True)
    #: The fields of its `Output`, in 300 bytes for eight renditions: every change of an item that is larger
    #: than 1 KB costs more.
    output = PackedAttribute[dict[str, Any]](null=True)
    callback_url = UnicodeAttribute(null=True)
    #: How often the status was set. Tasks of earlier versions have it from their next change on.
    sequence = NumberAttribute(null=True)

    #: The month it was created in; a deleted task has none, and so leaves the list.
    month = UnicodeAttribute(null=True)
    #: Its place in the list: the time to the microsecond, then the id.
    created = UnicodeAttribute()
    #: The hour it was created in; only version 0.1.0 sets it, on tasks that it counts by its own counts.
    period = UnicodeAttribute(null=True)
    #: Both are there only while the sweep has something to do, now or later.
    attention = UnicodeAttribute(null=True)
    attention_at = NumberAttribute(null=True)

    #: These are there only once it was cut into parts.
    parts = NumberAttribute(null=True)
    parts_left = NumberAttribute(null=True)
    parts_queued = NumberAttribute(null=True)
    finishes = NumberAttribute(null=True)

    def task(self) -> Task:
        """Return it as the service knows it."""
        return Task(
            id=self.id,
            origin_url=self.origin_url,
            quality=int(self.quality),
            format=self.format,
            created_at=self.created_at,
            updated_at=self.updated_at,
            status=Status(int(self.status)),
            progress=float(self.progress),
            target=self.target_url,
            error_code=int(self.error_code),
            error_info=self.error_info,
            attempt=int(self.attempt),
            lease_owner=self.lease_owner or "",
            lease_expires_at=float(self.lease_expires_at or 0),
            parts=int(self.parts or 0),
            parts_left=int(self.parts_left or 0),
            parts_queued=int(self.parts_queued or 0),
            finishes=int(self.finishes or 0),
            codecs=self.codecs or "",
            thumbnails=bool(self.thumbnails),
            output=_output(self.output) if self.output else None,
            callback_url=self.callback_url or "",
            sequence=int(self.sequence or 0),
        )


def _output(stored: dict[str, Any]) -> Output:
    renditions = tuple(OutputRendition(**_known(OutputRendition, one)) for one in stored["renditions"])
    return Output(**_known(Output, stored) | {"renditions": renditions})


def _known(kind: type[Output | OutputRendition], stored: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that this version knows: a later one may have stored others."""
    return {name: stored[name] for name in kind.__dataclass_fields__ if name in stored}


class PartRecord(Record):
    """A part of a task. It is removed with its task's end, or by DynamoDB after `expires_at`."""

    task_id = UnicodeAttribute()
    attempt = NumberAttribute()
    number = NumberAttribute()
    kind = UnicodeAttribute()
    start = NumberAttribute()
    end = NumberAttribute(null=True)
    tries = NumberAttribute()
    faults = NumberAttribute(null=True)
    progress = NumberAttribute()
    lease_owner = UnicodeAttribute(null=True)
    lease_expires_at = NumberAttribute(null=True)
    #: Only where it is true.
    done = BooleanAttribute(null=True)
    sends = NumberAttribute(null=True)
    sent_at = NumberAttribute(null=True)

    @classmethod
    def key(cls, task_id: str, attempt: int, number: int) -> str:
        """Name the item of a part."""
        return f"part#{task_id}#{attempt}#{number}"

    def part(self) -> Part:
        """Return it as the service knows it."""
        return Part(
            task_id=self.task_id,
            attempt=int(self.attempt),
            number=int(self.number),
            kind=cast(PartKind, self.kind),
            start=int(self.start),
            end=None if self.end is None else int(self.end),
            tries=int(self.tries),
            faults=int(self.faults or 0),
            lease_owner=self.lease_owner or "",
            lease_expires_at=float(self.lease_expires_at or 0),
            done=bool(self.done),
            sends=int(self.sends or 0),
            sent_at=float(self.sent_at or 0),
            progress=float(self.progress),
        )


class CountRecord(Record):
    """Counts of live tasks, folded or pending: see counts.py."""

    #: How many folds there were when it was last folded (into); of a shard, its own.
    fold = NumberAttribute(null=True)
    #: How many there were of each shard.
    folds = PackedAttribute[list[int]](null=True)
    days = PackedAttribute[dict[str, int]](null=True)
    slices = PackedAttribute[list[int]](null=True)

    #: By number of the slice.
    pending: dict[int, int]

    @classmethod
    def from_raw_data(cls, data: dict[str, Any]) -> Self:
        """Read also what is pending, whose names no model can list."""
        record = super().from_raw_data(data)
        record.pending = {int(name): int(value["N"]) for name, value in data.items() if name.isdigit()}
        return record


class IdempotencyRecord(Record):
    """What a create call with an idempotency key made, for a day."""

    task_id = UnicodeAttribute()
    #: Of the call's parameters.
    fingerprint = UnicodeAttribute()
