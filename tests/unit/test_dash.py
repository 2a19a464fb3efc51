"""The DASH manifest, read back as XML."""

from dataclasses import replace
from xml.etree import ElementTree

from hypothesis import given

from tests.unit.test_hls import LADDER, rendition, segments
from transcoding.media.packaging.dash import manifest
from transcoding.media.packaging.hls import Picture, Segment

MPD = "{urn:mpeg:dash:schema:mpd:2011}"


@given(segments, segments)
def test_the_timelines_have_every_segment_and_do_not_drift(pictures, sounds):
    video, audio = replace(rendition(pictures), picture=Picture(1280, 720, 25)), rendition(sounds)
    parsed = ElementTree.fromstring(manifest([video], replace(audio, channels=2)))
    templates = list(parsed.iter(f"{MPD}SegmentTemplate"))
    for template, made in zip(templates, (pictures, sounds), strict=True):
        assert template.get("timescale") == str(video.timescale)
        starts, time = [], None
        for s in template.iter(f"{MPD}S"):
            time = int(s.get("t", time))
            for _ in range(int(s.get("r", "0")) + 1):
                starts.append(time)
                time += int(s.get("d"))
        name = template.get("media").removeprefix("video/")
        assert [name.replace("$Time$", str(start)) for start in starts] == [s.name for s in made]
        assert time == made[-1].end
        assert template.get("initialization") == "video/init.mp4"
    bandwidths = [r.get("bandwidth") for r in parsed.iter(f"{MPD}Representation")]
    assert bandwidths == [str(video.peak_bit_rate), str(audio.peak_bit_rate)]


def test_sound_alone_has_one_adaptation_set():
    audio = rendition([Segment(0, 6000, 96_000)])
    parsed = ElementTree.fromstring(manifest([], replace(audio, channels=1)))
    (adaptation_set,) = parsed.iter(f"{MPD}AdaptationSet")
    assert adaptation_set.get("mimeType") == "audio/mp4"


def test_renditions_of_one_codec_are_a_set_and_the_better_codec_is_preferred():
    parsed = ElementTree.fromstring(manifest(LADDER, replace(rendition([Segment(0, 6000, 1)]), channels=2)))
    sets = list(parsed.iter(f"{MPD}AdaptationSet"))
    ids = [[r.get("id") for r in s.iter(f"{MPD}Representation")] for s in sets]
    assert ids == [["h264-1080p", "h264-720p", "h264-360p"], ["av1-1080p", "av1-720p"], ["video"]]
    assert [s.get("selectionPriority") for s in sets] == ["1", "2", None]
    alone = ElementTree.fromstring(manifest(LADDER[:3], None))
    assert [s.get("selectionPriority") for s in alone.iter(f"{MPD}AdaptationSet")] == [None]


def test_a_player_must_know_pq_and_may_take_hlg_for_sdr():
    for video_range, kind, curve in (
        ("PQ", "EssentialProperty", "16"),
        ("HLG", "SupplementalProperty", "18"),
    ):
        deep = replace(LADDER[3], picture=Picture(1920, 1080, 25, video_range))
        parsed = ElementTree.fromstring(manifest([LADDER[0], deep], None))
        plain, hdr = parsed.iter(f"{MPD}AdaptationSet")
        assert [element.get("value") for element in hdr.iter(f"{MPD}{kind}")] == ["9", curve, "9"]
        assert not list(plain.iter(f"{MPD}EssentialProperty"))
        assert not list(plain.iter(f"{MPD}SupplementalProperty"))
        # Without SDR beside it, a player that does not know PQ had better show it than nothing.
        (alone,) = ElementTree.fromstring(manifest([deep], None)).iter(f"{MPD}AdaptationSet")
        told = [element.get("value") for element in alone.iter(f"{MPD}SupplementalProperty")]
        assert told == ["9", curve, "9"]
        assert not list(alone.iter(f"{MPD}EssentialProperty"))
