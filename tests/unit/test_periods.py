"""The arithmetic of pages, against slices of a plain list."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from transcoding.data import periods
from transcoding.data.periods import Place, Span

EPOCH = datetime(2026, 11, 1, tzinfo=UTC)


def test_names() -> None:
    time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    number = periods.slice_at(time.timestamp())
    assert periods.month_of(time) == "2026-01"
    assert periods.day_of(number) == ("2026-01-02", (3 * 3600 + 4 * 60) // 10)
    assert periods.day_of(number + 1) == ("2026-01-02", (3 * 3600 + 4 * 60) // 10 + 1)
    assert periods.day_of(periods.slice_at(datetime(2026, 1, 3, tzinfo=UTC).timestamp())) == ("2026-01-03", 0)


def test_a_place_is_before_the_end_of_its_period() -> None:
    assert Place("2026-11-30", None, 0).before == "2026-12-01T00:00:00"
    assert Place("2026-11-30", 0, 3).before == "2026-11-30T00:00:10"
    assert Place("2026-11-30", periods.DAY_SLICES - 1, 3).before == "2026-12-01T00:00:00"


def test_a_page_over_several_months() -> None:
    days = {"2026-11-02": 3, "2026-11-01": 1, "2026-10-01": 0, "2026-09-30": 5}
    place = periods.place_in_days(days, 2)
    assert place == Place("2026-11-02", None, 2)
    assert periods.spans(days, place, 2, 4) == [
        Span("2026-11", "2026-11-03T00:00:00", 2, 2),
        Span("2026-09", None, 0, 2),
    ]


def test_a_count_below_zero_is_none() -> None:
    """A delete may be read where the create, in another pending item, was not yet."""
    days = {"2026-11-02": -1, "2026-11-01": 2}
    assert periods.place_in_days(days, 1) == Place("2026-11-01", None, 1)
    assert periods.place_in_slices(Place("2026-11-01", None, 1), [2, -1, 0]) == Place("2026-11-01", 0, 1)


def test_adding_leaves_out_what_is_nought() -> None:
    assert periods.add({"a": 1, "b": 2}, [("a", -1), ("c", 3), ("b", 1)]) == {"b": 3, "c": 3}


@given(
    seconds=st.lists(
        # Some days, some in the same slices, some in the same second.
        st.integers(0, 40).map(lambda n: n * 86400)
        | st.integers(0, 3 * 86400)
        | st.integers(0, 40).map(lambda n: 30 * 86400 + n),
        max_size=40,
    ),
    skip=st.integers(0, 50) | st.integers(min_value=10**20),
    take=st.integers(1, 100),
)
def test_pages_are_slices_of_a_plain_list(seconds: list[int], skip: int, take: int) -> None:
    times = sorted((EPOCH + timedelta(seconds=second) for second in seconds), reverse=True)
    numbers = Counter(periods.slice_at(time.timestamp()) for time in times)
    by_day = periods.by_day(numbers)
    days = {day: sum(slices.values()) for day, slices in by_day.items()}

    place = periods.place_in_days(days, skip)
    if place is None:
        assert skip >= len(times)
        return
    if place.skip:
        slices = [by_day[place.day].get(number, 0) for number in range(periods.DAY_SLICES)]
        place = periods.place_in_slices(place, slices)
        assert place.skip < slices[place.slice or 0]
    found: list[datetime] = []
    for span in periods.spans(days, place, skip, take):
        assert span.take > 0
        in_month = [time for time in times if periods.month_of(time) == span.month]
        older = [
            time for time in in_month if span.before is None or f"{time:%Y-%m-%dT%H:%M:%S}" < span.before
        ]
        found += older[span.skip :][: span.take]
    assert found == times[skip : skip + take]
