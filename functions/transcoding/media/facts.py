"""What is known of a source before any of it is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """A picture stream, as it is stored: rotation and pixel shape are still to be applied.

    `width` and `height` in pixels, `frame_rate` in frames per second, `start` in seconds on the source's own
    timeline, `duration` in seconds and `bit_rate` in bits per second where the container tells.
    `rotation` in degrees clockwise to bring it upright, one of 0, 90, 180, 270; None: by no right angle.
    `language` is a BCP 47 tag; empty where the source does not tell.
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
    #: FFmpeg's names of the matrix from RGB and of the transfer curve; empty where the source does not tell.
    matrix: str = ""
    transfer: str = ""
    start: float = 0.0
    duration: float | None = None
    bit_rate: int | None = None
    #: Reference frames behind the picture (`has_b_frames`); above 0, packets are not in presentation order.
    reordered: bool = False
    language: str = ""


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """A sound stream. `sample_rate` in hertz, `name` as its makers call it, the rest as in `VideoFacts`."""

    index: int
    codec: str
    profile: str
    channels: int
    sample_rate: int
    start: float = 0.0
    duration: float | None = None
    bit_rate: int | None = None
    language: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class TextFacts:
    """A stream of subtitles that are text, not pictures; `language` and `name` as in `AudioFacts`.

    `default`: shown unless the viewer decides otherwise; `forced`: shown even to who wants none;
    `hearing_impaired`: it tells of sounds, too.
    """

    index: int
    codec: str
    language: str = ""
    name: str = ""
    default: bool = False
    forced: bool = False
    hearing_impaired: bool = False


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """A source: its container, the one picture and the one sound stream that a viewer would see and hear.

    `duration` in seconds, None where the container does not tell; `size` in bytes. `keyframes` are the times
    of all keyframes of the picture, in seconds from its first frame, where the container's index tells.
    """

    container: str
    duration: float | None
    size: int
    bit_rate: int | None
    video: VideoFacts | None
    audio: AudioFacts | None
    keyframes: tuple[float, ...] | None = None
    subtitles: tuple[TextFacts, ...] = ()
