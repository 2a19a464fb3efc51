"""Facts about a source, from ffprobe and from the container's index."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from transcoding.domain.errors import Failure, TaskFailedError
from transcoding.media import languages
from transcoding.media.facts import AudioFacts, SourceFacts, TextFacts, VideoFacts
from transcoding.media.tools import Tools, diagnose, input_options

#: Longer than any container needs to tell about itself over a network, seconds.
PROBE_TIMEOUT = 90.0

#: FFmpeg decodes larger pictures only with a limit raised, and no encoder here takes them.
MAX_SIDE = 16_384
MAX_PIXELS = 7680 * 4320 * 2

#: Sample entries of encrypted streams that FFmpeg does not see through: Apple's FairPlay.
_ENCRYPTED_TAGS = frozenset({"drmi", "drms", "p608"})

#: Subtitles that are text. Those that are pictures, and teletext, cannot become text here.
_TEXT_CODECS = frozenset(
    {
        *("ass", "jacosub", "microdvd", "mov_text", "mpl2", "pjs", "realtext", "sami", "srt", "ssa", "stl"),
        *("subrip", "subviewer", "subviewer1", "text", "vplayer", "webvtt"),
    }
)
#: How many subtitle streams are taken, and how long a stream's name may be, characters.
_MAX_SUBTITLES, _MAX_NAME = 32, 80


def probe(tools: Tools, url: str, size: int) -> SourceFacts:
    """Return the facts of the source at `url`, an http(s) URL or a path; `size` is its length in bytes.

    Raises TaskFailedError where it is no media, has nothing to show or to hear, or cannot be decoded, and
    OSError where a new try may help.
    """
    command = [
        str(tools.ffprobe),
        *("-hide_banner", "-v", "error"),
        *("-show_format", "-show_streams", "-of", "json"),
        # The first packets tell of encryption; the streams of such a file look as if they were clear.
        *("-show_packets", "-read_intervals", "%+#4"),
        *input_options(url),
        url,
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=PROBE_TIMEOUT, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise TaskFailedError(
            Failure.SOURCE_TIMED_OUT,
            f"The source did not tell within {PROBE_TIMEOUT:.0f} s what it holds. Is it a complete file?",
        ) from None
    if done.returncode < 0:
        raise OSError(f"ffprobe was ended by signal {-done.returncode}")
    if done.returncode > 0:
        raise diagnose(done.stderr.decode(errors="replace"), opening=True)
    return parse(json.loads(done.stdout), size)


def parse(report: Mapping[str, Any], size: int) -> SourceFacts:
    """Turn ffprobe's JSON report into facts.

    Raises TaskFailedError where there is nothing to show or to hear, or it cannot be decoded.
    """
    streams: Sequence[Mapping[str, Any]] = report.get("streams", [])
    if any(map(_is_encrypted, (*streams, *report.get("packets", [])))):
        raise TaskFailedError(Failure.ENCRYPTED, "The source is encrypted (DRM). Send it without encryption.")
    pictures = [s for s in streams if s.get("codec_type") == "video" and not _is_still(s)]
    sounds = [s for s in streams if s.get("codec_type") == "audio"]
    if not pictures and not sounds:
        raise TaskFailedError(
            Failure.NO_STREAMS, "The source holds neither a video nor an audio stream that could be played."
        )
    video = _video(max(pictures, key=_picture_rank)) if pictures else None
    audio = _audio(max(sounds, key=_sound_rank)) if sounds else None
    texts = [s for s in streams if s.get("codec_type") == "subtitle" and s.get("codec_name") in _TEXT_CODECS]
    container = report.get("format", {})
    return SourceFacts(
        container=str(container.get("format_name", "")),
        duration=_seconds(container.get("duration")),
        size=size,
        bit_rate=_whole(container.get("bit_rate")),
        video=video,
        audio=audio,
        subtitles=tuple(map(_text, texts[:_MAX_SUBTITLES])),
    )


def with_keyframes(source: SourceFacts, url: str) -> SourceFacts:
    """Return `source` with the times of its keyframes, where the container's index tells them all.

    The index is read in a process of its own: a hostile file must not be able to take the worker down.
    """
    if source.video is None:
        return source
    try:
        done = subprocess.run(
            [sys.executable, "-m", "transcoding.media.index", url, str(source.video.index)],
            capture_output=True,
            timeout=PROBE_TIMEOUT,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
    except subprocess.TimeoutExpired:
        return source
    if done.returncode != 0:
        return source
    times = json.loads(done.stdout)
    return replace(source, keyframes=tuple(times) if times else None)


def _is_encrypted(part: Mapping[str, Any]) -> bool:
    return part.get("codec_tag_string") in _ENCRYPTED_TAGS or any(
        "ncryption" in str(side.get("side_data_type", "")) for side in part.get("side_data_list", [])
    )


def _is_still(stream: Mapping[str, Any]) -> bool:
    disposition = stream.get("disposition", {})
    return bool(
        disposition.get("attached_pic")
        or disposition.get("still_image")
        or disposition.get("timed_thumbnails")
    )


def _picture_rank(stream: Mapping[str, Any]) -> tuple[int, int, int]:
    default = int(bool(stream.get("disposition", {}).get("default")))
    return default, int(stream.get("width") or 0) * int(stream.get("height") or 0), -int(stream["index"])


def _sound_rank(stream: Mapping[str, Any]) -> tuple[int, int]:
    return int(bool(stream.get("disposition", {}).get("default"))), -int(stream["index"])


def _video(stream: Mapping[str, Any]) -> VideoFacts:
    width, height = int(stream.get("width") or 0), int(stream.get("height") or 0)
    _check_decodable(stream)
    if width < 1 or height < 1:
        raise TaskFailedError(
            Failure.DAMAGED, "The source's video stream does not tell the size of its picture."
        )
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise TaskFailedError(
            Failure.DIMENSIONS_UNSUPPORTED,
            f"The source's picture is {width}x{height}; at most {MAX_SIDE} pixels a side "
            f"and {MAX_PIXELS:,} in all are supported.",
        )
    rotation, mirrored = _orientation(stream)
    real, average = _fraction(stream.get("r_frame_rate")), _fraction(stream.get("avg_frame_rate"))
    return VideoFacts(
        index=int(stream["index"]),
        codec=str(stream["codec_name"]),
        profile=str(stream.get("profile", "")),
        level=int(stream.get("level") or 0),
        width=width,
        height=height,
        pixel_format=str(stream.get("pix_fmt", "")),
        pixel_aspect=_pixel_aspect(stream),
        rotation=rotation,
        mirrored=mirrored,
        frame_rate=average or real or Fraction(25),
        constant_frame_rate=bool(real and average and abs(real / average - 1) < Fraction(1, 1000)),
        interlaced=stream.get("field_order", "unknown") not in {"progressive", "unknown"},
        full_range=stream.get("color_range") == "pc" or str(stream.get("pix_fmt", "")).startswith("yuvj"),
        matrix=_colour(stream.get("color_space")),
        transfer=_colour(stream.get("color_transfer")),
        start=_seconds(stream.get("start_time"), at_least=None) or 0.0,
        duration=_stream_duration(stream),
        bit_rate=_whole(stream.get("bit_rate")),
        reordered=int(stream.get("has_b_frames") or 0) > 0,
        language=_language(stream),
    )


def _audio(stream: Mapping[str, Any]) -> AudioFacts:
    _check_decodable(stream)
    return AudioFacts(
        index=int(stream["index"]),
        codec=str(stream["codec_name"]),
        profile=str(stream.get("profile", "")),
        channels=int(stream.get("channels") or 0),
        sample_rate=int(stream.get("sample_rate") or 0),
        start=_seconds(stream.get("start_time"), at_least=None) or 0.0,
        duration=_stream_duration(stream),
        bit_rate=_whole(stream.get("bit_rate")),
        language=_language(stream),
        name=_name(stream),
    )


def _text(stream: Mapping[str, Any]) -> TextFacts:
    disposition = stream.get("disposition", {})
    return TextFacts(
        index=int(stream["index"]),
        codec=str(stream["codec_name"]),
        language=_language(stream),
        name=_name(stream),
        default=bool(disposition.get("default")),
        forced=bool(disposition.get("forced")),
        hearing_impaired=bool(disposition.get("hearing_impaired") or disposition.get("captions")),
    )


def _language(stream: Mapping[str, Any]) -> str:
    # A transport stream may tell several: "eng,fra".
    return languages.tag(str(stream.get("tags", {}).get("language", "")).partition(",")[0])


def _name(stream: Mapping[str, Any]) -> str:
    tags = stream.get("tags", {})
    name = str(tags.get("title") or tags.get("name") or "")
    # A playlist has names between double quotes, on one line.
    printable = "".join(c if c.isprintable() else " " for c in name.replace('"', "'"))
    return " ".join(printable.split())[:_MAX_NAME]


def _check_decodable(stream: Mapping[str, Any]) -> None:
    if stream.get("codec_name") in {None, "none", "unknown"}:
        raise TaskFailedError(
            Failure.CODEC_UNSUPPORTED,
            f"The source's {stream.get('codec_type')} is in a codec that is not supported "
            f"({stream.get('codec_tag_string', 'no name')}).",
        )


def _orientation(stream: Mapping[str, Any]) -> tuple[int | None, bool]:
    """Return (degrees clockwise to upright, mirrored) of the stream's display matrix."""
    for side in stream.get("side_data_list", []):
        if side.get("side_data_type") == "Display Matrix":
            # "00000000: a b u", "00000001: c d v", … in 16.16 fixed point; a mirror image has a negative
            # determinant.
            rows = [line.split(":")[1].split() for line in str(side["displaymatrix"]).strip().splitlines()]
            (a, b), (c, d) = (map(int, row[:2]) for row in rows[:2])
            rotation = side.get("rotation")
            turned = -round(float(rotation)) % 360 if rotation is not None else 0
            return (turned if turned % 90 == 0 else None), a * d - b * c < 0
    return 0, False


def _pixel_aspect(stream: Mapping[str, Any]) -> Fraction:
    ratio = _fraction(str(stream.get("sample_aspect_ratio", "1:1")).replace(":", "/"))
    # Outside of this the ratio is a writer's mistake, not a shape that a camera or a disc has.
    return ratio if ratio and Fraction(1, 8) <= ratio <= 8 else Fraction(1)


def _colour(name: object) -> str:
    # RGB has no matrix: what it becomes is chosen here.
    return str(name) if name not in {None, "unknown", "reserved", "gbr"} else ""


def _fraction(value: object) -> Fraction | None:
    try:
        return Fraction(str(value)) or None
    except (ValueError, ZeroDivisionError):
        return None


def _stream_duration(stream: Mapping[str, Any]) -> float | None:
    # Matroska has it in a tag, as hours, minutes and seconds: "00:01:02.300000000".
    tag = str(stream.get("tags", {}).get("DURATION", "")).split(":")
    if len(tag) == 3:
        parts = [_seconds(part, at_least=None) or 0.0 for part in tag]
        return parts[0] * 3600 + parts[1] * 60 + parts[2] or None
    return _seconds(stream.get("duration"))


def _seconds(value: object, at_least: float | None = 0.0) -> float | None:
    try:
        seconds = float(str(value))
    except ValueError:
        return None
    if not math.isfinite(seconds) or (at_least is not None and seconds <= at_least):
        return None
    return seconds


def _whole(value: object) -> int | None:
    try:
        return int(str(value)) or None
    except ValueError:
        return None
