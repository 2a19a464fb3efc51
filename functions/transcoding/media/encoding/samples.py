"""Encodes samples of a source, and compares them with it."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from transcoding.media.encoding import command
from transcoding.media.ffmpeg import process
from transcoding.media.ffmpeg.process import Encoder
from transcoding.media.ffmpeg.tools import Tools
from transcoding.media.planning.plan import Plan
from transcoding.media.planning.quality import Measured, Sample, Scored, measure, score

#: Seconds between two checks whether FFmpeg has ended.
_POLL = 0.1
#: The memory that a sample takes for each pixel of all its renditions, bytes: x264 and x265 took 200 each at
#: 1080p and 2160p, SVT-AV1 300.
_PIXEL_MEMORY = 300


def measured(
    tools: Tools,
    plan: Plan,
    crfs: Mapping[str, float],
    samples: Sequence[Sample],
    url: str,
    folder: Path,
    watch: Callable[[], None],
) -> dict[str, Measured]:
    """Return what samples of the source at `url` show of the renditions in `crfs`, by their names.

    `crfs` are the constant rate factors to encode them with, `folder` is an empty one for temporary files.
    Samples that cannot be encoded or compared are left out, and so are renditions with too few of them.
    Raises OSError where no sample can be encoded, and what `watch` raises, which is called meanwhile.
    """
    scores: dict[str, list[Scored]] = {name: [] for name in crfs}
    waiting, runs, errors = list(enumerate(samples)), dict[int, Encoder](), ""
    pixels = sum(picture.width * picture.height for picture in plan.pictures if picture.name in crfs)
    # As many side by side as there are processors, as each of them has one thread, and room for them.
    room = process.encoding_limits().memory // (_PIXEL_MEMORY * pixels)
    abreast = max(1, min(os.cpu_count() or 1, room))
    try:
        while waiting or runs:
            while waiting and len(runs) < abreast:
                number, sample = waiting.pop(0)
                place = folder / str(number)
                for name in crfs:
                    (place / name).mkdir(parents=True)
                runs[number] = Encoder(command.sample(tools, plan, crfs, sample, url, place))
            for number in [number for number, run in runs.items() if run.wait(0) is not None]:
                run = runs.pop(number)
                run.stop()
                errors = run.errors if run.wait(0) else errors
                for name in crfs:
                    scores[name] += _scores(folder / str(number) / name, plan)
            watch()
            time.sleep(_POLL)
    finally:
        for run in runs.values():
            run.stop()
    if not any(scores.values()):
        raise OSError(f"no sample could be encoded: {errors}")
    found = {name: measure(crfs[name], scores[name], len(samples)) for name in crfs}
    return {name: one for name, one in found.items() if one}


def _scores(folder: Path, plan: Plan) -> list[Scored]:
    """Return the score of a rendition of a sample; none where it has failed or is too short."""
    try:
        with (folder / command.SCORES).open(newline="") as file:
            vmaf = [float(row["vmaf"]) for row in csv.DictReader(file)]
        sizes = [int(size) for size in (folder / command.SIZES).read_text().split()]
        return [score(vmaf, sizes, float(plan.pictures[0].rate))]
    except (OSError, KeyError, ValueError):
        return []
