"""Codecs and the ladder: processor time, bytes, likeness (VMAF) and cost of a minute, in parts and by FFmpeg.

VMAF compares a rendition with the source scaled to its size, by libvmaf's default model.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks import costs, quality, s3, sources
from benchmarks.parts import Bench
from benchmarks.schedule import Steps, critical_path
from benchmarks.sources import TOOLS, Sizes
from local.stack import Stack
from transcoding.media.planning.ladder import ADAPTIVE

_720P = 3
#: The quality and the codecs that are asked for, and whether thumbnails are, by what the table calls them.
_ORDERS = {
    "720p, h264": (_720P, "h264", False),
    "the same with thumbnails": (_720P, "h264", True),
    "720p, hevc": (_720P, "hevc", False),
    "720p, av1": (_720P, "av1", False),
    "adaptive, h264": (ADAPTIVE, "h264", False),
    "the same with thumbnails (the default)": (ADAPTIVE, "h264", True),
    "adaptive, av1": (ADAPTIVE, "av1", False),
    "adaptive, h264 and av1": (ADAPTIVE, "h264,av1", False),
}
#: With so many workers, the time of a task is computed.
_WORKERS = (2, 5, 10)
#: Frames a second of the film.
_RATE = 24


def measure(stack: Stack, home: Path, sizes: Sizes) -> list[dict[str, Any]]:
    """Return a row for each order of the same film."""
    film = sources.excerpt(sources.film(sizes.film), sizes.renditions)
    rows = []
    with s3.in_front_of(stack["aws_endpoint_url"], home / "state" / "s3") as url:
        bench = Bench(stack, home, url)
        start = {"wall": bench.started().wall}
        for name, (asked, codecs, thumbnails) in _ORDERS.items():
            made = bench.compare(film, asked, codecs, thumbnails=thumbnails)
            # A viewer loads one rendition, at the most the largest, and the sound.
            sound = made["output"]["bytes"] - sum(made["playlists"].values())
            watched = {"bytes": max(made["playlists"].values()) + sound, "objects": sizes.renditions // 3}
            described = {"seconds": sizes.renditions, "parameters": bench.parameters, "start": start}
            priced = costs.measure(described | made | {"output": watched})
            likeness = {playlist.split("/")[-2]: vmaf(playlist, film) for playlist in made["playlists"]}
            row = {
                "name": name,
                "minutes": sizes.renditions / 60,
                "cpu": made["cpu"],
                # Of one worker's task, choosing the CRF is not told apart.
                "choosing_cpu": sum(step["cpu"] for step in made["steps"] if step["kind"] == "plan")
                if len(made["steps"]) > 1
                else None,
                "plain_cpu": made["plain"]["cpu"],
                "ratio": made["ratio"],
                "speedups": _speedups(made | {"start": start}),
                "frames": made["frames"],
                "bytes": made["output"]["bytes"],
                "watched_bytes": watched["bytes"],
                "vmaf": likeness,
                "making": costs.total(priced["making"]),
                "watching": costs.total(priced["watching"]),
            }
            print(f"  {row}", flush=True)
            rows.append(row)
    return rows


def _speedups(film: dict[str, Any]) -> dict[int, float]:
    """Return by the number of workers how many times as fast as FFmpeg alone they are, when all are warm."""
    if len(film["steps"]) == 1:
        return {}
    steps = Steps.measured(film)
    ends = {workers: critical_path(steps, workers, warm=True).end for workers in _WORKERS}
    return {workers: film["plain"]["wall"] / end for workers, end in ends.items()}


def vmaf(result: str, source: Path) -> dict[str, float]:
    """Return the mean VMAF of a result, a path or a URL, and that of its worst second."""
    show = ["-show_entries", "stream=width,height", "-of", "csv=p=0:s=x"]
    size = subprocess.run(
        [str(TOOLS.ffprobe), "-v", "error", *show, result], capture_output=True, text=True, check=True
    ).stdout.split()[0]
    width, height = map(int, size.split("x"))
    frames = quality.vmaf(result, source, width, height, sources.FOLDER, step=1)
    seconds = [frames[n : n + _RATE] for n in range(0, len(frames), _RATE)]
    return {"mean": fmean(frames), "worst": min(map(fmean, seconds))}
