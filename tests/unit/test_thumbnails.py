"""How many thumbnails a film has, which frame each shows, and where players find it."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from transcoding.media.packaging.thumbnails import Sheets, grid, sheet_name, webvtt
from transcoding.media.planning.thumbnails import (
    MOST_TILES,
    interval,
    poster_size,
    shown_tiles,
    tile_number,
    tile_size,
)

DURATIONS = st.floats(0.04, 48 * 3600)


def test_tiles_are_two_seconds_apart_until_there_are_a_thousand():
    assert [interval(seconds) for seconds in (None, 1, 1999, 2000, 2001, 3 * 3600)] == [2, 2, 2, 2, 3, 11]


@given(DURATIONS)
def test_a_film_has_at_most_a_thousand_tiles_to_its_end(duration):
    seconds = interval(duration)
    assert seconds >= 2
    shown_for, shown = shown_tiles([0.0], seconds, duration)
    assert shown_for == seconds
    assert 1 <= len(shown) <= MOST_TILES
    assert (len(shown) - 1) * seconds < duration <= len(shown) * seconds + 0.01


@given(DURATIONS, st.floats(0.1, 100))
def test_one_that_turns_out_longer_has_as_many(duration, times):
    seconds, longer = interval(duration), duration * times
    made = [n * seconds for n in range(int(longer / seconds) + 1)][:20_000]
    shown_for, shown = shown_tiles(made, seconds, longer)
    assert len(shown) <= MOST_TILES
    assert (len(shown) - 1) * shown_for < longer <= len(shown) * shown_for + 0.01
    for number, index in enumerate(shown[: int(made[-1] / shown_for)]):
        assert made[index] == number * shown_for


def test_a_tile_is_the_first_frame_from_its_time_on():
    made = [0.02, 2.0, 4.03, 5.9985]
    assert shown_tiles(made, 2, 8.0) == (2, [0, 1, 2, 3])
    assert [tile_number(time, 2) for time in (1.99, 1.9986, 2.0, 3.99)] == [0, 1, 1, 1]


def test_where_no_frame_is_new_the_one_before_is_shown():
    assert shown_tiles([0.0, 6.0], 2, 10.0) == (2, [0, 0, 0, 1, 1])
    assert shown_tiles([5.0], 2, 10.0) == (2, [0] * 5)


def test_of_two_frames_for_a_tile_the_first_is_shown():
    # A part that starts in the middle makes one, too.
    assert shown_tiles([0.0, 2.0, 3.1, 4.0], 2, 6.0) == (2, [0, 1, 3])


@given(st.integers(2, 8192), st.integers(2, 8192))
def test_tiles_and_posters_are_even_and_no_larger_than_the_picture(width, height):
    width, height = width // 2 * 2, height // 2 * 2
    for size, longest in ((tile_size(width, height), 256), (poster_size(width, height), 1280)):
        assert max(size) <= longest
        assert size[0] <= width
        assert size[1] <= height
        assert not size[0] % 2
        assert not size[1] % 2
    assert tile_size(1920, 1080) == (256, 144)
    assert tile_size(1080, 1920) == (144, 256)
    assert poster_size(1080, 1920) == (720, 1280)


CUE = re.compile(
    r"(\d\d+):(\d\d):(\d\d\.\d{3}) --> (\d\d+):(\d\d):(\d\d\.\d{3})\n(\S+)#xywh=(\d+),(\d+),(\d+),(\d+)\n"
)


@given(DURATIONS)
def test_cues_are_in_order_cover_the_film_and_lie_in_their_sheets(duration):
    seconds = interval(duration)
    _, shown = shown_tiles([0.0], seconds, duration)
    sheets = Sheets(len(shown), seconds, duration, 256, 144, 1)
    text = webvtt(sheets)
    assert text.startswith("WEBVTT\n\n")
    end, places = 0.0, set()
    for cue in CUE.finditer(text):
        h1, m1, s1, h2, m2, s2 = map(float, cue.groups()[:6])
        assert h1 * 3600 + m1 * 60 + s1 == end
        assert h2 * 3600 + m2 * 60 + s2 > end
        end = h2 * 3600 + m2 * 60 + s2
        left, top, width, height = map(int, cue.groups()[7:])
        assert left + width <= sheets.columns * 256
        assert top + height <= sheets.rows * 144
        places.add((cue[7], left, top))
    assert abs(end - duration) < 0.002
    assert len(places) == len(shown)
    assert {name for name, *_ in places} == {sheet_name(n) for n in range(1, sheets.sheets + 1)}


def test_a_sheet_is_no_larger_than_its_tiles():
    assert [grid(count) for count in (1, 3, 4, 5, 16, 17, 1000)] == [
        *((1, 1), (3, 1), (4, 1), (4, 2)),
        *((4, 4), (4, 4), (4, 4)),
    ]
