"""Sources of all kinds, in all formats and qualities: each decodes clean, with every frame and all sound.

That is slow. The cases that are not marked so are a few in which every source occurs, every format in every
quality, and every format with and without picture and sound.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.media.conftest import Result, ffprobe
from tests.media.test_formats import CONTAINERS
from tests.media.test_sources import CLIPS, Clip, retried
from transcoding.media.planning.formats import FORMATS, Format
from transcoding.media.planning.ladder import ORIGINAL, SHORT_SIDE

Case = tuple[Clip, Format, int]

#: Seconds. Containers round, and encoders of sound have a delay.
SLACK = 0.15


def short_side(clip: Clip, target: Format, quality: int) -> int:
    """The shorter side of the result, in pixels."""
    return min(side for side in (*clip.made, SHORT_SIDE[quality], target.short_side) if side)


def every_case() -> Iterator[Case]:
    """All that make a difference: the quality of the source, and those that are smaller."""
    for clip in CLIPS:
        for target in FORMATS.values():
            if (target.needs_picture and not clip.frames) or (target.needs_sound and not clip.channels):
                continue
            seen = set()
            for quality in (ORIGINAL, 4, 3, 2, 1) if clip.frames and target.pictures else (ORIGINAL,):
                side = short_side(clip, target, quality)
                if side not in seen:
                    yield clip, target, quality
                seen.add(side)


def covering(cases: Sequence[Case]) -> set[Case]:
    """A few of the cases in which all occurs that is in any."""

    def occurring(case: Case) -> set[Any]:
        clip, target, quality = case
        found: set[Any] = {(target, quality), (target, bool(clip.frames), bool(clip.channels))}
        # What is left out says nothing of the source.
        whole = (target.pictures or not clip.frames) and (target.sound or not clip.channels)
        return found | {clip} if whole else found

    missing = set().union(*map(occurring, cases))
    taken: list[Case] = []
    used: Counter[Format] = Counter()
    while missing:
        best = max(cases, key=lambda case: (len(missing & occurring(case)), -used[case[1]]))
        taken.append(best)
        used[best[1]] += 1
        missing -= occurring(best)
    return set(taken)


CASES = list(every_case())
QUICK = covering(CASES)


@pytest.mark.parametrize(
    ("clip", "target", "quality"),
    [
        pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow,
                     id="-".join([case[0].name, case[1].name, str(case[2])]))
        for case in CASES
    ],
)  # fmt: skip
def test_a_source(clips, transcode, clip, target, quality):
    result = retried(transcode, clips(clip.name, clip.arguments), target.name, quality)
    if target.name == "mpd":
        # FFmpeg takes less than a second for endless, and ffprobe reads no manifests.
        if clip.seconds >= 1:
            result.decode()
        result = Result(result.folder / "master.m3u8", result.objects)
    result.decode()
    report = ffprobe(result.entry)["format"]
    assert report["format_name"] == CONTAINERS[target.name]
    # The last packet may have no length.
    assert float(report["duration"]) == pytest.approx(clip.seconds, abs=SLACK + 1 / clip.frame_rate)
    streams = result.streams()
    picture = next(iter(target.pictures), None)
    codecs = {"video": clip.frames and picture, "audio": clip.channels and target.sound}
    assert {kind: s["codec_name"] for kind, s in streams.items()} == {
        k: c.name for k, c in codecs.items() if c
    }
    if "video" in streams:
        video = streams["video"]
        side = short_side(clip, target, quality)
        assert min(video["width"], video["height"]) == side
        shape = clip.made[0] / clip.made[1]
        assert video["width"] / video["height"] == pytest.approx(shape, abs=2 * shape / side)
        frames = int(video["nb_read_frames"])
        if target.frame_rate and clip.frame_rate > target.frame_rate:
            assert frames == pytest.approx(clip.seconds * float(target.frame_rate), abs=1)
        else:
            assert frames == clip.frames
        assert video["pix_fmt"] == ("bgra" if target.name == "gif" else "yuv420p")
    if "audio" in streams:
        assert streams["audio"]["channels"] == clip.channels
