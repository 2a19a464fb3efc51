"""What the tables of tasks and of their parts share: one connection, and how they write.

Each change is one conditional write, so whatever runs at the same time, exactly one wins. botocore repeats a
write whose answer is lost, and what the first has written fails the condition of the second: so that this is
not taken for a loss, each change leaves a mark of its own on the item.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

from botocore.exceptions import ClientError
from pynamodb.exceptions import PutError, PynamoDBException, TransactWriteError
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action

from transcoding.data import clients
from transcoding.data.records import STATUS_MARK, PartRecord, Record, TaskRecord
from transcoding.errors import Failure, UnavailableError
from transcoding.model import Status, Task

#: When the sweep looks at a task that should have moved on by itself: accepted and not yet queued, given back
#: by its worker, cut into parts, or final with objects that may have to be removed.
SOON = timedelta(seconds=60)
#: `progress` is 1.0 only when a task has succeeded.
MOST_PROGRESS = 0.999
#: The one partition of the index that the sweep reads.
ATTENTION = "1"

#: Seconds between the first two tries of a write, at most; twice as long after each.
_FIRST_WAIT = 0.025
_CONDITION_FAILED = frozenset({"ConditionalCheckFailed", "ConditionalCheckFailedException"})
#: Another write to the same item was under way.
_CONTENTION = frozenset(
    {
        "TransactionConflict",
        "TransactionConflictException",
        "TransactionInProgressException",
        "ThrottlingError",
        "ProvisionedThroughputExceeded",
    }
)
_SERVICE = "the database"

_Record = TypeVar("_Record", TaskRecord, PartRecord)


class Table:
    """The DynamoDB table, and the changes of a task that more than one kind of worker makes.

    `clock` gives the time in seconds since the epoch. All calls raise UnavailableError when DynamoDB cannot
    be reached or refuses for now.
    """

    #: How often a write is tried while others write to the same items: for some seconds.
    _write_attempts = 8
    #: Between two tries, in seconds.
    _longest_wait = 3.2

    def __init__(self, table_name: str, clock: Callable[[], float] = time.time) -> None:
        Record.Meta.table_name = table_name
        # All models inherit this connection and its one botocore client, made now and not by the first call.
        self._connection = Record._get_connection().connection
        self._connection._local.session = clients.session()
        self._connection.client  # noqa: B018
        self._clock = clock

    # Conditions and actions.

    def _failed(self, code: Failure, info: str) -> list[Action]:
        """Set what says why a task fails, but not its status."""
        return [
            TaskRecord.error_code.set(code),
            TaskRecord.error_info.set(info),
            *end_lease(),
            *self._attend(SOON),
            self._touch(),
        ]

    def _attend(self, delay: timedelta) -> list[Action]:
        at = self._clock() + delay.total_seconds()
        return [TaskRecord.attention.set(ATTENTION), TaskRecord.attention_at.set(at)]

    def _touch(self) -> Action:
        return TaskRecord.updated_at.set(self._now())

    # Reads and writes.

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def _read(self, task_id: str) -> TaskRecord | None:
        return self._find(TaskRecord(task_id))

    def _find(self, item: _Record) -> _Record | None:
        """Read the item of this key."""
        with available():
            try:
                return type(item).get(item.id, consistent_read=True)
            except item.DoesNotExist:
                return None

    def _update(self, task_id: str, condition: Condition, *actions: Action) -> Task | None:
        """Change a task, but not its status, if the condition holds; return it as it is then, else None."""
        record = self._change(TaskRecord(task_id), condition, *actions)
        return record.task() if record else None

    def _enter(self, task_id: str, status: Status, condition: Condition, *actions: Action) -> Task | None:
        """Change a task, and set its status, as `_update` does; the stream tells of it."""
        changes = (*set_status(status), *actions)
        record = self._change(TaskRecord(task_id), condition, *changes, mark=new_status_mark())
        return record.task() if record else None

    def _change(
        self, item: _Record, condition: Condition, *actions: Action, mark: str = ""
    ) -> _Record | None:
        """Change the item of this key if the condition holds, once even where the write is repeated."""
        mark = mark or new_mark()
        first = Record.last_write.does_not_exist() | (Record.last_write != mark)
        changes = [*actions, Record.last_write.set(mark)]
        if self._write(partial(item.update, changes, condition & first)):
            return item
        found = self._find(item)
        return found if found and found.last_write == mark else None

    def _write(self, write: Callable[[], object]) -> bool:
        """Make a conditional write, again while others write to the items; tell if the condition held."""
        for attempt in range(self._write_attempts):
            with available():
                try:
                    write()
                except PynamoDBException as error:
                    codes = _codes(error)
                    if codes & _CONDITION_FAILED:
                        return False
                    if not codes & _CONTENTION:
                        raise
                else:
                    return True
            longest = min(_FIRST_WAIT * 2**attempt, self._longest_wait)
            time.sleep(random.uniform(0, longest))  # noqa: S311
        raise UnavailableError(_SERVICE)


def end_lease() -> list[Action]:
    """Leave a task without an owner."""
    return [TaskRecord.lease_owner.remove(), TaskRecord.lease_expires_at.remove()]


def set_status(status: Status) -> list[Action]:
    """Set a task's status, and count that. Needs a status mark in the same write."""
    return [TaskRecord.status.set(status), TaskRecord.sequence.add(1)]


def new_mark() -> str:
    """Return a mark for a change."""
    return secrets.token_hex(8)


def new_status_mark() -> str:
    """Return a mark for a change that sets a task's status."""
    return STATUS_MARK + new_mark()


def _codes(error: PynamoDBException) -> set[str]:
    """Collect the codes of a refused write; a transaction has one for each of its items."""
    reasons = error.cancellation_reasons if isinstance(error, TransactWriteError) else []
    # Of a write that was not answered, there are none (pynamodb's `cause_response_code` fails then).
    code = error.cause_response_code if isinstance(error.cause, ClientError) else None
    return {code for code in (code, *(reason.code for reason in reasons if reason)) if code}


@contextmanager
def available() -> Iterator[None]:
    """Turn the failures that pass by themselves into UnavailableError."""
    try:
        yield
    except PynamoDBException as error:
        # A batch write that DynamoDB has not done all of has no cause.
        if clients.is_transient(error.cause) or (isinstance(error, PutError) and error.cause is None):
            raise UnavailableError(_SERVICE) from error
        raise
