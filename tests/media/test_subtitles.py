"""Subtitles and languages: what the source says is what a viewer reads, when the picture shows it."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import m3u8
import pytest

from tests.media.conftest import Result, ffmpeg, ffprobe
from transcoding.media.packaging.subtitles import SEGMENT_SECONDS

MPD = "{urn:mpeg:dash:schema:mpd:2011}"
SEGMENTED = pytest.mark.parametrize("format", ["m3u8", "mpd"])
FILES = pytest.mark.parametrize("format", ["mp4", "mov", "mkv"])
H264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 50"

GERMAN = """1
00:00:00,500 --> 00:00:01,500
Hallo <i>Welt</i> & 1 < 2

2
00:00:02,000 --> 00:00:09,000
bleibt stehen
"""
ENGLISH = """1
00:00:00,500 --> 00:00:01,000
[door slams]

2
00:00:05,000 --> 00:00:06,000
after the end
"""


def film(clips, seconds: float = 3, german: str = GERMAN, codec: str = "subrip") -> Path:
    """A Matroska film with sound in French, subtitles in German, and some in English for the deaf."""
    bare = clips(
        f"bare-{seconds}.mkv",
        f"-f lavfi -i testsrc2=s=320x180:r=25:d={seconds} -f lavfi -i sine=d={seconds} {H264} -c:a aac {{0}}",
    )
    folder = bare.parent / f"film-{abs(hash((german, codec)))}"
    if not folder.exists():
        folder.mkdir()
        (folder / "de.srt").write_text(german)
        (folder / "en.srt").write_text(ENGLISH)
        ffmpeg(
            f"-i {{0}} -i {{1}} -i {{2}} -map 0 -map 1 -map 2 -c copy -c:s {codec} "
            "-metadata:s:a language=fre -metadata:s:a title=Original "
            "-metadata:s:s:0 language=ger -metadata:s:s:0 'title=Deutsch \"neu\"' -disposition:s:0 default "
            "-metadata:s:s:1 language=eng -disposition:s:1 hearing_impaired+forced {3}",
            bare,
            folder / "de.srt",
            folder / "en.srt",
            folder / "film.mkv",
        )
    return folder / "film.mkv"


def cues(path: Path) -> list[tuple[float, float, str]]:
    """The cues of a WebVTT file: start and end in seconds, and the text."""
    found = []
    for block in path.read_text().split("\n\n")[1:]:
        timing, text = block.split("\n", 1)
        start, end = (
            sum(float(part) * 60**n for n, part in enumerate(reversed(clock.split(":"))))
            for clock in timing.split(" ")[:3:2]
        )
        found.append((start, end, text.strip()))
    return found


def shown(path: Path) -> list[tuple[float, float, str]]:
    """The subtitles of a file's first stream of them, tags left out."""
    ffmpeg("-i {0} -map 0:s:0 -f webvtt {1}", path, path.with_suffix(".vtt"))
    timed = [
        line if "-->" not in line else re.sub(r"(^|> )(?=\d\d:\d\d\.)", r"\g<1>00:", line)
        for line in path.with_suffix(".vtt").read_text().splitlines()
    ]
    path.with_suffix(".vtt").write_text("\n".join(timed) + "\n")
    return [(a, b, re.sub("<[^>]*>", "", text)) for a, b, text in cues(path.with_suffix(".vtt"))]


@SEGMENTED
def test_hls_renditions(clips, transcode, format):
    result = transcode(film(clips), format, 1)
    master = m3u8.load(str(result.folder / "master.m3u8"))
    sound, german, english = master.media
    assert (sound.type, sound.language, sound.name) == ("AUDIO", "fr", "Original")
    assert (german.language, german.name, german.default, german.forced) == (
        "de",
        "Deutsch 'neu'",
        "YES",
        "NO",
    )
    assert (english.language, english.name, english.default) == ("en", "English", "NO")
    assert (english.forced, english.autoselect) == ("YES", "YES")
    assert "transcribes-spoken-dialog" in english.characteristics
    assert master.playlists[0].stream_info.subtitles == german.group_id == english.group_id
    assert "wvtt" not in master.playlists[0].stream_info.codecs
    playlist = m3u8.load(str(result.folder / german.uri))
    media = m3u8.load(str(result.folder / "video/index.m3u8"))
    assert playlist.is_endlist
    assert sum(s.duration for s in playlist.segments) == pytest.approx(
        sum(s.duration for s in media.segments), abs=0.1
    )
    (segment,) = playlist.segments
    text = (result.folder / german.uri).with_name(segment.uri)
    assert text.read_text().startswith("WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:0,LOCAL:00:00:00.000\n\n")
    assert cues(text) == [
        (0.5, 1.5, "Hallo <i>Welt</i> &amp; 1 &lt; 2"),
        (2.0, pytest.approx(3.0, abs=0.05), "bleibt stehen"),
    ]
    types = {o["ContentType"] for name, o in result.objects.items() if name.endswith(".vtt")}
    assert types == {"text/vtt"}
    # FFmpeg reads no manifest with text beside it.
    Result(result.folder / "master.m3u8", {}).decode()


def test_dash_has_each_in_one_file(clips, transcode):
    result = transcode(film(clips), "mpd", 1)
    manifest = ElementTree.parse(result.entry)
    video, sound, german, english = manifest.iter(f"{MPD}AdaptationSet")
    assert [s.get("lang") for s in (video, sound, german, english)] == [None, "fr", "de", "en"]
    assert [s.findtext(f"{MPD}Label") for s in (sound, german, english)] == [
        "Original",
        "Deutsch 'neu'",
        None,
    ]
    assert {s.get("mimeType") for s in (german, english)} == {"text/vtt"}
    roles = [[r.get("value") for r in s.iter(f"{MPD}Role")] for s in (sound, german, english)]
    assert roles == [["main"], ["subtitle", "main"], ["forced-subtitle"]]
    (end,) = cues(result.folder / english.findtext(f".//{MPD}BaseURL"))
    assert end == (0.5, 1.0, "[door slams]")


@FILES
@pytest.mark.parametrize("codec", ["subrip", "ass", "webvtt"])
def test_files_keep_them(clips, transcode, format, codec):
    result = transcode(film(clips, codec=codec), format, 1)
    report = ffprobe(result.entry)
    _, sound, german, english = report["streams"]
    kept = codec if format == "mkv" else "mov_text"
    assert [s["codec_name"] for s in (german, english)] == [kept, kept]
    codes = ["fra", "ger" if format == "mov" else "deu", "eng"]
    assert [s["tags"]["language"] for s in (sound, german, english)] == codes
    names = [s["tags"].get("title") or s["tags"].get("name") for s in (sound, german)]
    assert names == ["Original", "Deutsch 'neu'"]
    assert [s["disposition"]["default"] for s in (german, english)] == [1, 0]
    assert float(report["format"]["duration"]) == pytest.approx(3.0, abs=0.05)
    first, last = shown(result.entry)
    assert first[:2] == pytest.approx((0.5, 1.5), abs=0.01)
    assert first[2].startswith("Hallo Welt & 1")
    assert last[:2] == pytest.approx((2.0, 3.0), abs=0.05)
    result.decode()


@pytest.mark.parametrize("format", ["ts", "flv", "webm", "m4a", "mp3", "ogg", "wav"])
def test_where_text_has_no_place_it_is_left_out(clips, transcode, format):
    result = transcode(film(clips), format, 1)
    assert "subtitle" not in result.streams()
    if format in {"ts", "webm", "m4a", "ogg"}:
        languages = {s.get("tags", {}).get("language") for s in ffprobe(result.entry)["streams"]}
        assert languages & {"fra", "fre"}
    result.decode()


@pytest.mark.parametrize("format", ["m3u8", "mp4", "mkv"])
@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_text_stays_with_the_picture(clips, transcode, format, container):
    # Picture and sound begin at 1.2 s, after a cue that nobody sees.
    clip = film(clips, seconds=30)
    moved, text = clip.with_name(f"moved.{container}"), clip.with_name("moved.srt")
    text.write_text(
        "1\n00:00:00,100 --> 00:00:00,500\nbefore\n\n2\n00:00:01,700 --> 00:00:02,200\nhalf a second in\n"
    )
    codec = {"mkv": "copy", "mp4": "mov_text"}[container]
    inputs = "-itsoffset 1.2 -i {0} -i {1} -map 0:v -map 0:a -map 1"
    ffmpeg(f"{inputs} -c copy -c:s {codec} {{2}}", clip, text, moved)
    result = transcode(moved, format, 1)
    segment = result.folder / "subtitles/0/0.vtt"
    found = cues(segment) if format == "m3u8" else shown(result.entry)
    assert found == [(pytest.approx(0.5, abs=0.05), pytest.approx(1.0, abs=0.05), "half a second in")]


def test_sound_alone_has_subtitles_too(clips, transcode):
    clip = film(clips)
    song = clip.with_name("song.mkv")
    ffmpeg("-i {0} -map 0:a -map 0:s -c copy {1}", clip, song)
    result = transcode(song, "m3u8", 1)
    (variant,) = m3u8.load(str(result.entry)).playlists
    assert variant.uri == "audio/index.m3u8"
    assert variant.stream_info.subtitles
    assert cues(result.folder / "subtitles/0/0.vtt")[0][0] == 0.5


def test_a_picture_alone_has_subtitles_too(clips, transcode):
    clip = film(clips)
    mute = clip.with_name("mute.mkv")
    ffmpeg("-i {0} -map 0:v -map 0:s -c copy {1}", clip, mute)
    assert cues(transcode(mute, "m3u8", 5).folder / "subtitles/0/0.vtt")[0][0] == 0.5


def test_a_cue_over_a_boundary_is_in_both_segments(clips, transcode):
    text = "1\n00:00:58,000 --> 00:01:02,000\nover it\n\n2\n00:01:03,000 --> 00:01:04,000\nbehind\n"
    result = transcode(film(clips, seconds=65, german=text), "m3u8", 1)
    playlist = m3u8.load(str(result.folder / "subtitles/0/index.m3u8"))
    assert playlist.target_duration == SEGMENT_SECONDS
    first, second = (cues(result.folder / "subtitles/0" / s.uri) for s in playlist.segments)
    assert first == [(58.0, 62.0, "over it")]
    assert second == [(58.0, 62.0, "over it"), (63.0, 64.0, "behind")]


@pytest.mark.parametrize("format", ["m3u8", "mp4", "mkv"])
def test_hostile_text_harms_nobody(clips, transcode, format):
    blocks = [
        "a --> b",
        "1 < 2 <script>alert(1)</script>",
        "00:00:00.000 --> 99:00:00.000 line:0",
        "x" * 3_000_000,
        "caf\udce9",
        "good",
    ]
    text = "".join(
        f"{n}\n00:00:00,{n}00 --> 00:00:00,{n}50\n{block}\n\n" for n, block in enumerate(blocks, 1)
    )
    clip = film(clips)
    srt, bad = clip.with_name("bad.srt"), clip.with_name("bad.mkv")
    srt.write_bytes(text.encode(errors="surrogateescape"))
    ffmpeg("-i {0} -sub_charenc_mode ignore -i {1} -map 0:v -map 0:a -map 1 -c copy {2}", clip, srt, bad)
    result = transcode(bad, format, 1)
    if format == "m3u8":
        found = [text for _, _, text in cues(result.folder / "subtitles/0/0.vtt")]
        assert found[0] == "a --&gt; b"
        assert found[1] == "1 &lt; 2 alert(1)"
        assert found[-1] == "good"
        assert found[-2] == "caf\ufffd"
        assert (result.folder / "subtitles/0/0.vtt").stat().st_size < 5000
    else:
        assert ffprobe(result.entry)["streams"][-1]["codec_type"] == "subtitle"
        assert float(ffprobe(result.entry)["format"]["duration"]) == pytest.approx(3.0, abs=0.05)


def test_subtitles_without_text_are_left_out(clips, transcode):
    late = "1\n00:00:50,000 --> 00:00:51,000\nnever seen\n"
    result = transcode(film(clips, german=late), "m3u8", 1)
    media = m3u8.load(str(result.entry)).media
    assert [m.language for m in media if m.type == "SUBTITLES"] == ["en"]


def test_what_fails_over_its_text_succeeds_without(clips, transcode):
    result = transcode(film(clips), "mp4", 1, attempt=3)
    assert set(result.streams()) == {"video", "audio"}


@pytest.mark.parametrize("format", ["m3u8", "mp4", "mkv"])
@pytest.mark.parametrize(("faults", "texts"), [(1, 1), (2, 0)])
def test_a_silent_film_whose_text_is_given_up_succeeds(clips, transcode, format, faults, texts):
    talking = film(clips, 13)
    silent = clips("silent.mkv", f"-i {talking} -map 0:v -map 0:s:0 -c copy {{0}}")
    result = transcode(silent, format, 1, attempt=2, part_seconds=0.01, sound_faults=faults)
    result.decode()
    if format == "m3u8":
        assert len(m3u8.load(str(result.folder / "master.m3u8")).media) == texts
        assert any(name.startswith("subtitles/") for name in result.objects) is bool(texts)
    else:
        kinds = [stream["codec_type"] for stream in ffprobe(result.entry)["streams"]]
        assert kinds == ["video"] + ["subtitle"] * texts
