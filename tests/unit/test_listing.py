"""The list of tasks, after any creates and deletes at any times, against a plain Python list."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import TABLE, TABLE_SCHEMA, Aws, Clock
from transcoding.data import task_table
from transcoding.data.periods import Span
from transcoding.data.task_table import TaskTable

START = 1767225600.0  # 2026-01-01T00:00:00Z, the first moment that is counted.
HOUR, DAY = 3600, 86400


@contextmanager
def fresh_table(aws: Aws, clock: Clock) -> Iterator[TaskTable]:
    aws.dynamodb.delete_table(TableName=TABLE)
    aws.dynamodb.create_table(**TABLE_SCHEMA)
    clock.now = START
    yield TaskTable(TABLE, clock)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("create"), st.integers(1, 3)),
        st.tuples(
            st.just("wait"),
            st.sampled_from([1e-6, 0.5, 60, HOUR, 7 * HOUR, DAY, 12 * DAY, 45 * DAY, 400 * DAY]),
        ),
        st.tuples(st.just("delete"), st.integers(0, 30)),
    ),
    max_size=14,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps, limit=st.sampled_from([1, 2, 3, 7, 15, 100]))
def test_pages_are_those_of_a_plain_list(
    aws: Aws, clock: Clock, steps: list[tuple[str, Any]], limit: int
) -> None:
    with fresh_table(aws, clock) as table:
        live: list[tuple[float, str]] = []
        for step, argument in steps:
            if step == "wait":
                clock.advance(argument)
            elif step == "delete" and live:
                table.delete(live.pop(argument % len(live))[1], timedelta(days=1))
            elif step == "create":
                for _ in range(argument):
                    task, _ = table.create("s3://bucket/key", 5, "m3u8", None)
                    live.append((task.created_at.timestamp(), task.id))

        # Tasks of the same microsecond are in the order of their ids.
        expected = [task_id for _, task_id in sorted(live, reverse=True)]
        for page in range(1, len(expected) // limit + 3):
            tasks, count = table.page(page, limit)
            assert [task.id for task in tasks] == expected[(page - 1) * limit : page * limit]
            assert count == len(expected)


def test_a_page_reads_only_the_hours_it_shows(
    table: TaskTable, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        for _ in range(3):
            table.create("s3://bucket/key", 5, "m3u8", None)
            clock.advance(1)
        clock.advance(HOUR)
    operations: list[str] = []
    client = table._connection.client
    call = client._make_api_call

    def watch(operation: str, arguments: Any) -> Any:
        operations.append(operation)
        return call(operation, arguments)

    monkeypatch.setattr(client, "_make_api_call", watch)
    assert len(table.page(2, 3)[0]) == 3
    assert operations == ["BatchGetItem", "BatchGetItem", "Query"]
    operations.clear()
    assert table.page(10**30, 100) == ([], 12)
    assert operations == ["BatchGetItem"]


def test_a_page_that_the_index_cannot_fill_yet_is_short(table: TaskTable) -> None:
    """The counts are ahead of the index for a moment."""
    table.create("s3://bucket/key", 5, "m3u8", None)
    assert len(table._hour(Span("2026-11-22T15", 0, 2))) == 1
    assert table._hour(Span("2026-11-22T15", 1, 1)) == []
    assert table._hour(Span("2026-11-22T15", 2, 1)) == []


def test_years_of_months_are_read_a_hundred_at_a_time(table: TaskTable, clock: Clock) -> None:
    table.create("s3://bucket/key", 5, "m3u8", None)
    clock.advance(10 * 366 * DAY)
    table.create("s3://bucket/key", 5, "m3u8", None)
    tasks, count = table.page(1, 15)
    assert (len(tasks), count) == (2, 2)
    assert tasks[0].created_at.year == 2036


def test_ids_are_eight_of_the_alphabet() -> None:
    ids = {task_table._new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert set("".join(ids)) == set("0123456789abcdefghijklmnopqrstuvwxyz")
    assert {len(task_id) for task_id in ids} == {8}
