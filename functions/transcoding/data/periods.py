"""The arithmetic of a list that is counted by period: months, their days, their hours. All in UTC.

The list runs newest first. A page of it is a stretch of tasks to skip and a stretch to take; `locate` turns
these into the periods that hold the page, and each of them, in the same way, into its own parts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

#: No task is older than this month: the first that is counted.
EPOCH_YEAR = 2026


@dataclass(frozen=True, slots=True)
class Span:
    """The tasks of one period that belong to a page: pass over `skip` of them, then read `take`."""

    period: str
    skip: int
    take: int


def month_of(time: datetime) -> str:
    """Name the month: `2026-11`."""
    return f"{time:%Y-%m}"


def day_of(time: datetime) -> str:
    """Name the day: `2026-11-22`."""
    return f"{time:%Y-%m-%d}"


def hour_of(time: datetime) -> str:
    """Name the hour: `2026-11-22T21`."""
    return f"{time:%Y-%m-%dT%H}"


def months_until(time: datetime) -> list[str]:
    """All months that can hold a task at `time`, newest first."""
    months = [f"{year}-{month:02}" for year in range(EPOCH_YEAR, time.year + 1) for month in range(1, 13)]
    return [month for month in reversed(months) if month <= month_of(time)]


def locate(counts: Iterable[tuple[str, int]], skip: int, take: int) -> list[Span]:
    """Find the periods that hold `take` tasks after the first `skip`.

    `counts` gives each period's number of tasks, newest first. Where the list ends, fewer come back.
    """
    spans: list[Span] = []
    for period, count in counts:
        if take <= 0:
            break
        if skip >= count:
            skip -= max(count, 0)
            continue
        taken = min(take, count - skip)
        spans.append(Span(period, skip, taken))
        skip, take = 0, take - taken
    return spans
