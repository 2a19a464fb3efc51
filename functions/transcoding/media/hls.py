"""HLS playlists (RFC 8216) as text: read from FFmpeg while it writes, and rendered for publication."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

#: The media type of playlists (RFC 8216, 4).
CONTENT_TYPE = "application/vnd.apple.mpegurl"

_SEGMENT = re.compile(r"^#EXTINF:([0-9.]+),.*\n(?!#)(\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Segment:
    """A media segment: its name beside the playlist, its length in seconds, its size in bytes."""

    name: str
    duration: float
    size: int


@dataclass(frozen=True, slots=True)
class Rendition:
    """The segments of one stream; `uri` of its playlist is relative to the master playlist's.

    The init segment and the segments are named relative to that.
    """

    uri: str
    init_segment: str
    codec: str
    segments: tuple[Segment, ...]

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return sum(s.duration for s in self.segments)

    @property
    def peak_bit_rate(self) -> int:
        """The largest bit rate of any segment, bits per second.

        A segment of less than half the target duration counts with its neighbour (RFC 8216, 4.3.4.2 leaves
        them out: a last segment of one frame says nothing about what a player must be able to load).
        """
        target = target_duration(self.segments)
        rates = [s.size * 8 / s.duration for s in self.segments if s.duration >= target / 2]
        return math.ceil(max(rates, default=self.average_bit_rate))

    @property
    def average_bit_rate(self) -> int:
        """Bits per second over the whole length."""
        return math.ceil(sum(s.size for s in self.segments) * 8 / self.duration) if self.duration else 0


@dataclass(frozen=True, slots=True)
class Picture:
    """What a variant's picture is like: pixels and frames per second."""

    width: int
    height: int
    frame_rate: Fraction


def finished_segments(playlist: str) -> list[tuple[str, float]]:
    """Return (name, seconds) of the segments that a media playlist lists: those that are complete."""
    return [(name, float(duration)) for duration, name in _SEGMENT.findall(playlist)]


def target_duration(segments: Sequence[Segment]) -> int:
    """Return EXT-X-TARGETDURATION, seconds: no segment's rounded length is over it (RFC 8216, 4.3.3.1)."""
    return max((math.floor(s.duration + 0.5) for s in segments), default=0) or 1


def media_playlist(rendition: Rendition) -> str:
    """Render the playlist of one rendition of fMP4 segments that all start with a keyframe."""
    lines = [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        f"#EXT-X-TARGETDURATION:{target_duration(rendition.segments)}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        f'#EXT-X-MAP:URI="{rendition.init_segment}"',
    ]
    for segment in rendition.segments:
        lines += [f"#EXTINF:{segment.duration:.6f},", segment.name]
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""])


def master_playlist(
    video: Rendition | None, picture: Picture | None, audio: Rendition | None, channels: int
) -> str:
    """Render the playlist that a player opens: one variant, its sound a rendition of its own.

    Sound and picture are in playlists of their own, so that each can be made apart from the other.
    """
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-INDEPENDENT-SEGMENTS"]
    attributes = []
    both = [r for r in (video, audio) if r]
    attributes.append(f"BANDWIDTH={sum(r.peak_bit_rate for r in both)}")
    attributes.append(f"AVERAGE-BANDWIDTH={sum(r.average_bit_rate for r in both)}")
    attributes.append(f'CODECS="{",".join(r.codec for r in both)}"')
    if picture:
        attributes.append(f"RESOLUTION={picture.width}x{picture.height}")
        attributes.append(f"FRAME-RATE={float(picture.frame_rate):.3f}")
    if video and audio:
        lines.append(
            '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="Audio",DEFAULT=YES,AUTOSELECT=YES,'
            f'CHANNELS="{channels}",URI="{audio.uri}"'
        )
        attributes.append('AUDIO="audio"')
    return "\n".join([*lines, "#EXT-X-STREAM-INF:" + ",".join(attributes), both[0].uri, ""])


def codec_string(init_segment: bytes) -> str:
    """Return the RFC 6381 codecs parameter of the one stream that an fMP4 init segment describes.

    Raises ValueError where the stream is neither H.264 nor AAC.
    """
    # AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1): version, then profile, constraints and level.
    at = init_segment.find(b"avcC")
    if at > 0:
        return f"avc1.{init_segment[at + 5 : at + 8].hex()}"
    # esds → DecoderSpecificInfo (ISO/IEC 14496-1, tag 5): the first five bits are the audio object type.
    at = init_segment.find(b"esds")
    if at > 0:
        tag = re.compile(rb"\x05(?:\x80\x80\x80)?[\x02-\x40](.)", re.DOTALL).search(init_segment, at + 8)
        if tag:
            return f"mp4a.40.{tag[1][0] >> 3}"
    raise ValueError("neither H.264 nor AAC")
