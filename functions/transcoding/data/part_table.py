"""The parts of tasks (DynamoDB): how one attempt at a task is shared by many workers.

A worker owns a part by a lease, as it owns a task that was not cut. A part counts only while its task is
running, and in the attempt that cut it.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import cast

from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action
from pynamodb.transactions import TransactWrite

from transcoding.data.records import PartRecord, TaskRecord
from transcoding.data.table import (
    MOST_PROGRESS,
    SOON,
    Table,
    available,
    end_lease,
    new_status_mark,
    set_status,
)
from transcoding.errors import WORKER_LOST_INFO, Failure, LeaseLostError, TaskFailedError
from transcoding.model import MAX_ATTEMPTS, MAX_TRIES, Part, Status, Task

#: After which DynamoDB may remove parts that nobody has removed. A task that takes as long fails.
PARTS_PERIOD = timedelta(days=3)
#: Writes at once where there are many.
_WRITERS = 16


class PartTable(Table):
    """The parts of tasks that are cut."""

    #: For half a minute: many workers may be done with their parts at once, and each changes its task.
    _write_attempts = 24

    # What the worker calls that cuts a task, and those that queue its parts.

    def fan_out(self, task: Task, parts: list[Part], queued: int) -> None:
        """Store a task's parts, numbered from 0, and leave the task to their workers.

        The first `queued` are for the caller to send at once. Raises LeaseLostError. After UnavailableError
        it is not known whether the task is cut: nothing that its parts need may be removed.
        """
        now = self._clock()
        self._save(replace(part, sends=1, sent_at=now) if part.number < queued else part for part in parts)
        cut = self._update(
            task.id,
            _running(task.attempt) & (TaskRecord.lease_owner == task.lease_owner),
            TaskRecord.parts.set(len(parts)),
            TaskRecord.parts_left.set(len(parts)),
            TaskRecord.parts_queued.set(queued),
            TaskRecord.finishes.set(0),
            *end_lease(),
            *self._attend(SOON),
            self._touch(),
        )
        if cut is None:
            self._remove(task, len(parts))
            raise LeaseLostError(task.id)

    def next_part(self, task_id: str, attempt: int) -> int | None:
        """Take the number of the next part to queue; None when all are queued, or the task is not running."""
        task = self._update(
            task_id,
            _running(attempt) & (TaskRecord.parts_queued < TaskRecord.parts),
            TaskRecord.parts_queued.add(1),
            self._touch(),
        )
        return task.parts_queued - 1 if task else None

    def next_parts(self, seen: Task, count: int) -> range:
        """Take the numbers of the next parts to queue; none when the task has changed since it was `seen`."""
        last = min(seen.parts, seen.parts_queued + count)
        numbers = range(seen.parts_queued, last)
        unchanged = _running(seen.attempt) & (TaskRecord.parts_queued == seen.parts_queued)
        if numbers and self._update(seen.id, unchanged, TaskRecord.parts_queued.set(last), self._touch()):
            return numbers
        return range(0)

    def note_sent(self, task: Task, numbers: Iterable[int]) -> None:
        """Note that messages of parts are on the queue. A part without such a note is sent again."""

        def note(number: int) -> None:
            self._change_part(
                PartRecord.key(task.id, task.attempt, number),
                PartRecord.id.exists() & PartRecord.done.does_not_exist(),
                PartRecord.sends.add(1),
                PartRecord.sent_at.set(self._clock()),
            )

        with ThreadPoolExecutor(_WRITERS) as pool:
            list(pool.map(note, numbers))

    # What the worker of a part calls.

    def claim(self, task: Task, number: int, owner: str, lease: timedelta) -> Part | None:
        """Take a part of a running task up, for another try.

        None when there is nothing to do: it is done or unknown, or a live worker has it. Raises
        TaskFailedError where the lease of its last try is over: the task ends here (WORKER_LOST).
        """
        key, now = PartRecord.key(task.id, task.attempt, number), self._clock()
        found = self._part(key)
        if found is None or found.done:
            return None
        if found.lease_expires_at >= now:
            return found if found.lease_owner == owner else None
        if found.tries >= MAX_TRIES:
            if self.fail_unowned(task.id, task.attempt, number, Failure.WORKER_LOST, WORKER_LOST_INFO):
                raise TaskFailedError(Failure.WORKER_LOST, WORKER_LOST_INFO)
            return None
        return self._change_part(
            key,
            _unowned(now) & (PartRecord.tries == found.tries),
            PartRecord.tries.add(1),
            PartRecord.lease_owner.set(owner),
            PartRecord.lease_expires_at.set(now + lease.total_seconds()),
        )

    def heartbeat(self, part: Part, progress: float, lease: timedelta) -> None:
        """Extend the lease of a part, and raise its progress if it is more than before.

        Raises LeaseLostError, also when the task does not run any more.
        """
        if self._running(part.task_id, part.attempt) is None:
            raise LeaseLostError(part.task_id)
        key, owned = _key(part), _owned(part)
        progress = min(max(0.0, progress), 1.0)
        extend = PartRecord.lease_expires_at.set(self._clock() + lease.total_seconds())
        more = PartRecord.progress <= progress
        if self._change_part(key, owned & more, PartRecord.progress.set(progress), extend):
            return
        if not self._change_part(key, owned, extend):
            raise LeaseLostError(part.task_id)

    def add_progress(self, task_id: str, attempt: int, delta: float) -> None:
        """Add what a worker has done to the progress of the whole task, while that runs.

        A write that is lost or repeated makes the progress somewhat wrong, and no more than that.
        """
        delta = min(max(0.0, delta), MOST_PROGRESS)
        running = _running(attempt)
        room = TaskRecord.progress <= MOST_PROGRESS - delta
        if not self._update(task_id, running & room, TaskRecord.progress.add(delta), self._touch()):
            short = TaskRecord.progress < MOST_PROGRESS
            self._update(task_id, running & short, TaskRecord.progress.set(MOST_PROGRESS), self._touch())

    def complete(self, part: Part) -> bool:
        """Note that a part is done; True when no part of the task is left. Raises LeaseLostError.

        Of parts that end at the same time, more than one may be told True.
        """
        if not self._write(partial(self._complete, part)) and not self._has_done(part, part.end):
            raise LeaseLostError(part.task_id)
        task = self._running(part.task_id, part.attempt)
        return task is not None and task.parts_left == 0

    def split(self, part: Part, at: int) -> None:
        """Note that a part is done up to a tick, and make the rest of it a part that is to be queued.

        Raises LeaseLostError.
        """
        if at <= part.start or (part.end is not None and at >= part.end):
            raise ValueError(f"{at} is not within {part}")
        while task := self._running(part.task_id, part.attempt):
            if self._write(partial(self._split, part, at, task.parts)) or self._has_done(part, at):
                return
            # Where the part is still owned, another one was split at the same time.
            found = self._part(_key(part))
            if found is None or found.done or found.lease_owner != part.lease_owner:
                break
        raise LeaseLostError(part.task_id)

    def release(self, part: Part, code: Failure, info: str, *, is_fault: bool = True) -> bool:
        """Give a part back for another try; False when that was the last one, and the task failed instead.

        `is_fault`: the next try is to leave out what may have been at fault. The caller's message comes
        again. Raises LeaseLostError.
        """
        again = _owned(part) & (PartRecord.tries < MAX_TRIES)
        if is_fault:
            few = PartRecord.faults < MAX_ATTEMPTS - 1
            again &= PartRecord.faults.does_not_exist() | few
        sent = (PartRecord.sends.set(1), PartRecord.sent_at.set(self._clock()))
        fault = (PartRecord.faults.add(1),) if is_fault else ()
        if self._change_part(_key(part), again, *_end_part_lease(), *sent, *fault):
            return True
        self.fail(part, code, info)
        return False

    def fail(self, part: Part, code: Failure, info: str) -> None:
        """End the task of a part that cannot be encoded; the sweep removes what it stored.

        Raises LeaseLostError, also when the task does not run any more.
        """
        failed = self._failed(code, info)
        if not self._fail(_key(part), _owned(part), part.task_id, part.attempt, failed):
            raise LeaseLostError(part.task_id)

    # What the worker calls that joins the parts, the sweep and the consumer of dead letters.

    def all(self, task: Task) -> list[Part]:
        """Read a task's parts, by kind and then by start; DynamoDB may have removed some (PARTS_PERIOD)."""
        keys = [PartRecord.key(task.id, task.attempt, number) for number in range(task.parts)]
        with available():
            parts = [record.part() for record in PartRecord.batch_get(keys, consistent_read=True)]
        return sorted(parts, key=lambda part: (part.kind, part.start))

    def remove(self, task: Task) -> None:
        """Remove a task's parts, when it has ended."""
        self._remove(task, task.parts)

    def plan_again(self, task: Task) -> bool:
        """Give up a task's parts: it waits for another attempt, which plans it anew.

        False where there is no other attempt, or the task does not run in this one any more.
        """
        given_up = self._enter(
            task.id,
            Status.WAITING,
            _running(task.attempt) & (TaskRecord.attempt < MAX_ATTEMPTS),
            TaskRecord.progress.set(0.0),
            *(part.remove() for part in (TaskRecord.parts, TaskRecord.parts_left, TaskRecord.parts_queued)),
            TaskRecord.finishes.remove(),
            *end_lease(),
            *self._attend(SOON),
            self._touch(),
        )
        if given_up:
            self.remove(task)
        return given_up is not None

    def take_back(self, seen: Part) -> bool:
        """End a lease that is over: the part waits for a worker again, and none of its messages counts.

        False where its worker has given a sign of life since it was `seen`.
        """
        unchanged = _owned(seen) & (PartRecord.lease_expires_at == seen.lease_expires_at)
        unsent = (PartRecord.sends.remove(), PartRecord.sent_at.remove())
        return self._change_part(_key(seen), unchanged, *_end_part_lease(), *unsent) is not None

    def fail_unowned(self, task_id: str, attempt: int, number: int, code: Failure, info: str) -> bool:
        """End the task of a part that no live worker has.

        False when one has it, when it is done or unknown, or when the task does not run any more.
        """
        key = PartRecord.key(task_id, attempt, number)
        return self._fail(key, _unowned(self._clock()), task_id, attempt, self._failed(code, info))

    def fail_incomplete(self, task: Task, code: Failure, info: str) -> bool:
        """End a task some of whose parts are gone; False when it does not run any more."""
        failed = self._failed(code, info)
        return self._enter(task.id, Status.FAILED, _running(task.attempt), *failed) is not None

    # Reads and writes.

    def _running(self, task_id: str, attempt: int) -> Task | None:
        record = self._read(task_id)
        task = record.task() if record else None
        return task if task and (task.status, task.attempt) == (Status.RUNNING, attempt) else None

    def _part(self, key: str) -> Part | None:
        record = self._find(PartRecord(key))
        return record.part() if record else None

    def _has_done(self, part: Part, end: int | None) -> bool:
        """Tell if this very worker has done the part: writes are repeated when their answer is lost."""
        found = self._part(_key(part))
        own = (True, part.lease_owner, end)
        return found is not None and (found.done, found.lease_owner, found.end) == own

    def _change_part(self, key: str, condition: Condition, *actions: Action) -> Part | None:
        """Change a part if the condition holds, and return it as it is then; None where it does not hold."""
        record = self._change(PartRecord(key), condition, *actions)
        return record.part() if record else None

    def _save(self, parts: Iterable[Part]) -> None:
        with available(), PartRecord.batch_write() as batch:
            for part in parts:
                batch.save(self._record(part))

    def _remove(self, task: Task, count: int) -> None:
        with available(), PartRecord.batch_write() as batch:
            for number in range(count):
                batch.delete(PartRecord(PartRecord.key(task.id, task.attempt, number)))

    def _record(self, part: Part) -> PartRecord:
        return PartRecord(
            _key(part),
            task_id=part.task_id,
            attempt=part.attempt,
            number=part.number,
            kind=part.kind,
            start=part.start,
            end=part.end,
            tries=part.tries,
            faults=part.faults or None,
            progress=part.progress,
            sends=part.sends or None,
            sent_at=part.sent_at or None,
            expires_at=int(self._clock() + PARTS_PERIOD.total_seconds()),
        )

    def _complete(self, part: Part) -> None:
        with TransactWrite(connection=self._connection) as transaction:
            transaction.update(PartRecord(_key(part)), _done(), condition=_owned(part))
            transaction.update(
                TaskRecord(part.task_id),
                [TaskRecord.parts_left.add(-1), self._touch()],
                condition=_running(part.attempt),
            )

    def _split(self, part: Part, at: int, number: int) -> None:
        rest = Part(part.task_id, part.attempt, number, part.kind, at, part.end)
        with TransactWrite(connection=self._connection) as transaction:
            transaction.update(
                PartRecord(_key(part)), [PartRecord.end.set(at), *_done()], condition=_owned(part)
            )
            transaction.save(self._record(rest))
            transaction.update(
                TaskRecord(part.task_id),
                [TaskRecord.parts.add(1), self._touch()],
                condition=_running(part.attempt) & (TaskRecord.parts == number),
            )

    def _fail(self, key: str, condition: Condition, task_id: str, attempt: int, failed: list[Action]) -> bool:
        """Fail the task of a part for which the condition holds; False where it does not run any more."""
        mark = new_status_mark()
        changes = [*set_status(Status.FAILED), *failed, TaskRecord.last_write.set(mark)]

        def write() -> None:
            with TransactWrite(connection=self._connection) as transaction:
                transaction.update(PartRecord(key), _end_part_lease(), condition=condition)
                transaction.update(TaskRecord(task_id), changes, condition=_running(attempt))

        if self._write(write):
            return True
        found = self._read(task_id)
        return found is not None and found.last_write == mark


def _key(part: Part) -> str:
    return PartRecord.key(part.task_id, part.attempt, part.number)


def _running(attempt: int) -> Condition:
    return cast(Condition, (TaskRecord.status == Status.RUNNING) & (TaskRecord.attempt == attempt))


def _owned(part: Part) -> Condition:
    return cast(Condition, (PartRecord.lease_owner == part.lease_owner) & PartRecord.done.does_not_exist())


def _unowned(now: float) -> Condition:
    free = PartRecord.lease_expires_at.does_not_exist() | (PartRecord.lease_expires_at < now)
    return cast(Condition, PartRecord.id.exists() & PartRecord.done.does_not_exist() & free)


def _done() -> list[Action]:
    # Its owner stays, so that a repeated write finds that it was its own.
    return [PartRecord.done.set(True), PartRecord.progress.set(1.0), PartRecord.lease_expires_at.remove()]


def _end_part_lease() -> list[Action]:
    return [PartRecord.lease_owner.remove(), PartRecord.lease_expires_at.remove()]
