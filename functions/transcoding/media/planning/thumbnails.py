"""How many small pictures of a film are made for its seek bar, and how large: arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence

#: Seconds between two tiles of a short film, and the most tiles of any.
_SHORTEST_INTERVAL, MOST_TILES = 2, 1000
#: The most of a tile's shorter and longer side, pixels.
_SHORT_SIDE, _LONG_SIDE = 144, 256
#: The most of a poster's longer side, pixels.
_POSTER_SIDE = 1280
#: A frame this many seconds before a tile's time counts as on time: containers round times.
TOLERANCE = 0.0015


def interval(duration: float | None) -> int:
    """Return how many seconds apart the tiles of a film are; `duration` in seconds, None: unknown."""
    return max(_SHORTEST_INTERVAL, math.ceil((duration or 0.0) / MOST_TILES))


def tile_size(width: int, height: int) -> tuple[int, int]:
    """Return (width, height) of a tile of a picture of this size, in pixels: even, and not larger."""
    return _fitted(width, height, _SHORT_SIDE, _LONG_SIDE)


def poster_size(width: int, height: int) -> tuple[int, int]:
    """Return (width, height) of the poster of a picture of this size, in pixels: even, and not larger."""
    return _fitted(width, height, _POSTER_SIDE, _POSTER_SIDE)


def _fitted(width: int, height: int, short_side: int, long_side: int) -> tuple[int, int]:
    scale = min(1.0, short_side / min(width, height), long_side / max(width, height))
    return max(2, 2 * round(width * scale / 2)), max(2, 2 * round(height * scale / 2))


def tile_number(time: float, seconds: float) -> int:
    """Return which tile, of those `seconds` apart, a frame at `time` (seconds) is due for."""
    return math.floor((time + TOLERANCE) / seconds)


def shown_tiles(times: Sequence[float], seconds: int, duration: float) -> tuple[int, list[int]]:
    """Return how many seconds apart the tiles are shown, and the index in `times` of each one shown.

    `times` are those of the tiles that were made, of a film of `duration`, in seconds; there is at least one.
    There are more seconds than those asked for where the film turned out much longer than it was thought. A
    tile is the first frame at or after its time; where there is none before the next tile's, the last one
    before.
    """
    count = max(1, math.ceil((duration - TOLERANCE) / seconds))
    step = math.ceil(count / MOST_TILES)
    first: dict[int, int] = {}
    for index, time in enumerate(times):
        first.setdefault(max(0, tile_number(time, seconds)), index)
    shown = []
    last = first[min(first)]
    for number in range(count):
        last = first.get(number, last)
        if number % step == 0:
            shown.append(last)
    return seconds * step, shown
