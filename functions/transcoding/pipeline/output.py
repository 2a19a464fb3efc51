"""What came out: the renditions of a result, as its caller is told of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from transcoding.media.packaging import hls
from transcoding.media.planning.plan import SEGMENT_SECONDS, PicturePlan, Plan, SoundPlan
from transcoding.model import OutputRendition

#: How far the average may be from a frame rate that is said to be constant.
_STEADY = 0.02


def main_streams(plan: Plan) -> Sequence[PicturePlan | SoundPlan]:
    """Return the streams that a caller is told of: the pictures or, without one, the sound."""
    return plan.pictures or plan.streams


def told(stream: PicturePlan | SoundPlan, rendition: hls.Rendition, samples: int) -> OutputRendition:
    """Describe a rendition of `samples` frames; its bit rates are those of playlists, for all formats."""
    rates = (rendition.codec, rendition.average_bit_rate, rendition.peak_bit_rate)
    if not isinstance(stream, PicturePlan):
        return OutputRendition(*rates)
    average = samples / rendition.duration if rendition.duration else 0.0
    rate = stream.rate if stream.frame_rate or stream.facts.constant_frame_rate else average
    # Some containers name a constant rate for what varies.
    if average and abs(average / rate - 1) >= _STEADY:
        rate = average
    return OutputRendition(*rates, stream.width, stream.height, round(float(rate), 3))


def highest_frame_rate(stream: PicturePlan, segments: Sequence[hls.Segment], timescale: int) -> Fraction:
    """Return the most frames a second of any segment, for playlists (RFC 8216, 4.3.4.2)."""
    named = stream.rate
    rates = [
        Fraction(s.samples * timescale, s.end - s.start) for s in segments if s.end - s.start >= timescale
    ]
    highest = max(rates, default=named)
    if stream.facts.constant_frame_rate and abs(highest / named - 1) < _STEADY:
        return named
    return Fraction(round(highest * 1000), 1000)


def listed(path: Path) -> tuple[int, tuple[hls.Segment, ...]]:
    """Return how many packets a listing of FFmpeg's framecrc has, and what they would be as segments.

    The segments begin every `SEGMENT_SECONDS`, where packets are decoded then; times are in milliseconds.
    """
    length = SEGMENT_SECONDS * 1000
    sizes: Counter[int] = Counter()
    tick = Fraction(0)
    count = first = last = length_of_last = 0
    with path.open(encoding="ascii") as file:
        for line in file:
            if line.startswith("#"):
                tick = Fraction(line.split()[2]) if line.startswith("#tb") else tick
                continue
            _, decoded, _, duration, size, *_ = line.split(",")
            count, last = count + 1, int(int(decoded) * tick * 1000)
            length_of_last = int(int(duration) * tick * 1000)
            first = last if count == 1 else first
            sizes[(last - first) // length] += int(size)
    # The last packet is as long as the others on average; not all formats say how long it is.
    end = round((last - first) * count / (count - 1)) if count > 1 else length_of_last
    starts = sorted(sizes)
    return count, hls.closed([hls.Segment(n * length, max(end, n * length), sizes[n]) for n in starts])
