"""What the colours of a picture mean (ITU-T H.273), where the source tells it and where it does not."""

from __future__ import annotations

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

#: Pictures up to this many lines are in the colours of ITU-R BT.601 where they do not tell.
_STANDARD_DEFINITION = 576

#: What players show right. All else becomes BT.709.
_COMMON_PRIMARIES = frozenset({"bt709", "bt470bg", "smpte170m"})
_COMMON_TRANSFERS = frozenset({"bt709", "bt470m", "bt470bg", "smpte170m", "iec61966-2-1", "iec61966-2-4"})
_COMMON_MATRICES = frozenset({"bt709", "bt470bg", "smpte170m"})

_HDR_TRANSFERS = frozenset({"smpte2084", "arib-std-b67"})
_RGB_FORMATS = ("rgb", "bgr", "gbr", "argb", "abgr", "0rgb", "0bgr", "x2rgb", "x2bgr", "pal8")


def is_hdr(colour: Colour) -> bool:
    """Whether its light is beyond what SDR can hold: PQ or HLG."""
    return colour.transfer in _HDR_TRANSFERS


def is_common(colour: Colour) -> bool:
    """Whether every player shows it right."""
    return (
        colour.primaries in _COMMON_PRIMARIES
        and colour.transfer in _COMMON_TRANSFERS
        and colour.matrix in _COMMON_MATRICES
    )


def meant(video: VideoFacts) -> Colour:
    """Return the picture's colours; what the source does not tell is as it is most likely meant.

    For RGB, `matrix` is the one to make YUV of it with.
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
