"""The watch folder: each object becomes one task, however its events come."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from local.package import ROOT
from tests.conftest import Aws, Clock, lambda_context
from transcoding.api.parameters import IDEMPOTENCY_KEY, RefusedError
from transcoding.data.task_table import TaskTable
from transcoding.errors import UnavailableError
from transcoding.model import Status

#: What EventBridge puts on the queue.
(RECORD,) = json.loads((ROOT / "events" / "inbox.json").read_text())["Records"]


@pytest.fixture
def inbox(aws: Aws, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = importlib.import_module("inbox")
    monkeypatch.setattr(module.table, "_clock", clock)
    return module


def _record(key: str = "inbox/holiday.mov", sequencer: str = "00617F08299329D189", size: int = 5) -> Any:
    event = json.loads(RECORD["body"])
    event["detail"]["object"] |= {"key": key, "sequencer": sequencer, "size": size}
    return RECORD | {"messageId": f"{key} {sequencer}", "body": json.dumps(event)}


@pytest.fixture
def put(inbox: Any) -> Callable[..., list[str]]:
    """Hand messages to the function; gives those that are to come again."""

    def put(*records: Any) -> list[str]:
        answer = inbox.handler({"Records": list(records)}, lambda_context())
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    return put


def test_an_object_becomes_a_task_as_the_parameters_say(
    put: Callable[..., list[str]], table: TaskTable, aws: Aws
) -> None:
    assert put(_record()) == []
    ((task,), count) = table.page(1, 10)
    assert (task.origin_url, task.format, task.quality) == (
        "s3://transcoding-sources/inbox/holiday.mov",
        "mp4",
        3,
    )
    assert (task.status, count) == (Status.WAITING, 1)
    assert [message["task_id"] for message in aws.take_messages()] == [task.id]


def test_an_event_that_comes_again_makes_no_second_task(
    put: Callable[..., list[str]], table: TaskTable, clock: Clock
) -> None:
    assert put(_record(), _record()) == []
    clock.advance(3600)
    assert put(_record()) == []
    assert table.page(1, 10)[1] == 1


def test_an_object_that_is_overwritten_is_a_new_task_in_whatever_order_its_events_come(
    put: Callable[..., list[str]], table: TaskTable
) -> None:
    first, second = _record(sequencer="01"), _record(sequencer="02")
    assert put(second, first, second) == []
    assert put(first) == []
    assert table.page(1, 10)[1] == 2


@pytest.mark.parametrize(
    "key",
    [
        "inbox/a film + 100%.mov",
        "inbox/我的电影 🎬.mov",
        "inbox/deep/er/what?#now&.mov",
        "inbox/%20.mov",
        "inbox//.mov",
        "inbox/" + "长" * 339,
    ],
)
def test_odd_keys_are_taken_as_they_are(put: Callable[..., list[str]], table: TaskTable, key: str) -> None:
    assert put(_record(key)) == []
    ((task,), _) = table.page(1, 10)
    assert task.origin_url == f"s3://transcoding-sources/{key}"


def test_what_can_be_no_source_is_passed_over_once_and_said(
    put: Callable[..., list[str]], table: TaskTable, caplog: pytest.LogCaptureFixture
) -> None:
    assert put(_record("inbox/"), _record("inbox/2026/"), _record("inbox/a\nb.mov"), _record()) == []
    ((task,), count) = table.page(1, 10)
    assert (task.origin_url, count) == ("s3://transcoding-sources/inbox/holiday.mov", 1)
    said = [(line.levelname, line.__dict__["key"]) for line in caplog.records if "key" in line.__dict__]
    assert said == [("INFO", "inbox/"), ("INFO", "inbox/2026/"), ("WARNING", "inbox/a\nb.mov")]


def test_an_object_without_bytes_becomes_a_task_which_its_worker_fails(
    put: Callable[..., list[str]], table: TaskTable
) -> None:
    assert put(_record(size=0)) == []
    assert table.page(1, 10)[1] == 1


def test_what_cannot_be_stored_now_comes_again_and_the_others_do_not(
    put: Callable[..., list[str]], inbox: Any, table: TaskTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = inbox.tasks.create

    def fail_one(table: Any, queue: Any, order: Any, key: str) -> Any:
        if order.origin_url.endswith("b.mov"):
            raise UnavailableError("the database")
        return create(table, queue, order, key)

    monkeypatch.setattr(inbox.tasks, "create", fail_one)
    records = [_record(f"inbox/{name}.mov") for name in "abc"]
    assert put(*records) == [records[1]["messageId"]]
    monkeypatch.undo()
    assert put(records[1]) == []
    assert table.page(1, 10)[1] == 3


def test_an_event_that_comes_again_after_the_parameters_have_changed_makes_none(
    put: Callable[..., list[str]], inbox: Any, table: TaskTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(_record())
    monkeypatch.setattr(inbox, "ORDER", replace(inbox.ORDER, quality=1))
    assert put(_record()) == []
    assert table.page(1, 10)[1] == 1


def test_no_caller_can_use_an_objects_idempotency_key(inbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[str] = []

    def create(*arguments: Any) -> Any:
        keys.append(arguments[-1])
        return SimpleNamespace(id="17lok52y")

    monkeypatch.setattr(inbox.tasks, "create", create)
    inbox.handler({"Records": [_record()]}, lambda_context())
    with pytest.raises(RefusedError):
        IDEMPOTENCY_KEY.read(keys[0])
