"""Where sources are cut into parts."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_plan import SOURCE
from transcoding.media.inspection.facts import EntryPoint
from transcoding.media.planning.cuts import (
    MOST_PARTS,
    cut,
    entry_point,
    is_large_copy,
    needed_entry_points,
    part_length,
    segment_seconds,
    span_seconds,
)
from transcoding.media.planning.formats import FORMATS
from transcoding.media.planning.plan import plan

HLS = FORMATS["m3u8"]
BASE = Fraction(1, 12_800)


def source(seconds, *, keyframes=(), start=0.0, **changes):
    """A source of so many seconds with keyframes at these seconds of its timeline."""
    points = tuple(EntryPoint(round(time / BASE), round(time / BASE)) for time in keyframes)
    size = {"width": 1920, "height": 1080, "frame_rate": Fraction(30)} | changes
    video = replace(SOURCE.video, duration=seconds, start=start, time_base=BASE, **size)
    audio = replace(SOURCE.audio, start=start, duration=seconds)
    return replace(SOURCE, duration=seconds, video=video, audio=audio, entry_points=points)


def plan_of(facts, target="m3u8", quality=4):
    return plan(facts, FORMATS[target], quality, may_copy=False)


def every(seconds, step):
    return [step * n for n in range(int(seconds / step))]


@st.composite
def sources(draw):
    seconds = draw(st.floats(1, 4_000))
    start = draw(st.sampled_from([0.0, 1.4, 1000.0]))
    step = draw(st.sampled_from([4, 10, 300, 1e9]))
    keyframes = [start + time for time in every(seconds, step)] or [start]
    return source(seconds, keyframes=keyframes, start=start)


@given(sources(), st.floats(6, 600), st.integers(1, 1000))
def test_parts_are_all_of_the_source_and_overlap_nowhere(facts, length, workers):
    work = plan_of(facts)
    spans = cut(facts, work, length, workers)
    assert spans[0].start == round(facts.video.start / BASE)
    assert spans[-1].end is None
    assert all(a.end == b.start and a.start < b.start for a, b in pairwise(spans))
    assert [span.first for span in spans] == [True] + [False] * (len(spans) - 1)
    assert sum(span_seconds(work, span) for span in spans) == pytest.approx(facts.duration, abs=0.01)


@given(sources(), st.floats(6, 600))
def test_every_part_can_be_decoded_from_a_keyframe_at_or_before_its_start(facts, length):
    for span in cut(facts, plan_of(facts), length, 1):
        point = entry_point(facts, span.start)
        assert point is None or point.complete_from <= span.start


def test_the_first_frame_is_not_sought():
    facts = source(60.0, keyframes=[1.4, 11.4], start=1.4)
    assert entry_point(facts, round(5 / BASE)) is None
    assert entry_point(facts, round(20 / BASE)) == facts.entry_points[1]


def test_an_interlaced_part_is_decoded_from_before_its_first_frame():
    facts = source(60.0, keyframes=every(60, 1 / 25), frame_rate=Fraction(25))
    start = round(20 / BASE)
    assert entry_point(facts, start).complete_from == start
    interlaced = replace(facts, video=replace(facts.video, interlaced=True))
    assert entry_point(interlaced, start).complete_from == round((20 - 2 / 25) / BASE)


@given(sources(), st.floats(6, 600), st.integers(1, 100))
def test_each_part_begins_reading_where_it_would_with_all_entry_points(facts, length, workers):
    spans = cut(facts, plan_of(facts), length, workers)
    needed = needed_entry_points(facts, spans)
    few = replace(facts, entry_points=needed)
    for span in spans:
        assert entry_point(few, span.start) == entry_point(facts, span.start)
    assert set(needed) <= set(facts.entry_points)
    assert len(needed) <= 8 * len(spans)


def test_the_rest_of_a_part_begins_reading_near_its_start():
    facts = source(10_800.0, keyframes=every(10_800, 1 / 25))
    spans = cut(facts, plan_of(facts), 300, 1)
    few = replace(facts, entry_points=needed_entry_points(facts, spans))
    for span in spans[:-1]:
        at = span.start + (span.end - span.start) * 9 // 10
        run_up = at - entry_point(few, at).complete_from
        assert run_up <= (span.end - span.start) / 8 + 1 / 25 / BASE


@given(sources(), st.floats(6, 600), st.integers(1, 1000))
def test_segments_of_a_part_are_alike_and_not_too_long(facts, length, workers):
    work = plan_of(facts)
    for span in cut(facts, work, length, workers):
        whole, each = span_seconds(work, span), segment_seconds(work, span)
        assert each <= work.segment_seconds
        assert whole == 0 or each * 2 > min(whole, work.segment_seconds)


def test_cuts_are_at_keyframes_where_they_are_near():
    facts = source(600.0, keyframes=every(600, 7))
    starts = [span.start for span in cut(facts, plan_of(facts), 30, 1)]
    keyframes = {point.complete_from for point in facts.entry_points}
    assert set(starts) <= keyframes
    assert all(abs(start * BASE - 30 * n) <= 3.5 for n, start in enumerate(starts))


def test_a_source_of_one_keyframe_is_cut_into_few_parts():
    facts = source(10_800.0, keyframes=[0.0])
    spans = cut(facts, plan_of(facts), 30, 1)
    assert 2 <= len(spans) <= 60


def test_a_source_that_tells_no_keyframe_is_not_cut():
    facts = source(10_800.0)
    assert len(cut(facts, plan_of(facts), 30, 1)) == 1


def test_a_source_whose_times_jump_by_hours_is_not_cut():
    facts = source(20_000.0, keyframes=[*every(600, 2), *(15_000.0 + time for time in every(600, 2))])
    assert len(cut(facts, plan_of(facts), 30, 1)) > 1
    jumping = replace(facts, container="matroska,webm")
    assert len(cut(jumping, plan_of(jumping), 30, 1)) == 1


@pytest.mark.parametrize(
    ("workers", "parts", "beside_sound"),
    [(1, 20, 20), (8, 24, 23), (10, 20, 19), (15, 15, 14), (1000, 40, 40)],
)
def test_each_worker_has_as_many_parts(workers, parts, beside_sound):
    facts = source(600.0, keyframes=every(600, 1))
    silent = replace(facts, audio=None)
    assert len(cut(silent, plan_of(silent), 30, workers)) == parts
    assert len(cut(facts, plan_of(facts), 30, workers)) == beside_sound


def test_three_hours_of_4k_are_many_short_parts():
    facts = source(10_800.0, keyframes=every(10_800, 2), width=3840, height=2160)
    length = part_length(facts, plan_of(facts, quality=5), 15, 60)
    assert 6 <= length <= 12
    assert 500 <= len(cut(facts, plan_of(facts, quality=5), length, 1)) <= MOST_PARTS


def test_smaller_pictures_have_longer_parts():
    facts = source(3600.0, keyframes=every(3600, 2))
    lengths = [part_length(facts, plan_of(facts, quality=quality), 15, 60) for quality in (4, 3, 2, 1)]
    assert lengths == sorted(lengths)
    assert lengths[-1] > 2 * lengths[0]


def test_what_one_worker_does_in_good_time_is_not_cut():
    for seconds, cut_up in ((58.0, False), (62.0, True)):
        facts = source(seconds, keyframes=every(seconds, 2))
        assert bool(part_length(facts, plan_of(facts), 15, 60)) is cut_up


def test_a_large_copy_into_a_file_is_made_apart():
    hours = source(4 * 3600.0, width=1280, height=720, bit_rate=2_000_000)
    assert is_large_copy(hours, plan(hours, FORMATS["mp4"], 5))
    # Not in segments, not when it is encoded, and not where the times of frames would not be kept.
    assert not is_large_copy(hours, plan(hours, HLS, 5))
    assert not is_large_copy(hours, plan_of(hours, "mp4"))
    for changes in ({"duration": 3600.0}, {"bit_rate": 200_000}, {"constant_frame_rate": False}):
        other = replace(
            hours, video=replace(hours.video, **changes), duration=changes.get("duration", 4 * 3600.0)
        )
        assert not is_large_copy(other, plan(other, FORMATS["mp4"], 5))
    stream = replace(hours, container="mpegts")
    assert not is_large_copy(stream, plan(stream, FORMATS["mp4"], 5))


def test_what_is_copied_or_has_no_picture_is_not_cut():
    facts = replace(source(3600.0, keyframes=every(3600, 2)), keyframes=tuple(every(3600, 2)))
    copied = plan(facts, HLS, 5)
    assert copied.copies_picture
    assert part_length(facts, copied, 15, 60) is None
    assert part_length(facts, plan_of(facts, "mp3"), 15, 60) is None


def test_no_source_has_more_parts_than_its_task_can_hold():
    facts = source(360_000.0, keyframes=every(360_000, 2))
    length = part_length(facts, plan_of(facts, quality=5), 1, 60)
    assert len(cut(facts, plan_of(facts, quality=5), length, 1)) <= MOST_PARTS
