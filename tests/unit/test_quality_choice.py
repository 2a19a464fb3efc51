"""Which constant rate factor is chosen for a source: from samples, by arithmetic."""

from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_cuts import every, plan_of, source
from transcoding.media.encoding import samples as encoding
from transcoding.media.ffmpeg.tools import Tools
from transcoding.media.planning.codecs import AV1, H264, HEVC, Choice
from transcoding.media.planning.formats import FORMATS
from transcoding.media.planning.plan import plan
from transcoding.media.planning.quality import (
    FLOOR,
    TARGET,
    Measured,
    Scored,
    choices,
    choose,
    first_crfs,
    measure,
    next_crfs,
    samples,
    score,
)

TOOLS = Tools.within(Path("/opt/bin"))
LIMITS = H264.crf_range
LONG = plan_of(source(600.0))
PICTURE = LONG.pictures[0]


def measured(crf, mean, worst=None, bit_rate=1_000_000.0, samples=1000):
    return Measured(crf, mean, mean if worst is None else worst, bit_rate, samples)


def on_a_curve(crf, *, at_25, slope, bend):
    """VMAF that falls ever faster as the CRF rises, as it does."""
    return min(100.0, at_25 - slope * (crf - 25) - bend * (crf - 25) ** 2)


@given(
    st.floats(10, 4_000),
    st.sampled_from([1, 2]),
    st.sampled_from([2.0, 10.0, 1e9]),
    st.sampled_from([1, 5, 30, 60]),
)
def test_samples_are_few_and_spread_over_the_source(seconds, measurements, step, rate):
    facts = source(seconds, keyframes=every(seconds, step))
    facts = replace(facts, video=replace(facts.video, frame_rate=Fraction(rate)))
    found = samples(facts, plan_of(facts), measurements)
    length = found[0].frames / rate if found else 0.0
    assert len(found) * length * measurements <= 0.065 * seconds + 1e-6
    assert sum(sample.skipped for sample in found) / rate <= 0.2 * seconds + len(found) * (0.25 + 1 / rate)
    assert len({(sample.point, sample.skipped) for sample in found}) == len(found) <= 16
    assert all(1 < sample.compared < sample.frames for sample in found)
    for sample in found:
        point = float(sample.point.seek * facts.video.time_base) if sample.point else 0.0
        assert point + (sample.skipped + sample.frames) / rate <= seconds + 0.25 + 2 / rate


@pytest.mark.parametrize("keyframes", [(), every(600, 2.0)])
def test_each_stretch_of_a_long_source_has_a_sample(keyframes):
    facts = source(600.0, keyframes=keyframes, start=1.4)
    found = samples(facts, plan_of(facts), 2)
    assert len(found) == 16
    times = [float(s.point.seek * facts.video.time_base) - 1.4 + s.skipped / 30 for s in found]
    assert all(stretch * 37.3 - 1 <= time <= (stretch + 1) * 37.5 for stretch, time in enumerate(times))
    assert times[-1] + found[-1].frames / 30 < 600


@pytest.mark.parametrize("changes", [{"duration": 7.0}, {"duration": None}, {"estimated": True}])
def test_a_source_that_is_short_or_of_unknown_length_has_no_samples(changes):
    facts = replace(source(600.0), **changes)
    facts = replace(facts, video=replace(facts.video, duration=changes.get("duration")))
    assert samples(facts, plan_of(facts), 1) == ()


@pytest.mark.parametrize(
    ("seconds", "measurements", "count"), [(8.0, 1, 1), (12.0, 1, 1), (30.0, 1, 2), (70.0, 2, 3)]
)
def test_short_sources_have_few_samples_in_their_midst(seconds, measurements, count):
    facts = source(seconds, keyframes=every(seconds, 1.0))
    found = samples(facts, plan_of(facts), measurements)
    assert len(found) == count
    times = [float(s.point.seek * facts.video.time_base) + s.skipped / 30 for s in found]
    assert all(0.15 * seconds < time < 0.95 * seconds for time in times)
    assert samples(facts, plan_of(facts), 2) == (found if measurements == 2 else ())


@pytest.mark.parametrize("keyframes", [[0.0], [0.0, 31.0]])
def test_where_keyframes_are_rare_samples_are_nearer_to_them_but_not_in_one_place(keyframes):
    facts = source(40.0, keyframes=keyframes)
    found = samples(facts, plan_of(facts), 1)
    assert len({(sample.point, sample.skipped) for sample in found}) == len(found) == 3
    assert 4 * 30 < sum(sample.skipped for sample in found) <= 8 * 30


def test_little_is_decoded_on_the_way_to_the_samples_of_a_long_source():
    facts = source(10_800.0, keyframes=every(10_800, 100.0))
    found = samples(facts, plan_of(facts), 2)
    assert len(found) == 16
    assert all(sample.skipped <= 5 * 30 for sample in found)


def test_a_source_that_can_be_entered_at_its_beginning_only_has_no_samples():
    facts = source(3600.0, keyframes=[0.0])
    assert samples(facts, plan_of(facts), 1) == ()


def test_what_is_copied_or_has_no_constant_rate_factor_is_not_measured():
    facts = source(600.0, keyframes=every(600, 2.0))
    small = replace(facts, video=replace(facts.video, width=640, height=360, bit_rate=500_000))
    assert plan(small, FORMATS["mp4"], 5).copies_picture
    assert first_crfs(plan(small, FORMATS["mp4"], 5)) == {}
    assert first_crfs(plan(facts, FORMATS["mp3"], 5)) == {}
    assert first_crfs(plan_of(source(30.0), "gif")) == {}
    assert first_crfs(plan_of(facts)) == {"video": LIMITS.usual}


@given(st.floats(92, 98), st.floats(0.75, 1.4), st.floats(0.02, 0.07))
def test_two_measurements_lead_to_the_target(at_25, slope, bend):
    points = {"video": []}
    crfs = first_crfs(LONG)
    for _ in range(2):
        if crfs:
            crf = crfs["video"]
            points["video"].append(measured(crf, on_a_curve(crf, at_25=at_25, slope=slope, bend=bend)))
            crfs = next_crfs(LONG, points)
    crf = choose(PICTURE, points["video"]).crf
    reached = on_a_curve(crf, at_25=at_25, slope=slope, bend=bend)
    assert abs(reached - TARGET) <= 1 or crf in {LIMITS.lowest, LIMITS.highest}


@given(st.lists(st.tuples(st.floats(0, 51), st.floats(0, 100), st.floats(0, 100)), min_size=1, max_size=3))
def test_whatever_is_measured_the_choice_is_one_that_the_encoder_takes(points):
    choice = choose(PICTURE, [measured(crf, mean, worst) for crf, mean, worst in points])
    assert LIMITS.lowest <= choice.crf <= LIMITS.highest
    assert choice.crf % LIMITS.step == 0
    assert 0 < choice.bit_rate <= PICTURE.rung.max_bit_rate


def test_what_is_easy_gets_fewer_bits_and_what_is_hard_gets_more():
    easy, usual, hard = (choose(PICTURE, [measured(25.0, vmaf)]) for vmaf in (97.0, TARGET, 92.0))
    assert (easy.crf, usual.crf, hard.crf) == (28.5, 25.5, 23.0)
    assert easy.bit_rate < usual.bit_rate < 1_000_000 < hard.bit_rate


def test_a_bad_second_takes_more_bits_than_the_mean_asks_for():
    choice = choose(PICTURE, [measured(25.0, 96.0, worst=FLOOR - 2)])
    assert choice.crf == 21.0


def test_few_samples_do_not_lead_as_far_from_what_is_usual():
    few, many = (choose(PICTURE, [measured(25.0, 90.0, samples=count)]).crf for count in (1, 1000))
    assert (few, many) == (21.5, 20.5)


def test_a_sample_or_two_lead_to_no_more_bits_than_the_constant():
    few, more = (choose(PICTURE, [measured(25.0, 85.0, samples=count)]).crf for count in (2, 3))
    assert (few, more) == (H264.crf(1080), LIMITS.lowest)


def test_what_is_near_the_target_is_measured_once():
    assert next_crfs(LONG, {"video": [measured(25.0, 94.2)]}) == {}
    assert next_crfs(LONG, {"video": [measured(25.0, 97.0)]}) == {"video": 28.5}
    assert next_crfs(LONG, {}) == {}
    assert choose(PICTURE, []) is None


def test_a_score_leaves_the_first_frame_out_and_counts_keyframes_as_in_the_result():
    found = score([50.0, 94.0, 96.0], [40_000] + [1_000] * 24, 25.0)
    assert found == Scored(95.0, pytest.approx(8 * (1_000 * 25 + 39_000 / 2)))
    with pytest.raises(ValueError):
        score([50.0], [40_000] + [1_000] * 24, 25.0)
    with pytest.raises(ValueError):
        score([50.0, 94.0], [40_000], 25.0)


def test_samples_count_where_half_of_them_were_encoded():
    scores = [Scored(95.0, 1e6), Scored(93.0, 2e6)]
    found = measure(25.0, scores, 4)
    assert found is not None
    assert found.mean - found.worst == pytest.approx(1.0)
    assert found.bit_rate == 1.5e6
    assert measure(25.0, scores, 5) is None
    assert measure(25.0, [], 0) is None


def test_renditions_of_no_use_beside_larger_ones_are_left_out():
    facts = source(600.0)
    rates = {"h264-1080p": 5e6, "h264-720p": 4.5e6, "h264-480p": 3.5e6, "h264-360p": 1e6}
    choices = {name: Choice(24.5, int(rate)) for name, rate in rates.items()}
    adaptive = partial(plan, facts, FORMATS["m3u8"], 6)
    left = adaptive(choices=choices).pictures
    # A rendition is compared with the next larger one that stays.
    assert [picture.name for picture in left] == ["h264-1080p", "h264-480p", "h264-360p"]
    assert {picture.crf for picture in left} == {24.5}
    assert [picture.name for picture in adaptive().pictures] == list(rates)


@given(st.lists(st.integers(1_000, 10**8), min_size=4, max_size=4))
def test_the_largest_rendition_stays_and_those_that_stay_are_clearly_apart(bit_rates):
    facts = source(600.0)
    names = [picture.name for picture in plan(facts, FORMATS["m3u8"], 6).pictures]
    choices = {name: Choice(25.0, rate) for name, rate in zip(names, bit_rates, strict=True)}
    left = [picture.name for picture in plan(facts, FORMATS["m3u8"], 6, choices=choices).pictures]
    assert left[0] == names[0]
    assert all(choices[b].bit_rate <= 0.8 * choices[a].bit_rate for a, b in pairwise(left))


@pytest.mark.parametrize("codec", [None, H264, HEVC, AV1])
def test_what_is_too_large_to_measure_has_the_factor_of_the_largest_that_is(codec):
    facts = source(600.0, keyframes=every(600, 2.0))
    large = replace(facts, video=replace(facts.video, width=3840, height=2160))
    planned = plan(large, FORMATS["m3u8"], 6, codecs=codec.name if codec else "h264,av1")
    firsts = first_crfs(planned)
    assert {name.partition("-")[2] for name in firsts} == {"1080p", "720p", "480p", "360p"}
    found = {name: [measured(crf, 94.0, bit_rate=1e6)] for name, crf in firsts.items()}
    chosen = choices(planned, found)
    assert set(chosen) == {picture.name for picture in planned.pictures}
    for name in {picture.codec.name for picture in planned.pictures}:
        largest, above = chosen[f"{name}-1080p"], chosen[f"{name}-2160p"]
        assert above.crf == largest.crf
        assert 2 < above.bit_rate / largest.bit_rate < 4


def test_of_hdr_nothing_is_measured():
    facts = source(600.0, keyframes=every(600, 2.0))
    bright = replace(facts.video, transfer="smpte2084", primaries="bt2020", matrix="bt2020nc")
    planned = plan(replace(facts, video=bright), FORMATS["m3u8"], 6, codecs="h264,hevc")
    assert {picture.codec.name for picture in planned.pictures} == {"h264", "hevc"}
    firsts = first_crfs(planned)
    assert firsts
    assert all(name.startswith("h264-") for name in firsts)
    found = {name: [measured(crf, 94.0)] for name, crf in firsts.items()}
    assert set(choices(planned, found)) == set(firsts)


@pytest.mark.parametrize(
    ("memory", "abreast"), [(64 << 30, 6), (5_000_000_000, 4), (1_500_000_000, 1), (100_000_000, 1)]
)
def test_as_many_samples_run_side_by_side_as_there_is_memory_for(monkeypatch, tmp_path, memory, abreast):
    """The ladder of 1080p is of 3.6 million pixels, at 300 bytes each."""
    running, most = set(), []

    class Run:
        errors = "none of it is encoded"

        def __init__(self, arguments):
            self.looks = 3
            running.add(self)
            most.append(len(running))

        def wait(self, seconds):
            self.looks -= 1
            return 1 if self.looks < 0 else None

        def stop(self):
            running.discard(self)

    limits = SimpleNamespace(memory=memory)
    monkeypatch.setattr(encoding.process, "encoding_limits", lambda: limits)
    monkeypatch.setattr(encoding.os, "cpu_count", lambda: 6)
    monkeypatch.setattr(encoding, "Encoder", Run)
    monkeypatch.setattr(encoding, "_POLL", 0.0)
    facts = source(600.0, keyframes=every(600, 2.0))
    planned = plan(facts, FORMATS["m3u8"], 6)
    taken = samples(facts, planned, 2)
    with pytest.raises(OSError, match="none of it"):
        encoding.measured(TOOLS, planned, first_crfs(planned), taken, "film.mp4", tmp_path, lambda: None)
    assert len(most) == len(taken) > 6
    assert max(most) == abreast
