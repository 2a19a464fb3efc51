"""The Python client: its calls, what it repeats, and what it raises."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fake_service import API_KEY, API_URL, FakeService, refusal, task
from transcoding_client import (
    ApiKeyError,
    Client,
    NotFoundError,
    Quality,
    RefusedError,
    Status,
    TaskDeletedError,
    TaskFailedError,
    TranscodingError,
    UnavailableError,
    UnknownServiceError,
    WaitTimeoutError,
    find_service,
)


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(service: FakeService, waits: list[float]) -> Iterator[Client]:
    with Client(API_URL, API_KEY, transport=service.transport) as client:
        yield client


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client has waited, which takes no time."""
    waited: list[float] = []
    monkeypatch.setattr("transcoding_client.client.time.sleep", waited.append)
    return waited


def _once(response: httpx.Response | Exception) -> Callable[[httpx.Request], httpx.Response | None]:
    """Something else in the place of the first answer."""
    left = [response]

    def fault(_: httpx.Request) -> httpx.Response | None:
        if not left:
            return None
        answer = left.pop()
        if isinstance(answer, Exception):
            raise answer
        return answer

    return fault


def test_only_what_is_given_is_sent(client: Client, service: FakeService) -> None:
    assert client.create("s3://films/holiday.mov") == "17lok52y"
    client.create("s3://films/holiday.mov", quality=Quality.P720, format="mp4", thumbnails=False)
    assert service.made("create-transcode") == [
        {"origin_url": "s3://films/holiday.mov"},
        {
            "origin_url": "s3://films/holiday.mov",
            "task_config_temp_id": 3,
            "format": "mp4",
            "thumbnails": False,
        },
    ]


def test_a_task_has_its_facts(client: Client, service: FakeService) -> None:
    service.states = [task(status=2, new="of a newer service")]
    found = client.get("17lok52y")
    assert found.status is Status.SUCCEEDED
    assert found.created_at.isoformat() == "2010-11-22T15:16:17+08:00"
    assert found.output is not None
    picture, sound = found.output.renditions
    assert (picture.width, picture.frame_rate, sound.width) == (1280, 29.97, None)
    # As the service answered, in JSON.
    assert found.model_dump(mode="json", exclude_unset=True) == service.states[0]


def test_the_list_has_its_count(client: Client, service: FakeService) -> None:
    service.states = [task("17lok52y", 2), task("82md0xk1", 3)]
    page = client.tasks(page=2, limit=100)
    assert service.made("get-transcodes") == [{"page": "2", "limit": "100"}]
    assert ([found.id for found in page.results], page.count) == (["17lok52y", "82md0xk1"], 33)


def test_any_number_is_deleted_and_those_that_never_were_are_told_in_the_end(
    client: Client, service: FakeService
) -> None:
    ids = [f"never{n:03}" if n in {1, 150} else f"task{n:04}" for n in range(250)]
    with pytest.raises(NotFoundError, match=r"never001.*never150"):
        client.delete_all(ids)
    assert [len(call["ids"].split(",")) for call in service.made("delete-transcodes")] == [100, 100, 50]
    client.delete("17lok52y")
    assert service.made("delete-transcode") == [{"id": "17lok52y"}]


# What is repeated.


@pytest.mark.parametrize(
    "answer",
    [
        refusal(429, "Too many calls at once."),
        refusal(500, "The service failed."),
        refusal(503, "the database is not available"),
        httpx.Response(502, text="<html>Bad Gateway</html>"),
        httpx.ReadTimeout("late"),
        httpx.RemoteProtocolError("Server disconnected without sending a response."),
    ],
    ids=str,
)
def test_a_call_is_repeated_and_makes_no_second_task(
    client: Client, service: FakeService, waits: list[float], answer: httpx.Response | Exception
) -> None:
    service.fault = _once(answer)
    assert client.create("s3://films/holiday.mov") == "17lok52y"
    assert len(waits) == 1
    first, second = service.requests
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    client.create("s3://films/holiday.mov")
    assert service.requests[-1].headers["Idempotency-Key"] != first.headers["Idempotency-Key"]


def test_the_waits_grow_at_random_and_end(client: Client, service: FakeService, waits: list[float]) -> None:
    service.fault = lambda _: refusal(503, "the database is not available")
    tries = []
    for _ in range(50):
        with pytest.raises(UnavailableError, match="the database") as caught:
            client.get("17lok52y")
        assert caught.value.errcode == 1503
        tries.append(waits[:])
        waits.clear()
    assert {len(waited) for waited in tries} == {4}
    for place, limit in enumerate((1, 2, 4, 8)):
        of_place = [waited[place] for waited in tries]
        assert limit / 2 < max(of_place) <= limit
        assert min(of_place) < limit / 4


def test_a_server_that_says_when_is_waited_for(
    client: Client, service: FakeService, waits: list[float]
) -> None:
    service.fault = _once(refusal(429, "Too many calls at once.", **{"Retry-After": "3"}))
    client.get("17lok52y")
    assert waits == [3]


@pytest.mark.parametrize(
    ("status", "kind"), [(400, RefusedError), (403, ApiKeyError), (404, NotFoundError), (413, RefusedError)]
)
def test_a_refusal_is_not_repeated(
    client: Client, service: FakeService, status: int, kind: type[RefusedError]
) -> None:
    service.fault = lambda _: refusal(status, "why")
    with pytest.raises(kind, match="why") as caught:
        client.get("17lok52y")
    assert (caught.value.errcode, caught.value.msg) == (status + 1000, "why")
    assert len(service.requests) == 1


def test_a_host_that_never_answers_is_not_tried_for_long(
    client: Client, service: FakeService, waits: list[float]
) -> None:
    def refuse(_: httpx.Request) -> None:
        raise httpx.ConnectError("Connection refused")

    service.fault = refuse
    with pytest.raises(UnavailableError, match=r"https://api\.test does not answer"):
        client.get("17lok52y")
    assert waits == []
    service.fault = lambda _: None
    client.get("17lok52y")
    # One that has answered may be back soon.
    service.fault = refuse
    with pytest.raises(UnavailableError):
        client.get("17lok52y")
    assert len(waits) == 4


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>Log in to the network</html>"),
        httpx.Response(200, json=["no", "envelope"]),
        httpx.Response(404, text="not found"),
        httpx.Response(302, headers={"Location": "https://elsewhere.test/"}),
        httpx.Response(200, json={"errcode": 1000, "msg": "OK", "transcoding": {"id": 5}}),
    ],
    ids=lambda response: f"{response.status_code} {response.text[:20]}",
)
def test_what_is_not_the_service_is_told(
    client: Client, service: FakeService, answer: httpx.Response
) -> None:
    service.fault = lambda _: answer
    with pytest.raises(UnavailableError):
        client.get("17lok52y")
    assert {request.url.host for request in service.requests} == {"api.test"}


def test_this_machine_is_reached_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"errcode": 1000, "msg": "OK", "transcoding": task()}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        with Client(f"http://127.0.0.1:{server.server_port}", API_KEY) as client:
            assert client.get("17lok52y").id == "17lok52y"


# Waiting.


def test_a_task_is_waited_for_less_and_less_often(
    client: Client, service: FakeService, waits: list[float]
) -> None:
    running = [task(status=1, progress=n // 2 / 20) for n in range(40)]
    service.states = [task(), task(), *running, task(status=2)]
    seen: list[float] = []
    done = client.wait_for("17lok52y", report=lambda found: seen.append(found.progress))
    assert done.target_url
    # Each change once.
    assert seen == [0.0, *sorted({state["progress"] for state in running}), 1.0]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (0.5, 5)


def test_a_task_that_does_not_succeed_is_an_error(client: Client, service: FakeService) -> None:
    service.states = [task(), task(status=3)]
    with pytest.raises(TaskFailedError, match=r"1001.*There is no s3://films") as failed:
        client.wait_for("17lok52y")
    assert failed.value.task.error_code == 1001
    service.states = [task(status=4)]
    with pytest.raises(TaskDeletedError):
        client.wait_for("17lok52y")


def test_waiting_has_an_end(client: Client, service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("transcoding_client.client.time.monotonic", lambda: now[0])
    monkeypatch.setattr("transcoding_client.client.time.sleep", lambda s: now.append(now.pop() + s))
    service.states = [task(status=1)]
    with pytest.raises(WaitTimeoutError, match="within 10 s") as late:
        client.wait_for("17lok52y", timeout=10)
    assert late.value.task.status is Status.RUNNING
    assert now == [10]


def test_every_error_is_one_kind() -> None:
    for kind in (RefusedError, UnavailableError, TaskFailedError, WaitTimeoutError, UnknownServiceError):
        assert issubclass(kind, TranscodingError)


# Which service.


def test_a_service_is_found(tmp_path: Path) -> None:
    inner = tmp_path / "film" / "cuts"
    inner.mkdir(parents=True)
    environment = {"TRANSCODING_API_URL": "https://env.test", "TRANSCODING_API_KEY": "of env"}
    with pytest.raises(UnknownServiceError, match="make up"):
        find_service(environment={}, folder=inner)
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "stack.json").write_text(
        '{"api_url": "http://127.0.0.1:4580", "api_key": "of stack"}'
    )
    found = find_service(environment={}, folder=inner)
    assert (found.api_url, found.api_key) == ("http://127.0.0.1:4580", "of stack")
    assert "of stack" not in repr(found)
    assert find_service(environment=environment, folder=inner).api_key == "of env"
    assert find_service("https://arg.test", "of arg", environment=environment).api_url == "https://arg.test"
    assert find_service("https://arg.test", environment=environment).api_key == "of env"


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"TRANSCODING_API_URL": "https://env.test"}, "TRANSCODING_API_KEY"),
        ({"TRANSCODING_API_KEY": "of env"}, "TRANSCODING_API_URL"),
        ({"TRANSCODING_API_URL": "env.test", "TRANSCODING_API_KEY": "of env"}, "https://"),
    ],
)
def test_half_a_service_is_not_completed_by_another_one(
    tmp_path: Path, environment: dict[str, str], words: str
) -> None:
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "stack.json").write_text(
        '{"api_url": "http://127.0.0.1:4580", "api_key": "of stack"}'
    )
    with pytest.raises(UnknownServiceError, match=words):
        find_service(environment=environment, folder=tmp_path)


def test_a_file_that_says_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "stack.json").write_text("{}")
    with pytest.raises(UnknownServiceError, match=r"stack\.json cannot be read"):
        find_service(environment={}, folder=tmp_path)


# README.


def test_the_code_of_the_readme_runs(
    service: FakeService,
    client: Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    (code,) = (block for block in blocks if "transcoding_client" in block)
    monkeypatch.setattr(Client, "find", lambda: client)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "film.mov").write_bytes(b"film")
    service.states = [task(status=1), task(status=2)]
    exec(code, {})
    assert service.objects == [b"film"]
    out = capsys.readouterr().out.splitlines()
    assert out[-3:] == ["0%", "100%", "https://media.test/outputs/17lok52y/1/master.m3u8 59.96 s"]
