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
from transcoding.media.inspection.facts import EntryPoint, SourceFacts, VideoFacts
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

#: The length of a sample in seconds, and in frames at least. Shorter ones tell less: an encoder saves on
#: frames that it sees no use for later on.
_SHORTEST, _LONGEST, _FEWEST_FRAMES = 0.5, 0.75, 8
#: How far from the keyframe before it a sample is, seconds: at the least, as keyframes are where scenes
#: begin, often from black; and at the most where keyframes are not known: what is in between is decoded.
_NEAREST, _FARTHEST = 0.25, 2.0
#: The share of a sample, its beginning, that is compared: for the rest, see above.
_COMPARED = 0.6
#: Seconds that samples have not seen are worse than the worst of them by about this much.
_UNSEEN = 1.0
#: The golden ratio, whose multiples' fractions are evenly spread however many there are.
_GOLDEN = (math.sqrt(5) - 1) / 2
#: The share of the source that all samples may have: a sample costs about one and a half times what encoding
#: as much of the source does. The fewest samples, by the number of measurements, and the most of one.
_SHARE = 0.065
_FEWEST, _MOST = {1: 1, 2: 3}, 16
#: The share of the source that may be decoded on the way from keyframes to samples. Where keyframes are rare,
#: samples are nearer to them, by one factor, and none are taken where it is below the other; and none is
#: farther from its keyframe than so many seconds.
_SKIPPED, _LEAST_WAY, _LONGEST_WAY = 0.2, 0.1, 5.0
#: So many samples tell little; where there are no more, they are taken without looking for keyframes.
_BLIND = 2
#: A measurement counts where at least this share of the samples could be encoded.
_ENOUGH = 0.5
#: How far what VMAF falls by may be from what it usually does, as factors.
_FLATTEST, _STEEPEST = 0.3, 2.5
#: Few samples may all be of hard scenes, or of easy ones: what they show counts for their number, that most
#: sources need about the same CRF for this many more.
_KNOWN = 0.25
#: VMAF falls ever faster: so many times as fast above the CRF that was measured as below it.
_BEND = 1.25
#: VMAF of a sample is below that of the same frames in the whole by about this much: an encoder makes better
#: use of its bits where it sees more of what is to come.
_BRIEF = 0.4


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
    # Where the source is short, so are samples; where its frames are few, they are longer.
    length = min(max(_SHORTEST, _SHARE * duration), _LONGEST)
    frames = max(_FEWEST_FRAMES, int(length * video.frame_rate))
    length = float(frames / video.frame_rate)
    count = min(_MOST, int(_SHARE * duration / length / measurements))
    if count < _FEWEST[measurements]:
        return ()
    last = duration - length
    # Not equally far apart: what is shown may repeat itself.
    places = [(n + (n + 1) * _GOLDEN % 1) / count * last for n in range(count)]
    found = (
        _from_points(source, video, places)
        if source.entry_points
        else _from_anywhere(source, video, places, last)
    )
    return tuple(
        Sample(point, round(distance * video.frame_rate), frames, math.ceil(_COMPARED * frames))
        for point, distance in found
    )


def _from_points(
    source: SourceFacts, video: VideoFacts, places: Sequence[float]
) -> list[tuple[EntryPoint | None, float]]:
    """Return the entry point before each place, and how far after it a sample is: all in seconds.

    They are none where nearly all of them would be at the source's beginning.
    """
    first, base, found = begin(source), float(video.time_base), []
    for place in places:
        point = entry_point(source, first + int(place / base))
        found.append((point, place - ((point.complete_from - first) * base if point else 0.0)))
    duration = video.duration or source.duration or 0.0
    way = min(1.0, _SKIPPED * duration / (sum(distance for _, distance in found) or 1.0))
    if way < _LEAST_WAY:
        return []
    return list(dict.fromkeys((p, min(max(_NEAREST, way * distance), _LONGEST_WAY)) for p, distance in found))


def _from_anywhere(
    source: SourceFacts, video: VideoFacts, places: Sequence[float], last: float
) -> list[tuple[EntryPoint | None, float]]:
    """Return points for seeks that are to find the keyframes before some places, and distances, as above."""
    first, farthest = begin(source), min(_FARTHEST, _SKIPPED * last)
    ticks = [first + int(place * (1 - farthest / last) / video.time_base) for place in places]
    # Far and near ones by turns, none twice: keyframes may be rare.
    return [
        (EntryPoint(tick, tick), farthest - (farthest - _NEAREST) * (number * _GOLDEN % 1))
        for number, tick in enumerate(dict.fromkeys(ticks))
    ]


def needs_keyframes(source: SourceFacts, plan: Plan) -> bool:
    """Return whether samples of a source are to be measured for which it should be known where keyframes are.

    For one or two samples, to find that out costs as much as it is worth.
    """
    return bool(first_crfs(plan)) and len(samples(source, plan, 1)) > _BLIND


def first_crfs(plan: Plan) -> dict[str, float]:
    """Return the CRFs of the first measurement, by rendition.

    Not of HDR, of which VMAF knows nothing, and not of the largest, which `choices` derives.
    """
    ranges = {picture.name: picture.codec.crf_range for picture in plan.pictures if _has_samples(picture)}
    return {name: limits.usual for name, limits in ranges.items() if limits}


def _can_be_chosen(picture: PicturePlan) -> bool:
    return not picture.copied and not is_hdr(picture.colour)


def _has_samples(picture: PicturePlan) -> bool:
    small = min(picture.width, picture.height) <= _LARGEST
    return _can_be_chosen(picture) and (small or not picture.aligned)


def next_crfs(plan: Plan, measured: Mapping[str, Sequence[Measured]]) -> dict[str, float]:
    """Return the CRFs of the next measurement, by rendition: of those that are far from the target so far."""
    crfs = {}
    for picture in plan.pictures:
        points = measured.get(picture.name, ())
        limits = picture.codec.crf_range
        if points and limits:
            crf = _crf(picture, limits, points)
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
        elif codec in largest and _can_be_chosen(picture) and not _has_samples(picture):
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
    crf = _crf(picture, limits, points)
    near = min(points, key=lambda point: abs(point.crf - crf))
    bit_rate = near.bit_rate * 2 ** ((near.crf - crf) / limits.halving)
    return Choice(crf, round(min(bit_rate, picture.rung.max_bit_rate)))


def _crf(picture: PicturePlan, limits: CrfRange, points: Sequence[Measured]) -> float:
    """Return the highest CRF that gives the quality aimed at, as far as that is known.

    A sample or two do not show that a source needs more than the codec's constant.
    """
    mean = _reaching(limits, [(point.crf, point.mean) for point in points], TARGET - _BRIEF)
    count = max(point.samples for point in points)
    mean = (count * mean + _KNOWN * limits.usual) / (count + _KNOWN)
    worst = _reaching(limits, [(point.crf, point.worst) for point in points], FLOOR + _UNSEEN)
    stepped = round(min(mean, worst) / limits.step) * limits.step
    least = limits.lowest if count > _BLIND else picture.codec.crf(min(picture.width, picture.height))
    return min(max(stepped, least), limits.highest)


def _reaching(limits: CrfRange, points: Sequence[tuple[float, float]], wanted: float) -> float:
    """Return at which CRF VMAF is as wanted, on a line through the two points (CRF, VMAF) nearest to it."""
    near = sorted(points, key=lambda point: abs(point[1] - wanted))[:2]
    fall = limits.fall * (_BEND if near[0][1] > wanted else 1.0)
    if len(near) == 2 and near[0][0] != near[1][0]:
        (a, high), (b, low) = sorted(near)
        fall = min(max((high - low) / (b - a), _FLATTEST * limits.fall), _STEEPEST * limits.fall)
    crf, vmaf = near[0]
    return crf + (vmaf - wanted) / fall
