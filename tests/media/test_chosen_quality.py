"""The constant rate factor is chosen for each source, so that its quality is the one aimed at."""

from __future__ import annotations

import re

import pytest

from tests.conftest import some
from tests.media.conftest import SHARED_MEDIA
from tests.media.test_quality import FOUND, vmaf
from transcoding.errors import LeaseLostError
from transcoding.media.encoding import command
from transcoding.media.planning.codecs import H264
from transcoding.pipeline import quality

pytestmark = pytest.mark.chooses

#: A source of a minute that is small, so that it is encoded quickly.
MINUTE = (
    f"-stream_loop 1 -i {SHARED_MEDIA / 'big-buck-bunny-480p-30s.mp4'} -t 60 -an "
    "-vf scale=320:180:flags=lanczos,setsar=1{filters} "
    "-c:v libx264 -preset ultrafast -qp 8 -g 48 -pix_fmt yuv420p {{0}}"
)
CONSTANT = {f"{H264.crf(180):.1f}"}


def minute(clips, filters=""):
    return clips("minute.mkv", MINUTE.format(filters=filters))


def factors(folder):
    """The constant rate factors of all encoders of a result: x264 notes its settings at the beginning."""
    media = sorted(p for p in folder.rglob("*") if p.suffix in {".mp4", ".m4s"})
    return [found.decode() for path in media for found in re.findall(rb" crf=([\d.]+) ", path.read_bytes())]


@FOUND
@pytest.mark.slow
def test_what_is_easy_and_what_is_hard_get_the_quality_aimed_at(clips, transcode):
    chosen = []
    for filters in ("", ",fps=1,fps=24"):
        clip = minute(clips, filters)
        result = transcode(clip, "mp4", 5, attempt=2)
        assert 92.5 <= vmaf(result, clip, 5) <= 95.5
        chosen += factors(result.folder)
    hard, easy = map(float, chosen)
    assert easy > hard


@FOUND
@pytest.mark.parametrize("codec", some(["hevc", "av1"], "av1"))
def test_newer_codecs_take_no_more_bits_than_the_quality_needs(clips, transcode, monkeypatch, codec):
    clip = minute(clips, ",fps=1,fps=24")
    chosen = transcode(clip, "mp4", 5, attempt=2, codecs=codec)
    assert 92.5 <= vmaf(chosen, clip, 5) <= 96.5
    monkeypatch.setattr(quality, "_LONGEST", 0.0)
    constant = transcode(clip, "mp4", 5, attempt=2, codecs=codec)
    assert chosen.entry.stat().st_size < 0.85 * constant.entry.stat().st_size


@FOUND
@pytest.mark.slow
def test_all_parts_of_a_task_have_the_same_factor(clips, transcode):
    found = factors(transcode(minute(clips), "m3u8", 5, attempt=2, part_seconds=0.1).folder)
    assert len(found) > 2
    assert len(set(found)) == 1
    assert set(found) != CONSTANT


@FOUND
def test_each_rendition_of_an_adaptive_task_has_its_own_factor_in_all_parts(clips, transcode):
    recipe = MINUTE.format(filters=",fps=12").replace("320:180", "854:480").replace("-t 60", "-t 24")
    clip = clips("ladder.mkv", recipe)
    result = transcode(clip, "m3u8", 6, attempt=2, part_seconds=0.2)
    renditions = [folder for folder in result.folder.iterdir() if folder.name.startswith("h264-")]
    found = {folder.name: factors(folder) for folder in renditions}
    assert set(found) == {"h264-480p", "h264-360p"}
    assert all(len(ones) > 2 and len(set(ones)) == 1 for ones in found.values())
    assert not {f"{crf:.1f}" for crf in H264.crfs.values()} & {ones[0] for ones in found.values()}


@FOUND
@pytest.mark.parametrize("keyframes", [48, 9999])
def test_a_clip_of_ten_seconds_gets_about_the_quality_aimed_at(clips, transcode, keyframes):
    recipe = MINUTE.format(filters=",fps=1,fps=24").replace("-t 60", "-t 10")
    clip = clips("ten.mkv", recipe.replace("-g 48", f"-g {keyframes}"))
    result = transcode(clip, "mp4", 5, attempt=2)
    assert set(factors(result.folder)) != CONSTANT
    assert 92.5 <= vmaf(result, clip, 5) <= 97


@FOUND
@pytest.mark.parametrize("trouble", some(["fails", "takes too long", "shows nothing"], "fails"))
def test_where_nothing_can_be_measured_the_task_succeeds_with_the_constant_factor(
    clips, transcode, monkeypatch, trouble
):
    if trouble == "fails":
        sample = command.sample
        monkeypatch.setattr(command, "sample", lambda *given: [*sample(*given), "-no-such-option"])
    elif trouble == "takes too long":
        monkeypatch.setattr(quality, "_LONGEST", 0.0)
    else:
        monkeypatch.setattr(command, "_COMPARED", 1000)
    assert set(factors(transcode(minute(clips), "mp4", 5, attempt=2).folder)) == CONSTANT


@FOUND
def test_a_task_that_is_deleted_meanwhile_ends(clips, transcode):
    reports = []

    def report(progress):
        reports.append(progress)
        if len(reports) > 2:
            raise LeaseLostError

    with pytest.raises(LeaseLostError):
        transcode(minute(clips), "mp4", 5, attempt=2, report=report)


@FOUND
def test_of_a_short_source_nothing_is_measured(clips, transcode):
    clip = clips("short.mkv", MINUTE.format(filters="").replace("-t 60", "-t 4"))
    assert set(factors(transcode(clip, "mp4", 5, attempt=2).folder)) == CONSTANT
