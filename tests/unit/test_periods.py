"""The arithmetic of pages, against slices of a plain list."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from transcoding.data import periods
from transcoding.data.periods import Span, locate


def test_names() -> None:
    time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert (periods.month_of(time), periods.day_of(time), periods.hour_of(time)) == (
        "2026-01",
        "2026-01-02",
        "2026-01-02T03",
    )


def test_months_run_from_this_one_back_to_the_first() -> None:
    assert periods.months_until(datetime(2026, 1, 1, tzinfo=UTC)) == ["2026-01"]
    months = periods.months_until(datetime(2027, 2, 28, tzinfo=UTC))
    assert months[:3] == ["2027-02", "2027-01", "2026-12"]
    assert (months[-1], len(months)) == ("2026-01", 14)


def test_a_page_over_several_periods() -> None:
    assert locate([("c", 3), ("b", 0), ("a", 5)], 2, 3) == [Span("c", 2, 1), Span("a", 0, 2)]


def test_a_count_below_zero_is_none() -> None:
    assert locate([("b", -1), ("a", 2)], 1, 5) == [Span("a", 1, 1)]


@given(
    counts=st.lists(st.integers(0, 6), max_size=12),
    skip=st.integers(0, 60) | st.integers(min_value=10**20),
    take=st.integers(1, 100),
)
def test_spans_are_slices(counts: list[int], skip: int, take: int) -> None:
    tasks = [(str(period), n) for period, count in enumerate(counts) for n in range(count)]
    spans = locate([(str(period), count) for period, count in enumerate(counts)], skip, take)
    assert [(s.period, n) for s in spans for n in range(s.skip, s.skip + s.take)] == tasks[skip : skip + take]
    assert all(span.take > 0 for span in spans)


@given(
    hours=st.dictionaries(
        st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(0, 3)), st.integers(1, 4), max_size=20
    ),
    skip=st.integers(0, 80),
    take=st.integers(1, 30),
)
def test_spans_of_spans_are_the_spans_of_the_parts(
    hours: dict[tuple[int, int, int], int], skip: int, take: int
) -> None:
    newest_first = sorted(hours, reverse=True)

    def parts(prefix: tuple[int, ...]) -> list[tuple[str, int]]:
        """Count what is one level below a prefix."""
        names: dict[str, int] = {}
        for hour in newest_first:
            if hour[: len(prefix)] == prefix:
                name = ".".join(map(str, hour[: len(prefix) + 1]))
                names[name] = names.get(name, 0) + hours[hour]
        return list(names.items())

    spans = locate(parts(()), skip, take)
    for _ in range(2):
        spans = [
            part
            for s in spans
            for part in locate(parts(tuple(map(int, s.period.split(".")))), s.skip, s.take)
        ]
    whole = [(".".join(map(str, hour)), hours[hour]) for hour in newest_first]
    assert spans == locate(whole, skip, take)
