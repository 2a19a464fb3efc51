"""Tasks of the whole service beside one FFmpeg process with the same settings on local files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks import sources
from benchmarks.parts import plain
from local import demo
from local.deploy import client
from local.stack import Stack

Comparison = tuple[str, str, Callable[[], float], Callable[[], float]]

#: Seconds between two polls of a task, and until the benchmark gives it up.
_POLL, _PATIENCE = 0.1, 3600.0


def comparisons(stack: Stack, home: Path) -> Iterator[Comparison]:
    """Yield the comparisons: wall clock from create-transcode to status 2, and of FFmpeg alone."""
    for name, source, target, quality in (
        ("60 s of 720p to 480p m3u8, create to success", sources.clip(), "m3u8", 2),
        ("60 s of 720p to 480p mp4, create to success", sources.clip(), "mp4", 2),
        ("60 s of 720p copied to mp4, create to success", sources.clip(), "mp4", 5),
        # There is next to nothing to transcode: this is the time of the emulator and of the probes.
        ("1 s of 720p copied to mp4, create to success: what is fixed", sources.second(), "mp4", 5),
    ):
        url = upload(stack, source)
        yield (
            name,
            "s",
            partial(_task, stack, url, target, quality),
            partial(_plain, source, home, target, quality),
        )


def upload(stack: Stack, source: Path) -> str:
    """Upload a source to the stack's bucket and return its URL."""
    client("s3", stack["aws_endpoint_url"]).upload_file(str(source), stack["source_bucket"], source.name)
    return f"s3://{stack['source_bucket']}/{source.name}"


def transcode(stack: Stack, url: str, target: str, quality: int) -> tuple[str, float]:
    """Transcode a source. Return the task's id, and the seconds from create-transcode to success."""
    started = time.perf_counter()
    parameters = {"origin_url": url, "format": target, "task_config_temp_id": quality}
    answer = demo.call(stack, "POST", "create-transcode", parameters)
    while time.perf_counter() < started + _PATIENCE:
        task = demo.call(stack, "GET", "get-transcode", {"id": answer["id"]})["transcoding"]
        if task["status"] in {2, 3, 4}:
            break
        time.sleep(_POLL)
    taken = time.perf_counter() - started
    assert task["status"] == 2, task
    return task["id"], taken


def _task(stack: Stack, url: str, target: str, quality: int) -> float:
    return transcode(stack, url, target, quality)[1]


def _plain(source: Path, home: Path, target: str, quality: int) -> float:
    spent, _ = plain(source, home, target, quality)
    return spent.wall
