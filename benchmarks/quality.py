"""What a constant rate factor chosen for each source saves, what that costs, and whether the quality is hit.

The clips are the video files in the folder that the variable QUALITY_CLIPS names, else the footage at hand.
Shorter ones are repeated until they last `_LENGTH` seconds, as nothing is measured of a source that is short.
Each is encoded by the codec's constant rate factor and by the chosen one. VMAF (libvmaf's default model) is
between what the encoder takes and what a player decodes, so at the rendition's own size, over the clip once;
a second's is the mean of its frames.
"""

from __future__ import annotations

import csv
import os
import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks import sources
from benchmarks.sources import TOOLS
from transcoding.media.encoding import command
from transcoding.media.inspection.facts import SourceFacts
from transcoding.media.inspection.probe import probe
from transcoding.media.planning.formats import FORMATS
from transcoding.media.planning.ladder import SHORT_SIDE
from transcoding.media.planning.plan import Plan, plan
from transcoding.pipeline.quality import QualityChooser

#: The length that clips have at least, seconds.
_LENGTH = 60
#: One frame of so many is compared.
_COMPARED = 3
_SUFFIXES = frozenset({".mp4", ".mkv", ".mov", ".webm"})
#: The seconds that a preparation has; more than any takes here.
_PATIENCE = 300.0


def measure(folder: Path) -> list[dict[str, Any]]:
    """Return a row for each clip and quality that it is as large as."""
    rows = []
    for clip in clips():
        facts = probe(TOOLS, str(clip), clip.stat().st_size)
        if facts.video is None or not facts.duration:
            continue
        once = facts.duration
        if once < _LENGTH:
            clip = sources.repeated(clip, _LENGTH)  # noqa: PLW2901 - the same clip, longer
            facts = probe(TOOLS, str(clip), clip.stat().st_size)
        sizes = set()
        for quality in (quality for quality, side in SHORT_SIDE.items() if side):
            planned = plan(facts, FORMATS["mp4"], quality, may_copy=False)
            picture = planned.pictures[0]
            if (picture.width, picture.height) not in sizes:
                sizes.add((picture.width, picture.height))
                rows.append({"clip": clip.stem, **compared(clip, facts, planned, min(once, _LENGTH), folder)})
                print(f"  {rows[-1]}", flush=True)
    return rows


def clips() -> list[Path]:
    """Return the clips to measure."""
    named = os.environ.get("QUALITY_CLIPS")
    found = sorted(Path(named).iterdir()) if named else [sources.footage()]
    return [clip for clip in found if clip.suffix in _SUFFIXES]


def compared(clip: Path, facts: SourceFacts, planned: Plan, seconds: float, folder: Path) -> dict[str, Any]:
    """Encode a clip both ways; compare its first seconds with the source."""
    picture = planned.pictures[0]
    before, started = _cpu(), time.monotonic()
    deadline = started + _PATIENCE
    choice = (
        QualityChooser(TOOLS).choices(facts, planned, str(clip), _ignore, 0.0, deadline).get(picture.name)
    )
    probing, waited = _cpu() - before, time.monotonic() - started
    row: dict[str, Any] = {"codec": picture.codec.name, "side": min(picture.width, picture.height)}
    ways = {"constant": picture, "chosen": replace(picture, crf=choice.crf) if choice else picture}
    for name, way in ways.items():
        result = folder / f"{name}.mp4"
        before = _cpu()
        _run(command.whole(TOOLS, replace(planned, pictures=(way,), sound=None, texts=()), str(clip), folder))
        encoding = _cpu() - before
        (folder / planned.format.target).rename(result)
        frames = vmaf(result, clip, way.width, way.height, seconds, folder)
        second = max(1, round(way.facts.frame_rate / _COMPARED))
        row[name] = {
            "crf": way.crf,
            "mean": fmean(frames),
            "worst": min(fmean(frames[at : at + second]) for at in range(0, len(frames), second)),
            "bytes": result.stat().st_size,
            "cpu": encoding,
        }
    row["expected_bit_rate"] = choice.bit_rate if choice else None
    row["bit_rate"] = 8 * row["chosen"]["bytes"] / (facts.duration or 1)
    row["probing"] = {"cpu": probing, "wall": waited, "share": probing / (probing + row["chosen"]["cpu"])}
    return row


def vmaf(result: Path, source: Path, width: int, height: int, seconds: float, folder: Path) -> list[float]:
    """Return the VMAF of frames of the first seconds of a result, one of `_COMPARED`."""
    log = folder / "vmaf.csv"
    same = f"trim=duration={seconds},settb=AVTB,setpts=N,format=yuv420p"
    scaled = f"scale={width}:{height}:flags=bicubic:out_range=tv,setsar=1,{same}"
    comparing = f"[0:v]{same}[made];[1:v]{scaled}[meant];[made][meant]libvmaf=n_threads=2"
    comparing += f":n_subsample={_COMPARED}:log_fmt=csv:log_path={log}"
    inputs = ["-i", str(result), "-i", str(source)]
    _run([str(TOOLS.ffmpeg), "-v", "error", *inputs, "-lavfi", comparing, "-f", "null", "-"])
    with log.open(newline="") as file:
        return [float(row["vmaf"]) for row in csv.DictReader(file)]


def _run(arguments: Sequence[str]) -> None:
    subprocess.run(arguments, stdout=subprocess.DEVNULL, check=True)


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _ignore(progress: float) -> None:
    pass
