"""The output formats, as data: what `format` may be, and what each becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from types import MappingProxyType


class Packaging(Enum):
    """How a result is stored."""

    #: Playlists beside fMP4 segments, each rendition in a folder of its own.
    SEGMENTS = "segments"
    #: One file.
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Format:
    """One value of `format`.

    `entry` is the name of the object that `target_url` points at, and `content_type` its media type.
    `picture` and `sound` are FFmpeg's names of the codecs; None: the result has no such stream.
    `text` are those of subtitles that it holds, first the one that all others become.
    `short_side` in pixels, `frame_rate` in frames per second and `seconds` are the most of each, None: any.
    """

    name: str
    entry: str
    content_type: str
    muxer: str
    muxer_options: tuple[str, ...] = ()
    packaging: Packaging = Packaging.FILE
    picture: str | None = "h264"
    sound: str | None = "aac"
    text: tuple[str, ...] = ()
    #: Whether a source without a picture, or without sound, makes no sense.
    needs_picture: bool = False
    needs_sound: bool = False
    short_side: int | None = None
    frame_rate: Fraction | None = None
    seconds: float | None = None

    @property
    def in_parts(self) -> bool:
        """Whether the picture may be encoded in parts that are joined."""
        return self.picture in {"h264", "vp9"}


#: The index before the media, so that playback starts before the whole file is there.
_FAST_START = ("-movflags", "+faststart")

FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        f.name: f
        for f in (
            Format(
                "m3u8",
                "master.m3u8",
                "application/vnd.apple.mpegurl",
                "hls",
                packaging=Packaging.SEGMENTS,
                text=("webvtt",),
            ),
            # With HLS playlists over the same segments.
            Format(
                "mpd",
                "manifest.mpd",
                "application/dash+xml",
                "dash",
                packaging=Packaging.SEGMENTS,
                text=("webvtt",),
            ),
            Format("mp4", "video.mp4", "video/mp4", "mp4", _FAST_START, text=("mov_text",)),
            Format("mov", "video.mov", "video/quicktime", "mov", _FAST_START, text=("mov_text",)),
            Format(
                "mkv",
                "video.mkv",
                "video/matroska",
                "matroska",
                ("-cues_to_front", "1"),
                text=("subrip", "ass", "webvtt"),
            ),
            Format("ts", "video.ts", "video/mp2t", "mpegts"),
            Format(
                "flv",
                "video.flv",
                "video/x-flv",
                "flv",
                ("-flvflags", "add_keyframe_index"),
                needs_picture=True,
            ),
            Format(
                "webm",
                "video.webm",
                "video/webm",
                "webm",
                ("-cues_to_front", "1"),
                picture="vp9",
                sound="opus",
                needs_picture=True,
            ),
            Format(
                "gif",
                "video.gif",
                "image/gif",
                "gif",
                ("-loop", "0"),
                picture="gif",
                sound=None,
                needs_picture=True,
                # It grows by the pixel. Its clock ticks 100 times a second: 8 ticks a frame.
                short_side=480,
                frame_rate=Fraction(25, 2),
                seconds=60.0,
            ),
            Format("mp3", "audio.mp3", "audio/mpeg", "mp3", picture=None, sound="mp3", needs_sound=True),
            Format("m4a", "audio.m4a", "audio/mp4", "ipod", _FAST_START, picture=None, needs_sound=True),
            Format("ogg", "audio.ogg", "audio/ogg", "ogg", picture=None, sound="opus", needs_sound=True),
            Format(
                "wav",
                "audio.wav",
                "audio/wav",
                "wav",
                # More than 4 GB do not fit into a plain one.
                ("-rf64", "auto"),
                picture=None,
                sound="pcm_s16le",
                needs_sound=True,
            ),
        )
    }
)
