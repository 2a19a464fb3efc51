"""Which constant rate factor (CRF) gives a rendition of a source the quality aimed at: pure functions.

Before a source is encoded, samples spread over it are encoded and compared with it by VMAF
(https://github.com/Netflix/vmaf). From what is measured at one or two CRFs follows the one for the whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from transcoding.media.inspection.colour import is_hdr
from transcoding.media.inspection.facts import EntryPoint, SourceFacts
from transcoding.media.planning.codecs import Choice, CrfRange
from transcoding.media.planning.cuts import begin, entry_point
from transcoding.media.planning.plan import KEYFRAME_SECONDS, PicturePlan, Plan

#: The quality aimed at: VMAF on the mean, and the least of any second.
TARGET, FLOOR = 94.0, 88.0
#: Within this of the target, VMAF is not measured a second time.
_CLOSE = 0.75

#: The longest shorter side that is measured of several renditions, in pixels: samples of them all would take
#: gigabytes each.
_LARGEST = 1080
#: A picture of n times as many pixels has about n to the power of this times the bit rate.
_DENSITY = 0.75

#: The length of a sample, seconds and at least frames. Shorter ones tell too little: an encoder saves on
#: frames that it sees no use for later on.
_SAMPLE, _FEWEST_FRAMES = 0.75, 8
#: How far from the keyframe before it a sample is, seconds: at the least and at the most. Keyframes are where
#: scenes begin, often from black; and what is in between has to be decoded.
_NEAREST, _FARTHEST = 0.25, 1.0
#: The share of a sample, its beginning, that is compared: for the rest, see above.
_COMPARED = 0.6
#: Seconds that samples have not seen are worse than the worst of them by about this much.
_UNSEEN = 1.0
#: The golden ratio, whose multiples' fractions are evenly spread however many there are.
_GOLDEN = (math.sqrt(5) - 1) / 2
#: The share of the source that all samples may have: a sample costs up to twice what encoding as much of the
#: source does. The fewest samples, by the number of measurements, and the most of one measurement.
_SHARE = 0.05
_FEWEST, _MOST = {1: 3, 2: 6}, 16
#: A measurement counts where at least this share of the samples could be encoded.
_ENOUGH = 0.5
#: How far what VMAF falls by may be from what it usually does, as factors.
_FLATTEST, _STEEPEST = 0.3, 2.5
#: Few samples may all be of hard scenes, or of easy ones: what they show counts for their number, that most
#: sources need about the same CRF for this many more.
_KNOWN = 1.5
#: VMAF falls ever faster: so many times as fast above the CRF that was measured as below it.
_BEND = 1.6


@dataclass(frozen=True, slots=True)
class Sample:
    """How many of the frames that can be decoded from the point on are skipped, encoded, and compared.

    The frames that are compared are the first of those that are encoded. Without a point, decoding begins
    at the source's beginning.
    """

    point: EntryPoint | None
    skipped: int
    frames: int
    compared: int


@dataclass(frozen=True, slots=True)
class Scored:
    """A rendition of a sample: VMAF of the frames that were compared, and its bits per second."""

    vmaf: float
    bit_rate: float


@dataclass(frozen=True, slots=True)
class Measured:
    """Samples of a rendition at one CRF: VMAF on the mean and of the worst, bits per second, their number."""

    crf: float
    mean: float
    worst: float
    bit_rate: float
    samples: int


def samples(source: SourceFacts, plan: Plan, measurements: int) -> tuple[Sample, ...]:
    """Return the samples of each of so many measurements, 1 or 2; none where they would cost too much.

    Where the source has entry points, samples begin there; else a seek is to find them.
    """
    video = source.video
    duration = (video.duration if video else None) or source.duration
    if video is None or not duration or source.estimated:
        return ()
    # Where frames are few, a sample is longer.
    length = max(_SAMPLE, _FEWEST_FRAMES / float(video.frame_rate))
    count = min(_MOST, int(_SHARE * duration / length / measurements))
    if count < _FEWEST[measurements]:
        return ()
    ticks = (duration - _FARTHEST - length) / float(video.time_base)
    # Not equally far apart: what is shown may repeat itself.
    places = [begin(source) + int((n + (n + 1) * _GOLDEN % 1) / count * ticks) for n in range(count)]
    points: list[EntryPoint | None] = [
        entry_point(source, place) if source.entry_points else EntryPoint(place, place) for place in places
    ]
    points = list(dict.fromkeys(points))
    if len(points) < _FEWEST[measurements]:
        return ()
    frames = max(_FEWEST_FRAMES, round(_SAMPLE * video.frame_rate))
    compared = math.ceil(_COMPARED * frames)
    return tuple(
        Sample(point, round(_distance(number) * video.frame_rate), frames, compared)
        for number, point in enumerate(points)
    )


def _distance(number: int) -> float:
    """Return how far from its keyframe a sample is, in seconds: near and far ones by turns, none twice."""
    return _NEAREST + (_FARTHEST - _NEAREST) * (number * _GOLDEN % 1)


def first_crfs(plan: Plan) -> dict[str, float]:
    """Return the CRFs of the first measurement, by rendition.

    Not of HDR, of which VMAF knows nothing, and not of the largest, which `choices` derives.
    """
    ranges = {picture.name: picture.codec.crf_range for picture in plan.pictures if _is_measured(picture)}
    return {name: limits.usual for name, limits in ranges.items() if limits}


def _can_be_chosen(picture: PicturePlan) -> bool:
    return not picture.copied and not is_hdr(picture.colour)


def _is_measured(picture: PicturePlan) -> bool:
    small = min(picture.width, picture.height) <= _LARGEST
    return _can_be_chosen(picture) and (small or not picture.aligned)


def next_crfs(plan: Plan, measured: Mapping[str, Sequence[Measured]]) -> dict[str, float]:
    """Return the CRFs of the next measurement, by rendition: of those that are far from the target so far."""
    crfs = {}
    for picture in plan.pictures:
        points = measured.get(picture.name, ())
        limits = picture.codec.crf_range
        if points and limits:
            crf = _crf(limits, points)
            near = min(abs(point.crf - crf) for point in points)
            if near * limits.fall > _CLOSE:
                crfs[picture.name] = crf
    return crfs


def score(vmaf: Sequence[float], sizes: Sequence[int], frame_rate: float) -> Scored:
    """Return the score of a sample from its frames' VMAF and its packets' sizes in bytes, in their order.

    Raises ValueError where it is too short to tell anything.
    """
    if len(vmaf) < 2 or len(sizes) < _FEWEST_FRAMES:
        raise ValueError(f"a sample of {len(sizes)} frames, of which {len(vmaf)} are compared")
    # The first frame counts as one without motion, so VMAF is too strict with it. It is also a keyframe, of
    # which the result has one each KEYFRAME_SECONDS.
    others = fmean(sizes[1:])
    bit_rate = 8 * (others * frame_rate + (sizes[0] - others) / KEYFRAME_SECONDS)
    return Scored(fmean(vmaf[1:]), bit_rate)


def measure(crf: float, scores: Sequence[Scored], wanted: int) -> Measured | None:
    """Return what the samples of a rendition show; None where too few of the wanted ones were encoded."""
    if len(scores) < max(1, _ENOUGH * wanted):
        return None
    return Measured(
        crf,
        fmean(one.vmaf for one in scores),
        min(one.vmaf for one in scores),
        fmean(one.bit_rate for one in scores),
        len(scores),
    )


def choices(plan: Plan, measured: Mapping[str, Sequence[Measured]]) -> dict[str, Choice]:
    """Return what is chosen, by rendition, from what was measured.

    Renditions that are too large to measure have the CRF of the largest one that was, of their codec.
    """
    chosen: dict[str, Choice] = {}
    largest: dict[str, tuple[Choice, int]] = {}
    for picture in sorted(plan.pictures, key=lambda picture: picture.width * picture.height):
        codec, pixels = picture.codec.name, picture.width * picture.height
        choice = choose(picture, measured.get(picture.name, ()))
        if choice:
            largest[codec] = choice, pixels
        elif codec in largest and _can_be_chosen(picture) and not _is_measured(picture):
            smaller, its_pixels = largest[codec]
            bit_rate = smaller.bit_rate * (pixels / its_pixels) ** _DENSITY
            choice = Choice(smaller.crf, round(min(bit_rate, picture.rung.max_bit_rate)))
        if choice:
            chosen[picture.name] = choice
    return chosen


def choose(picture: PicturePlan, points: Sequence[Measured]) -> Choice | None:
    """Return the CRF for a rendition from what was measured; None where nothing was."""
    limits = picture.codec.crf_range
    if limits is None or not points:
        return None
    crf = _crf(limits, points)
    near = min(points, key=lambda point: abs(point.crf - crf))
    bit_rate = near.bit_rate * 2 ** ((near.crf - crf) / limits.halving)
    return Choice(crf, round(min(bit_rate, picture.rung.max_bit_rate)))


def _crf(limits: CrfRange, points: Sequence[Measured]) -> float:
    """Return the highest CRF that gives the quality aimed at, as far as that is known."""
    mean = _reaching(limits, [(point.crf, point.mean) for point in points], TARGET)
    count = max(point.samples for point in points)
    mean = (count * mean + _KNOWN * limits.usual) / (count + _KNOWN)
    worst = _reaching(limits, [(point.crf, point.worst) for point in points], FLOOR + _UNSEEN)
    stepped = round(min(mean, worst) / limits.step) * limits.step
    return min(max(stepped, limits.lowest), limits.highest)


def _reaching(limits: CrfRange, points: Sequence[tuple[float, float]], wanted: float) -> float:
    """Return at which CRF VMAF is as wanted, on a line through the two points (CRF, VMAF) nearest to it."""
    near = sorted(points, key=lambda point: abs(point[1] - wanted))[:2]
    fall = limits.fall * (_BEND if near[0][1] > wanted else 1.0)
    if len(near) == 2 and near[0][0] != near[1][0]:
        (a, high), (b, low) = sorted(near)
        fall = min(max((high - low) / (b - a), _FLATTEST * limits.fall), _STEEPEST * limits.fall)
    crf, vmaf = near[0]
    return crf + (vmaf - wanted) / fall
