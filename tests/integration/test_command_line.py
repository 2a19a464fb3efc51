"""The command `transcoding`, as it is installed, on the running service."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import urlopen

import httpx
import pytest
from typer.testing import CliRunner

from local.package import FFMPEG_DIR
from local.stack import Stack
from tests.integration.inside import until
from transcoding_client import Client
from transcoding_client.cli import main

PROGRAM = Path(sys.executable).with_name("transcoding")


@pytest.fixture(scope="module")
def home(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder inside one that has the stack's file, and a user's home of its own."""
    home = tmp_path_factory.mktemp("home")
    (home / ".local").mkdir()
    (home / ".local" / "stack.json").write_text(json.dumps(stack))
    (home / "films").mkdir()
    return home / "films"


@pytest.fixture(scope="module")
def start(home: Path) -> Callable[..., subprocess.Popen[str]]:
    def start(*arguments: str, **variables: str) -> subprocess.Popen[str]:
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), **variables}
        return subprocess.Popen(
            [PROGRAM, *arguments],
            cwd=home,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture(scope="module")
def run(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., tuple[int, str, str]]:
    """Run the command; gives its exit code, stdout and stderr."""

    def run(*arguments: str, **variables: str) -> tuple[int, str, str]:
        process = start(*arguments, **variables)
        out, err = process.communicate(timeout=120)
        assert "Traceback" not in err
        return process.returncode, out, err

    return run


def _compare(result: Path, source: Path) -> tuple[int, float]:
    """The number of frames of a result, and how like the source's they are (SSIM)."""
    command = [str(FFMPEG_DIR / "ffmpeg"), "-nostdin", "-v", "info", "-i", str(result), "-i", str(source)]
    graph = "[1:v]scale=640:360[s];[0:v][s]ssim=shortest=1"
    done = subprocess.run(
        [*command, "-lavfi", graph, "-f", "null", "-"], capture_output=True, text=True, check=True
    )
    return int(re.findall(r"frame= *(\d+)", done.stderr)[-1]), float(
        re.findall(r"All:([\d.]+)", done.stderr)[-1]
    )


def test_a_clip_is_put_listed_shown_and_removed(
    run: Callable[..., tuple[int, str, str]], stack: Stack, make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    clip = make_clip("我的 clip.mp4", size="1280x720", seconds=2)
    code, url, err = run("put", str(clip), "--quality", "360p", "--format", "mp4", "--wait")
    assert (code, url.count("\n")) == (0, 1), err
    result = tmp_path / "result.mp4"
    with urlopen(url.strip(), timeout=60) as response:
        result.write_bytes(response.read())
    frames, likeness = _compare(result, clip)
    assert frames == 50
    assert likeness > 0.95

    code, listed, _ = run("list", "--json")
    newest = json.loads(listed)["results"][0]
    assert (code, newest["status"], newest["target_url"]) == (0, 2, url.strip())
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    code, place, _ = run("open", newest["id"], BROWSER=f"{browser} %s")
    console = stack["console_url"]
    assert (code, place.strip()) == (0, f"{console}#/tasks/{newest['id']}")
    opened = (tmp_path / "opened").read_text().strip()
    assert opened == f"{console}#key={quote(stack['api_key'], safe='')}&/tasks/{newest['id']}"
    assert run("rm", newest["id"]) == (0, "", "")
    # It is known for a while, and nothing plays.
    code, out, err = run("open", newest["id"], "--result")
    assert (code, out) == (1, "")
    assert "deleted" in err
    with pytest.raises(HTTPError):
        urlopen(url.strip(), timeout=60)


class _Network(httpx.HTTPTransport):
    """The network; breaks wherever the parts of these numbers are sent, when the two others are there."""

    def __init__(self, broken: set[int]) -> None:
        super().__init__()
        self.broken = broken
        self.sent: list[int] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        number = int(request.url.params.get("partNumber", 0))
        if number in self.broken:
            until(lambda: len(self.sent) == 2)
            raise httpx.WriteError("Connection reset by peer")
        response = super().handle_request(request)
        if number:
            self.sent.append(number)
        return response


def test_an_upload_that_is_broken_off_goes_on(
    home: Path,
    stack: Stack,
    s3: Any,
    three_parts: Path,
    run: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr("transcoding_client.uploads.seconds_before", lambda *_: 0)
    network = _Network({2})
    monkeypatch.setattr(main, "Client", partial(Client, transport=network))
    broken = CliRunner().invoke(main.app, ["put", str(three_parts)])
    assert (broken.exit_code, broken.stdout) == (4, "")
    assert "the same command goes on with it" in broken.stderr
    assert sorted(network.sent) == [1, 3]
    network.broken, network.sent = set(), []
    done = CliRunner().invoke(main.app, ["put", str(three_parts), "--json"])
    assert done.exit_code == 0, done.stderr
    assert network.sent == [2]
    _, shown, _ = run("show", json.loads(done.stdout)["id"], "--json")
    url = urlsplit(json.loads(shown)["origin_url"])
    assert url.netloc == stack["upload_bucket"]
    assert s3.get_object(Bucket=url.netloc, Key=url.path[1:])["Body"].read() == three_parts.read_bytes()


def test_ctrl_c_leaves_and_the_same_command_goes_on(
    start: Callable[..., subprocess.Popen[str]],
    run: Callable[..., tuple[int, str, str]],
    three_parts: Path,
) -> None:
    process = start("put", str(three_parts), "--format", "mp4")
    assert process.stderr is not None
    assert "uploading" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    # Where it was quicker than the signal, it is done.
    assert (process.returncode, out) == (130, "") or process.returncode == 0, err
    assert "Traceback" not in err
    code, out, err = run("put", str(three_parts), "--format", "mp4")
    assert (code, len(out.strip())) == (0, 8), err


def test_what_is_wrong_is_told_by_exit_codes(run: Callable[..., tuple[int, str, str]], stack: Stack) -> None:
    code, out, err = run("list", "--json", TRANSCODING_API_URL=stack["api_url"], TRANSCODING_API_KEY="wrong")
    assert (code, out) == (3, "")
    assert "API key" in err
    code, out, err = run("list", TRANSCODING_API_URL="http://127.0.0.1:9/", TRANSCODING_API_KEY="any")
    assert (code, out) == (4, "")
    assert "does not answer" in err
    source = f"s3://{stack['source_bucket']}/none.mp4"
    code, out, err = run("create", source, "--wait")
    assert (code, out) == (1, "")
    assert f"There is no {source}" in err
