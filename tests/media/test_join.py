"""A file that is joined from parts plays exactly as one that FFmpeg makes in a single pass."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.media.conftest import ROOT, TOOLS, ffmpeg, ffprobe
from transcoding.data.object_store import ObjectStore
from transcoding.data.streams import StoredObject
from transcoding.media.packaging.fragments import Content, read
from transcoding.media.packaging.join import Piece, join
from transcoding.media.planning.formats import FORMATS

SECONDS = 3.2
PICTURE = f"-f lavfi -i testsrc2=s=160x90:r=24:d={SECONDS}"
SOUND = f"-f lavfi -i sine=440:r=48000:d={SECONDS + 0.01}"
COLOURS = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"
H264 = "-c:v libx264 -preset fast -profile:v high -crf 30 -threads 1 -force_key_frames expr:gte(t,n_forced)"
VP9 = "-c:v libvpx-vp9 -crf 40 -b:v 300k -cpu-used 8 -deadline good -threads 1 -g 24"
AAC = "-c:a aac -b:a 96k -ac 2"
OPUS = "-c:a libopus -b:a 96k -ac 2"
SEGMENTS = (
    "-f hls -hls_time 1 -hls_segment_type fmp4 -hls_playlist_type event -avoid_negative_ts disabled "
    "-hls_fmp4_init_filename init.mp4 -hls_segment_filename {0}/%05d.m4s "
)
PICTURE_SEGMENTS = (
    SEGMENTS + "-hls_segment_options movflags=+negative_cts_offsets+frag_discont {0}/index.m3u8"
)
SOUND_SEGMENTS = SEGMENTS + "{0}/index.m3u8"


@pytest.fixture
def store(s3: Any) -> Callable[..., Piece]:
    """Store folders of segments, made by FFmpeg's arguments, as a stream's parts."""

    def store(*folders: Path, seconds: float = SECONDS) -> Piece:
        objects, found = [], Content()
        for folder in folders:
            for path in (folder / "init.mp4", *sorted(folder.glob("*.m4s"))):
                s3.put_object(Bucket="output", Key=str(path), Body=path.read_bytes())
                objects.append(StoredObject(str(path), path.stat().st_size))
            found = sum((read(path.read_bytes()).content() for path in folder.glob("*.m4s")), found)
        return Piece(partial(ObjectStore("output").reading, objects), found, seconds)

    return store


@pytest.fixture
def joined(s3: Any, tmp_path: Path) -> Callable[..., Path]:
    """Join pieces in S3, and copy the result out of it."""

    def run(
        format: str, pieces: Sequence[Piece], report: Callable[[float], None] = lambda share: None
    ) -> Path:
        target = FORMATS[format]
        key = f"{tmp_path.name}/{target.target}"
        join(pieces, target, partial(ObjectStore("output").writing, key, target.content_type), report)
        path = tmp_path / f"joined.{format}"
        answer = s3.get_object(Bucket="output", Key=key)
        assert answer["ContentType"] == target.content_type
        path.write_bytes(answer["Body"].read())
        return path

    return run


@pytest.fixture(scope="module")
def segments(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Make a folder of segments once."""
    made: dict[str, Path] = {}

    def make(arguments: str) -> Path:
        if arguments not in made:
            made[arguments] = tmp_path_factory.mktemp("segments")
            ffmpeg(arguments, made[arguments])
        return made[arguments]

    return make


def packets(path: Path, *, data: bool) -> dict[str, list[tuple[Any, ...]]]:
    report = ffprobe(path, "-show_packets", "-show_data_hash", "md5")
    found: dict[str, list[tuple[Any, ...]]] = {}
    for packet in report["packets"]:
        keys = ("pts", "dts", *(("size", "data_hash") if data else ()))
        entry = (*(packet.get(key) for key in keys), packet["flags"][0])
        found.setdefault(packet["codec_type"], []).append(entry)
    return found


def decoded(path: Path, stream: str) -> list[tuple[float, str]]:
    """Every frame of a stream, decoded: when it is shown or heard, in seconds, and its MD5."""
    command = [TOOLS.ffmpeg, "-v", "warning", "-copyts", "-i", path, "-map", f"0:{stream}"]
    command += ["-enc_time_base", "demux", "-fps_mode", "passthrough", "-f", "framemd5", "-"]
    if stream == "a":
        command[command.index("-enc_time_base") : -3] = []
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert not done.stderr
    text = done.stdout
    base = re.search(r"#tb 0: (\d+)/(\d+)", text)
    assert base
    rows = [line.split(",") for line in text.splitlines() if not line.startswith("#")]
    return [(int(row[2]) * int(base[1]) / int(base[2]), row[5].strip()) for row in rows]


def described(path: Path) -> list[dict[str, Any]]:
    """What is told of the streams, but for names and sizes."""
    left_out = {"tags", "disposition", "bit_rate", "max_bit_rate", "nb_read_packets", "index"}
    streams = sorted(ffprobe(path)["streams"], key=lambda stream: stream["codec_type"])
    return [{k: v for k, v in stream.items() if k not in left_out} for stream in streams]


def boxes(path: Path) -> list[str]:
    """The boxes of an MP4 in their order, or the elements of a Matroska segment but for gaps."""
    data, found, at = path.read_bytes(), [], 0
    if path.suffix in {".mp4", ".mov"}:
        while at < len(data):
            size = int.from_bytes(data[at : at + 4])
            found.append(data[at + 4 : at + 8].decode())
            at += size
        return found
    names = {0x114D9B74: "SeekHead", 0x1549A966: "Info", 0x1654AE6B: "Tracks", 0x1254C367: "Tags"}
    names |= {0x1C53BB6B: "Cues", 0x1F43B675: "Cluster"}
    at = data.index(bytes.fromhex("18538067")) + 12
    while at < len(data):
        id_, at = _vint(data, at, keep_marker=True)
        size, at = _vint(data, at)
        found += [names[id_]] if id_ in names else []
        at += size
    return found


def _vint(data: bytes, at: int, *, keep_marker: bool = False) -> tuple[int, int]:
    length = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + length])
    return value if keep_marker else value & ~(1 << 7 * length), at + length


CODECS = {"webm": (VP9, OPUS)}


@pytest.mark.parametrize("format", ["mp4", "mov", "mkv", "ts", "flv", "webm"])
def test_a_joined_file_is_as_one_from_a_single_pass(
    format: str,
    store: Callable[..., Piece],
    segments: Callable[[str], Path],
    joined: Callable[..., Path],
    tmp_path: Path,
) -> None:
    picture, sound = CODECS.get(format, (H264, AAC))
    options = f"-vf {COLOURS},setsar=1,format=yuv420p {picture}"
    pieces = [
        store(segments(f"{PICTURE} {options} {PICTURE_SEGMENTS}")),
        store(segments(f"{SOUND} {sound} {SOUND_SEGMENTS}")),
    ]
    file = joined(format, pieces)
    alone = tmp_path / f"alone.{format}"
    muxer = FORMATS[format]
    muxed = " ".join(("-map_metadata -1 -f", muxer.muxer, *muxer.muxer_options))
    ffmpeg(f"{PICTURE} {SOUND} {options} {sound} {muxed} {{0}}", alone)

    assert described(file) == described(alone)
    assert decoded(file, "v") == decoded(alone, "v")
    # The last frame is filled up: not every format tells, and so does FFmpeg's single pass not for each.
    assert decoded(file, "a")[:-1] == decoded(alone, "a")[:-1]
    if format not in {"ts", "flv"}:
        raw = tmp_path / "sound.raw"
        ffmpeg("-i {0} -map 0:a -f s16le {1}", file, raw)
        assert raw.stat().st_size == round((SECONDS + 0.01) * 48000) * 4
    assert packets(file, data=format != "ts") == packets(alone, data=format != "ts")
    assert ffprobe(file)["format"]["duration"] == ffprobe(alone)["format"]["duration"]
    # A player that goes there must find it.
    late = tmp_path / "late.rgb"
    ffmpeg(f"-ss {SECONDS - 0.5} -i {{0}} -frames:v 1 -f rawvideo {{1}}", file, late)
    assert late.stat().st_size == 160 * 90 * 3 // 2


@pytest.mark.parametrize(
    ("format", "order"),
    [
        ("mp4", ["ftyp", "moov", "free", "free", "mdat"]),
        ("mov", ["ftyp", "moov", "free", "wide", "mdat"]),
        ("mkv", ["SeekHead", "Info", "Tracks", "Tags", "Cues", "Cluster"]),
        ("webm", ["SeekHead", "Info", "Tracks", "Tags", "Cues", "Cluster"]),
    ],
)
def test_the_index_is_in_front(
    format: str,
    order: list[str],
    store: Callable[..., Piece],
    segments: Callable[[str], Path],
    joined: Callable[..., Path],
) -> None:
    picture, _ = CODECS.get(format, (H264, AAC))
    piece = store(segments(f"{PICTURE} -pix_fmt yuv420p {picture} {PICTURE_SEGMENTS}"))
    found = boxes(joined(format, [piece]))
    assert found[: len(order)] == order
    assert set(found[len(order) :]) <= {"Cluster"}


@pytest.mark.parametrize("more", [0, 10_000])
def test_a_flash_video_has_an_index_of_its_keyframes(
    more: int,
    store: Callable[..., Piece],
    segments: Callable[[str], Path],
    joined: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """Also where there are not as many as were told."""
    pieces = [
        store(segments(f"{PICTURE} -pix_fmt yuv420p {H264} {PICTURE_SEGMENTS}")),
        store(segments(f"{SOUND} {AAC} {SOUND_SEGMENTS}")),
    ]
    pieces[0] = replace(pieces[0], content=pieces[0].content + Content(keyframes=more))
    file = joined("flv", pieces)
    assert len(decoded(file, "v")) == 77
    alone = tmp_path / "alone.flv"
    ffmpeg(f"{PICTURE} {SOUND} -pix_fmt yuv420p {H264} {AAC} -flvflags add_keyframe_index {{0}}", alone)
    positions, times = keyframe_index(file)
    assert (len(positions), times) == (4, keyframe_index(alone)[1])
    data = file.read_bytes()
    for position, time in zip(positions, times, strict=True):
        kind, *clock = data[position], *data[position + 4 : position + 7]
        assert (kind, int.from_bytes(bytes(clock))) == (9, round(time * 1000))
        # A keyframe of H.264.
        assert data[position + 11] == 0x17
    # The sizes of all tags, forwards and backwards, fit together.
    at = 9
    size = 0
    while at < len(data):
        assert int.from_bytes(data[at : at + 4]) == size
        size = 11 + int.from_bytes(data[at + 5 : at + 8])
        at += 4 + size


def keyframe_index(path: Path) -> tuple[list[int], list[float]]:
    """The positions in the file, in bytes, and the times, in seconds, that the first tag tells."""
    data = path.read_bytes()
    lists = []
    for name in (b"\x00\x0dfilepositions", b"\x00\x05times"):
        at = data.index(name) + len(name) + 1
        (count,) = struct.unpack_from(">I", data, at)
        lists.append([struct.unpack_from(">d", data, at + 5 + 9 * n)[0] for n in range(count)])
    return [int(position) for position in lists[0]], lists[1]


def test_an_index_larger_than_told_is_in_front_too(
    store: Callable[..., Piece], segments: Callable[[str], Path], joined: Callable[..., Path]
) -> None:
    source = "-f lavfi -i testsrc2=s=32x32:r=500:d=3"
    piece = store(segments(f"{source} -pix_fmt yuv420p {H264} {PICTURE_SEGMENTS}"))
    file = joined("mp4", [replace(piece, content=Content(samples=1), seconds=0)])
    assert boxes(file) == ["ftyp", "moov", "free", "free", "mdat"]
    assert len(packets(file, data=True)["video"]) == 1500


@pytest.mark.parametrize("format", ["mp4", "mkv", "ts"])
def test_parts_encoded_apart_follow_each_other(
    format: str, store: Callable[..., Piece], segments: Callable[[str], Path], joined: Callable[..., Path]
) -> None:
    def part(first: int, last: int) -> Path:
        cut = f"-vf trim=start_frame={first}:end_frame={last},setsar=1,format=yuv420p -copyts"
        return segments(f"{PICTURE} {cut} -fps_mode passthrough {H264} {PICTURE_SEGMENTS}")

    parts = [part(0, 1), part(1, 30), part(30, 31), part(31, 77)]
    file = joined(
        format, [store(*parts, seconds=77 / 24), store(segments(f"{SOUND} {AAC} {SOUND_SEGMENTS}"))]
    )
    frames = decoded(file, "v")
    start = 1.4 + 2 / 24 if format == "ts" else 0.0
    tolerance = 0.0006 if format == "mkv" else 1e-6
    assert [at for at, _ in frames] == pytest.approx([start + n / 24 for n in range(77)], abs=tolerance)
    apart = [md5 for number in range(4) for _, md5 in decoded(_whole(parts[number]), "v")]
    assert [md5 for _, md5 in frames] == apart


def _whole(folder: Path) -> Path:
    whole = folder / "whole.mp4"
    whole.write_bytes(b"".join(p.read_bytes() for p in (folder / "init.mp4", *sorted(folder.glob("*.m4s")))))
    return whole


@pytest.mark.parametrize("format", ["mp4", "mkv"])
def test_a_picture_that_starts_late_and_changes_its_pace_keeps_its_times(
    format: str, store: Callable[..., Piece], segments: Callable[[str], Path], joined: Callable[..., Path]
) -> None:
    pace = "-vf settb=1/1000,setpts=500+N*20+N*N*3,format=yuv420p -fps_mode vfr -enc_time_base filter"
    source = "-f lavfi -i testsrc2=s=160x90:r=24:d=1"
    # Where frames have no constant rate, FFmpeg's segments do not all begin when they should; its MP4s do.
    flags = "frag_keyframe+empty_moov+default_base_moof+negative_cts_offsets+frag_discont"
    muxed = f"-avoid_negative_ts disabled -use_editlist 0 -movflags {flags} {{0}}/init.mp4"
    picture = store(segments(f"{source} {pace} {H264} {muxed}"))
    file = joined(format, [picture, store(segments(f"{SOUND} {AAC} {SOUND_SEGMENTS}"))])
    times = [at for at, _ in decoded(file, "v")]
    assert times == pytest.approx([0.5 + n * 0.02 + n * n * 0.003 for n in range(24)], abs=0.0006)
    assert decoded(file, "a")[0][0] == pytest.approx(0, abs=0.001)


@pytest.mark.parametrize(("format", "codec"), [("mp4", "mov_text"), ("mkv", "subrip")])
def test_text_is_joined_in_its_language(
    format: str,
    codec: str,
    s3: Any,
    store: Callable[..., Piece],
    segments: Callable[[str], Path],
    joined: Callable[..., Path],
    tmp_path: Path,
) -> None:
    lines = tmp_path / "lines.srt"
    lines.write_text("1\n00:00:00,500 --> 00:00:01,250\nHello\n\n2\n00:00:02,000 --> 00:00:02,750\nWorld\n")
    text = tmp_path / f"text.{format}"
    ffmpeg(f"-i {{0}} -c:s {codec} {{1}}", lines, text)
    s3.put_object(Bucket="output", Key="text", Body=text.read_bytes())
    stored = [StoredObject("text", text.stat().st_size)]
    piece = Piece(
        partial(ObjectStore("output").reading, stored), Content(2, 2), SECONDS, {"language": "fre"}, ""
    )
    picture = store(segments(f"{PICTURE} -pix_fmt yuv420p {H264} {PICTURE_SEGMENTS}"))
    file = joined(format, [picture, piece])
    subtitles = tmp_path / "subtitles.srt"
    ffmpeg("-i {0} {1}", file, subtitles)
    assert subtitles.read_text() == lines.read_text() + "\n"
    assert ffprobe(file)["streams"][1]["tags"]["language"] == "fre"


def test_parts_that_differ_are_refused(
    s3: Any,
    store: Callable[..., Piece],
    segments: Callable[[str], Path],
    joined: Callable[..., Path],
    tmp_path: Path,
) -> None:
    parts = [
        segments(f"{PICTURE} -pix_fmt yuv420p -s {size} {H264} {PICTURE_SEGMENTS}")
        for size in ("160x90", "80x46")
    ]
    with pytest.raises(ValueError, match="encoded differently"):
        joined("mp4", [store(*parts)])
    assert not s3.list_objects_v2(Bucket="output", Prefix=f"{tmp_path.name}/").get("Contents")


def test_a_piece_that_ends_early_or_is_missing_is_told(
    s3: Any, store: Callable[..., Piece], segments: Callable[[str], Path], joined: Callable[..., Path]
) -> None:
    folder = segments(f"{PICTURE} -pix_fmt yuv420p {H264} {PICTURE_SEGMENTS}")
    data = (folder / "init.mp4").read_bytes() + (folder / "00000.m4s").read_bytes()
    for length in (0, 5, 400, len(data) - 1):
        s3.put_object(Bucket="output", Key="cut", Body=data[:length])
        cut = partial(ObjectStore("output").reading, [StoredObject("cut", length)])
        with pytest.raises(ValueError, match=r"ends in the middle|no media"):
            joined("mp4", [Piece(cut, Content(), 1)])
    gone = partial(ObjectStore("output").reading, [StoredObject("gone", 1000)])
    with pytest.raises(ClientError, match="NoSuchKey"):
        joined("mp4", [store(folder), Piece(gone, Content(), 1)])


def test_what_storing_raises_is_raised(
    s3: Any, store: Callable[..., Piece], segments: Callable[[str], Path]
) -> None:
    piece = store(segments(f"{PICTURE} -pix_fmt yuv420p {H264} {PICTURE_SEGMENTS}"))
    writing = partial(ObjectStore("missing").writing, "video.mp4", "video/mp4")
    with pytest.raises(ClientError, match="NoSuchBucket"):
        join([piece], FORMATS["mp4"], writing, lambda share: None)


def test_what_ends_it_leaves_nothing(
    s3: Any,
    store: Callable[..., Piece],
    segments: Callable[[str], Path],
    joined: Callable[..., Path],
    tmp_path: Path,
) -> None:
    def stop(share: float) -> None:
        assert 0 <= share <= 1
        raise KeyError

    piece = store(segments(f"{PICTURE} -pix_fmt yuv420p {H264} {PICTURE_SEGMENTS}"))
    with pytest.raises(KeyError):
        joined("mkv", [piece], stop)
    assert not s3.list_objects_v2(Bucket="output", Prefix=f"{tmp_path.name}/").get("Contents")


def test_neither_memory_nor_temporary_files_grow_with_the_result(
    s3: Any, segments: Callable[[str], Path], tmp_path: Path
) -> None:
    noise = "-f lavfi -i color=s=320x180:r=24:d=1,noise=alls=100:allf=t -pix_fmt yuv420p"
    folder = segments(f"{noise} -c:v libx264 -preset ultrafast -qp 0 {PICTURE_SEGMENTS}")
    (path,) = folder.glob("*.m4s")
    segment = bytearray(path.read_bytes())
    at = segment.index(b"tfdt") + 8
    names = {"init": (folder / "init.mp4").read_bytes()}
    for second in range(150):
        segment[at : at + 8] = (second * 12288).to_bytes(8)
        names[f"{second}"] = bytes(segment)
    for name, body in names.items():
        s3.put_object(Bucket="output", Key=f"{tmp_path.name}/{name}", Body=body)
    sizes = {f"{tmp_path.name}/{name}": len(body) for name, body in names.items()}
    assert sum(sizes.values()) > 400_000_000
    counted = read(bytes(segment)).content()
    program = f"""if True:
        import resource
        from functools import partial
        from transcoding.data.object_store import ObjectStore
        from transcoding.data.streams import StoredObject
        from transcoding.media.packaging.fragments import Content
        from transcoding.media.packaging.join import Piece, join
        from transcoding.media.planning.formats import FORMATS
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        store = ObjectStore("output")
        objects = [StoredObject(*item) for item in {sizes!r}.items()]
        whole = Content({counted.samples * 150}, {counted.keyframes * 150}, {counted.changes * 150}, {10**9})
        piece = Piece(partial(store.reading, objects), whole, 150)
        writing = partial(store.writing, "{tmp_path.name}/result", "video/mp4")
        join([piece], FORMATS["mp4"], writing, lambda share: None)
        print(open("/proc/self/status").read())
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "functions"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    size = s3.head_object(Bucket="output", Key=f"{tmp_path.name}/result")["ContentLength"]
    assert size > 400_000_000
    # The parts under way, what is read ahead, and Python with FFmpeg.
    peak = re.search(r"VmHWM:\s*(\d+) kB", done.stdout)
    assert peak
    assert int(peak[1]) < 300_000
    for key in (*sizes, f"{tmp_path.name}/result"):
        s3.delete_object(Bucket="output", Key=key)
