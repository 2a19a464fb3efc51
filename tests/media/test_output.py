"""What a caller is told of a result is what the result is."""

from __future__ import annotations

import re

import pytest

from tests.conftest import some
from tests.media.conftest import Result, ffprobe
from transcoding.media.encoding import command

FILM = (
    "-f lavfi -i testsrc2=s=854x480:r=25:d=13 -f lavfi -i sine=d=13 "
    "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 50 -c:a aac -ac 2 {0}"
)
X264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"
CODECS = {"mp4": "avc1", "mov": "avc1", "mkv": "avc1", "ts": "avc1", "flv": "avc1", "webm": "vp09"}


def told(result: Result) -> list[tuple[int, int, float, str]]:
    assert result.output
    return [(r.width, r.height, r.frame_rate, r.codec.partition(".")[0]) for r in result.output.renditions]


def check_whole(result: Result, seconds: float) -> None:
    assert result.output
    assert result.output.duration == pytest.approx(seconds, abs=0.1)
    assert result.output.bytes == sum(answer["ContentLength"] for answer in result.objects.values())
    assert all(0 < r.bit_rate <= r.peak_bit_rate for r in result.output.renditions)


@pytest.mark.parametrize("format", some(CODECS, "mkv", "flv", "webm"))
def test_a_file(clips, transcode, format):
    result = transcode(clips("film.mp4", FILM), format, 1)
    check_whole(result, 13)
    assert told(result) == [(640, 360, 25.0, CODECS[format])]
    packets = ffprobe(result.entry, "-select_streams", "v", "-show_packets")["packets"]
    measured = sum(int(packet["size"]) for packet in packets) * 8 / 13
    assert result.output.renditions[0].bit_rate == pytest.approx(measured, rel=0.05)


@pytest.mark.parametrize("format", some(["m3u8", "mp4"], "mp4"))
def test_parts_are_told_as_one_pass_is(clips, transcode, format):
    clip = clips("film.mp4", FILM)
    whole, parts = transcode(clip, format, 1), transcode(clip, format, 1, part_seconds=0.2)
    check_whole(parts, 13)
    assert told(parts) == told(whole)
    rates = [r.output.renditions[0].bit_rate for r in (whole, parts)]
    assert rates[1] == pytest.approx(rates[0], rel=0.1)


def test_an_adaptive_result_best_first_as_its_playlist_says(clips, transcode):
    result = transcode(clips("film.mp4", FILM), "mpd", 6)
    check_whole(result, 13)
    assert told(result) == [(854, 480, 25.0, "avc1"), (640, 360, 25.0, "avc1")]
    master = (result.folder / "master.m3u8").read_text()
    codecs = set(re.findall(r'CODECS="([^,"]+)', master))
    assert {r.codec for r in result.output.renditions} == codecs


@pytest.mark.parametrize(
    ("format", "codec"),
    [("mp3", "mp3"), ("m4a", "mp4a.40.2"), ("ogg", "opus"), ("wav", "pcm-s16"), ("m3u8", "mp4a.40.2")],
)
def test_sound_alone(clips, transcode, format, codec):
    clip = clips("sound.flac", "-f lavfi -i sine=d=13 -c:a flac {0}")
    result = transcode(clip, format, 5)
    check_whole(result, 13)
    assert told(result) == [(0, 0, 0.0, codec.partition(".")[0])]
    assert result.output.renditions[0].codec == codec


def test_a_copy_is_told_as_it_is(clips, transcode):
    options = "-c:v libx264 -preset fast -b:v 400k -pix_fmt yuv420p -g 50 -c:a aac -b:a 80k -ac 2"
    clip = clips("fits.mp4", f"-f lavfi -i testsrc2=s=424x240:r=24:d=9 -f lavfi -i sine=d=9 {options} {{0}}")
    packets = ffprobe(clip, "-select_streams", "v", "-show_packets")["packets"]
    measured = sum(int(packet["size"]) for packet in packets) * 8 / 9
    for target in ("mkv", "m3u8"):
        result = transcode(clip, target, 5)
        check_whole(result, 9)
        assert told(result) == [(424, 240, 24.0, "avc1")]
        assert result.output.renditions[0].bit_rate == pytest.approx(measured, rel=0.05)


def test_of_a_variable_frame_rate_the_average_is_told(clips, transcode):
    """Of ten seconds, the first five have 10 frames a second and the others 30."""
    frames = "-f lavfi -i testsrc2=s=320x180:r=30:d=10 -vf select='gt(t\\,5)+not(mod(n\\,3))' -fps_mode vfr"
    clip = clips("variable.mkv", f"{frames} -c:v ffv1 {{0}}")
    for target in ("mp4", "m3u8"):
        result = transcode(clip, target, 1)
        check_whole(result, 10)
        ((_, _, rate, _),) = told(result)
        assert rate == pytest.approx(20, abs=0.5)
    # Playlists have the highest (RFC 8216, 4.3.4.2).
    assert "FRAME-RATE=30.000," in result.entry.read_text()


def test_playlists_have_the_highest_of_a_rate_whose_average_the_source_names(clips, transcode):
    frames = "-f lavfi -i testsrc2=s=320x180:r=30:d=13 -vf select='gt(t\\,6)+not(mod(n\\,3))' -fps_mode vfr"
    clip = clips("variable.mp4", f"{frames} {X264} -g 60 {{0}}")
    result = transcode(clip, "mpd", 1, attempt=2)
    assert "FRAME-RATE=30.000," in (result.folder / "master.m3u8").read_text()
    assert 'frameRate="30"' in result.entry.read_text()


def test_two_codecs_are_told_each_with_its_own_rates(clips, transcode):
    clip = clips("film.mp4", FILM)
    result = transcode(clip, "m3u8", 6, codecs="h264,av1", thumbnails=True)
    check_whole(result, 13)
    expected = [(w, h, 25.0, codec) for w, h in ((854, 480), (640, 360)) for codec in ("avc1", "av01")]
    assert told(result) == expected
    assert result.output.poster.endswith("poster.jpg")
    assert result.output.thumbnails.endswith("thumbnails.vtt")


@pytest.mark.parametrize("format", some(["mp4", "m3u8", "webm", "gif"], "mp4", "m3u8"))
def test_a_single_frame(clips, transcode, format):
    result = transcode(clips("one.mp4", f"-f lavfi -i testsrc2=s=320x180:r=5:d=0.2 {X264} {{0}}"), format, 1)
    check_whole(result, 0.2)
    assert len(told(result)) == 1


@pytest.mark.parametrize("stage", ["packets", "description"])
def test_a_result_that_cannot_be_described_is_stored_all_the_same(clips, transcode, monkeypatch, stage):
    make = getattr(command, stage)
    monkeypatch.setattr(command, stage, lambda *given: [*make(*given)[:-1], "/nowhere/at/all"])
    result = transcode(clips("film.mp4", FILM), "mp4", 1)
    result.decode()
    assert result.output
    assert [(r.width, r.height, r.frame_rate, r.bit_rate) for r in result.output.renditions] == [
        (640, 360, 25.0, 0)
    ]
