"""Events and callbacks of the running service: the table's stream, the two functions and their queues."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from local.deploy import client
from local.stack import Stack
from tests.integration.conftest import Api, Wait
from tests.integration.inside import running, until
from tests.unit.test_callback_posts import readme_code
from transcoding import web
from transcoding.data import clients
from transcoding.data.callback_key import CallbackKey
from transcoding.data.queue import CallbackQueue
from transcoding.service.callbacks import Callbacks, NotTakenError


@pytest.fixture
def receiver() -> Iterator[tuple[int, list[tuple[str, bytes]]]]:
    """A port of all addresses of this machine, and what comes there: the signature and the body."""
    received = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.headers["x-transcoding-signature"], body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("0.0.0.0", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_port, received
        server.shutdown()


@pytest.fixture
def events(stack: Stack) -> tuple[Any, str]:
    """A queue that a rule of EventBridge sends the service's events to."""
    sqs, bus = (client(service, stack["aws_endpoint_url"]) for service in ("sqs", "events"))
    url = sqs.create_queue(QueueName="told")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    bus.put_rule(Name="told", EventPattern=json.dumps({"source": ["transcoding"]}))
    bus.put_targets(Rule="told", Targets=[{"Id": "told", "Arn": arn}])
    return sqs, url


def test_a_task_is_told_and_the_network_is_guarded(
    stack: Stack,
    api: Api,
    wait: Wait,
    events: tuple[Any, str],
    receiver: tuple[int, list[tuple[str, bytes]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (sqs, told), (port, received) = events, receiver
    queue = stack["callback_queue_url"]
    url = f"http://{socket.gethostname()}:{port}/done"
    order = {"origin_url": f"s3://{stack['source_bucket']}/none.mp4", "callback_url": url}
    refused = api("POST", "create-transcode", order | {"callback_url": f"http://127.0.0.1:{port}/"})
    assert refused[0] == 400
    status, answer = api("POST", "create-transcode", order)
    assert status == 200
    task = wait(answer["id"])
    assert task["status"] == 3

    seen: list[dict[str, Any]] = []

    def all_events() -> bool:
        for message in sqs.receive_message(QueueUrl=told, MaxNumberOfMessages=10).get("Messages", []):
            seen.append(json.loads(message["Body"]))
            sqs.delete_message(QueueUrl=told, ReceiptHandle=message["ReceiptHandle"])
        return {event["detail"]["sequence"] for event in seen} >= {1, 2, 3}

    until(all_events)
    changes = {event["detail"]["sequence"]: event["detail"]["status"] for event in seen}
    assert changes == {1: 0, 2: 1, 3: 3}
    assert {event["detail-type"] for event in seen} == {"Transcode State Change"}
    assert task | {"sequence": 3} in [event["detail"] for event in seen]

    # The function tries, is not let in, and hides the callbacks for later: one of each at least.
    hidden = {"QueueUrl": queue, "AttributeNames": ["ApproximateNumberOfMessagesNotVisible"]}
    until(lambda: sum(map(int, sqs.get_queue_attributes(**hidden)["Attributes"].values())) >= 3)
    assert received == []

    # From here on this test is the function, with the way open.
    lambda_ = client("lambda", stack["aws_endpoint_url"])
    (mapping,) = lambda_.list_event_source_mappings(FunctionName=stack["functions"]["CallbackFunction"])[
        "EventSourceMappings"
    ]
    lambda_.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    ssm = client("ssm", stack["aws_endpoint_url"])
    monkeypatch.setattr(clients, "sqs", lambda: sqs)
    monkeypatch.setattr(clients, "ssm", lambda: ssm)
    name = f"/transcoding/{stack['stack_name']}/callback-key"
    callbacks = Callbacks(
        CallbackQueue(queue),
        "",
        CallbackKey(name),
        connect=lambda url, **how: web.connect(url, **how, is_allowed=lambda _: True),
    )

    def all_callbacks() -> bool:
        asked = {"QueueUrl": queue, "AttributeNames": ["All"], "VisibilityTimeout": 60}
        for message in sqs.receive_message(**asked).get("Messages", []):
            receipt, attributes = message["ReceiptHandle"], message["Attributes"]
            sent_at = int(attributes["SentTimestamp"]) / 1000
            try:
                callbacks.send(message["Body"], receipt, int(attributes["ApproximateReceiveCount"]), sent_at)
            except NotTakenError:
                continue
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=receipt)
        return {json.loads(body)["sequence"] for _, body in received} >= {1, 2, 3}

    try:
        until(all_callbacks, 120)
    finally:
        lambda_.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)
    is_genuine = readme_code()["is_genuine"]
    assert all(is_genuine(stack["callback_key"], signature, body) for signature, body in received)
    bodies = [json.loads(body) for _, body in received]
    assert {body["sequence"]: body["transcoding"]["status"] for body in bodies} == changes
    assert api("GET", "get-transcode", {"id": task["id"]})[1]["transcoding"] == task


def test_a_notifier_that_is_killed_tells_all_the_same(
    stack: Stack, stack_home: Path, api: Api, wait: Wait, events: tuple[Any, str], upload: Any, make_clip: Any
) -> None:
    sqs, told = events
    clip = upload(make_clip(seconds=1))
    over, kills = threading.Event(), []

    def kill() -> None:
        while not over.wait(0.1):
            for pid in running(stack_home, "NotifyFunction"):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    kills.append(pid)

    killer = threading.Thread(target=kill)
    killer.start()
    none = f"s3://{stack['source_bucket']}/none.mp4"
    ids = [api("POST", "create-transcode", {"origin_url": url})[1]["id"] for url in [clip, *4 * [none]]]
    tasks = {task_id: wait(task_id) for task_id in ids}
    assert [task["status"] for task in tasks.values()] == [2, 3, 3, 3, 3]
    until(lambda: len(kills) >= 3)
    over.set()
    killer.join()

    seen: dict[str, dict[int, Any]] = {}

    def all_events() -> bool:
        for message in sqs.receive_message(QueueUrl=told, MaxNumberOfMessages=10).get("Messages", []):
            detail = json.loads(message["Body"])["detail"]
            seen.setdefault(detail["id"], {})[detail["sequence"]] = detail
            sqs.delete_message(QueueUrl=told, ReceiptHandle=message["ReceiptHandle"])
        return all(seen.get(task_id, {}).keys() >= {1, 2, 3} for task_id in ids)

    until(all_events)
    for task_id, task in tasks.items():
        last = seen[task_id][max(seen[task_id])]
        assert last == task | {"sequence": last["sequence"]}
    assert tasks[ids[0]]["output"]["renditions"]
