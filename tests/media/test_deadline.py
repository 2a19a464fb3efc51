"""A source that takes long to be read ends the task in time, with words for it, not the worker."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.media.conftest import TOOLS
from transcoding.data.object_store import ObjectStore
from transcoding.errors import Failure, OutOfTimeError, TaskFailedError
from transcoding.media.ffmpeg.tools import Tools
from transcoding.media.inspection import probe
from transcoding.model import Task
from transcoding.pipeline import source
from transcoding.pipeline.fetch import HttpSource
from transcoding.pipeline.transcoder import Prepared, Transcoder

H264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"
#: What a slow program takes, seconds: far longer than the time there is.
SLOW = 20


@pytest.fixture
def clip(clips) -> Path:
    # To be copied into segments, so that its keyframes are asked for.
    return clips("film.mp4", f"-f lavfi -i testsrc2=s=320x180:r=25:d=2 {H264} {{0}}")


@pytest.fixture
def prepare(s3: Any, clip: Path) -> Callable[..., Prepared]:
    """Prepare a task whose worker has so many seconds."""
    s3.put_object(Bucket="source", Key=clip.name, Body=clip.read_bytes())

    def run(seconds: float, tools: Tools = TOOLS, url: str = f"s3://source/{clip.name}") -> Prepared:
        now = datetime.now(UTC)
        deadline = time.monotonic() + seconds

        def report(progress: float) -> None:
            if time.monotonic() > deadline:
                raise OutOfTimeError

        transcoder = Transcoder(
            ObjectStore("output"),
            tools,
            max_source_bytes=10**9,
            part_seconds=1e9,
            fan_out_seconds=1e9,
            workers=1,
            fetch=partial(HttpSource, is_allowed=lambda address: True),
        )
        task = Task("slowtask", url, 1, "m3u8", now, now, attempt=1)
        return transcoder.prepare(task, report, deadline)

    return run


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A program that takes long."""
    script = tmp_path / "slow"
    script.write_text(f"#!/bin/sh\nexec sleep {SLOW}\n")
    script.chmod(0o755)
    return script


def test_what_is_looked_at_ends_at_the_deadline(prepare, slow):
    started = time.monotonic()
    with pytest.raises(TaskFailedError, match="within 1 s") as failure:
        prepare(1, Tools(TOOLS.ffmpeg, slow))
    assert failure.value.code is Failure.SOURCE_TIMED_OUT
    assert time.monotonic() - started < SLOW / 2


def test_the_index_is_read_until_the_deadline(prepare, slow, monkeypatch):
    monkeypatch.setattr(probe.sys, "executable", str(slow))
    started = time.monotonic()
    with pytest.raises(OutOfTimeError):
        prepare(2)
    assert time.monotonic() - started < SLOW / 2


def test_nothing_is_looked_at_when_the_time_is_over(prepare, slow):
    with pytest.raises(OutOfTimeError):
        prepare(-1, Tools(slow, slow))


def test_in_time_all_is_known(prepare):
    assert prepare(60).source.facts.keyframes


class Dripping(BaseHTTPRequestHandler):
    """Sends a film, and its last bytes after so many seconds."""

    film = b""
    pause = 0.0

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.film)))
        self.end_headers()
        self.wfile.write(self.film[:-10])
        self.wfile.flush()
        time.sleep(self.pause)
        self.wfile.write(self.film[-10:])


@pytest.mark.parametrize(("pause", "seconds", "is_in_time"), [(0.5, 40, True), (8, 11, False)])
def test_a_copied_source_leaves_time_to_look_at_it(prepare, clip, monkeypatch, pause, seconds, is_in_time):
    monkeypatch.setattr(source, "_INSPECTION", 10)
    handler = type("Handler", (Dripping,), {"film": clip.read_bytes(), "pause": pause})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/film.mp4"
        started = time.monotonic()
        if is_in_time:
            assert prepare(seconds, url=url).source.facts.keyframes
        else:
            with pytest.raises(TaskFailedError, match="too slow") as failure:
                prepare(seconds, url=url)
            assert failure.value.code is Failure.SOURCE_TIMED_OUT
            assert time.monotonic() - started < pause
        server.shutdown()
