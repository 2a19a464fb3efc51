"""Prints where a stream's keyframes are, as JSON, without reading all of the source.

Run as a program of its own: `python -m transcoding.media.inspection.index URL STREAM [SECONDS]`. Prints the
times of the keyframes in seconds from the first one, null where the container's index does not have them all,
the entry points (`EntryPoint`) as pairs of ticks, and whether groups of pictures are open. With SECONDS, and
without an index, it looks up a keyframe every SECONDS in the source itself.
"""

from __future__ import annotations

import json
import sys
from fractions import Fraction

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from transcoding.media.ffmpeg.tools import NETWORK_TIMEOUT, input_options

#: An index that ends this long before the stream does is incomplete, seconds.
_TOLERANCE = 15.0
#: A keyframe is shown at most this many frames after its decoding time (H.264 has up to 16, encoders use 4).
_REORDERED = 8
#: Containers whose packets have clock times only. A seek in them may end somewhat late, so reading begins
#: this many seconds before a keyframe; and their clocks may jump.
_CLOCKED, _RUN_UP = frozenset({"mpegts", "mpeg"}), 1.0
#: Where a seek ends at a keyframe this many seconds away, the clock has jumped.
_STRAY = 12.0
#: Packets read from one place to find a keyframe.
_MOST_PACKETS = 3000
#: Codecs whose groups of pictures may be open, and how many of them are looked at.
_OPENING, _LOOKED_AT = frozenset({"h264", "hevc"}), 5

Points = list[tuple[int, int]]


def from_index(container: InputContainer, stream: VideoStream) -> tuple[list[float] | None, Points]:
    """Return the keyframes' times, in seconds from the first one, and the entry points, from the index."""
    base = stream.time_base or Fraction(1)
    if container.format.name in _CLOCKED:
        # They have no index. FFmpeg makes one of the packets that it has read, each marked as a keyframe.
        return None, []
    if "matroska" in container.format.name:
        # Matroska's cues are at the end, and are read when first needed.
        container.seek(0, stream=stream)
    entries = [(e.timestamp, e.is_keyframe) for e in stream.index_entries if not e.is_discard]
    duration = stream.duration or _ticks(container, base)
    if not entries or not duration:
        return None, []
    if entries[-1][0] - entries[0][0] < duration - _TOLERANCE / base:
        return None, []
    # Entries have decoding times where all frames are listed, else presentation times.
    later = 0 if all(is_keyframe for _, is_keyframe in entries) else _REORDERED
    points = [
        (time, entries[number + later][0])
        for number, (time, is_keyframe) in enumerate(entries[: len(entries) - later])
        if is_keyframe
    ]
    times = sorted(float(time * base) for time, is_keyframe in entries if is_keyframe)
    return [time - times[0] for time in times], points


def _ticks(container: InputContainer, base: Fraction) -> int:
    """Return how long a container is, in ticks; Matroska stores when it ends instead."""
    start = max(0, container.start_time or 0) if "matroska" in container.format.name else 0
    return int(((container.duration or 0) - start) / av.time_base / base)


def looked_up(container: InputContainer, stream: VideoStream, step: float) -> Points:
    """Return the keyframes that seeks every `step` seconds lead to; none where times are not in order."""
    base = stream.time_base or Fraction(1)
    start = float((stream.start_time or 0) * base)
    clocked = container.format.name in _CLOCKED
    run_up = int(_RUN_UP / base) if clocked else 0
    points: Points = []
    for number in range(int(_ticks(container, base) * base / step)):
        wanted = start + number * step
        container.seek(int(wanted * av.time_base))
        for packet, _ in zip(container.demux(stream), range(_MOST_PACKETS), strict=False):
            if packet.is_keyframe and packet.pts is not None:
                if clocked and abs(float(packet.pts * base) - wanted) > _STRAY:
                    return []
                if not points or packet.pts > points[-1][1]:
                    decoded = packet.pts if packet.dts is None else packet.dts
                    points.append((decoded - run_up, packet.pts))
                break
    return points


def are_open(container: InputContainer, stream: VideoStream, points: Points) -> bool:
    """Return whether a frame that follows a keyframe is shown before it, at one of a few keyframes."""
    later = points[1:]
    for _, shown in later[:: max(1, len(later) // _LOOKED_AT)]:
        container.seek(shown, stream=stream)
        begin = None
        for packet, _ in zip(container.demux(stream), range(_REORDERED), strict=False):
            if packet.pts is None:
                continue
            begin = packet.pts if begin is None else begin
            if packet.pts < begin:
                return True
    return False


def main(url: str, stream_index: int, step: float | None) -> None:
    """Print what is known of the stream."""
    flags = input_options(url)
    options = {flags[i].lstrip("-"): flags[i + 1] for i in range(0, len(flags), 2)}
    with av.open(url, options=options, timeout=NETWORK_TIMEOUT) as container:
        stream = next(s for s in container.streams.video if s.index == stream_index)
        times, points = from_index(container, stream)
        opened = stream.codec_context.name in _OPENING and are_open(container, stream, points)
        if times is None and step:
            points = looked_up(container, stream, step)
    json.dump({"times": times, "points": points, "open": opened}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else None)
