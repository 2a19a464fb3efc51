"""A part that cannot be decoded from a keyframe on is decoded from the beginning of the source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import some
from tests.media.conftest import TOOLS, ffmpeg
from tests.media.test_parts import frames
from transcoding.errors import OutOfTimeError
from transcoding.media.inspection import entries
from transcoding.media.inspection.probe import probe, with_keyframes
from transcoding.media.planning.cuts import begin

pytestmark = pytest.mark.usefixtures("lossless")

PICTURE = "-f lavfi -i testsrc2=s=160x90:r=25:d={seconds}"
LIKE_ONE_PASS = entries.is_like_one_pass


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What came of each comparison of a part with one pass."""
    found: list[bool] = []

    def noted(*arguments: Any) -> bool:
        found.append(LIKE_ONE_PASS(*arguments))
        return found[-1]

    monkeypatch.setattr(entries, "is_like_one_pass", noted)
    return found


def old_x264(
    clips: Callable[[str, str], Path], folder: Path, *, black: int = 0, seconds: int = 40, gop: int = 50
) -> Path:
    """What says in its first frame alone that a faulty encoder has made it, after some seconds of black."""
    filters = f"-vf drawbox=c=black:t=fill:enable='lt(t\\,{black})'"
    new = clips(
        "new.mkv",
        f"{PICTURE.format(seconds=seconds)} {filters} -c:v libx264 -preset fast -pix_fmt yuv444p -qp 0 "
        f"-coder 0 -x264-params scenecut=0 -g {gop} {{0}}",
    )
    content = new.read_bytes()
    at = content.index(b"x264 - core ") + len(b"x264 - core ")
    old = folder / "old.mkv"
    old.write_bytes(content[:at] + b"148" + content[at + 3 :])
    assert content.count(b"x264 - core ") == 1
    return old


@pytest.mark.parametrize(
    ("black", "seconds", "gop"),
    some([(0, 40, 50), (15, 40, 50), (70, 100, 50), (0, 110, 800), (45, 45, 50)], (15, 40, 50)),
)
def test_what_only_the_first_frame_tells_is_known_to_every_part(
    clips, transcode, compared, tmp_path, black, seconds, gop
):
    source = old_x264(clips, tmp_path, black=black, seconds=seconds, gop=gop)
    whole = frames(transcode(source, "m3u8", 5, attempt=2))
    assert frames(transcode(source, "m3u8", 5, attempt=2, part_seconds=0.01)) == whole
    # It is known before the parts are made.
    assert not compared
    if black == seconds:
        return
    # FFmpeg does decode it in another way than what new encoders make.
    new = tmp_path / "new.mkv"
    new.write_bytes(source.read_bytes().replace(b"x264 - core 148", b"x264 - core 165"))
    assert frames(transcode(new, "m3u8", 5, attempt=2)) != whole


def parameters_once(clips: Callable[[str, str], Path], folder: Path, codec: str) -> Path:
    """Two streams, one behind the other; the second has parameter sets before its first keyframe alone."""
    options, parameters, units = {
        "h264": ("-c:v libx264 -bf 0 -g 50 -x264-params {}", ("cabac=1", "cabac=0:8x8dct=0:ref=1"), "7-8"),
        "hevc": (
            "-c:v libx265 -preset superfast -x265-params log-level=1:repeat-headers=1:bframes=0:keyint=50:{}",
            ("ref=1", "ref=3:sao=0:weightp=0:signhide=0:ctu=32"),
            "32-34",
        ),
    }[codec]
    parts = []
    for number, parameter in enumerate(parameters):
        arguments = f"{PICTURE.format(seconds=12)} -pix_fmt yuv420p {options.format(parameter)} {{0}}"
        parts.append(clips(f"{number}.{codec}", arguments))
    sets, rest = (folder / f"{name}.{codec}" for name in ("sets", "rest"))
    ffmpeg(f"-i {{0}} -c copy -bsf:v filter_units=pass_types={units} -frames:v 1 {{1}}", parts[1], sets)
    ffmpeg(f"-i {{0}} -c copy -bsf:v filter_units=remove_types={units} {{1}}", parts[1], rest)
    stream, source = folder / f"stream.{codec}", folder / "once.mkv"
    stream.write_bytes(parts[0].read_bytes() + sets.read_bytes() + rest.read_bytes())
    ffmpeg("-framerate 25 -i {0} -c copy {1}", stream, source)
    return source


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_what_is_sent_once_is_known_to_every_part(clips, transcode, compared, tmp_path, codec):
    source = parameters_once(clips, tmp_path, codec)
    whole = transcode(source, "m3u8", 5, attempt=2)
    assert frames(transcode(source, "m3u8", 5, attempt=2, part_seconds=0.01)) == frames(whole)
    assert len(frames(whole)) == 600
    assert not any(compared)


def damaged(clips: Callable[[str, str], Path], folder: Path) -> Path:
    """A source of three parts, the later two with damaged frames."""
    clip = clips("clip.mov", f"{PICTURE.format(seconds=20)} -c:v prores_ks {{0}}")
    content = bytearray(clip.read_bytes())
    media = content.index(b"mdat")
    for place in range(45, 95, 5):
        at = media + (len(content) - media) * place // 100
        content[at : at + 64] = bytes(64)
    source = folder / "damaged.mov"
    source.write_bytes(content)
    return source


def test_what_the_source_itself_lacks_is_looked_for_once(clips, transcode, compared, tmp_path):
    source = damaged(clips, tmp_path)
    whole = frames(transcode(source, "m3u8", 5, attempt=2))
    parts = frames(transcode(source, "m3u8", 5, attempt=2, part_seconds=0.01))
    # What is made up for what is damaged is not the same each time.
    assert [frame.split(",")[2] for frame in parts] == [frame.split(",")[2] for frame in whole]
    assert compared == [True]


def test_a_damaged_part_that_there_is_no_time_to_compare_is_kept(clips, transcode, monkeypatch, tmp_path):
    def late(*arguments: Any) -> bool:
        raise OutOfTimeError

    source = damaged(clips, tmp_path)
    monkeypatch.setattr(entries, "is_like_one_pass", late)
    parts = transcode(source, "m3u8", 5, attempt=2, part_seconds=0.01)
    assert len(frames(parts)) == len(frames(transcode(source, "m3u8", 5, attempt=2)))


def test_comparing_ends_when_it_is_told_to(clips, monkeypatch, tmp_path):
    monkeypatch.setattr(entries, "_POLL", 0)
    clip = clips("long.mp4", f"{PICTURE.format(seconds=40)} -c:v libx264 -pix_fmt yuv420p -g 100 {{0}}")
    facts = with_keyframes(probe(TOOLS, str(clip), clip.stat().st_size), str(clip))

    def end() -> None:
        raise OutOfTimeError

    with pytest.raises(OutOfTimeError):
        entries.are_true(TOOLS, str(clip), facts, begin(facts), tmp_path, end)
