"""The task table: what its conditional writes let through, and what it does under contention."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from tests.conftest import OUTPUT, TABLE, TABLE_SCHEMA, Aws, Clock, unsent
from transcoding.data import task_table
from transcoding.data.records import TaskRecord
from transcoding.data.task_table import TaskTable
from transcoding.errors import (
    ApiError,
    Failure,
    LeaseLostError,
    TaskFailedError,
    UnavailableError,
    UnknownTaskError,
)
from transcoding.model import Order, Status, Task

LEASE = timedelta(seconds=60)
RETENTION = timedelta(days=30)


pytestmark = pytest.mark.usefixtures("serialised")


def create(table: TaskTable, key: str | None = None) -> Task:
    return table.create(Order("s3://bucket/key", 5, "m3u8"), key, unsent)[0]


def read(table: TaskTable, task_id: str) -> Task:
    task = table.get(task_id)
    assert task is not None
    return task


def attention(aws: Aws, task_id: str) -> float | None:
    item = aws.item(task_id)
    assert ("attention" in item) == ("attention_at" in item)
    return float(item["attention_at"]["N"]) if "attention" in item else None


def test_the_models_have_the_keys_of_the_template(table: TaskTable) -> None:
    """That both name the same index is seen wherever it is queried; this is about what it has."""
    schema = TaskRecord._get_schema()
    indexes = {index["index_name"]: index for index in schema["global_secondary_indexes"]}
    for expected in TABLE_SCHEMA["GlobalSecondaryIndexes"]:
        index = indexes.pop(expected["IndexName"])
        assert index["projection"] == expected["Projection"]
        assert sorted(index["key_schema"], key=str) == sorted(expected["KeySchema"], key=str)
    assert not indexes
    assert schema["key_schema"] == TABLE_SCHEMA["KeySchema"]


# The life of a task


def test_a_task_goes_from_accepted_to_succeeded(table: TaskTable, aws: Aws, clock: Clock) -> None:
    task = create(table)
    assert (task.status, task.progress, task.attempt) == (Status.ACCEPTED, 0.0, 0)
    assert read(table, task.id) == task
    assert attention(aws, task.id) == clock.now + 60

    table.mark_waiting(task.id)
    assert read(table, task.id).status is Status.WAITING
    assert attention(aws, task.id) == clock.now + 300

    clock.advance(5)
    claimed = table.claim(task.id, "worker", LEASE)
    assert claimed == read(table, task.id)
    assert (claimed.status, claimed.attempt, claimed.lease_owner) == (Status.RUNNING, 1, "worker")
    assert claimed.lease_expires_at == attention(aws, task.id) == clock.now + 60
    assert claimed.updated_at.timestamp() == clock.now

    clock.advance(5)
    table.heartbeat(task.id, "worker", 0.5, LEASE)
    running = read(table, task.id)
    assert (running.progress, running.lease_expires_at) == (0.5, clock.now + 60)
    # The sweep finds the live lease by itself.
    assert attention(aws, task.id) == clock.now + 55

    table.succeed(task.id, "worker", "https://media.example.com/master.m3u8", OUTPUT)
    done = read(table, task.id)
    assert (done.status, done.progress, done.target) == (2, 1.0, "https://media.example.com/master.m3u8")
    assert (done.lease_owner, done.lease_expires_at) == ("", 0.0)
    # For what is left beside the result.
    assert attention(aws, task.id) == clock.now + 60
    table.settle(done)
    assert attention(aws, task.id) is None


def test_what_a_later_version_tells_of_a_result_is_passed_over(table: TaskTable, aws: Aws) -> None:
    task = create(table)
    table.claim(task.id, "worker", LEASE)
    table.succeed(task.id, "worker", "outputs/1/video.mp4", OUTPUT)
    record = TaskRecord.from_raw_data(aws.item(task.id))
    one = record.output["renditions"][0] | {"loudness": -23.0}
    record.output = record.output | {"renditions": [one], "chapters": []}
    aws.dynamodb.put_item(TableName=TABLE, Item=record.serialize())
    assert read(table, task.id).output == OUTPUT


@pytest.mark.parametrize(
    ("reported", "shown"),
    [(0.4, 0.5), (0.5, 0.5), (0.7, 0.7), (1.0, 0.999), (7.0, 0.999), (-1.0, 0.5), (float("nan"), 0.5)],
)
def test_progress_never_falls_and_is_1_only_at_the_end(
    table: TaskTable, reported: float, shown: float
) -> None:
    task = create(table)
    table.claim(task.id, "worker", LEASE)
    table.heartbeat(task.id, "worker", 0.5, LEASE)
    table.heartbeat(task.id, "worker", reported, LEASE)
    assert read(table, task.id).progress == shown


def test_a_heartbeat_without_progress_still_extends_the_lease(table: TaskTable, clock: Clock) -> None:
    task = create(table)
    table.claim(task.id, "worker", LEASE)
    table.heartbeat(task.id, "worker", 0.5, LEASE)
    clock.advance(30)
    table.heartbeat(task.id, "worker", 0.1, LEASE)
    assert read(table, task.id).lease_expires_at == clock.now + 60


def test_a_failed_task_is_looked_at_once_more(table: TaskTable, aws: Aws, clock: Clock) -> None:
    task = create(table)
    table.claim(task.id, "worker", LEASE)
    table.fail(task.id, "worker", Failure.ENCRYPTED, "It is encrypted.")
    failed = read(table, task.id)
    assert (failed.status, failed.error_code, failed.error_info) == (3, 2003, "It is encrypted.")
    assert attention(aws, task.id) == clock.now + 60
    table.settle(read(table, task.id))
    assert attention(aws, task.id) is None


def test_a_released_task_is_tried_again_until_its_last_attempt(
    table: TaskTable, aws: Aws, clock: Clock
) -> None:
    task = create(table)
    for attempt in (1, 2, 3):
        claimed = table.claim(task.id, "worker", LEASE)
        assert claimed is not None
        assert (claimed.attempt, claimed.progress) == (attempt, 0.0)
        table.heartbeat(task.id, "worker", 0.3, LEASE)
        again = table.release(task.id, "worker", Failure.TIMED_OUT, "Too slow.")
        assert again is (attempt < 3)
        assert attention(aws, task.id) == clock.now + 60
        if again:
            assert read(table, task.id).status is Status.WAITING
            assert read(table, task.id).lease_owner == ""
    assert (read(table, task.id).status, read(table, task.id).error_code) == (3, Failure.TIMED_OUT)


# Who may do what


def test_one_of_many_claims_wins(table: TaskTable) -> None:
    task = create(table)
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda n: table.claim(task.id, f"worker {n}", LEASE), range(16)))
    winners = [claim for claim in claims if claim]
    assert len(winners) == 1
    assert read(table, task.id) == winners[0]


def test_a_lease_that_is_over_can_be_taken(table: TaskTable, clock: Clock) -> None:
    task = create(table)
    table.claim(task.id, "first", LEASE)
    clock.advance(60)
    assert table.claim(task.id, "second", LEASE) is None
    clock.advance(0.001)
    second = table.claim(task.id, "second", LEASE)
    assert second is not None
    assert (second.attempt, second.lease_owner) == (2, "second")


@pytest.mark.parametrize(
    "act",
    [
        lambda table, id_: table.heartbeat(id_, "first", 0.5, LEASE),
        lambda table, id_: table.succeed(id_, "first", "https://media.example.com/x", OUTPUT),
        lambda table, id_: table.fail(id_, "first", Failure.DAMAGED, "It is damaged."),
        lambda table, id_: table.release(id_, "first", Failure.INTERNAL, "It broke."),
    ],
    ids=["heartbeat", "succeed", "fail", "release"],
)
@pytest.mark.parametrize("event", ["taken over", "deleted", "failed", "succeeded", "released", "never was"])
def test_a_worker_that_lost_its_task_can_do_nothing(
    table: TaskTable, clock: Clock, act: Callable[[TaskTable, str], object], event: str
) -> None:
    task = create(table)
    table.claim(task.id, "first", LEASE)
    task_id = task.id
    if event == "taken over":
        clock.advance(61)
        table.claim(task_id, "second", LEASE)
    elif event == "deleted":
        table.delete(task_id, RETENTION)
    elif event == "failed":
        clock.advance(61)
        assert table.fail_unowned(task_id, Failure.WORKER_LOST, "Lost.")
    elif event == "succeeded":
        table.succeed(task_id, "first", "https://media.example.com/1", OUTPUT)
    elif event == "released":
        table.release(task_id, "first", Failure.INTERNAL, "It broke.")
    else:
        task_id = "neverwas"
    before = table.get(task_id)
    with pytest.raises(LeaseLostError):
        act(table, task_id)
    assert table.get(task_id) == before


def test_after_three_lost_workers_a_task_fails(table: TaskTable, clock: Clock) -> None:
    task = create(table)
    for _ in range(3):
        assert table.claim(task.id, "worker", LEASE)
        assert table.claim(task.id, "other", LEASE) is None
        clock.advance(61)
    with pytest.raises(TaskFailedError):
        table.claim(task.id, "worker", LEASE)
    assert table.claim(task.id, "worker", LEASE) is None
    failed = read(table, task.id)
    assert (failed.status, failed.error_code, failed.attempt) == (3, Failure.WORKER_LOST, 3)
    assert failed.error_info


@pytest.mark.parametrize("end", ["succeeded", "failed", "deleted"])
def test_what_is_final_stays(table: TaskTable, clock: Clock, end: str) -> None:
    task = create(table)
    table.claim(task.id, "worker", LEASE)
    if end == "succeeded":
        table.succeed(task.id, "worker", "https://media.example.com/1", OUTPUT)
    elif end == "failed":
        table.fail(task.id, "worker", Failure.DAMAGED, "It is damaged.")
    else:
        table.delete(task.id, RETENTION)
    final = read(table, task.id)
    clock.advance(3600)
    assert table.claim(task.id, "worker", LEASE) is None
    assert table.fail_unowned(task.id, Failure.WORKER_LOST, "Lost.") is False
    table.mark_waiting(task.id)
    assert read(table, task.id) == final


def test_unknown_tasks_are_nothing(table: TaskTable, aws: Aws) -> None:
    assert table.get("neverwas") is None
    with pytest.raises(UnknownTaskError):
        table.claim("neverwas", "worker", LEASE)
    assert table.delete("neverwas", RETENTION) is None
    assert table.fail_unowned("neverwas", Failure.WORKER_LOST, "Lost.") is False
    table.mark_waiting("neverwas")
    assert aws.items() == []


def test_dead_letters_end_only_what_no_live_worker_has(table: TaskTable, clock: Clock) -> None:
    task = create(table)
    table.claim(task.id, "worker", LEASE)
    assert table.fail_unowned(task.id, Failure.WORKER_LOST, "Lost.") is False
    clock.advance(61)
    assert table.fail_unowned(task.id, Failure.WORKER_LOST, "Lost.") is True
    assert read(table, task.id).error_code == Failure.WORKER_LOST


# Creating and deleting


def test_a_task_is_stored_as_its_message_went(table: TaskTable, aws: Aws, clock: Clock) -> None:
    for sent, status, patience in ((True, Status.WAITING, 300), (False, Status.ACCEPTED, 60)):
        task = table.create(Order("s3://bucket/key", 5, "m3u8"), None, lambda task_id, sent=sent: sent)[0]
        assert task == read(table, task.id)
        assert task.status is status
        assert attention(aws, task.id) == clock.now + patience


def test_deletes_at_the_same_time_count_once(table: TaskTable) -> None:
    create(table)
    task = create(table)
    with ThreadPoolExecutor(8) as pool:
        deleted = list(pool.map(lambda _: table.delete(task.id, RETENTION), range(16)))
    assert {d.status for d in deleted if d} == {Status.DELETED}
    assert len(deleted) == 16
    assert table.page(1, 100)[1] == 1


def test_a_deleted_task_is_kept_for_a_time_and_looked_at_once_more(
    table: TaskTable, aws: Aws, clock: Clock
) -> None:
    task = create(table)
    claimed = table.claim(task.id, "worker", LEASE)
    assert claimed is not None
    clock.advance(10)
    deleted = table.delete(task.id, RETENTION)
    assert deleted == read(table, task.id)
    assert aws.item(task.id)["expires_at"] == {"N": str(int(clock.now) + 30 * 86400)}
    assert "month" not in aws.item(task.id)
    # The worker may store until its lease is over.
    assert attention(aws, task.id) == claimed.lease_expires_at + 60
    clock.advance(10)
    assert table.delete(task.id, RETENTION) == deleted


def test_a_task_that_succeeds_while_it_is_deleted_has_no_result(
    table: TaskTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = create(table)
    table.claim(task.id, "worker", LEASE)
    seen = table._read

    def read_and_succeed(task_id: str) -> TaskRecord | None:
        record = seen(task_id)
        monkeypatch.setattr(table, "_read", seen)
        table.succeed(task_id, "worker", "outputs/1/video.mp4", OUTPUT)
        return record

    monkeypatch.setattr(table, "_read", read_and_succeed)
    table.delete(task.id, RETENTION)
    deleted = read(table, task.id)
    assert (deleted.status, deleted.target, deleted.progress) == (4, "", 0.0)


def test_a_key_makes_one_task_also_in_many_threads(table: TaskTable, aws: Aws) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(
            pool.map(lambda _: table.create(Order("s3://bucket/key", 5, "m3u8"), "key", unsent), range(16))
        )
    assert len({task.id for task, _ in made}) == 1
    assert [created for _, created in made].count(True) == 1
    assert table.page(1, 100)[1] == 1


def test_a_key_is_good_for_the_same_parameters_only(table: TaskTable) -> None:
    create(table, "key")
    for other in (
        Order("s3://bucket/other", 5, "m3u8"),
        Order("s3://bucket/key", 1, "m3u8"),
        Order("s3://bucket/key", 5, "mp4"),
        Order("s3://bucket/key", 5, "m3u8", thumbnails=True),
        Order("s3://bucket/key", 5, "m3u8", codecs="av1"),
    ):
        with pytest.raises(ApiError) as refusal:
            table.create(other, "key", unsent)
        assert refusal.value.status == 400


def test_an_id_that_is_taken_is_not_used_again(table: TaskTable, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = iter(["aaaaaaaa", "aaaaaaaa", "bbbbbbbb"])
    monkeypatch.setattr(task_table, "_new_id", lambda: next(ids))
    assert create(table).id == "aaaaaaaa"
    assert create(table, "key").id == "bbbbbbbb"


# Answers that are lost


def test_writes_whose_answers_are_lost_do_what_they_should(
    table: TaskTable, clock: Clock, request: pytest.FixtureRequest
) -> None:
    task = create(table)
    request.getfixturevalue("repeated")
    table.mark_waiting(task.id)
    claimed = table.claim(task.id, "first", LEASE)
    assert claimed == read(table, task.id)
    assert (claimed.attempt, claimed.lease_owner) == (1, "first")
    table.heartbeat(task.id, "first", 0.5, LEASE)
    assert table.release(task.id, "first", Failure.INTERNAL, "It broke.") is True
    assert read(table, task.id).status is Status.WAITING
    second = table.claim(task.id, "second", LEASE)
    assert second is not None
    assert second.attempt == 2
    table.succeed(task.id, "second", "https://media.example.com/1", OUTPUT)
    assert read(table, task.id).status is Status.SUCCEEDED


@pytest.mark.parametrize("end", ["fail", "release", "claim", "fail_unowned"])
def test_an_end_whose_answer_is_lost_is_known_to_who_has_written_it(
    table: TaskTable, clock: Clock, request: pytest.FixtureRequest, end: str
) -> None:
    task = create(table)
    for number in (1, 2, 3):
        assert table.claim(task.id, f"worker {number}", LEASE)
        clock.advance(61)
    clock.advance(-1.5)
    request.getfixturevalue("repeated")
    if end == "fail":
        table.fail(task.id, "worker 3", Failure.INTERNAL, "It broke.")
    elif end == "release":
        assert table.release(task.id, "worker 3", Failure.INTERNAL, "It broke.") is False
    else:
        clock.advance(1.5)
        if end == "claim":
            with pytest.raises(TaskFailedError):
                table.claim(task.id, "another", LEASE)
        else:
            assert table.fail_unowned(task.id, Failure.INTERNAL, "It broke.") is True
        assert table.fail_unowned(task.id, Failure.INTERNAL, "It broke.") is False
    assert read(table, task.id).status is Status.FAILED


def test_a_claim_is_the_workers_own_only_while_its_lease_lasts(table: TaskTable, clock: Clock) -> None:
    task = create(table)
    first = table.claim(task.id, "worker", LEASE)
    assert table.claim(task.id, "worker", LEASE) == first
    assert table.claim(task.id, "another", LEASE) is None
    clock.advance(61)
    second = table.claim(task.id, "worker", LEASE)
    assert second is not None
    assert second.attempt == 2


# Contention and failures


def refuse(code: str, *reasons: str) -> ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": "no"},
        "CancellationReasons": [{"Code": reason} for reason in reasons],
    }
    return ClientError(response, "Operation")


@pytest.mark.parametrize(
    "error",
    [
        refuse("TransactionCanceledException", "None", "TransactionConflict", "None"),
        refuse("TransactionCanceledException", "None", "None", "ThrottlingError"),
        refuse("TransactionInProgressException"),
        refuse("TransactionConflictException"),
    ],
    ids=["conflict", "throttled", "in progress", "conflict with an update"],
)
def test_contention_is_waited_out(
    table: TaskTable, monkeypatch: pytest.MonkeyPatch, error: ClientError
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    client, failures = table._connection.client, [error] * 3
    call = client._make_api_call

    def contend(operation: str, arguments: Any) -> Any:
        if failures and "Write" in operation:
            raise failures.pop()
        return call(operation, arguments)

    monkeypatch.setattr(client, "_make_api_call", contend)
    assert table.get(create(table).id)
    assert len(waits) == 3
    assert all(0 <= wait <= 0.2 for wait in waits)


def test_contention_without_an_end_is_unavailability(
    table: TaskTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)

    def contend(*_: Any) -> Any:
        raise refuse("TransactionCanceledException", "TransactionConflict")

    monkeypatch.setattr(table._connection.client, "_make_api_call", contend)
    with pytest.raises(UnavailableError):
        create(table)
    assert sum(waits) < 10


@pytest.mark.parametrize("error", [ReadTimeoutError, ConnectionClosedError, EndpointConnectionError])
def test_a_write_that_is_not_answered_is_unavailability(
    table: TaskTable, monkeypatch: pytest.MonkeyPatch, error: type[BotoCoreError]
) -> None:
    task = create(table)
    table.claim(task.id, "worker", LEASE)
    client = table._connection.client
    call = client._make_api_call

    def fail(operation: str, arguments: Any) -> Any:
        if operation == "GetItem":
            return call(operation, arguments)
        raise error(endpoint_url="http://dynamodb")

    monkeypatch.setattr(client, "_make_api_call", fail)
    for write in (
        lambda: create(table),
        lambda: table.succeed(task.id, "worker", "https://media.example.com/1", OUTPUT),
        lambda: table.delete(task.id, RETENTION),
    ):
        with pytest.raises(UnavailableError):
            write()


def test_what_dynamodb_takes_for_an_error_of_ours_is_not_unavailability(
    table: TaskTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_all(*_: Any) -> Any:
        raise refuse("ValidationException")

    monkeypatch.setattr(table._connection.client, "_make_api_call", refuse_all)
    for call in (lambda: table.get("aaaaaaaa"), lambda: create(table), lambda: table.page(1, 1)):
        with pytest.raises(Exception, match=r"Fail|Unable") as error:
            call()
        assert not isinstance(error.value, UnavailableError)


def test_requests_keep_to_what_dynamodb_takes(table: TaskTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are aliased (573 words are reserved), no item is written twice in a transaction."""
    sent: list[tuple[str, dict[str, Any]]] = []
    client = table._connection.client
    call = client._make_api_call

    def watch(operation: str, arguments: dict[str, Any]) -> Any:
        sent.append((operation, arguments))
        return call(operation, arguments)

    monkeypatch.setattr(client, "_make_api_call", watch)
    task = create(table, "key")
    table.mark_waiting(task.id)
    table.claim(task.id, "worker", LEASE)
    table.heartbeat(task.id, "worker", float("inf"), LEASE)
    table.release(task.id, "worker", Failure.INTERNAL, "It broke.")
    table.page(1, 100)
    table.due(100)
    table.postpone(read(table, task.id), LEASE)
    table.delete(task.id, RETENTION)
    table.settle(read(table, task.id))

    for operation, arguments in sent:
        writes = [arguments]
        if operation == "TransactWriteItems":
            writes = [write for item in arguments["TransactItems"] for write in item.values()]
            keys = [str(write.get("Key") or write["Item"]["id"]) for write in writes]
            assert len(keys) == len(set(keys)) <= 100
        for write in writes:
            assert write.get("TableName", TABLE) == TABLE
            for name in ("UpdateExpression", "ConditionExpression", "KeyConditionExpression"):
                words = write.get(name, "").replace("(", " ").replace(")", " ").replace(",", " ").split()
                assert {word for word in words if word[0] not in "#:"} <= {
                    "SET",
                    "REMOVE",
                    "ADD",
                    "AND",
                    "OR",
                    "IN",
                    "BETWEEN",
                    "=",
                    "<",
                    "<=",
                    ">",
                    ">=",
                    "<>",
                    "+",
                } | {
                    "attribute_not_exists",
                    "attribute_exists",
                }
