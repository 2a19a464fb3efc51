"""The AWS of the unit tests (moto), and events as API Gateway sends them."""

from __future__ import annotations

import base64
import datetime
import importlib
import json
import os
import ssl
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import botocore.handlers
import hypothesis
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

# Imported before any function is: clients that are older than moto would not be mocked.
from moto import mock_aws

from transcoding.model import Output, OutputRendition

# A busy machine takes longer.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


def some(cases: Iterable[Any], *quick: Any) -> list[Any]:
    """Return parameters of which all but the quick ones are left to `make test-all`."""
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)), marks=() if case in quick else pytest.mark.slow
        )
        for case in cases
    ]


REGION = "eu-west-1"
TABLE = "tasks"
BUCKET = "outputs"
UPLOADS = "uploads-5e63a3c1"
QUEUE_URL = f"https://sqs.{REGION}.amazonaws.com/123456789012/jobs"
CALLBACK_QUEUE_URL = f"https://sqs.{REGION}.amazonaws.com/123456789012/callbacks"
CALLBACK_DEAD_LETTER_QUEUE_URL = f"https://sqs.{REGION}.amazonaws.com/123456789012/callbacks-dead"
CALLBACK_KEY_NAME = "/transcoding/transcoding/callback-key"

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_REGION": REGION,
    "POWERTOOLS_SERVICE_NAME": "transcoding",
    "POWERTOOLS_METRICS_NAMESPACE": "Transcoding",
    "TABLE_NAME": TABLE,
    "QUEUE_URL": QUEUE_URL,
    "MAX_SOURCE_BYTES": "1000000000",
    "OUTPUT_BUCKET": BUCKET,
    "UPLOAD_BUCKET": UPLOADS,
    "UPLOAD_URL": f"https://*.s3.{REGION}.amazonaws.com",
    "OUTPUT_BASE_URL": "https://media.example.com",
    "CALLBACK_QUEUE_URL": CALLBACK_QUEUE_URL,
    "CALLBACK_DEAD_LETTER_QUEUE_URL": CALLBACK_DEAD_LETTER_QUEUE_URL,
    "CALLBACK_KEY_NAME": CALLBACK_KEY_NAME,
    "INBOX_FORMAT": "mp4",
    "INBOX_QUALITY": "3",
}


@dataclass(frozen=True)
class Call:
    """A call of an AWS service, or the signing of one for somebody else to make."""

    service: str
    operation: str
    parameters: dict[str, Any]


_recordings: list[list[Call]] = []


def _record(params: dict[str, Any], model: Any, **_: Any) -> None:
    for recording in _recordings:
        recording.append(Call(model.service_model.service_name, model.name, dict(params)))


# Of every client of this process, as botocore gives its handlers to each session that is made from now on.
botocore.handlers.BUILTIN_HANDLERS.append(("before-parameter-build", _record))


@contextmanager
def recorded_calls() -> Iterator[list[Call]]:
    """Collect the calls that any code of this process makes within the block."""
    recording: list[Call] = []
    _recordings.append(recording)
    try:
        yield recording
    finally:
        _recordings.remove(recording)


class _TemplateLoader(yaml.SafeLoader):
    """Reads a CloudFormation template, with nothing for its functions (!Ref, !Sub, ...)."""


_TemplateLoader.add_multi_constructor("!", lambda *_: None)


def _table_schema() -> dict[str, Any]:
    """Read the table of template.yaml, as CreateTable takes it."""
    template = yaml.load((Path(__file__).parent.parent / "template.yaml").read_text(), _TemplateLoader)
    (table,) = (r for r in template["Resources"].values() if r["Type"] == "AWS::DynamoDB::Table")
    names = ("BillingMode", "KeySchema", "AttributeDefinitions", "GlobalSecondaryIndexes")
    stream = {"StreamSpecification": {"StreamEnabled": True, **table["Properties"]["StreamSpecification"]}}
    return {"TableName": TABLE} | {name: table["Properties"][name] for name in names} | stream


TABLE_SCHEMA = _table_schema()


@pytest.fixture(scope="module")
def environment() -> Iterator[None]:
    """Give the functions an environment, and keep the machine's own AWS settings away from them.

    Only while the tests of a module run that ask for it: those of the running stack need their own.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        yield


def _as_lambda_has_it(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value.timestamp()


@dataclass
class Aws:
    """What a test looks into behind the service's back."""

    dynamodb: Any
    s3: Any
    sqs: Any
    streams: Any

    def item(self, id_: str) -> dict[str, Any]:
        """Read an item, in DynamoDB's JSON; empty when there is none."""
        item: dict[str, Any] = self.dynamodb.get_item(TableName=TABLE, Key={"id": {"S": id_}}).get("Item", {})
        return item

    def items(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.dynamodb.scan(TableName=TABLE)["Items"]
        return found

    def stream(self) -> list[dict[str, Any]]:
        """Read all records of the table's stream, as Lambda hands them out: as JSON, with bytes in base64."""
        arn = self.dynamodb.describe_table(TableName=TABLE)["Table"]["LatestStreamArn"]
        (shard,) = self.streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
        iterator = self.streams.get_shard_iterator(
            StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        records = self.streams.get_records(ShardIterator=iterator)["Records"]
        event: list[dict[str, Any]] = json.loads(json.dumps(records, default=_as_lambda_has_it))
        return event

    def put_object(self, key: str) -> None:
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")

    def keys(self) -> list[str]:
        return [item["Key"] for item in self.s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]

    def take_messages(self, queue_url: str = QUEUE_URL) -> list[dict[str, Any]]:
        """Take all messages off a queue."""
        bodies: list[dict[str, Any]] = []
        while messages := self.sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10).get(
            "Messages"
        ):
            for message in messages:
                self.sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
                bodies.append(json.loads(message["Body"]))
        return bodies


@cache
def _clients() -> Aws:
    """Make the clients once: that takes longer than most tests."""
    return Aws(
        boto3.client("dynamodb"), boto3.client("s3"), boto3.client("sqs"), boto3.client("dynamodbstreams")
    )


@pytest.fixture
def aws(environment: None) -> Iterator[Aws]:
    """Make the table, the queue and the bucket, empty."""
    with mock_aws():
        mocked = _clients()
        mocked.dynamodb.create_table(**TABLE_SCHEMA)
        for bucket in (BUCKET, UPLOADS):
            mocked.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        for queue in ("jobs", "callbacks", "callbacks-dead"):
            mocked.sqs.create_queue(QueueName=queue)
        yield mocked


class Clock:
    """A clock that a test sets."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    """Start at 2026-11-22T15:16:17Z."""
    return Clock(1795360577.0)


@pytest.fixture
def table(aws: Aws, clock: Clock) -> Any:
    """Make a task table that runs on the clock."""
    from transcoding.data.task_table import TaskTable

    return TaskTable(TABLE, clock)


@pytest.fixture
def parts(aws: Aws, clock: Clock) -> Any:
    """Make a table of parts that runs on the clock."""
    from transcoding.data.part_table import PartTable

    return PartTable(TABLE, clock)


@pytest.fixture
def serialised(table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have calls to moto one at a time; its transactions are not atomic between threads, DynamoDB's are."""
    lock, client = threading.Lock(), table._connection.client
    call = client._make_api_call

    def one_at_a_time(*arguments: Any) -> Any:
        with lock:
            return call(*arguments)

    monkeypatch.setattr(client, "_make_api_call", one_at_a_time)


@pytest.fixture
def repeated(table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each write twice, as botocore does when the answer of the first is lost."""
    client = table._connection.client
    call = client._make_api_call

    def twice(operation: str, arguments: Any) -> Any:
        if operation in {"UpdateItem", "TransactWriteItems", "BatchWriteItem"}:
            # What DynamoDB refuses is not repeated.
            call(operation, arguments)
        return call(operation, arguments)

    monkeypatch.setattr(client, "_make_api_call", twice)


def api_event(
    method: str,
    path: str,
    *,
    query: dict[str, str] | None = None,
    body: str | bytes | None = None,
    headers: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Build a REST API's proxy event; a body of bytes goes the way that binary media types go."""
    sent = {"Accept": "*/*", "Host": "api.example.com", "User-Agent": "curl/8"} | (headers or {})
    return {
        "resource": path,
        "path": path,
        "httpMethod": method,
        "headers": sent,
        "multiValueHeaders": {name: [value] for name, value in sent.items()},
        "queryStringParameters": query,
        "multiValueQueryStringParameters": query and {name: [value] for name, value in query.items()},
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "abcdef1234",
            "httpMethod": method,
            "identity": {"apiKeyId": "key", "sourceIp": "203.0.113.1", "userAgent": "curl/8"},
            "path": f"/v1{path}",
            "protocol": "HTTP/1.1",
            "requestId": "0f2f6b5e-0000-4000-8000-000000000000",
            "requestTimeEpoch": 1795360577000,
            "resourceId": "res",
            "resourcePath": path,
            "stage": "v1",
        },
        "body": base64.b64encode(body).decode() if isinstance(body, bytes) else body,
        "isBase64Encoded": isinstance(body, bytes),
    }


def lambda_context(seconds_left: float = 30.0) -> Any:
    """Build a Lambda context."""
    return SimpleNamespace(
        function_name="function",
        function_version="1",
        memory_limit_in_mb=512,
        invoked_function_arn=f"arn:aws:lambda:{REGION}:123456789012:function:function",
        aws_request_id="8a7c5c1e-0000-4000-8000-000000000000",
        get_remaining_time_in_millis=lambda: int(seconds_left * 1000),
    )


@dataclass
class Answer:
    """What a caller gets."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


#: What came out of a task that has succeeded.
OUTPUT = Output(60.0, 14_600_000, (OutputRendition("avc1.64001f", 1_800_000, 2_900_000, 1280, 720, 25.0),))


def unsent(task_id: str) -> bool:
    """Stand for a queue that takes no message."""
    return False


class Api:
    """Calls the handlers as API Gateway does."""

    def call(self, function: str, event: dict[str, Any]) -> Answer:
        response = importlib.import_module(function).handler(event, lambda_context())
        assert response["isBase64Encoded"] is False
        headers = {name: values[0] for name, values in response["multiValueHeaders"].items()}
        answer = Answer(response["statusCode"], headers, response["body"])
        # What holds for every answer of the API.
        assert answer.headers == {
            "Content-Type": "application/json; charset=utf-8",
            "Cache-Control": "no-store",
        }
        assert isinstance(answer.json["msg"], str)
        assert answer.json["errcode"] == (1000 if answer.status == 200 else 1000 + answer.status)
        assert answer.text.encode()
        return answer

    def get(self, call: str, **query: str) -> Answer:
        path = f"/transcoding/api/{call}"
        return self.call(call.replace("-", "_"), api_event("GET", path, query=query or None))

    def post(
        self, call: str, body: Any = None, *, headers: dict[str, str] | None = None, **fields: Any
    ) -> Answer:
        """Send a body as it is, or fields as a JSON object, the way curl -d does."""
        if body is None:
            body = json.dumps(fields)
        headers = {"Content-Type": "application/x-www-form-urlencoded"} | (headers or {})
        path = f"/transcoding/api/{call}"
        return self.call(call.replace("-", "_"), api_event("POST", path, body=body, headers=headers))

    def create(self, **fields: Any) -> str:
        """Create a task and give its id."""
        answer = self.post("create-transcode", **({"origin_url": "s3://bucket/video.mp4"} | fields))
        assert answer.status == 200, answer.text
        id_: str = answer.json["id"]
        return id_


@pytest.fixture
def api(aws: Aws, clock: Clock) -> Iterator[Api]:
    """Give the API, with all its functions on the clock."""
    with pytest.MonkeyPatch.context() as patch:
        for function in FUNCTIONS:
            module = importlib.import_module(function)
            if function not in UPLOAD_FUNCTIONS:
                patch.setattr(module.table, "_clock", clock)
        yield Api()


UPLOAD_FUNCTIONS = ("create_upload", "complete_upload")
FUNCTIONS = (
    *("create_transcode", "get_transcodes", "get_transcode", "delete_transcode", "delete_transcodes"),
    *UPLOAD_FUNCTIONS,
)


@pytest.fixture(scope="session")
def server_tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server's context, for media.test, localhost and 127.0.0.1, and the file that vouches for it."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "media.test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.SubjectAlternativeName(
                [
                    x509.DNSName("media.test"),
                    x509.DNSName("localhost"),
                    x509.IPAddress(IPv4Address("127.0.0.1")),
                ]
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    trusted, secret = folder / "trusted.pem", folder / "key.pem"
    trusted.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted, secret)
    return context, trusted


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path | None]:
    """Mount a disk of a size, as mount(8) takes it, on a folder; None where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
