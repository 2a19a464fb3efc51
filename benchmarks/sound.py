"""How much of a sound its encoder changes, at the bit rates that the service could choose from.

Tones show it first: in film, noise hides noise. What is measured is how far the result is above its
difference from the source, in dB (FFmpeg's `asdr`): no measure of what is heard, but it tells rates apart.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

from benchmarks import sources
from transcoding.media.planning.codecs import AAC, MP3, OPUS, SoundCodec

#: A codec, and a container that tells how much of its beginning is not to be heard.
_CODECS: tuple[tuple[SoundCodec, str], ...] = ((AAC, "m4a"), (OPUS, "ogg"), (MP3, "mp3"))
#: By the number of channels, kb/s.
_RATES = {1: (48, 64, 80, 96, 128), 2: (96, 128, 160, 192)}


def measure(folder: Path) -> list[dict[str, Any]]:
    """Return a row for each codec and rate: dB by the name of the sound."""
    rows = []
    for codec, suffix in _CODECS:
        for channels, rates in _RATES.items():
            for rate in rates:
                row: dict[str, Any] = {"codec": codec.name, "channels": channels, "rate": rate}
                for name, source in sources.sounds(channels).items():
                    result = folder / f"sound.{suffix}"
                    _run("-i", source, *codec.options(rate * 1000), "-ac", channels, "-ar", 48_000, result)
                    row[name] = distance(source, result)
                print(f"  {row}", flush=True)
                rows.append(row)
    return rows


def distance(source: Path, result: Path) -> float:
    """Return how far the result is above its difference from the source, dB; of its worst channel."""
    said = _run("-i", source, "-i", result, "-lavfi", "[0:a][1:a]asdr", "-f", "null", "-")
    return min(float(number) for number in re.findall(r"SDR ch\d+: (\S+) dB", said))


def _run(*arguments: object) -> str:
    words = [str(sources.TOOLS.ffmpeg), "-hide_banner", "-nostdin", "-nostats", "-y", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stderr
