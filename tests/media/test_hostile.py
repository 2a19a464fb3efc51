"""What is damaged or made to harm ends soon, with words for it."""

from __future__ import annotations

import http.server
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import some
from tests.media.conftest import ffmpeg
from transcoding.errors import Failure, TaskFailedError

H264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"
BOTH = "-f lavfi -i testsrc2=s=320x180:r=25:d=4 -f lavfi -i sine=d=4"


@pytest.mark.parametrize("name", ["flipped.ts", "flipped.mkv", "flipped.avi", "flipped.mp4"])
@pytest.mark.parametrize("format", ["mp4", "m3u8"])
def test_damage_that_ffmpeg_gets_past(clips, transcode, tmp_path, name, format):
    codec = "-c:v mpeg4 -c:a libmp3lame" if name.endswith("avi") else f"{H264} -g 12 -c:a aac"
    data = bytearray(clips(name, f"{BOTH} {codec} {{0}}").read_bytes())
    for at in range(len(data) // 3, len(data) // 3 * 2, len(data) // 10):
        data[at : at + 8] = bytes(255 - b for b in data[at : at + 8])
    clip = tmp_path / name
    clip.write_bytes(data)
    # A first attempt may copy the damage, as it was sent. Encoded, nothing of it is left.
    result = transcode(clip, format, 5, attempt=2)
    assert int(result.streams()["video"]["nb_read_frames"]) >= 85
    result.decode()


def wav(rate, channels):
    block = channels * 2
    head = struct.pack("<HHIIHH", 1, channels, rate, rate * block & 0xFFFFFFFF, block & 0xFFFF, 16)
    body = bytes(20_000)
    return b"RIFF" + struct.pack("<I", 36 + len(body)) + b"WAVEfmt " + struct.pack("<I", 16) + head + (
        b"data" + struct.pack("<I", len(body)) + body
    )  # fmt: skip


def flac(samples):
    info = struct.pack(">HH6xQ16x", 4096, 4096, 44_100 << 44 | 1 << 41 | 15 << 36 | samples)
    return b"fLaC" + struct.pack(">I", 0x80 << 24 | len(info)) + info + bytes(1000)


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("huge.y4m", b"YUV4MPEG2 W16000 H16000 F25:1\nFRAME\n" + bytes(100), Failure.DIMENSIONS_UNSUPPORTED),
        ("wide.y4m", b"YUV4MPEG2 W60000 H2 F25:1\nFRAME\n" + bytes(100), Failure.DIMENSIONS_UNSUPPORTED),
        ("short.y4m", b"YUV4MPEG2 W7680 H4320 F25:1\nFRAME\n" + bytes(100), None),
        ("endless.flac", flac(2**36 - 1), Failure.TOO_LONG),
        ("channels.wav", wav(48_000, 65_535), None),
        ("no-channels.wav", wav(48_000, 0), None),
        ("no-rate.wav", wav(0, 2), None),
        ("negative.wav", wav(0xFFFFFFFF, 2), None),
        ("slow.wav", wav(1, 2), Failure.DAMAGED),
        ("below.wav", wav(999, 2), Failure.DAMAGED),
        ("above.wav", wav(768_001, 2), Failure.DAMAGED),
        ("head.mkv", bytes.fromhex("1a45dfa3a34286810142f7810142f2810442f381084282886d6174726f736b61"), None),
        # FFmpeg calls the end of this one an I/O error, as it does those that pass.
        (
            "cut.mkv",
            bytes.fromhex(
                "1a45dfa3a34286810142f7810142f2810442f381084282886d6174726f736b61428781044285"
                "81021853806701000000000000a3114d9b74c0bf8492e604564dbb8b53ab841549a96653ac81a14dbb8b5ff045"
            ),
            Failure.DAMAGED,
        ),
        # So it calls a length that reaches beyond the end.
        (
            "beyond.mkv",
            bytes.fromhex(
                "1a45dfa3a34286810142f7810142f2810442f381084282886d6174726f736b6142878104428581021853"
                "806701000000000060e0114d9b74c0bf84a035f4db4dbb8b53ab841549a96653ac81a14dbb8b53ab8416"
                "54ae6b53ac81ef4dbb8c53ab841254c36753ac8201fb4dbb8c53ab841c53bb6b53ac82609eec01000000"
                "0000005300000000000000000000000000000000000000000000000000000000000000000000"
            ),
            Failure.DAMAGED,
        ),
        ("stco.mp4", struct.pack(">I4s4s4sI4s4s", 24, b"ftyp", b"isom", b"isom", 0, b"isom", b"mp41"), None),
    ],
)
@pytest.mark.parametrize("format", ["mp4", "m3u8"])
def test_what_lies_ends_as_a_failure(transcode, tmp_path, name, data, code, format):
    clip = tmp_path / name
    clip.write_bytes(data)
    with pytest.raises(TaskFailedError) as failure:
        transcode(clip, format, 5)
    assert failure.value.code is code or code is None
    assert 2001 <= failure.value.code <= 2009


@pytest.mark.parametrize("format", ["mp3", "wav", "ts", "m3u8"])
def test_sound_of_which_nothing_can_be_decoded_is_damaged(clips, transcode, format):
    clip = clips("sound.m4a", "-f lavfi -i sine=d=0.5 -c:a aac -movflags +faststart {0}")
    data = clip.read_bytes()
    broken = clip.with_name("broken.m4a")
    broken.write_bytes(data[: data.index(b"mdat") + 4])
    with pytest.raises(TaskFailedError) as failure:
        transcode(broken, format, 5, attempt=2)
    assert failure.value.code is Failure.DAMAGED


def test_a_thousand_hours_are_refused(clips, transcode):
    clip = clips(
        "long.mkv", "-f lavfi -i color=s=64x64:r=1/1000:d=3600000 -c:v libx264 -preset ultrafast {0}"
    )
    with pytest.raises(TaskFailedError) as failure:
        transcode(clip, "mp4", 5)
    assert failure.value.code is Failure.TOO_LONG


def test_more_streams_than_there_can_be_are_refused(clips, transcode):
    clip = clips("one.mp4", f"-f lavfi -i testsrc2=s=64x64:d=0.2 {H264} {{0}}")
    data = clip.read_bytes()
    moov, trak = data.index(b"moov") - 4, data.index(b"trak") - 4
    (size,) = struct.unpack(">I", data[trak : trak + 4])
    more = data[trak : trak + size] * 1001
    (whole,) = struct.unpack(">I", data[moov : moov + 4])
    grown = data[:moov] + struct.pack(">I", whole + len(more)) + data[moov + 4 : trak] + more + data[trak:]
    clip.with_name("many.mp4").write_bytes(grown)
    with pytest.raises(TaskFailedError) as failure:
        transcode(clip.with_name("many.mp4"), "mp4", 5)
    assert failure.value.code is Failure.DAMAGED


def test_a_picture_that_grows_in_mid_stream_stays_as_it_was(clips, transcode, tmp_path):
    small = clips("small.ts", f"-f lavfi -i testsrc2=s=320x180:d=1 {H264} {{0}}")
    large = clips("large.ts", f"-f lavfi -i color=s=16000x8000:d=0.08 {H264} -threads 1 {{0}}")
    clip = tmp_path / "grows.ts"
    clip.write_bytes(small.read_bytes() + large.read_bytes())
    result = transcode(clip, "mp4", 5, attempt=2)
    assert int(result.streams()["video"]["nb_read_frames"]) >= 25
    result.decode()


def locked(plain):
    """Return an encrypted copy of a clip, in fragments."""
    clip = plain.with_name("locked.mp4")
    key = "76a6c65c5ea762046bd749a2e632ccbb"
    ffmpeg(
        f"-i {{0}} -c copy -encryption_scheme cenc-aes-ctr -encryption_key {key} -encryption_kid {key} "
        "-movflags frag_keyframe+empty_moov {1}",
        plain, clip,
    )  # fmt: skip
    return clip


def test_the_encrypted_without_a_key_are_told(clips, transcode):
    clip = locked(clips("plain.mkv", f"{BOTH} {H264} -c:a aac {{0}}"))
    with pytest.raises(TaskFailedError) as failure:
        transcode(clip, "mp4", 5)
    assert failure.value.code is Failure.ENCRYPTED


def test_the_encrypted_are_told_also_where_it_cannot_be_read_how(clips, transcode, tmp_path):
    data = bytearray(locked(clips("plain.mkv", f"{BOTH} {H264} -c:a aac {{0}}")).read_bytes())
    # The first sample's number of pieces is behind its initialization vector of 8 bytes.
    pieces = data.index(b"senc") + 4 + 4 + 4 + 8
    data[pieces : pieces + 2] = b"\xff\xff"
    clip = tmp_path / "unclear.mp4"
    clip.write_bytes(data)
    with pytest.raises(TaskFailedError) as failure:
        transcode(clip, "mp4", 5)
    assert failure.value.code is Failure.ENCRYPTED


def test_the_encrypted_are_told_in_matroska(clips, transcode, tmp_path):
    def element(name, content):
        return bytes.fromhex(name) + bytes([0x80 | len(content)]) + content

    algorithm, key = element("47e1", b"\x05"), element("47e2", b"key")
    encryption = element("5035", algorithm + key)
    encodings = element("6d80", element("6240", element("5033", b"\x01") + encryption))
    # In place of the track's name, which is as long.
    name = "x" * (len(encodings) - 3)
    data = clips("named.webm", f"{BOTH} -an -c:v libvpx -metadata:s:v title={name} {{0}}").read_bytes()
    assert element("536e", name.encode()) in data
    clip = tmp_path / "locked.webm"
    clip.write_bytes(data.replace(element("536e", name.encode()), encodings))
    with pytest.raises(TaskFailedError) as failure:
        transcode(clip, "mp4", 5)
    assert failure.value.code is Failure.ENCRYPTED


#: Files that name others: `{url}` is one on this machine's network, `{path}` one on its disk.
REFERENCES = {
    "playlist.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{url}\n#EXTINF:9,\n{path}\n",
    "key.m3u8": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{url}"\n#EXTINF:9,\n{path}\n',
    "script.ffconcat": "ffconcat version 1.0\nfile '{url}'\nfile '{path}'\n",
    "plain.concat": "file '{path}'\nfile '{url}'\n",
    "picture.svg": (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:x="http://www.w3.org/1999/xlink" width="9">'
        '<image x:href="{url}" width="9"/><image x:href="file://{path}" width="9"/></svg>'
    ),
    "session.sdp": (
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        "m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    ),
    "stream.rtsp": "rtsp://127.0.0.1:{port}/\n",
    "manifest.mpd": (
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT9S">'
        "<BaseURL>{url}</BaseURL><Period><AdaptationSet mimeType='video/mp4'>"
        "<Representation id='1' bandwidth='1'><BaseURL>{path}</BaseURL></Representation>"
        "</AdaptationSet></Period></MPD>"
    ),
    "list.xml": (
        '<CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016">'
        "<Id>urn:uuid:1</Id><PackingList>{url}</PackingList></CompositionPlaylist>"
    ),
    "reference.mov": (
        "<?quicktime type='application/x-quicktime-media-link'?><embed src='{url}' qtsrc='{path}'/>"
    ),
    "text.srt": "1\n00:00:00,000 --> 00:00:09,000\n<img src='{url}'>{path}\n",
    "text.ass": (
        "[Script Info]\nScriptType: v4.00+\n[Fonts]\nfontname: {path}\n[Events]\n"
        "Dialogue: 0,0:00:00.00,0:00:09.00,,,,,,,{url}\n"
    ),
    "video.avs": 'FFmpegSource2("{url}")\n',
    "video.vpy": "open('{path}')\n",
    "meta.txt": ";FFMETADATA1\ntitle={url}\n",
    "graph.txt": "movie={url}[out0]\n",
}


@pytest.mark.parametrize(
    "name", some(REFERENCES, "playlist.m3u8", "script.ffconcat", "picture.svg", "session.sdp")
)
@pytest.mark.parametrize("format", some(["mp4", "m3u8"], "mp4"))
def test_a_source_that_names_others_opens_none(
    transcode: Any, tmp_path: Path, name: str, format: str
) -> None:
    canary = tmp_path / "canary.mp4"
    ffmpeg(f"{BOTH} {H264} -c:a aac {{0}}", canary)
    asked: list[str] = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        port = server.server_address[1]
        content = REFERENCES[name].format(url=f"http://127.0.0.1:{port}/a.mp4", path=canary, port=port)
        source = tmp_path / name
        source.write_text(content)
        # It was read when it was stored; nothing is to read it after that.
        before = canary.stat().st_atime_ns
        with pytest.raises(TaskFailedError) as failure:
            transcode(source, format, 5)
        server.shutdown()
    assert failure.value.code in {
        *(Failure.NOT_MEDIA, Failure.DAMAGED, Failure.CODEC_UNSUPPORTED, Failure.FORMAT_NEEDS_PICTURE),
    }, failure.value
    assert not asked
    assert canary.stat().st_atime_ns == before


@pytest.mark.parametrize("bucket", ["others", "source-2", "foo--x-s3", "foo--use1-az4--x-s3", "a..b"])
def test_a_bucket_that_is_not_in_the_list_is_not_read(
    clips: Any, transcode: Any, s3: Any, bucket: str
) -> None:
    clip = clips("clip.mp4", f"{BOTH} {H264} -c:a aac {{0}}")
    if bucket == "others":
        s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key=clip.name, Body=clip.read_bytes())
    with pytest.raises(TaskFailedError) as failure:
        transcode(clip, url=f"s3://{bucket}/{clip.name}", buckets=("source", "films-*"))
    assert failure.value.code is Failure.SOURCE_FORBIDDEN
    assert "ExtraSourceArns" in failure.value.info


@pytest.mark.parametrize("key", ["outputs/17lok52y/1/video.mp4", "work/17lok52y/1/source"])
def test_what_tasks_have_stored_is_no_source(clips, transcode, s3, key):
    clip = clips("clip.mp4", f"{BOTH} {H264} -c:a aac {{0}}")
    s3.put_object(Bucket="output", Key=key, Body=clip.read_bytes())
    with pytest.raises(TaskFailedError) as failure:
        transcode(clip, url=f"s3://output/{key}")
    assert failure.value.code is Failure.SOURCE_FORBIDDEN
    assert "source bucket" in failure.value.info
