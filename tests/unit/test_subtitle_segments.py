"""WebVTT from FFmpeg becomes segments that hold every cue, and nothing that is not text."""

import re

from hypothesis import given
from hypothesis import strategies as st

from transcoding.media.packaging import subtitles
from transcoding.media.packaging.subtitles import MAX_CUE, SEGMENT_SECONDS, Cue

HEADER = "WEBVTT\n\n"


def clock(ms: int) -> str:
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"


def vtt(*cues: tuple[int, int, str]) -> bytes:
    return (HEADER + "".join(f"{clock(a)} --> {clock(b)}\n{text}\n\n" for a, b, text in cues)).encode()


times = st.integers(0, 400_000)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=30)


@given(st.lists(st.tuples(times, st.integers(1, 200_000), texts), max_size=20), st.floats(1, 400))
def test_every_cue_is_in_the_segments_that_show_it_and_in_no_other(made, duration):
    cues = subtitles.read(vtt(*((start, start + length, text) for start, length, text in made)), duration)
    segments = subtitles.segments(cues, duration)
    assert abs(sum(end - begin for begin, end, _ in segments) - duration * 1000) <= 1
    assert all(end - begin <= SEGMENT_SECONDS * 1000 for begin, end, _ in segments)
    for n, (begin, _, text) in enumerate(segments):
        assert begin == n * SEGMENT_SECONDS * 1000
        end = begin + SEGMENT_SECONDS * 1000
        due = [cue for cue in cues if cue.start < end and cue.end > begin]
        assert text.count("\n\n") == len(due)
        assert all(f"{clock(cue.start)} --> {clock(cue.end)}" in text for cue in due)


@given(st.text(max_size=300), st.integers(0, 3))
def test_whatever_a_cue_says_it_stays_a_cue(text, lines):
    cues = subtitles.read(vtt((1000, 2000, text + "\n" * lines + text)), 10)
    for cue in cues:
        assert "-->" not in cue.text
        assert "\n\n" not in cue.text
        assert "\0" not in cue.text
        left = re.sub(r"</?(?:[biu]|c|v|lang|ruby|rt)\b[^<>]*>", "", cue.text)
        assert "<" not in left
    again = subtitles.read(subtitles.whole(cues).encode(), 10)
    assert again == cues


@given(st.binary(max_size=2000))
def test_any_bytes_are_read(data):
    subtitles.read(data, 10)
    subtitles.read(vtt((0, 1000, "a")) + data, 10)


def test_tags_and_entities_stay_and_all_else_is_escaped():
    (cue,) = subtitles.read(vtt((0, 1000, "<i>a</i> <v Ann>&amp; b</v> <script> & --> <c.x.y>z</c>")), 10)
    assert cue.text == "<i>a</i> <v Ann>&amp; b</v> &lt;script&gt; &amp; --&gt; <c.x.y>z</c>"


def test_only_settings_that_need_nothing_else_stay():
    data = (HEADER + "00:01.000 --> 00:02.000 line:0 align:start region:x onload:y\na\n").encode()
    assert subtitles.read(data, 10) == [Cue(1000, 2000, "a", "line:0 align:start")]


def test_cues_end_with_the_media_and_open_ones_with_the_next():
    open_end = 2**32
    made = subtitles.read(
        vtt(
            (1000, 1000 + open_end, "a"),
            (3000, 3000 + open_end, "b"),
            (9500, 12_000, "c"),
            (10_000, 11_000, "d"),
        ),
        10,
    )
    assert [(c.start, c.end, c.text) for c in made] == [
        (1000, 3000, "a"),
        (3000, 9500, "b"),
        (9500, 10_000, "c"),
    ]


def test_shapes_are_not_text():
    assert subtitles.read(
        vtt((0, 1000, "m 0 0 l 100 0 100 100.5 b 1 2 3"), (0, 1000, "m 3 is a way")), 10
    ) == [Cue(0, 1000, "m 3 is a way")]


def test_a_hostile_stream_is_bounded():
    endless = [(0, 400_000_000, "x" * 5000)] * 300
    cues = subtitles.read(vtt(*endless), 36_000)
    assert all(len(cue.text) == MAX_CUE for cue in cues)
    segments = subtitles.segments(cues, 36_000)
    assert len(segments) == 600
    assert max(len(text) for _, _, text in segments) < 110_000
