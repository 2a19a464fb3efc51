"""Sources through the real planner and FFmpeg, checked by decoding what came out."""

from __future__ import annotations

import http.server
import struct
import subprocess
import threading
from functools import partial
from itertools import pairwise
from pathlib import Path

import m3u8
import pytest

from tests.conftest import some
from tests.media.conftest import SHARED_MEDIA, TOOLS, ffmpeg, ffprobe
from transcoding.errors import Failure, TaskFailedError
from transcoding.media.inspection.probe import probe

PICTURE = "-f lavfi -i testsrc2=s={size}:r={rate}:d={seconds}"
SOUND = "-f lavfi -i sine=f=440:r=48000:d={seconds}"
H264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"
FORMATS = pytest.mark.parametrize("format", some(["m3u8", "mp4"], "m3u8"))


def source(
    clips, name, size="640x360", rate=25, seconds=7, options=H264 + " -g 50 -c:a aac -ac 2", sound=True
):
    inputs = PICTURE.format(size=size, rate=rate, seconds=seconds)
    if sound:
        inputs += " " + SOUND.format(seconds=seconds)
    return clips(name, f"{inputs} {options} {{0}}")


def boxes(path: Path) -> list[str]:
    """The top-level boxes of an MP4 file, in order."""
    data, at, names = path.read_bytes(), 0, []
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        names.append(name.decode())
        at += size
    return names


@FORMATS
@pytest.mark.parametrize(
    ("quality", "size"),
    [(1, (640, 360)), (2, (854, 480)), (3, (1280, 720)), (4, (1920, 1080)), (5, (1920, 1080))],
)
def test_each_quality_gives_its_size_and_loses_no_frame(clips, transcode, format, quality, size):
    clip = source(
        clips, "full-hd.mp4", size="1920x1080", seconds=2, options=H264 + " -b:v 30M -c:a aac -ac 2"
    )
    result = transcode(clip, format, quality)
    streams = result.streams()
    video, audio = streams["video"], streams["audio"]
    assert (video["width"], video["height"]) == size
    assert (video["codec_name"], video["profile"], video["pix_fmt"]) == ("h264", "High", "yuv420p")
    assert (audio["codec_name"], audio["profile"], audio["channels"]) == ("aac", "LC", 2)
    assert int(video["nb_read_frames"]) == 50
    result.decode()


@FORMATS
@pytest.mark.parametrize("name", ["big-buck-bunny-480p-30s.mp4", "pancake.mkv", "rotated-90.mov"])
@pytest.mark.skipif(not SHARED_MEDIA.is_dir(), reason="the shared footage is not here")
def test_real_footage(transcode, format, name):
    original = ffprobe(SHARED_MEDIA / name, "-count_frames")
    (video,) = (s for s in original["streams"] if s["codec_type"] == "video")
    result = transcode(SHARED_MEDIA / name, format, 1)
    made = result.streams()["video"]
    assert made["nb_read_frames"] == video["nb_read_frames"]
    assert min(made["width"], made["height"]) <= 360
    result.decode()


def test_segments_start_with_keyframes_every_six_seconds(clips, transcode):
    clip = source(clips, "fast.mp4", size="1280x720", rate="30000/1001", seconds=14, options=H264 + " -g 999")
    result = transcode(clip, "m3u8", 1)
    for stream in ("video", "audio"):
        playlist = m3u8.load(str(result.folder / stream / "index.m3u8"))
        assert playlist.is_endlist
        assert playlist.playlist_type == "vod"
        durations = [s.duration for s in playlist.segments]
        assert durations[:2] == pytest.approx([6.0, 6.0], abs=0.04)
        assert sum(durations) == pytest.approx(14.0, abs=0.07)
        assert playlist.target_duration == 6
    report = ffprobe(result.folder / "video/index.m3u8", "-show_packets")
    times = [float(p["pts_time"]) for p in report["packets"] if "K" in p["flags"]]
    assert max(b - a for a, b in pairwise(times)) <= 2.05
    starts = [
        sum(s.duration for s in m3u8.load(str(result.folder / "video/index.m3u8")).segments[:n])
        for n in (1, 2)
    ]
    assert all(min(abs(t - start) for t in times) < 0.001 for start in starts)


def test_the_master_playlist_declares_what_is_there(clips, transcode):
    clip = source(clips, "declared.mp4", size="1280x720", rate=50, seconds=8)
    result = transcode(clip, "m3u8", 3)
    (variant,) = m3u8.load(str(result.entry)).playlists
    info = variant.stream_info
    assert info.resolution == (1280, 720)
    assert info.frame_rate == 50.0
    rates = {}
    for stream in ("video", "audio"):
        segments = m3u8.load(str(result.folder / stream / "index.m3u8")).segments
        sizes = [(result.folder / stream / s.uri).stat().st_size * 8 for s in segments]
        rates[stream] = (sizes[0] / segments[0].duration, sum(sizes) / sum(s.duration for s in segments))
    assert info.bandwidth >= sum(peak for peak, _ in rates.values())
    assert info.average_bandwidth == pytest.approx(sum(mean for _, mean in rates.values()), rel=0.001)
    told = [s["mime_codec_string"] for s in ffprobe(result.entry)["streams"]]
    assert sorted(info.codecs.split(",")) == sorted(told)


def test_objects_have_their_media_types(clips, transcode):
    result = transcode(source(clips, "types.mp4"), "m3u8", 1)
    types = {name.rpartition(".")[2]: o["ContentType"] for name, o in result.objects.items()}
    assert types["m3u8"] == "application/vnd.apple.mpegurl"
    assert types["m4s"] in {"video/mp4", "audio/mp4"}
    assert all("immutable" in o["CacheControl"] for o in result.objects.values())


def test_mp4_has_its_index_before_its_media(clips, transcode):
    order = boxes(transcode(source(clips, "types.mp4"), "mp4", 1).entry)
    assert order.index("moov") < order.index("mdat")


@FORMATS
def test_streams_that_fit_are_copied_bit_by_bit(clips, transcode, format, tmp_path):
    clip = source(clips, "fits.mp4", options=f"{H264} -b:v 600k -g 50 -c:a aac -ac 2 -b:a 80k")
    result = transcode(clip, format, 5)
    hashes = []
    for path in (clip, result.entry):
        out = tmp_path / "streamhash"
        ffmpeg("-i {0} -map 0:v -map 0:a -c copy -bsf:v h264_mp4toannexb -f streamhash {1}", path, out)
        hashes.append(out.read_text())
    assert hashes[0] == hashes[1]
    result.decode()


@pytest.mark.parametrize(
    ("quality", "part_seconds", "picture"),
    [(5, None, "copy"), (1, None, "encode: it is 640x480"), (1, 0.1, "encode: it is 640x480")],
)
def test_the_log_tells_what_is_copied_and_why_not(clips, transcode, caplog, quality, part_seconds, picture):
    options = f"{H264} -b:v 600k -g 50 -c:a flac"
    clip = source(clips, "logged.mkv", size="640x480", seconds=14, options=options)
    transcode(clip, "m3u8", quality, part_seconds=part_seconds)
    (planned,) = (record for record in caplog.records if record.message == "planned")
    assert planned.streams == {"video": picture, "audio": "encode: it is flac"}


@FORMATS
def test_a_picture_without_sound(clips, transcode, format):
    result = transcode(source(clips, "silent.mp4", sound=False), format, 1)
    assert set(result.streams()) == {"video"}
    result.decode()


@FORMATS
def test_sound_without_a_picture(clips, transcode, format):
    clip = clips("sound.mp3", "-f lavfi -i sine=f=440:r=44100:d=8 -ac 1 -c:a libmp3lame {0}")
    result = transcode(clip, format, 4)
    (audio,) = result.streams().values()
    assert (audio["codec_name"], audio["channels"], audio["sample_rate"]) == ("aac", 1, "44100")
    result.decode()


@FORMATS
def test_rotation_comes_out_upright(clips, transcode, format):
    # Left half red, right half blue; turned by a quarter clockwise, red is on top.
    flat = clips(
        "flat.mp4",
        "-f lavfi -i color=red:s=320x360:d=2 -f lavfi -i color=blue:s=320x360:d=2 "
        f"-filter_complex hstack {H264} {{0}}",
    )
    turned = flat.with_name("turned.mp4")
    ffmpeg("-display_rotation -90 -i {0} -c copy {1}", flat, turned)
    result = transcode(turned, format, 5)
    video = result.streams()["video"]
    assert (video["width"], video["height"]) == (360, 640)
    assert "side_data_list" not in video
    red, blue = result.pixel(1, 180, 100), result.pixel(1, 180, 540)
    assert (red[0] > 200, red[2] < 60) == (True, True)
    assert (blue[2] > 200, blue[0] < 60) == (True, True)


@FORMATS
def test_pixels_come_out_square(clips, transcode, format):
    options = f"-vf setsar=64/45 {H264} -c:a aac"
    result = transcode(source(clips, "anamorphic.mp4", size="720x576", options=options, seconds=2), format, 5)
    video = result.streams()["video"]
    assert (video["width"], video["height"]) == (1024, 576)
    assert video.get("sample_aspect_ratio", "1:1") == "1:1"


def test_odd_sizes_become_even(clips, transcode):
    options = "-vf scale=427:241,setsar=1 -c:v libx264 -preset ultrafast -pix_fmt yuv444p -c:a aac"
    video = transcode(source(clips, "odd.mp4", options=options, seconds=2), "mp4", 5).streams()["video"]
    assert (video["width"], video["height"]) == (426, 240)


@FORMATS
@pytest.mark.parametrize("late", ["", "picture", "sound"])
def test_sound_and_picture_stay_together(clips, transcode, format, late, tmp_path):
    # A flash and a beep at every second: the first loud sample and the first bright frame must coincide.
    clip = clips(
        "beeps.mov",
        "-f lavfi -i color=black:s=320x180:r=25:d=9,"
        "drawbox=c=white:t=fill:enable='lt(mod(t\\,1)\\,0.2)*gte(t\\,1)' "
        "-f lavfi -i aevalsrc='sin(880*2*PI*t)*lt(mod(t\\,1)\\,0.2)*gte(t\\,1)':s=48000:d=9 "
        "-c:v libx264 -preset ultrafast -g 250 -bf 3 -pix_fmt yuv420p -c:a pcm_s16le {0}",
    )
    if late:
        cut = {"picture": f"-vf trim=start=0.52 {H264} -c:a copy", "sound": "-c:v copy -af atrim=start=0.52"}
        clip, whole = clip.with_name(f"late-{late}.mkv"), clip
        ffmpeg(f"-i {{0}} {cut[late]} {{1}}", whole, clip)
    result = transcode(clip, format, 1)
    grey, pcm = tmp_path / "grey", tmp_path / "pcm"
    ffmpeg(
        "-i {0} -map 0:v -vf fps=25:start_time=0,scale=2:2 -pix_fmt gray -f rawvideo {1}", result.entry, grey
    )
    ffmpeg(
        "-i {0} -map 0:a -af aresample=async=1:first_pts=0 -ac 1 -ar 48000 -f s16le {1}", result.entry, pcm
    )
    bright = [n for n, (a, b) in enumerate(pairwise(grey.read_bytes()[::4]), 1) if a < 100 < b]
    samples = [abs(s) for (s,) in struct.iter_unpack("<h", pcm.read_bytes())]
    loud = [max(samples[n : n + 480]) > 3000 for n in range(0, len(samples), 480)]
    onsets = [n / 100 for n, (a, b) in enumerate(pairwise(loud), 1) if b and not a]
    assert len(bright) == len(onsets) == 8
    assert all(abs(frame / 25 - onset) <= 0.04 for frame, onset in zip(bright, onsets, strict=True))
    if format == "m3u8":
        segments = m3u8.load(str(result.folder / "video/index.m3u8")).segments
        assert [s.duration for s in segments] == pytest.approx([6.0, 3.0], abs=0.05)
        # Both playlists begin at 0 by themselves, the sound with its encoder's delay before that.
        streams = result.streams()
        assert float(streams["video"]["start_time"]) == pytest.approx(0.0, abs=0.001)
        assert float(streams["audio"]["start_time"]) == pytest.approx(-1024 / 48_000, abs=0.001)


def test_variable_frame_rate_keeps_every_frame_and_its_time(clips, transcode):
    clip = clips(
        "variable.mkv",
        "-f lavfi -i testsrc2=s=640x360:r=30:d=4 -vf select='lt(mod(n\\,10)\\,4)' -fps_mode passthrough "
        "-c:v libx264 -preset ultrafast -pix_fmt yuv444p {0}",
    )
    result = transcode(clip, "mp4", 5)

    def times(path):
        packets = ffprobe(path, "-show_packets", "-select_streams", "v")["packets"]
        shown = sorted(float(p["pts_time"]) for p in packets)
        return [t - shown[0] for t in shown]

    assert times(result.entry) == pytest.approx(times(clip), abs=0.002)


def test_metadata_of_a_phone_is_not_passed_on(clips, transcode):
    told = "-metadata location=+48.8584+002.2945/ -metadata make=Phone -movflags use_metadata_tags"
    options = f"{H264} -c:a aac {told}"
    result = transcode(source(clips, "phone.mp4", options=options, seconds=1), "mp4", 5)
    assert b"48.8584" not in result.entry.read_bytes()
    assert not {"location", "make"} & set(ffprobe(result.entry)["format"].get("tags", {}))


def test_progress_never_falls_and_keeps_one_for_the_end(clips, transcode):
    clip = source(clips, "long.mp4", size="1280x720", seconds=20)
    seen = []
    transcode(clip, "m3u8", 1, report=seen.append)
    assert seen == sorted(seen)
    assert len(set(seen)) > 3
    assert seen[-1] < 1


def test_a_lost_lease_ends_ffmpeg(clips, transcode, tmp_path):
    class LostError(Exception):
        pass

    def lose(progress: float) -> None:
        if progress > 0.1:
            raise LostError

    clip = source(clips, "long.mp4", size="1280x720", seconds=20)
    with pytest.raises(LostError):
        transcode(clip, "m3u8", 4, attempt=2, report=lose)
    assert subprocess.run(["pgrep", "-f", str(tmp_path)], check=False).returncode == 1


def damaged(clips, tmp_path, name, change):
    clip = source(clips, "whole.mp4", options=H264 + " -g 25 -movflags +faststart -c:a aac -ac 2")
    path = tmp_path / name
    path.write_bytes(change(clip.read_bytes()))
    return path


@pytest.mark.parametrize(
    ("name", "change", "code"),
    [
        ("empty.mp4", lambda data: b"", Failure.SOURCE_EMPTY),
        ("text.mp4", lambda data: b"hello world\n" * 1000, Failure.NOT_MEDIA),
        ("noise.mp4", lambda data: bytes(range(256)) * 2000, Failure.NOT_MEDIA),
        ("playlist.mp4", lambda data: b"#EXTM3U\n#EXTINF:6,\nfile:///etc/passwd\n", Failure.NOT_MEDIA),
        ("concat.mp4", lambda data: b"ffconcat version 1.0\nfile /etc/passwd\n", Failure.NOT_MEDIA),
        ("truncated.mp4", lambda data: data[: len(data) // 2], Failure.DAMAGED),
        ("headless.mp4", lambda data: data[len(data) // 2 :], Failure.NOT_MEDIA),
    ],
)
@FORMATS
def test_what_cannot_be_transcoded_is_told_apart(clips, transcode, tmp_path, name, change, code, format):
    with pytest.raises(TaskFailedError) as failure:
        transcode(damaged(clips, tmp_path, name, change), format, 1)
    assert failure.value.code is code
    assert failure.value.info.endswith((".", "?", ")."))


def test_an_encrypted_source_is_refused(clips, transcode):
    plain = source(clips, "types.mp4")
    locked = plain.with_name("locked.mp4")
    key = "76a6c65c5ea762046bd749a2e632ccbb"
    ffmpeg(
        f"-i {{0}} -c copy -encryption_scheme cenc-aes-ctr -encryption_key {key} -encryption_kid {key} {{1}}",
        plain,
        locked,
    )
    with pytest.raises(TaskFailedError) as failure:
        transcode(locked, "mp4", 1)
    assert failure.value.code is Failure.ENCRYPTED


def test_a_source_that_is_not_there(clips, transcode):
    with pytest.raises(TaskFailedError) as failure:
        transcode(source(clips, "types.mp4").with_name("missing.mp4"), "mp4", 1, present=False)
    assert failure.value.code is Failure.SOURCE_NOT_FOUND


@pytest.fixture
def web(tmp_path):
    """A web server of this folder's files."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@FORMATS
def test_a_source_on_the_web_is_copied_in_and_transcoded(clips, transcode, web, s3, tmp_path, format):
    clip = source(clips, "long.mp4", size="1280x720", seconds=20)
    (tmp_path / "a film.mp4").symlink_to(clip)
    seen = []
    result = transcode(clip, format, 1, present=False, url=f"{web}/a%20film.mp4", report=seen.append)
    assert int(result.streams()["video"]["nb_read_frames"]) == 500
    assert seen == sorted(seen)
    copies = s3.list_objects_v2(Bucket="output", Prefix="work/")["Contents"]
    assert clip.stat().st_size in {item["Size"] for item in copies}


def test_the_storage_is_read_over_tls_only_from_whom_is_trusted(clips, server_tls, tmp_path, monkeypatch):
    context, trusted = server_tls
    clip = source(clips, "types.mp4")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(clip.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"https://localhost:{server.server_port}/{clip.name}"
        with pytest.raises(OSError, match="certificate is not"):
            probe(TOOLS, url, 1)
        monkeypatch.setattr("transcoding.media.ffmpeg.tools.CA_FILE", trusted)
        assert probe(TOOLS, url, 1).duration == pytest.approx(7.0, abs=0.1)
        server.shutdown()


def test_a_source_that_is_missing_on_the_web(clips, transcode, web):
    with pytest.raises(TaskFailedError) as failure:
        transcode(source(clips, "types.mp4"), present=False, url=f"{web}/nothing.mp4")
    assert failure.value.code is Failure.SOURCE_NOT_FOUND


def test_cover_art_is_not_a_picture(clips, transcode):
    cover = clips("cover.jpg", "-f lavfi -i testsrc2=s=64x64:d=1 -frames:v 1 -pix_fmt yuvj420p {0}")
    song = clips("song.mp3", "-f lavfi -i sine=f=440:d=3 -c:a libmp3lame {0}")
    album = song.with_name("album.mp3")
    ffmpeg("-i {0} -i {1} -map 0 -map 1 -c copy -disposition:v attached_pic {2}", song, cover, album)
    assert set(transcode(album, "mp4", 5).streams()) == {"audio"}


@pytest.mark.skipif(not SHARED_MEDIA.is_dir(), reason="the shared footage is not here")
def test_damage_that_ffmpeg_gets_past_is_encoded_not_copied(transcode):
    clip = SHARED_MEDIA / "corrupted.mp4"
    with pytest.raises(OSError, match="could not be copied"):
        transcode(clip, "mp4", 5)
    result = transcode(clip, "mp4", 5, attempt=2)
    assert int(result.streams()["video"]["nb_read_frames"]) >= 48
    result.decode()


@pytest.mark.parametrize(
    ("seconds", "part_seconds"), [(6, None), (6.04, None), (12.04, None), (12.04, 0.02), (18, 0.02)]
)
def test_no_segment_is_a_scrap_that_players_stumble_over(clips, transcode, seconds, part_seconds):
    clip = clips(
        "clip.mp4",
        f"-f lavfi -i testsrc2=s=160x90:r=25:d={seconds} -f lavfi -i sine=r=48000:d={seconds} "
        "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -c:a aac {0}",
    )
    result = transcode(clip, "m3u8", 5, attempt=2, part_seconds=part_seconds)
    for name in ("video", "audio"):
        lengths = [s.duration for s in m3u8.load(str(result.folder / name / "index.m3u8")).segments]
        assert min(lengths) >= 0.3
        assert max(lengths) < 7
