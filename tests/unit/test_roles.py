"""Each function's role grants the calls that the function makes, and no others.

The calls are recorded while each handler goes through all that it does (moto, real FFmpeg). The grants are
those of the roles after the SAM transform.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import botocore.session
import pytest
import requests
from botocore import xform_name
from moto.s3 import models as moto_s3
from moto.server import ThreadedMotoServer

from local.package import FFMPEG_DIR, ROOT
from tests import cloudformation
from tests.conftest import (
    BUCKET,
    CALLBACK_DEAD_LETTER_QUEUE_URL,
    CALLBACK_KEY_NAME,
    CALLBACK_QUEUE_URL,
    QUEUE_URL,
    TABLE,
    UPLOADS,
    Api,
    Aws,
    Call,
    Clock,
    lambda_context,
    recorded_calls,
    unsent,
)
from transcoding.data import streams
from transcoding.data.object_store import ObjectStore, output_prefix, work_prefix
from transcoding.data.part_table import PartTable
from transcoding.data.queue import JobQueue
from transcoding.data.task_table import TaskTable
from transcoding.errors import Failure
from transcoding.media.ffmpeg.tools import Tools
from transcoding.model import Order, Part, Status, Task
from transcoding.pipeline.fetch import HttpSource
from transcoding.pipeline.transcoder import Transcoder
from transcoding.service import jobs
from transcoding.service.jobs import Job
from transcoding.web import RefusedUrlError

LEASE = timedelta(seconds=60)
SOURCES = "sources"
#: The calls that the code names: of these services, as botocore's clients spell them.
SERVICES = ("events", "s3", "sqs", "ssm")
#: The ARNs of buckets, as the roles name them.
BUCKETS = {
    BUCKET: "OutputBucket.Arn",
    SOURCES: "SourceBucket.Arn",
    UPLOADS: f"arn:aws:s3:::{UPLOADS}",
}
#: What a function must be granted for a call, where that is not the name of the operation.
ACTIONS = {
    ("s3", "CompleteMultipartUpload"): "s3:PutObject",
    ("s3", "CreateMultipartUpload"): "s3:PutObject",
    ("s3", "DeleteObjects"): "s3:DeleteObject",
    ("s3", "HeadObject"): "s3:GetObject",
    ("s3", "ListObjectsV2"): "s3:ListBucket",
    ("s3", "ListParts"): "s3:ListMultipartUploadParts",
    ("s3", "UploadPart"): "s3:PutObject",
    ("sqs", "SendMessageBatch"): "sqs:SendMessage",
}
QUEUES = {
    QUEUE_URL: "JobQueue",
    CALLBACK_QUEUE_URL: "CallbackQueue",
    CALLBACK_DEAD_LETTER_QUEUE_URL: "CallbackDeadLetterQueue",
}
DEFAULT_BUS = "arn:aws:events:eu-west-1:123456789012:event-bus/default"
CALLBACK_KEY = f"arn:aws:ssm:eu-west-1:123456789012:parameter{CALLBACK_KEY_NAME}"


@dataclass(frozen=True, order=True)
class Need:
    """An action on a resource, as IAM sees a call; `prefix` is what a listing is limited to."""

    action: str
    resource: str
    prefix: str = ""


def needs(call: Call) -> Iterator[Need]:
    """What a call needs to be granted; resources as `cloudformation.create` names them."""
    given, action = (
        call.parameters,
        ACTIONS.get((call.service, call.operation), f"{call.service}:{call.operation}"),
    )
    match call.service:
        case "dynamodb":
            yield from _needs_of_table(call)
        case "sqs":
            yield Need(action, f"{QUEUES[given['QueueUrl']]}.Arn")
        case "events":
            # Without a name it is the default bus.
            assert not any("EventBusName" in entry for entry in given["Entries"])
            yield Need(action, DEFAULT_BUS)
        case "ssm":
            assert given["Name"] == CALLBACK_KEY_NAME
            yield Need(action, CALLBACK_KEY)
        case "s3":
            bucket = BUCKETS[given["Bucket"]]
            if call.operation == "DeleteObjects":
                for item in given["Delete"]["Objects"]:
                    yield Need(action, f"{bucket}/{item['Key']}")
            elif call.operation == "ListObjectsV2":
                yield Need(action, bucket, given["Prefix"])
            else:
                yield Need(action, f"{bucket}/{given['Key']}")
                if call.operation == "HeadObject" and given["Bucket"] != BUCKET:
                    # Else what does not exist is answered 403, and looks as if it were forbidden.
                    yield Need("s3:ListBucket", bucket)
        case _:
            raise NotImplementedError(call)


def _needs_of_table(call: Call) -> Iterator[Need]:
    given = call.parameters
    match call.operation:
        case "TransactWriteItems":
            for item in given["TransactItems"]:
                for kind in item:
                    yield Need(f"dynamodb:{kind}Item", "Table.Arn")
        case "BatchGetItem" | "BatchWriteItem":
            assert given["RequestItems"].keys() == {TABLE}
            yield Need(f"dynamodb:{call.operation}", "Table.Arn")
        case _:
            assert given["TableName"] == TABLE
            index = f"/index/{given['IndexName']}" if "IndexName" in given else ""
            yield Need(f"dynamodb:{call.operation}", f"Table.Arn{index}")


@dataclass(frozen=True, order=True)
class Grant:
    """An action on the resources of a pattern; `prefix` is the pattern of what may be listed."""

    action: str
    resource: str
    prefix: str = "*"

    def covers(self, need: Need) -> bool:
        return (
            self.action == need.action
            and fnmatchcase(need.resource, self.resource)
            and fnmatchcase(need.prefix, self.prefix)
        )


def grants(stack: cloudformation.Stack, function: str) -> set[Grant]:
    """What a function's role grants."""
    role = stack.properties(stack.properties(function)["Role"].removesuffix(".Arn"))
    assert "ManagedPolicyArns" not in role
    granted = set()
    for policy in role["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            assert statement["Effect"] == "Allow"
            prefixes = statement.get("Condition", {}).get("StringLike", {}).get("s3:prefix", "*")
            for action in _as_list(statement["Action"]):
                for resource in _as_list(statement["Resource"]):
                    granted |= {Grant(action, resource, prefix) for prefix in _as_list(prefixes)}
    return granted


def needs_of_lambda(stack: cloudformation.Stack, function: str) -> set[Need]:
    """What Lambda itself does in a function's name."""
    properties = stack.properties(function)
    group = properties["LoggingConfig"]["LogGroup"]
    # A group that is deleted must not come back, so nobody may create it.
    found = {Need(f"logs:{operation}", f"{group}.Arn") for operation in ("CreateLogStream", "PutLogEvents")}
    if properties["TracingConfig"]["Mode"] == "Active":
        found |= {Need(f"xray:{operation}", "*") for operation in ("PutTelemetryRecords", "PutTraceSegments")}
    for source in stack.of_type("AWS::Lambda::EventSourceMapping").values():
        if source["FunctionName"] != function:
            continue
        if source["EventSourceArn"] == "Table.StreamArn":
            # https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-eventsourcemapping.html
            for operation in ("DescribeStream", "GetRecords", "GetShardIterator"):
                found.add(Need(f"dynamodb:{operation}", "Table.StreamArn"))
            found.add(Need("dynamodb:ListStreams", "*"))
            found.add(Need("sqs:SendMessage", source["DestinationConfig"]["OnFailure"]["Destination"]))
        else:
            for operation in ("DeleteMessage", "GetQueueAttributes", "ReceiveMessage"):
                found.add(Need(f"sqs:{operation}", source["EventSourceArn"]))
    return found


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


STACK = cloudformation.create({"InboxFormat": "mp4"})
FUNCTIONS = sorted(STACK.of_type("AWS::Lambda::Function"))


# What the functions do.


class Scene:
    """The service in moto, and what each function calls there."""

    def __init__(
        self, aws: Aws, api: Api, table: TaskTable, parts: PartTable, clock: Clock, folder: Path
    ) -> None:
        self.aws = aws
        self.api = api
        self.table = table
        self.parts = parts
        self.clock = clock
        self.folder = folder
        self.calls: dict[str, list[Call]] = {}

    @contextmanager
    def of(self, function: str) -> Iterator[None]:
        """Take the calls within the block for those of a function."""
        with recorded_calls() as calls:
            yield
        self.calls.setdefault(function, []).extend(calls)

    def task(self, origin_url: str = f"s3://{SOURCES}/clip.mp4", format: str = "m3u8") -> Task:
        return self.table.create(Order(origin_url, 1, format), None, unsent)[0]

    def stored(self, task: Task, attempt: int = 1) -> None:
        """Store an object in each of a task's folders."""
        for folder in (output_prefix(task.id, attempt), work_prefix(task.id, attempt)):
            self.aws.put_object(f"{folder}object")

    def cut(self, task: Task) -> Task:
        """Take a task up and cut it into two parts, of which the first is on the queue."""
        claimed = self.table.claim(task.id, "planner", LEASE)
        assert claimed
        parts = [Part(task.id, 1, number, "picture", 10 * number, 10 * number + 10) for number in range(2)]
        self.parts.fan_out(claimed, parts, 1)
        return claimed


def call_api(scene: Scene) -> None:
    key = {"Idempotency-Key": "key"}
    body = json.dumps({"origin_url": f"s3://{SOURCES}/clip.mp4"})
    with scene.of("CreateTranscodeFunction"):
        assert scene.api.post("create-transcode", body, headers=key).status == 200
        assert scene.api.post("create-transcode", body, headers=key).status == 200
        ids = [scene.api.create() for _ in range(4)]
    with scene.of("GetTranscodesFunction"):
        assert len(scene.api.get("get-transcodes").json["results"]) == 5
        assert len(scene.api.get("get-transcodes", page="2", limit="2").json["results"]) == 2
    with scene.of("GetTranscodeFunction"):
        assert scene.api.get("get-transcode", id=ids[0]).status == 200
        assert scene.api.get("get-transcode", id="neverwas").status == 404
    for id_ in ids:
        task = scene.table.get(id_)
        assert task
        scene.stored(task)
    with scene.of("ConsoleFunction"):
        console = importlib.import_module("console")
        assert (
            console.handler({"path": "/console", "requestContext": {}}, lambda_context())["statusCode"] == 200
        )
    with scene.of("DeleteTranscodeFunction"):
        assert scene.api.post("delete-transcode", id=ids[0]).status == 200
    with scene.of("DeleteTranscodesFunction"):
        assert scene.api.post("delete-transcodes", ids=",".join(ids)).status == 200
    assert scene.aws.keys() == []
    scene.aws.take_messages()


def call_uploads(scene: Scene) -> None:
    with scene.of("CreateUploadFunction"):
        begun = scene.api.post("create-upload", name="clip.mp4", size=4).json
        again = scene.api.post("create-upload", upload_id=begun["upload_id"]).json
        assert again["etags"] == [""]
    stored = requests.put(again["urls"][0], b"clip", timeout=10)
    complete = {"upload_id": begun["upload_id"], "etags": [stored.headers["ETag"]]}
    with scene.of("CompleteUploadFunction"):
        for _ in range(2):
            assert scene.api.post("complete-upload", **complete).status == 200


def sweep(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("sweep")
    for owner in (module.sweep, module.sweep._table, module.sweep._parts):
        monkeypatch.setattr(owner, "_clock", scene.clock)
    scene.task()
    lost, failed, incomplete, running = (scene.cut(scene.task()) for _ in range(4))
    scene.parts.claim(lost, 0, "worker", timedelta(seconds=1))
    scene.parts.claim(failed, 0, "worker", timedelta(seconds=1))
    scene.stored(failed)
    scene.parts.fail_incomplete(failed, Failure.DAMAGED, "It is damaged.")
    scene.aws.dynamodb.delete_item(TableName=TABLE, Key={"id": {"S": f"part#{incomplete.id}#1#0"}})
    alive = scene.table.claim(scene.task().id, "worker", timedelta(hours=2))
    scene.clock.advance(3600)
    changed = scene.task()
    scene.table.mark_waiting(changed.id)
    with scene.of("SweepFunction"):
        module.handler({"source": "aws.events"}, lambda_context(60))
        # What the sweep writes where a task has changed since it was read.
        scene.table.postpone(changed, LEASE)
    statuses = [_status(scene, task) for task in (lost, failed, incomplete, running, alive)]
    assert statuses == [Status.RUNNING, Status.FAILED, Status.FAILED, Status.RUNNING, Status.RUNNING]
    assert len(scene.aws.take_messages()) >= 3
    assert scene.aws.keys() == []


def bury(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("dead_letter")
    for owner in (module.table, module.parts):
        monkeypatch.setattr(owner, "_clock", scene.clock)
    whole, part = scene.task(), scene.cut(scene.task())
    for task in (whole, part):
        scene.stored(task)
    messages = [
        json.dumps({"task_id": whole.id, "step": "transcode"}),
        json.dumps({"task_id": part.id, "step": "part", "attempt": 1, "part": 0}),
    ]
    with scene.of("DeadLetterFunction"):
        for _ in range(2):
            answer = module.handler(_sqs_event(*messages), lambda_context())
            assert answer == {"batchItemFailures": []}
    assert [_status(scene, task) for task in (whole, part)] == [Status.FAILED, Status.FAILED]
    assert scene.aws.keys() == []


def watch(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("inbox")
    monkeypatch.setattr(module.table, "_clock", scene.clock)
    (record,) = json.loads((ROOT / "events" / "inbox.json").read_text())["Records"]
    with scene.of("InboxFunction"):
        for _ in range(2):
            assert module.handler(_sqs_event(record["body"]), lambda_context()) == {"batchItemFailures": []}
    assert len(scene.aws.take_messages()) == 1


def tell(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    notify, callback = importlib.import_module("notify"), importlib.import_module("callback")
    scene.table.create(
        Order("s3://none/clip.mp4", 1, "m3u8", callback_url="http://inner.test/"), None, unsent
    )
    event = {"Records": scene.aws.stream()}
    with scene.of("NotifyFunction"):
        assert notify.handler(event, lambda_context()) == {"batchItemFailures": []}
    monkeypatch.setattr(callback.callbacks, "_connect", _refuse)
    queue = {"QueueUrl": CALLBACK_QUEUE_URL}
    (message,) = scene.aws.sqs.receive_message(**queue)["Messages"]
    event = _sqs_event(message["Body"], receipt=message["ReceiptHandle"])
    attributes = event["Records"][0]["attributes"]
    for sent_at, failures in ((time.time(), 1), (0, 0)):
        attributes |= {"ApproximateReceiveCount": "1", "SentTimestamp": str(int(sent_at * 1000))}
        with scene.of("CallbackFunction"):
            answer = callback.handler(event, lambda_context())
        assert len(answer["batchItemFailures"]) == failures


def _refuse(*_: Any, **__: Any) -> Any:
    raise RefusedUrlError


def work(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(monkeypatch) as server:
        worker = _worker(scene, monkeypatch)
        _upload_sources(scene)
        url = f"{server}/{SOURCES}/clip.mp4?{_signature(scene)}"

        def run(task: Task) -> Status:
            """Have the worker take a task's message and all that come of it, as Lambda does."""
            sqs = scene.aws.sqs
            JobQueue(QUEUE_URL).send(task.id)
            while messages := sqs.receive_message(QueueUrl=QUEUE_URL).get("Messages"):
                (message,) = messages
                receipt = message["ReceiptHandle"]
                with scene.of("WorkerFunction"):
                    answer = worker.handler(_sqs_event(message["Body"], receipt=receipt), lambda_context(900))
                if not answer["batchItemFailures"]:
                    sqs.delete_message(QueueUrl=QUEUE_URL, ReceiptHandle=receipt)
            return _status(scene, task)

        def run_again(task: Task) -> Status:
            """Run a task that was given back; moto fails now and then while several threads use it."""
            return Status.SUCCEEDED if run(task) is Status.SUCCEEDED else run(task)

        assert run(scene.task()) is Status.SUCCEEDED
        scene.aws.s3.copy_object(Bucket=UPLOADS, Key="clip.mp4", CopySource=f"{SOURCES}/clip.mp4")
        assert run(scene.task(f"s3://{UPLOADS}/clip.mp4")) is Status.SUCCEEDED
        assert run(scene.task(f"s3://{SOURCES}/none.mp4")) is Status.FAILED
        # A first attempt that failed over the service has left something behind.
        again = scene.task(url, "mp4")
        scene.stored(again)
        with monkeypatch.context() as patch:
            patch.setattr(Transcoder, "prepare", _break)
            assert run(again) is Status.WAITING
        assert run_again(again) is Status.SUCCEEDED
        _take_large_copies(monkeypatch)
        assert run(scene.task(url, "mkv")) is Status.SUCCEEDED
        monkeypatch.setattr(worker, "job", _job(scene, part_seconds=0.01, fan_out_seconds=0))
        for target in ("m3u8", "mp4"):
            assert run(scene.task(f"s3://{SOURCES}/film.mkv", target)) is Status.SUCCEEDED
        tasks = [scene.task() for _ in range(3)]
        with scene.of("WorkerFunction"):
            _break_off()
            _decide(scene, *tasks)


def _worker(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Any:
    variables = {
        "FAN_OUT_SECONDS": "600",
        "FFMPEG_DIR": str(FFMPEG_DIR),
        "MAX_SOURCE_BYTES": "1000000",
        "PART_SECONDS": "600",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delitem(sys.modules, "worker", raising=False)
    worker = importlib.import_module("worker")
    monkeypatch.setattr(worker, "job", _job(scene))
    for interval in ("TASK_INTERVAL", "PART_INTERVAL"):
        monkeypatch.setattr(jobs, interval, 0.05)
    return worker


def _job(scene: Scene, part_seconds: float = 600, fan_out_seconds: float = 600) -> Job:
    """What the worker's handler calls: on the clock, and with sources on this machine allowed."""
    transcoder = Transcoder(
        ObjectStore(BUCKET),
        Tools.within(FFMPEG_DIR),
        max_source_bytes=1_000_000,
        part_seconds=part_seconds,
        fan_out_seconds=fan_out_seconds,
        workers=2,
        fetch=partial(HttpSource, is_allowed=lambda address: True),
    )
    return Job(
        scene.table,
        scene.parts,
        JobQueue(QUEUE_URL),
        ObjectStore(BUCKET),
        transcoder,
        lease=LEASE,
        window=2,
    )


@contextmanager
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve moto's objects for FFmpeg, and have what is signed lead there."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    sign = ObjectStore.presigned_url

    def presigned_url(self: ObjectStore, bucket: str, key: str) -> str:
        return f"{url}/{bucket}/{key}?{urlsplit(sign(self, bucket, key)).query}"

    monkeypatch.setattr(ObjectStore, "presigned_url", presigned_url)
    try:
        yield url
    finally:
        server.stop()


def _upload_sources(scene: Scene) -> None:
    """Put a clip that is copied, and a film that is encoded, into the bucket of the sources."""
    scene.aws.s3.create_bucket(
        Bucket=SOURCES, CreateBucketConfiguration={"LocationConstraint": scene.aws.s3.meta.region_name}
    )
    for name, codec in {"clip.mp4": "libx264 -pix_fmt yuv420p", "film.mkv": "mpeg4"}.items():
        path = scene.folder / name
        source = "-f lavfi -i testsrc2=s=160x90:r=25:d=12 -f lavfi -i sine=d=12"
        command = f"{FFMPEG_DIR}/ffmpeg -v error {source} -c:v {codec} -g 50 -c:a aac {path}"
        subprocess.run(command.split(), check=True)
        scene.aws.s3.upload_file(str(path), SOURCES, name)


def _signature(scene: Scene) -> str:
    key = {"Bucket": SOURCES, "Key": "clip.mp4"}
    return urlsplit(scene.aws.s3.generate_presigned_url("get_object", Params=key)).query


def _take_large_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, what is stored is large: it takes more than one part."""
    monkeypatch.setattr(moto_s3, "S3_UPLOAD_PART_MIN_SIZE", 1)
    monkeypatch.setattr(streams, "_PART_BYTES", 4096)


def _break_off() -> None:
    """Begin to store objects in parts, and give them up."""
    store = ObjectStore(BUCKET)
    for folder in ("outputs", "work"):
        with suppress(ConnectionError), store.writing(f"{folder}/17lok52y/1/large", "video/mp4", 0) as writer:
            for _ in range(8):
                writer.write(bytes(4096))
            raise ConnectionError


def _decide(scene: Scene, broken: Task, split: Task, whole: Task) -> None:
    """Have workers do all else to the table that they may have to."""

    def take(task: Task, number: int) -> Part:
        part = scene.parts.claim(task, number, "worker", LEASE)
        assert part
        return part

    why = (Failure.INTERNAL, "It broke.")
    broken, split, whole = map(scene.cut, (broken, split, whole))
    scene.parts.release(take(broken, 0), *why)
    scene.parts.fail(take(broken, 0), *why)
    scene.parts.split(take(split, 0), 5)
    for number in range(2):
        scene.parts.complete(take(whole, number))
    assert scene.table.claim(whole.id, "worker", LEASE)
    scene.table.release(whole.id, "worker", *why)


def _break(*_: Any) -> None:
    raise ConnectionError


def _sqs_event(*bodies: str, receipt: str = "receipt") -> dict[str, Any]:
    return {
        "Records": [
            {
                "messageId": f"message-{number}",
                "receiptHandle": receipt,
                "eventSource": "aws:sqs",
                "attributes": {"SentTimestamp": "1795360577000"},
                "body": body,
            }
            for number, body in enumerate(bodies)
        ]
    }


def _status(scene: Scene, task: Task | None) -> Status:
    found = scene.table.get(task.id) if task else None
    assert found
    return found.status


# The comparison.


@pytest.fixture(scope="module")
def recorded() -> dict[str, list[Call]]:
    """What each function called, filled by the first test that needs it."""
    return {}


@pytest.fixture
def calls(
    recorded: dict[str, list[Call]],
    aws: Aws,
    api: Api,
    table: TaskTable,
    parts: PartTable,
    serialised: None,
    clock: Clock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, list[Call]]:
    if not recorded:
        scene = Scene(aws, api, table, parts, clock, tmp_path)
        call_api(scene)
        call_uploads(scene)
        sweep(scene, monkeypatch)
        bury(scene, monkeypatch)
        watch(scene, monkeypatch)
        tell(scene, monkeypatch)
        work(scene, monkeypatch)
        recorded.update(scene.calls)
    return recorded


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_role_grants_what_its_function_calls_and_nothing_else(
    function: str, calls: dict[str, list[Call]]
) -> None:
    needed = {need for call in calls[function] for need in needs(call)} | needs_of_lambda(STACK, function)
    granted = grants(STACK, function)
    missing = {need for need in needed if not any(grant.covers(need) for grant in granted)}
    unused = {grant for grant in granted if not any(grant.covers(need) for need in needed)}
    assert (missing, unused) == (set(), set())


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_role_names_one_table_queue_log_or_folder(function: str) -> None:
    for grant in grants(STACK, function):
        if grant.action.startswith("xray:") or grant.action == "dynamodb:ListStreams":
            # These know no resources.
            assert grant.resource == "*"
        else:
            folder = r"SourceBucket\.Arn/\*|OutputBucket\.Arn/(outputs|work)/\*"
            folder += rf"|{re.escape(BUCKETS[UPLOADS])}(/\*)?"
            named = rf"{folder}|\w+\.Arn|Table\.Arn/index/\w+|Table\.StreamArn"
            assert re.fullmatch(named, grant.resource) or grant.resource in {DEFAULT_BUS, CALLBACK_KEY}
            assert grant.prefix != "*" or grant.resource != "OutputBucket.Arn"


def test_every_call_that_the_code_names_was_made(calls: dict[str, list[Call]]) -> None:
    session = botocore.session.get_session()
    made = {xform_name(call.operation) for of_function in calls.values() for call in of_function}
    operations = {xform_name(o) for s in SERVICES for o in session.get_service_model(s).operation_names}
    named = set()
    for path in (ROOT / "functions").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(attr=name)) if name in operations:
                    named.add(name)
                case ast.Call(
                    func=ast.Attribute(attr="get_paginator" | "generate_presigned_url"),
                    args=[ast.Constant(value=name), *_],
                ):
                    named.add(name)
    assert named
    assert named <= made


def test_sources_of_the_owner_are_granted_by_parameters_alone() -> None:
    films, key = "arn:aws:s3:::films", "arn:aws:kms:eu-west-1:123456789012:key/1234abcd"
    parameters = {"ExtraSourceArns": f"{films},{films}/*", "SourceKeyArns": key}
    stack = cloudformation.create(parameters | {"InboxFormat": "mp4"})
    more = grants(stack, "WorkerFunction") - grants(STACK, "WorkerFunction")
    assert more == {Grant("kms:Decrypt", key)} | {
        Grant(f"s3:{action}", resource)
        for action in ("GetObject", "ListBucket")
        for resource in (films, f"{films}/*")
    }
    for function in FUNCTIONS:
        if function != "WorkerFunction":
            assert grants(stack, function) == grants(STACK, function)
