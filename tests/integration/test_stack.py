"""The stack of the laptop itself: what it listens on, what it says about itself, what it keeps."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local import stack as local_stack
from local.deploy import client
from local.emulator import Emulator
from local.stack import Stack

LISTEN = "0A"
PROC = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's /proc")


def _processes_of(group: int) -> list[Path]:
    """/proc folders of the living processes in a process group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and state != "Z":
            found.append(stat.parent)
    return found


def _listening_addresses(processes: list[Path]) -> set[str]:
    """Addresses, in the kernel's hexadecimal form, on which any of the processes takes connections."""
    inodes = set()
    for process in processes:
        for descriptor in (process / "fd").iterdir():
            target = str(descriptor.readlink())
            if target.startswith("socket:["):
                inodes.add(target[len("socket:[") : -1])
    addresses = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes and (fields[3] == LISTEN or table.startswith("udp")):
                addresses.add(fields[1].split(":")[0])
    return addresses


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Callable[[], Stack]]:
    """Start a stack that a test may stop and kill; nothing calls its API, so it need not be warm."""
    try:
        yield lambda: local_stack.start(tmp_path, {"SnapStart": "off"}, port=0)
    finally:
        local_stack.stop(tmp_path)


def test_stack_json_says_all_there_is_to_know(stack: Stack, stack_home: Path) -> None:
    assert json.loads((stack_home / "stack.json").read_text()) == stack
    assert stack.keys() == Stack.__annotations__.keys()
    assert all(stack.values())
    assert stack["aws_endpoint_url"].startswith("http://127.0.0.1:")
    assert stack["output_base_url"] == f"{stack['aws_endpoint_url']}/{stack['output_bucket']}"
    names = {"CreateTranscode", "GetTranscodes", "GetTranscode", "DeleteTranscode", "DeleteTranscodes"}
    names |= {
        "CreateUpload",
        "CompleteUpload",
        "Worker",
        "DeadLetter",
        "Sweep",
        "Notify",
        "Callback",
        "Console",
    }
    assert stack["functions"].keys() == {f"{name}Function" for name in names}


@pytest.mark.parametrize(
    ("key", "path", "status"),
    [
        ("", "/transcoding/api/get-transcodes", 403),
        ("wrong", "/transcoding/api/get-transcodes", 403),
        ("right", "/transcoding/api/nothing", 404),
        ("right", "/transcoding/api/create-transcode", 404),
    ],
)
def test_what_the_gateway_refuses_has_the_envelope(stack: Stack, key: str, path: str, status: int) -> None:
    headers = {"x-api-key": {"right": stack["api_key"]}.get(key, key)}
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(urllib.request.Request(stack["api_url"] + path, headers=headers))
    with refusal.value as response:
        answer = json.load(response)
    assert (response.status, answer["errcode"]) == (status, 1000 + status)
    assert answer["msg"]


@PROC
def test_only_loopback_is_listened_on(stack: Stack, stack_home: Path) -> None:
    pid = Emulator(stack_home).running_pid()
    assert pid is not None
    assert _listening_addresses(_processes_of(pid)) == {"0100007F"}


def test_up_again_changes_nothing_and_is_quick(stack: Stack, stack_home: Path) -> None:
    pid = Emulator(stack_home).running_pid()
    started = time.monotonic()
    assert local_stack.start(stack_home) == stack
    assert time.monotonic() - started < 5
    assert Emulator(stack_home).running_pid() == pid


@PROC
def test_data_stays_and_processes_end(tmp_path: Path, own: Callable[[], Stack]) -> None:
    stack = own()
    url = stack["aws_endpoint_url"]
    _stop_consumers(stack)
    client("dynamodb", url).put_item(TableName=stack["table"], Item={"id": {"S": "kept"}})
    client("s3", url).put_object(Bucket=stack["source_bucket"], Key="kept", Body=b"data")
    client("sqs", url).send_message(QueueUrl=stack["queue_url"], MessageBody="kept")
    pid = Emulator(tmp_path).running_pid()
    assert pid is not None

    local_stack.stop(tmp_path)
    assert _processes_of(pid) == []
    assert own() == stack

    assert "Item" in client("dynamodb", url).get_item(TableName=stack["table"], Key={"id": {"S": "kept"}})
    kept = client("s3", url).get_object(Bucket=stack["source_bucket"], Key="kept")
    assert kept["Body"].read() == b"data"
    messages = client("sqs", url).receive_message(QueueUrl=stack["queue_url"])["Messages"]
    assert [message["Body"] for message in messages] == ["kept"]


@PROC
def test_up_recovers_from_a_killed_emulator(tmp_path: Path, own: Callable[[], Stack]) -> None:
    stack = own()
    pid = Emulator(tmp_path).running_pid()
    assert pid is not None
    os.killpg(pid, signal.SIGKILL)
    again = own()
    assert again["aws_endpoint_url"] == stack["aws_endpoint_url"]
    assert Emulator(tmp_path).running_pid() not in {None, pid}


def test_a_taken_port_moves_the_stack_with_its_urls(tmp_path: Path, own: Callable[[], Stack]) -> None:
    stack = own()
    url = stack["aws_endpoint_url"]
    _stop_consumers(stack)
    client("sqs", url).send_message(QueueUrl=stack["queue_url"], MessageBody="kept")
    local_stack.stop(tmp_path)
    with socket.create_server(("127.0.0.1", int(url.rpartition(":")[2]))):
        moved = own()
    assert moved["aws_endpoint_url"] != url
    assert moved["table"] == stack["table"]
    assert moved["queue_url"] == stack["queue_url"].replace(url, moved["aws_endpoint_url"])
    messages = client("sqs", moved["aws_endpoint_url"]).receive_message(QueueUrl=moved["queue_url"])
    assert [message["Body"] for message in messages["Messages"]] == ["kept"]


def test_a_parameter_alone_reaches_the_version_that_answers(tmp_path: Path) -> None:
    try:
        for level in ("INFO", "ERROR"):
            stack = local_stack.start(tmp_path, {"LogLevel": level}, port=0)
            functions = client("lambda", stack["aws_endpoint_url"])
            for name, function in stack["functions"].items():
                if "Transcode" in name:
                    live = functions.get_function_configuration(FunctionName=function, Qualifier="live")
                    assert live["Environment"]["Variables"]["POWERTOOLS_LOG_LEVEL"] == level
    finally:
        local_stack.stop(tmp_path)


def _stop_consumers(stack: Stack) -> None:
    """Let messages stay on the queues."""
    functions: Any = client("lambda", stack["aws_endpoint_url"])
    for mapping in functions.list_event_source_mappings()["EventSourceMappings"]:
        functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
