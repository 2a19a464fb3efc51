"""Callbacks are signed, reach the public Internet alone, and are tried for a day."""

from __future__ import annotations

import http.server
import importlib
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from local.package import ROOT
from tests.conftest import (
    CALLBACK_DEAD_LETTER_QUEUE_URL,
    CALLBACK_KEY_NAME,
    CALLBACK_QUEUE_URL,
    Aws,
    Clock,
    lambda_context,
)
from transcoding import web
from transcoding.data import callback_key, clients
from transcoding.data.callback_key import CallbackKey
from transcoding.data.queue import CallbackQueue
from transcoding.service import callbacks as service
from transcoding.service.callbacks import Callbacks

BODY = '{"event":"Transcode State Change","sequence":3,"transcoding":{"id":"17lok52y"}}'
KEY = "a" * 64
LOOPBACK = ip_address("127.0.0.1")


class Receiver:
    """Answers POSTs on a port of 127.0.0.1, and keeps what comes."""

    def __init__(self, answer: Callable[[http.server.BaseHTTPRequestHandler], None]) -> None:
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        self.port = 0
        self.answer = answer


@contextmanager
def receiving(
    answer: Callable[[http.server.BaseHTTPRequestHandler], None], tls: ssl.SSLContext | None = None
) -> Iterator[Receiver]:
    receiver = Receiver(answer)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.received.append((self.path, headers, body))
            receiver.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # clients that hang up are what is tested

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        receiver.port = server.server_port
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield receiver
        server.shutdown()


def status(code: int, **headers: str) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


@pytest.fixture
def key(aws: Aws) -> Iterator[CallbackKey]:
    clients.ssm().put_parameter(Name=CALLBACK_KEY_NAME, Type="SecureString", Value=KEY)
    return CallbackKey(CALLBACK_KEY_NAME)


class Sender:
    """The function, with 127.0.0.1 open to it, and the queue as Lambda polls it."""

    def __init__(self, aws: Aws, clock: Clock, key: CallbackKey, patch: pytest.MonkeyPatch) -> None:
        self.aws = aws
        self.clock = clock
        self.connect: Callable[..., Any] = partial(
            web.connect, resolve=lambda _: [LOOPBACK], is_allowed=lambda _: True
        )
        self.module = importlib.import_module("callback")
        callbacks = Callbacks(
            CallbackQueue(CALLBACK_QUEUE_URL),
            CALLBACK_DEAD_LETTER_QUEUE_URL,
            key,
            connect=self._connect,
            clock=clock,
        )
        patch.setattr(self.module, "callbacks", callbacks)
        #: How long each message was hidden for.
        self.waits: list[int] = []
        sqs = clients.sqs()
        patch.setattr(sqs, "change_message_visibility", lambda **given: self.waits.append(
            given["VisibilityTimeout"]))  # fmt: skip
        self.sent_at = clock.now

    def _connect(self, *given: Any, **named: Any) -> Any:
        return self.connect(*given, **named)

    def send(self, url: str, receives: int = 1) -> bool:
        """Have the function take a message; tell if it was done with it."""
        record = {
            "messageId": "message",
            "receiptHandle": "receipt",
            "eventSource": "aws:sqs",
            "attributes": {
                "ApproximateReceiveCount": str(receives),
                "SentTimestamp": str(int(self.sent_at * 1000)),
            },
            "body": json.dumps({"callback_url": url, "body": BODY}),
        }
        answer = self.module.handler({"Records": [record]}, lambda_context())
        return bool(answer["batchItemFailures"] == [])

    def given_up(self) -> list[dict[str, Any]]:
        return self.aws.take_messages(CALLBACK_DEAD_LETTER_QUEUE_URL)


@pytest.fixture
def sender(aws: Aws, clock: Clock, key: CallbackKey, monkeypatch: pytest.MonkeyPatch) -> Sender:
    return Sender(aws, clock, key, monkeypatch)


def readme_code() -> dict[str, Any]:
    """Run the code that README shows to receivers."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    (code,) = (block for block in blocks if "def is_genuine" in block)
    assert len(code.strip().splitlines()) <= 11
    names: dict[str, Any] = {}
    exec(code, names)
    return names


def test_the_code_of_the_readme_knows_what_is_genuine(
    sender: Sender, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_genuine = readme_code()["is_genuine"]
    with receiving(status(200)) as receiver:
        assert sender.send(f"http://hook.test:{receiver.port}/done?token=1")
    ((path, headers, body),) = receiver.received
    assert (path, body.decode()) == ("/done?token=1", BODY)
    assert headers["host"] == f"hook.test:{receiver.port}"
    assert headers["content-type"] == "application/json"
    signed = headers["x-transcoding-signature"]
    monkeypatch.setattr(time, "time", clock)
    assert is_genuine(KEY, signed, body)
    assert not is_genuine("b" * 64, signed, body)
    assert not is_genuine(KEY, signed, body + b" ")
    assert not is_genuine(KEY, signed.replace("t=1", "t=2"), body)
    for other in (
        "",
        "garbage",
        "t=x,v1=y",
        signed.partition(",")[0],
        f"{signed[:-1]}é",
        f"t={'9' * 5000},v1=0",
    ):
        assert not is_genuine(KEY, other, body)
    clock.advance(301)
    assert not is_genuine(KEY, signed, body)


def test_each_try_is_signed_with_its_own_time(sender: Sender, clock: Clock) -> None:
    with receiving(status(500)) as receiver:
        url = f"http://hook.test:{receiver.port}/"
        assert not sender.send(url)
        clock.advance(10)
        receiver.answer = status(204)
        assert sender.send(url, 2)
    times = [headers["x-transcoding-signature"].partition(",")[0] for _, headers, _ in receiver.received]
    assert times == [f"t={int(clock.now) - 10}", f"t={int(clock.now)}"]


def test_waits_grow_until_a_day_is_over(sender: Sender, clock: Clock) -> None:
    with receiving(status(500)) as receiver:
        url, receives = f"http://hook.test:{receiver.port}/", 0
        while not sender.send(url, receives := receives + 1):
            assert sender.given_up() == []
            clock.advance(sender.waits[-1])
            assert receives < 100
    assert sender.waits[:11] == [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]
    assert set(sender.waits[11:]) == {3600}
    assert 23 * 3600 < sum(sender.waits) <= 24 * 3600
    assert len(receiver.received) == receives == len(sender.waits) + 1
    assert sender.given_up() == [{"callback_url": url, "body": BODY}]


def test_a_receiver_that_is_back_gets_it(sender: Sender, clock: Clock) -> None:
    with receiving(status(200)) as receiver:
        port = receiver.port
    assert not sender.send(f"http://hook.test:{port}/")
    with receiving(status(503)) as receiver:
        url = f"http://hook.test:{receiver.port}/"
        assert not sender.send(url, 2)
        receiver.answer = status(202)
        assert sender.send(url, 3)
    assert sender.waits == [10, 20]
    assert sender.given_up() == []


@pytest.mark.parametrize("code", [300, 301, 307, 400, 404, 410, 500])
def test_only_2xx_ends_it(sender: Sender, code: int) -> None:
    with receiving(status(code)) as receiver:
        assert not sender.send(f"http://hook.test:{receiver.port}/")


def test_redirects_are_not_followed(sender: Sender) -> None:
    with receiving(status(200)) as inner, receiving(status(307)) as receiver:
        receiver.answer = status(307, Location=f"http://127.0.0.1:{inner.port}/latest/meta-data/")
        assert not sender.send(f"http://hook.test:{receiver.port}/")
    assert len(receiver.received) == 1
    assert inner.received == []


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "::1", "fd00:ec2::254", "fe80::1"]
)
def test_an_inner_address_is_never_connected_to(sender: Sender, address: str) -> None:
    sender.connect = partial(web.connect, resolve=lambda _: [ip_address("8.8.8.8"), ip_address(address)])
    assert not sender.send("http://hook.test/")
    assert sender.waits == [10]


def test_the_address_is_checked_at_each_try(sender: Sender) -> None:
    allowed = iter([True, False])
    with receiving(status(500)) as receiver:
        sender.connect = partial(
            web.connect, resolve=lambda _: [LOOPBACK], is_allowed=lambda _: next(allowed)
        )
        url = f"http://hook.test:{receiver.port}/"
        assert not sender.send(url)
        assert not sender.send(url, 2)
    assert len(receiver.received) == 1


def test_a_receiver_that_hangs_is_left(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "SECONDS", 0.3)
    left = threading.Event()

    def hang(request: http.server.BaseHTTPRequestHandler) -> None:
        left.wait(20)

    with receiving(hang) as receiver:
        assert not sender.send(f"http://hook.test:{receiver.port}/")
        left.set()
    assert sender.waits == [10]


def test_a_receiver_that_drips_is_left(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "SECONDS", 0.5)
    gone = threading.Event()

    def drip(request: http.server.BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for _ in range(400):
            try:
                request.wfile.write(b"X-Header: 1\r\n")
                request.wfile.flush()
            except OSError:
                gone.set()
                return
            time.sleep(0.05)

    with receiving(drip) as receiver:
        assert not sender.send(f"http://hook.test:{receiver.port}/")
        assert gone.wait(10)
    assert sender.waits == [10]


def test_tls_is_checked_against_the_name_in_the_url(
    sender: Sender, server_tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, trusted = server_tls
    with receiving(status(200), context) as receiver:
        assert not sender.send(f"https://media.test:{receiver.port}/")
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        assert sender.send(f"https://media.test:{receiver.port}/", 2)
        assert not sender.send(f"https://other.test:{receiver.port}/", 3)
    assert len(receiver.received) == 1


def test_outcomes_are_counted(sender: Sender, clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with receiving(status(200)) as receiver:
        url = f"http://hook.test:{receiver.port}/"
        sender.send(url)
        receiver.answer = status(500)
        sender.send(url)
        clock.advance(24 * 3600)
        sender.send(url, 33)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "_aws" in line]
    counted = [name for line in lines for name in line if name.startswith("Callbacks")]
    assert counted == ["CallbacksDelivered", "CallbacksFailed", "CallbacksGivenUp"]


def test_the_log_says_why_and_never_has_the_key(sender: Sender, caplog: pytest.LogCaptureFixture) -> None:
    with receiving(status(500)) as receiver:
        sender.send(f"http://hook.test:{receiver.port}/done?token=secret")
    (line,) = (record for record in caplog.records if record.message == "A callback was not taken")
    assert vars(line)["reason"] == "HTTP status 500"
    assert not any(KEY in str(vars(record)) for record in caplog.records)


# The key.


def test_the_first_who_needs_the_key_makes_it(aws: Aws) -> None:
    made = CallbackKey(CALLBACK_KEY_NAME).get()
    assert re.fullmatch(rb"[0-9a-f]{64}", made)
    assert CallbackKey(CALLBACK_KEY_NAME).get() == made
    parameter = clients.ssm().describe_parameters()["Parameters"][0]
    assert parameter["Type"] == "SecureString"


def test_two_who_need_it_at_once_have_the_same(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = CallbackKey(CALLBACK_KEY_NAME)
    put = ours._ssm.put_parameter

    def late(**given: Any) -> Any:
        put(**given | {"Value": "theirs"})
        return put(**given)

    monkeypatch.setattr(ours._ssm, "put_parameter", late)
    assert ours.get() == b"theirs"


def test_a_new_key_is_in_use_within_minutes(aws: Aws) -> None:
    clock = Clock(0.0)
    key = CallbackKey(CALLBACK_KEY_NAME, clock)
    old = key.get()
    clients.ssm().put_parameter(Name=CALLBACK_KEY_NAME, Type="SecureString", Value="new", Overwrite=True)
    assert key.get() == old
    clock.advance(callback_key.PERIOD)
    assert key.get() == b"new"
