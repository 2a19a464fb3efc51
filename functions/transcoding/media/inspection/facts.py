"""What is known of a source before any of it is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """A picture stream, as it is stored: rotation and pixel shape are still to be applied.

    `width` and `height` in pixels, `frame_rate` in frames per second, `start` in seconds on the source's own
    timeline, `duration` in seconds and `bit_rate` in bits per second; None: unknown.
    `rotation` in degrees clockwise to bring it upright, one of 0, 90, 180, 270; None: by no right angle.
    `language` is a BCP 47 tag; empty where unknown.
    """

    index: int
    codec: str
    profile: str
    level: int
    width: int
    height: int
    pixel_format: str
    pixel_aspect: Fraction = Fraction(1)
    rotation: int | None = 0
    mirrored: bool = False
    frame_rate: Fraction = Fraction(25)
    constant_frame_rate: bool = True
    interlaced: bool = False
    full_range: bool = False
    #: FFmpeg's names; empty where the source has no tag.
    primaries: str = ""
    transfer: str = ""
    matrix: str = ""
    #: The length of a tick, the unit of the stream's times in the container, in seconds.
    time_base: Fraction = Fraction(1, 90_000)
    start: float = 0.0
    duration: float | None = None
    bit_rate: int | None = None
    #: Whether packets are not in presentation order: ffprobe's `has_b_frames` is above 0.
    reordered: bool = False
    #: Whether an edit list hides some of it.
    trimmed: bool = False
    language: str = ""


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """A sound stream. `sample_rate` in hertz, `name` is its title, the rest as in `VideoFacts`.

    `layout` is FFmpeg's name of the channels' places, empty where unknown.
    `right` is the index of the stream with the right channel, where each channel is a stream of its own.
    """

    index: int
    codec: str
    profile: str
    channels: int
    sample_rate: int
    layout: str = ""
    right: int | None = None
    start: float = 0.0
    duration: float | None = None
    bit_rate: int | None = None
    trimmed: bool = False
    language: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class TextFacts:
    """A stream of subtitles that are text, not pictures; `language` and `name` as in `AudioFacts`.

    `default`: shown unless the viewer decides otherwise; `forced`: shown even to viewers who want none;
    `hearing_impaired`: they also describe sounds.
    """

    index: int
    codec: str
    language: str = ""
    name: str = ""
    default: bool = False
    forced: bool = False
    hearing_impaired: bool = False


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """A keyframe that decoding can begin at, in ticks of the picture's time base.

    Where reading begins at `seek`, all frames from `complete_from` on can be decoded.
    """

    seek: int
    complete_from: int


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """A source: its container, the one picture and the one sound stream that a viewer would see and hear.

    `duration` in seconds, None where unknown, `estimated` whether it is only guessed from the size and the
    first bit rate; `size` in bytes. `keyframes` are the times of all keyframes of the picture, in seconds
    from the first one, None where the container's index does not have them all; `entry_points` are the known
    places at which decoding can begin. `start` is where the container's timeline begins, in seconds.
    `open_gops`: frames that follow a keyframe may need those before it.
    """

    container: str
    duration: float | None
    size: int
    bit_rate: int | None
    video: VideoFacts | None
    audio: AudioFacts | None
    keyframes: tuple[float, ...] | None = None
    entry_points: tuple[EntryPoint, ...] = ()
    start: float = 0.0
    subtitles: tuple[TextFacts, ...] = ()
    estimated: bool = False
    open_gops: bool = False
