"""The arithmetic of a list that is counted by slices of time: from a page to where it begins. All in UTC.

The list runs newest first. A page of it is a number of tasks to skip and a number to take. The counts of the
days say in which day the page begins, and those of the day's slices in which slice. So no more tasks are
passed over than one slice has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby

#: Seconds of a slice, the shortest period that is counted, and how many a day has.
SLICE_SECONDS = 10
DAY_SLICES = 86400 // SLICE_SECONDS


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the list: behind the first `skip` tasks of those that are older than the end of a period."""

    day: str
    #: The slice of the day, from 0; None for the whole day.
    slice: int | None
    skip: int

    @property
    def before(self) -> str:
        """The end of the period, which the times of its tasks are before: `2026-11-22T15:16:20`."""
        slices = DAY_SLICES if self.slice is None else self.slice + 1
        end = datetime.fromisoformat(self.day) + timedelta(seconds=slices * SLICE_SECONDS)
        return f"{end:%Y-%m-%dT%H:%M:%S}"


@dataclass(frozen=True, slots=True)
class Span:
    """The tasks of one month that belong to a page: pass over `skip` of them, then read `take`.

    The first of them is older than `before`, a time; the newest one of the month where that is None.
    """

    month: str
    before: str | None
    skip: int
    take: int


def month_of(time: datetime) -> str:
    """Name the month: `2026-11`."""
    return f"{time:%Y-%m}"


def slice_at(seconds: float) -> int:
    """Return the number of the slice of a time (seconds since the epoch), counted from the epoch."""
    return int(seconds // SLICE_SECONDS)


def day_of(number: int) -> tuple[str, int]:
    """Name the day of a slice, `2026-11-22`, and number the slice within it."""
    time = datetime.fromtimestamp(number * SLICE_SECONDS, UTC)
    return f"{time:%Y-%m-%d}", number % DAY_SLICES


def by_day(slices: Mapping[int, int]) -> dict[str, dict[int, int]]:
    """Sort the counts of slices by their days, and number them within these."""
    days: dict[str, dict[int, int]] = {}
    for number, count in slices.items():
        day, within = day_of(number)
        days.setdefault(day, {})[within] = count
    return days


def add(counts: Mapping[str, int], changes: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Add changes to counts, and leave out what is then nought."""
    sums = dict(counts)
    for name, change in changes:
        sums[name] = sums.get(name, 0) + change
    return {name: count for name, count in sums.items() if count}


def place_in_days(days: Mapping[str, int], skip: int) -> Place | None:
    """Find the day in which the list goes on after the first `skip` tasks; None where it ends before."""
    for day in sorted(days, reverse=True):
        count = max(days[day], 0)
        if skip < count:
            return Place(day, None, skip)
        skip -= count
    return None


def place_in_slices(place: Place, slices: Iterable[int]) -> Place:
    """Find the slice in which a place of a day is, by the counts of all slices of the day."""
    skip = place.skip
    for number, count in reversed(list(enumerate(slices))):
        if skip < count:
            return Place(place.day, number, skip)
        skip -= max(count, 0)
    # Only where the counts do not match: the day is then passed over from its end.
    return place


def spans(days: Mapping[str, int], place: Place, skipped: int, take: int) -> list[Span]:
    """Find the spans of the months that hold `take` tasks from a place on, which `skipped` tasks are before.

    Where the list ends, they hold fewer.
    """
    found: list[Span] = []
    months = groupby(sorted(days, reverse=True), key=lambda day: day[:7])
    passed = 0
    for month, of_month in months:
        count = sum(max(days[day], 0) for day in of_month)
        passed += count
        if passed <= skipped or not count:
            continue
        taken = min(take, passed - skipped)
        first = not found
        found.append(Span(month, place.before if first else None, place.skip if first else 0, taken))
        skipped, take = passed, take - taken
        if not take:
            break
    return found
