"""The list of tasks: any creates, deletes and folds at any times, against a plain Python list."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import TABLE, TABLE_SCHEMA, Aws, Clock, unsent
from transcoding.data import counts, task_table
from transcoding.data.periods import Span
from transcoding.data.records import CountRecord
from transcoding.data.task_table import TaskTable
from transcoding.errors import UnavailableError
from transcoding.model import Order, Task

START = 1767225600.0  # 2026-01-01T00:00:00Z
HOUR, DAY = 3600, 86400
RETENTION = timedelta(days=30)


def create(table: TaskTable) -> Task:
    return table.create(Order("s3://bucket/key", 5, "m3u8"), None, unsent)[0]


def fold(table: TaskTable) -> None:
    table.fold(lambda: 60.0)


def pending(aws: Aws) -> dict[str, list[int]]:
    """What is pending, by shard."""
    return {
        item["id"]["S"]: [int(value["N"]) for name, value in item.items() if name.isdigit()]
        for item in aws.items()
        if item["id"]["S"].startswith("pending#")
    }


def read_all(table: TaskTable, limit: int, count: int) -> list[str]:
    """Read all pages, and one more; check the count in each."""
    ids: list[str] = []
    for page in range(1, -(-count // limit) + 2):
        tasks, total = table.page(page, limit)
        assert total == count
        assert len(tasks) == min(limit, max(0, count - (page - 1) * limit))
        ids += [task.id for task in tasks]
    return ids


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
            st.sampled_from([1e-6, 0.5, 9, 60, HOUR, 7 * HOUR, DAY, 12 * DAY, 45 * DAY, 400 * DAY]),
        ),
        st.tuples(st.just("delete"), st.integers(0, 30)),
        st.tuples(st.just("fold"), st.just(0)),
    ),
    max_size=16,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=steps,
    limit=st.sampled_from([1, 2, 3, 7, 15, 100]),
    folds=st.lists(st.booleans(), max_size=24),
    wait=st.sampled_from([0, 61, DAY]),
)
def test_pages_are_those_of_a_plain_list(
    aws: Aws, clock: Clock, steps: list[tuple[str, Any]], limit: int, folds: list[bool], wait: float
) -> None:
    """Also where a fold goes through between any two requests of a reader."""
    with fresh_table(aws, clock) as table, pytest.MonkeyPatch.context() as patch:
        live: list[tuple[float, str]] = []
        for step, argument in steps:
            if step == "wait":
                clock.advance(argument)
            elif step == "fold":
                fold(table)
            elif step == "delete" and live:
                table.delete(live.pop(argument % len(live))[1], timedelta(days=1))
            elif step == "create":
                for _ in range(argument):
                    task = create(table)
                    live.append((task.created_at.timestamp(), task.id))
        clock.advance(wait)

        items, folding = table._counts._items, list(folds)

        def fold_before(names: list[str]) -> dict[str, CountRecord]:
            if folding and folding.pop():
                rest, folding[:] = folding.copy(), []
                fold(table)
                folding[:] = rest
            return items(names)

        patch.setattr(table._counts, "_items", fold_before)
        # Tasks of the same microsecond are in the order of their ids.
        assert read_all(table, limit, len(live)) == [task_id for _, task_id in sorted(live, reverse=True)]


def test_a_fold_between_any_two_items_of_a_read_is_noticed(
    table: TaskTable, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch is not read at one time: here, each item is read after another fold."""
    for _ in range(60):
        create(table)
    clock.advance(DAY)
    items = table._counts._items
    shards = iter(range(counts.SHARDS))

    def one_by_one(names: list[str]) -> dict[str, CountRecord]:
        found = {}
        for name in names:
            found |= items([name])
            if len(names) > 2 and (shard := next(shards, None)) is not None:
                with monkeypatch.context() as patch:
                    patch.setattr(table._counts, "_items", items)
                    table._counts._fold(shard, int(clock.now))
        return found

    monkeypatch.setattr(table._counts, "_items", one_by_one)
    assert [table.page(page, 15)[1] for page in range(1, 6)] == [60] * 5
    assert next(shards, None) is None


def test_a_fold_into_the_day_of_a_page_is_noticed(
    table: TaskTable, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = []
    for _ in range(30):
        ids.append(create(table).id)
        clock.advance(5)
    clock.advance(DAY)
    slices = table._counts._slices

    def fold_before(*arguments: Any) -> list[int] | None:
        monkeypatch.undo()
        fold(table)
        assert slices(*arguments) is None
        return None

    monkeypatch.setattr(table._counts, "_slices", fold_before)
    tasks, total = table.page(2, 7)
    assert ([task.id for task in tasks], total) == (ids[::-1][7:14], 30)


def test_folds_without_an_end_are_unavailability(table: TaskTable, monkeypatch: pytest.MonkeyPatch) -> None:
    create(table)
    create(table)
    monkeypatch.setattr(table._counts, "_slices", lambda *_: None)
    with pytest.raises(UnavailableError):
        table.page(2, 1)


# Folding


def test_only_slices_that_are_over_are_folded(table: TaskTable, aws: Aws, clock: Clock) -> None:
    create(table)
    clock.advance(counts.OVER_SECONDS - 10)
    fold(table)
    assert sum(map(sum, pending(aws).values())) == 1
    assert "days" not in aws.item("counts")
    clock.advance(20)
    create(table)
    fold(table)
    assert sum(map(sum, pending(aws).values())) == 1
    assert CountRecord.get("counts").days == {"2026-11-22": 1}
    assert sum(CountRecord.get("counts#2026-11-22").slices or []) == 1
    assert table.page(1, 15)[1] == 2


def test_what_is_deleted_is_counted_out_of_the_slice_in_which_it_was_created(
    table: TaskTable, aws: Aws, clock: Clock
) -> None:
    first, second = create(table), create(table)
    clock.advance(40 * DAY)
    fold(table)
    table.delete(first.id, RETENTION)
    assert table.page(1, 100)[1] == 1
    fold(table)
    assert sum(CountRecord.get("counts#2026-11-22").slices or []) == 1
    table.delete(second.id, RETENTION)
    fold(table)
    assert CountRecord.get("counts").days == {}
    assert not any(pending(aws).values())
    assert table.page(1, 100) == ([], 0)


def test_a_day_of_deletes_of_many_days_is_folded_in_several_transactions(
    table: TaskTable, aws: Aws, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "SHARDS", 1)
    monkeypatch.setattr(counts, "_FOLDED_SLICES", 5)
    ids = []
    for _ in range(12):
        ids.append(create(table).id)
        clock.advance(DAY)
    fold(table)
    for id_ in ids[:11]:
        table.delete(id_, RETENTION)
    assert len(pending(aws)["pending#0"]) == 11
    fold(table)
    assert CountRecord.get("counts").fold == 6
    assert pending(aws) == {"pending#0": []}
    assert [task.id for task in table.page(1, 100)[0]] == ids[11:]


def test_a_fold_has_no_more_items_than_dynamodb_takes() -> None:
    assert counts._FOLDED_SLICES + 2 <= 100


def test_a_fold_without_time_is_left_to_the_next(table: TaskTable, aws: Aws, clock: Clock) -> None:
    create(table)
    clock.advance(DAY)
    table.fold(lambda: 0.0)
    assert sum(map(sum, pending(aws).values())) == 1
    fold(table)
    assert not any(pending(aws).values())


@pytest.mark.parametrize("event", ["another fold", "a delete"])
def test_what_comes_between_the_reads_and_the_write_of_a_fold_is_not_lost(
    table: TaskTable, aws: Aws, clock: Clock, monkeypatch: pytest.MonkeyPatch, event: str
) -> None:
    monkeypatch.setattr(counts, "SHARDS", 1)
    task = create(table)
    create(table)
    clock.advance(DAY)
    move = table._counts._move

    def come_between(*arguments: Any) -> None:
        monkeypatch.setattr(table._counts, "_move", move)
        if event == "a delete":
            table.delete(task.id, RETENTION)
        else:
            fold(table)
        move(*arguments)

    monkeypatch.setattr(table._counts, "_move", come_between)
    fold(table)
    left = 1 if event == "a delete" else 2
    assert CountRecord.get("counts").days == {"2026-11-22": left}
    assert not any(pending(aws).values())
    assert table.page(1, 100)[1] == left


def test_a_fold_whose_answer_is_lost_counts_once(
    table: TaskTable, clock: Clock, request: pytest.FixtureRequest
) -> None:
    for _ in range(20):
        create(table)
    clock.advance(DAY)
    request.getfixturevalue("repeated")
    fold(table)
    assert CountRecord.get("counts").days == {"2026-11-22": 20}
    assert table.page(2, 15)[1] == 20


# What a page costs


def test_a_page_takes_four_requests(table: TaskTable, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(4):
        for _ in range(3):
            create(table)
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
    assert operations == ["BatchGetItem", "BatchGetItem", "Query", "BatchGetItem"]
    operations.clear()
    assert table.page(10**30, 100) == ([], 12)
    assert operations == ["BatchGetItem"]


def test_a_page_passes_over_no_more_than_a_slice(
    table: TaskTable, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(40):
        create(table)
        clock.advance(5)
    clock.advance(HOUR)
    fold(table)
    passed: list[int] = []
    span = table._span

    def watch(wanted: Span) -> list[str]:
        passed.append(wanted.skip)
        return span(wanted)

    monkeypatch.setattr(table, "_span", watch)
    for page in range(1, 14):
        assert len(table.page(page, 3)[0]) == 3
    assert len(passed) == 13
    assert max(passed) == 1


def test_a_page_over_many_months_reads_them_side_by_side(table: TaskTable, clock: Clock) -> None:
    ids = []
    for _ in range(30):
        ids.append(create(table).id)
        clock.advance(31 * DAY)
    assert [task.id for task in table.page(1, 100)[0]] == ids[::-1]
    assert [task.id for task in table.page(2, 12)[0]] == ids[::-1][12:24]


def test_a_page_that_the_index_cannot_fill_yet_is_short(table: TaskTable) -> None:
    """The counts are ahead of the index for a moment."""
    create(table)
    assert len(table._span(Span("2026-11", None, 0, 2))) == 1
    assert table._span(Span("2026-11", None, 1, 1)) == []


def test_a_task_that_is_deleted_while_its_page_is_read_is_left_out(
    table: TaskTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, gone = create(table), create(table)
    span = table._span

    def delete_after(wanted: Span) -> list[str]:
        ids = span(wanted)
        table.delete(gone.id, RETENTION)
        return ids

    monkeypatch.setattr(table, "_span", delete_after)
    assert [task.id for task in table.page(1, 15)[0]] == [kept.id]


# Tasks of version 0.1.0


def store_as_before(aws: Aws, clock: Clock, id_: str, **more: Any) -> None:
    """Store a task as version 0.1.0 does."""
    time = "2026-11-20T10:11:12.131415"
    aws.dynamodb.put_item(
        TableName=TABLE,
        Item={
            "id": {"S": id_},
            "origin_url": {"S": "s3://bucket/key"},
            "quality": {"N": "5"},
            "format": {"S": "mp4"},
            "created_at": {"S": f"{time}+0000"},
            "updated_at": {"S": f"{time}+0000"},
            "status": {"N": "2"},
            "progress": {"N": "1"},
            "target_url": {"S": f"https://old.example.com/outputs/{id_}/1/video.mp4"},
            "error_code": {"N": "0"},
            "error_info": {"S": ""},
            "attempt": {"N": "1"},
            "period": {"S": time[:13]},
            "created": {"S": f"{time}#{id_}"},
        }
        | more,
    )


def test_tasks_of_the_first_version_are_taken_over(table: TaskTable, aws: Aws, clock: Clock) -> None:
    store_as_before(aws, clock, "aaaaaaaa")
    store_as_before(aws, clock, "bbbbbbbb")
    deleted = {"status": {"N": "4"}, "target_url": {"S": ""}}
    store_as_before(aws, clock, "cccccccc", **deleted)
    aws.dynamodb.update_item(TableName=TABLE, Key={"id": {"S": "cccccccc"}}, UpdateExpression="REMOVE period")
    new = create(table)
    assert table.page(1, 15)[1] == 1
    for _ in range(2):
        table.adopt(lambda: 60.0)
        tasks, total = table.page(1, 15)
        assert ([task.id for task in tasks], total) == ([new.id, "bbbbbbbb", "aaaaaaaa"], 3)
    clock.advance(DAY)
    fold(table)
    table.delete("aaaaaaaa", RETENTION)
    assert table.page(1, 15)[1] == 2


def test_a_task_that_is_deleted_before_it_is_taken_over_is_never_counted(
    table: TaskTable, aws: Aws, clock: Clock
) -> None:
    store_as_before(aws, clock, "aaaaaaaa")
    assert table.delete("aaaaaaaa", RETENTION)
    table.adopt(lambda: 60.0)
    assert table.page(1, 15) == ([], 0)


def test_a_task_that_is_taken_over_while_it_is_deleted_is_counted_out(
    table: TaskTable, aws: Aws, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_as_before(aws, clock, "aaaaaaaa")
    delete = table._delete

    def adopt_before(*arguments: Any, **more: Any) -> None:
        monkeypatch.undo()
        table.adopt(lambda: 60.0)
        delete(*arguments, **more)

    monkeypatch.setattr(table, "_delete", adopt_before)
    table.delete("aaaaaaaa", RETENTION)
    assert table.page(1, 15) == ([], 0)


def test_ids_are_eight_of_the_alphabet() -> None:
    ids = {task_table._new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert set("".join(ids)) == set("0123456789abcdefghijklmnopqrstuvwxyz")
    assert {len(task_id) for task_id in ids} == {8}
