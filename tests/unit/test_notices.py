"""Every change of a task's status is told once, in an event and a callback, and nothing else is."""

from __future__ import annotations

import importlib
import json
from datetime import timedelta
from typing import Any

import jsonschema
import pytest
import yaml

from local.package import ROOT
from tests.conftest import CALLBACK_QUEUE_URL, OUTPUT, Api, Aws, Call, lambda_context, recorded_calls, unsent
from tests.unit.test_template import FUNCTIONS
from transcoding.data.part_table import PartTable
from transcoding.data.records import STATUS_MARK
from transcoding.data.task_table import TaskTable
from transcoding.errors import Failure
from transcoding.model import Order, Part, Status, Task

LEASE = timedelta(seconds=60)
WHY = (Failure.DAMAGED, "It is damaged.")
HOOK = "https://hooks.example.com/transcoded?token=1"


def passes(record: dict[str, Any]) -> bool:
    """Tell whether the template's filter lets a record through to the function."""
    (event,) = FUNCTIONS["NotifyFunction"]["Events"].values()
    (criterion,) = event["Properties"]["FilterCriteria"]["Filters"]
    pattern = yaml.safe_load(criterion["Pattern"])
    ((prefix,),) = (pattern["dynamodb"]["NewImage"]["last_write"]["S"],)
    assert prefix == {"prefix": STATUS_MARK}
    mark = record["dynamodb"].get("NewImage", {}).get("last_write", {}).get("S", "")
    return bool(mark.startswith(prefix["prefix"]))


def told(aws: Aws, task_id: str) -> list[tuple[int, Status]]:
    """Give the sequence and the status of all that the stream tells of a task."""
    images = [record["dynamodb"]["NewImage"] for record in aws.stream() if passes(record)]
    own = [image for image in images if image["id"]["S"] == task_id]
    return [(int(image.get("sequence", {"N": "0"})["N"]), Status(int(image["status"]["N"]))) for image in own]


@pytest.fixture
def notify(aws: Aws) -> Any:
    return importlib.import_module("notify")


def create(table: TaskTable, callback_url: str = "") -> Task:
    order = Order("s3://bucket/video.mp4", 1, "m3u8", callback_url=callback_url)
    return table.create(order, None, unsent)[0]


def events_of(calls: list[Call]) -> list[dict[str, Any]]:
    """Give the details of the events that were put."""
    entries = [
        entry for call in calls if call.operation == "PutEvents" for entry in call.parameters["Entries"]
    ]
    assert {(entry["Source"], entry["DetailType"]) for entry in entries} <= {
        ("transcoding", "Transcode State Change")
    }
    return [json.loads(entry["Detail"]) for entry in entries]


def test_each_change_of_status_is_told_once_and_nothing_else_is(
    aws: Aws, table: TaskTable, parts: PartTable
) -> None:
    id_ = create(table).id
    table.mark_waiting(id_)
    table.mark_waiting(id_)
    task = table.claim(id_, "one", LEASE)
    assert task
    table.heartbeat(id_, "one", 0.1, LEASE)
    table.heartbeat(id_, "one", 0.2, LEASE)
    table.release(id_, "one", *WHY)
    task = table.claim(id_, "two", LEASE)
    assert task
    parts.fan_out(task, [Part(id_, 2, number, "picture", number, number + 1) for number in range(2)], 2)
    for number in range(2):
        part = parts.claim(task, number, "worker", LEASE)
        assert part
        parts.heartbeat(part, 0.5, LEASE)
        parts.add_progress(id_, 2, 0.4)
        parts.complete(part)
    assert table.claim(id_, "two", LEASE)
    table.succeed(id_, "two", "outputs/x/2/master.m3u8", OUTPUT)
    seen = table.get(id_)
    assert seen
    table.settle(seen)
    table.delete(id_, timedelta(days=1))
    table.delete(id_, timedelta(days=1))
    statuses = [-1, 0, 1, 0, 1, 2, 4]
    assert told(aws, id_) == list(enumerate(map(Status, statuses), 1))
    assert len(aws.stream()) > 2 * len(statuses)


def test_failures_of_a_task_and_of_a_part_are_told(aws: Aws, table: TaskTable, parts: PartTable) -> None:
    ids = [create(table).id for _ in range(5)]
    for id_ in ids[1:]:
        assert table.claim(id_, "one", LEASE)
    table.fail_unowned(ids[0], *WHY)
    table.fail(ids[1], "one", *WHY)
    for id_ in ids[2:]:
        task = table.get(id_)
        assert task
        parts.fan_out(task, [Part(id_, 1, 0, "picture", 0, 1)], 1)
    part = parts.claim(task, 0, "worker", LEASE)
    assert part
    parts.fail(part, *WHY)
    task = table.get(ids[3])
    assert task
    parts.fail_incomplete(task, *WHY)
    task = table.get(ids[2])
    assert task
    parts.plan_again(task)
    ends = [told(aws, id_)[-1] for id_ in ids]
    failed, again = (3, Status.FAILED), (3, Status.WAITING)
    assert ends == [(2, Status.FAILED), failed, again, failed, failed]


def test_a_write_that_is_repeated_is_told_once(aws: Aws, table: TaskTable, repeated: None) -> None:
    id_ = create(table).id
    table.claim(id_, "one", LEASE)
    table.fail(id_, "one", *WHY)
    table.delete(id_, timedelta(days=1))
    assert told(aws, id_) == [(1, -1), (2, 1), (3, 3), (4, 4)]


def test_a_task_of_an_earlier_version_counts_from_its_next_change_on(aws: Aws, table: TaskTable) -> None:
    id_ = create(table).id
    aws.dynamodb.update_item(
        TableName="tasks",
        Key={"id": {"S": id_}},
        UpdateExpression="REMOVE #s, last_write",
        ExpressionAttributeNames={"#s": "sequence"},
    )
    table.claim(id_, "one", LEASE)
    assert told(aws, id_)[-1] == (1, Status.RUNNING)


def test_an_event_is_the_task_as_get_transcode_shows_it(
    aws: Aws, api: Api, table: TaskTable, notify: Any
) -> None:
    id_ = api.create(callback_url=HOOK)
    waiting = api.get("get-transcode", id=id_).json["transcoding"]
    table.claim(id_, "one", LEASE)
    running = api.get("get-transcode", id=id_).json["transcoding"]
    table.succeed(id_, "one", "outputs/x/1/master.m3u8", OUTPUT)
    succeeded = api.get("get-transcode", id=id_).json["transcoding"]
    with recorded_calls() as calls:
        answer = notify.handler({"Records": aws.stream()}, lambda_context())
    assert answer == {"batchItemFailures": []}
    shown = [waiting, running, succeeded]
    assert "callback_url" not in waiting
    assert succeeded["output"]["renditions"]
    assert events_of(calls) == [task | {"sequence": number} for number, task in enumerate(shown, 1)]
    messages = aws.take_messages(CALLBACK_QUEUE_URL)
    assert {message["callback_url"] for message in messages} == {HOOK}
    bodies = [json.loads(message["body"]) for message in messages]
    assert sorted(bodies, key=lambda body: body["sequence"]) == [
        {"event": "Transcode State Change", "sequence": number, "transcoding": task}
        for number, task in enumerate(shown, 1)
    ]


def test_the_schema_of_an_event_is_the_one_in_docs(aws: Aws, api: Api, notify: Any) -> None:
    schema = json.loads((ROOT / "docs" / "event.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    detail = schema["properties"]["detail"]
    described = json.loads((ROOT / "docs" / "openapi.json").read_text())
    schemas = json.loads(
        json.dumps(described["components"]["schemas"]).replace("components/schemas", "$defs")
    )
    shown = schemas["DescribedTranscoding"]
    # What a task has is described once, for the API and for events.
    assert {name: field for name, field in detail["properties"].items() if name != "sequence"} == shown[
        "properties"
    ]
    assert schema["$defs"] == {name: schemas[name] for name in ("Output", "Rendition")}
    assert set(detail["required"]) == {*shown["required"], "sequence"}
    api.create()
    with recorded_calls() as calls:
        notify.handler({"Records": aws.stream()}, lambda_context())
    (event,) = events_of(calls)
    jsonschema.validate(event, detail | {"$defs": schema["$defs"]})


def test_a_task_without_a_callback_url_calls_nobody(aws: Aws, api: Api, notify: Any) -> None:
    api.create()
    notify.handler({"Records": aws.stream()}, lambda_context())
    assert aws.take_messages(CALLBACK_QUEUE_URL) == []


def test_what_passes_the_filter_and_changes_no_status_is_not_told(
    aws: Aws, table: TaskTable, notify: Any
) -> None:
    id_ = create(table, HOOK).id
    aws.dynamodb.update_item(TableName="tasks", Key={"id": {"S": id_}}, UpdateExpression="ADD parts_left :n",
                             ExpressionAttributeValues={":n": {"N": "1"}})  # fmt: skip
    assert [passes(record) for record in aws.stream() if record["dynamodb"]["Keys"]["id"]["S"] == id_] == [
        True,
        True,
    ]
    with recorded_calls() as calls:
        notify.handler({"Records": aws.stream()}, lambda_context())
    assert len(events_of(calls)) == len(aws.take_messages(CALLBACK_QUEUE_URL)) == 1


def test_a_notifier_that_was_killed_tells_the_same_again(aws: Aws, table: TaskTable, notify: Any) -> None:
    id_ = create(table, HOOK).id
    table.claim(id_, "one", LEASE)
    batch = {"Records": aws.stream()}
    with recorded_calls() as first:
        notify.handler(batch, lambda_context())
    bodies = aws.take_messages(CALLBACK_QUEUE_URL)
    with recorded_calls() as second:
        notify.handler(batch, lambda_context())
    assert [event["sequence"] for event in events_of(first)] == [1, 2]
    assert events_of(first) == events_of(second)
    assert aws.take_messages(CALLBACK_QUEUE_URL) == bodies


def _numbers(records: list[dict[str, Any]], *task_ids: str) -> list[dict[str, str]]:
    return [
        {"itemIdentifier": record["dynamodb"]["SequenceNumber"]}
        for record in records
        if record["dynamodb"]["Keys"]["id"]["S"] in task_ids
    ]


def test_an_event_that_is_not_taken_comes_again(
    aws: Aws, table: TaskTable, notify: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [create(table).id for _ in range(12)]

    def put_events(Entries: list[dict[str, Any]]) -> dict[str, Any]:
        refused = [json.loads(entry["Detail"])["id"] in (ids[3], ids[11]) for entry in Entries]
        return {"Entries": [{"ErrorCode": "Throttling"} if no else {"EventId": "1"} for no in refused]}

    monkeypatch.setattr(notify.bus, "_events", type("Bus", (), {"put_events": staticmethod(put_events)}))
    records = aws.stream()
    answer = notify.handler({"Records": records}, lambda_context())
    assert answer == {"batchItemFailures": _numbers(records, ids[3], ids[11])}


def test_a_callback_that_cannot_be_queued_comes_again(aws: Aws, table: TaskTable, notify: Any) -> None:
    called, _ = create(table, HOOK).id, create(table).id
    aws.sqs.delete_queue(QueueUrl=CALLBACK_QUEUE_URL)
    records = aws.stream()
    with pytest.raises(Exception, match="does not exist"):
        notify.handler({"Records": records}, lambda_context())
    aws.sqs.create_queue(QueueName="callbacks")
    assert called
    assert notify.handler({"Records": records}, lambda_context()) == {"batchItemFailures": []}
    assert len(aws.take_messages(CALLBACK_QUEUE_URL)) == 1


def test_a_record_that_cannot_be_read_does_not_hold_others_back(
    aws: Aws, table: TaskTable, notify: Any
) -> None:
    bad, good = create(table).id, create(table).id
    records = aws.stream()
    for record in records:
        if record["dynamodb"]["Keys"]["id"]["S"] == bad:
            record["dynamodb"]["NewImage"]["status"] = {"N": "99"}
    with recorded_calls() as calls:
        answer = notify.handler({"Records": records}, lambda_context())
    assert answer == {"batchItemFailures": _numbers(records, bad)}
    assert [event["id"] for event in events_of(calls)] == [good]


def test_a_batch_of_which_nothing_was_told_fails(aws: Aws, table: TaskTable, notify: Any) -> None:
    id_ = create(table).id
    (record,) = (r for r in aws.stream() if r["dynamodb"]["Keys"]["id"]["S"] == id_)
    record["dynamodb"]["NewImage"]["status"] = {"N": "99"}
    with pytest.raises(notify.NothingToldError):
        notify.handler({"Records": [record]}, lambda_context())
