"""Posters, thumbnails and keyframes for seek bars: what they show, when, and where players find them."""

from __future__ import annotations

import re
from itertools import pairwise, product
from pathlib import Path
from xml.etree import ElementTree

import m3u8
import pytest

from tests.conftest import some
from tests.media.conftest import Result, ffmpeg, ffprobe
from tests.media.test_colour import patches, shown, signal
from tests.media.test_geometry import CORNERS, corners
from tests.media.test_subtitles import MPD
from transcoding.data.object_store import ObjectStore
from transcoding.media.encoding import command
from transcoding.media.encoding import thumbnails as arguments

X264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"
FILM = f"-f lavfi -i testsrc2=s=640x360:r=25:d=13 -f lavfi -i sine=d=13 {X264} -g 50 -c:a aac -ac 2 {{0}}"
CUE = re.compile(r"(\d+):(\d+):([\d.]+) --> (\d+):(\d+):([\d.]+)\n(\S+)#xywh=(\d+),(\d+),(\d+),(\d+)")


def cues(result: Result) -> list[tuple[float, float, Path, tuple[int, ...]]]:
    """Start and end in seconds, the sheet, and the place in it, of each tile."""
    found = []
    for cue in CUE.finditer((result.folder / "thumbnails/thumbnails.vtt").read_text()):
        h1, m1, s1, h2, m2, s2 = map(float, cue.groups()[:6])
        place = tuple(map(int, cue.groups()[7:]))
        start, end = h1 * 3600 + m1 * 60 + s1, h2 * 3600 + m2 * 60 + s2
        found.append((start, end, result.folder / "thumbnails" / cue[7], place))
    return found


def pixels(path: Path, filters: str, *, seek: float = 0.0) -> bytes:
    raw = path.with_name("pixels.rgb")
    start = f"-ss {seek}" if seek else ""
    ffmpeg(f"{start} -i {{0}} -frames:v 1 -vf {filters} -pix_fmt rgb24 -f rawvideo {{1}}", path, raw)
    return raw.read_bytes()


def tile(cue: tuple[float, float, Path, tuple[int, ...]]) -> bytes:
    _, _, sheet, (left, top, width, height) = cue
    return pixels(sheet, f"crop={width}:{height}:{left}:{top}:exact=1")


def difference(one: bytes, other: bytes) -> float:
    assert len(one) == len(other)
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one)


def mean(rgb: bytes) -> tuple[float, ...]:
    return tuple(sum(rgb[c::3]) / (len(rgb) / 3) for c in range(3))


def check_layout(result: Result, seconds: float) -> None:
    found = cues(result)
    assert found[0][0] == 0
    assert all(a[1] == b[0] < b[1] for a, b in pairwise(found))
    assert found[-1][1] == pytest.approx(seconds, abs=0.2)
    for sheet in {cue[2] for cue in found}:
        assert sheet.stat().st_size <= 100_000
        (picture,) = ffprobe(sheet)["streams"]
        for *_, path, (left, top, width, height) in found:
            if path == sheet:
                assert left + width <= picture["width"]
                assert top + height <= picture["height"]


@pytest.mark.parametrize("format", some(["mp4", "mpd", "webm"], "mpd"))
def test_each_tile_is_the_frame_at_its_time(clips, transcode, format):
    source = clips("film.mp4", FILM)
    result = transcode(source, format, 1, attempt=2, thumbnails=True)
    check_layout(result, 13)
    assert [cue[0] for cue in cues(result)] == [0, 2, 4, 6, 8, 10, 12]
    for cue in cues(result)[:6]:
        distances = {
            step: difference(
                tile(cue), pixels(source, "scale=256:144:flags=bicubic", seek=cue[0] + step / 25)
            )
            for step in (0, 1, 10)
        }
        assert distances[0] == min(distances.values())
        assert distances[0] < 4
    assert result.objects["thumbnails/sheet-1.jpg"]["ContentType"] == "image/jpeg"
    assert result.objects["thumbnails/thumbnails.vtt"]["ContentType"] == "text/vtt"
    assert result.objects["poster.jpg"]["ContentType"] == "image/jpeg"


LAVFI = "-f lavfi -i testsrc2"
SOURCES = {
    "constant.mp4": FILM,
    "late.mkv": f"{LAVFI}=s=320x180:r=24:d=12 -f lavfi -i sine=d=13 -vf setpts=PTS+1.45/TB {X264} "
    "-g 48 -c:a flac {0}",
    "variable.mkv": f"{LAVFI}=s=320x180:r=60:d=12 -vf select='gt(random(1)\\,0.97)' -fps_mode vfr "
    f"{X264} -g 20 {{0}}",
    "interlaced.ts": f"{LAVFI}=s=320x288:r=50:d=12 -vf interlace,setfield=tff -c:v mpeg2video -q:v 2 "
    "-flags +ildct+ilme -g 25 {0}",
}


@pytest.mark.parametrize(
    ("format", "name"),
    some(
        product(("mp4", "m3u8"), SOURCES),
        *(("mp4", "interlaced.ts"), ("m3u8", "late.mkv")),
    ),
)
def test_parts_have_the_tiles_of_one_pass(clips, transcode, format, name):
    source = clips(name, SOURCES[name])
    whole, parts = (
        transcode(source, format, 5, attempt=2, thumbnails=True, part_seconds=seconds)
        for seconds in (None, 0.1)
    )
    sheets = [name for name in whole.objects if "sheet" in name]
    assert [name for name in parts.objects if "sheet" in name] == sheets
    assert [cue[0] for cue in cues(parts)] == [cue[0] for cue in cues(whole)]
    for sheet in sheets:
        assert (parts.folder / sheet).read_bytes() == (whole.folder / sheet).read_bytes()
    assert "poster.jpg" in parts.objects


def test_the_film_is_the_one_without_thumbnails(lossless, clips, transcode):
    source = clips("film.mp4", FILM)
    digests = []
    for thumbnails in (False, True):
        result = transcode(source, "mp4", 1, attempt=2, thumbnails=thumbnails)
        listing = result.folder / "packets.txt"
        ffmpeg("-i {0} -c copy -f framemd5 {1}", result.entry, listing)
        digests.append(listing.read_text())
        assert len(result.objects) == (4 if thumbnails else 1)
    assert digests[0] == digests[1]


def test_copied_streams_are_copied_and_have_tiles_of_keyframes(clips, transcode):
    options = "-c:v libx264 -preset fast -b:v 300k -pix_fmt yuv420p -g 100 -keyint_min 100 -sc_threshold 0"
    source = clips(
        "fits.mp4",
        f"-f lavfi -i testsrc2=s=320x180:r=25:d=13 -f lavfi -i sine=d=13 {options} -c:a aac -ac 2 {{0}}",
    )
    result = transcode(source, "mp4", 5, thumbnails=True)
    streams = []
    for path in (source, result.entry):
        listing = result.folder / "packets.txt"
        ffmpeg("-i {0} -map 0:v -c copy -f framemd5 {1}", path, listing)
        streams.append([line.split(",")[5] for line in listing.read_text().splitlines() if line[0] != "#"])
    assert streams[0] == streams[1]
    check_layout(result, 13)
    for cue in cues(result):
        keyframe = pixels(source, "scale=256:144:flags=bicubic", seek=cue[0] // 4 * 4)
        assert difference(tile(cue), keyframe) < 4
    assert (result.folder / "poster.jpg").exists()


@pytest.mark.parametrize("attempt", [1, 2])
def test_pictures_are_upright_and_in_their_shape(clips, transcode, attempt):
    flat = clips("flat.mp4", f"{corners('640x360', 5)} {X264} -qp 10 {{0}}")
    turned = flat.with_name("turned.mp4")
    ffmpeg("-display_rotation 90 -i {0} -c copy {1}", flat, turned)
    result = transcode(turned, "mp4", 5, attempt=attempt, thumbnails=True)
    check_layout(result, 5)
    for picture, width, height in (("poster.jpg", 360, 640), ("thumbnails/sheet-1.jpg", 3 * 144, 256)):
        (stream,) = ffprobe(result.folder / picture)["streams"]
        assert (stream["width"], stream["height"]) == (width, height)
    expected = {(x, y): pixel(result.entry, 360 * (2 + x) // 4, 640 * (2 + y) // 4) for x, y in CORNERS}
    for (x, y), colour in expected.items():
        assert pixel(result.folder / "poster.jpg", 360 * (2 + x) // 4, 640 * (2 + y) // 4) == pytest.approx(
            colour, abs=6
        )
        place = (144 + 144 * (2 + x) // 4, 256 * (2 + y) // 4)
        assert pixel(result.folder / "thumbnails/sheet-1.jpg", *place) == pytest.approx(colour, abs=6)


def pixel(path: Path, x: int, y: int) -> tuple[int, ...]:
    return tuple(pixels(path, f"crop=2:2:{x}:{y}:exact=1")[:3])


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_hdr_looks_as_it_does_in_sdr(clips, transcode, transfer):
    nits = [(50, 50, 50), (203, 203, 203), (150, 10, 10), (10, 120, 10)]
    tags = f"-color_primaries bt2020 -color_trc {transfer} -colorspace bt2020nc"
    clip = patches(
        clips,
        f"hdr-{transfer}",
        [signal(transfer, n) for n in nits],
        f"-vf scale=out_color_matrix=bt2020:out_range=tv,format=yuv420p10le,setparams=color_primaries=bt2020:"
        f"color_trc={transfer}:colorspace=bt2020nc -c:v libx265 -preset ultrafast -crf 8 "
        f"-x265-params log-level=error:repeat-headers=1 {tags}",
    )
    sdr = transcode(clip, "mp4", 5, thumbnails=True)
    hdr = transcode(clip, "mp4", 5, codecs="hevc", attempt=2, thumbnails=True)
    assert hdr.streams()["video"]["color_transfer"] == transfer
    made = shown(sdr, len(nits))
    for result in (sdr, hdr):
        for name in ("poster.jpg", "thumbnails/sheet-1.jpg"):
            (stream,) = ffprobe(result.folder / name)["streams"]
            assert stream["width"] == 256
            for n, colour in enumerate(made):
                assert pixel(result.folder / name, n * 64 + 32, 32) == pytest.approx(colour, abs=8)


#: Black at first, then a fade to a picture that cross-fades to another, flat one.
FADES = (
    "-f lavfi -i color=black:s=640x360:r=25:d=3 -f lavfi -i testsrc2=s=640x360:r=25:d=7 "
    "-f lavfi -i color=gray:s=640x360:r=25:d=6 -filter_complex "
    "[0][1]xfade=duration=1.5:offset=1.5[a];[a][2]xfade=duration=1.5:offset=7 "
    f"{X264} -g 50 {{0}}"
)


@pytest.mark.parametrize(
    ("format", "part_seconds"),
    some([("mp4", None), ("m3u8", None), ("mp4", 0.1), ("mpd", 0.1)], ("mp4", None), ("mpd", 0.1)),
)
def test_the_poster_is_in_no_fade(clips, transcode, format, part_seconds):
    source = clips("fades.mp4", FADES)
    result = transcode(source, format, 1, attempt=2, thumbnails=True, part_seconds=part_seconds)
    made = pixels(result.folder / "poster.jpg", "null")
    at = [t / 25 for t in range(75, 175)]
    whole = [difference(made, pixels(source, "null", seek=t)) for t in at[::12]]
    assert min(whole) < 20
    assert sum(mean(made)) / 3 > 60
    again = transcode(source, format, 1, attempt=2, thumbnails=True, part_seconds=part_seconds)
    assert difference(made, pixels(again.folder / "poster.jpg", "null")) < 2


def test_the_poster_of_a_film_with_one_tile_that_is_black_is_not_black(clips, transcode):
    black = "testsrc2=s=640x360:r=25:d=1.6,drawbox=color=black:t=fill:enable='lt(t\\,0.5)'"
    result = transcode(clips("short.mkv", f"-f lavfi -i {black} -c:v ffv1 {{0}}"), "mp4", 1, thumbnails=True)
    assert sum(mean(pixels(result.folder / "poster.jpg", "null"))) / 3 > 60


def test_a_single_frame_is_the_poster_and_the_tile(clips, transcode):
    source = clips("one.mp4", f"-f lavfi -i testsrc2=s=320x180:r=25:d=0.04 {X264} {{0}}")
    result = transcode(source, "mp4", 1, thumbnails=True)
    assert result.output.poster
    assert result.output.thumbnails
    assert difference(pixels(result.folder / "poster.jpg", "null"), pixels(source, "null")) < 4


def test_sheets_of_noise_are_small_too(clips, transcode):
    noise = "color=gray:s=256x144:r=1:d=40,noise=alls=100:allf=t"
    result = transcode(clips("noise.mkv", f"-f lavfi -i {noise} -c:v ffv1 {{0}}"), "mp4", 5, thumbnails=True)
    check_layout(result, 40)
    assert len({cue[2] for cue in cues(result)}) == 2


def test_a_black_film_has_a_poster_all_the_same(clips, transcode):
    source = clips("black.mp4", f"-f lavfi -i color=black:s=320x180:r=25:d=5 {X264} {{0}}")
    result = transcode(source, "mp4", 1, thumbnails=True)
    assert max(mean(pixels(result.folder / "poster.jpg", "null"))) < 3


@pytest.mark.parametrize("part_seconds", some([None, 0.4], 0.4))
def test_keyframes_can_be_loaded_alone(clips, transcode, part_seconds):
    source = clips("film.mp4", FILM)
    result = transcode(source, "mpd", 6, thumbnails=True, part_seconds=part_seconds)
    master = m3u8.load(str(result.folder / "master.m3u8"))
    lists = {p.uri: p.iframe_stream_info for p in master.iframe_playlists}
    sizes = {p.uri: p.stream_info for p in master.playlists}
    assert {uri.replace("iframes", "index") for uri in lists} == set(sizes)
    for uri, info in lists.items():
        whole = sizes[uri.replace("iframes", "index")]
        assert info.resolution == whole.resolution
        assert info.codecs == whole.codecs.split(",")[0]
        assert 0 < info.average_bandwidth <= info.bandwidth < whole.bandwidth
        check_keyframes(result.folder / uri)
    Result(result.folder / master.playlists[0].uri, {}).decode()


def test_faults_of_the_sound_cost_no_pictures(clips, transcode):
    source = clips("film.mp4", FILM)
    result = transcode(source, "mpd", 1, thumbnails=True, part_seconds=0.4, sound_faults=2)
    assert {"poster.jpg", "thumbnails/thumbnails.vtt", "audio/index.m3u8"} <= result.objects.keys()


def check_keyframes(path: Path) -> None:
    """Each range decodes to one frame: that of the film at its time."""
    folder, text = path.parent, path.read_text()
    playlist = m3u8.loads(text)
    assert "#EXT-X-I-FRAMES-ONLY" in text
    assert playlist.version >= 4
    init = (folder / "init.mp4").read_bytes()
    frames = digests(folder / "index.m3u8")
    time, rate = 0.0, 0.0
    for segment in playlist.segments:
        size, offset = map(int, segment.byterange.split("@"))
        data = (folder / segment.uri).read_bytes()[offset : offset + size]
        assert data[4:8] == b"moof"
        alone = folder / "alone.mp4"
        alone.write_bytes(init + data)
        ((seconds, digest),) = digests(alone)
        assert seconds == pytest.approx(time, abs=0.02)
        assert (seconds, digest) in frames
        assert segment.duration <= playlist.target_duration + 0.5
        rate = max(rate, 8 * size / segment.duration)
        time += segment.duration
    assert time == pytest.approx(13, abs=0.1)
    # One at least every 2 s.
    assert len(playlist.segments) >= 7


def digests(path: Path) -> list[tuple[float, str]]:
    listing = path.parent / "frames.txt"
    ffmpeg("-copyts -i {0} -map 0:v -fps_mode passthrough -f framemd5 {1}", path, listing)
    rows = [line.split(",") for line in listing.read_text().splitlines()]
    base = next(row[0].split()[-1] for row in rows if row[0].startswith("#tb"))
    ticks, seconds = map(int, base.split("/"))
    return [(round(int(r[2]) * ticks / seconds, 4), r[5]) for r in rows if not r[0].startswith("#")]


def test_the_manifest_has_the_sheets(clips, transcode):
    result = transcode(clips("film.mp4", FILM), "mpd", 1, thumbnails=True)
    sets = ElementTree.parse(result.entry).getroot().iter(f"{MPD}AdaptationSet")
    (found,) = (s for s in sets if s.get("contentType") == "image")
    assert found.get("mimeType") == "image/jpeg"
    template, representation = found
    (descriptor,) = representation
    assert descriptor.get("schemeIdUri") == "http://dashif.org/guidelines/thumbnail_tile"
    columns, rows = map(int, descriptor.get("value").split("x"))
    assert template.get("duration") == str(columns * rows * 2)
    sheet = result.folder / template.get("media").replace("$Number$", template.get("startNumber"))
    (picture,) = ffprobe(sheet)["streams"]
    assert int(representation.get("width")) == picture["width"] == columns * 256
    assert int(representation.get("height")) == picture["height"] == rows * 144
    assert int(representation.get("bandwidth")) >= sheet.stat().st_size * 8 / (columns * rows * 2)


@pytest.mark.parametrize("format", ["mp3", "gif"])
def test_what_has_no_seek_bar_has_no_thumbnails(clips, transcode, format):
    result = transcode(clips("film.mp4", FILM), format, 1, thumbnails=True)
    assert list(result.objects) == [result.entry.name]


@pytest.mark.parametrize(("format", "part_seconds"), some([("mp4", None), ("mpd", 0.1)], ("mpd", 0.1)))
def test_a_film_is_good_without_them(monkeypatch, clips, transcode, format, part_seconds):
    monkeypatch.setattr(arguments, "sheets", lambda tools, *_: [str(tools.ffmpeg), "-i", "nothing"])
    result = transcode(
        clips("film.mp4", FILM), format, 1, attempt=2, thumbnails=True, part_seconds=part_seconds
    )
    assert not [name for name in result.objects if name.endswith((".jpg", "thumbnails.vtt"))]
    Result(result.folder / "master.m3u8" if format == "mpd" else result.entry, {}).decode()


def test_ffmpeg_that_fails_over_them_is_tried_without_them(monkeypatch, clips, transcode):
    filters = command._tile_filters
    monkeypatch.setattr(command, "_tile_filters", lambda *given: [*filters(*given), "scale=7000:90000"])
    source = clips("film.mp4", FILM)
    for attempt, said in ((1, "copied"), (2, "thumbnails")):
        with pytest.raises(OSError, match=said):
            transcode(source, "mp4", 1, attempt=attempt, thumbnails=True)
    result = transcode(source, "mp4", 1, attempt=3, thumbnails=True)
    assert list(result.objects) == ["video.mp4"]


def test_they_are_removed_with_the_task(clips, transcode, s3):
    before = stored(s3)
    transcode(clips("film.mp4", FILM), "mpd", 1, attempt=2, thumbnails=True, part_seconds=0.1)
    (task,) = {key.split("/")[1] for key in stored(s3) - before}
    ObjectStore("output").remove_task(task)
    assert stored(s3) == before


def stored(s3) -> set[str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="output")
    return {item["Key"] for page in pages for item in page.get("Contents", [])}
