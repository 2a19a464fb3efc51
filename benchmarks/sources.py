"""The sources of the benchmarks, generated once and kept under .local/bench."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from local.package import FFMPEG_DIR, ROOT
from local.stack import HOME
from transcoding.media.ffmpeg.tools import Tools

FOLDER = HOME / "bench"
TOOLS = Tools.within(FFMPEG_DIR)

#: FFmpeg's filters that number frames, and call their colours the same: else, two inputs are converted first.
_BT709 = "colorspace=bt709:color_primaries=bt709:color_trc=bt709"
COMPARABLE = f"settb=AVTB,setpts=N,setparams=range=tv:{_BT709},format=yuv420p"

#: 30 s of Big Buck Bunny, 854x480 at 24 frames a second.
_FOOTAGE = ROOT.parent / "shared/media/big-buck-bunny-480p-30s.mp4"
_FOOTAGE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Sizes:
    """The numbers of repeats (`starts`: of what is short) and stored tasks; lengths of sources in seconds."""

    repeats: int
    starts: int
    film: int
    excerpt: int
    excerpt_repeats: int
    long: int
    tasks: int
    renditions: int
    creates: int


FULL = Sizes(
    repeats=5,
    starts=20,
    film=600,
    excerpt=180,
    excerpt_repeats=2,
    long=3 * 3600,
    tasks=1_000_000,
    renditions=60,
    creates=10_000,
)
QUICK = Sizes(
    repeats=1,
    starts=3,
    film=180,
    excerpt=180,
    excerpt_repeats=0,
    long=1800,
    tasks=20_000,
    renditions=45,
    creates=1_000,
)


def footage() -> Path:
    """Return half a minute of real film; where there is none, of a generated picture with as much motion."""
    if _FOOTAGE.exists():
        return _FOOTAGE
    return _made(
        "footage.mp4",
        *("-f", "lavfi", "-i", f"mandelbrot=s=854x480:r=24,trim=duration={_FOOTAGE_SECONDS}"),
        *("-f", "lavfi", "-i", f"sine=frequency=220:sample_rate=48000:duration={_FOOTAGE_SECONDS}"),
        *("-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac", "-ac", "2"),
    )


def film(seconds: int) -> Path:
    """Return 1080p at 24 frames a second with sound. Its bit rate is too high to copy; nothing repeats."""
    # A frame that wanders over an enlarged picture, mirrored in every second repetition.
    look = (
        "scale=2134:1200:flags=fast_bilinear,crop=1920:1080:x='107+100*sin(t/7)':y='60+55*cos(t/11)',"
        f"hflip=enable='mod(floor(t/{_FOOTAGE_SECONDS}),2)'"
    )
    return _made(
        f"film-{seconds}.mp4",
        *("-stream_loop", "-1", "-i", footage(), "-t", seconds, "-vf", look),
        *("-c:v", "libx264", "-preset", "ultrafast", "-g", "96", "-pix_fmt", "yuv420p"),
        *("-b:v", "12M", "-maxrate", "15M", "-bufsize", "24M"),
        *("-c:a", "aac", "-ac", "2", "-b:a", "256k", "-movflags", "+faststart"),
    )


def excerpt(of: Path, seconds: int) -> Path:
    """Return the first seconds of a film as a file."""
    name = f"{of.stem}-first-{seconds}.mp4"
    return _made(name, "-i", of, "-t", seconds, "-c", "copy", "-movflags", "+faststart")


def clip() -> Path:
    """Return a minute of 720p with motion everywhere, which can be copied."""
    return _made(
        "clip.mp4",
        *("-f", "lavfi", "-i", "mandelbrot=s=1280x720:r=25,trim=duration=60"),
        *("-f", "lavfi", "-i", "sine=frequency=220:beep_factor=4:sample_rate=48000:duration=60"),
        *("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-g", "50"),
        *("-b:v", "4M", "-maxrate", "4500k", "-bufsize", "9M"),
        *("-c:a", "aac", "-b:a", "120k", "-ac", "2", "-movflags", "+faststart"),
    )


def second() -> Path:
    """Return the clip's first second: a task with next to nothing to do."""
    return excerpt(clip(), 1)


def long(seconds: int) -> Path:
    """Return a long film of 160x90 that cannot be copied."""
    reel = _made(
        "long-reel.mp4",
        *("-i", footage(), "-vf", "scale=160:90", "-c:v", "mpeg4", "-q:v", "4", "-g", "48"),
        *("-c:a", "aac", "-ac", "2", "-b:a", "192k"),
    )
    name = f"long-{seconds}.mp4"
    return _made(name, "-stream_loop", -1, "-i", reel, "-t", seconds, "-c", "copy", "-movflags", "+faststart")


def sounds(channels: int) -> dict[str, Path]:
    """Return ten seconds of pure tones, of tones with overtones, and of a film, with one or two channels."""
    low, high = "0.4*sin(2*PI*(200*t+28*t*t))", "0.4*sin(2*PI*(1000*t+300*t*t))"
    violin, cello = (
        "+".join(f"{0.2 / n:.3f}*sin({n}*(2*PI*{pitch}*t+3*sin(2*PI*5*t)))" for n in range(1, 9))
        for pitch in (440, 131)
    )
    tones = {
        "pure tones": (low, high),
        "instruments": (f"{violin}+0.3*({cello})", f"0.3*({violin})+{cello}"),
    }
    made = {
        name: _made(
            f"{name.replace(' ', '-')}-{channels}.wav",
            *("-f", "lavfi", "-i", f"aevalsrc='{'|'.join(parts[:channels])}':d=10:s=48000"),
            *("-c:a", "pcm_s24le"),
        )
        for name, parts in tones.items()
    }
    film = ("-i", footage(), "-vn", "-t", 10, "-ac", channels, "-ar", 48_000, "-c:a", "pcm_s24le")
    return made | {"film": _made(f"film-sound-{channels}.wav", *film)}


def _made(name: str, *arguments: object) -> Path:
    """Return the file of that name; FFmpeg makes it with these arguments if it does not exist."""
    path = FOLDER / name
    if not path.exists():
        print(f"Making {path.relative_to(ROOT)} …", flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".part{path.suffix}")
        _ffmpeg([*map(str, arguments), str(unfinished)])
        unfinished.rename(path)
    return path


def _ffmpeg(arguments: Sequence[str]) -> None:
    subprocess.run([str(TOOLS.ffmpeg), "-nostdin", "-v", "error", "-y", *arguments], check=True)
