"""An adaptive result: all qualities from one decode, aligned, in parts as in one pass."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tests.conftest import some
from tests.media.conftest import Result, ffmpeg
from transcoding.errors import OutOfTimeError

X264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"
#: Sources of 12 s, which change scenes where no keyframe is forced, and the sides of their rungs.
SOURCES = {
    "film.mp4": (
        "testsrc2=s=854x480:r=12:d=5.3 -f lavfi -i smptebars=s=854x480:r=12:d=6.7 -f lavfi -i sine=d=12 "
        f"-filter_complex [0][1]concat[v] -map [v] -map 2 {X264} -g 24 -c:a aac",
        (480, 360),
    ),
    "interlaced.ts": (
        "testsrc2=s=720x576:r=24:d=12 -vf interlace,setfield=tff -c:v mpeg2video -q:v 2 "
        "-flags +ildct+ilme -g 12",
        (576, 480, 360),
    ),
    "variable.mp4": (
        f"testsrc2=s=640x480:r=60:d=12 -vf select='gt(random(1)\\,0.6)' -fps_mode vfr {X264} -g 60",
        (480, 360),
    ),
    "portrait.mp4": (
        f"testsrc2=s=720x1280:r=12:d=12 {X264} -g 24",
        (720, 480, 360),
    ),
}


def names(result: Result, side: int) -> list[str]:
    playlist = (result.folder / f"h264-{side}p/index.m3u8").read_text()
    return re.findall(r"^\S+\.m4s$", playlist, re.MULTILINE)


def frames(result: Result, side: int) -> list[str]:
    """The times and digests of all frames."""
    listing = result.folder / "frames.txt"
    entry = result.folder / f"h264-{side}p/index.m3u8"
    ffmpeg("-copyts -i {0} -map 0:v -fps_mode passthrough -f framemd5 {1}", entry, listing)
    return [line for line in listing.read_text().splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("name", some(SOURCES, "film.mp4", "interlaced.ts"))
def test_renditions_are_aligned_and_parts_are_one_pass(lossless, clips, transcode, name):
    arguments, sides = SOURCES[name]
    source = clips(name, f"-f lavfi -i {arguments} {{0}}")
    whole = transcode(source, "m3u8", 6)
    parts = transcode(source, "m3u8", 6, part_seconds=0.4)
    found = {n.split("/")[0] for n in whole.objects if n.startswith("h264-")}
    assert found == {f"h264-{side}p" for side in sides}
    for side in sides:
        assert len(frames(whole, side)) > 120
        assert frames(parts, side) == frames(whole, side)
    for result, least in ((whole, 2), (parts, 3)):
        assert len(names(result, sides[0])) >= least
        for one, other in pairwise(sides):
            assert names(result, one) == names(result, other)


def similarity(entry: Path, source: Path, size: str) -> float:
    """The SSIM of a rendition's frames to the source's, scaled."""
    graph = f"[0:v]settb=AVTB,setpts=N[a];[1:v]scale={size}:flags=bicubic,settb=AVTB,setpts=N[b];[a][b]ssim"
    errors = ffmpeg(f"-v info -i {{0}} -i {{1}} -lavfi {graph} -f null -", entry, source)
    return float(re.findall(r"All:([\d.]+)", errors)[-1])


def test_each_rendition_shows_the_source(clips, transcode):
    source = clips("film.mp4", f"-f lavfi -i {SOURCES['film.mp4'][0]} {{0}}")
    result = transcode(source, "mpd", 6, part_seconds=0.4)
    for side, size in ((480, "854:480"), (360, "640:360")):
        assert similarity(result.folder / f"h264-{side}p/index.m3u8", source, size) > 0.98
    assert (result.folder / "audio/index.m3u8").exists()


@pytest.mark.parametrize(("rate", "every"), some(((120, 2), (100, 2), (240, 4), (150, 3)), (240, 4)))
def test_of_more_than_sixty_frames_a_second_every_so_manyth_is_shown(
    lossless: None,
    clips: Callable[[str, str], Path],
    transcode: Callable[..., Result],
    rate: int,
    every: int,
) -> None:
    # Keyframes, and so parts, begin at frames that are not shown too.
    recipe = f"-f lavfi -i testsrc2=s=480x360:r={rate}:d=12 {X264} -g 49 {{0}}"
    source = clips("slow-motion.mp4", recipe)
    whole = transcode(source, "m3u8", 6)
    shown = frames(whole, 360)
    cut = transcode(source, "m3u8", 6, part_seconds=0.5)
    assert frames(cut, 360) == shown
    listing = whole.folder / "source.txt"
    chosen = rf"-vf select='not(mod(n\,{every}))' -fps_mode passthrough"
    ffmpeg(f"-i {{0}} {chosen} -f framemd5 {{1}}", source, listing)
    meant = [line.split(",")[-1] for line in listing.read_text().splitlines() if not line.startswith("#")]
    assert [line.split(",")[-1] for line in shown] == meant
    times = [int(line.split(",")[2]) for line in shown]
    assert len({after - before for before, after in pairwise(times)}) == 1
    assert [one.frame_rate for one in whole.output.renditions] == [rate / every]
    assert f"FRAME-RATE={rate / every:.3f}" in (whole.folder / "master.m3u8").read_text()
    for result in (whole, cut):
        playlist = (result.folder / "h264-360p/index.m3u8").read_text()
        lengths = [float(length) for length in re.findall(r"EXTINF:([\d.]+)", playlist)]
        # Each frame is shown until the next one, also the last of a segment.
        assert sum(lengths) == pytest.approx(12, abs=0.001)
        assert all(abs(length * rate / every - round(length * rate / every)) < 0.001 for length in lengths)


@pytest.mark.parametrize("codec", some(("h264", "hevc", "av1"), "h264"))
def test_the_level_is_that_of_the_frames_that_are_shown(
    clips: Callable[[str, str], Path], transcode: Callable[..., Result], codec: str
) -> None:
    """Players go by CODECS: a level for 120 frames a second is one that fewer of them have."""
    shown = {}
    for rate in (60, 120):
        source = clips(f"{rate}.mp4", f"-f lavfi -i testsrc2=s=1280x720:r={rate}:d=1 {X264} {{0}}")
        playlist = (transcode(source, "m3u8", 6, codecs=codec).folder / "master.m3u8").read_text()
        assert "FRAME-RATE=60.000" in playlist
        shown[rate] = re.findall(r'CODECS="(.*?)"', playlist)
    assert len(shown[60]) >= 3
    assert shown[60] == shown[120]


@pytest.mark.slow
def test_a_variable_rate_above_sixty_is_thinned_evenly(
    lossless: None, clips: Callable[[str, str], Path], transcode: Callable[..., Result]
) -> None:
    recipe = "-f lavfi -i testsrc2=s=480x360:r=240:d=12 -vf select='gt(random(1)\\,0.3)' -fps_mode vfr "
    source = clips("phone.mp4", f"{recipe}{X264} -g 49 {{0}}")
    for part_seconds in (None, 0.5):
        result = transcode(source, "m3u8", 6, part_seconds=part_seconds)
        listing = frames(result, 360)
        ticks = [int(line.split(",")[2]) for line in listing]
        seconds = [12 * (tick - ticks[0]) / (ticks[-1] - ticks[0]) for tick in ticks]
        for second in range(11):
            assert 50 <= sum(second <= at < second + 1 for at in seconds) <= 62
        assert max(after - before for before, after in pairwise(seconds)) < 0.07


class Late:
    """The time is over once, when a part is nearly done."""

    def __init__(self) -> None:
        self.over = False

    def __call__(self, progress: float) -> None:
        if not self.over and 0.6 < progress < 0.99:
            self.over = True
            raise OutOfTimeError


def test_a_part_that_ran_out_of_time_ends_with_the_same_segment_in_all_renditions(
    lossless: None, clips: Callable[[str, str], Path], transcode: Callable[..., Result]
) -> None:
    source = clips("long.mp4", f"-f lavfi -i testsrc2=s=854x480:r=18:d=60 {X264} -g 36 {{0}}")
    whole = transcode(source, "m3u8", 6)
    late = Late()
    parts = transcode(source, "m3u8", 6, part_seconds=5, report=late)
    assert late.over
    for side in (480, 360):
        assert frames(parts, side) == frames(whole, side)
    assert names(parts, 480) == names(parts, 360)
    stored = {name for name in parts.objects if name.endswith(".m4s")}
    assert stored == {f"h264-{side}p/{name}" for side in (480, 360) for name in names(parts, side)}
