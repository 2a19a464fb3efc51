"""What a constant rate factor chosen for each source saves, what it costs, and whether the quality is hit.

The clips are the video files in the folder that the variable QUALITY_CLIPS names, else the footage at hand;
QUALITY_CODECS names the codecs.
Each clip is encoded by the codec's constant rate factor and by the one that is chosen for it, as a task's
preparation chooses it; the processor time of that is compared with that of encoding. VMAF (libvmaf's default
model) is between what the encoder takes and what a player decodes, so at the rendition's own size; a second's
is the mean of its frames.
"""

from __future__ import annotations

import csv
import os
import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks import sources
from benchmarks.sources import TOOLS
from transcoding.media.encoding import command
from transcoding.media.inspection.probe import probe, with_keyframes
from transcoding.media.planning.codecs import Choice
from transcoding.media.planning.formats import FORMATS
from transcoding.media.planning.ladder import SHORT_SIDE
from transcoding.media.planning.plan import Plan, plan
from transcoding.media.planning.quality import needs_keyframes
from transcoding.pipeline.quality import QualityChooser

#: One frame of so many is compared.
_COMPARED = 3
_SUFFIXES = frozenset({".mp4", ".mkv", ".mov", ".webm"})
#: The seconds that a preparation has; more than any takes here.
_PATIENCE = 300.0


def measure(folder: Path) -> list[dict[str, Any]]:
    """Return a row for each codec, clip and quality that it is as large as."""
    rows = []
    for codec, clip in product(os.environ.get("QUALITY_CODECS", "h264,hevc,av1").split(","), clips()):
        facts = probe(TOOLS, str(clip), clip.stat().st_size)
        if facts.video is None or not facts.duration:
            continue
        sizes = set()
        for quality in (quality for quality, side in SHORT_SIDE.items() if side):
            planned = plan(facts, FORMATS["mp4"], quality, codecs=codec, may_copy=False)
            size = (planned.pictures[0].width, planned.pictures[0].height)
            if size not in sizes:
                sizes.add(size)
                rows.append({"clip": clip.stem, **compared(clip, planned, facts.duration, quality, folder)})
                print(f"  {rows[-1]}", flush=True)
    return rows


def clips() -> list[Path]:
    """Return the clips to measure."""
    named = os.environ.get("QUALITY_CLIPS")
    found = sorted(Path(named).iterdir()) if named else [sources.footage()]
    return [clip for clip in found if clip.suffix in _SUFFIXES]


def compared(clip: Path, planned: Plan, seconds: float, quality: int, folder: Path) -> dict[str, Any]:
    """Encode a clip of so many seconds both ways, and compare the results with it."""
    picture = planned.pictures[0]
    choice, probing = chosen(clip, quality, picture.codec.name)
    row: dict[str, Any] = {"codec": picture.codec.name, "side": min(picture.width, picture.height)}
    ways = {"constant": picture, "chosen": replace(picture, crf=choice.crf) if choice else picture}
    for name, way in ways.items():
        result = folder / f"{name}.mp4"
        before = _cpu()
        _run(command.whole(TOOLS, replace(planned, pictures=(way,), sound=None, texts=()), str(clip), folder))
        encoding = _cpu() - before
        (folder / planned.format.target).rename(result)
        frames = vmaf(result, clip, way.width, way.height, folder)
        second = max(1, round(way.facts.frame_rate / _COMPARED))
        row[name] = {
            "crf": way.crf,
            "mean": fmean(frames),
            "worst": min(fmean(frames[at : at + second]) for at in range(0, len(frames), second)),
            "bit_rate": 8 * result.stat().st_size / seconds,
            "cpu": encoding,
        }
    row["expected_bit_rate"] = choice.bit_rate if choice else None
    row["samples"] = {"cpu": probing, "share": probing / (probing + row["chosen"]["cpu"])}
    return row


def chosen(clip: Path, quality: int, codec: str) -> tuple[Choice | None, float]:
    """Return the choice for a clip, None where it is too short, and its processor time in seconds."""
    facts = probe(TOOLS, str(clip), clip.stat().st_size)
    planned = plan(facts, FORMATS["mp4"], quality, codecs=codec, may_copy=False)
    before, deadline = _cpu(), time.monotonic() + _PATIENCE
    if needs_keyframes(facts, planned):
        facts = with_keyframes(facts, str(clip))
    choices = QualityChooser(TOOLS).choices(facts, planned, str(clip), _ignore, 0.0, deadline)
    return choices.get(planned.pictures[0].name), _cpu() - before


def vmaf(
    result: Path | str, source: Path, width: int, height: int, folder: Path, step: int = _COMPARED
) -> list[float]:
    """Return the VMAF of the frames of a result, a path or a URL, of one in `step`."""
    log = folder / "vmaf.csv"
    scaled = f"scale={width}:{height}:flags=bicubic:out_range=tv,setsar=1,{sources.COMPARABLE}"
    comparing = f"[0:v]{sources.COMPARABLE}[made];[1:v]{scaled}[meant];[made][meant]libvmaf=n_threads=2"
    comparing += f":n_subsample={step}:log_fmt=csv:log_path={log}"
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
