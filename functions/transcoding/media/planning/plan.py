"""Decides what becomes of a source: pure functions from facts to a plan."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from types import MappingProxyType

from transcoding.errors import Failure, TaskFailedError
from transcoding.media.inspection.colour import Colour, is_deep, is_hdr, meant, shown
from transcoding.media.inspection.facts import AudioFacts, SourceFacts, TextFacts, VideoFacts
from transcoding.media.planning.codecs import Choice, PictureCodec, SoundCodec
from transcoding.media.planning.formats import Format
from transcoding.media.planning.ladder import (
    ADAPTIVE,
    SHORT_SIDE,
    Rung,
    adaptive_sides,
    is_distinct,
    rung_for,
)

#: The name, the codec and the (width, height) in pixels of a rendition of the picture.
_Rendition = tuple[str, PictureCodec, tuple[int, int]]

#: Segment length asked for, and the distance of keyframes inside, seconds
#: (Apple's HLS authoring specification 7.5 and 1.13).
SEGMENT_SECONDS = 6
KEYFRAME_SECONDS = 2

#: A gap in a source's times of more seconds than this is an error, and closed.
LONGEST_GAP = 3600

#: A segment's length, rounded, must not be over the target duration (RFC 8216, 4.3.3.1).
_LONGEST_SEGMENT = SEGMENT_SECONDS + 0.499

#: A pixel aspect ratio beyond this is a mistake of the writer's; such pixels count as square.
_ODDEST_PIXEL = Fraction(8)
_COPYABLE_SAMPLE_RATES = frozenset({32_000, 44_100, 48_000})
#: Seconds between the starts of picture and sound: below the first they are together, above the second
#: a viewer notices.
_IN_STEP, _OUT_OF_STEP = 0.001, 0.02
#: Containers whose clocks may jump. FFmpeg lets their times begin with the first stream that it reads.
_CLOCKED = frozenset({"mpegts", "mpeg", "ogg"})
#: By FFmpeg's names of transfer curves.
_VIDEO_RANGES = MappingProxyType({"smpte2084": "PQ", "arib-std-b67": "HLG"})
_TRIED = "an attempt that copied has failed"
#: The most frames a second of an adaptive result (Apple's HLS authoring specification, "Video encoding
#: requirements"), and how much more, as a share, an average may be.
_MOST_FRAMES, _ABOVE = 60, Fraction(1, 100)
_THINNED = f"an adaptive result has at most {_MOST_FRAMES} frames a second"
_ALIGNED = "renditions have their keyframes in common"
_RATES_OF_CD_FAMILY = frozenset({11_025, 22_050, 44_100, 88_200, 176_400})


@dataclass(frozen=True, slots=True)
class PicturePlan:
    """What becomes of the picture in one rendition. `obstacle` says why it is not copied; empty: it is.

    `name` is the rendition's, and the folder of its segments. `aligned`: it has keyframes where the result's
    other renditions have them, and no others. `width` and `height` are the result's, in
    pixels, upright and square; `start` is when its first frame is shown, in seconds of the result's timeline,
    `held` whether that is sooner than in the source. `origin` is where the result's timeline begins, in
    seconds of the source's. `frame_rate` is the constant one to make, in frames per second; None: frames keep
    their times. Of every `thinned` frames of the source, one is shown.
    """

    name: str
    facts: VideoFacts
    codec: PictureCodec
    obstacle: str
    width: int
    height: int
    rung: Rung
    crf: float
    start: float = 0.0
    held: bool = False
    origin: float = 0.0
    frame_rate: Fraction | None = None
    thinned: int = 1
    aligned: bool = False

    @property
    def copied(self) -> bool:
        """Whether the stream is taken over bit by bit."""
        return not self.obstacle

    @property
    def rate(self) -> Fraction:
        """The result's frames a second, on average."""
        return self.frame_rate or self.facts.frame_rate / self.thinned

    @property
    def colour(self) -> Colour:
        """The result's colours."""
        return shown(meant(self.facts), hdr=self.codec.ten_bits)

    @property
    def bits(self) -> int:
        """How many bits a sample of the result has: 8 or 10."""
        return 10 if self.codec.ten_bits and (is_deep(self.facts) or is_hdr(self.colour)) else 8

    @property
    def video_range(self) -> str:
        """VIDEO-RANGE of the HLS playlist: SDR, PQ or HLG."""
        return _VIDEO_RANGES.get(self.colour.transfer, "SDR")


@dataclass(frozen=True, slots=True)
class SoundPlan:
    """What becomes of the sound. `obstacle` as in `PicturePlan`; `bit_rate` in bits per second."""

    facts: AudioFacts
    codec: SoundCodec
    obstacle: str
    channels: int
    sample_rate: int
    bit_rate: int
    name: str = "audio"

    @property
    def copied(self) -> bool:
        """Whether the stream is taken over bit by bit."""
        return not self.obstacle


@dataclass(frozen=True, slots=True)
class TextPlan:
    """What becomes of one stream of subtitles; `codec` is FFmpeg's name."""

    facts: TextFacts
    codec: str
    copied: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What to make of a source; times in seconds.

    `pictures` are the renditions of the source's one picture, which one decode feeds: those of one codec
    after those of another, each the best first. `duration` is how long
    the result will be, None where it is unknown, `estimated` whether it is only a guess. `origin` is where
    the result's timeline begins on the source's, and `source_start` where the source's own does; None: with
    the first of the streams that are read.
    """

    format: Format
    duration: float | None
    pictures: tuple[PicturePlan, ...]
    sound: SoundPlan | None
    segment_seconds: float = SEGMENT_SECONDS
    #: Whether the container stores each frame's duration, so that a long one is meant.
    stores_durations: bool = False
    texts: tuple[TextPlan, ...] = ()
    origin: float = 0.0
    source_start: float | None = None
    estimated: bool = False
    #: Whether a poster and thumbnails are made.
    thumbnails: bool = False

    @property
    def source_picture(self) -> VideoFacts | None:
        """The picture of the source that the renditions are made of."""
        return self.pictures[0].facts if self.pictures else None

    @property
    def streams(self) -> tuple[PicturePlan | SoundPlan, ...]:
        """All that is seen and heard, each stored under its `name`: pictures, then sound."""
        return (*self.pictures, self.sound) if self.sound else self.pictures

    @property
    def has_sound_or_text(self) -> bool:
        """Whether the result has more than a picture: sound, or the text that is made along with it."""
        return bool(self.sound or self.texts)

    @property
    def copies(self) -> bool:
        """Whether a stream is copied."""
        return any(stream.copied for stream in self.streams)

    @property
    def copies_picture(self) -> bool:
        """Whether the picture is copied."""
        return any(picture.copied for picture in self.pictures)

    def describe(self) -> dict[str, str]:
        """Return what becomes of each stream, and why, for the log."""
        described = {"video": "none", "audio": "none"}
        for stream in self.streams:
            described[stream.name] = f"encode: {stream.obstacle}" if stream.obstacle else "copy"
        texts = [f"{text.facts.codec} to {text.codec}" for text in self.texts]
        return described | ({"subtitles": ", ".join(texts)} if texts else {})


def plan(
    source: SourceFacts,
    target: Format,
    quality: int,
    *,
    codecs: str = "",
    thumbnails: bool = False,
    choices: Mapping[str, Choice] = MappingProxyType({}),
    may_copy: bool = True,
    with_text: bool = True,
) -> Plan:
    """Return what to make of `source` in the format and the quality (1 to 6) asked for.

    `codecs` are names of codecs of the picture, as `Format.codecs` takes them. `choices` are made for
    renditions, by their names: those that turn out to be of no use are left out. Without `may_copy` every
    stream is encoded, and without `with_text` subtitles are left out: an earlier attempt may have failed over
    either. Raises TaskFailedError where the format cannot hold what the source has.
    """
    if source.video is None and target.needs_picture:
        raise TaskFailedError(
            Failure.FORMAT_NEEDS_PICTURE, f"The source has no picture, and {target.name} needs one."
        )
    if source.audio is None and target.needs_sound:
        raise TaskFailedError(
            Failure.FORMAT_NEEDS_SOUND, f"The source has no sound, and {target.name} needs some."
        )
    taken = (source.video if target.pictures else None, source.audio if target.sound else None)
    origin = min((stream.start for stream in taken if stream), default=0.0)
    pictures = _plan_pictures(source, target, quality, codecs, choices, origin, may_copy=may_copy)
    largest = max((min(picture.width, picture.height) for picture in pictures), default=1080)
    sound = _plan_sound(source, target, rung_for(largest), origin, may_copy=may_copy)
    duration = _duration(source, pictures, sound, origin)
    if duration and target.seconds and duration > target.seconds:
        raise TaskFailedError(
            Failure.TOO_LONG,
            f"The source lasts {duration:.0f} s; as {target.name} at most {target.seconds:.0f} s are made. "
            "Send a shorter part of it, or ask for mp4.",
        )
    copied = any(picture.copied for picture in pictures)
    seconds = copyable_segment_seconds(source.keyframes or (), source.duration) if copied else None
    return Plan(
        format=target.holding([picture.codec for picture in pictures]),
        duration=duration,
        pictures=pictures,
        sound=sound,
        segment_seconds=seconds or SEGMENT_SECONDS,
        stores_durations=source.container.startswith("mov"),
        texts=_plan_texts(source, target, may_copy=may_copy) if with_text else (),
        origin=origin,
        source_start=None if source.container in _CLOCKED else source.start,
        estimated=source.estimated,
        thumbnails=thumbnails and any(picture.codec.in_parts for picture in pictures),
    )


def needs_keyframes(source: SourceFacts, target: Format, quality: int, codecs: str = "") -> bool:
    """Return whether the plan depends on the source's keyframes."""
    renditions = _renditions(source.video, target, quality, codecs)
    if not target.segmented or len(renditions) > 1:
        return False
    return any(not _picture_obstacle(source, codec, size) for _, codec, size in renditions)


def _renditions(video: VideoFacts | None, target: Format, quality: int, codecs: str) -> list[_Rendition]:
    """Return the name, the codec and the (width, height) in pixels of each rendition of the picture."""
    if video is None or not target.pictures:
        return []
    chosen = target.codecs(codecs)
    if quality != ADAPTIVE:
        side = min((side for side in (SHORT_SIDE[quality], target.short_side) if side), default=None)
        return [("video", codec, output_size(video, side)) for codec in chosen[:1]]
    sides = adaptive_sides(min(output_size(video, None)))
    every = [(f"{codec.name}-{side}p", codec, output_size(video, side)) for codec in chosen for side in sides]
    # Beside a codec that takes such a picture, another that does not is left out.
    return [one for one in every if min(one[2]) >= one[1].least_side] or every


def _useful(renditions: Sequence[_Rendition], choices: Mapping[str, Choice]) -> list[_Rendition]:
    """Return the renditions without those that are of no use beside the larger ones of the same codec."""
    larger: dict[str, int] = {}
    kept = []
    for rendition in renditions:
        name, codec, _ = rendition
        choice = choices.get(name)
        if choice and codec.name in larger and not is_distinct(choice.bit_rate, larger[codec.name]):
            continue
        if choice:
            larger[codec.name] = choice.bit_rate
        kept.append(rendition)
    return kept


def _plan_pictures(
    source: SourceFacts,
    target: Format,
    quality: int,
    codecs: str,
    choices: Mapping[str, Choice],
    origin: float,
    *,
    may_copy: bool,
) -> tuple[PicturePlan, ...]:
    video, renditions = source.video, _useful(_renditions(source.video, target, quality, codecs), choices)
    if video is None or not renditions:
        return ()
    late = start = video.start - origin
    # In segments, a late start would need an edit list, which not every player follows.
    held = target.segmented and late > _IN_STEP
    if target.segmented:
        # The first segment begins with the picture.
        origin, start = (origin if held else video.start), 0.0
    rate = target.frame_rate if target.frame_rate and video.frame_rate > target.frame_rate else None
    thinned = 1
    if quality == ADAPTIVE:
        thinned = max(1, math.ceil(video.frame_rate / _MOST_FRAMES - _ABOVE))
    pictures = []
    aligned = len(renditions) > 1
    for name, codec, (width, height) in renditions:
        obstacle = _ALIGNED if aligned else _picture_obstacle(source, codec, (width, height))
        obstacle = obstacle or (_THINNED if thinned > 1 else "")
        obstacle = obstacle if may_copy else _TRIED
        if not obstacle and target.segmented:
            obstacle = _segments_obstacle(source, video, late)
        if obstacle and min(width, height) < codec.least_side:
            raise TaskFailedError(
                Failure.DIMENSIONS_UNSUPPORTED,
                f"The picture would be {width}x{height}; {codec.name} takes no side of less than "
                f"{codec.least_side} pixels. Ask for h264.",
            )
        pictures.append(
            PicturePlan(
                name=name,
                facts=video,
                codec=codec,
                obstacle=obstacle,
                width=width,
                height=height,
                rung=rung_for(*sorted((width, height))),
                crf=choices[name].crf if name in choices else codec.crf(min(width, height)),
                start=start,
                held=held,
                origin=origin,
                frame_rate=rate,
                thinned=thinned,
                aligned=aligned,
            )
        )
    return tuple(pictures)


def output_size(video: VideoFacts, short_side: int | None) -> tuple[int, int]:
    """Return (width, height) in pixels: upright, square, even, and never larger than the source.

    "p" counts the shorter side; None keeps the source's size.
    """
    aspect = video.pixel_aspect if 1 / _ODDEST_PIXEL <= video.pixel_aspect <= _ODDEST_PIXEL else 1
    width, height = Fraction(video.width) * aspect, Fraction(video.height)
    if video.rotation in {90, 270}:
        width, height = height, width
    scale = min(Fraction(1), short_side / min(width, height)) if short_side else Fraction(1)

    def even(side: Fraction) -> int:
        return max(2, min(2 * round(side * scale / 2), 2 * int(side / 2)))

    return even(width), even(height)


def copyable_segment_seconds(keyframes: tuple[float, ...], duration: float | None) -> float | None:
    """Return the longest segment length, seconds, that cuts at these keyframes without making one too long.

    A segment ends with the first keyframe at or after each multiple of the length, as FFmpeg's muxer cuts.
    """
    if not keyframes or not duration:
        return None
    for length in range(SEGMENT_SECONDS, 0, -1):
        cuts = segment_starts(keyframes, length)
        if all(b - a <= _LONGEST_SEGMENT for a, b in pairwise([*cuts, max(duration, cuts[-1])])):
            return float(length)
    return None


def segment_starts(keyframes: tuple[float, ...], length: float) -> list[float]:
    """Return at which of the keyframes, in seconds, segments of the length begin."""
    starts = [keyframes[0]]
    due = length
    for time in keyframes[1:]:
        if time - keyframes[0] >= due - 1e-6:
            starts.append(time)
            due += length
    return starts


def _duration(
    source: SourceFacts, pictures: tuple[PicturePlan, ...], sound: SoundPlan | None, origin: float
) -> float | None:
    # The container's duration counts streams that are left out, a stream's what an edit list hides.
    streams = [stream.facts for stream in (*pictures[:1], sound) if stream]
    ends = [stream.start - origin + stream.duration for stream in streams if stream.duration]
    if len(ends) < len(streams):
        return source.duration
    return min(max(ends), source.duration or max(ends))


def _picture_obstacle(source: SourceFacts, codec: PictureCodec, size: tuple[int, int]) -> str:
    """Return why the source's picture is not what a rendition of `size` would be; empty: it is."""
    video = source.video
    if video is None:
        return "there is none"
    rung = rung_for(*sorted(size))
    bit_rate = picture_bit_rate(source, video)
    colour = meant(video)
    obstacles = (
        (video.codec != codec.name, f"it is {video.codec}"),
        (video.profile not in codec.copyable_profiles, f"its profile is {video.profile}"),
        (video.pixel_format not in codec.copyable_pixels, f"its pixels are {video.pixel_format}"),
        (video.full_range, "its colours are full range"),
        # A picture without colour tags may be copied: players guess them from its size, as `meant` does.
        (
            colour != shown(colour, hdr=codec.ten_bits),
            f"its colours are {colour.primaries}, {colour.transfer}",
        ),
        (video.level > codec.highest_level, f"its level is over {codec.highest_level}"),
        (video.interlaced, "it is interlaced"),
        (video.rotation != 0 or video.mirrored, "it is not stored upright"),
        (video.trimmed, "an edit list hides some of it"),
        (
            source.container == "avi" and video.reordered,
            "the container has no presentation times",
        ),
        (
            source.container == "mpegts" and not video.constant_frame_rate,
            "the duration of its last frame is unknown",
        ),
        (video.pixel_aspect != 1, "its pixels are not square"),
        ((video.width, video.height) != size, f"it is {video.width}x{video.height}"),
        (bit_rate is None, "its bit rate is not known"),
        ((bit_rate or 0) > rung.max_bit_rate, f"its bit rate is over {rung.max_bit_rate:,} b/s"),
    )
    return next((reason for holds, reason in obstacles if holds), "")


def _segments_obstacle(source: SourceFacts, video: VideoFacts, late: float) -> str:
    """Return why a picture that fits cannot be copied into segments; it starts `late` seconds after sound."""
    obstacles = (
        (late > _OUT_OF_STEP, "it starts later than the sound"),
        # FFmpeg's muxer writes wrong times of its segments' first frames.
        (not video.constant_frame_rate, "its frame rate varies"),
        (source.keyframes is None, "the container has no index of its keyframes"),
        # Each segment can be decoded without the others: RFC 8216, 4.3.5.1.
        (source.open_gops, "its groups of pictures are open"),
        (
            copyable_segment_seconds(source.keyframes or (), source.duration) is None,
            f"its keyframes do not allow segments of at most {SEGMENT_SECONDS} s",
        ),
    )
    return next((reason for holds, reason in obstacles if holds), "")


def picture_bit_rate(source: SourceFacts, video: VideoFacts) -> int | None:
    """Return the bit rate of the source's picture, in bits per second; None where it is unknown."""
    if video.bit_rate:
        return video.bit_rate
    if source.bit_rate:
        return source.bit_rate - ((source.audio.bit_rate or 0) if source.audio else 0)
    return int(source.size * 8 / source.duration) if source.duration else None


def _plan_sound(
    source: SourceFacts, target: Format, rung: Rung, origin: float, *, may_copy: bool
) -> SoundPlan | None:
    audio, codec = source.audio, target.sound
    if audio is None or codec is None:
        return None
    cd_family = codec.cd_rates and audio.sample_rate in _RATES_OF_CD_FAMILY
    channels = 1 if audio.channels == 1 and audio.right is None else 2
    bit_rate = rung.mono_bit_rate if channels == 1 else rung.stereo_bit_rate
    return SoundPlan(
        facts=audio,
        codec=codec,
        obstacle=_sound_obstacle(audio, codec, bit_rate, origin) if may_copy else _TRIED,
        channels=channels,
        sample_rate=44_100 if cd_family else 48_000,
        bit_rate=bit_rate,
    )


def _sound_obstacle(audio: AudioFacts, codec: SoundCodec, bit_rate: int, origin: float) -> str:
    """Return why the source's sound is not what `codec` would make at the bit rate; empty: it is."""
    highest = float("inf") if codec.lossless else bit_rate * 1.1
    profiles = codec.copyable_profiles
    obstacles = (
        (audio.codec != codec.name, f"it is {audio.codec}"),
        (profiles is not None and audio.profile not in profiles, f"its profile is {audio.profile}"),
        (audio.right is not None, "its channels are streams of their own"),
        (audio.channels not in {1, 2}, f"it has {audio.channels} channels"),
        (audio.sample_rate not in _COPYABLE_SAMPLE_RATES, f"its sample rate is {audio.sample_rate} Hz"),
        (audio.bit_rate is None, "its bit rate is not known"),
        ((audio.bit_rate or 0) > highest, f"its bit rate is over {highest:,.0f} b/s"),
        (audio.trimmed, "an edit list hides some of it"),
        (audio.start - origin > _IN_STEP, "it starts later than the picture"),
    )
    return next((reason for holds, reason in obstacles if holds), "")


def _plan_texts(source: SourceFacts, target: Format, *, may_copy: bool) -> tuple[TextPlan, ...]:
    if not target.text:
        return ()
    copied = {text.index: may_copy and text.codec in target.text for text in source.subtitles}
    return tuple(
        TextPlan(text, text.codec if copied[text.index] else target.text[0], copied[text.index])
        for text in source.subtitles
    )
