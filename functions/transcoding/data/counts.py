"""The counts of live tasks, by which a page of the list is found without reading what is before it.

DynamoDB cancels one of two transactions that change the same item at the same time, so no count may be an
item that every create and delete changes. A create or a delete changes one of 16 *pending* items, chosen at
random, in its own transaction. The sweep *folds* these: it moves what is pending of slices that are over into
the folded counts, and nothing else changes those. A fold is a transaction too, so the folded and the pending
counts together are exact at any time.

Both are read in one request, but not in a transaction, which would cost twice as much. Each fold counts up a
number on both sides: where they differ, a fold went through between the reads, and all is read again.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import cast

from pynamodb.attributes import NumberAttribute
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.operand import Path
from pynamodb.transactions import TransactWrite

from transcoding.data import periods
from transcoding.data.periods import Span
from transcoding.data.records import CountRecord
from transcoding.data.table import Table, available
from transcoding.errors import UnavailableError

#: How many pending items there are. Each costs every page a read unit. With fewer, more transactions meet
#: another one on the item that they have chosen. There may be more in a later version, but not fewer.
SHARDS = 16
#: A slice that began so many seconds ago is over: only deletes change its count. A task that is counted in
#: later, by a slow clock, is folded the next time.
OVER_SECONDS = 60
#: How many slices are folded in one transaction: each may be of another day, and DynamoDB takes 100 items.
_FOLDED_SLICES = 90
#: How often a read that a fold went through is made again.
_READS = 20


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The counts as they were at one time."""

    #: How many folds there were.
    fold: int
    #: How many there were of each shard.
    folds: list[int]
    #: What is folded, by day.
    days: dict[str, int]
    #: What is pending, by shard and slice.
    pending: dict[int, dict[int, int]]

    def all_days(self) -> dict[str, int]:
        """Count the live tasks of each day that has some."""
        changes = (
            (periods.day_of(number)[0], n) for slices in self.pending.values() for number, n in slices.items()
        )
        return periods.add(self.days, changes)

    def pending_of(self, day: str) -> dict[int, int]:
        """Sum up what is pending of a day's slices, numbered within it."""
        sums: Counter[int] = Counter()
        for slices in self.pending.values():
            for number, change in periods.by_day(slices).get(day, {}).items():
                sums[number] += change
        return dict(sums)


class Counts(Table):
    """The counts of live tasks."""

    #: For about two seconds: each try changes another pending item, so there is no need to wait for long.
    _write_attempts = 24
    _longest_wait = 0.2

    def write(self, write: Callable[[], object]) -> bool:
        """Make a conditional write with `change`, again while others write; tell if the condition held."""
        return self._write(write)

    def change(self, transaction: TransactWrite, created_at: datetime, change: int) -> None:
        """Count a task in or out, in a transaction that `write` makes."""
        name = str(periods.slice_at(created_at.timestamp()))
        shard = random.randrange(SHARDS)  # noqa: S311
        transaction.update(CountRecord(_pending(shard)), [Path(name).add(change)])

    def locate(self, skip: int, take: int) -> tuple[list[Span], int]:
        """Find the spans that hold `take` tasks after the first `skip`, and count all. The count is exact.

        At most two requests, one after the other, unless a fold goes on.
        """
        for _ in range(_READS):
            snapshot = self._snapshot(range(SHARDS))
            days = snapshot.all_days()
            total = max(0, sum(days.values()))
            place = periods.place_in_days(days, skip)
            if place is None:
                return [], total
            if place.skip:
                slices = self._slices(place.day, snapshot)
                if slices is None:
                    continue
                place = periods.place_in_slices(place, slices)
            return periods.spans(days, place, skip, take), total
        raise UnavailableError("the database")

    def fold(self, now: float, seconds_left: Callable[[], float]) -> None:
        """Fold all that is pending of slices that are over, as long as time allows."""
        over = periods.slice_at(now - OVER_SECONDS)
        for shard, slices in self._snapshot(range(SHARDS)).pending.items():
            left = any(number < over for number in slices)
            while left and seconds_left() > 0:
                left = self._fold(shard, over)

    def _fold(self, shard: int, over: int) -> bool:
        """Fold some of what a shard has pending, and tell if there may be more."""
        snapshot = self._snapshot([shard])
        pending = snapshot.pending[shard]
        due = sorted(number for number in pending if number < over)[:_FOLDED_SLICES]
        if not due:
            return False
        days: dict[str, list[int]] = {}
        changes = periods.by_day({number: pending[number] for number in due})
        for name, item in self._items([_day(day) for day in changes]).items():
            days[name] = _slices(item)
            for number, change in changes[name.removeprefix(_day(""))].items():
                days[name][number] += change
        # Where it does not go through, another fold or a delete came between.
        self._write(partial(self._move, shard, snapshot, due, days))
        return True

    def _move(self, shard: int, snapshot: Snapshot, due: list[int], days: dict[str, list[int]]) -> None:
        fold, folds, pending = snapshot.fold + 1, list(snapshot.folds), snapshot.pending[shard]
        folds[shard] += 1
        changes = [(periods.day_of(number)[0], pending[number]) for number in due]
        unchanged = _is(CountRecord.fold, snapshot.folds[shard])
        for number in due:
            unchanged &= Path(str(number)) == pending[number]
        with TransactWrite(connection=self._connection) as transaction:
            transaction.update(
                CountRecord(_pending(shard)),
                [CountRecord.fold.set(folds[shard]), *(Path(str(number)).remove() for number in due)],
                condition=unchanged,
            )
            transaction.update(
                CountRecord(_ROOT),
                [
                    CountRecord.fold.set(fold),
                    CountRecord.folds.set(folds),
                    CountRecord.days.set(periods.add(snapshot.days, changes)),
                ],
                # Every fold changes this item, so the days' items are what they were read as, too.
                condition=_is(CountRecord.fold, snapshot.fold),
            )
            for name, slices in days.items():
                transaction.update(
                    CountRecord(name), [CountRecord.fold.set(fold), CountRecord.slices.set(slices)]
                )

    def _snapshot(self, shards: Sequence[int]) -> Snapshot:
        """Read the counts of the days, and what some shards have pending."""
        names = [_pending(shard) for shard in shards]
        for _ in range(_READS):
            items = self._items([_ROOT, *names])
            root, pending = items[_ROOT], {shard: items[_pending(shard)] for shard in shards}
            folds = root.folds or []
            folds += [0] * (SHARDS - len(folds))
            if all(folds[shard] == int(item.fold or 0) for shard, item in pending.items()):
                changes = {shard: item.pending for shard, item in pending.items()}
                return Snapshot(int(root.fold or 0), folds, root.days or {}, changes)
        raise UnavailableError("the database")

    def _slices(self, day: str, snapshot: Snapshot) -> list[int] | None:
        """Count the tasks of a day's slices; None where a fold has changed them since the snapshot."""
        item = self._items([_day(day)])[_day(day)]
        if int(item.fold or 0) > snapshot.fold:
            return None
        slices = _slices(item)
        for number, change in snapshot.pending_of(day).items():
            slices[number] += change
        return slices

    def _items(self, names: list[str]) -> dict[str, CountRecord]:
        """Read items; those that there are not yet, as empty ones."""
        items = {name: CountRecord.from_raw_data({"id": {"S": name}}) for name in names}
        with available():
            return items | {item.id: item for item in CountRecord.batch_get(names, consistent_read=True)}


_ROOT = "counts"


def _pending(shard: int) -> str:
    return f"pending#{shard}"


def _day(day: str) -> str:
    return f"counts#{day}"


def _slices(item: CountRecord) -> list[int]:
    return list(item.slices or [0] * periods.DAY_SLICES)


def _is(attribute: NumberAttribute, value: int) -> Condition:
    """Tell if a number is as it was read; what was not there was read as 0."""
    return cast(Condition, attribute == value if value else attribute.does_not_exist())
