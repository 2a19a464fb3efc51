"""A source that is encoded in parts gives what one pass over it gives, frame by frame."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from tests.media.conftest import Result, ffmpeg, ffprobe
from transcoding.media import encoders

X264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"
#: Sources of 20 s, small and without loss worth mentioning.
SOURCES = {
    "constant.mp4": f"testsrc2=s=320x180:r=25:d=20 -f lavfi -i sine=d=20 {X264} -g 50 -c:a aac",
    "film.mkv": f"testsrc2=s=320x180:r=24000/1001:d=20 -f lavfi -i sine=d=20 {X264} -g 48 -c:a flac",
    "open-gop.mp4": "testsrc2=s=320x180:r=25:d=20 -c:v libx264 -preset fast -pix_fmt yuv420p "
    "-x264-params open-gop=1:keyint=50:min-keyint=50:scenecut=0:bframes=8:b-adapt=0",
    "long-gop.mkv": "testsrc2=s=320x180:r=25:d=20 -c:v libx264 -preset fast -pix_fmt yuv420p -g 9999",
    "variable.mp4": "testsrc2=s=320x180:r=60:d=20 -vf select='gt(random(1)\\,0.6)' -fps_mode vfr "
    f"{X264} -g 60 -video_track_timescale 90000",
    "transport.ts": "testsrc2=s=320x180:r=25:d=20 -f lavfi -i sine=d=20 -c:v libx264 -preset fast "
    "-pix_fmt yuv420p -g 50 -c:a aac -output_ts_offset 100",
    "interlaced.ts": "testsrc2=s=320x288:r=50:d=20 -vf interlace,setfield=tff -c:v mpeg2video -q:v 2 "
    "-flags +ildct+ilme -g 25",
    "late.mkv": "testsrc2=s=320x180:r=25:d=20,setpts=PTS+1.5/TB -f lavfi -i sine=d=21 "
    f"{X264} -g 50 -c:a flac",
}


@pytest.mark.parametrize("part_seconds", [None, 0.1])
def test_each_frame_of_a_variable_rate_keeps_its_time(clips, transcode, part_seconds):
    source = clips("variable.mp4", f"-f lavfi -i {SOURCES['variable.mp4']} {{0}}")
    result = transcode(source, "m3u8", 5, attempt=2, part_seconds=part_seconds)
    entry = result.folder / "video/index.m3u8"
    times = [
        sorted(
            float(p["pts_time"]) for p in ffprobe(path, "-select_streams", "v", "-show_packets")["packets"]
        )
        for path in (source, entry)
    ]
    assert [round(t - times[1][0], 3) for t in times[1]] == [round(t - times[0][0], 3) for t in times[0]]


@pytest.fixture
def lossless(monkeypatch: pytest.MonkeyPatch) -> None:
    h264 = ("-c:v", "libx264", "-preset", "fast", "-qp", "0")
    vp9 = ("-c:v", "libvpx-vp9", "-lossless", "1", "-cpu-used", "8", "-row-mt", "1")
    monkeypatch.setattr(encoders, "PICTURE", MappingProxyType({"h264": h264, "vp9": vp9}))


def frames(result: Result) -> list[str]:
    """The times and digests of all frames."""
    playlist = result.folder / "video/index.m3u8"
    entry = playlist if playlist.exists() else result.entry
    listing = result.folder / "frames.txt"
    ffmpeg("-copyts -i {0} -map 0:v -fps_mode passthrough -f framemd5 {1}", entry, listing)
    return [line for line in listing.read_text().splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("name", SOURCES)
def test_frames_and_times_are_those_of_one_pass(lossless, clips, transcode, name):
    source = clips(name, f"-f lavfi -i {SOURCES[name]} {{0}}")
    whole = transcode(source, "m3u8", 5, attempt=2)
    parts = transcode(source, "m3u8", 5, attempt=2, part_seconds=0.1)
    assert frames(parts) == frames(whole)
    assert len(frames(whole)) > 200


#: Small sources of 14 s.
SMALL = {
    "constant.mp4": f"testsrc2=s=160x90:r=25:d=14 -f lavfi -i sine=d=14.01 {X264} -g 50 -c:a aac -ac 2",
    "variable.mkv": "testsrc2=s=160x90:r=60:d=14 -vf select='gt(random(1)\\,0.6)' -fps_mode vfr "
    f"{X264} -g 60",
    "open-gop.mp4": "testsrc2=s=160x90:r=30000/1001:d=14 -c:v libx264 -preset fast -pix_fmt yuv420p "
    "-x264-params open-gop=1:keyint=50:min-keyint=50:scenecut=0:bframes=8:b-adapt=0",
    "late.mkv": "testsrc2=s=160x90:r=24:d=14,setpts=PTS+1.45/TB -f lavfi -i sine=d=15 "
    f"{X264} -g 48 -c:a flac",
}


def pcm(result: Result) -> bytes:
    raw = result.folder / "sound.raw"
    ffmpeg("-i {0} -map 0:a -f s16le {1}", result.entry, raw)
    return raw.read_bytes()


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("format", ["mp4", "mov", "mkv", "ts", "flv", "webm"])
def test_a_file_made_in_parts_is_that_of_one_pass(lossless, clips, transcode, name, format):
    source = clips(name, f"-f lavfi -i {SMALL[name]} {{0}}")
    whole = transcode(source, format, 5, attempt=2)
    parts = transcode(source, format, 5, attempt=2, part_seconds=0.01)
    assert frames(parts) == frames(whole)
    assert len(frames(whole)) > 200
    if "sine" in SMALL[name]:
        assert pcm(parts) == pcm(whole)
    parts.decode()
