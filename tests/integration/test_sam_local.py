"""`sam build` and `sam local`: the functions as they are deployed, in containers, on the stack's data."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.build import BUILD, SAM
from local.engine import Engine, EngineError
from local.package import ROOT
from local.stack import Stack
from tests.integration.inside import answered


def _why_not() -> str:
    """Tell what is missing here; empty when nothing is."""
    if not SAM.exists():
        return f"there is no {SAM.relative_to(ROOT)}: `make test` installs it"
    try:
        Engine.find().gateway()
    except EngineError as error:
        return str(error)
    return ""


WHY_NOT = _why_not()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=f"`sam local` cannot run: {WHY_NOT}")


@pytest.fixture(scope="module")
def built() -> Path:
    """Build everything that `sam deploy` uploads, as `make build` does."""
    done = subprocess.run(
        [sys.executable, "-m", "local.build"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return BUILD


@pytest.fixture(scope="module")
def api_url(built: Path, stack: Stack, stack_home: Path) -> Iterator[str]:
    """Serve the API by `sam local start-api`, as `make start-api` does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = stack_home / "start-api.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "local.sam_env", "--home", stack_home, "start-api", "--port", str(port)],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 90
        while "Running on" not in (text := log.read_text()):
            assert process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/transcoding/api"
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _call(url: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
    return answered(urllib.request.Request(url, body and json.dumps(body).encode()))


def test_sam_build_makes_every_function_and_both_layers(built: Path) -> None:
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda *_: None)
    resources = yaml.load((built / "template.yaml").read_text(), Loader)["Resources"]
    functions = {
        name: resource["Properties"]
        for name, resource in resources.items()
        if resource["Type"] == "AWS::Serverless::Function"
    }
    assert functions.pop("WorkerFunction")["ImageUri"] == "workerfunction:worker"
    assert len(functions) == 7
    for properties in functions.values():
        code = built / properties["CodeUri"]
        assert (code / f"{properties['Handler'].removesuffix('.handler')}.py").is_file()
        # Compiled, and for any processor.
        assert list(code.glob("transcoding/__pycache__/__init__.cpython-313.pyc"))
        assert not list(code.rglob("*.so"))
    for layer in ("FfmpegLayerX8664", "FfmpegLayerArm64"):
        programs = [built / layer / "bin" / name for name in ("ffmpeg", "ffprobe")]
        assert all(os.access(program, os.X_OK) for program in programs)


def test_start_api_serves_the_five_calls(api_url: str, stack: Stack) -> None:
    source = f"s3://{stack['source_bucket']}/no-such-object.mp4"
    status, created = _call(f"{api_url}/create-transcode", {"origin_url": source})
    assert (status, created["errcode"]) == (200, 1000)
    id_ = created["id"]
    status, shown = _call(f"{api_url}/get-transcode?id={id_}")
    assert (status, shown["transcoding"]["origin_url"]) == (200, source)
    status, listed = _call(f"{api_url}/get-transcodes?limit=100")
    assert status == 200
    assert id_ in {task["id"] for task in listed["results"]}
    assert _call(f"{api_url}/delete-transcode", {"id": id_}) == (200, {"errcode": 1000, "msg": "OK"})
    assert _call(f"{api_url}/delete-transcodes", {"ids": id_}) == (200, {"errcode": 1000, "msg": "OK"})
    assert _call(f"{api_url}/get-transcode?id={id_}")[1]["transcoding"]["status"] == 4
    assert _call(f"{api_url}/get-transcode?id=")[1]["errcode"] == 1400


def test_invoke_transcodes_in_the_worker_image(built: Path, stack_home: Path, api: Any) -> None:
    command = [sys.executable, "-m", "local.sam_env", "--home", stack_home, "invoke", "WorkerFunction"]
    done = subprocess.run(
        [*command, "--event", "events/worker.json"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().splitlines()[-1] == '{"batchItemFailures": []}', done.stderr
    status, answer = api("GET", "get-transcode", {"id": "17lok52y"})
    assert status == 200
    task = answer["transcoding"]
    assert (task["status"], task["progress"]) == (2, 1.0), done.stderr
    with urllib.request.urlopen(task["target_url"], timeout=10) as playlist:
        assert playlist.read().startswith(b"#EXTM3U")
