"""Whether decoding can begin in the middle of a picture: whether its frames are then those of one pass.

No index tells it. What only the beginning of a stream says may change every later frame: x264 before build
151 coded 4:4:4 in a way of its own, and says its build in the first frame alone; parameter sets may be sent
once; what is called a keyframe may be none. So frames are decoded both ways, and compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Set
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from transcoding.media.ffmpeg.process import Encoder, program
from transcoding.media.ffmpeg.tools import Tools, complaints, input_options
from transcoding.media.inspection.facts import EntryPoint, SourceFacts, VideoFacts
from transcoding.media.inspection.probe import MAX_PIXELS

#: Which entry point is tried first: FFmpeg may seek to the keyframe before the one that is sought, and this
#: is the first that surely does not lead to the beginning.
_TRIED = 2
#: Where it is tried again if the picture stands still there, as in the black that films begin with, and how
#: far it is at most worth decoding to get to a point, seconds from the first frame.
_TRIED_AGAIN, _FARTHEST = 20.0, 60.0
#: How many frames are compared.
_FRAMES = 24
#: Seconds between two looks at FFmpeg.
_POLL = 0.1

#: What is called again and again while frames are decoded; raises to end it.
Watch = Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Decoded:
    """The digests of frames, by the ticks of their times, and the kinds of FFmpeg's messages."""

    frames: dict[int, str]
    kinds: set[str]


def reading(url: str, video: VideoFacts, point: EntryPoint | None) -> list[str]:
    """Return FFmpeg's options to read the source at `url` from a point on; None: from its beginning.

    Times stay those of the container, in which points are told.
    """
    options = ["-copyts"]
    if point:
        seek = math.ceil(point.seek * video.time_base * 1_000_000)
        options += ["-seek_timestamp", "1", "-noaccurate_seek", "-ss", f"{seek}us"]
    return [*options, *input_options(url), "-i", url]


def are_true(tools: Tools, url: str, source: SourceFacts, begin: int, folder: Path, watch: Watch) -> bool:
    """Return whether frames are those of one pass where decoding begins at an entry point near the beginning.

    `begin` is the tick of the first frame, `folder` one for temporary files. Also True where no point is near
    enough to be tried.
    """
    video = source.video
    if video is None:
        return True
    again, farthest = (begin + round(seconds / video.time_base) for seconds in (_TRIED_AGAIN, _FARTHEST))
    near = [point for point in source.entry_points[_TRIED:] if point.complete_from <= farthest]
    later = [point for point in near if point.complete_from >= again]
    for point in [*near[:1], *later[:1]]:
        output = ["-vf", f"trim=start_pts={point.complete_from}", "-frames:v", str(_FRAMES)]
        whole, entered = _both_ways(tools, url, video, point, output, folder, watch)
        if whole.frames and whole.frames != entered.frames:
            return False
        if len(set(whole.frames.values())) > 1:
            break
    return True


def is_like_one_pass(
    tools: Tools,
    url: str,
    source: SourceFacts,
    point: EntryPoint,
    span: tuple[int, int | None],
    complained: Set[str],
    folder: Path,
    watch: Watch,
) -> bool:
    """Return whether a span, in ticks, has the frames of one pass where decoding begins at the point.

    `complained` are the kinds of complaints of it (`tools.complaints`). If one pass has them too, most of the
    frames must be the same: what a decoder makes of damaged ones differs from time to time. It takes as long
    as decoding all that is before the span's end.
    """
    if source.video is None:
        return True
    start, end = span
    until = "" if end is None else f":end_pts={end}"
    output = ["-vf", f"trim=start_pts={start}{until}"]
    whole, entered = _both_ways(tools, url, source.video, point, output, folder, watch)
    if whole.frames == entered.frames:
        return True
    is_damaged = bool(complained) and complained <= complaints(whole.kinds, source.video.codec)
    common = whole.frames.items() & entered.frames.items()
    return is_damaged and 2 * len(common) >= len(whole.frames)


def _both_ways(
    tools: Tools,
    url: str,
    video: VideoFacts,
    point: EntryPoint,
    output: list[str],
    folder: Path,
    watch: Watch,
) -> tuple[_Decoded, _Decoded]:
    """Decode a picture from the beginning, and from the point on.

    `output` are FFmpeg's options. Raises what `watch` raises.
    """
    results = {start: folder / name for start, name in ((None, "whole.txt"), (point, "entered.txt"))}
    with ExitStack() as running:
        runs = []
        for start, path in results.items():
            command = [*program(tools), "-max_pixels", str(MAX_PIXELS)]
            command += [*reading(url, video, start), "-map", f"0:{video.index}", *output]
            command += ["-fps_mode", "passthrough", "-enc_time_base", "demux"]
            command += ["-f", "framehash", "-hash", "murmur3", str(path)]
            runs.append(running.enter_context(Encoder(command)))
        while any(run.wait(_POLL) is None for run in runs):
            watch()
        whole, entered = (
            _Decoded(_digests(path), run.kinds) for path, run in zip(results.values(), runs, strict=True)
        )
    return whole, entered


def _digests(path: Path) -> dict[int, str]:
    """Read what FFmpeg's framehash muxer has written: stream, dts, pts, duration, size, digest."""
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [line.split(",") for line in lines if not line.startswith("#")]
    return {int(row[2]): row[5].strip() for row in rows if len(row) == 6}
