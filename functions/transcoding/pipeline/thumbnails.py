"""Pictures of a result: sheets of the tiles that its decode has made, and a poster."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from aws_lambda_powertools import Logger

from transcoding.data.object_store import ObjectStore
from transcoding.media.encoding import command
from transcoding.media.encoding import thumbnails as arguments
from transcoding.media.ffmpeg.process import Encoder
from transcoding.media.ffmpeg.tools import Tools
from transcoding.media.packaging import poster, subtitles, thumbnails
from transcoding.media.packaging.poster import Look
from transcoding.media.packaging.thumbnails import Sheets
from transcoding.media.planning.plan import PicturePlan, Plan
from transcoding.media.planning.thumbnails import TOLERANCE, interval, poster_size, shown_tiles, tile_size
from transcoding.pipeline.progress import POLL, Report, report_rest
from transcoding.pipeline.track import Track
from transcoding.pipeline.uploads import Uploads

_LOOK = (poster.WIDTH, poster.HEIGHT)

logger = Logger(child=True)


@dataclass(frozen=True, slots=True)
class Tile:
    """A small picture of a frame: when it is shown in the result, in seconds, and a JPEG of it."""

    time: float
    jpeg: bytes


#: Of tiles in one object, one after the other, (microseconds of the result, bytes) of each.
TileIndex = tuple[tuple[int, int], ...]


def tile_index(folder: Path) -> TileIndex:
    """Return what FFmpeg has noted of the tiles that it made in `folder`, as far as their file has them."""
    times, tiles = folder / command.TILE_TIMES, folder / command.TILES
    if not (times.exists() and tiles.exists()):
        return ()
    left, found = tiles.stat().st_size, []
    for line in times.read_text().splitlines():
        fields = line.split()
        if len(fields) < 2 or int(fields[1]) > left:
            break
        found.append((int(fields[0]), int(fields[1])))
        left -= int(fields[1])
    return tuple(found)


def read_tiles(index: TileIndex, data: bytes) -> Iterator[Tile]:
    """Return the tiles of an object."""
    at = 0
    for time, size in index:
        yield Tile(time / 1_000_000, data[at : at + size])
        at += size


def tiles_in(folder: Path) -> list[Tile]:
    """Return the tiles that FFmpeg made in `folder`."""
    index = tile_index(folder)
    return list(read_tiles(index, (folder / command.TILES).read_bytes())) if index else []


@dataclass(frozen=True, slots=True)
class Pictures:
    """The keys of a result's poster and of its thumbnails (WebVTT), empty where none were made.

    `sheets` are those of the thumbnails.
    """

    poster: str = ""
    thumbnails: str = ""
    sheets: Sheets | None = None


#: Returns a media file that has the frame at a time of the result in it, and the frame's time in that file,
#: both in seconds; None where there is none. The file may be made in the folder.
Footage = Callable[[float, Path], tuple[Path, float] | None]

#: Makes and stores the pictures of a result, and returns the sheets of its thumbnails; None: there are none.
Depict = Callable[[Footage], Sheets | None]


def in_segments(store: ObjectStore, place: str, track: Track) -> Footage:
    """Return what finds the frames of a track whose segments are stored in a folder."""

    def find(time: float, folder: Path) -> tuple[Path, float] | None:
        starts = [segment.start / track.timescale for segment in track.segments]
        at = bisect_right(starts, time + TOLERANCE) - 1
        if at < 0:
            return None
        path = folder / "footage.mp4"
        path.write_bytes(store.get(place + command.INIT_SEGMENT) + store.get(place + track.segments[at].name))
        return path, max(0.0, time - starts[at])

    return find


class PictureMaker:
    """Makes and stores the pictures of results."""

    def __init__(self, store: ObjectStore, tools: Tools) -> None:
        self._store = store
        self._tools = tools

    def make(
        self,
        plan: Plan,
        tiles: Sequence[Tile],
        duration: float,
        folder: Path,
        prefix: str,
        report: Report,
        footage: Footage,
    ) -> Pictures:
        """Make the pictures of a result of `duration` (seconds) and store them under `prefix`.

        `folder` is for temporary files; `report` is called meanwhile. A
        result is good without them: what cannot be made is left out. Raises what `report`, `footage` and
        storing raise.
        """
        if not tiles:
            return Pictures()
        watch = partial(report_rest, report, 0.0)
        with TemporaryDirectory(dir=folder) as name, Uploads(self._store) as uploads:
            return self._make(plan, tiles, duration, Path(name), prefix, watch, footage, uploads)

    def _make(
        self,
        plan: Plan,
        tiles: Sequence[Tile],
        duration: float,
        folder: Path,
        prefix: str,
        watch: Callable[[], None],
        footage: Footage,
        uploads: Uploads,
    ) -> Pictures:
        picture = plan.pictures[0]
        seconds, shown = shown_tiles([tile.time for tile in tiles], interval(plan.duration), duration)
        try:
            looks, paths = self._sheets(tiles, shown, folder, watch)
        except OSError:
            logger.exception("no thumbnails")
            return Pictures()
        # Once each: where keyframes are rare, tiles are shown again and again.
        frames = {tiles[index].time: look for index, look in zip(shown, looks, strict=True)}
        still = self._poster(picture, frames, duration, footage, folder, watch)
        place, kind = f"{prefix}{thumbnails.FOLDER}/", thumbnails.CONTENT_TYPE
        for number, path in enumerate(paths, 1):
            uploads.add(path, place + thumbnails.sheet_name(number), kind)
        if still:
            uploads.add(still, prefix + arguments.POSTER, kind)
        largest = max(path.stat().st_size for path in paths)
        sheets = Sheets(len(shown), seconds, duration, *tile_size(picture.width, picture.height), largest)
        uploads.settle(wait=True)
        self._store.put(thumbnails.webvtt(sheets), place + thumbnails.VTT, subtitles.CONTENT_TYPE)
        return Pictures(prefix + arguments.POSTER if still else "", place + thumbnails.VTT, sheets)

    def _sheets(
        self, tiles: Sequence[Tile], shown: Sequence[int], folder: Path, watch: Callable[[], None]
    ) -> tuple[list[Look], list[Path]]:
        """Return a look of each tile shown, and the files of the sheets. Raises OSError."""
        joined, grid = folder / command.TILES, thumbnails.grid(len(shown))
        joined.write_bytes(b"".join(tiles[index].jpeg for index in shown))
        _run(arguments.sheets(self._tools, joined, grid, _LOOK, folder), watch)
        looks = _looks(folder, [len(tiles[index].jpeg) for index in shown])
        if len(looks) != len(shown):
            raise OSError(f"{len(looks)} of {len(shown)} tiles could be read")
        paths = []
        for number in range(1, math.ceil(len(shown) / math.prod(grid)) + 1):
            files = [folder / arguments.sheet_file(quality, number) for quality in arguments.QUALITIES]
            small = [path for path in files if path.stat().st_size <= thumbnails.MOST_BYTES]
            paths.append((small or files[-1:])[0])
        return looks, paths

    def _poster(
        self,
        picture: PicturePlan,
        frames: Mapping[float, Look],
        duration: float,
        footage: Footage,
        folder: Path,
        watch: Callable[[], None],
    ) -> Path | None:
        """Return the file of a poster of one of the frames, by their times; None where none could be made.

        Where they all are dull, others of the `duration` (seconds) are tried.
        """
        filters = command.still_filters(picture, poster_size(picture.width, picture.height))
        looks, best = list(frames.values()), None
        chosen = poster.candidates(looks)
        times = [list(frames)[index] for index in chosen]
        if looks[chosen[0]].is_dull:
            times += [duration * place for place in poster.ELSEWHERE]
        for number, time in enumerate(times):
            found = footage(time, folder)
            if found is None:
                continue
            media, at = found
            start = max(0.0, at - poster.NEAR)
            wanted = arguments.poster(
                self._tools, media, start, at - start, poster.NEAR, filters, _LOOK, folder
            )
            try:
                _run(wanted, watch)
                near = _looks(folder)
                made = (folder / arguments.POSTER).rename(folder / f"poster-{number}.jpg")
            except OSError:
                logger.exception("no poster of a frame", time=time)
                continue
            faults = near[1 if at > start and len(near) > 1 else 0].is_dull, poster.unrest(near)
            if best is None or faults < best[0]:
                best = faults, made
            if not faults[0] and poster.is_steady(faults[1]):
                break
        return best[1] if best else None


def _looks(folder: Path, sizes: Sequence[int] = ()) -> list[Look]:
    """Return the looks in the file that FFmpeg has made of them. Raises OSError where there are none."""
    data = (folder / arguments.LOOKS).read_bytes()
    if len(data) < poster.BYTES:
        raise OSError("FFmpeg has made no picture")
    pixels = [data[at : at + poster.BYTES] for at in range(0, len(data) - poster.BYTES + 1, poster.BYTES)]
    return [Look(*both) for both in zip(pixels, sizes or [0] * len(pixels), strict=False)]


def _run(command: list[str], watch: Callable[[], None]) -> None:
    """Run FFmpeg to its end. Raises OSError where it fails, and what `watch` raises."""
    with Encoder(command) as encoder:
        while encoder.wait(POLL) is None:
            watch()
        if status := encoder.wait(0):
            raise OSError(f"FFmpeg has ended with {status}: {encoder.errors}")
