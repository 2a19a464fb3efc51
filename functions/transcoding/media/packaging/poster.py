"""Chooses the frame that stands for a film, from very small pictures of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

#: The size of the pictures that are looked at, pixels.
WIDTH, HEIGHT = 16, 9
#: Bytes of such a picture: its luma, then its two planes of colour, in full resolution and full range.
BYTES = 3 * WIDTH * HEIGHT

#: Mean luma of pictures that are too dark, or too bright, to be worth looking at; and the least distance from
#: their darkest to their brightest tenth.
_DARK, _BRIGHT, _FLAT = 32, 220, 40
#: In the first part of a film are its titles, in the last are its credits; it should not give away the end.
_FIRST, _LAST = 0.05, 0.6
#: How many frames are looked at more closely.
CANDIDATES = 4
#: Where in a film frames are looked at closely if all of its tiles are dull, as shares of its length: a short
#: film has one tile, of its beginning, and so has one that is copied and has one keyframe.
ELSEWHERE = (0.35, 0.5, 0.65, 0.2, 0.8)
#: Seconds on either side of a frame in which the picture should stay as it is, and how much luma may change
#: on the mean: more in a fade from one shot to another.
NEAR, _STEADY = 0.4, 8.0


@dataclass(frozen=True)
class Look:
    """A very small picture of a frame (`BYTES`), and how many bytes a JPEG of fixed quality takes of it.

    The more detail there is, and the sharper it is, the more bytes a JPEG takes.
    """

    pixels: bytes
    size: int = 0

    @cached_property
    def luma(self) -> bytes:
        """Its luma, 0 to 255."""
        return self.pixels[: WIDTH * HEIGHT]

    @cached_property
    def brightness(self) -> float:
        """The mean of its luma."""
        return sum(self.luma) / len(self.luma)

    @cached_property
    def contrast(self) -> int:
        """The distance of its darkest tenth from its brightest."""
        tones, tenth = sorted(self.luma), len(self.luma) // 10
        return tones[-1 - tenth] - tones[tenth]

    @cached_property
    def colour(self) -> float:
        """How far from grey it is on the mean, 0 to 128."""
        planes = self.pixels[WIDTH * HEIGHT :]
        return sum(abs(value - 128) for value in planes) / len(planes)

    @property
    def is_dull(self) -> bool:
        """Whether it shows next to nothing: black, white, or hardly anything between them."""
        return not _DARK <= self.brightness <= _BRIGHT or self.contrast < _FLAT

    def difference(self, other: Look) -> float:
        """Return how much its luma differs from another's, on the mean."""
        return sum(abs(a - b) for a, b in zip(self.luma, other.luma, strict=True)) / len(self.luma)


def candidates(looks: Sequence[Look]) -> list[int]:
    """Return the indices of the frames that may be the poster, the best first; there is at least one.

    `looks` are at frames evenly spread over the film, in order.
    """
    largest = max(look.size for look in looks) or 1

    def worth(index: int) -> tuple[bool, float, int]:
        look, count = looks[index], len(looks)
        near = [look.difference(looks[i]) for i in (index - 1, index + 1) if 0 <= i < count]
        # In the middle of a shot, one of the neighbours looks alike; no film has all its detail in one frame.
        score = look.size / largest + look.contrast / 255 + look.colour / 64 - min([*near, 64.0]) / 128
        early = 0.3 * (_FIRST <= index / count <= _LAST)
        return not look.is_dull and index > 0, score + early, -index

    return sorted(range(len(looks)), key=worth, reverse=True)[:CANDIDATES]


def unrest(frames: Sequence[Look]) -> float:
    """Return how much the picture changes over frames near to each other: 0 where it stands still.

    A frame is good enough from `is_steady` on.
    """
    first, *others = frames
    return max((first.difference(other) for other in others[-1:]), default=0.0)


def is_steady(change: float) -> bool:
    """Return whether a picture of this `unrest` is in none of the fades between two shots."""
    return change <= _STEADY
