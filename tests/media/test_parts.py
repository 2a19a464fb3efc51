"""A source that is encoded in parts gives what one pass over it gives, frame by frame."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.conftest import some
from tests.media.conftest import SHARED_MEDIA, Result, ffmpeg, ffprobe
from tests.media.test_join import boxes
from tests.media.test_subtitles import film
from transcoding.data.object_store import ObjectStore
from transcoding.errors import LeaseLostError, OutOfTimeError, TaskFailedError
from transcoding.media.encoding import command
from transcoding.media.ffmpeg.process import Encoder
from transcoding.media.ffmpeg.tools import Tools
from transcoding.media.inspection import entries
from transcoding.media.inspection.facts import EntryPoint
from transcoding.media.planning import cuts
from transcoding.media.planning.plan import Plan
from transcoding.pipeline.progress import ENCODED
from transcoding.pipeline.transcoder import Transcoder

PICTURE = command.picture
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
    "late.mkv": "testsrc2=s=320x180:r=25:d=20 -f lavfi -i sine=d=21 -vf setpts=PTS+1.5/TB "
    f"{X264} -g 50 -c:a flac",
    # Each frame is a keyframe, and to deinterlace one takes the one before it.
    "interlaced.mov": "testsrc2=s=320x288:r=50:d=20 -vf interlace,setfield=tff -c:v prores_ks -flags +ildct",
    # It has no keyframe but the first: after others, whole pictures come bit by bit.
    "refresh.ts": "testsrc2=s=320x180:r=25:d=20 -c:v libx264 -preset fast -pix_fmt yuv420p "
    "-x264-params intra-refresh=1:keyint=50",
    # It has no index, and FFmpeg takes its packets for one.
    "program.mpg": "testsrc2=s=320x180:r=25:d=20 -c:v mpeg2video -q:v 2 -g 25 -bf 2",
    # Two frames may be in one packet.
    "packed.avi": "testsrc2=s=320x180:r=25:d=20 -c:v libxvid -q:v 2 -g 50 -bf 2",
    "open-gop.ts": "testsrc2=s=320x180:r=25:d=20 -c:v libx265 -preset superfast -pix_fmt yuv420p "
    "-x265-params keyint=50:min-keyint=50:open-gop=1:bframes=8:b-adapt=0:log-level=1",
    "alternate.webm": "testsrc2=s=320x180:r=25:d=20 -c:v libvpx -b:v 2M -cpu-used 8 -g 50 "
    "-auto-alt-ref 1 -lag-in-frames 16",
    "vp9.mp4": "testsrc2=s=320x180:r=25:d=20 -c:v libvpx-vp9 -crf 20 -b:v 0 -deadline realtime "
    "-cpu-used 8 -g 50",
    "av1.mp4": "testsrc2=s=320x180:r=25:d=20 -c:v libsvtav1 -preset 12 -crf 20 -g 50",
}


@pytest.mark.parametrize("part_seconds", [None, 0.1])
@pytest.mark.parametrize(("size", "shown"), [("320x180", 0.6), ("360x640", 0.4)])
def test_each_frame_of_a_variable_rate_keeps_its_time(clips, transcode, size, shown, part_seconds):
    rate = f"testsrc2=s={size}:r=60:d=13 -vf select='gt(random(1)\\,{shown})' -fps_mode vfr {X264} -g 60"
    source = clips("variable.mp4", f"-f lavfi -i {rate} {{0}}")
    result = transcode(source, "m3u8", 5, attempt=2, part_seconds=part_seconds)
    entry = result.folder / "video/index.m3u8"
    times = [
        sorted(
            float(p["pts_time"]) for p in ffprobe(path, "-select_streams", "v", "-show_packets")["packets"]
        )
        for path in (source, entry)
    ]
    assert [round(t - times[1][0], 3) for t in times[1]] == [round(t - times[0][0], 3) for t in times[0]]


def frames(result: Result) -> list[str]:
    """The times and digests of all frames."""
    playlist = result.folder / "video/index.m3u8"
    entry = playlist if playlist.exists() else result.entry
    listing = result.folder / "frames.txt"
    ffmpeg("-copyts -i {0} -map 0:v -fps_mode passthrough -f framemd5 {1}", entry, listing)
    return [line for line in listing.read_text().splitlines() if not line.startswith("#")]


QUICK_SOURCES = {
    *("open-gop.mp4", "long-gop.mkv", "variable.mp4", "interlaced.ts", "late.mkv", "refresh.ts"),
}

#: Of these, no part can be decoded without all that is before it.
FROM_THE_BEGINNING = {"long-gop.mkv", "refresh.ts"}


@pytest.mark.parametrize("name", some(SOURCES, *QUICK_SOURCES))
def test_frames_and_times_are_those_of_one_pass(lossless, clips, transcode, monkeypatch, name):
    points = []

    def picture(tools: Tools, plan: Plan, span: cuts.Span, point: EntryPoint | None, *rest: Any) -> list[str]:
        points.append(point)
        return PICTURE(tools, plan, span, point, *rest)

    source = clips(name, f"-f lavfi -i {SOURCES[name]} {{0}}")
    whole = transcode(source, "m3u8", 5, attempt=2)
    monkeypatch.setattr(command, "picture", picture)
    parts = transcode(source, "m3u8", 5, attempt=2, part_seconds=0.1)
    assert frames(parts) == frames(whole)
    assert len(frames(whole)) > 200
    assert points.count(None) == (len(points) if name in FROM_THE_BEGINNING else 1)


#: Sources of 10 s; `sine` is heard a little longer.
SMALL = {
    "constant.mp4": f"testsrc2=s=160x90:r=25:d=10 -f lavfi -i sine=d=10.01 {X264} -g 50 -c:a aac -ac 2",
    "late.mkv": "testsrc2=s=160x90:r=24:d=10 -f lavfi -i sine=d=11 -vf setpts=PTS+1.45/TB "
    f"{X264} -g 48 -c:a flac",
    # The stream that begins it is left out.
    "other-first.mkv": "testsrc2=s=160x90:r=25:d=10 -f lavfi -i aevalsrc=0:d=11 -itsoffset 1.5 "
    f"-f lavfi -i sine=d=9 -map 0 -map 2 -map 1 -vf setpts=PTS+1/TB {X264} -g 50 -c:a flac",
    "variable.mkv": "testsrc2=s=160x90:r=60:d=10 -vf select='gt(random(1)\\,0.6)' -fps_mode vfr "
    f"{X264} -g 60",
    "open-gop.mp4": "testsrc2=s=160x90:r=30000/1001:d=10 -c:v libx264 -preset fast -pix_fmt yuv420p "
    "-x264-params open-gop=1:keyint=50:min-keyint=50:scenecut=0:bframes=8:b-adapt=0",
}
#: Each kind of muxer with sources that it may take in its own way.
FILES = [
    *((target, name) for target in ("mp4", "mkv") for name in SMALL),
    *((target, name) for target in ("mov", "ts", "flv", "webm") for name in ("constant.mp4", "late.mkv")),
]
#: What must come before the media.
INDEXES = {".mp4": "moov", ".mov": "moov", ".mkv": "Cues", ".webm": "Cues"}


def shown(result: Result) -> list[tuple[str, str]]:
    """When each frame is shown, in ticks, and its digest."""
    return [(fields[2], fields[5]) for fields in (line.split(",") for line in frames(result))]


def heard(result: Result) -> bytes:
    raw = result.folder / "sound.raw"
    ffmpeg("-i {0} -map 0:a -f s16le {1}", result.entry, raw)
    return raw.read_bytes()


def check_alike(apart: Result, whole: Result, *, sound: bool) -> None:
    assert shown(apart) == shown(whole)
    assert len(shown(whole)) > 150
    if sound:
        made, expected = heard(apart), heard(whole)
        # How much of the last packet is not to be heard, FFmpeg does not tell in every format.
        assert 0 <= len(expected) - len(made) < 1024 * 2 * 2
        assert made == expected[: len(made)]
    if index := INDEXES.get(apart.entry.suffix):
        found = boxes(apart.entry)
        assert found.index(index) < min(found.index(name) for name in ("mdat", "Cluster") if name in found)
    apart.decode()


@pytest.mark.parametrize(
    ("format", "name"),
    some(
        FILES,
        *(("mp4", "late.mkv"), ("mp4", "open-gop.mp4"), ("mkv", "variable.mkv")),
        *(("ts", "constant.mp4"), ("webm", "constant.mp4")),
    ),
)
def test_a_file_made_in_parts_is_that_of_one_pass(lossless, clips, transcode, format, name):
    source = clips(name, f"-f lavfi -i {SMALL[name]} {{0}}")
    whole = transcode(source, format, 5, attempt=2)
    apart = transcode(source, format, 5, attempt=2, part_seconds=0.01)
    check_alike(apart, whole, sound="sine" in SMALL[name])


SMALL_X264 = "-c:v libx264 -preset fast -b:v 100k -pix_fmt yuv420p"
#: Sources of 10 s that are copied into files.
COPIED = {
    "rare.mp4": f"testsrc2=s=160x90:r=25:d=10 -f lavfi -i sine=r=48000:d=10 {SMALL_X264} "
    "-bf 4 -x264-params b-pyramid=normal -g 9999 -c:a aac -b:a 80k -ac 2",
    "late.mkv": "testsrc2=s=160x90:r=25:d=10 -f lavfi -i sine=r=48000:d=11 "
    f"-vf setpts=PTS+1.45/TB {SMALL_X264} -c:a flac",
    "open-gop.mp4": f"testsrc2=s=160x90:r=30000/1001:d=10 {SMALL_X264} "
    "-x264-params open-gop=1:keyint=50:min-keyint=50:scenecut=0:bframes=8:b-adapt=0",
}


@pytest.mark.parametrize("format", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("name", COPIED)
def test_a_large_picture_is_copied_apart(monkeypatch, clips, transcode, format, name):
    source = clips(name, f"-f lavfi -i {COPIED[name]} {{0}}")
    whole = transcode(source, format, 5)
    monkeypatch.setattr(cuts, "LARGEST_COPY", 100_000)
    apart = transcode(source, format, 5, part_seconds=1)
    check_alike(apart, whole, sound="sine" in COPIED[name])


@pytest.mark.parametrize("format", ["mp4", "mov", "mkv"])
def test_text_languages_and_names_are_those_of_one_pass(clips, transcode, format):
    source = film(clips, 10)
    whole = transcode(source, format, 1, attempt=2)
    apart = transcode(source, format, 1, attempt=2, part_seconds=0.01)

    def told(result: Result) -> list[object]:
        streams = ffprobe(result.entry)["streams"]
        labels = [(s["codec_name"], *map(s["tags"].get, ("language", "title", "name"))) for s in streams]
        flags = [
            [s["disposition"][flag] for flag in ("default", "forced", "hearing_impaired")]
            for s in streams
            if s["codec_type"] == "subtitle"
        ]
        return [*labels, *flags]

    assert told(apart) == told(whole)
    for number in (0, 1):
        texts = []
        for result in (apart, whole):
            ffmpeg(f"-i {{0}} -map 0:s:{number} -f webvtt {{1}}", result.entry, result.folder / "text.vtt")
            texts.append((result.folder / "text.vtt").read_text())
        assert texts[0] == texts[1]
        assert "-->" in texts[0]
    apart.decode()


@pytest.mark.parametrize("format", ["mp4", "ts"])
def test_what_takes_the_task_away_while_parts_are_joined_leaves_nothing(s3, clips, transcode, format):
    source = clips("constant.mp4", f"-f lavfi -i {SMALL['constant.mp4']} {{0}}")

    def report(progress: float) -> None:
        if progress >= ENCODED:
            raise LeaseLostError

    before = stored(s3)
    with pytest.raises(LeaseLostError):
        transcode(source, format, 1, attempt=2, part_seconds=0.01, report=report)
    assert stored(s3) == before
    assert not s3.list_multipart_uploads(Bucket="output").get("Uploads")


def stored(s3) -> list[str]:
    found = s3.list_objects_v2(Bucket="output", Prefix="outputs/")
    return [item["Key"] for item in found.get("Contents", [])]


@pytest.mark.skipif(not SHARED_MEDIA.is_dir(), reason="the shared footage is not here")
def test_real_settings_give_the_size_and_quality_of_one_pass(transcode):
    source = SHARED_MEDIA / "big-buck-bunny-480p-30s.mp4"
    whole = transcode(source, "mp4", 1)
    apart = transcode(source, "mp4", 1, part_seconds=0.5)
    times = [[time for time, _ in shown(result)] for result in (apart, whole)]
    assert times[0] == times[1]
    assert heard(apart) == heard(whole)
    assert apart.entry.stat().st_size == pytest.approx(whole.entry.stat().st_size, rel=0.02)
    assert vmaf(apart, source) == pytest.approx(vmaf(whole, source), abs=0.5)


def vmaf(result: Result, source: Path) -> float:
    """How good the picture is, 0 to 100, beside the source."""
    log = result.folder / "vmaf.json"
    video = ffprobe(result.entry)["streams"][0]
    scaled = f"[1:v]scale={video['width']}:{video['height']}:flags=bicubic[source]"
    measured = f"[0:v][source]libvmaf=n_threads=2:n_subsample=10:log_fmt=json:log_path={log}"
    ffmpeg(f"-i {{0}} -i {{1}} -lavfi {scaled};{measured} -f null -", result.entry, source)
    return float(json.loads(log.read_text())["pooled_metrics"]["vmaf"]["mean"])


def test_a_part_may_be_without_a_frame(lossless, clips, transcode):
    shown = "not(between(t\\,5\\,15))"
    picture = (
        f"-f lavfi -i testsrc2=s=320x180:r=60:d=20 -vf select='{shown}' -fps_mode vfr {X264} -g 60 {{0}}"
    )
    whole, parts = (
        [frame.split(",")[1:3] + frame.split(",")[5:] for frame in frames(result)]
        for result in (
            transcode(clips("still.mkv", picture), "m3u8", 5, attempt=2),
            transcode(clips("still.mkv", picture), "m3u8", 5, attempt=2, part_seconds=0.1),
        )
    )
    assert parts == whole
    assert len(whole) > 500


class Impatient:
    """Ends a worker's time when it has stored a segment of its part."""

    def __init__(self, s3: Any) -> None:
        self._s3 = s3
        self._progress = 1.0
        self._before: set[str] = set()
        self.times = 0

    def __call__(self, progress: float) -> None:
        now = self._segments()
        if progress < self._progress:
            self._before = now
        self._progress = progress
        if now - self._before:
            self.times += 1
            raise OutOfTimeError

    def _segments(self) -> set[str]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket="output", Prefix="outputs/")
        keys = {item["Key"] for page in pages for item in page.get("Contents", [])}
        return {key for key in keys if "/video/" in key and key.endswith(".m4s")}


def test_a_part_that_is_done_when_its_time_is_over_is_done(clips, transcode, monkeypatch):
    ended: list[Encoder] = []
    wait = Encoder.wait

    def noted(encoder: Encoder, seconds: float) -> int | None:
        status = wait(encoder, seconds)
        ended[:] = [] if status is None else [encoder]
        return status

    def report(progress: float) -> None:
        if ended:
            ended.clear()
            raise OutOfTimeError

    source = clips("constant.mp4", f"-f lavfi -i {SOURCES['constant.mp4']} {{0}}")
    whole = transcode(source, "m3u8", 1, attempt=2)
    monkeypatch.setattr(entries, "are_true", lambda *_: True)
    monkeypatch.setattr(Encoder, "wait", noted)
    parts = transcode(source, "m3u8", 1, attempt=2, part_seconds=0.1, report=report)
    assert len(frames(parts)) == len(frames(whole))


@pytest.mark.parametrize("name", some(["constant.mp4", "variable.mp4"], "variable.mp4"))
def test_parts_that_run_out_of_time_are_split_and_give_the_same(
    lossless, clips, transcode, s3, monkeypatch, name
):
    source = clips(name, f"-f lavfi -i {SOURCES[name]} {{0}}")
    whole = transcode(source, "m3u8", 5, attempt=2)
    # Slow enough that a segment is stored before the next one is there.
    program = command._program
    monkeypatch.setattr(command, "_program", lambda tools: [*program(tools), "-readrate", "3"])
    impatient = Impatient(s3)
    parts = transcode(source, "m3u8", 5, attempt=2, part_seconds=0.28, report=impatient)
    assert frames(parts) == frames(whole)
    assert impatient.times >= 2


class Unsteady(BaseHTTPRequestHandler):
    """Serves a file, and breaks off once when half of it is through; then refuses for a while."""

    content = b""
    refusal = 503
    refusals = 0
    broken = False
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        kind = type(self)
        begin = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if kind.broken and kind.refusals > 0:
            kind.refusals -= 1
            self.send_response(kind.refusal)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        rest = kind.content[begin:]
        self.send_response(206)
        self.send_header("Content-Length", str(len(rest)))
        self.send_header("Content-Range", f"bytes {begin}-{len(kind.content) - 1}/{len(kind.content)}")
        self.end_headers()
        middle = len(kind.content) // 2 - begin
        if kind.broken or middle <= 0:
            self.wfile.write(rest)
            return
        kind.broken = self.close_connection = True
        with suppress(OSError):
            self.wfile.write(rest[:middle])


@pytest.mark.parametrize(
    ("name", "part_seconds", "refusal", "refusals", "end"),
    [
        ("constant.mp4", None, 503, 2, None),
        ("transport.ts", 0.1, 503, 2, None),
        ("film.mkv", 0.1, 503, 99, "could not read"),
        ("film.mkv", None, 404, 99, "SOURCE_NOT_FOUND"),
        ("constant.mp4", 0.1, 404, 99, "SOURCE_NOT_FOUND"),
        ("transport.ts", 0.1, 404, 99, "SOURCE_NOT_FOUND"),
    ],
)
def test_a_connection_that_breaks_is_not_taken_for_the_end_of_the_source(
    clips, transcode, monkeypatch, name, part_seconds, refusal, refusals, end
):
    source = clips(name, f"-f lavfi -i {SOURCES[name]} {{0}}")
    whole = frames(transcode(source, "m3u8", 1, attempt=2))
    handler = type("Handler", (Unsteady,), {"content": source.read_bytes(), "refusal": refusal})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{name}"
        monkeypatch.setattr(ObjectStore, "presigned_url", lambda self, bucket, key: url)
        prepare = Transcoder.prepare

        def prepared(*arguments: Any) -> Any:
            handler.broken, handler.refusals = True, 0
            try:
                return prepare(*arguments)
            finally:
                handler.broken, handler.refusals = False, refusals

        monkeypatch.setattr(Transcoder, "prepare", prepared)
        if end:
            with pytest.raises((OSError, TaskFailedError), match=end):
                transcode(source, "m3u8", 1, attempt=2, part_seconds=part_seconds)
        else:
            result = transcode(source, "m3u8", 1, attempt=2, part_seconds=part_seconds)
            assert len(frames(result)) == len(whole)
        assert handler.broken
        server.shutdown()


def test_parts_of_an_http_source_read_the_copy_of_it(clips, transcode, s3, tmp_path):
    source = clips("constant.mp4", f"-f lavfi -i {SOURCES['constant.mp4']} {{0}}")
    whole = transcode(source, "m3u8", 1, attempt=2)
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers.get("Range"))
            super().do_GET()

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(source.parent))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{source.name}"
        parts = transcode(source, "m3u8", 1, attempt=2, present=False, url=url, part_seconds=0.1)
        server.shutdown()
    assert len(asked) == 1
    assert [frame.split(",")[2] for frame in frames(parts)] == [
        frame.split(",")[2] for frame in frames(whole)
    ]
