"""Run `sam local` on the running stack: `python -m local.sam_env start-api`, `… invoke NAME -e FILE`.

The functions then run in containers, which cannot reach the emulator: it listens on this machine's loopback
only. So, while sam runs, a relay listens on this machine's address in the engine's network.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from local.build import SAM
from local.demo import sample_clip, upload
from local.deploy import client
from local.emulator import ACCOUNT_ID, SECRET
from local.engine import Engine, EngineError
from local.package import ROOT
from local.stack import HOME, Stack

#: The task that the sample events name, as an item of DynamoDB.
SAMPLE_TASK = ROOT / "events" / "task.json"
#: The upload that the sample event completes: it is complete already.
_SAMPLE_UPLOAD = {"Key": "0" * 32 + "/sample.mp4", "Body": b"sample"}

#: Linux's option to bind an address that does not exist yet: the first container makes the engine's network.
_IP_FREEBIND = 15
_CHUNK = 1 << 16


def variables(stack: Stack, endpoint_url: str) -> dict[str, dict[str, str]]:
    """Return the content of the file for `sam local --env-vars`: the names of the stack's resources."""
    return {
        "Parameters": {
            "AWS_ENDPOINT_URL": endpoint_url,
            "TABLE_NAME": stack["table"],
            "QUEUE_URL": stack["queue_url"],
            "OUTPUT_BUCKET": stack["output_bucket"],
            "UPLOAD_BUCKET": stack["upload_bucket"],
            "OUTPUT_BASE_URL": stack["output_base_url"],
            "CALLBACK_QUEUE_URL": stack["callback_queue_url"],
        }
    }


def store_sample(stack: Stack, *, renew: bool) -> None:
    """Store what the sample events name: a task, waiting, its source, and an upload.

    `renew`: the task also where it exists.
    """
    client("s3", stack["aws_endpoint_url"]).put_object(Bucket=stack["upload_bucket"], **_SAMPLE_UPLOAD)
    item: dict[str, Any] = json.loads(SAMPLE_TASK.read_text())
    dynamodb = client("dynamodb", stack["aws_endpoint_url"])
    found = dynamodb.get_item(TableName=stack["table"], Key={"id": item["id"]})
    if renew or "Item" not in found:
        item["origin_url"] = {"S": upload(stack, sample_clip())}
        dynamodb.put_item(TableName=stack["table"], Item=item)


async def run(command: list[str], environment: Mapping[str, str], host: str, port: int) -> int:
    """Run a command, relay `host`:`port` to the same port of the loopback, and return the exit code."""
    # Several commands may run at once, each with its own relay.
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.setsockopt(socket.SOL_IP, _IP_FREEBIND, 1)
    listener.bind((host, port))
    server = await asyncio.start_server(
        lambda reader, writer: _relay(reader, writer, port), sock=listener, limit=_CHUNK
    )
    async with server:
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment)
        loop = asyncio.get_running_loop()
        # The terminal sends Ctrl-C to sam too. This process ends after sam has cleaned up.
        loop.add_signal_handler(signal.SIGINT, lambda: None)
        loop.add_signal_handler(signal.SIGTERM, process.terminate)
        return await process.wait()


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    with contextlib.suppress(OSError):
        to_stack = await asyncio.open_connection("127.0.0.1", port, limit=_CHUNK)
        await asyncio.gather(_copy(reader, to_stack[1]), _copy(to_stack[0], writer))
    writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
    finally:
        writer.close()


def main() -> int:
    """Run `sam local` with the arguments of the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m local.sam_env", add_help=False)
    parser.add_argument("--home", type=Path, default=HOME, help="the folder of the stack")
    arguments, rest = parser.parse_known_args()
    try:
        stack: Stack = json.loads((arguments.home / "stack.json").read_text())
        engine = Engine.find()
        gateway = engine.gateway()
    except FileNotFoundError:
        print("The stack does not run: `make up` starts it.", file=sys.stderr)
        return 1
    except EngineError as error:
        print(f"`sam local` runs functions in containers, but {error}.", file=sys.stderr)
        return 1
    port = urlsplit(stack["aws_endpoint_url"]).port or 80
    env_vars = arguments.home / "sam-env.json"
    env_vars.write_text(json.dumps(variables(stack, f"http://{gateway}:{port}"), indent=2) + "\n")
    store_sample(stack, renew="WorkerFunction" in rest)
    command = [str(SAM), "local", *rest, "--env-vars", str(env_vars), "--region", stack["region"]]
    environment = os.environ | {
        "DOCKER_HOST": engine.host,
        "AWS_ACCESS_KEY_ID": ACCOUNT_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "SAM_CLI_TELEMETRY": "0",
    }
    return asyncio.run(run(command, environment, gateway, port))


if __name__ == "__main__":
    sys.exit(main())
