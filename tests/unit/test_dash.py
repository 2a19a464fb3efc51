"""The DASH manifest, read back as XML."""

from xml.etree import ElementTree

import pytest
from hypothesis import given

from tests.unit.test_hls import rendition, segments
from transcoding.media.dash import manifest
from transcoding.media.hls import Picture, Segment

MPD = "{urn:mpeg:dash:schema:mpd:2011}"


@given(segments, segments)
def test_the_timelines_have_every_segment_and_do_not_drift(pictures, sounds):
    video, audio = rendition(pictures), rendition(sounds)
    parsed = ElementTree.fromstring(manifest(video, Picture(1280, 720, 25), audio, 2, "%05d.m4s"))
    templates = list(parsed.iter(f"{MPD}SegmentTemplate"))
    for template, made in zip(templates, (pictures, sounds), strict=True):
        scale = int(template.get("timescale"))
        lengths = []
        for s in template.iter(f"{MPD}S"):
            lengths += [int(s.get("d"))] * (int(s.get("r", "0")) + 1)
        assert len(lengths) == len(made)
        for n in range(len(made)):
            due = sum(segment.duration for segment in made[: n + 1])
            assert sum(lengths[: n + 1]) / scale == pytest.approx(due, abs=1e-6)
        assert template.get("media") == "video/$Number%05d$.m4s"
        assert template.get("initialization") == "video/init.mp4"
    bandwidths = [r.get("bandwidth") for r in parsed.iter(f"{MPD}Representation")]
    assert bandwidths == [str(video.peak_bit_rate), str(audio.peak_bit_rate)]


def test_sound_alone_has_one_adaptation_set():
    audio = rendition([Segment("00000.m4s", 6.0, 96_000)])
    parsed = ElementTree.fromstring(manifest(None, None, audio, 1, "%05d.m4s"))
    (adaptation_set,) = parsed.iter(f"{MPD}AdaptationSet")
    assert adaptation_set.get("mimeType") == "audio/mp4"
