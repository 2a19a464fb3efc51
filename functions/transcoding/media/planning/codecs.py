"""How each codec is encoded, as data: FFmpeg's options, with what the plan decides in braces."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: `rung` is the quality's `Rung`.
PICTURE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "h264": (
            *("-c:v", "libx264", "-preset", "fast", "-profile:v", "high", "-crf", "{rung.crf}"),
            *("-maxrate", "{rung.buffer_rate}", "-bufsize", "{rung.buffer}"),
        ),
        # Constrained quality: https://trac.ffmpeg.org/wiki/Encode/VP9; its rate is an average.
        "vp9": (
            *("-c:v", "libvpx-vp9", "-crf", "{rung.vp9_crf}", "-b:v", "{rung.max_bit_rate}"),
            *("-deadline", "good", "-cpu-used", "4", "-row-mt", "1"),
        ),
        "gif": ("-c:v", "gif"),
    }
)

#: How many frames ahead of the one that is shown the encoders decode.
REORDERED: Mapping[str, int] = MappingProxyType({"h264": 2, "vp9": 0})

#: `bit_rate` is in bits per second.
SOUND: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "aac": ("-c:a", "aac", "-b:a", "{bit_rate}"),
        "opus": ("-c:a", "libopus", "-b:a", "{bit_rate}"),
        "mp3": ("-c:a", "libmp3lame", "-b:a", "{bit_rate}"),
        "pcm_s16le": ("-c:a", "pcm_s16le"),
    }
)
