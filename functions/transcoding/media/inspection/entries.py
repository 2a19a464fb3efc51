"""Checks whether decoding may begin in the middle of a picture: with the same frames as in one pass.

No index shows it. Information at the beginning of a stream alone may change every later frame: x264 before
build 151 coded 4:4:4 in its own way, and names its build in the first frame only; parameter sets may be sent
once; a frame marked as a keyframe may not be one. So frames are decoded both ways and compared.
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
#: Where the next ones are tried while the picture stands still, as in the black that films begin with, in
#: seconds from the first frame. The last is the farthest that a comparison decodes to.
_TRIED_AGAIN = (20.0, 60.0, 180.0, 600.0)
#: The profile of the one known kind of stream that decodes to other pictures without any complaint.
_SUSPICIOUS = "High 4:4:4 Predictive"
#: How many frames are compared.
_FRAMES = 100
#: Seconds between two checks whether FFmpeg has ended.
_POLL = 0.1

#: Called repeatedly while frames are decoded; raises to end the decoding.
Watch = Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Decoded:
    """The digests of frames, by the ticks of their times, and the kinds of FFmpeg's messages."""

    frames: dict[int, str]
    kinds: set[str]


def reading(url: str, video: VideoFacts, point: EntryPoint | None) -> list[str]:
    """Return FFmpeg's options to read the source at `url` from a point on; None: from its beginning.

    Times stay those of the container, as in entry points.
    """
    options = ["-copyts"]
    if point:
        seek = math.ceil(point.seek * video.time_base * 1_000_000)
        options += ["-seek_timestamp", "1", "-noaccurate_seek", "-ss", f"{seek}us"]
    return [*options, *input_options(url), "-i", url]


def are_true(tools: Tools, url: str, source: SourceFacts, begin: int, folder: Path, watch: Watch) -> bool:
    """Return whether decoding from an entry point near the beginning gives the frames of one pass.

    `begin` is the tick of the first frame, `folder` one for temporary files. Where no moving picture is found
    to compare, only what is known to decode in another way without a complaint counts as different. Raises
    what `watch` raises.
    """
    video = source.video
    if video is None:
        return True
    for point in _candidates(source, video, begin):
        output = ["-vf", f"trim=start_pts={point.complete_from}", "-frames:v", str(_FRAMES)]
        whole, entered = _both_ways(tools, url, video, point, output, folder, watch)
        if whole.frames and whole.frames != entered.frames:
            return False
        if len(set(whole.frames.values())) > 1:
            return True
    return video.profile != _SUSPICIOUS


def _candidates(source: SourceFacts, video: VideoFacts, begin: int) -> list[EntryPoint]:
    """Return the entry points at which decoding is compared with one pass, in their order."""
    points = source.entry_points[_TRIED:] or source.entry_points[1:]
    starts = [0, *(round(seconds / video.time_base) for seconds in _TRIED_AGAIN)]
    found = [
        next((point for point in points if start <= point.complete_from - begin <= starts[-1]), None)
        for start in starts[:-1]
    ]
    return list(dict.fromkeys(point for point in found if point))


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
    """Return whether decoding a span, in ticks, from the point gives the frames of one pass.

    `complained` are the kinds of complaints about the span (`tools.complaints`). If one pass has them too,
    only most of the frames must be the same: a decoder conceals damage differently each time. The comparison
    takes as long as decoding the source up to the span's end. Raises what `watch` raises.
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
    """Return the digests in a file of FFmpeg's framehash muxer: stream, dts, pts, duration, size, digest."""
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [line.split(",") for line in lines if not line.startswith("#")]
    return {int(row[2]): row[5].strip() for row in rows if len(row) == 6}
