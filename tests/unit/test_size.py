"""How large a result is at least: what is refused before hours are spent on it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from transcoding.media.inspection.facts import AudioFacts, SourceFacts, VideoFacts
from transcoding.media.planning.formats import FORMATS
from transcoding.media.planning.plan import plan
from transcoding.media.planning.size import least_size

#: Ten hours, 8.1 Mb/s in all.
VIDEO = VideoFacts(
    index=0,
    codec="h264",
    profile="High",
    level=40,
    width=1920,
    height=1080,
    pixel_format="yuv420p",
    frame_rate=Fraction(25),
    duration=36_000.0,
    bit_rate=8_000_000,
)
AUDIO = AudioFacts(
    index=1, codec="aac", profile="LC", channels=2, sample_rate=48_000, duration=36_000.0, bit_rate=128_000
)
SOURCE = SourceFacts(
    container="mpegts",
    duration=36_000.0,
    size=36_600_000_000,
    bit_rate=8_133_000,
    video=VIDEO,
    audio=AUDIO,
)
GB = 10**9


def size(source: SourceFacts, format: str, quality: int = 5, *, may_copy: bool = True) -> float:
    return least_size(source, plan(source, FORMATS[format], quality, may_copy=may_copy)) / GB


def test_what_is_copied_stays_as_large_as_it_is():
    assert size(SOURCE, "mkv") == pytest.approx(36.6 * 0.95, rel=0.01)
    assert size(SOURCE, "m4a") == pytest.approx(0.576 * 0.95, rel=0.01)


def test_pcm_takes_the_same_at_all_times():
    assert size(SOURCE, "wav") == pytest.approx(6.912 * 0.95, rel=0.01)
    mono = replace(SOURCE, audio=replace(AUDIO, channels=1, sample_rate=44_100))
    assert size(mono, "wav") == pytest.approx(3.1752 * 0.95, rel=0.01)


def test_what_is_encoded_may_take_next_to_nothing():
    assert size(SOURCE, "mkv", 3) == pytest.approx(0.576 * 0.95, rel=0.01)
    assert size(SOURCE, "mkv", may_copy=False) == 0
    assert size(SOURCE, "ogg") == 0


def test_a_source_that_tells_a_wrong_rate_is_not_more_than_it_has():
    lying = replace(SOURCE, video=replace(VIDEO, bit_rate=8_900_000), size=GB)
    assert size(lying, "mkv") == pytest.approx(0.95)


def test_what_is_only_guessed_does_not_count():
    assert size(replace(SOURCE, estimated=True), "wav") == 0
    unknown = replace(SOURCE, duration=None, audio=replace(AUDIO, duration=None))
    assert size(unknown, "wav") == 0
