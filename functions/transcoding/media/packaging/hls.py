"""HLS playlists (RFC 8216) as text: read from FFmpeg while it writes, and rendered for publication."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from transcoding.media import languages
from transcoding.media.inspection.facts import TextFacts
from transcoding.media.packaging.fragments import Keyframe

#: The media type of playlists (RFC 8216, 4).
CONTENT_TYPE = "application/vnd.apple.mpegurl"

#: The playlist of a rendition's keyframes, beside that of its segments.
I_FRAMES = "iframes.m3u8"

#: Apple's characteristics of subtitles that also describe sounds.
_FOR_HEARING_IMPAIRED = (
    "public.accessibility.transcribes-spoken-dialog,public.accessibility.describes-music-and-sound"
)

#: The average bit rate of the variant that a player should begin with, in bits per second: Apple's HLS
#: authoring specification asks for 2,000 kb/s on Wi-Fi. The first variant of a playlist is that one.
_BEGIN_RATE = 2_200_000

_SEGMENT = re.compile(r"^#EXTINF:.*\n(?!#)(\S+)$", re.MULTILINE)


def segment_name(start: int | str, suffix: str = "m4s") -> str:
    """Return the name of the segment that starts at this tick, which does not depend on those before it."""
    return f"{start}.{suffix}"


@dataclass(frozen=True, slots=True)
class Segment:
    """A media segment: when it is shown (ticks of its rendition), and its bytes.

    `keyframes` are those that can be loaded without the rest of it; `samples` are its frames, 0 where they
    were not counted.
    """

    start: int
    end: int
    size: int
    suffix: str = "m4s"
    keyframes: tuple[Keyframe, ...] = ()
    samples: int = 0

    @property
    def name(self) -> str:
        """Its name beside the playlist."""
        return segment_name(self.start, self.suffix)


@dataclass(frozen=True, slots=True)
class Picture:
    """A variant's picture: its size in pixels, its most frames per second, and its range: SDR, PQ or HLG.

    `captioned`: captions (CEA-608) may be inside it.
    """

    width: int
    height: int
    frame_rate: Fraction
    video_range: str = "SDR"
    captioned: bool = False


@dataclass(frozen=True, slots=True)
class Rendition:
    """The segments of one stream; `uri` of its playlist is relative to the master playlist's.

    The init segment and the segments are named relative to that; WebVTT has no init segment and no codec.
    `timescale` is in ticks a second. `language` is a BCP 47 tag; it and `name` are empty where the source
    has none. `picture` is set for pictures only, and `channels` and `sample_rate` (Hz) for sound.
    """

    uri: str
    init_segment: str
    codec: str
    timescale: int
    segments: tuple[Segment, ...]
    language: str = ""
    name: str = ""
    picture: Picture | None = None
    channels: int = 0
    sample_rate: int = 0

    def seconds(self, segment: Segment) -> float:
        """Return a segment's length."""
        return (segment.end - segment.start) / self.timescale

    @property
    def codec_family(self) -> str:
        """The codec without its profile and level: players switch only between renditions of the same."""
        return self.codec.partition(".")[0]

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
        """The peak segment bit rate of RFC 8216 (4.3.4.2), bits per second.

        It is the largest of any run of segments that is between half and one and a half target durations
        long: a last segment of one frame says nothing about what a player must be able to load.
        """
        target = self.target_duration
        peak = 0.0
        for first in range(len(self.segments)):
            size, duration = 0, 0.0
            for segment in self.segments[first:]:
                size, duration = size + segment.size, duration + self.seconds(segment)
                if duration > 1.5 * target:
                    break
                if duration >= 0.5 * target:
                    peak = max(peak, size * 8 / duration)
        return math.ceil(peak) or self.average_bit_rate

    @property
    def average_bit_rate(self) -> int:
        """Bits per second over the whole length."""
        return math.ceil(sum(s.size for s in self.segments) * 8 / self.duration) if self.duration else 0


@dataclass(frozen=True, slots=True)
class Subtitles:
    """Subtitles as a rendition; `file` names one file with all of their text, beside the master playlist."""

    facts: TextFacts
    rendition: Rendition
    file: str


def closed(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Return the segments with each ending where the next one starts."""
    ends = [*(segment.start for segment in segments[1:]), *(segment.end for segment in segments[-1:])]
    return tuple(replace(segment, end=end) for segment, end in zip(segments, ends, strict=True))


def finished_segments(playlist: str) -> list[str]:
    """Return the names of the segments that a media playlist lists: those that are complete."""
    return _SEGMENT.findall(playlist)


def is_ended(playlist: str) -> bool:
    """Return whether a media playlist is complete: no more segments follow."""
    return "#EXT-X-ENDLIST" in playlist


def media_playlist(rendition: Rendition, target: int = 0) -> str:
    """Render the playlist of one rendition of segments that all start with a keyframe, or of WebVTT.

    `target` is the least target duration, seconds: picture and sound must have the same (RFC 8216, 6.2.4).
    """
    lines = [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        f"#EXT-X-TARGETDURATION:{max(target, rendition.target_duration)}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        "#EXT-X-INDEPENDENT-SEGMENTS",
    ]
    if rendition.init_segment:
        lines.append(f'#EXT-X-MAP:URI="{rendition.init_segment}"')
    for segment in rendition.segments:
        lines += [f"#EXTINF:{rendition.seconds(segment):.6f},", segment.name]
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""])


def i_frames(rendition: Rendition) -> Rendition:
    """Return the keyframes of a rendition as segments of one of their own; it may have none.

    Each lasts until the next one (RFC 8216, 4.3.3.6).
    """
    frames = [Segment(k.time, s.end, k.size) for s in rendition.segments for k in s.keyframes]
    return replace(rendition, uri=_beside(rendition.uri, I_FRAMES), segments=closed(frames))


def i_frame_playlist(rendition: Rendition) -> str:
    """Render the playlist of a rendition's keyframes, each a range of bytes of its segment."""
    frames = i_frames(rendition)
    lines = [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        f"#EXT-X-TARGETDURATION:{frames.target_duration}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        "#EXT-X-I-FRAMES-ONLY",
        f'#EXT-X-MAP:URI="{rendition.init_segment}"',
    ]
    places = [(segment.name, keyframe) for segment in rendition.segments for keyframe in segment.keyframes]
    for frame, (name, place) in zip(frames.segments, places, strict=True):
        lines += [
            f"#EXTINF:{frames.seconds(frame):.6f},",
            f"#EXT-X-BYTERANGE:{place.size}@{place.offset}",
            name,
        ]
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""])


def master_playlist(
    pictures: Sequence[Rendition], sound: Rendition | None, subtitles: Sequence[Subtitles] = ()
) -> str:
    """Render the playlist that a player opens: a variant for each picture, all with the same sound and text.

    `pictures` are those of one codec after those of another, each the best first; a player begins with the
    first codec. Sound and pictures are in playlists of their own, so that each can be made apart from the
    others. Without a picture, the sound is the one variant.
    """
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-INDEPENDENT-SEGMENTS"]
    if pictures and sound:
        name = sound.name or languages.name(sound.language) or "Audio"
        lines.append(
            f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="{name}",{_language(sound)}'
            f'DEFAULT=YES,AUTOSELECT=YES,CHANNELS="{sound.channels}",URI="{sound.uri}"'
        )
    lines += _subtitle_lines(subtitles)
    common = [sound] if sound else []
    for variant in [[picture, *common] for picture in _beginning(pictures)] or [common]:
        lines += [_variant_line(variant, [s.rendition for s in subtitles]), variant[0].uri]
    lines += [_i_frame_line(frames) for frames in map(i_frames, pictures) if frames.segments]
    return "\n".join([*lines, ""])


def _beginning(pictures: Sequence[Rendition]) -> list[Rendition]:
    """Return the pictures with the one that a player should begin with first."""
    if not pictures:
        return []
    family = pictures[0].codec_family
    candidates = [picture for picture in pictures if picture.codec_family == family]
    begin = next((p for p in candidates if p.average_bit_rate <= _BEGIN_RATE), candidates[-1])
    return [begin, *(picture for picture in pictures if picture is not begin)]


def _i_frame_line(frames: Rendition) -> str:
    """Return the EXT-X-I-FRAME-STREAM-INF tag of the keyframes of a picture (RFC 8216, 4.3.4.3)."""
    attributes = [
        f"BANDWIDTH={frames.peak_bit_rate}",
        f"AVERAGE-BANDWIDTH={frames.average_bit_rate}",
        f'CODECS="{frames.codec}"',
    ]
    if picture := frames.picture:
        attributes.append(f"RESOLUTION={picture.width}x{picture.height}")
        attributes.append(f"VIDEO-RANGE={picture.video_range}")
    return f'#EXT-X-I-FRAME-STREAM-INF:{",".join(attributes)},URI="{frames.uri}"'


def _variant_line(variant: Sequence[Rendition], texts: Sequence[Rendition]) -> str:
    """Return the EXT-X-STREAM-INF tag of a picture and its sound (RFC 8216, 4.3.4.2)."""
    peak = sum(r.peak_bit_rate for r in variant) + max((r.peak_bit_rate for r in texts), default=0)
    average = sum(r.average_bit_rate for r in variant) + max((r.average_bit_rate for r in texts), default=0)
    attributes = [
        f"BANDWIDTH={peak}",
        f"AVERAGE-BANDWIDTH={average}",
        f'CODECS="{",".join(r.codec for r in variant)}"',
    ]
    if picture := variant[0].picture:
        attributes.append(f"RESOLUTION={picture.width}x{picture.height}")
        attributes.append(f"FRAME-RATE={float(picture.frame_rate):.3f}")
        attributes.append(f"VIDEO-RANGE={picture.video_range}")
        # Without it, Apple's players offer captions that are not there.
        attributes += [] if picture.captioned else ["CLOSED-CAPTIONS=NONE"]
    if len(variant) > 1:
        attributes.append('AUDIO="audio"')
    if texts:
        attributes.append('SUBTITLES="subtitles"')
    return "#EXT-X-STREAM-INF:" + ",".join(attributes)


def _subtitle_lines(subtitles: Sequence[Subtitles]) -> list[str]:
    """Return the EXT-X-MEDIA tags of a group: each has its name, one is the default (RFC 8216, 4.3.4.1.1)."""
    lines = []
    names: set[str] = set()
    kinds = set()
    default = next((s for s in subtitles if s.facts.default), None)
    for subtitle in subtitles:
        facts, rendition = subtitle.facts, subtitle.rendition
        plain = name = facts.name or languages.name(facts.language) or "Subtitles"
        number = 2
        while name in names:
            name, number = f"{plain} {number}", number + 1
        names.add(name)
        # Of renditions that a player cannot distinguish, it may choose only the first by itself.
        kind = (facts.language, facts.forced, facts.hearing_impaired)
        chosen = subtitle is default or kind not in kinds
        kinds.add(kind)
        tag = (
            f'#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="subtitles",NAME="{name}",{_language(rendition)}'
            f"DEFAULT={_yes(subtitle is default)},AUTOSELECT={_yes(chosen)},FORCED={_yes(facts.forced)},"
        )
        if facts.hearing_impaired:
            tag += f'CHARACTERISTICS="{_FOR_HEARING_IMPAIRED}",'
        lines.append(f'{tag}URI="{rendition.uri}"')
    return lines


def _beside(uri: str, name: str) -> str:
    return f"{uri.rpartition('/')[0]}/{name}"


def _language(rendition: Rendition) -> str:
    # Apple's HLS authoring specification (8.10) wants one; BCP 47 has this for what is not known.
    return f'LANGUAGE="{rendition.language or "und"}",'


def _yes(true: bool) -> str:
    return "YES" if true else "NO"
