"""HEVC and AV1: in parts as in one pass, named for players, in ten bits and HDR where the source is."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import some
from tests.media import test_parts
from tests.media.conftest import Result, ffmpeg, ffprobe
from tests.media.test_adaptive import similarity
from tests.media.test_colour import HEVC, PATCH, patches, signal, tags
from tests.media.test_parts import X264, check_alike
from transcoding.errors import Failure, TaskFailedError
from transcoding.media.planning import plan

CODECS = ("hevc", "av1")
#: Sources of 12 s, whose scene changes where no keyframe is asked for.
SOURCES = {
    "film.mp4": "testsrc2=s=160x90:r=24000/1001:d=5.3 -f lavfi -i smptebars=s=160x90:r=24000/1001:d=6.7 "
    f"-f lavfi -i sine=d=12.01 -filter_complex [0][1]concat[v] -map [v] -map 2 {X264} -g 24 -c:a aac",
    "variable.mp4": "testsrc2=s=160x90:r=60:d=12 -vf select='gt(random(1)\\,0.6)' -fps_mode vfr "
    f"{X264} -g 60 -video_track_timescale 90000",
    "deep.mkv": "testsrc2=s=160x90:r=25:d=12 -c:v libx264 -preset ultrafast -pix_fmt yuv420p10le -g 25",
}


def source(clips: Any, name: str) -> Path:
    return clips(name, f"-f lavfi -i {SOURCES[name]} {{0}}")


def master(result: Result) -> str:
    return (result.folder / "master.m3u8").read_text()


def times(path: Path) -> list[float]:
    """When the frames are shown, in seconds after the first."""
    packets = ffprobe(path, "-select_streams", "v", "-show_packets")["packets"]
    found = sorted(float(p["pts_time"]) for p in packets)
    return [round(time - found[0], 3) for time in found]


def keyframes(path: Path) -> list[float]:
    packets = ffprobe(path, "-select_streams", "v", "-show_packets")["packets"]
    return [float(p["pts_time"]) for p in packets if "K" in p["flags"]]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", SOURCES)
def test_frames_and_times_in_parts_are_those_of_one_pass(lossless, clips, transcode, name, codec):
    clip = source(clips, name)
    whole = transcode(clip, "m3u8", 5, codecs=codec)
    parts = transcode(clip, "m3u8", 5, codecs=codec, part_seconds=0.01)
    assert test_parts.shown(parts) == test_parts.shown(whole)
    assert len(test_parts.shown(whole)) > 150


@pytest.mark.parametrize(
    ("format", "codec"),
    some(
        [*product(("mp4", "mov", "mkv"), CODECS), ("webm", "av1")],
        *(("mp4", "hevc"), ("webm", "av1")),
    ),
)
def test_a_file_made_in_parts_is_that_of_one_pass(lossless, clips, transcode, format, codec):
    clip = source(clips, "film.mp4")
    whole = transcode(clip, format, 5, codecs=codec)
    apart = transcode(clip, format, 5, codecs=codec, part_seconds=0.01)
    check_alike(apart, whole, sound=True)
    for result in (whole, apart):
        video = result.streams()["video"]
        assert video["codec_name"] == codec
        if format in {"mp4", "mov"}:
            assert video["codec_tag_string"] == {"hevc": "hvc1", "av1": "av01"}[codec]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", some(SOURCES, "deep.mkv"))
def test_the_picture_is_the_sources_and_can_be_cut_every_two_seconds(clips, transcode, name, codec):
    clip = source(clips, name)
    whole = transcode(clip, "m3u8", 5, codecs=codec)
    parts = transcode(clip, "m3u8", 5, codecs=codec, part_seconds=0.01)
    for result in (whole, parts):
        entry = result.folder / "video/index.m3u8"
        assert times(entry) == pytest.approx(times(clip), abs=0.0015)
        assert similarity(entry, clip, "160:90") > 0.96
    found = keyframes(whole.folder / "video/index.m3u8")
    assert [round((time - found[0]) / 2) for time in found] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("codec", CODECS)
def test_no_frame_after_a_keyframe_is_shown_before_it_or_refers_to_one_before_it(clips, transcode, codec):
    clip = source(clips, "film.mp4")
    result = transcode(clip, "m3u8", 5, codecs=codec)
    folder = result.folder / "video"
    init = (folder / "init.mp4").read_bytes()
    total = 0
    for segment in sorted(folder.glob("*.m4s"), key=lambda path: int(path.stem)):
        # Each segment alone can be decoded completely.
        alone = folder / "alone.mp4"
        alone.write_bytes(init + segment.read_bytes())
        assert not ffmpeg("-i {0} -fps_mode passthrough -f null -", alone)
        total += len(digests(alone))
    assert total == len(times(clip))


#: What RFC 6381 names the results: 160x90 in the level that holds it, of 8 and of 10 bits.
NAMES = {
    ("hevc", "film.mp4"): r"hvc1\.1\.6\.L60\.90",
    ("hevc", "deep.mkv"): r"hvc1\.2\.4\.L60\.90",
    ("av1", "film.mp4"): r"av01\.0\.00M\.08\.0\.11\d\.06\.06\.06\.0",
    ("av1", "deep.mkv"): r"av01\.0\.00M\.10\.0\.11\d\.06\.06\.06\.0",
}


@pytest.mark.parametrize(("codec", "name"), NAMES)
def test_playlists_name_the_codec_its_profile_and_level(clips, transcode, codec, name):
    result = transcode(source(clips, name), "mpd", 5, codecs=codec)
    assert re.search(rf'CODECS="{NAMES[codec, name]}[",]', master(result)), master(result)
    assert re.search(rf'codecs="{NAMES[codec, name]}"', result.entry.read_text())
    video = ffprobe(result.folder / "video/index.m3u8")["streams"][0]
    assert video["pix_fmt"] == ("yuv420p10le" if name == "deep.mkv" else "yuv420p")


#: HDR10's metadata: of the display that it was made on, and of its brightest pixel and frame, in nits.
MASTERED = (
    "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400"
)
NITS = [(n, n, n) for n in (10, 203, 1000)] + [(300, 0, 0)]


def hdr(clips: Any, transfer: str) -> Path:
    metadata = f":hdr10=1:{MASTERED}" if transfer == "smpte2084" else ""
    return patches(
        clips,
        f"hdr-{transfer}",
        [signal(transfer, n) for n in NITS],
        "-vf scale=out_color_matrix=bt2020nc:out_range=tv,format=yuv420p10le,"
        f"setparams=colorspace=bt2020nc:color_primaries=bt2020:color_trc={transfer} {HEVC}{metadata}",
    )


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
@pytest.mark.parametrize(
    ("format", "codec"),
    [*((f, c) for f in ("m3u8", "mp4", "mkv") for c in CODECS), ("webm", "av1")],
)
def test_hdr_stays_hdr(clips, transcode, transfer, format, codec):
    clip = hdr(clips, transfer)
    # The second attempt copies nothing.
    result = transcode(clip, format, 5, codecs=codec, attempt=2)
    assert tags(result) == ("bt2020", transfer, "bt2020nc")
    entry = result.folder / "video/index.m3u8" if format == "m3u8" else result.entry
    assert ffprobe(entry)["streams"][0]["pix_fmt"] == "yuv420p10le"
    for pixel, expected in zip(raw_pixels(entry), raw_pixels(clip), strict=True):
        assert all(abs(a - b) <= 12 for a, b in zip(pixel, expected, strict=True)), (pixel, expected)
    if transfer == "smpte2084":
        assert_mastered(entry)


def assert_mastered(entry: Path) -> None:
    said = ffmpeg("-v info -i {0} -frames:v 1 -vf showinfo -f null -", entry)
    assert "r(0.6800,0.3200) g(0.2650,0.6900) b(0.1500 0.0600)" in said
    assert "min_luminance=0.0050" in said
    assert "max_luminance=1000.000000" in said
    assert "MaxCLL=1000, MaxFALL=400" in said


def raw_pixels(entry: Path) -> list[tuple[int, ...]]:
    """The first frame's Y, Cb and Cr in the middle of each patch, as they are stored: of ten bits."""
    raw = entry.parent / "frame.yuv"
    ffmpeg("-i {0} -frames:v 1 -pix_fmt yuv444p10le -f rawvideo {1}", entry, raw)
    samples = memoryview(raw.read_bytes()).cast("H")
    plane = len(samples) // 3
    line = PATCH * len(NITS)
    places = [PATCH // 2 * line + PATCH * i + PATCH // 2 for i in range(len(NITS))]
    return [tuple(samples[plane * n + place] for n in range(3)) for place in places]


@pytest.mark.parametrize("codec", CODECS)
def test_an_adaptive_task_has_hdr_with_sdr_beside_it(
    clips: Any, transcode: Any, monkeypatch: pytest.MonkeyPatch, codec: str
) -> None:
    clip = hdr(clips, "smpte2084")
    # The picture is small: two rungs of it, and the thumbnails, are made of one decode.
    monkeypatch.setattr(plan, "adaptive_sides", lambda side: (2 * side, side))
    result = transcode(clip, "m3u8", 6, codecs=f"h264,{codec}", thumbnails=True)
    low, high = (sorted(result.folder.glob(f"{name}-*/index.m3u8")) for name in ("h264", codec))
    assert [len(low), len(high)] == [2, 2]
    for entry in low:
        sdr = ffprobe(entry)["streams"][0]
        assert (sdr["color_transfer"], sdr["pix_fmt"]) == ("bt709", "yuv420p")
        said = ffmpeg("-v info -i {0} -frames:v 1 -vf showinfo -f null -", entry)
        assert "luminance" not in said
        assert "MaxCLL" not in said
    for entry in high:
        hdr10 = ffprobe(entry)["streams"][0]
        assert (hdr10["color_transfer"], hdr10["pix_fmt"]) == ("smpte2084", "yuv420p10le")
        assert_mastered(entry)


def test_pictures_with_long_gaps_end_at_the_same_time_in_each_codec(clips: Any, transcode: Any) -> None:
    # As screens are recorded: a frame where something has changed. The last segments begin with a frame that
    # is decoded seconds before it is shown.
    recipe = r"-f lavfi -i testsrc2=s=320x180:r=25:d=15.04 -vf select='lt(t\,1)+eq(n\,175)+eq(n\,375)'"
    clip = clips("sparse.mkv", f"{recipe} -fps_mode vfr {X264} {{0}}")
    result = transcode(clip, "m3u8", 6, codecs="h264,av1")
    entries = [next(result.folder.glob(f"{codec}-*/index.m3u8")) for codec in ("h264", "av1")]
    for entry in entries:
        lengths = [float(length) for length in re.findall(r"#EXTINF:([\d.]+)", entry.read_text())]
        assert sum(lengths) == pytest.approx(15.04, abs=0.05), entry
    assert result.output.duration == pytest.approx(15.04, abs=0.05)


def captioned(clips: Any) -> Path:
    """A source with a caption (CEA-608) inside each frame of its picture."""
    plain = clips(
        "plain.h264", f"-f lavfi -i testsrc2=s=320x180:r=25:d=4 {X264} -bf 0 -x264-params slices=1 {{0}}"
    )
    # user_data_registered_itu_t_t35 of ATSC (ANSI/SCTE 128, 8): one pair of bytes.
    caption = b"\xb5\x00\x31GA94\x03\x41\xff\xfc\x94\x20\xff"
    message = b"\x00\x00\x01\x06\x04" + bytes([len(caption)]) + caption + b"\x80"
    data = re.sub(
        rb"(?=\x00\x00\x01[\x41\x61\x65\x01\x21\x25])", message.replace(b"\\", b"\\\\"), plain.read_bytes()
    )
    raw, made = plain.with_name("captioned.h264"), plain.with_name("captioned.mp4")
    raw.write_bytes(data)
    ffmpeg("-r 25 -i {0} -c copy {1}", raw, made)
    assert "EIA-608" in ffmpeg("-v info -i {0} -f null -", made) or b"GA94" in made.read_bytes()
    return made


def test_captions_inside_the_picture_are_not_promised_where_there_are_none(
    clips: Any, transcode: Any
) -> None:
    clip = captioned(clips)
    copied = transcode(clip, "m3u8", 5)
    made = transcode(clip, "m3u8", 5, attempt=2)
    for result, kept in ((copied, True), (made, False)):
        found = any(b"GA94" in path.read_bytes() for path in result.folder.glob("video/*.m4s"))
        assert found is kept
        assert ("CLOSED-CAPTIONS=NONE" not in master(result)) is kept


X265 = "-c:v libx265 -preset fast -crf 30 -x265-params log-level=error"
COPIED = {
    # MP4's other name of HEVC, which Apple does not play.
    "hev1.mp4": ("hevc", f"{X265}:open-gop=0 -tag:v hev1"),
    "transport.ts": ("hevc", X265),
    "deep.mkv": ("hevc", f"{X265}:open-gop=0 -pix_fmt yuv420p10le"),
    "open-gop.mp4": ("hevc", f"{X265}:open-gop=1"),
    "open-gop.mkv": ("h264", "-c:v libx264 -crf 30 -x264-params open-gop=1"),
    "av1.mp4": ("av1", "-c:v libsvtav1 -preset 12 -crf 40"),
    "av1.webm": ("av1", "-c:v libsvtav1 -preset 12 -crf 40 -pix_fmt yuv420p10le"),
}


@pytest.mark.parametrize("name", COPIED)
@pytest.mark.parametrize("format", some(["mp4", "mkv", "m3u8"], "mp4", "m3u8"))
def test_a_source_in_the_codec_asked_for_is_copied(clips, transcode, name, format):
    codec, options = COPIED[name]
    clip = clips(name, f"-f lavfi -i testsrc2=s=320x180:r=25:d=4 {options} -g 50 {{0}}")
    result = transcode(clip, format, 5, codecs=codec)
    entry = result.folder / "video/index.m3u8" if format == "m3u8" else result.entry
    # A segment must be decoded without the one before it; and MPEG-TS has no index of its keyframes.
    copied = format != "m3u8" or name not in {"transport.ts", "open-gop.mp4", "open-gop.mkv"}
    assert (digests(entry) == digests(clip)) is copied
    if format != "mkv":
        tag = ffprobe(next(iter(result.folder.glob("video/init.mp4")), entry))["streams"][0][
            "codec_tag_string"
        ]
        assert tag == {"h264": "avc1", "hevc": "hvc1", "av1": "av01"}[codec]


def digests(path: Path) -> list[str]:
    listing = path.parent / "digests.txt"
    ffmpeg("-i {0} -map 0:v -fps_mode passthrough -f framemd5 {1}", path, listing)
    return [line.split(",")[5] for line in listing.read_text().splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("codec", CODECS)
def test_hdr_is_copied(clips, transcode, codec):
    options = {
        "hevc": f"-c:v libx265 -preset fast -crf 30 -x265-params log-level=error:{MASTERED}",
        "av1": "-c:v libsvtav1 -preset 12 -crf 30",
    }
    clip = clips(
        f"hdr-{codec}.mp4",
        "-f lavfi -i testsrc2=s=160x90:r=25:d=1 -vf format=yuv420p10le,setparams=colorspace=bt2020nc:range=tv"
        f":color_primaries=bt2020:color_trc=smpte2084 {options[codec]} {{0}}",
    )
    result = transcode(clip, "mp4", 5, codecs=codec)
    assert digests(result.entry) == digests(clip)
    assert tags(result) == ("bt2020", "smpte2084", "bt2020nc")


@pytest.mark.parametrize(("codec", "size"), [("hevc", 16), ("av1", 64)])
def test_the_smallest_picture(clips, transcode, codec, size):
    fits, small = (
        clips(f"{n}.mp4", f"-f lavfi -i testsrc2=s={n}x{n}:r=25:d=0.2 {X264} {{0}}") for n in (size, size - 2)
    )
    assert len(digests(transcode(fits, "mp4", 5, codecs=codec).entry)) == 5
    with pytest.raises(TaskFailedError) as failure:
        transcode(small, "mp4", 5, codecs=codec)
    assert failure.value.code is Failure.DIMENSIONS_UNSUPPORTED
    assert str(size) in failure.value.info


@pytest.mark.parametrize("codec", CODECS)
def test_a_single_frame(clips, transcode, codec):
    clip = clips("frame.mp4", f"-f lavfi -i testsrc2=s=160x90:r=25:d=0.04 {X264} {{0}}")
    for target in ("mp4", "m3u8"):
        assert len(digests(transcode(clip, target, 5, codecs=codec).entry)) == 1
