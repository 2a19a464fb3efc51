"""The output formats, as data: what `format` may be, and what each becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from fractions import Fraction
from types import MappingProxyType

from transcoding.media.planning.codecs import (
    AAC,
    AV1,
    GIF,
    H264,
    HEVC,
    MP3,
    OPUS,
    PCM,
    VP9,
    PictureCodec,
    SoundCodec,
)


class Packaging(Enum):
    """How a result is stored."""

    #: Playlists beside fMP4 segments, each rendition in a folder of its own.
    SEGMENTS = "segments"
    #: One file.
    FILE = "file"


class Index(Enum):
    """The index in front of a file's media, by which players seek."""

    #: The moov box of the MP4 family.
    MOOV = "moov"
    #: Matroska's cues.
    CUES = "cues"
    #: FLV's list of keyframes in its metadata.
    KEYFRAMES = "keyframes"


@dataclass(frozen=True, slots=True, eq=False)
class Format:
    """One value of `format`.

    `target` is the name of the object that `target_url` points at, and `content_type` its media type.
    `pictures` are the codecs that a picture may have, the default first, and `sound` is the codec of sound;
    none: the result has no such stream.
    `text` are FFmpeg's names of its codecs of subtitles; all other subtitles are converted to the first.
    `short_side` in pixels, `frame_rate` in frames per second and `seconds` are the most of each, None: any.
    """

    name: str
    target: str
    content_type: str
    #: FFmpeg's name of the muxer that makes the file; of segments, that of the manifest.
    muxer: str
    muxer_options: tuple[str, ...] = ()
    #: The muxers of codecs that it does not take.
    other_muxers: Mapping[PictureCodec, str] = field(default_factory=dict)
    packaging: Packaging = Packaging.FILE
    pictures: tuple[PictureCodec, ...] = (H264,)
    sound: SoundCodec | None = AAC
    text: tuple[str, ...] = ()
    #: Whether a source without a picture, or without sound, makes no sense.
    needs_picture: bool = False
    needs_sound: bool = False
    #: Whether a DASH manifest stands beside the HLS playlists.
    dash: bool = False
    #: The index of a file that is joined from parts.
    index: Index | None = None
    #: Whether languages are written as QuickTime's codes.
    quicktime: bool = False
    short_side: int | None = None
    frame_rate: Fraction | None = None
    seconds: float | None = None

    @property
    def segmented(self) -> bool:
        """Whether the result is segments that start with keyframes, on a timeline without edit lists."""
        return self.packaging is Packaging.SEGMENTS

    @property
    def names_streams(self) -> bool:
        """Whether streams have their source's names.

        Playlists hold the names themselves; and in a file of sound alone, the name would be the song's title.
        """
        return not self.segmented and bool(self.pictures)

    @property
    def codec_choices(self) -> tuple[PictureCodec, ...]:
        """The codecs that may be asked for."""
        return tuple(codec for codec in self.pictures if codec.choosable)

    def codecs(self, names: str) -> tuple[PictureCodec, ...]:
        """Return the codecs of these names, which a comma separates; the default one for an empty string."""
        wanted = names.split(",")
        return tuple(codec for codec in self.pictures if codec.name in wanted) or self.pictures[:1]

    def holding(self, codecs: Sequence[PictureCodec]) -> Format:
        """Return the format as it is for pictures in these codecs."""
        muxer = next((self.other_muxers[codec] for codec in codecs if codec in self.other_muxers), self.muxer)
        return self if muxer == self.muxer else replace(self, muxer=muxer, quicktime=False)

    @property
    def text_suffix(self) -> str:
        """What the file of one stream of subtitles ends with, without a dot."""
        return "vtt" if self.segmented else self.name

    @property
    def text_muxer(self) -> str:
        """FFmpeg's name of the muxer of one stream of subtitles."""
        return "webvtt" if self.segmented else self.muxer


#: The codecs of pictures that MP4 and Matroska hold, and segments.
_PICTURES = (H264, HEVC, AV1)
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
                pictures=_PICTURES,
                text=("webvtt",),
            ),
            # With HLS playlists over the same segments.
            Format(
                "mpd",
                "manifest.mpd",
                "application/dash+xml",
                "dash",
                packaging=Packaging.SEGMENTS,
                pictures=_PICTURES,
                text=("webvtt",),
                dash=True,
            ),
            Format(
                "mp4",
                "video.mp4",
                "video/mp4",
                "mp4",
                _FAST_START,
                pictures=_PICTURES,
                text=("mov_text",),
                index=Index.MOOV,
            ),
            Format(
                "mov",
                "video.mov",
                "video/quicktime",
                "mov",
                _FAST_START,
                # FFmpeg writes AV1 into the newer kind of such files only, which players of this one read.
                MappingProxyType({AV1: "mp4"}),
                pictures=_PICTURES,
                text=("mov_text",),
                quicktime=True,
                index=Index.MOOV,
            ),
            Format(
                "mkv",
                "video.mkv",
                "video/matroska",
                "matroska",
                ("-cues_to_front", "1"),
                pictures=_PICTURES,
                text=("subrip", "ass", "webvtt"),
                index=Index.CUES,
            ),
            Format("ts", "video.ts", "video/mp2t", "mpegts"),
            Format(
                "flv",
                "video.flv",
                "video/x-flv",
                "flv",
                ("-flvflags", "add_keyframe_index"),
                needs_picture=True,
                index=Index.KEYFRAMES,
            ),
            Format(
                "webm",
                "video.webm",
                "video/webm",
                "webm",
                ("-cues_to_front", "1"),
                pictures=(VP9, AV1),
                sound=OPUS,
                needs_picture=True,
                index=Index.CUES,
            ),
            Format(
                "gif",
                "video.gif",
                "image/gif",
                "gif",
                ("-loop", "0"),
                pictures=(GIF,),
                sound=None,
                needs_picture=True,
                # Its size grows with its pixels. Its clock ticks 100 times a second: 8 ticks a frame.
                short_side=480,
                frame_rate=Fraction(25, 2),
                seconds=60.0,
            ),
            Format("mp3", "audio.mp3", "audio/mpeg", "mp3", pictures=(), sound=MP3, needs_sound=True),
            Format("m4a", "audio.m4a", "audio/mp4", "ipod", _FAST_START, pictures=(), needs_sound=True),
            Format("ogg", "audio.ogg", "audio/ogg", "ogg", pictures=(), sound=OPUS, needs_sound=True),
            Format(
                "wav",
                "audio.wav",
                "audio/wav",
                "wav",
                # More than 4 GB do not fit into a plain one.
                ("-rf64", "auto"),
                pictures=(),
                sound=PCM,
                needs_sound=True,
            ),
        )
    }
)
