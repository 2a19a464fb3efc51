"""The meaning of a picture's colours (ITU-T H.273), also where the source lacks colour tags."""

from __future__ import annotations

import re
from dataclasses import dataclass

from transcoding.media.inspection.facts import VideoFacts


@dataclass(frozen=True, slots=True)
class Colour:
    """FFmpeg's names of the primaries, of the transfer curve, and of the matrix from RGB."""

    primaries: str
    transfer: str
    matrix: str


HD = Colour("bt709", "bt709", "bt709")
_SD = Colour("smpte170m", "smpte170m", "smpte170m")
_UHD = Colour("bt2020", "bt2020-10", "bt2020nc")

#: Without colour tags, pictures of up to this many lines are in the colours of ITU-R BT.601.
_STANDARD_DEFINITION = 576

#: The values that players show correctly. All others become BT.709.
_COMMON_PRIMARIES = frozenset({"bt709", "bt470bg", "smpte170m"})
_COMMON_TRANSFERS = frozenset({"bt709", "bt470m", "bt470bg", "smpte170m", "iec61966-2-1", "iec61966-2-4"})
_COMMON_MATRICES = frozenset({"bt709", "bt470bg", "smpte170m"})

_HDR_TRANSFERS = frozenset({"smpte2084", "arib-std-b67"})
#: The formats of 16-bit words that hold three samples.
_PACKED = re.compile("(444|555|565)(le|be)$")
_RGB_FORMATS = ("rgb", "bgr", "gbr", "argb", "abgr", "0rgb", "0bgr", "x2rgb", "x2bgr", "pal8")


def is_hdr(colour: Colour) -> bool:
    """Return whether its transfer curve is one of HDR: PQ or HLG."""
    return colour.transfer in _HDR_TRANSFERS


def is_common(colour: Colour) -> bool:
    """Return whether every player shows it correctly."""
    return (
        colour.primaries in _COMMON_PRIMARIES
        and colour.transfer in _COMMON_TRANSFERS
        and colour.matrix in _COMMON_MATRICES
    )


def shown(colour: Colour, *, hdr: bool) -> Colour:
    """Return the colours that a result of a source of these colours has; `hdr`: it may be HDR."""
    if is_common(colour):
        return colour
    return Colour("bt2020", colour.transfer, "bt2020nc") if hdr and is_hdr(colour) else HD


def is_deep(video: VideoFacts) -> bool:
    """Return whether its samples have more than 8 bits."""
    # FFmpeg's names of all other formats do not say in which order the bytes of a word are.
    name = video.pixel_format
    return name.endswith(("le", "be")) and not _PACKED.search(name)


def meant(video: VideoFacts) -> Colour:
    """Return the picture's colours, with the most likely values for missing tags.

    For RGB, `matrix` is the one for its conversion to YUV.
    """
    rgb = video.pixel_format.startswith(_RGB_FORMATS)
    if video.primaries == "bt2020" or video.matrix.startswith("bt2020") or video.transfer in _HDR_TRANSFERS:
        likely = _UHD
    elif rgb or "bt709" in {video.primaries, video.matrix}:
        likely = HD
    elif video.matrix in {"bt470bg", "smpte170m"}:
        likely = _SD
    else:
        likely = HD if min(video.width, video.height) > _STANDARD_DEFINITION else _SD
    return Colour(
        video.primaries or likely.primaries,
        video.transfer or likely.transfer,
        likely.matrix if rgb else video.matrix or likely.matrix,
    )
