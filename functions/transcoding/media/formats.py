"""The output formats, as data: what `format` may be, and what each becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
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

    `entry` is the name of the object that `target_url` points at; `content_type` is its media type.
    """

    name: str
    packaging: Packaging
    entry: str
    content_type: str
    #: Whether a source that has only sound, or only a picture, makes a valid result.
    sound_alone: bool
    picture_alone: bool
    #: FFmpeg's muxer and its options.
    muxer: str
    muxer_options: tuple[str, ...] = ()


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        f.name: f
        for f in (
            Format(
                name="m3u8",
                packaging=Packaging.SEGMENTS,
                entry="master.m3u8",
                content_type="application/vnd.apple.mpegurl",
                sound_alone=True,
                picture_alone=True,
                muxer="hls",
            ),
            Format(
                name="mp4",
                packaging=Packaging.FILE,
                entry="video.mp4",
                content_type="video/mp4",
                sound_alone=True,
                picture_alone=True,
                muxer="mp4",
                # The index before the media, so that playback starts before the whole file is there.
                muxer_options=("-movflags", "+faststart"),
            ),
        )
    }
)
