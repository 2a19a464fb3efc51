"""Whatever a file's clocks say, each frame comes out once, in time with the sound."""

from __future__ import annotations

from array import array
from contextlib import suppress
from itertools import pairwise

import m3u8
import pytest

from tests.conftest import some
from tests.media.conftest import ffmpeg, ffprobe

H264 = "-c:v libx264 -preset ultrafast -g 25 -bf 2 -pix_fmt yuv420p"
BOTH = pytest.mark.parametrize("format", some(["m3u8", "mp4"], "m3u8"))


def beeps(seconds, rate=25, offset=0):
    """Picture and sound in which each second begins with a flash and a beep of 0.2 s."""
    on = "lt(mod(t\\,1)\\,0.2)*gte(t\\,1)"
    return (
        f"-f lavfi -i color=black:s=160x90:r={rate}:d={seconds},drawbox=c=white:t=fill:enable='{on}' "
        f"-f lavfi -i aevalsrc='sin(880*2*PI*t)*{on}:s=48000:d={seconds}' "
    )


def transcoded(transcode, clip, format):
    with suppress(OSError):
        return transcode(clip, format, 5)
    return transcode(clip, format, 5, attempt=2)


def onsets(result, tmp_path):
    """When the flashes and when the beeps begin, seconds."""
    grey, pcm = tmp_path / "grey", tmp_path / "pcm"
    ffmpeg(
        "-i {0} -map 0:v -vf fps=100:start_time=0,scale=2:2 -pix_fmt gray -f rawvideo {1}", result.entry, grey
    )
    ffmpeg(
        "-i {0} -map 0:a -af aresample=async=1:first_pts=0 -ac 1 -ar 48000 -f s16le {1}", result.entry, pcm
    )
    bright = [n / 100 for n, (a, b) in enumerate(pairwise(grey.read_bytes()[::4]), 1) if a < 100 < b]
    samples = array("h", pcm.read_bytes())
    loud = [max(map(abs, samples[n : n + 480])) > 3000 for n in range(0, len(samples), 480)]
    return bright, [n / 100 for n, (a, b) in enumerate(pairwise(loud), 1) if b and not a]


def length(result, kind):
    """How long the picture or the sound is, seconds."""
    if result.entry.suffix == ".m3u8":
        return sum(s.duration for s in m3u8.load(str(result.folder / kind / "index.m3u8")).segments)
    stream = result.streams()[kind]
    return float(stream["start_time"]) + float(stream["duration"])


def check(result, tmp_path, frames, seconds, marks, slack=0.045):
    streams = result.streams()
    assert int(streams["video"]["nb_read_frames"]) == frames
    for kind, most in (("video", slack), ("audio", 0.09)):
        assert length(result, kind) == pytest.approx(seconds, abs=most), kind
    bright, loud = onsets(result, tmp_path)
    assert len(bright) == len(loud) == marks
    assert bright == pytest.approx(loud, abs=0.045)
    result.decode()


@BOTH
@pytest.mark.parametrize("name", ["forward", "backward", "wrapped"])
def test_the_clock_of_a_transport_stream_may_jump(clips, transcode, tmp_path, format, name):
    def part(start):
        return clips(f"{start}.ts", f"{beeps(3)} {H264} -c:a aac -output_ts_offset {start} {{0}}")

    clip = tmp_path / f"{name}.ts"
    if name == "wrapped":
        # At 2^33 ticks of 90 kHz.
        clip.write_bytes(part(95442).read_bytes())
        check(transcoded(transcode, clip, format), tmp_path, 75, 3, 2)
    else:
        starts = (0, 18_000) if name == "forward" else (18_000, 0)
        clip.write_bytes(b"".join(part(start).read_bytes() for start in starts))
        check(transcoded(transcode, clip, format), tmp_path, 150, 6, 4)


@BOTH
@pytest.mark.parametrize("name", ["gap.mkv", "gap.flv"])
def test_a_gap_of_hours_is_closed(clips, transcode, tmp_path, format, name):
    gap = "'PTS+gte(T\\,3)*18000/TB'"
    clip = clips(
        name,
        f'{beeps(6)} -vf "setpts={gap}" -af "asetpts={gap}" -fps_mode vfr -enc_time_base 1/1000 {H264} '
        "-c:a aac {0}",
    )
    check(transcoded(transcode, clip, format), tmp_path, 150, 6, 5)


@BOTH
def test_a_transport_stream_that_begins_in_the_middle(clips, transcode, tmp_path, format):
    whole = clips("whole.ts", f"{beeps(5)} {H264} -c:a aac {{0}}")
    clip = tmp_path / "cut.ts"
    clip.write_bytes(whole.read_bytes()[len(whole.read_bytes()) // 6 + 77 :])
    result = transcoded(transcode, clip, format)
    bright, loud = onsets(result, tmp_path)
    assert len(bright) >= 3
    assert bright[-3:] == pytest.approx(loud[-3:], abs=0.045)
    assert int(result.streams()["video"]["nb_read_frames"]) >= 99
    result.decode()


@BOTH
@pytest.mark.parametrize("name", ["trimmed", "picture-late", "sound-late", "both-late"])
def test_edit_lists(clips, transcode, tmp_path, format, name):
    whole = clips("whole.mp4", f"{beeps(5)} {H264} -c:a aac {{0}}")
    clip = whole.with_name(f"{name}.mp4")
    if name == "trimmed":
        ffmpeg("-ss 1.52 -i {0} -c copy {1}", whole, clip)
    else:
        picture, sound = ("0.6" if name in {f"{s}-late", "both-late"} else "0" for s in ("picture", "sound"))
        ffmpeg(
            f"-itsoffset {picture} -i {{0}} -itsoffset {sound} -i {{0}} -map 0:v -map 1:a -c copy {{1}}",
            whole,
            clip,
        )
    result = transcoded(transcode, clip, format)
    bright, loud = onsets(result, tmp_path)
    late = {"picture-late": 0.6, "sound-late": -0.6}.get(name, 0)
    assert len(bright) == len(loud) == (3 if name == "trimmed" else 4)
    assert [b - late for b in bright] == pytest.approx(loud, abs=0.045)
    frames = int(result.streams()["video"]["nb_read_frames"])
    assert frames == 87 if name == "trimmed" else frames == 125
    result.decode()


@BOTH
@pytest.mark.parametrize(
    ("name", "rate", "ticks"),
    [
        # H.264 tells ticks, two a frame.
        ("double.flv", 25, 100),
        ("thousand.mkv", 25, 2000),
        ("thousand.mp4", 25, 2000),
        ("rounded.flv", 30, 60),
        ("slow-motion.mp4", 240, 480),
        ("half.mkv", 50, 50),
        ("half.ts", 50, 50),
        ("half.mp4", 50, 50),
    ],
)
def test_frame_rates_that_are_not_as_told(clips, transcode, tmp_path, format, name, rate, ticks):
    honest = clips("honest.mkv", f"{beeps(2.9, rate)} {H264} -bf 0 -c:a pcm_s16le {{0}}")
    bare, clip = honest.with_name("bare.h264"), honest.with_name(name)
    ffmpeg(f"-i {{0}} -c copy -bsf:v h264_mp4toannexb,h264_metadata=tick_rate={ticks} {{1}}", honest, bare)
    ffmpeg(f"-r {rate} -i {{0}} -i {{1}} -map 0 -map 1:a -c:v copy -c:a aac {{2}}", bare, honest, clip)
    frames = int(ffprobe(clip, "-count_frames", "-select_streams", "v")["streams"][0]["nb_read_frames"])
    # How long the last frame is, is told as wrongly.
    check(
        transcoded(transcode, clip, format), tmp_path, frames, frames / rate, 2, slack=max(0.045, 1.1 / rate)
    )


@BOTH
@pytest.mark.parametrize("name", ["far.mkv", "far.webm", "far.ts", "far.mp4"])
def test_a_timeline_may_begin_anywhere(clips, transcode, tmp_path, format, name):
    codecs = "-c:v libvpx-vp9 -deadline realtime -c:a libopus" if name == "far.webm" else f"{H264} -c:a aac"
    clip = clips(name, f"{beeps(2.9)} {codecs} -output_ts_offset 1000 {{0}}")
    check(transcoded(transcode, clip, format), tmp_path, 73, 2.92, 2)


@BOTH
@pytest.mark.parametrize("earlier", ["sound", "text"])
@pytest.mark.parametrize("copied", [False, True])
def test_a_stream_that_is_left_out_may_begin_earlier(clips, transcode, tmp_path, format, earlier, copied):
    text = tmp_path / "text.srt"
    text.write_text("1\n00:00:00,000 --> 00:00:01,000\nbefore\n")
    lead, second = {"sound": (2, "-f lavfi -i sine=d=2"), "text": (0.5, f"-i {text}")}[earlier]
    whole = clips("whole.mkv", f"{beeps(2.9)} {H264} -c:a {'aac' if copied else 'flac'} {{0}}")
    clip = whole.with_name(f"{earlier}-first-{copied}.mkv")
    ffmpeg(
        f"-itsoffset {lead} -i {{0}} {second} -map 0 -map 1 -c:v copy -c:a:0 copy -c:a:1 flac "
        "-disposition:a:1 0 {1}",
        whole,
        clip,
    )
    check(transcoded(transcode, clip, format), tmp_path, 73, 2.92, 2)


@pytest.mark.parametrize("name", ["late.ts", "late.mkv"])
def test_sound_that_starts_late_is_in_time_with_a_picture_in_parts(clips, transcode, tmp_path, name):
    whole = clips("long.mkv", f"{beeps(14)} {H264} -c:a flac {{0}}")
    clip = whole.with_name(name)
    ffmpeg("-i {0} -c:v copy -af atrim=start=1.52 -c:a aac {1}", whole, clip)
    result = transcode(clip, "m3u8", 1, attempt=2, part_seconds=0.02)
    bright, loud = onsets(result, tmp_path)
    assert len(bright) == 13
    assert bright[1:] == pytest.approx(loud[-12:], abs=0.045)


@BOTH
@pytest.mark.parametrize("longer", ["picture", "sound"])
def test_streams_of_unequal_length(clips, transcode, format, longer):
    picture, sound = (4, 2) if longer == "picture" else (2, 4)
    clip = clips(
        "unequal.mkv",
        f"-f lavfi -i testsrc2=s=160x90:r=25:d={picture} -f lavfi -i sine=d={sound} {H264} -c:a aac {{0}}",
    )
    result = transcoded(transcode, clip, format)
    assert int(result.streams()["video"]["nb_read_frames"]) == picture * 25
    assert length(result, "audio") == pytest.approx(sound, abs=0.09)
