"""Every format: its container, its codecs, and that it decodes clean."""

from __future__ import annotations

import pytest

from tests.conftest import some
from tests.media.conftest import ffprobe
from tests.media.test_transcode import H264, source
from transcoding.errors import Failure, TaskFailedError
from transcoding.media.planning import codecs
from transcoding.media.planning.formats import FORMATS

FILES = [f for f in FORMATS.values() if not f.segmented]
#: What ffprobe calls the containers.
MP4_FAMILY = "mov,mp4,m4a,3gp,3g2,mj2"
CONTAINERS = {
    "m3u8": "hls",
    "mpd": "hls",
    "mp4": MP4_FAMILY,
    "mov": MP4_FAMILY,
    "m4a": MP4_FAMILY,
    "mkv": "matroska,webm",
    "webm": "matroska,webm",
    "ts": "mpegts",
    "flv": "flv",
    "mp3": "mp3",
    "ogg": "ogg",
    "gif": "gif",
    "wav": "wav",
}
#: Seconds. FLV counts the encoders' delay, and TS leaves out the last packet.
SLACK = 0.1
EVERY_FILE = pytest.mark.parametrize("target", FILES, ids=lambda f: f.name)


@EVERY_FILE
@pytest.mark.parametrize("quality", some([1, 5], 1))
def test_a_format_has_its_container_and_codecs(clips, transcode, target, quality):
    clip = source(clips, "formats.mp4", size="1280x720", seconds=4)
    result = transcode(clip, target.name, quality)
    report = ffprobe(result.entry)
    assert report["format"]["format_name"] == CONTAINERS[target.name]
    assert float(report["format"]["duration"]) == pytest.approx(4.0, abs=SLACK)
    (stored,) = result.objects.values()
    assert stored["ContentType"] == target.content_type
    streams = result.streams()
    held = {"video": next(iter(target.pictures), None), "audio": target.sound}
    assert {kind: s["codec_name"] for kind, s in streams.items()} == {k: c.name for k, c in held.items() if c}
    if target.pictures:
        assert int(streams["video"]["nb_read_frames"]) == (50 if target.name == "gif" else 100)
        assert streams["video"]["height"] == (360 if quality == 1 else target.short_side or 720)
    result.decode()


@pytest.mark.parametrize(
    "target", [f for f in FILES if f.pictures[:1] == (codecs.H264,)], ids=lambda f: f.name
)
def test_a_picture_that_fits_is_copied_into_every_container(clips, transcode, target):
    clip = source(clips, "fits.mkv", options=f"{H264} -b:v 600k -maxrate 600k -bufsize 600k -g 50 -c:a flac")
    result = transcode(clip, target.name, 5)
    made, stored = (
        [p["size"] for p in ffprobe(path, "-show_packets", "-select_streams", "v")["packets"]]
        for path in (result.entry, clip)
    )
    assert len(made) == len(stored)
    # Each container frames the same pictures with a few bytes of its own.
    assert all(abs(int(a) - int(b)) < 100 for a, b in zip(made, stored, strict=True))
    result.decode()


@EVERY_FILE
def test_a_source_without_sound(clips, transcode, target):
    clip = source(clips, "mute.mp4", sound=False, seconds=1)
    if target.needs_sound:
        with pytest.raises(TaskFailedError) as failure:
            transcode(clip, target.name, 1)
        assert failure.value.code is Failure.FORMAT_NEEDS_SOUND
    else:
        assert set(transcode(clip, target.name, 1).streams()) == {"video"}


@EVERY_FILE
def test_a_source_without_a_picture(clips, transcode, target):
    clip = clips("song.flac", "-f lavfi -i sine=f=440:r=44100:d=3 -ac 2 -c:a flac {0}")
    if target.needs_picture:
        with pytest.raises(TaskFailedError) as failure:
            transcode(clip, target.name, 1)
        assert failure.value.code is Failure.FORMAT_NEEDS_PICTURE
    else:
        result = transcode(clip, target.name, 5)
        (audio,) = result.streams().values()
        assert float(ffprobe(result.entry)["format"]["duration"]) == pytest.approx(3.0, abs=SLACK)
        assert audio["channels"] == 2
        result.decode()


def test_a_gif_has_the_colours_of_each_scene_and_plays_for_ever(clips, transcode):
    clip = clips(
        "scenes.mp4",
        "-f lavfi -i color=0xE04020:s=320x180:r=25:d=1 -f lavfi -i color=0x2040E0:s=320x180:r=25:d=1 "
        f"-filter_complex concat=n=2 {H264} {{0}}",
    )
    result = transcode(clip, "gif", 5)
    for at, expected in ((0.2, (0xE0, 0x40, 0x20)), (1.5, (0x20, 0x40, 0xE0))):
        shown = result.pixel(at, 100, 100)
        assert all(abs(a - b) <= 8 for a, b in zip(shown, expected, strict=True)), shown
    # Netscape's extension, with as many loops as there are: 0, for ever.
    assert b"NETSCAPE2.0\x03\x01\x00\x00" in result.entry.read_bytes()
    assert float(ffprobe(result.entry)["format"]["duration"]) == pytest.approx(2.0, abs=0.09)


def test_a_slow_picture_keeps_its_times_as_gif(clips, transcode):
    clip = clips("slow.mp4", f"-f lavfi -i testsrc2=s=320x180:r=5:d=2 {H264} {{0}}")
    assert int(transcode(clip, "gif", 1).streams()["video"]["nb_read_frames"]) == 10


def test_what_is_too_long_for_a_gif_is_told(clips, transcode):
    clip = clips("long.mp4", f"-f lavfi -i color=s=64x64:r=1:d=61 {H264} {{0}}")
    with pytest.raises(TaskFailedError) as failure:
        transcode(clip, "gif", 5)
    assert failure.value.code is Failure.TOO_LONG
    assert "mp4" in failure.value.info


@pytest.mark.parametrize("format", ["m3u8", "mp4", "ts"])
@pytest.mark.parametrize("name", ["plain.ts", "plain.aac"])
def test_the_sound_of_a_transport_stream_is_copied_at_once(clips, transcode, name, format):
    picture = "-f lavfi -i testsrc2=s=320x180:d=2 " if name.endswith("ts") else ""
    clip = clips(name, f"{picture}-f lavfi -i sine=d=2 {H264} -c:a aac -b:a 40k {{0}}")
    result = transcode(clip, format, 1)
    assert result.streams()["audio"]["profile"] == "LC"
    result.decode()
