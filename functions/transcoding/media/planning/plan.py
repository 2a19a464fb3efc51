"""Decides what becomes of a source: pure functions from facts to a plan."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from transcoding.errors import Failure, TaskFailedError
from transcoding.media.inspection.colour import is_common, meant
from transcoding.media.inspection.facts import AudioFacts, SourceFacts, TextFacts, VideoFacts
from transcoding.media.planning.formats import Format, Packaging
from transcoding.media.planning.ladder import SHORT_SIDE, Rung, rung_for

#: Segment length asked for, and the distance of keyframes inside, seconds
#: (Apple's HLS authoring specification 7.5 and 1.13).
SEGMENT_SECONDS = 6
KEYFRAME_SECONDS = 2

#: A gap in a source's times of more seconds than this is an error, and closed.
LONGEST_GAP = 3600

#: A segment's length, rounded, must not be over the target duration (RFC 8216, 4.3.3.1).
_LONGEST_SEGMENT = SEGMENT_SECONDS + 0.499

#: By codec: what every player of the last ten years decodes.
_COPYABLE_PROFILES = {
    "h264": frozenset({"Constrained Baseline", "Baseline", "Main", "High"}),
    "vp9": frozenset({"Profile 0"}),
}
_HIGHEST_COPYABLE_LEVEL = 52
#: A pixel that is longer than this many times its other side is a writer's mistake, and taken as square.
_ODDEST_PIXEL = Fraction(8)
_COPYABLE_SAMPLE_RATES = frozenset({32_000, 44_100, 48_000})
#: Seconds between the starts of picture and sound: that are none, and that can be seen and heard.
_IN_STEP, _OUT_OF_STEP = 0.001, 0.02
#: Containers whose clocks may jump. FFmpeg lets their times begin with the first stream that it reads.
_CLOCKED = frozenset({"mpegts", "mpeg", "ogg"})
_LOSSLESS = frozenset({"pcm_s16le"})
_TRIED = "an attempt that copied has failed"
_RATES_OF_CD_FAMILY = frozenset({11_025, 22_050, 44_100, 88_200, 176_400})


@dataclass(frozen=True, slots=True)
class VideoPlan:
    """What becomes of the picture, in `codec`. `obstacle` says why it is not copied; empty: it is.

    `width` and `height` are the result's, in pixels, upright and square; `start` is when its first frame is
    shown, in seconds of the result's timeline, `held` whether that is sooner than in the source. `origin` is
    where the result's timeline begins, in seconds of the source's. `frame_rate` is the constant one to make,
    in frames per second; None: frames stay as they are.
    """

    facts: VideoFacts
    codec: str
    obstacle: str
    width: int
    height: int
    rung: Rung
    start: float = 0.0
    held: bool = False
    origin: float = 0.0
    frame_rate: Fraction | None = None

    @property
    def copied(self) -> bool:
        """Whether the stream is taken over bit by bit."""
        return not self.obstacle


@dataclass(frozen=True, slots=True)
class AudioPlan:
    """What becomes of the sound, in `codec`. `obstacle` as in `VideoPlan`; `bit_rate` in bits per second."""

    facts: AudioFacts
    codec: str
    obstacle: str
    channels: int
    sample_rate: int
    bit_rate: int

    @property
    def copied(self) -> bool:
        """Whether the stream is taken over bit by bit."""
        return not self.obstacle


@dataclass(frozen=True, slots=True)
class TextPlan:
    """What becomes of one stream of subtitles, in `codec`."""

    facts: TextFacts
    codec: str
    copied: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What to make of a source; times in seconds.

    `duration` is how long the result will be, None where the source does not tell, `estimated` whether it may
    as well be another length. `origin` is where the result's timeline begins on the source's, and
    `source_start` where the source's own does; None: with the first of the streams that are read.
    """

    format: Format
    duration: float | None
    video: VideoPlan | None
    audio: AudioPlan | None
    segment_seconds: float = SEGMENT_SECONDS
    #: Whether each frame has a length of its own in the source, so that a long one is meant.
    tells_lengths: bool = False
    subtitles: tuple[TextPlan, ...] = ()
    origin: float = 0.0
    source_start: float | None = None
    estimated: bool = False

    @property
    def has_sound(self) -> bool:
        """Whether the result has more than a picture: sound, or the text that is made along with it."""
        return bool(self.audio or self.subtitles)

    @property
    def copies(self) -> bool:
        """Whether a stream is copied."""
        return any(stream is not None and stream.copied for stream in (self.video, self.audio))

    def describe(self) -> dict[str, str]:
        """Return what becomes of each stream, and why, for the log."""
        streams = {"video": self.video, "audio": self.audio}
        described = {
            kind: "none" if stream is None else f"encode: {stream.obstacle}" if stream.obstacle else "copy"
            for kind, stream in streams.items()
        }
        texts = [f"{text.facts.codec} to {text.codec}" for text in self.subtitles]
        return described | ({"subtitles": ", ".join(texts)} if texts else {})


def plan(
    source: SourceFacts, target: Format, quality: int, *, may_copy: bool = True, with_text: bool = True
) -> Plan:
    """Return what to make of `source` in the format and the quality (1 to 5) asked for.

    Without `may_copy` all is encoded, and without `with_text` subtitles are left out: each has been tried,
    and may be why an attempt has failed.
    Raises TaskFailedError where the format cannot hold what the source has.
    """
    if source.video is None and target.needs_picture:
        raise TaskFailedError(
            Failure.FORMAT_NEEDS_PICTURE, f"The source has no picture, and {target.name} needs one."
        )
    if source.audio is None and target.needs_sound:
        raise TaskFailedError(
            Failure.FORMAT_NEEDS_SOUND, f"The source has no sound, and {target.name} needs some."
        )
    taken = (source.video if target.picture else None, source.audio if target.sound else None)
    origin = min((stream.start for stream in taken if stream), default=0.0)
    segment_seconds = copyable_segment_seconds(source.keyframes or (), source.duration)
    video = audio = None
    if source.video and target.picture:
        width, height = output_size(source.video, _short_side(target, quality))
        obstacle = _picture_obstacle(source, target, quality) if may_copy else _TRIED
        start = source.video.start - origin
        # In segments, a late start would need an edit list that not every player goes by.
        held = target.packaging is Packaging.SEGMENTS and start > _IN_STEP
        if not obstacle and target.packaging is Packaging.SEGMENTS:
            if start > _OUT_OF_STEP:
                obstacle = "it starts later than the sound"
            elif not source.video.constant_frame_rate:
                # FFmpeg's muxer tells the times of its segments' first frames wrongly.
                obstacle = "its frames last unequally long"
            elif source.keyframes is None:
                obstacle = "the container does not tell where its keyframes are"
            elif segment_seconds is None:
                obstacle = f"its keyframes do not allow segments of at most {SEGMENT_SECONDS} s"
        rung = rung_for(min(width, height))
        zero = origin
        if target.packaging is Packaging.SEGMENTS:
            # The first segment begins with the picture.
            zero, start = (origin if held else source.video.start), 0.0
        rate = (
            target.frame_rate if target.frame_rate and source.video.frame_rate > target.frame_rate else None
        )
        video = VideoPlan(
            source.video, target.picture, obstacle, width, height, rung, start, held, zero, rate
        )
    if source.audio and target.sound:
        rung = rung_for(min(video.width, video.height) if video else 1080)
        obstacle = _sound_obstacle(source.audio, target.sound, rung, origin) if may_copy else _TRIED
        audio = _plan_sound(source.audio, target.sound, rung, obstacle)
    duration = _duration(source, video, audio, origin)
    if duration and target.seconds and duration > target.seconds:
        raise TaskFailedError(
            Failure.TOO_LONG,
            f"The source lasts {duration:.0f} s; as {target.name} at most {target.seconds:.0f} s are made. "
            "Send a shorter part of it, or ask for mp4.",
        )
    if video is None or not video.copied:
        segment_seconds = None
    return Plan(
        format=target,
        duration=duration,
        video=video,
        audio=audio,
        segment_seconds=segment_seconds or SEGMENT_SECONDS,
        tells_lengths=source.container.startswith("mov"),
        subtitles=_plan_subtitles(source, target, may_copy=may_copy) if with_text else (),
        origin=origin,
        source_start=None if source.container in _CLOCKED else source.start,
        estimated=source.estimated,
    )


def needs_keyframes(source: SourceFacts, target: Format, quality: int) -> bool:
    """Whether the plan hangs on where the source's keyframes are."""
    return target.packaging is Packaging.SEGMENTS and not _picture_obstacle(source, target, quality)


def _short_side(target: Format, quality: int) -> int | None:
    return min((side for side in (SHORT_SIDE[quality], target.short_side) if side), default=None)


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
    source: SourceFacts, video: VideoPlan | None, audio: AudioPlan | None, origin: float
) -> float | None:
    # The container counts streams that are left out, and a stream counts what an edit list leaves out.
    streams = [stream.facts for stream in (video, audio) if stream]
    ends = [stream.start - origin + stream.duration for stream in streams if stream.duration]
    if len(ends) < len(streams):
        return source.duration
    return min(max(ends), source.duration or max(ends))


def _picture_obstacle(source: SourceFacts, target: Format, quality: int) -> str:
    video = source.video
    if video is None:
        return "there is none"
    width, height = output_size(video, _short_side(target, quality))
    rung = rung_for(min(width, height))
    bit_rate = picture_bit_rate(source, video)
    colour = meant(video)
    obstacles = (
        (video.codec != target.picture, f"it is {video.codec}"),
        (video.profile not in _COPYABLE_PROFILES.get(video.codec, ()), f"its profile is {video.profile}"),
        (video.pixel_format not in {"yuv420p", "yuvj420p"}, f"its pixels are {video.pixel_format}"),
        (video.full_range, "its colours are full range"),
        # What is not told may be copied: players guess it from the size, as is done here.
        (not is_common(colour), f"its colours are {colour.primaries}, {colour.transfer}"),
        (video.level > _HIGHEST_COPYABLE_LEVEL, f"its level is {video.level / 10}"),
        (video.interlaced, "it is interlaced"),
        (video.rotation != 0 or video.mirrored, "it is not stored upright"),
        (video.trimmed, "an edit list hides some of it"),
        (
            source.container == "avi" and video.reordered,
            "the container does not tell when its frames are shown",
        ),
        (
            source.container == "mpegts" and not video.constant_frame_rate,
            "nothing tells how long its last frame is shown",
        ),
        (video.pixel_aspect != 1, "its pixels are not square"),
        ((video.width, video.height) != (width, height), f"it is {video.width}x{video.height}"),
        (bit_rate is None, "its bit rate is not known"),
        ((bit_rate or 0) > rung.max_bit_rate, f"its bit rate is over {rung.max_bit_rate:,} b/s"),
    )
    return next((reason for holds, reason in obstacles if holds), "")


def picture_bit_rate(source: SourceFacts, video: VideoFacts) -> int | None:
    """Return the bit rate of the source's picture, in bits per second, as far as it is told."""
    if video.bit_rate:
        return video.bit_rate
    if source.bit_rate:
        return source.bit_rate - ((source.audio.bit_rate or 0) if source.audio else 0)
    return int(source.size * 8 / source.duration) if source.duration else None


def _sound_obstacle(audio: AudioFacts, codec: str, rung: Rung, origin: float) -> str:
    highest = float("inf") if codec in _LOSSLESS else _sound_bit_rate(audio, rung) * 1.1
    obstacles = (
        (audio.codec != codec, f"it is {audio.codec}"),
        (codec == "aac" and audio.profile != "LC", f"its profile is {audio.profile}"),
        (audio.right is not None, "its channels are streams of their own"),
        (audio.channels not in {1, 2}, f"it has {audio.channels} channels"),
        (audio.sample_rate not in _COPYABLE_SAMPLE_RATES, f"its sample rate is {audio.sample_rate} Hz"),
        (audio.bit_rate is None, "its bit rate is not known"),
        ((audio.bit_rate or 0) > highest, f"its bit rate is over {highest:,.0f} b/s"),
        (audio.trimmed, "an edit list hides some of it"),
        (audio.start - origin > _IN_STEP, "it starts later than the picture"),
    )
    return next((reason for holds, reason in obstacles if holds), "")


def _plan_sound(audio: AudioFacts, codec: str, rung: Rung, obstacle: str) -> AudioPlan:
    cd_family = codec != "opus" and audio.sample_rate in _RATES_OF_CD_FAMILY
    return AudioPlan(
        facts=audio,
        codec=codec,
        obstacle=obstacle,
        channels=1 if audio.channels == 1 and audio.right is None else 2,
        sample_rate=44_100 if cd_family else 48_000,
        bit_rate=_sound_bit_rate(audio, rung),
    )


def _plan_subtitles(source: SourceFacts, target: Format, *, may_copy: bool) -> tuple[TextPlan, ...]:
    if not target.text:
        return ()
    copied = {text.index: may_copy and text.codec in target.text for text in source.subtitles}
    return tuple(
        TextPlan(text, text.codec if copied[text.index] else target.text[0], copied[text.index])
        for text in source.subtitles
    )


def _sound_bit_rate(audio: AudioFacts, rung: Rung) -> int:
    mono = audio.channels == 1 and audio.right is None
    return rung.audio_bit_rate // 2 if mono else rung.audio_bit_rate
