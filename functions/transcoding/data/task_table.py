"""The table of tasks (DynamoDB): every access to it.

The counts that the list is found by (counts.py) change in the transactions that create and delete tasks.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import string
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import timedelta
from functools import partial
from typing import cast

from pynamodb.expressions.condition import Condition
from pynamodb.transactions import TransactWrite

from transcoding.data import periods
from transcoding.data.counts import Counts
from transcoding.data.records import IdempotencyRecord, TaskRecord
from transcoding.data.table import (
    ATTENTION,
    MOST_PROGRESS,
    SOON,
    Table,
    available,
    end_lease,
    new_status_mark,
    set_status,
)
from transcoding.errors import (
    WORKER_LOST_INFO,
    ApiError,
    Failure,
    LeaseLostError,
    TaskFailedError,
    UnknownTaskError,
)
from transcoding.model import MAX_ATTEMPTS, Order, Output, Status, Task

#: How long a task, or a part of one, may wait for a worker before the sweep sends it again; the next time,
#: twice as long.
QUEUE_PATIENCE = timedelta(minutes=5)
#: How long an idempotency key is remembered.
IDEMPOTENCY_PERIOD = timedelta(hours=24)

#: Queries at once, of a page that lies in several months.
_READERS = 16
#: How many tasks of version 0.1.0 are taken over at once, and read at a time.
_ADOPTERS, _ADOPTED = 8, 200

_UNFINISHED = frozenset({Status.ACCEPTED, Status.WAITING, Status.RUNNING})

_ID_CHARACTERS = string.digits + string.ascii_lowercase
_ID_LENGTH = 8


class TaskTable(Table):
    """The tasks, their list and their counts."""

    def __init__(self, table_name: str, clock: Callable[[], float] = time.time) -> None:
        super().__init__(table_name, clock)
        self._counts = Counts(table_name)

    # What the API calls.

    def create(
        self, order: Order, idempotency_key: str | None, send: Callable[[str], bool]
    ) -> tuple[Task, bool]:
        """Store a new task in one write, and tell if it is new.

        `send` queues the message of a task's id and tells if that is done: before the task is stored, so that
        no second write has to say so. Where it is not done, the task is stored as ACCEPTED.

        A key that was used within the last day gives the task that it made then, and False. Raises ApiError
        (400) when the order was another then. After UnavailableError there is no task, unless the write
        was not answered: only with a key can it be found out, by the same call.
        """
        fingerprint = _fingerprint(order)
        key_id = None if idempotency_key is None else f"idempotency#{_digest(idempotency_key)}"
        while True:
            earlier = None if key_id is None else self._used(key_id, fingerprint)
            if earlier:
                return earlier, False
            task_id = _new_id()
            status = Status.WAITING if send(task_id) else Status.ACCEPTED
            now, mark = self._now(), new_status_mark()
            task = Task(task_id, **asdict(order), created_at=now, updated_at=now, status=status, sequence=1)
            if self._counts.write(partial(self._create, task, mark, key_id, fingerprint)):
                return task, True
            found = self._read(task.id)
            if found and found.last_write == mark:
                return task, True
            # The condition fails for a used key or, once in 36^8, for an id that is taken.

    def get(self, task_id: str) -> Task | None:
        """Read a task; None when there is none, or when its time as a deleted task is over."""
        record = self._read(task_id)
        return self._known(record) if record else None

    def page(self, page: int, limit: int) -> tuple[list[Task], int]:
        """Read a page of the tasks, newest first, and the number of all: four requests, one after the other.

        The number is exact. The index follows a write within milliseconds, so a page may for that long lack a
        task that it counts.
        """
        spans, total = self._counts.locate((page - 1) * limit, limit)
        if len(spans) > 1:
            with ThreadPoolExecutor(_READERS) as pool:
                ids = [task_id for found in pool.map(self._span, spans) for task_id in found]
        else:
            ids = [task_id for span in spans for task_id in self._span(span)]
        with available():
            found = {record.id: record.task() for record in TaskRecord.batch_get(ids)} if ids else {}
        # Some may have been deleted a moment ago.
        tasks = [found[task_id] for task_id in ids if task_id in found]
        return [task for task in tasks if task.status is not Status.DELETED], total

    def delete(self, task_id: str, retention: timedelta) -> Task | None:
        """Mark a task deleted; it can be read for `retention`. None when there is none.

        A task that is deleted already comes back as it is. What it stored is left to the caller, and to the
        sweep.
        """
        while True:
            record = self._read(task_id)
            task = self._known(record) if record else None
            if record is None or task is None or task.status is Status.DELETED:
                return task
            now = self._now()
            deleted = replace(
                task,
                status=Status.DELETED,
                updated_at=now,
                target="",
                output=None,
                progress=0.0 if task.status is Status.SUCCEEDED else task.progress,
                sequence=task.sequence + 1,
            )
            counted = record.month is not None
            if self._counts.write(partial(self._delete, task, deleted, retention, counted=counted)):
                return deleted

    # What the worker calls.

    def claim(self, task_id: str, owner: str, lease: timedelta) -> Task | None:
        """Take a task up: for another attempt or, if it has parts and all are done, to finish the attempt.

        None when there is nothing to do: it is done, deleted, a live worker has it, or its parts are not
        done. Raises UnknownTaskError, and TaskFailedError where the lease of its last worker is over: it ends
        here (WORKER_LOST). A task with parts stays in the attempt that cut it: it is never planned again.
        """
        task, now = self.get(task_id), self._clock()
        if task is None:
            raise UnknownTaskError(task_id)
        if task.status not in _UNFINISHED or task.parts_left:
            return None
        if task.lease_expires_at >= now:
            return task if task.lease_owner == owner else None
        if task.parts:
            tries = task.finishes
            free = self._unfinished(now) & (TaskRecord.finishes == tries)
        else:
            tries = task.attempt
            free = self._unowned(now) & (TaskRecord.attempt == tries)
        if tries >= MAX_ATTEMPTS:
            failed = self._failed(Failure.WORKER_LOST, WORKER_LOST_INFO)
            if self._enter(task_id, Status.FAILED, free, *failed):
                raise TaskFailedError(Failure.WORKER_LOST, WORKER_LOST_INFO)
            return None
        own = (
            TaskRecord.lease_owner.set(owner),
            TaskRecord.lease_expires_at.set(now + lease.total_seconds()),
            *self._attend(lease),
            self._touch(),
        )
        if task.parts:
            return self._update(task_id, free, TaskRecord.finishes.add(1), *own)
        again = (TaskRecord.attempt.add(1), TaskRecord.progress.set(0.0))
        return self._enter(task_id, Status.RUNNING, free, *again, *own)

    def heartbeat(self, task_id: str, owner: str, progress: float, lease: timedelta) -> None:
        """Extend the lease, and raise the progress if it is more than before. Raises LeaseLostError."""
        progress = min(max(0.0, progress), MOST_PROGRESS)
        expires_at = self._clock() + lease.total_seconds()
        extend = (TaskRecord.lease_expires_at.set(expires_at), self._touch())
        owned = self._owned(owner)
        more = TaskRecord.progress <= progress
        if self._update(task_id, owned & more, TaskRecord.progress.set(progress), *extend):
            return
        if not self._update(task_id, owned, *extend):
            raise LeaseLostError(task_id)

    def succeed(self, task_id: str, owner: str, key: str, output: Output) -> Task:
        """End a task well, and return it; the sweep removes what is left beside its result.

        `key` is the result's, so that a new distribution serves it too, and `output` what it is. Raises
        LeaseLostError.
        """
        done = self._enter(
            task_id,
            Status.SUCCEEDED,
            self._owned(owner),
            TaskRecord.progress.set(1.0),
            TaskRecord.target_url.set(key),
            TaskRecord.output.set(asdict(output)),
            *end_lease(),
            *self._attend(SOON),
            self._touch(),
        )
        if done is None:
            raise LeaseLostError(task_id)
        return done

    def fail(self, task_id: str, owner: str, code: Failure, info: str) -> None:
        """End a task that cannot succeed; the sweep removes what it stored. Raises LeaseLostError."""
        if not self._enter(task_id, Status.FAILED, self._owned(owner), *self._failed(code, info)):
            raise LeaseLostError(task_id)

    def release(self, task_id: str, owner: str, code: Failure, info: str) -> bool:
        """Give a task back for another attempt; False when that was the last one, and it failed instead.

        One that was being finished stays RUNNING, with its progress, as when its last part was done. Raises
        LeaseLostError.
        """
        owned = self._owned(owner)
        give_back = (*end_lease(), *self._attend(SOON), self._touch())
        if self._enter(
            task_id,
            Status.WAITING,
            owned & TaskRecord.parts.does_not_exist() & (TaskRecord.attempt < MAX_ATTEMPTS),
            TaskRecord.progress.set(0.0),
            *give_back,
        ) or self._update(task_id, owned & (TaskRecord.finishes < MAX_ATTEMPTS), *give_back):
            return True
        self.fail(task_id, owner, code, info)
        return False

    # What the queue's keepers call: the sweep and the consumer of dead letters.

    def mark_waiting(self, task_id: str) -> None:
        """Note that an accepted task's message is on the queue. Does nothing in any other status."""
        self._enter(
            task_id,
            Status.WAITING,
            TaskRecord.status == Status.ACCEPTED,
            *self._attend(QUEUE_PATIENCE),
            self._touch(),
        )

    def fail_unowned(self, task_id: str, code: Failure, info: str) -> bool:
        """End a task that no live worker has.

        False when one has it, when parts of it are not done, or when it is final or unknown.
        """
        now = self._clock()
        free = self._unowned(now) | self._unfinished(now)
        return self._enter(task_id, Status.FAILED, free, *self._failed(code, info)) is not None

    def due(self, limit: int) -> list[Task]:
        """Read the tasks that the sweep should look at, those that wait longest first."""
        now = self._clock()
        with available():
            due = TaskRecord.attention_index.query(ATTENTION, TaskRecord.attention_at <= now, limit=limit)
            ids = {record.id for record in due}
            # The index may still show what was dealt with a moment ago.
            records = [
                record
                for record in TaskRecord.batch_get(ids, consistent_read=True)
                if record.attention_at is not None and record.attention_at <= now
            ]
        return [record.task() for record in sorted(records, key=lambda record: record.attention_at or 0)]

    def postpone(self, seen: Task, delay: timedelta) -> None:
        """Have the sweep look again after `delay`, unless the task has changed since it was `seen`."""
        self._update(seen.id, _unchanged(seen) & TaskRecord.attention.exists(), *self._attend(delay))

    def settle(self, seen: Task) -> None:
        """Note that nothing is left to do for a task that has ended, unless it has changed since."""
        end = (TaskRecord.attention.remove(), TaskRecord.attention_at.remove())
        self._update(seen.id, _unchanged(seen) & TaskRecord.attention.exists(), *end)

    def fold(self, seconds_left: Callable[[], float]) -> None:
        """Fold the counts, as long as time allows."""
        self._counts.fold(self._clock(), seconds_left)

    def adopt(self, seconds_left: Callable[[], float]) -> None:
        """Take what version 0.1.0 has stored over into the list and its counts, as long as time allows."""
        with available(), ThreadPoolExecutor(_ADOPTERS) as pool:
            while seconds_left() > 0:
                records = list(TaskRecord.by_period.scan(limit=_ADOPTED, page_size=_ADOPTED))
                if not records:
                    return
                # Where the condition does not hold, it was deleted, or the index is late.
                list(pool.map(lambda record: self._counts.write(partial(self._adopt, record)), records))

    # Conditions and actions.

    def _unowned(self, now: float) -> Condition:
        queued = TaskRecord.status.is_in(Status.ACCEPTED, Status.WAITING)
        lost = (TaskRecord.status == Status.RUNNING) & (TaskRecord.lease_expires_at < now)
        return cast(Condition, (queued | lost) & TaskRecord.parts.does_not_exist())

    def _unfinished(self, now: float) -> Condition:
        """All parts are done, and no live worker is joining them."""
        free = TaskRecord.lease_expires_at.does_not_exist() | (TaskRecord.lease_expires_at < now)
        return cast(Condition, (TaskRecord.status == Status.RUNNING) & (TaskRecord.parts_left == 0) & free)

    def _owned(self, owner: str) -> Condition:
        running = TaskRecord.status == Status.RUNNING
        return cast(Condition, running & (TaskRecord.lease_owner == owner))

    # Reads and writes.

    def _known(self, record: TaskRecord) -> Task | None:
        # DynamoDB removes expired items within days, not at once.
        over = record.expires_at and record.expires_at <= self._clock()
        return None if over else record.task()

    def _span(self, span: periods.Span) -> list[str]:
        """Read the ids of a span, and pass over the keys before it."""
        older = None if span.before is None else TaskRecord.created < span.before
        with available():
            records = TaskRecord.by_month.query(
                span.month, older, scan_index_forward=False, limit=span.skip + span.take
            )
            return [record.id for record in records][span.skip :]

    def _create(self, task: Task, mark: str, key_id: str | None, fingerprint: str) -> None:
        now = self._clock()
        record = TaskRecord(
            task.id,
            origin_url=task.origin_url,
            quality=task.quality,
            format=task.format,
            created_at=task.created_at,
            updated_at=task.updated_at,
            status=task.status,
            progress=task.progress,
            target_url=task.target,
            error_code=task.error_code,
            error_info=task.error_info,
            attempt=task.attempt,
            codecs=task.codecs or None,
            thumbnails=task.thumbnails or None,
            callback_url=task.callback_url or None,
            sequence=task.sequence,
            month=periods.month_of(task.created_at),
            created=f"{task.created_at:%Y-%m-%dT%H:%M:%S.%f}#{task.id}",
            attention=ATTENTION,
            attention_at=now + (QUEUE_PATIENCE if task.status is Status.WAITING else SOON).total_seconds(),
            last_write=mark,
        )
        with TransactWrite(connection=self._connection) as transaction:
            transaction.save(record, condition=TaskRecord.id.does_not_exist())
            self._counts.change(transaction, task.created_at, 1)
            if key_id is not None:
                key = IdempotencyRecord(
                    key_id,
                    task_id=task.id,
                    fingerprint=fingerprint,
                    expires_at=int(now + IDEMPOTENCY_PERIOD.total_seconds()),
                )
                unused = IdempotencyRecord.id.does_not_exist() | (IdempotencyRecord.expires_at <= now)
                transaction.save(key, condition=unused)

    def _used(self, key_id: str, fingerprint: str) -> Task | None:
        """Find the task that a call with this key has made."""
        with available():
            try:
                key = IdempotencyRecord.get(key_id, consistent_read=True)
            except IdempotencyRecord.DoesNotExist:
                return None
        if key.expires_at is None or key.expires_at <= self._clock():
            return None
        if key.fingerprint != fingerprint:
            raise ApiError(400, "Idempotency-Key: was used within the last 24 hours with other parameters")
        return self.get(key.task_id)

    def _delete(self, seen: Task, deleted: Task, retention: timedelta, *, counted: bool) -> None:
        now = self._clock()
        listed = TaskRecord.month.exists() if counted else TaskRecord.month.does_not_exist()
        with TransactWrite(connection=self._connection) as transaction:
            transaction.update(
                TaskRecord(seen.id),
                [
                    *set_status(deleted.status),
                    TaskRecord.updated_at.set(deleted.updated_at),
                    TaskRecord.target_url.set(deleted.target),
                    TaskRecord.output.remove(),
                    TaskRecord.progress.set(deleted.progress),
                    TaskRecord.expires_at.set(int(now + retention.total_seconds())),
                    TaskRecord.month.remove(),
                    TaskRecord.period.remove(),
                    # A worker that does not know yet may go on storing until its lease is over.
                    TaskRecord.attention.set(ATTENTION),
                    TaskRecord.attention_at.set(max(now, seen.lease_expires_at) + SOON.total_seconds()),
                    TaskRecord.last_write.set(new_status_mark()),
                ],
                condition=(TaskRecord.status == seen.status) & listed,
            )
            if counted:
                self._counts.change(transaction, seen.created_at, -1)

    def _adopt(self, record: TaskRecord) -> None:
        with TransactWrite(connection=self._connection) as transaction:
            transaction.update(
                TaskRecord(record.id),
                [TaskRecord.month.set(periods.month_of(record.created_at)), TaskRecord.period.remove()],
                condition=TaskRecord.period.exists(),
            )
            self._counts.change(transaction, record.created_at, 1)


def _new_id() -> str:
    return "".join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))


def _fingerprint(order: Order) -> str:
    """Return a digest of an order; of one without what an earlier version did not know, as that made it."""
    known = (order.origin_url, order.quality, order.format)
    more = (order.codecs, order.thumbnails)
    if order.callback_url:
        return _digest(*known, *more, order.callback_url)
    return _digest(*known, *more) if any(more) else _digest(*known)


def _digest(*values: str | int) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _unchanged(seen: Task) -> Condition:
    return cast(Condition, (TaskRecord.status == seen.status) & (TaskRecord.attempt == seen.attempt))
