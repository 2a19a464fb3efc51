"""The codecs of results, as data: how each is encoded, what may be copied, and what playlists call it.

Another codec is another constant here, named by the formats that hold it (`formats`).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType

from transcoding.media.planning.ladder import Rung

#: Makes a palette for each frame. One for all frames would wait for the last one, with all in memory.
_PALETTES = (
    "split[picture][sample];[sample]palettegen=stats_mode=single[palette];"
    "[picture][palette]paletteuse=new=1:dither=bayer:bayer_scale=3"
)


def _avc1(init_segment: bytes) -> str:
    # AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1): version, then profile, constraints and level.
    at = init_segment.find(b"avcC")
    if at < 0:
        raise ValueError("the init segment describes no H.264")
    return f"avc1.{init_segment[at + 5 : at + 8].hex()}"


def _hvc1(init_segment: bytes) -> str:
    # HEVCDecoderConfigurationRecord (ISO/IEC 14496-15, 8.3.3.1), written as its Annex E.3 says.
    at = init_segment.find(b"hvcC")
    if at < 0:
        raise ValueError("the init segment describes no HEVC")
    profile, flags, constraints, level = struct.unpack_from(">xB4s6sB", init_segment, at + 4)
    space = ("", "A", "B", "C")[profile >> 6]
    # The first flag is the lowest bit.
    compatible = int(f"{int.from_bytes(flags):032b}"[::-1], 2)
    tier = "H" if profile & 0x20 else "L"
    parts = [f"hvc1.{space}{profile & 0x1F}", f"{compatible:X}", f"{tier}{level}"]
    return ".".join([*parts, *(f"{byte:X}" for byte in constraints.rstrip(bytes(1)))])


def _av01(init_segment: bytes) -> str:
    # AV1CodecConfigurationRecord, and the codecs parameter (AV1 Codec ISO Media File Format Binding, 2.3, 5).
    at = init_segment.find(b"av1C")
    if at < 0:
        raise ValueError("the init segment describes no AV1")
    profile, flags = init_segment[at + 5 : at + 7]
    bits = (12 if flags & 0x20 else 10) if flags & 0x40 else 8
    name = f"av01.{profile >> 5}.{profile & 0x1F:02}{'H' if flags & 0x80 else 'M'}.{bits:02}"
    # The colours are in a box of their own (ISO/IEC 14496-12, 12.1.5).
    at = init_segment.find(b"colrnclx")
    if at < 0:
        return name
    *colours, full_range = struct.unpack_from(">HHHB", init_segment, at + 8)
    if (*colours, full_range) == (1, 1, 1, 0):
        # BT.709, which a name without colours means.
        return name
    sampling = f"{flags >> 3 & 1}{flags >> 2 & 1}{flags & 3}"
    told = ".".join(f"{number:02}" for number in colours)
    return f"{name}.{flags >> 4 & 1}.{sampling}.{told}.{full_range >> 7}"


def _mp4a(init_segment: bytes) -> str:
    # esds → DecoderSpecificInfo (ISO/IEC 14496-1, tag 5): the first five bits are the audio object type.
    at = init_segment.find(b"esds")
    tag = re.compile(rb"\x05(?:\x80\x80\x80)?[\x02-\x40](.)", re.DOTALL).search(init_segment, max(at, 0) + 8)
    if at < 0 or tag is None:
        raise ValueError("the init segment describes no AAC")
    return f"mp4a.40.{tag[1][0] >> 3}"


def _vp09(init_segment: bytes) -> str:
    # VPCodecConfigurationRecord (VP Codec ISO Media File Format Binding, 2.2): version and flags, then
    # profile, level and, in the upper four bits, the bit depth.
    at = init_segment.find(b"vpcC")
    if at < 0:
        raise ValueError("the init segment describes no VP9")
    profile, level, depth = init_segment[at + 8 : at + 11]
    return f"vp09.{profile:02}.{level:02}.{depth >> 4:02}"


def _no_name(init_segment: bytes) -> str:
    return ""


def _named(name: str) -> Callable[[bytes], str]:
    """Return the `codec_string` of a codec that has one name, whatever its configuration."""
    return lambda init_segment: name


@dataclass(frozen=True, slots=True)
class CrfRange:
    """The constant rate factors (CRF) of an encoder, from which one is chosen for each source (`quality`).

    `usual` gives most sources the quality aimed at; there, VMAF falls by `fall` with each step of 1, and the
    bit rate halves with each `halving`. `step` is the difference between two factors.
    """

    lowest: float
    highest: float
    usual: float
    fall: float
    halving: float
    step: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The CRF chosen for a rendition, and the bit rate that it is expected to have, in bits per second."""

    crf: float
    bit_rate: int


@dataclass(frozen=True, slots=True, eq=False)
class PictureCodec:
    """A codec of pictures; `name` is FFmpeg's.

    `encoder` are FFmpeg's options, with `{crf}` and what a `Rung` has in braces. `own` is the option that
    takes the encoder's own parameters: `parameters` always, and `beside` and `thinned` of some renditions.
    `crfs` is the constant rate factor by the longest shorter side, in pixels, that it is for, where none is
    chosen for the source from `crf_range`; None: none ever is. `pixels` is the last filter. `ten_bits`: it
    keeps ten of a picture's bits, where there are more than eight, and HDR as it is. `least_side` is the
    encoder's, in pixels. `cost` is the work of encoding a pixel, relative to x264's. `reordered` is how many
    frames the encoder decodes ahead of the one that is shown. `in_parts`: parts of a picture may be encoded
    apart and joined.
    `codec_string` returns the codecs parameter (RFC 6381) of an init segment, which may be empty where MP4
    does not hold the codec; it raises ValueError where the init segment describes another codec. A codec
    without such a parameter has its name in the WebCodecs registry (W3C), or FFmpeg's.
    """

    name: str
    encoder: tuple[str, ...]
    #: The name of its sample entry in MP4, where FFmpeg would choose another.
    tag: str = ""
    own: str = ""
    parameters: tuple[str, ...] = ()
    #: Of one of several renditions that are made at once: without keyframes of the encoder's own where scenes
    #: change, and in as much memory as they have together.
    beside: tuple[str, ...] = ()
    #: Of a picture that has fewer frames a second, `{rate}`, than FFmpeg tells the encoder.
    thinned: tuple[str, ...] = ()
    crfs: Mapping[int, int] = field(default_factory=dict)
    crf_range: CrfRange | None = None
    pixels: str = "format=yuv420p"
    ten_bits: bool = False
    least_side: int = 2
    cost: float = 1.0
    reordered: int = 0
    in_parts: bool = True
    #: Whether callers may name it; else formats that have it have no other.
    choosable: bool = True
    #: What every player of the codec decodes, by FFmpeg's names; `highest_level` as ffprobe reports it, which
    #: has a scale for each codec.
    copyable_profiles: frozenset[str] = frozenset()
    copyable_pixels: frozenset[str] = frozenset({"yuv420p", "yuvj420p"})
    highest_level: int = 52
    codec_string: Callable[[bytes], str] = _no_name

    def crf(self, short_side: int) -> int:
        """Return the CRF of a picture of this shorter side, in pixels; 0 where the codec has none."""
        return next((crf for side, crf in self.crfs.items() if short_side <= side), 0)

    def options(
        self, rung: Rung, crf: float, *, beside: bool = False, rate: Fraction | None = None
    ) -> list[str]:
        """Return FFmpeg's options of the encoder: of one beside others, and of a rate that it is not told."""
        options = [option.format(rung=rung, crf=f"{crf:g}") for option in self.encoder]
        own = [*self.parameters, *(self.beside if beside else ()), *(self.thinned if rate else ())]
        return [*options, *([self.own, ":".join(own).format(rate=rate)] if own else ())]

    def last_filter(self, bits: int) -> str:
        """Return the filter before the encoder, for a picture of so many bits a sample: 8 or 10."""
        return "format=yuv420p10le" if bits > _BITS else self.pixels


@dataclass(frozen=True, slots=True, eq=False)
class SoundCodec:
    """A codec of sound; `name` is FFmpeg's.

    `encoder` are FFmpeg's options, with `{bit_rate}`, bits per second, in braces. `copyable_profiles`: the
    profiles that may be copied; None: any. `cd_rates`: whether it is made at 44.1 kHz where the source is of
    that family; else at 48 kHz. `sample_bits` is the size of every sample; 0 where it depends on the
    sound. `codec_string` as in `PictureCodec`.
    """

    name: str
    encoder: tuple[str, ...]
    lossless: bool = False
    cd_rates: bool = True
    sample_bits: int = 0
    copyable_profiles: frozenset[str] | None = None
    #: FFmpeg's bitstream filter for packets that are copied into segments.
    segment_filter: str = ""
    codec_string: Callable[[bytes], str] = _no_name

    def options(self, bit_rate: int) -> list[str]:
        """Return FFmpeg's options of the encoder."""
        return [option.format(bit_rate=bit_rate) for option in self.encoder]


_LARGEST = 1 << 16
#: Bits a sample of a picture that every player shows.
_BITS = 8

H264 = PictureCodec(
    name="h264",
    encoder=(
        *("-c:v", "libx264", "-preset", "fast", "-profile:v", "high", "-crf", "{crf}"),
        # Captions inside the picture would be in this codec alone, and unknown to players.
        *("-maxrate", "{rung.buffer_rate}", "-bufsize", "{rung.buffer}", "-a53cc", "0"),
    ),
    own="-x264-params",
    beside=("scenecut=0",),
    thinned=("fps={rate}",),
    crfs=MappingProxyType({360: 20, _LARGEST: 21}),
    crf_range=CrfRange(18.0, 34.0, usual=25.0, fall=0.8, halving=6.0, step=0.5),
    reordered=2,
    copyable_profiles=frozenset({"Constrained Baseline", "Baseline", "Main", "High"}),
    codec_string=_avc1,
)
HEVC = PictureCodec(
    name="hevc",
    encoder=(
        *("-c:v", "libx265", "-preset", "fast", "-crf", "{crf}"),
        *("-maxrate", "{rung.buffer_rate}", "-bufsize", "{rung.buffer}"),
        # Dolby Vision's metadata describe another picture than the one that is made.
        *("-forced-idr", "1", "-dolbyvision", "0"),
    ),
    own="-x265-params",
    # An IDR frame at each keyframe, none elsewhere, and no frame that is shown before it follows it. Its
    # description of itself is left out: it names the processor, and parts are to have the same headers.
    # Fewer players have the high tier than a higher level.
    parameters=("open-gop=0", "scenecut=0", "high-tier=0", "info=0", "log-level=error"),
    thinned=("fps={rate}",),
    # Apple plays no other: HLS authoring specification 1.10.
    tag="hvc1",
    crfs=MappingProxyType({_LARGEST: 20}),
    crf_range=CrfRange(16.0, 36.0, usual=23.0, fall=0.7, halving=5.0, step=0.5),
    ten_bits=True,
    least_side=16,
    cost=2.0,
    reordered=2,
    copyable_profiles=frozenset({"Main", "Main 10"}),
    copyable_pixels=frozenset({"yuv420p", "yuv420p10le"}),
    # 5.1, in thirtieths.
    highest_level=153,
    codec_string=_hvc1,
)
AV1 = PictureCodec(
    name="av1",
    encoder=(
        *("-c:v", "libsvtav1", "-preset", "8", "-crf", "{crf}"),
        *("-maxrate", "{rung.buffer_rate}", "-dolbyvision", "0"),
    ),
    own="-svtav1-params",
    # The rate holds over a few seconds, and not exactly: where keyframes are encoded again to keep it,
    # ordinary film gets worse long before the rate is reached.
    parameters=("recode-loop=0", "max-qp=50"),
    beside=("lp=2",),
    thinned=("fps-num={rate.numerator}", "fps-denom={rate.denominator}"),
    crfs=MappingProxyType({_LARGEST: 28}),
    crf_range=CrfRange(18.0, 50.0, usual=37.0, fall=0.4, halving=13.0, step=1.0),
    ten_bits=True,
    # Of smaller ones, it overwrites its own memory.
    least_side=64,
    cost=0.75,
    copyable_profiles=frozenset({"Main"}),
    copyable_pixels=frozenset({"yuv420p", "yuv420p10le"}),
    # 5.1, counted from 2.0 in steps of a quarter.
    highest_level=13,
    codec_string=_av01,
)
VP9 = PictureCodec(
    name="vp9",
    # Constrained quality: https://trac.ffmpeg.org/wiki/Encode/VP9; its rate is an average.
    encoder=(
        *("-c:v", "libvpx-vp9", "-crf", "{crf}", "-b:v", "{rung.max_bit_rate}"),
        *("-deadline", "good", "-cpu-used", "4", "-row-mt", "1"),
    ),
    crfs=MappingProxyType({360: 23, _LARGEST: 24}),
    cost=3.0,
    copyable_profiles=frozenset({"Profile 0"}),
    codec_string=_vp09,
)
GIF = PictureCodec(
    name="gif",
    encoder=("-c:v", "gif"),
    pixels=_PALETTES,
    in_parts=False,
    choosable=False,
    codec_string=_named("gif"),
)

AAC = SoundCodec(
    name="aac",
    encoder=("-c:a", "aac", "-b:a", "{bit_rate}"),
    copyable_profiles=frozenset({"LC"}),
    # In a transport stream, each packet has a header. FFmpeg removes it for MP4, but not for segments.
    segment_filter="aac_adtstoasc",
    codec_string=_mp4a,
)
OPUS = SoundCodec(
    name="opus",
    encoder=("-c:a", "libopus", "-b:a", "{bit_rate}"),
    cd_rates=False,
    codec_string=_named("opus"),
)
MP3 = SoundCodec(name="mp3", encoder=("-c:a", "libmp3lame", "-b:a", "{bit_rate}"), codec_string=_named("mp3"))
PCM = SoundCodec(
    name="pcm_s16le",
    encoder=("-c:a", "pcm_s16le"),
    lossless=True,
    sample_bits=16,
    codec_string=_named("pcm-s16"),
)
