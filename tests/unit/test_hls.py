"""Playlists, read back by a parser that is not ours."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import m3u8
from hypothesis import given
from hypothesis import strategies as st

from transcoding.media.inspection.facts import TextFacts
from transcoding.media.packaging.hls import (
    Picture,
    Rendition,
    Segment,
    Subtitles,
    closed,
    finished_segments,
    is_ended,
    master_playlist,
    media_playlist,
)

TIMESCALE = 12_800


@st.composite
def lists_of_segments(draw):
    """Segments one after the other."""
    made, start = [], 0
    for _ in range(draw(st.integers(1, 50))):
        end = start + draw(st.integers(TIMESCALE // 50, int(6.49 * TIMESCALE)))
        made.append(Segment(start, end, draw(st.integers(1, 10**8))))
        start = end
    return made


segments = lists_of_segments()


def seconds(segment):
    return (segment.end - segment.start) / TIMESCALE


def rendition(made):
    return Rendition("video/index.m3u8", "init.mp4", "avc1.64001f", TIMESCALE, tuple(made))


@given(segments)
def test_a_media_playlist_reads_back_as_it_was(made):
    parsed = m3u8.loads(media_playlist(rendition(made)))
    assert parsed.is_endlist
    assert parsed.playlist_type == "vod"
    assert parsed.is_independent_segments
    assert parsed.segment_map[0].uri == "init.mp4"
    assert [s.uri for s in parsed.segments] == [s.name for s in made]
    assert all(abs(a.duration - seconds(b)) < 1e-5 for a, b in zip(parsed.segments, made, strict=True))
    assert all(round(s.duration) <= parsed.target_duration for s in parsed.segments)


@given(segments)
def test_what_was_written_is_what_is_found_finished(made):
    assert finished_segments(media_playlist(rendition(made))) == [s.name for s in made]


@given(segments)
def test_closed_segments_leave_no_gap(made):
    torn = [replace(segment, end=segment.end - 1) for segment in made]
    assert closed(torn)[:-1] == tuple(made[:-1])
    assert closed(torn)[-1] == torn[-1]


@given(segments)
def test_no_full_segment_is_over_the_declared_bandwidth(made):
    made_of = rendition(made)
    full = [s for s in made if seconds(s) >= made_of.target_duration / 2]
    assert all(s.size * 8 / seconds(s) <= made_of.peak_bit_rate for s in full)
    assert made_of.average_bit_rate >= sum(s.size for s in made) * 8 / made_of.duration


def test_a_master_playlist_tells_all_that_a_player_chooses_by():
    video = Rendition("video/index.m3u8", "init.mp4", "avc1.64001f", 1000, (Segment(0, 6000, 600_000),))
    audio = Rendition("audio/index.m3u8", "init.mp4", "mp4a.40.2", 1000, (Segment(0, 6000, 96_000),))
    video = replace(video, picture=Picture(1280, 720, Fraction(30_000, 1001)))
    text = master_playlist([video], replace(audio, channels=2))
    parsed = m3u8.loads(text)
    (variant,) = parsed.playlists
    info = variant.stream_info
    assert variant.uri == "video/index.m3u8"
    assert (info.bandwidth, info.average_bandwidth) == (928_000, 928_000)
    assert info.codecs == "avc1.64001f,mp4a.40.2"
    assert info.resolution == (1280, 720)
    assert info.frame_rate == 29.97
    assert [one.language for one in parsed.media] == ["und"]
    (sound,) = parsed.media
    assert (sound.type, sound.group_id, sound.uri) == ("AUDIO", info.audio, "audio/index.m3u8")
    assert 'CHANNELS="2"' in text


def test_sound_alone_is_the_variant():
    audio = Rendition("audio/index.m3u8", "init.mp4", "mp4a.40.2", 1000, (Segment(0, 6000, 96_000),))
    parsed = m3u8.loads(master_playlist([], replace(audio, channels=1)))
    assert parsed.playlists[0].uri == "audio/index.m3u8"
    assert parsed.playlists[0].stream_info.resolution is None
    assert not parsed.media


def test_an_unfinished_playlist_lists_only_what_is_complete():
    assert finished_segments("#EXTM3U\n#EXTINF:6.000000,\n00000.m4s\n#EXTINF:6.0") == ["00000.m4s"]
    assert finished_segments("") == []


def test_subtitles_have_names_of_their_own_and_one_default():
    text = Rendition("subtitles/0/index.m3u8", "", "", 1000, (Segment(0, 60_000, 3000, "vtt"),))
    facts = [
        TextFacts(1, "subrip", "de", default=True),
        TextFacts(2, "subrip", "de", default=True),
        TextFacts(3, "subrip", "de", "Hörgeschädigte", hearing_impaired=True),
        TextFacts(4, "subrip", forced=True),
    ]
    made = (Segment(0, 6000, 600_000),)
    video = Rendition("video/index.m3u8", "init.mp4", "avc1.64001f", 1000, made)
    video = replace(video, picture=Picture(1280, 720, Fraction(25)))
    subtitles = [Subtitles(f, text, "0.vtt") for f in facts]
    parsed = m3u8.loads(master_playlist([video], None, subtitles))
    assert [m.name for m in parsed.media] == ["German", "German 2", "Hörgeschädigte", "Subtitles"]
    assert [m.default for m in parsed.media] == ["YES", "NO", "NO", "NO"]
    assert [m.autoselect for m in parsed.media] == ["YES", "NO", "YES", "YES"]
    assert [m.forced for m in parsed.media] == ["NO", "NO", "NO", "YES"]
    assert parsed.playlists[0].stream_info.bandwidth == 800_400
    assert "EXT-X-MAP" not in media_playlist(text)


def test_short_segments_count_with_their_neighbours():
    ends = [0, 6 * TIMESCALE, 8 * TIMESCALE, 10 * TIMESCALE]
    sizes = [600_000, 900_000, 900_000]
    made = [Segment(a, b, size) for (a, b), size in zip(pairwise(ends), sizes, strict=True)]
    assert rendition(made).peak_bit_rate == 1_800_000 * 8 / 4


def test_a_playlist_that_is_cut_off_is_told():
    whole = media_playlist(Rendition("video/index.m3u8", "init.mp4", "avc1", 10, (Segment(0, 60, 100),)))
    assert is_ended(whole)
    assert not is_ended(whole[: len(whole) // 2])
    assert not is_ended("")


def picture(name, codec, height, rate):
    made = Rendition(f"{name}/index.m3u8", "init.mp4", codec, 1000, (Segment(0, 6000, rate * 6 // 8),))
    return replace(made, picture=Picture(height * 16 // 9, height, Fraction(25)))


LADDER = [
    picture("h264-1080p", "avc1.640028", 1080, 4_000_000),
    picture("h264-720p", "avc1.64001f", 720, 2_000_000),
    picture("h264-360p", "avc1.64001e", 360, 600_000),
    picture("av1-1080p", "av01.0.08M.08", 1080, 2_000_000),
    picture("av1-720p", "av01.0.05M.08", 720, 1_000_000),
]


def test_players_begin_with_a_moderate_rendition_of_the_first_codec():
    parsed = m3u8.loads(master_playlist(LADDER, None))
    assert [variant.uri.partition("/")[0] for variant in parsed.playlists] == [
        "h264-720p",
        "h264-1080p",
        "h264-360p",
        "av1-1080p",
        "av1-720p",
    ]
    fast = m3u8.loads(master_playlist(LADDER[:1], None))
    assert len(fast.playlists) == 1


def test_each_variant_tells_its_range():
    deep = replace(LADDER[3], picture=Picture(1920, 1080, Fraction(25), "PQ"))
    lines = [line for line in master_playlist([LADDER[0], deep], None).splitlines() if "STREAM-INF" in line]
    assert ["VIDEO-RANGE=SDR" in lines[0], "VIDEO-RANGE=PQ" in lines[1]] == [True, True]
