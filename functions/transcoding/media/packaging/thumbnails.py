"""Thumbnails for a seek bar: tiles in sheets, which are grids of them, and WebVTT with their places."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

#: The folder of the sheets beside the result, and the WebVTT in it.
FOLDER, VTT = "thumbnails", "thumbnails.vtt"
#: The media type of the sheets, which every player shows.
CONTENT_TYPE = "image/jpeg"
#: The most tiles of a sheet in each direction, and the most bytes of a sheet.
_SIDE, MOST_BYTES = 4, 100_000


def sheet_name(number: int | str) -> str:
    """Return the file of a sheet, of which the first is number 1."""
    return f"sheet-{number}.jpg"


def grid(count: int) -> tuple[int, int]:
    """Return how many tiles, of `count` in all, a sheet has in each (row, column)."""
    columns = min(_SIDE, count)
    return columns, min(_SIDE, math.ceil(count / columns))


@dataclass(frozen=True, slots=True)
class Sheets:
    """Tiles in sheets, all alike: `count` tiles, each shown for `seconds`, of `width` by `height` pixels.

    The film lasts `duration` seconds, and no sheet has more than `largest` bytes. The last sheet may have
    empty places.
    """

    count: int
    seconds: int
    duration: float
    width: int
    height: int
    largest: int

    @property
    def columns(self) -> int:
        """How many tiles a row of a sheet has."""
        return grid(self.count)[0]

    @property
    def rows(self) -> int:
        """How many tiles a column of a sheet has."""
        return grid(self.count)[1]

    @property
    def tiles(self) -> int:
        """How many tiles a sheet has."""
        return self.columns * self.rows

    @property
    def sheets(self) -> int:
        """How many sheets there are."""
        return math.ceil(self.count / self.tiles)

    @property
    def bit_rate(self) -> int:
        """The most bits a second of a sheet."""
        return math.ceil(self.largest * 8 / (self.tiles * self.seconds))


def webvtt(sheets: Sheets) -> str:
    """Render the cues: each is the URL of a sheet beside this file, with the tile's place in it.

    The place is a spatial media fragment in pixels (W3C Media Fragments URI 1.0, 4.2.2).
    """
    return "\n".join(["WEBVTT", "", *_cues(sheets)])


def _cues(sheets: Sheets) -> Iterator[str]:
    for number in range(sheets.count):
        sheet, place = divmod(number, sheets.tiles)
        row, column = divmod(place, sheets.columns)
        start, end = number * sheets.seconds, min((number + 1) * sheets.seconds, sheets.duration)
        left, top = column * sheets.width, row * sheets.height
        yield f"{_time(start)} --> {_time(end)}"
        yield f"{sheet_name(sheet + 1)}#xywh={left},{top},{sheets.width},{sheets.height}"
        yield ""


def _time(seconds: float) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"
