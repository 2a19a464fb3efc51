"""Facts about a source, from ffprobe and from the container's index."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from transcoding.errors import Failure, TaskFailedError
from transcoding.media import languages
from transcoding.media.ffmpeg import process
from transcoding.media.ffmpeg.tools import ENCRYPTED_INFO, Tools, diagnose, input_options
from transcoding.media.inspection.facts import AudioFacts, EntryPoint, SourceFacts, TextFacts, VideoFacts

#: How long inspecting a source may take, seconds: longer than any container needs over a network.
PROBE_TIMEOUT = 90.0

#: The longest source, seconds: above the 26.5 hours after which a transport stream's clock starts over.
LONGEST = 48 * 3600.0

#: FFmpeg decodes larger pictures only with a raised limit, and no encoder here takes them.
MAX_SIDE = 16_384
MAX_PIXELS = 7680 * 4320 * 2

#: Sample entries of encrypted streams that FFmpeg does not report as such: Apple's FairPlay.
_ENCRYPTED_TAGS = frozenset({"drmi", "drms", "p608"})

#: A picture with fewer than one in this many of the largest one's pixels is a proxy of it.
_PROXY = 4
#: Codecs of covers and thumbnails; also of some cameras' films.
_IMAGE_CODECS = frozenset({"mjpeg", "png", "bmp", "gif", "webp", "tiff", "jpegxl"})
#: Codecs whose packets state the number of channels: without any packet, it is unknown.
_SELF_DESCRIBING = frozenset({"aac", "aac_latm", "ac3", "eac3", "mp2", "mp3", "dts", "truehd"})

#: Hidden frames, of the picture and of sound in AAC, beyond which they are hidden on purpose: AAC encoders
#: start with two to four.
_HIDDEN_FRAMES, _PRIMING_FRAMES = 1.5, 5
#: Samples in a frame of AAC.
_AAC_FRAME = 1024
#: Samples a second that sound may have.
_LOWEST_RATE, _HIGHEST_RATE = 1000, 768_000
#: Codecs of subtitles that are text. Subtitles that are pictures, and teletext, cannot become text here.
_TEXT_CODECS = frozenset(
    {
        *("ass", "jacosub", "microdvd", "mov_text", "mpl2", "pjs", "realtext", "sami", "srt", "ssa", "stl"),
        *("subrip", "subviewer", "subviewer1", "text", "vplayer", "webvtt"),
    }
)
#: How many subtitle streams are taken, and how long a stream's name may be, characters.
_MAX_SUBTITLES, _MAX_NAME = 32, 80


def probe(tools: Tools, url: str, size: int, deadline: float = math.inf) -> SourceFacts:
    """Return the facts of the source at `url`, an http(s) URL or a path; `size` is its length in bytes.

    `deadline`, in seconds of `time.monotonic()`, is when they must be known. Raises TaskFailedError where it
    is not media, has nothing to show or to hear, cannot be decoded, or takes too long, and OSError where a
    new try may help.
    """
    command = [
        str(tools.ffprobe),
        # ffprobe warns where the duration is estimated.
        *("-hide_banner", "-v", "warning"),
        *("-show_format", "-show_streams", "-of", "json"),
        # In some encrypted files only the packets show it: their streams look clear.
        *("-show_packets", "-read_intervals", "%+#4"),
        *input_options(url),
        url,
    ]
    seconds = _seconds_left(deadline)
    try:
        done = process.run(command, process.probing_limits(seconds))
    except TimeoutError:
        raise TaskFailedError(
            Failure.SOURCE_TIMED_OUT,
            f"The source's streams could not be found within {seconds:.0f} s. Is it a complete file?",
        ) from None
    if done.status == -signal.SIGXFSZ:
        raise TaskFailedError(Failure.DAMAGED, "The source is damaged: its header holds too much.")
    if done.status < 0:
        raise OSError(f"ffprobe was ended by signal {-done.status}")
    if done.status > 0 and b"Cannot allocate memory" in done.stderr:
        raise TaskFailedError(
            Failure.DAMAGED, "The source is damaged: its header asks for more memory than there is."
        )
    if done.status > 0:
        raise diagnose(done.stderr.decode(errors="replace"), opening=True)
    facts = parse(json.loads(done.stdout), size)
    return replace(facts, estimated=b"Estimating duration from bitrate" in done.stderr)


def parse(report: Mapping[str, Any], size: int) -> SourceFacts:
    """Turn ffprobe's JSON report into facts.

    Raises TaskFailedError where there is nothing to show or to hear, or it cannot be decoded.
    """
    streams: Sequence[Mapping[str, Any]] = report.get("streams", [])
    if any(map(_is_encrypted, (*streams, *report.get("packets", [])))):
        raise TaskFailedError(Failure.ENCRYPTED, ENCRYPTED_INFO)
    sounds = [s for s in streams if s.get("codec_type") == "audio" and not _is_empty(s)]
    pictures = [s for s in streams if s.get("codec_type") == "video" and not _is_still(s, bool(sounds))]
    if not pictures and not sounds:
        raise TaskFailedError(
            Failure.NO_STREAMS, "The source holds neither a video nor an audio stream that could be played."
        )
    texts = [s for s in streams if s.get("codec_type") == "subtitle" and s.get("codec_name") in _TEXT_CODECS]
    container = report.get("format", {})
    name = str(container.get("format_name", ""))
    start = _seconds(container.get("start_time"), at_least=None) or 0.0
    seconds = _seconds(container.get("duration"))
    if name.startswith("matroska"):
        seconds = _since(start, seconds)
    if seconds and seconds > LONGEST:
        raise TaskFailedError(
            Failure.TOO_LONG,
            f"The source says that it lasts {seconds / 3600:,.0f} hours; at most {LONGEST / 3600:.0f} are "
            "supported. If it is shorter, its index is damaged: export it again.",
        )
    video = _video(_main_picture(pictures)) if pictures else None
    audio = _audio(max(sounds, key=_sound_rank)) if sounds else None
    if audio and _is_master(sounds, name):
        audio = replace(_audio(sounds[0]), right=int(sounds[1]["index"]))
    return SourceFacts(
        container=name,
        duration=seconds,
        size=size,
        bit_rate=_whole(container.get("bit_rate")),
        video=video,
        audio=audio,
        start=start,
        subtitles=tuple(map(_text, texts[:_MAX_SUBTITLES])),
    )


def with_keyframes(
    source: SourceFacts, url: str, step: float | None = None, deadline: float = math.inf
) -> SourceFacts:
    """Return `source` with the keyframes and entry points in its container's index.

    They are left out where they cannot be read before the deadline, in seconds of `time.monotonic()`. With
    `step` and without an index, an entry point is looked up every `step` seconds. All this is done in a
    process of its own: a hostile file must not be able to take the worker down.
    """
    if source.video is None:
        return source
    command = [sys.executable, "-B", "-m", "transcoding.media.inspection.index", url, str(source.video.index)]
    command += [str(step)] if step else []
    libraries = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        done = process.run(command, process.probing_limits(_seconds_left(deadline)), libraries)
    except TimeoutError:
        return source
    if done.status != 0:
        return source
    index = json.loads(done.stdout)
    points = tuple(EntryPoint(seek, complete_from) for seek, complete_from in index["points"])
    times = tuple(index["times"] or ()) or None
    return replace(source, keyframes=times, entry_points=points, open_gops=index["open"])


def _seconds_left(deadline: float) -> float:
    return max(0.0, min(PROBE_TIMEOUT, deadline - time.monotonic()))


def _is_encrypted(part: Mapping[str, Any]) -> bool:
    # FFmpeg returns the key's id of an encrypted Matroska track as a tag.
    return (
        part.get("codec_tag_string") in _ENCRYPTED_TAGS
        or "enc_key_id" in part.get("tags", {})
        or any("ncryption" in str(side.get("side_data_type", "")) for side in part.get("side_data_list", []))
    )


def _is_still(stream: Mapping[str, Any], has_sound: bool) -> bool:
    """Return whether it is no moving picture; `has_sound`: there is sound, whose cover it may be."""
    disposition = stream.get("disposition", {})
    return bool(
        disposition.get("attached_pic")
        or disposition.get("still_image")
        or disposition.get("timed_thumbnails")
        or (has_sound and stream.get("codec_name") in _IMAGE_CODECS and stream.get("nb_frames") == "1")
    )


def _is_empty(stream: Mapping[str, Any]) -> bool:
    """Return whether a sound stream is only announced: no packet was found that states its channels."""
    return stream.get("codec_name") in _SELF_DESCRIBING and not int(stream.get("channels") or 0)


def _main_picture(streams: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the one to show: the default one, but no cover, proxy or thumbnails beside the real one."""
    known = [s for s in streams if _is_known(s)]
    candidates = [s for s in known if s["codec_name"] not in _IMAGE_CODECS] or known or streams
    largest = max(map(_area, candidates))
    return max(
        (s for s in candidates if _area(s) * _PROXY >= largest),
        key=lambda s: (_has(s, "default"), _area(s), -int(s["index"])),
    )


def _area(stream: Mapping[str, Any]) -> int:
    return int(stream.get("width") or 0) * int(stream.get("height") or 0)


def _sound_rank(stream: Mapping[str, Any]) -> tuple[bool, bool, bool, int]:
    special = any(_has(stream, what) for what in ("visual_impaired", "comment", "dependent"))
    return _is_known(stream), _has(stream, "default"), not special, -int(stream["index"])


def _is_master(sounds: Sequence[Mapping[str, Any]], container: str) -> bool:
    """Return whether each stream is one channel, as in broadcasters' masters, and none a language apart."""
    languages = {s.get("tags", {}).get("language", "und") for s in sounds} - {"und"}
    return (
        len(sounds) >= 2
        and container.startswith(("mxf", "mov"))
        and all(s.get("channels") == 1 and str(s.get("codec_name")).startswith("pcm_") for s in sounds)
        and len({s.get("sample_rate") for s in sounds[:2]}) == 1
        and len(languages) <= 1
    )


def _has(stream: Mapping[str, Any], disposition: str) -> bool:
    return bool(stream.get("disposition", {}).get(disposition))


def _is_known(stream: Mapping[str, Any]) -> bool:
    return stream.get("codec_name") not in {None, "none", "unknown"}


def _video(stream: Mapping[str, Any]) -> VideoFacts:
    width, height = int(stream.get("width") or 0), int(stream.get("height") or 0)
    _check_decodable(stream)
    if width < 1 or height < 1:
        raise TaskFailedError(
            Failure.DAMAGED, "The source is damaged: the size of its picture is missing. Export it again."
        )
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise TaskFailedError(
            Failure.DIMENSIONS_UNSUPPORTED,
            f"The source's picture is {width}x{height}; at most {MAX_SIDE} pixels a side "
            f"and {MAX_PIXELS:,} in all are supported.",
        )
    if any(side.get("dv_profile") == 5 for side in stream.get("side_data_list", [])):
        raise TaskFailedError(
            Failure.CODEC_UNSUPPORTED,
            "The source is in Dolby Vision profile 5, whose colours only its own players can show. "
            "Export it as Dolby Vision profile 8, as HDR10 or as SDR.",
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
        pixel_aspect=_fraction(str(stream.get("sample_aspect_ratio", "1:1")).replace(":", "/"))
        or Fraction(1),
        rotation=rotation,
        mirrored=mirrored,
        frame_rate=average or real or Fraction(25),
        constant_frame_rate=bool(real and average and abs(real / average - 1) < Fraction(1, 1000)),
        interlaced=stream.get("field_order", "unknown") not in {"progressive", "unknown"},
        full_range=stream.get("color_range") == "pc" or str(stream.get("pix_fmt", "")).startswith("yuvj"),
        primaries=_tag(stream.get("color_primaries")),
        transfer=_tag(stream.get("color_transfer")),
        matrix=_tag(stream.get("color_space")),
        time_base=_fraction(stream.get("time_base")) or Fraction(1, 90_000),
        start=_seconds(stream.get("start_time"), at_least=None) or 0.0,
        duration=_stream_duration(stream),
        bit_rate=_whole(stream.get("bit_rate")),
        reordered=int(stream.get("has_b_frames") or 0) > 0,
        trimmed=_hidden(stream, average or Fraction(25)) > _HIDDEN_FRAMES,
        language=_language(stream),
    )


def _audio(stream: Mapping[str, Any]) -> AudioFacts:
    _check_decodable(stream)
    sample_rate = int(stream.get("sample_rate") or 0)
    if sample_rate and not _LOWEST_RATE <= sample_rate <= _HIGHEST_RATE:
        raise TaskFailedError(
            Failure.DAMAGED,
            f"The source says that its sound has {sample_rate:,} samples a second; {_LOWEST_RATE:,} to "
            f"{_HIGHEST_RATE:,} are supported. Its header is damaged: export it again.",
        )
    return AudioFacts(
        index=int(stream["index"]),
        codec=str(stream["codec_name"]),
        profile=str(stream.get("profile", "")),
        channels=int(stream.get("channels") or 0),
        sample_rate=sample_rate,
        layout=_tag(stream.get("channel_layout")),
        start=_seconds(stream.get("start_time"), at_least=None) or 0.0,
        duration=_stream_duration(stream),
        bit_rate=_whole(stream.get("bit_rate")),
        trimmed=_hidden(stream, Fraction(sample_rate, _AAC_FRAME)) > _PRIMING_FRAMES,
        language=_language(stream),
        name=_name(stream),
    )


def _hidden(stream: Mapping[str, Any], rate: Fraction) -> float:
    """Return how many frames a stream has beyond its duration; `rate` in frames per second."""
    frames, seconds = _whole(stream.get("nb_frames")), _stream_duration(stream)
    return frames - seconds * float(rate) if frames and seconds else 0.0


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
    # A transport stream may have several: "eng,fra".
    return languages.tag(str(stream.get("tags", {}).get("language", "")).partition(",")[0])


def _name(stream: Mapping[str, Any]) -> str:
    tags = stream.get("tags", {})
    name = str(tags.get("title") or tags.get("name") or "")
    # Playlists put names between double quotes, on one line.
    printable = "".join(c if c.isprintable() else " " for c in name.replace('"', "'"))
    return " ".join(printable.split())[:_MAX_NAME]


def _check_decodable(stream: Mapping[str, Any]) -> None:
    if not _is_known(stream):
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


def _tag(name: object) -> str:
    # "gbr" is RGB, which has no matrix: `colour.meant` chooses one.
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
        end = parts[0] * 3600 + parts[1] * 60 + parts[2] or None
        return _since(_seconds(stream.get("start_time")) or 0.0, end)
    return _seconds(stream.get("duration"))


def _since(start: float, end: float | None) -> float | None:
    """Return the seconds from `start` to `end`: Matroska counts lengths from 0, wherever a stream begins."""
    return end - start if end and 0 < start < end else end


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
