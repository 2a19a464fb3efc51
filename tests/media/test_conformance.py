"""HLS and DASH results against RFC 8216, Apple's rules, ISO/IEC 23009-1 and DASH-IF's, by their bytes."""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Iterator
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path
from xml.etree import ElementTree

import av
import m3u8
import pytest

from tests.conftest import some
from tests.media.conftest import Result, ffmpeg, ffprobe
from tests.media.mpd import check
from tests.media.test_subtitles import MPD, film
from tests.media.test_transcode import H264, boxes, source

LATE = {"late picture": "-vf trim=start=0.52 -c:a copy", "late sound": "-c:v copy -af atrim=start=0.52"}
#: Three qualities, with scenes that change where no keyframe is forced.
SCENES = "testsrc2=s=1280x720:r=25:d=5.3[0];smptebars=s=1280x720:r=25:d=8.7[1];[0][1]concat"
HDR = (
    "-f lavfi -i testsrc2=s=854x480:r=25:d=9 -f lavfi -i sine=d=9 -vf format=yuv420p10le,setparams=range=tv"
    ":color_primaries=bt2020:color_trc=smpte2084:colorspace=bt2020nc -c:v libx265 -preset ultrafast "
    "-x265-params log-level=error -c:a aac {0}"
)
VARIABLE = "testsrc2=s=360x640:r=60:d=13 -vf select='gt(random(1)\\,0.4)'"
#: A result of each kind: how its source is made, and what is asked for.
KINDS = {
    "encoded": lambda clips: (
        source(clips, "full.mp4", size="640x480", rate="30000/1001", seconds=14),
        {"quality": 1},
    ),
    "copied": lambda clips: (
        source(
            clips, "fits.mp4", seconds=14, options=f"{H264} -b:v 600k -g 64 -bf 2 -c:a aac -ac 2 -b:a 80k"
        ),
        {"quality": 5},
    ),
    "sound": lambda clips: (
        clips("sound.flac", "-f lavfi -i sine=r=44100:d=14 -c:a flac {0}"),
        {"quality": 5},
    ),
    "picture": lambda clips: (source(clips, "silent.mp4", seconds=7, sound=False), {"quality": 1}),
    "subtitles": lambda clips: (film(clips), {"quality": 1}),
    "late picture": lambda clips: (late(clips, "late picture"), {"quality": 1}),
    "late sound": lambda clips: (late(clips, "late sound"), {"quality": 1}),
    "adaptive": lambda clips: (scenes(clips), {"quality": 6}),
    "adaptive in parts": lambda clips: (
        scenes(clips),
        {"quality": 6, "part_seconds": 0.5, "thumbnails": True},
    ),
    "HDR beside SDR, in parts": lambda clips: (
        clips("hdr.mkv", HDR),
        {"quality": 6, "codecs": "h264,hevc", "part_seconds": 0.5},
    ),
    "upright, at a variable rate": lambda clips: (
        clips("variable.mp4", f"-f lavfi -i {VARIABLE} -fps_mode vfr {H264} -g 60 {{0}}"),
        {"quality": 6, "thumbnails": True},
    ),
}

SLOW = {"picture", "late sound", "upright, at a variable rate"}


def scenes(clips) -> Path:
    sound = "-f lavfi -i sine=r=44100:d=14 -ac 2 -c:a aac -metadata:s:a language=eng"
    return clips("scenes.mp4", f"-f lavfi -i {SCENES} {sound} {H264} -preset ultrafast -g 50 {{0}}")


def late(clips, kind: str) -> Path:
    whole = source(clips, "whole.mov", options=f"{H264} -g 250 -bf 3 -c:a pcm_s16le")
    cut = whole.with_name(f"{kind}.mkv")
    ffmpeg(
        f"-i {{0}} {LATE[kind]} {'-c:v libx264 -preset ultrafast' if 'picture' in kind else ''} {{1}}",
        whole,
        cut,
    )
    return cut


@pytest.fixture(scope="module")
def made() -> dict[str, Result]:
    return {}


@pytest.fixture(params=some(list(KINDS), *(kind for kind in KINDS if kind not in SLOW)))
def result(request, clips, transcode, made) -> Result:
    """A `mpd` result, which is an HLS result too."""
    if request.param not in made:
        clip, asked = KINDS[request.param](clips)
        made[request.param] = transcode(clip, "mpd", **asked)
    return made[request.param]


def renditions(result: Result) -> dict[str, m3u8.M3U8]:
    """The media playlists of pictures and sound, by their folders."""
    paths = sorted(path.parent for path in result.folder.glob("*/init.mp4"))
    return {path.name: m3u8.load(str(path / "index.m3u8")) for path in paths}


def pictures(result: Result) -> dict[str, m3u8.M3U8]:
    return {name: playlist for name, playlist in renditions(result).items() if name != "audio"}


def sizes(result: Result, name: str, playlist: m3u8.M3U8) -> list[int]:
    return [8 * (result.folder / name / s.uri).stat().st_size for s in playlist.segments]


def peak(lengths: list[float], bits: list[int], target: float) -> float:
    """The peak segment bit rate as RFC 8216, 4.1, has it: over every run of 0.5 to 1.5 target durations."""
    rates = [
        sum(bits[a:b]) / sum(lengths[a:b])
        for a in range(len(bits))
        for b in range(a + 1, len(bits) + 1)
        if 0.5 * target <= sum(lengths[a:b]) <= 1.5 * target
    ]
    return max(rates, default=sum(bits) / sum(lengths))


def codec_of(stream, told: str) -> str:
    """The codecs parameter that FFmpeg gives; for HEVC, of which it gives none, the one that is told."""
    if "mime_codec_string" not in stream:
        assert (stream["codec_name"], stream["codec_tag_string"], told[:5]) == ("hevc", "hvc1", "hvc1.")
    return stream.get("mime_codec_string", told)


def highest_rate(result: Result, name: str) -> float:
    """The most frames a second of any segment."""
    playlist, rates = renditions(result)[name], []
    init = (result.folder / name / "init.mp4").read_bytes()
    for segment in playlist.segments:
        with av.open(io.BytesIO(init + (result.folder / name / segment.uri).read_bytes())) as container:
            rates.append(sum(bool(p.size) for p in container.demux(video=0)) / segment.duration)
    return max(rates)


def children(data: bytes) -> Iterator[tuple[str, bytes]]:
    at = 0
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        yield name.decode(), data[at + 8 : at + size]
        at += size


def box(data: bytes, path: str) -> bytes:
    for name in path.split("/"):
        data = next(inner for found, inner in children(data) if found == name)
    return data


def span(segment: bytes) -> tuple[int, int]:
    """When a segment begins, and ends in decoding order, in ticks of its track."""
    begin = end = None
    for name, moof in children(segment):
        if name != "moof":
            continue
        tfdt, tfhd = box(moof, "traf/tfdt"), box(moof, "traf/tfhd")
        start = int.from_bytes(tfdt[4:], "big")
        assert end in {None, start}, "fragments of a segment do not join"
        begin = start if begin is None else begin
        end = start + sum(durations(moof, tfhd))
    assert begin is not None
    assert end is not None
    return begin, end


def durations(moof: bytes, tfhd: bytes) -> Iterator[int]:
    """The samples' durations (ISO/IEC 14496-12, 8.8.7 and 8.8.8)."""
    flags, at = int.from_bytes(tfhd[1:4], "big"), 8
    at += 8 * bool(flags & 1) + 4 * bool(flags & 2)
    default = int.from_bytes(tfhd[at : at + 4], "big") if flags & 8 else 0
    for name, trun in children(box(moof, "traf")):
        if name != "trun":
            continue
        flags, count = int.from_bytes(trun[1:4], "big"), int.from_bytes(trun[4:8], "big")
        at = 8 + 4 * bool(flags & 1) + 4 * bool(flags & 4)
        fields = [bit for bit in (0x100, 0x200, 0x400, 0x800) if flags & bit]
        for _ in range(count):
            yield int.from_bytes(trun[at : at + 4], "big") if flags & 0x100 else default
            at += 4 * len(fields)


def test_master_playlist(result):
    master = m3u8.load(str(result.folder / "master.m3u8"))
    made = renditions(result)
    named = [variant.uri.partition("/")[0] for variant in master.playlists]
    assert sorted(named) == sorted(pictures(result) or made)
    for name, variant in zip(named, master.playlists, strict=True):
        info = variant.stream_info
        measured, average, streams = 0.0, 0.0, []
        for part in (name, "audio") if "audio" in made and name != "audio" else (name,):
            playlist = made[part]
            lengths, bits = [s.duration for s in playlist.segments], sizes(result, part, playlist)
            measured += peak(lengths, bits, playlist.target_duration)
            average += sum(bits) / sum(lengths)
            streams += ffprobe(result.folder / part / "index.m3u8")["streams"]
        assert measured <= info.bandwidth <= 1.1 * measured
        assert info.average_bandwidth == pytest.approx(average, rel=0.1)
        assert info.average_bandwidth <= info.bandwidth
        assert info.codecs.split(",") == [
            codec_of(stream, told) for stream, told in zip(streams, info.codecs.split(","), strict=True)
        ]
        for stream in streams:
            if stream["codec_type"] == "video":
                assert info.resolution == (stream["width"], stream["height"])
                assert info.frame_rate == pytest.approx(highest_rate(result, name), abs=0.02)
                # That of a variable rate is the finest that its times would fit.
                assert info.frame_rate <= float(Fraction(stream["r_frame_rate"])) + 0.02
        for kind, group in (("AUDIO", info.audio), ("SUBTITLES", info.subtitles)):
            members = [m for m in master.media if m.type == kind]
            assert {m.group_id for m in members} == ({group} if group else set())
            assert len({m.name for m in members}) == len(members)
            assert sum(m.default == "YES" for m in members) <= 1
            assert all(m.autoselect == "YES" for m in members if m.default == "YES")
            assert all((result.folder / m.uri).exists() for m in members)


def test_variants_are_in_order(result):
    """Apple's rules: a player begins with the first, of at most 2,000 kb/s where there is one."""
    infos = [v.stream_info for v in m3u8.load(str(result.folder / "master.m3u8")).playlists]
    sizes = [(info.resolution, info.codecs.partition(".")[0]) for info in infos]
    assert len(set(sizes)) == len(sizes)
    first, *rest = infos
    for family in {codec for _, codec in sizes}:
        rates = [info.bandwidth for info in rest if info.codecs.startswith(family)]
        assert rates == sorted(rates, reverse=True)
    assert first.average_bandwidth <= 2_200_000 or first.bandwidth == min(info.bandwidth for info in infos)


def test_pictures_are_aligned(result):
    """So that a player may change at any segment (RFC 8216, 6.2.4; ISO/IEC 23009-1, 5.3.3.2)."""
    spans, keys = [], []
    for name, playlist in pictures(result).items():
        packets = ffprobe(result.folder / name / "index.m3u8", "-show_packets")["packets"]
        keys.append({p["pts_time"] for p in packets if "K" in p["flags"]})
        segments = [(result.folder / name / s.uri).read_bytes() for s in playlist.segments]
        spans.append(
            [(s.uri, s.duration, span(data)) for s, data in zip(playlist.segments, segments, strict=True)]
        )
    assert all(one == other for one, other in pairwise(spans))
    assert all(one == other for one, other in pairwise(keys))


def test_media_playlists(result):
    for path in result.folder.rglob("index.m3u8"):
        playlist = m3u8.load(str(path))
        assert (playlist.version, playlist.media_sequence, playlist.playlist_type) == (7, 0, "vod")
        assert playlist.is_endlist
        assert playlist.is_independent_segments
        assert not any(s.discontinuity for s in playlist.segments)
        assert all(int(s.duration + 0.5) <= playlist.target_duration for s in playlist.segments)
        assert {s.uri for s in playlist.segments} == {
            p.name for p in path.parent.iterdir() if p.suffix in {".m4s", ".vtt"}
        }
    assert len({playlist.target_duration for playlist in renditions(result).values()}) == 1


def test_segments_join_and_last_as_long_as_told(result):
    for name, playlist in renditions(result).items():
        segments = [(result.folder / name / s.uri) for s in playlist.segments]
        assert boxes(result.folder / name / "init.mp4") == ["ftyp", "moov"]
        assert all(re.fullmatch("styp(sidx)?(moofmdat)+", "".join(boxes(s))) for s in segments)
        spans = [span(s.read_bytes()) for s in segments]
        assert spans[0][0] == 0
        assert all(a[1] == b[0] for a, b in pairwise(spans))
        frame = 1024 / 44_100 if name == "audio" else 1 / 24
        packets = ffprobe(result.folder / name / "index.m3u8", "-show_packets")["packets"]
        end = max(float(p["pts_time"]) + float(p["duration_time"]) for p in packets)
        # Sound has the encoder's delay before its beginning.
        slack = 2 * frame if name == "audio" else frame
        assert sum(s.duration for s in playlist.segments) == pytest.approx(end, abs=slack)
        starts = [sum(s.duration for s in playlist.segments[:n]) for n in range(1, len(segments))]
        keys = [float(p["pts_time"]) for p in packets if "K" in p["flags"]]
        assert all(min(abs(key - start) for key in keys) < frame / 2 for start in starts)


def test_each_segment_decodes_alone(result):
    for name, playlist in renditions(result).items():
        init = (result.folder / name / "init.mp4").read_bytes()
        for segment in playlist.segments:
            alone = io.BytesIO(init + (result.folder / name / segment.uri).read_bytes())
            with av.open(alone) as container:
                (stream,) = container.streams
                packets = [p for p in container.demux(stream) if p.size]
                assert packets[0].is_keyframe
                frames = [f for p in packets for f in p.decode()] + list(stream.decode(None))
                if name != "audio":
                    assert len(frames) == len(packets)
                    assert not any(f.is_corrupt for f in frames)
    # Of several pictures, FFmpeg begins segments that it leaves, and takes what it has of them for damaged.
    playlists = [f"{name}/index.m3u8" for name in renditions(result)]
    for playlist in playlists if len(pictures(result)) > 1 else ["master.m3u8"]:
        Result(result.folder / playlist, {}).decode()


def test_manifest(result):
    manifest = ElementTree.parse(result.entry).getroot()
    (period,) = manifest.findall(f"{MPD}Period")
    told = float(manifest.get("mediaPresentationDuration")[2:-1])
    playlists = renditions(result)
    assert told == pytest.approx(
        max(sum(s.duration for s in p.segments) for p in playlists.values()), abs=0.01
    )
    seen = []
    for adaptation_set in period:
        kind = adaptation_set.get("contentType")
        for representation in adaptation_set.iter(f"{MPD}Representation"):
            seen.append(representation.get("id"))
            if kind == "text":
                text = result.folder / representation.findtext(f"{MPD}BaseURL")
                assert text.read_text().startswith("WEBVTT\n\n")
                continue
            if kind == "image":
                template = adaptation_set.find(f"{MPD}SegmentTemplate")
                for number in range(1, math.ceil(told / int(template.get("duration"))) + 1):
                    assert (result.folder / template.get("media").replace("$Number$", str(number))).exists()
                continue
            name = representation.get("id")
            assert (kind == "audio") == (name == "audio")
            stream = ffprobe(result.folder / name / "index.m3u8")["streams"][0]
            assert representation.get("codecs") == codec_of(stream, representation.get("codecs"))
            template = representation.find(f"{MPD}SegmentTemplate")
            assert (result.folder / template.get("initialization")).exists()
            entries = list(template.iter(f"{MPD}S"))
            assert [e.get("t") for e in entries] == ["0"] + [None] * (len(entries) - 1)
            ticks = [int(e.get("d")) for e in entries for _ in range(int(e.get("r", "0")) + 1)]
            lengths = [t / int(template.get("timescale")) for t in ticks]
            assert lengths == pytest.approx([s.duration for s in playlists[name].segments], abs=1e-5)
            for start in accumulate(ticks[:-1], initial=0):
                assert (result.folder / template.get("media").replace("$Time$", str(start))).exists()
    assert len(set(seen)) == len(seen)
    others = ("subtitles", "thumbnails")
    assert sorted(s for s in seen if not s.startswith(others)) == sorted(playlists)


def test_manifest_is_well_formed(result):
    check(ElementTree.parse(result.entry).getroot())


def test_a_buffer_of_the_told_time_never_runs_dry_at_the_told_bandwidth(result):
    """What @bandwidth and @minBufferTime mean (ISO/IEC 23009-1, 5.3.5.2), from each segment on."""
    manifest = ElementTree.parse(result.entry).getroot()
    buffered = float(manifest.get("minBufferTime")[2:-1])
    playlists = renditions(result)
    for representation in manifest.iter(f"{MPD}Representation"):
        name, bandwidth = representation.get("id"), int(representation.get("bandwidth"))
        assert bandwidth > 0
        if name not in playlists:
            continue
        bits = sizes(result, name, playlists[name])
        lengths = [s.duration for s in playlists[name].segments]
        for first in range(len(bits)):
            for last in range(first, len(bits)):
                loaded = sum(bits[first : last + 1]) / bandwidth
                assert loaded <= buffered + sum(lengths[first:last])


def test_sets_of_the_manifest_tell_what_dash_if_asks_for(result):
    """DASH-IF interoperability points 4.3, 3.2.4 and 6.2; a set's representations have the same timeline."""
    manifest = ElementTree.parse(result.entry).getroot()
    families = []
    for adaptation_set in manifest.iter(f"{MPD}AdaptationSet"):
        kind = adaptation_set.get("contentType")
        representations = list(adaptation_set.iter(f"{MPD}Representation"))
        if kind in {"text", "image"}:
            continue
        assert adaptation_set.get("segmentAlignment") == "true"
        assert adaptation_set.get("startWithSAP") == "1"
        assert adaptation_set.find(f"{MPD}Role").get("value") == "main"
        timelines = [
            [entry.attrib for entry in representation.iter(f"{MPD}S")] for representation in representations
        ]
        scales = {r.find(f"{MPD}SegmentTemplate").get("timescale") for r in representations}
        assert len(scales) == 1
        assert all(timeline == timelines[0] for timeline in timelines)
        families.append({r.get("codecs").partition(".")[0] for r in representations})
        streams = [ffprobe(result.folder / r.get("id") / "index.m3u8")["streams"][0] for r in representations]
        if kind == "audio":
            (representation,), (stream,) = representations, streams
            assert adaptation_set.get("lang")
            assert representation.get("audioSamplingRate") == stream["sample_rate"]
            channels = representation.find(f"{MPD}AudioChannelConfiguration").get("value")
            assert channels == str(stream["channels"])
            continue
        sizes = [(s["width"], s["height"]) for s in streams]
        assert [(int(r.get("width")), int(r.get("height"))) for r in representations] == sizes
        assert sizes == sorted(sizes, reverse=True)
        assert (int(adaptation_set.get("maxWidth")), int(adaptation_set.get("maxHeight"))) == sizes[0]
        across, down = map(int, adaptation_set.get("par").split(":"))
        for representation, (width, height) in zip(representations, sizes, strict=True):
            assert width * down == pytest.approx(height * across, abs=2 * max(across, down))
            assert representation.get("sar") == "1:1"
            assert representation.get("frameRate") == adaptation_set.get("maxFrameRate")
            assert Fraction(representation.get("frameRate")) == pytest.approx(
                highest_rate(result, representation.get("id")), abs=0.02
            )
    assert all(len(family) == 1 for family in families)
    assert len({next(iter(family)) for family in families}) == len(families)
