"""What is asked for in a run, and what its results are like."""

from __future__ import annotations

import json
import math
import re
import subprocess
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import m3u8

from local.package import FFMPEG_DIR

#: Clips: what FFmpeg makes them of. `film` is cut into parts, `clip` is not.
CLIPS = {
    "film.mkv": "-f lavfi -i testsrc2=s=640x360:r=25:d=24 -f lavfi -i sine=440:beep_factor=4:d=24 -i {text}"
    " -c:v libx264 -preset veryfast -g 50 -pix_fmt yuv420p -c:a aac -c:s srt",
    "clip.mp4": "-f lavfi -i mandelbrot=s=320x240:r=25:end_scale=0.1 -f lavfi -i sine=330:d=3 -t 3"
    " -c:v libx264 -preset veryfast -bf 2 -pix_fmt yuv420p -c:a aac",
    "phone.mov": "-f lavfi -i testsrc=s=320x180:r=30:d=3 -f lavfi -i sine=550:d=3"
    " -c:v mpeg4 -q:v 3 -c:a pcm_s16le",
    "song.flac": "-f lavfi -i sine=220:beep_factor=3:d=8 -c:a flac",
}
TORN = "torn.mp4"
_TEXT = "1\n00:00:01,000 --> 00:00:20,000\nHello\n"


@dataclass(frozen=True)
class Wish:
    """What is asked for: a clip, and the parameters of create-transcode; `fails` with one of these codes."""

    clip: str
    parameters: tuple[tuple[str, Any], ...]
    fails: frozenset[int] = frozenset()

    @classmethod
    def of(cls, clip: str, target: str, quality: int = 1, **more: Any) -> Wish:
        parameters = {"format": target, "task_config_temp_id": quality} | more
        return cls(clip, tuple(parameters.items()))

    def __str__(self) -> str:
        return f"{self.clip} {' '.join(str(value) for _, value in self.parameters)}"


WISHES = [
    *(Wish.of("film.mkv", kind) for kind in ("m3u8", "mpd", "mp4", "mov", "mkv", "ts", "webm")),
    Wish.of("film.mkv", "m3u8", 6),
    Wish.of("film.mkv", "mpd", 6, codec="h264,av1"),
    Wish.of("film.mkv", "mp4", 1, codec="hevc"),
    Wish.of("film.mkv", "mkv", 5, thumbnails=True),
    *(Wish.of("clip.mp4", kind) for kind in ("m3u8", "mpd", "mp4", "mkv", "flv", "webm", "gif", "mp3")),
    *(Wish.of("phone.mov", kind) for kind in ("m3u8", "mp4", "mov", "ts", "m4a")),
    *(Wish.of("song.flac", kind) for kind in ("m3u8", "mpd", "mp3", "m4a", "ogg", "wav")),
    Wish(TORN, (("format", "mp4"),), frozenset({2001, 2002, 2005})),
    Wish("missing.mp4", (("format", "m3u8"),), frozenset({1001})),
]


#: Sound is compared at so many samples a second; encoded once more, it is like the other by so many decibels.
_RATE, SAME_SOUND = 8000, 20.0
#: The worst frame of a source that was encoded once more has at least so many decibels.
_ENCODED = 40.0


@dataclass(frozen=True)
class Look:
    """What a result has: when its frames are shown, how like the source they are, and its sound."""

    times: tuple[tuple[float, ...], ...]
    #: PSNR of the worst frame of each picture, decibels.
    worst: tuple[float, ...]
    #: Mono, samples of 16 bits, `_RATE` a second.
    sound: tuple[bytes, ...]

    def differs(self, calm: Look) -> str:
        """Say how it differs from what the same order gave in calm weather; empty if it does not."""
        if self.times != calm.times:
            return (
                f"frames at other times: {[len(t) for t in self.times]}, not {[len(t) for t in calm.times]}"
            )
        # What is copied at the first attempt is encoded at others.
        if any(own < min(other, _ENCODED) - 3 for own, other in zip(self.worst, calm.worst, strict=True)):
            return f"another picture: {self.worst} dB, not {calm.worst}"
        likely = [likeness(own, other) for own, other in zip(self.sound, calm.sound, strict=True)]
        return f"another sound: {likely} dB" if any(db < SAME_SOUND for db in likely) else ""


def look(url: str, source: Path, rate: int = 25) -> Look:
    """Decode the result of a URL, and compare its pictures with the source's, of so many frames a second."""
    pictures, sounds = _streams(url)
    shown = [_shown(picture) for picture in pictures]
    worst = [_worst(picture, source, rate) for picture in pictures]
    return Look(tuple(shown), tuple(worst), tuple(heard(sound) for sound in sounds))


def heard(sound: str) -> bytes:
    """Decode a sound; return it as `Look` has it."""
    options = ("-map", "0:a:0", "-ac", "1", "-ar", str(_RATE), "-f", "s16le", "-")
    return _run(*_FFMPEG, "-i", sound, *options, text=False).stdout


def likeness(one: bytes, other: bytes) -> float:
    """Return how far a sound is above its difference from another, in decibels; 0 where lengths differ."""
    own, calm = array("h", one), array("h", other)
    if not own or abs(len(own) - len(calm)) > _RATE // 10:
        return 0.0
    signal = sum(a * a for a in calm)
    noise = sum((a - b) ** 2 for a, b in zip(own, calm, strict=False))
    return 10 * math.log10((signal + 1) / (noise + 1))


def _streams(url: str) -> tuple[list[str], list[str]]:
    """Return what has a picture of a result each, and what has a sound."""
    if url.endswith((".m3u8", ".mpd")):
        # FFmpeg reads no DASH text; the same segments are in the playlists.
        master = m3u8.load(url.replace("manifest.mpd", "master.m3u8"))
        pictures = [one.absolute_uri for one in master.playlists if one.stream_info.resolution]
        sounds = [one.absolute_uri for one in master.media if one.type == "AUDIO"]
        sounds += [one.absolute_uri for one in master.playlists if not one.stream_info.resolution]
        return list(dict.fromkeys(pictures)), list(dict.fromkeys(sounds))
    streams = json.loads(_run("ffprobe", "-v", "error", "-of", "json", "-show_streams", url).stdout)[
        "streams"
    ]
    kinds = {stream["codec_type"] for stream in streams}
    return [url] * ("video" in kinds), [url] * ("audio" in kinds)


def _shown(picture: str) -> tuple[float, ...]:
    """Decode a picture; return when its frames are shown, in seconds from the first one."""
    decoded = _run(
        *(*_FFMPEG, "-copyts", "-i", picture, "-map", "0:v:0", "-fps_mode", "passthrough"),
        *("-enc_time_base", "demux", "-f", "framemd5", "-"),
    )
    assert not decoded.stderr, decoded.stderr
    found = re.search(r"#tb 0: (\d+)/(\d+)", decoded.stdout)
    assert found, decoded.stdout
    unit = int(found[1]) / int(found[2])
    stamps = [int(line.split(",")[2]) for line in decoded.stdout.splitlines() if not line.startswith("#")]
    return tuple(round((stamp - stamps[0]) * unit, 3) for stamp in stamps)


def _worst(picture: str, source: Path, rate: int) -> float:
    """Compare a picture with the source's, frame by frame; return the lowest PSNR, in decibels."""
    # A GIF has every other frame.
    thinned = "fps=25/2:round=near," if picture.endswith(".gif") else ""
    graph = (
        f"[0:v]setpts=N/TB/{rate},split[made][size];[1:v]{thinned}setpts=N/TB/{rate}[source];"
        "[source][size]scale=rw:rh:flags=lanczos,format=yuv420p[scaled];[made]format=yuv420p[same];"
        "[same][scaled]psnr=stats_file=-:shortest=1"
    )
    compared = _run(*_FFMPEG, "-i", picture, "-i", str(source), "-lavfi", graph, "-f", "null", "/dev/null")
    likeness = re.findall(r"psnr_avg:(\S+)", compared.stdout)
    assert likeness, compared.stderr
    return min([100.0, *(float(value) for value in likeness if value != "inf")])


_FFMPEG = ("ffmpeg", "-nostdin", "-v", "error")


def _run(program: str, *arguments: str, text: bool = True) -> subprocess.CompletedProcess[Any]:
    command = [str(FFMPEG_DIR / program), *arguments]
    return subprocess.run(command, capture_output=True, text=text, check=True, timeout=900)


def make(clip: Path, recipe: str) -> None:
    """Have FFmpeg make a clip; raises CalledProcessError."""
    _run(*_FFMPEG, *recipe.split(), str(clip))


def clips(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    text = folder / "text.srt"
    text.write_text(_TEXT)
    for name, recipe in CLIPS.items():
        make(folder / name, recipe.replace("{text}", str(text)))
        yield folder / name
    torn = folder / TORN
    torn.write_bytes((folder / "clip.mp4").read_bytes()[:4000] + bytes(2000))
    yield torn
