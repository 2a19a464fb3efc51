"""Prints the times of a stream's keyframes, from the container's index alone, as a JSON list of seconds.

Run as a program of its own: `python -m transcoding.media.index URL STREAM`. Empty: the index does not tell.
"""

from __future__ import annotations

import json
import sys

import av

from transcoding.media.tools import NETWORK_TIMEOUT, input_options

#: An index that ends this long before the stream does is not whole, seconds.
_TOLERANCE = 15.0


def keyframe_times(url: str, stream_index: int) -> list[float]:
    """Return the keyframes' times, seconds from the first frame; empty where the index is not whole."""
    flags = input_options(url)
    options = {flags[i].lstrip("-"): flags[i + 1] for i in range(0, len(flags), 2)}
    with av.open(url, options=options, timeout=NETWORK_TIMEOUT) as container:
        stream = next(s for s in container.streams.video if s.index == stream_index)
        if stream.time_base is None:
            return []
        if "matroska" in container.format.name:
            # Matroska's cues stand at the end, and are read when first needed.
            container.seek(0, stream=stream)
        entries = [e for e in stream.index_entries if not e.is_discard]
        times = sorted({float(e.timestamp * stream.time_base) for e in entries if e.is_keyframe})
        duration = (
            float(stream.duration * stream.time_base)
            if stream.duration
            else (container.duration or 0) / av.time_base
        )
        last = max((float(e.timestamp * stream.time_base) for e in entries), default=0.0)
    if not times or not duration or last - times[0] < duration - _TOLERANCE:
        return []
    return [time - times[0] for time in times]


if __name__ == "__main__":
    json.dump(keyframe_times(sys.argv[1], int(sys.argv[2])), sys.stdout)
