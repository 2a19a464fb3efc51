"""Tasks through the whole service beside one FFmpeg process with the same settings on local files."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from local import demo
from local.deploy import client
from local.package import FFMPEG_DIR
from local.stack import Stack
from transcoding.media import command
from transcoding.media.formats import FORMATS
from transcoding.media.plan import needs_keyframes, plan
from transcoding.media.probe import probe, with_keyframes
from transcoding.media.tools import Tools

Comparison = tuple[str, str, Callable[[], float], Callable[[], float]]

_POLL = 0.1
_TOOLS = Tools.within(FFMPEG_DIR)


def comparisons(stack: Stack, home: Path) -> Iterator[Comparison]:
    """Wall clock from create-transcode to status 2, against FFmpeg alone."""
    clip = home / "clip.mp4"
    _make(clip)
    client("s3", stack["aws_endpoint_url"]).upload_file(str(clip), stack["source_bucket"], clip.name)
    url = f"s3://{stack['source_bucket']}/{clip.name}"
    for name, target, quality in (
        ("60 s of 720p to 480p m3u8, create to success", "m3u8", 2),
        ("60 s of 720p to 480p mp4, create to success", "mp4", 2),
        ("60 s of 720p copied to mp4, create to success", "mp4", 5),
    ):
        yield (
            name,
            "s",
            partial(_task, stack, url, target, quality),
            partial(_plain, clip, home, target, quality),
        )


def _make(clip: Path) -> None:
    """Make a minute with motion everywhere, that fits to be copied."""
    subprocess.run(
        [
            *(str(_TOOLS.ffmpeg), "-nostdin", "-v", "error", "-y"),
            *("-f", "lavfi", "-i", "mandelbrot=s=1280x720:r=25,trim=duration=60"),
            *("-f", "lavfi", "-i", "sine=frequency=220:beep_factor=4:sample_rate=48000:duration=60"),
            *("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-g", "50"),
            *("-b:v", "4M", "-maxrate", "4500k", "-bufsize", "9M"),
            *("-c:a", "aac", "-b:a", "120k", "-ac", "2", "-movflags", "+faststart", str(clip)),
        ],
        check=True,
    )


def _task(stack: Stack, url: str, target: str, quality: int) -> float:
    started = time.perf_counter()
    parameters = {"origin_url": url, "format": target, "task_config_temp_id": quality}
    answer = demo.call(stack, "POST", "create-transcode", parameters)
    while True:
        task = demo.call(stack, "GET", "get-transcode", {"id": answer["id"]})["transcoding"]
        if task["status"] in {2, 3, 4}:
            break
        time.sleep(_POLL)
    taken = time.perf_counter() - started
    assert task["status"] == 2, task
    return taken


def _plain(clip: Path, home: Path, target: str, quality: int) -> float:
    folder = home / "plain"
    for stream in ("video", "audio"):
        (folder / stream).mkdir(parents=True, exist_ok=True)
    source = probe(_TOOLS, str(clip), clip.stat().st_size)
    if needs_keyframes(source, FORMATS[target], quality):
        source = with_keyframes(source, str(clip))
    encoding = command.whole(_TOOLS, plan(source, FORMATS[target], quality), str(clip), folder)
    started = time.perf_counter()
    subprocess.run(encoding, check=True, capture_output=True)
    return time.perf_counter() - started
