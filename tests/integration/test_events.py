"""Every sample event, given to its function as the emulator runs it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from local import sam_env
from local.deploy import client
from local.package import ROOT
from local.stack import Stack
from tests.conftest import some

EVENTS = ROOT / "events"
API_EVENTS = {
    "create-transcode": "CreateTranscodeFunction",
    "get-transcodes": "GetTranscodesFunction",
    "get-transcode": "GetTranscodeFunction",
    "delete-transcode": "DeleteTranscodeFunction",
    "delete-transcodes": "DeleteTranscodesFunction",
    "create-upload": "CreateUploadFunction",
    "complete-upload": "CompleteUploadFunction",
}
SAMPLE_ID = json.loads(sam_env.SAMPLE_TASK.read_text())["id"]["S"]


def _invoke(stack: Stack, function: str, event: str) -> Any:
    sam_env.store_sample(stack, renew=True)
    answer = client("lambda", stack["aws_endpoint_url"]).invoke(
        FunctionName=stack["functions"][function], Payload=(EVENTS / f"{event}.json").read_bytes()
    )
    payload = json.load(answer["Payload"])
    assert "FunctionError" not in answer, payload
    return payload


#: The sample task is done by the worker that takes it up.
PARAMETERS = {"FanOutSeconds": "86400", "InboxFormat": "mp4"}


def _status(stack: Stack) -> int:
    found = client("dynamodb", stack["aws_endpoint_url"]).get_item(
        TableName=stack["table"], Key={"id": {"S": SAMPLE_ID}}
    )
    return int(found["Item"]["status"]["N"])


def test_every_function_has_its_event(stack: Stack) -> None:
    others = {"worker": "WorkerFunction", "dead-letter": "DeadLetterFunction", "sweep": "SweepFunction"}
    others |= {"notify": "NotifyFunction", "callback": "CallbackFunction", "inbox": "InboxFunction"}
    others |= {"console": "ConsoleFunction"}
    assert set((API_EVENTS | others).values()) == set(stack["functions"])
    assert {path.stem for path in EVENTS.glob("*.json")} == {*API_EVENTS, *others, "task"}


@pytest.mark.parametrize("event", some(API_EVENTS, "create-transcode", "get-transcodes", "delete-transcodes"))
def test_calls_of_the_api(stack: Stack, event: str) -> None:
    answer = _invoke(stack, API_EVENTS[event], event)
    assert answer["statusCode"] == 200, answer
    assert json.loads(answer["body"])["errcode"] == 1000


def test_worker(stack: Stack) -> None:
    assert _invoke(stack, "WorkerFunction", "worker") == {"batchItemFailures": []}
    assert _status(stack) == 2


def test_dead_letter(stack: Stack) -> None:
    assert _invoke(stack, "DeadLetterFunction", "dead-letter") == {"batchItemFailures": []}
    assert _status(stack) == 3


def test_sweep(stack: Stack) -> None:
    assert _invoke(stack, "SweepFunction", "sweep") is None
    assert _status(stack) == 0


def test_notify(stack: Stack) -> None:
    assert _invoke(stack, "NotifyFunction", "notify") == {"batchItemFailures": []}


def test_callback(stack: Stack) -> None:
    # It is days old, and its receiver takes nothing: it is given up.
    assert _invoke(stack, "CallbackFunction", "callback") == {"batchItemFailures": []}


def test_inbox(stack: Stack) -> None:
    assert _invoke(stack, "InboxFunction", "inbox") == {"batchItemFailures": []}
