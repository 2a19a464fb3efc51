"""The qualities, as data: what `task_config_temp_id` may be, and what each is encoded with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

#: `task_config_temp_id` of "as the source".
ORIGINAL = 5


@dataclass(frozen=True, slots=True)
class Rung:
    """What a picture whose shorter side is at most `short_side` pixels is encoded with.

    `crf` is x264's. `max_bit_rate` caps the picture over any 2 s; `audio_bit_rate` is of stereo, half of it
    of mono. Both in bits per second. `level` is the H.264 level that 16:9 at 30 frames a second comes to:
    x264 chooses the lowest that holds size and frame rate.
    """

    short_side: int
    crf: int
    max_bit_rate: int
    audio_bit_rate: int
    level: float

    @property
    def buffer_rate(self) -> int:
        """What the decoder's buffer (VBV) is filled with, in bits per second.

        Over 2 s, a full buffer and what comes in can be taken: together 2 s of `max_bit_rate`.
        """
        return self.max_bit_rate * 4 // 5

    @property
    def buffer(self) -> int:
        """Size of the decoder's buffer (VBV), in bits."""
        return self.max_bit_rate * 2 // 5

    @property
    def vp9_crf(self) -> int:
        """Libvpx's CRF, on a scale of its own, for about the same quality."""
        return self.crf + 3


#: From small to large; the caps are near those of Apple's HLS authoring specification for H.264. The CRFs
#: keep natural pictures above a VMAF of 93.
LADDER: tuple[Rung, ...] = (
    Rung(360, 20, 1_200_000, 96_000, 3.0),
    Rung(480, 21, 2_400_000, 128_000, 3.1),
    Rung(720, 21, 5_000_000, 128_000, 3.1),
    Rung(1080, 21, 9_000_000, 192_000, 4.0),
    Rung(1440, 21, 16_000_000, 192_000, 5.0),
    Rung(2160, 21, 32_000_000, 192_000, 5.1),
    Rung(4320, 21, 80_000_000, 192_000, 6.0),
)

#: `task_config_temp_id` → the longest shorter side, pixels; None: as the source.
SHORT_SIDE: Mapping[int, int | None] = MappingProxyType({1: 360, 2: 480, 3: 720, 4: 1080, ORIGINAL: None})


def rung_for(short_side: int) -> Rung:
    """Return the settings for a picture of this shorter side, in pixels."""
    return next((rung for rung in LADDER if short_side <= rung.short_side), LADDER[-1])
