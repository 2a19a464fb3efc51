"""What is to be seen and done behind the service's back: its processes, its table, its queue, its buckets."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from local.deploy import client
from local.emulator import Emulator
from local.stack import Stack


def pids(source: str, program: str = "bin/ffmpeg") -> list[int]:
    """Find the processes of a program that read a source of this name."""
    found = subprocess.run(
        ["pgrep", "-f", f"{program}.*{source}"], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in found.stdout.split()]


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that they have."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(stat.parent.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def running(home: Path, function: str) -> list[int]:
    """Find the processes of a function, by a part of its name, of the stack in `home`."""
    emulator, found = Emulator(home).running_pid(), []
    for pid in descendants(emulator) if emulator else []:
        with suppress(OSError):
            if function.encode() in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(pid)
    return found


def call_api(
    stack: Stack, method: str, name: str, parameters: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """Call an endpoint; return the HTTP status and the answer's JSON. Raises ValueError where it is none.

    GET parameters go into the query, others into a JSON body; strings and bytes are a body as they are.
    """
    url = f"{stack['api_url']}/transcoding/api/{name}"
    sent = {"x-api-key": stack["api_key"], "Content-Type": "application/json"} | (headers or {})
    body = None
    if method == "GET":
        url += f"?{urlencode(parameters)}" if parameters else ""
    elif parameters is not None:
        text = parameters if isinstance(parameters, str | bytes) else json.dumps(parameters)
        body = text.encode() if isinstance(text, str) else text
    return answered(urllib.request.Request(url, body, sent, method=method))


def answered(request: urllib.request.Request) -> tuple[int, dict[str, Any]]:
    """Return the HTTP status and the JSON of the answer to a request. Raises ValueError where it is none."""
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def until(condition: Callable[[], Any], seconds: float = 60) -> float:
    """Wait for a condition; return how long it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"not within {seconds} s"
        time.sleep(0.1)
    return time.monotonic() - started


def sweep(stack: Stack) -> None:
    answer = client("lambda", stack["aws_endpoint_url"]).invoke(
        FunctionName=stack["functions"]["SweepFunction"], Payload=json.dumps({"source": "aws.scheduler"})
    )
    assert "FunctionError" not in answer, answer["Payload"].read()


def keys(stack: Stack, s3: Any, task_id: str) -> list[str]:
    pages = [
        s3.list_objects_v2(Bucket=stack["output_bucket"], Prefix=f"{folder}/{task_id}/")
        for folder in ("outputs", "work")
    ]
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


@cache
def _dynamodb(endpoint_url: str) -> Any:
    return client("dynamodb", endpoint_url)


def item(stack: Stack, task_id: str) -> dict[str, Any]:
    table = _dynamodb(stack["aws_endpoint_url"])
    return table.get_item(TableName=stack["table"], Key={"id": {"S": task_id}})["Item"]


def parts(stack: Stack, task_id: str) -> dict[int, dict[str, Any]]:
    """Read the items of a task's parts, of all its attempts, by their numbers."""
    table = _dynamodb(stack["aws_endpoint_url"])
    pages = table.get_paginator("scan").paginate(TableName=stack["table"], ConsistentRead=True)
    items = [item for page in pages for item in page["Items"]]
    own = [item for item in items if item["id"]["S"].startswith(f"part#{task_id}#")]
    return {int(item["number"]["N"]): item for item in own}


def change(stack: Stack, item_id: str, *, remove: Sequence[str], **strings: str) -> None:
    """Remove attributes of an item, if it is there, and set others."""
    values = {f":{name}": {"S": text} for name, text in strings.items()}
    table = _dynamodb(stack["aws_endpoint_url"])
    with suppress(table.exceptions.ConditionalCheckFailedException):
        table.update_item(
            TableName=stack["table"],
            Key={"id": {"S": item_id}},
            UpdateExpression=f"REMOVE {', '.join(remove)} SET {', '.join(f'{n} = :{n}' for n in strings)}",
            ConditionExpression="attribute_exists(id)",
            ExpressionAttributeValues=values,
        )


def hurry(stack: Stack, task_id: str) -> None:
    """Have the sweep look at a task now, if it is to look at it at all."""
    table = _dynamodb(stack["aws_endpoint_url"])
    with suppress(table.exceptions.ConditionalCheckFailedException):
        table.update_item(
            TableName=stack["table"],
            Key={"id": {"S": task_id}},
            UpdateExpression="SET attention_at = :now",
            ConditionExpression="attribute_exists(attention)",
            ExpressionAttributeValues={":now": {"N": "0"}},
        )
    sweep(stack)


def send(stack: Stack, task_id: str, **part: object) -> None:
    """Queue a task, or a part of one: `attempt` and `part`."""
    put(stack, json.dumps({"task_id": task_id, "step": "part" if part else "transcode"} | part))


def put(stack: Stack, body: str) -> None:
    """Put a message on the queue."""
    client("sqs", stack["aws_endpoint_url"]).send_message(QueueUrl=stack["queue_url"], MessageBody=body)


def queued(stack: Stack) -> int:
    """Count the messages that wait for a worker."""
    answer = client("sqs", stack["aws_endpoint_url"]).get_queue_attributes(
        QueueUrl=stack["queue_url"], AttributeNames=["ApproximateNumberOfMessages"]
    )
    return int(answer["Attributes"]["ApproximateNumberOfMessages"])
