"""Where a long source is cut into parts: pure functions from facts and a plan to spans of the picture.

A part starts with the first frame at or after its start and ends before the first one at or after its end,
both in ticks of the source's time base: so every frame is in exactly one part, wherever the cuts are. A
cut is at a keyframe where one is near: a worker has to decode from the keyframe before its part's start.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from transcoding.media.inspection.facts import EntryPoint, SourceFacts, VideoFacts
from transcoding.media.planning.plan import LONGEST_GAP, SEGMENT_SECONDS, Plan, picture_bit_rate

#: What decoding a pixel costs, relative to encoding one with x264. Rough: it only shapes parts.
_DECODING, _SLOW_DECODING = 0.15, 0.3
_SLOW_DECODERS = frozenset({"hevc", "av1", "vp9", "prores"})
#: The cost of a second of 1080p at 30 frames a second: what parameters count in.
_REFERENCE = 1920 * 1080 * 30 * (1 + _DECODING)
#: The most parts of one task, whose workers all write to its item; parts get longer instead.
MOST_PARTS = 1000
#: Each look-up of a keyframe takes several reads of the source.
_MOST_LOOK_UPS = 128
#: The most that one part costs because keyframes are rare, in seconds of 1080p.
_LONGEST = 240.0
#: The largest picture that is copied into a file in a worker's /tmp, which has 10 GB, bytes.
LARGEST_COPY = 2 * 10**9
#: Containers whose times never jump: streams that are read apart stay in step.
_STEADY = ("mov", "matroska")
#: How many frames before a part's first one are decoded if the picture is interlaced.
_BEFORE = 2
#: A cut moves at most this share of a part's length to be near a keyframe.
_REACH = 0.4
#: At how many places of a part, evenly spread, the rest of it can become a part without much of a run-up.
_PLACES = 8


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the picture: from `start` up to, not including, `end`, in ticks of the source's time base.

    `end` is None for the last part, which goes on for as long as the source does; the first one takes all
    that comes before its end.
    """

    start: int
    end: int | None
    first: bool = False


def cost(plan: Plan) -> float:
    """Return what a second of the picture costs, in seconds of 1080p at 30 frames a second: 0 without one."""
    facts = plan.source_picture
    if facts is None:
        return 0.0
    decoding = _SLOW_DECODING if facts.codec in _SLOW_DECODERS else _DECODING
    pixels = facts.width * facts.height * decoding * facts.frame_rate
    pixels += sum(p.width * p.height * p.codec.cost * p.rate for p in plan.pictures)
    return float(pixels / _REFERENCE)


def part_length(source: SourceFacts, plan: Plan, part_seconds: float, threshold: float) -> float | None:
    """Return how long the parts of the picture should be, in seconds of the source.

    `part_seconds` and `threshold` are in seconds of 1080p at 30 frames a second: the length of a part, and
    what one worker does by itself. None: parts do not pay, or the picture cannot be cut.
    """
    facts = plan.source_picture
    if facts is None or not all(p.codec.in_parts and not p.copied for p in plan.pictures):
        return None
    duration = facts.duration or source.duration
    if not duration or duration * cost(plan) <= threshold:
        return None
    return max(SEGMENT_SECONDS, part_seconds / cost(plan), duration / MOST_PARTS)


def is_large_copy(source: SourceFacts, plan: Plan) -> bool:
    """Return whether the picture is copied into a file that is too large for one worker's /tmp.

    Then picture and sound are stored apart, and joined; but not a picture of a variable frame rate, as
    FFmpeg's muxer of segments writes wrong times of its frames.
    """
    facts = plan.source_picture
    if facts is None or not plan.copies_picture or plan.format.segmented:
        return False
    size = (picture_bit_rate(source, facts) or 0) * (plan.duration or 0.0) / 8
    return size > LARGEST_COPY and facts.constant_frame_rate and source.container.startswith(_STEADY)


def cut(source: SourceFacts, plan: Plan, length: float, workers: int) -> tuple[Span, ...]:
    """Cut the picture into parts of about `length` seconds; a single one where no entry points are known.

    Their number is such that every worker gets equally many; the sound counts as one of them.
    """
    facts = plan.source_picture
    if facts is None:
        return ()
    first = begin(source)
    end = first + _ticks(facts.duration or source.duration or 0.0, facts)
    points = [point.complete_from for point in source.entry_points]
    jumps = not plan.stores_durations and any(
        (b - a) * facts.time_base > LONGEST_GAP for a, b in pairwise(points)
    )
    if not points or jumps:
        return (Span(first, None, first=True),)
    # Where keyframes are rare, each part must decode from far back: then fewer parts cost less.
    gap = max(b - a for a, b in pairwise([first, *points, end]))
    rare = min(gap / 2, _ticks(_LONGEST / cost(plan), facts))
    count = max(1, math.floor((end - first) / max(_ticks(length, facts), rare) + 0.5))
    if count > 1:
        beside = int(plan.has_sound_or_text)
        rounds = max(1, math.floor((count + beside) / workers + 0.5))
        count = min(rounds * workers - beside, 2 * count, MOST_PARTS)
    step = (end - first) / count
    starts = [first]
    for number in range(1, count):
        start = _near(points, first + round(number * step), step * _REACH)
        if start > starts[-1]:
            starts.append(start)
    spans = zip(starts, [*starts[1:], None], strict=True)
    return tuple(Span(a, b, first=a == first) for a, b in spans)


def needed_entry_points(source: SourceFacts, spans: Sequence[Span]) -> tuple[EntryPoint, ...]:
    """Return the entry points that parts begin reading at, and those where the rest of one may begin.

    A source may have one for each of its frames; these are a few for each part.
    """
    points = source.entry_points
    if not points:
        return ()
    last = points[-1].complete_from
    needed = {
        entry_point(source, span.start + (max(span.start, end) - span.start) * place // _PLACES)
        for span in spans
        for end in (last if span.end is None else span.end,)
        for place in range(_PLACES)
    }
    return tuple(point for point in points if point in needed)


def look_up_step(source: SourceFacts, length: float) -> float:
    """Return how many seconds apart entry points are to be looked up where the container has no index."""
    return max(length / 2, (source.duration or 0.0) / _MOST_LOOK_UPS)


def begin(source: SourceFacts) -> int:
    """Return the tick of the picture's first frame."""
    return _ticks(source.video.start, source.video) if source.video else 0


def span_frames(plan: Plan, span: Span) -> float:
    """Return about how many frames of the result a part has."""
    return span_seconds(plan, span) * float(plan.pictures[0].rate) if plan.pictures else 0.0


def span_seconds(plan: Plan, span: Span) -> float:
    """Return how long a part is, in seconds; an estimate for the last one."""
    facts = plan.source_picture
    if facts is None:
        return 0.0
    end = (
        span.end
        if span.end is not None
        else _ticks(facts.start + (facts.duration or plan.duration or 0.0), facts)
    )
    return max(0.0, float((end - span.start) * facts.time_base))


def segment_seconds(plan: Plan, span: Span) -> float:
    """Return the length of a part's segments, in seconds: equal, so that the last is not a scrap."""
    length = span_seconds(plan, span)
    return length / math.ceil(length / plan.segment_seconds) if length else plan.segment_seconds


def run_up(source: SourceFacts, span: Span, point: EntryPoint | None) -> float:
    """Return how many seconds of the source are decoded, from a point on, only to get to a part."""
    if source.video is None or span.first:
        return 0.0
    return float((span.start - (point.complete_from if point else begin(source))) * source.video.time_base)


def entry_point(source: SourceFacts, start: int) -> EntryPoint | None:
    """Return the last point to decode all frames from tick `start` on from; None: the source's beginning."""
    if source.video and source.video.interlaced:
        # Deinterlacing looks at the frame before, too.
        start -= _ticks(float(_BEFORE / source.video.frame_rate), source.video)
    at = bisect_right(source.entry_points, start, key=lambda point: point.complete_from)
    point = source.entry_points[at - 1] if at else None
    # A seek to the very first frame may fail, or lead elsewhere.
    return point if point and point.seek > begin(source) else None


def _near(points: Sequence[int], wanted: int, reach: float) -> int:
    """Return the point nearest to `wanted`, or `wanted` itself where none is near."""
    at = bisect_left(points, wanted)
    near = min(points[max(0, at - 1) : at + 1], key=lambda point: abs(point - wanted))
    return near if abs(near - wanted) <= reach else wanted


def _ticks(seconds: float, facts: VideoFacts) -> int:
    return round(Fraction(seconds) / facts.time_base)
