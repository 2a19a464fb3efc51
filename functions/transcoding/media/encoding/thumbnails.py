"""FFmpeg's arguments for pictures of a result: sheets of its tiles, and its poster."""

from __future__ import annotations

from pathlib import Path

from transcoding.media.encoding.command import jpeg
from transcoding.media.ffmpeg.process import program
from transcoding.media.ffmpeg.tools import Tools

#: FFmpeg's qualities of JPEGs that sheets are made in, the best first.
QUALITIES = (3, 5, 8, 12, 18, 31)
#: With the last quality, details are left out: so pure noise, too, fits into the bytes of a sheet.
_SMOOTHED = "scale=iw/2:ih/2:flags=area,scale=iw*2:ih*2"
#: Names of files: the poster, and very small pictures of frames, one after the other.
POSTER, LOOKS = "poster.jpg", "looks.raw"


def sheets(
    tools: Tools, tiles: Path, grid: tuple[int, int], look: tuple[int, int], folder: Path
) -> list[str]:
    """Return the command that makes sheets of tiles in `folder`, in each of `QUALITIES`, and their looks.

    `tiles` are JPEGs one after the other, `grid` how many a sheet has in each (row, column), and `look` is
    the (width, height) of a very small picture, pixels.
    """
    columns, rows = grid
    made = [f"[{quality}]" for quality in QUALITIES]
    split = f"split={len(made)}{''.join([*made[:-1], '[last]'])};[last]{_SMOOTHED}{made[-1]}"
    graph = f"[0]split[sheets][looks];[sheets]tile={columns}x{rows},{split}"
    command = [*program(tools), "-f", "mjpeg", "-framerate", "1", "-i", str(tiles)]
    command += ["-filter_complex", f"{graph};[looks]{_small(look)}[small]"]
    for quality, name in zip(QUALITIES, made, strict=True):
        command += ["-map", name, *jpeg(quality), "-f", "image2", str(folder / sheet_file(quality, "%d"))]
    return [*command, "-map", "[small]", "-f", "rawvideo", str(folder / LOOKS)]


def sheet_file(quality: int, number: int | str) -> str:
    """Return the file of a sheet, of which the first is number 1, in a quality."""
    return f"{quality}-{number}.jpg"


def poster(
    tools: Tools,
    media: Path,
    start: float,
    at: float,
    near: float,
    filters: list[str],
    look: tuple[int, int],
    folder: Path,
) -> list[str]:
    """Return the command that makes a poster of the frame at a time in `folder`, and looks at those near it.

    `media` is read from `start` on; `at` is the frame's time after that, and `near` how far the looks are
    apart, of which there are three: all in seconds. `filters` make the poster of the frame; `look` as in
    `sheets`.
    """
    command = [*program(tools), "-ss", f"{start:.6f}", "-i", str(media)]
    frame = ",".join([f"select=gte(t\\,{at - 0.001:.6f})", *filters])
    command += ["-map", "0:v:0", "-vf", frame, "-frames:v", "1", "-fps_mode", "passthrough", *jpeg(2)]
    command += ["-f", "image2", "-update", "1", str(folder / POSTER)]
    command += ["-map", "0:v:0", "-vf", f"fps=1/{near}:round=up,{_small(look)}", "-frames:v", "3"]
    return [*command, "-f", "rawvideo", str(folder / LOOKS)]


def _small(size: tuple[int, int]) -> str:
    return f"scale={size[0]}:{size[1]}:flags=area:out_range=pc,format=yuv444p"
