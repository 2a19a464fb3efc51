"""HLS playlists (RFC 8216) as text: read from FFmpeg while it writes, and rendered for publication."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

#: The media type of playlists (RFC 8216, 4).
CONTENT_TYPE = "application/vnd.apple.mpegurl"

_SEGMENT = re.compile(r"^#EXTINF:.*\n(?!#)(\S+)$", re.MULTILINE)


def segment_name(start: int | str) -> str:
    """Return the name of the segment that starts at this tick: it can be told without those before it."""
    return f"{start}.m4s"


@dataclass(frozen=True, slots=True)
class Segment:
    """A media segment: when it is shown (ticks of its rendition), and its bytes."""

    start: int
    end: int
    size: int

    @property
    def name(self) -> str:
        """Its name beside the playlist."""
        return segment_name(self.start)


@dataclass(frozen=True, slots=True)
class Rendition:
    """The segments of one stream; `uri` of its playlist is relative to the master playlist's.

    The init segment and the segments are named relative to that. `timescale` is in ticks a second.
    """

    uri: str
    init_segment: str
    codec: str
    timescale: int
    segments: tuple[Segment, ...]

    def seconds(self, segment: Segment) -> float:
        """Return a segment's length."""
        return (segment.end - segment.start) / self.timescale

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return sum(map(self.seconds, self.segments))

    @property
    def target_duration(self) -> int:
        """EXT-X-TARGETDURATION, seconds: no segment's rounded length is over it (RFC 8216, 4.3.3.1)."""
        return max((math.floor(self.seconds(s) + 0.5) for s in self.segments), default=0) or 1

    @property
    def peak_bit_rate(self) -> int:
        """The largest bit rate of any segment, bits per second.

        A segment of less than half the target duration counts with its neighbour (RFC 8216, 4.3.4.2 leaves
        them out: a last segment of one frame says nothing about what a player must be able to load).
        """
        target = self.target_duration
        rates = [s.size * 8 / self.seconds(s) for s in self.segments if self.seconds(s) >= target / 2]
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


def closed(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Return the segments with each ending where the next one starts."""
    ends = [*(segment.start for segment in segments[1:]), *(segment.end for segment in segments[-1:])]
    return tuple(replace(segment, end=end) for segment, end in zip(segments, ends, strict=True))


def finished_segments(playlist: str) -> list[str]:
    """Return the names of the segments that a media playlist lists: those that are complete."""
    return _SEGMENT.findall(playlist)


def media_playlist(rendition: Rendition) -> str:
    """Render the playlist of one rendition of fMP4 segments that all start with a keyframe."""
    lines = [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        f"#EXT-X-TARGETDURATION:{rendition.target_duration}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        f'#EXT-X-MAP:URI="{rendition.init_segment}"',
    ]
    for segment in rendition.segments:
        lines += [f"#EXTINF:{rendition.seconds(segment):.6f},", segment.name]
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
