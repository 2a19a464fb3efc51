"""The qualities, as data: what `task_config_temp_id` may be, and the bit rates of each size of picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

#: `task_config_temp_id` of "as the source", and of "every quality up to the source's".
ORIGINAL, ADAPTIVE = 5, 6


@dataclass(frozen=True, slots=True)
class Rung:
    """The bit rates of a picture whose shorter side has at most `short_side` pixels.

    `max_bit_rate` caps the picture over any 2 s; the others are the sound's. All in bits per second.
    """

    short_side: int
    max_bit_rate: int
    stereo_bit_rate: int
    mono_bit_rate: int

    @property
    def buffer_rate(self) -> int:
        """The rate that fills the decoder's buffer (VBV), in bits per second.

        Over 2 s, a full buffer and what comes in can be taken: together 2 s of `max_bit_rate`.
        """
        return self.max_bit_rate * 4 // 5

    @property
    def buffer(self) -> int:
        """The size of the decoder's buffer (VBV), in bits."""
        return self.max_bit_rate * 2 // 5


#: From small to large; the caps are near those of Apple's HLS authoring specification for H.264. With less
#: for the sound, FFmpeg's AAC encoder makes pure tones rough (`benchmarks/sound.py` measures it): its "fast"
#: coder does not, but distorts loud ones at any rate.
LADDER: tuple[Rung, ...] = (
    Rung(360, 1_200_000, 128_000, 96_000),
    Rung(480, 2_400_000, 128_000, 96_000),
    Rung(720, 5_000_000, 128_000, 96_000),
    Rung(1080, 9_000_000, 192_000, 128_000),
    Rung(1440, 16_000_000, 192_000, 128_000),
    Rung(2160, 32_000_000, 192_000, 128_000),
    Rung(4320, 80_000_000, 192_000, 128_000),
)

#: The widest shape, width by height, of films. Panoramas and walls of screens are wider.
_WIDEST = 2.4

#: `task_config_temp_id` → the longest shorter side, pixels; None: as the source.
SHORT_SIDE: Mapping[int, int | None] = MappingProxyType({1: 360, 2: 480, 3: 720, 4: 1080, ORIGINAL: None})

#: The shorter sides of an adaptive result, in pixels.
_ADAPTIVE_SIDES = (2160, 1440, 1080, 720, 480, 360)
#: A source whose shorter side is larger than the next rung's by more than this has a rung of its own size.
_OWN_RUNG = 1.1
#: A rendition whose bit rate is above this share of a larger one's is of no use: a player that can take it
#: can take the other.
_DISTINCT = 0.8


def adaptive_sides(short_side: int) -> tuple[int, ...]:
    """Return the shorter sides of an adaptive result, in pixels, the best first.

    `short_side` is the source's. No rung is larger; one of the source's own size is added where the next
    smaller one would lose much of it.
    """
    sides = [side for side in _ADAPTIVE_SIDES if side <= short_side]
    if not sides or (short_side < _ADAPTIVE_SIDES[0] and short_side > sides[0] * _OWN_RUNG):
        sides.insert(0, short_side)
    return tuple(sides)


def rung_for(short_side: int, long_side: int = 0) -> Rung:
    """Return the bit rates for a picture of these sides, in pixels.

    One that is longer than `_WIDEST` counts as one of that shape with as many pixels.
    """
    if long_side > short_side * _WIDEST:
        short_side = math.isqrt(round(short_side * long_side / _WIDEST))
    return next((rung for rung in LADDER if short_side <= rung.short_side), LADDER[-1])


def is_distinct(bit_rate: float, larger: float) -> bool:
    """Return whether a rendition's bit rate is clearly below that of a larger one, both in the same unit."""
    return bit_rate <= _DISTINCT * larger
