"""What becomes of a source: sizes, what is copied, where segments are cut."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcoding.errors import TaskFailedError
from transcoding.media.inspection.facts import AudioFacts, SourceFacts, VideoFacts
from transcoding.media.planning.codecs import H264
from transcoding.media.planning.formats import FORMATS
from transcoding.media.planning.ladder import LADDER, SHORT_SIDE, adaptive_sides, rung_for
from transcoding.media.planning.plan import (
    copyable_segment_seconds,
    needs_keyframes,
    output_size,
    plan,
    segment_starts,
)

VIDEO = VideoFacts(
    index=0,
    codec="h264",
    profile="High",
    level=31,
    width=1280,
    height=720,
    pixel_format="yuv420p",
    frame_rate=Fraction(25),
    duration=60.0,
    bit_rate=2_000_000,
)
AUDIO = AudioFacts(index=1, codec="aac", profile="LC", channels=2, sample_rate=48_000, bit_rate=128_000)
SOURCE = SourceFacts(
    container="mov,mp4,m4a,3gp,3g2,mj2",
    duration=60.0,
    size=16_000_000,
    bit_rate=2_128_000,
    video=VIDEO,
    audio=AUDIO,
    keyframes=tuple(float(t) for t in range(0, 60, 2)),
)
HLS, MP4 = FORMATS["m3u8"], FORMATS["mp4"]
#: The H.264 levels that 16:9 at 30 frames a second comes to, by the shorter side.
LEVELS = {360: 3.0, 480: 3.1, 720: 3.1, 1080: 4.0, 1440: 5.0, 2160: 5.1, 4320: 6.0}


def with_video(**changes: object) -> SourceFacts:
    return replace(SOURCE, video=replace(VIDEO, **changes))


def with_audio(**changes: object) -> SourceFacts:
    return replace(SOURCE, audio=replace(AUDIO, **changes))


@pytest.mark.parametrize("quality", [3, 4, 5])
@pytest.mark.parametrize("target", [HLS, MP4], ids=["m3u8", "mp4"])
def test_a_source_that_fits_is_copied(target, quality):
    made = plan(SOURCE, target, quality)
    assert made.describe() == {"video": "copy", "audio": "copy"}


def test_frames_out_of_order_are_not_copied_from_a_container_without_their_times():
    source = with_video(reordered=True)
    assert plan(source, MP4, 5).copies_picture
    made = plan(replace(source, container="avi"), MP4, 5)
    assert made.describe()["video"] == "encode: the container has no presentation times"
    assert plan(replace(SOURCE, container="avi"), MP4, 5).copies_picture


def test_frames_of_unknown_length_are_not_copied_from_a_transport_stream():
    source = replace(with_video(constant_frame_rate=False), container="mpegts")
    made = plan(source, MP4, 5)
    assert made.describe()["video"] == "encode: the duration of its last frame is unknown"
    assert plan(replace(SOURCE, container="mpegts"), MP4, 5).copies_picture
    assert plan(with_video(constant_frame_rate=False), MP4, 5).copies_picture


def test_a_smaller_quality_encodes_the_picture_and_keeps_the_sound_when_it_fits():
    made = plan(SOURCE, MP4, 2)
    assert made.describe() == {"video": "encode: it is 1280x720", "audio": "copy"}
    assert (made.pictures[0].width, made.pictures[0].height) == (854, 480)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"codec": "hevc"}, "it is hevc"),
        ({"profile": "High 10"}, "its profile is High 10"),
        ({"pixel_format": "yuv422p"}, "its pixels are yuv422p"),
        ({"full_range": True}, "its colours are full range"),
        ({"transfer": "smpte2084"}, "its colours are bt2020, smpte2084"),
        ({"primaries": "bt2020"}, "its colours are bt2020, bt2020-10"),
        ({"level": 60}, "its level is over 52"),
        ({"interlaced": True}, "it is interlaced"),
        ({"rotation": 90}, "it is not stored upright"),
        ({"rotation": None}, "it is not stored upright"),
        ({"mirrored": True}, "it is not stored upright"),
        ({"trimmed": True}, "an edit list hides some of it"),
        ({"pixel_aspect": Fraction(100)}, "its pixels are not square"),
        ({"pixel_aspect": Fraction(4, 3)}, "its pixels are not square"),
        ({"bit_rate": 5_000_001}, "its bit rate is over 5,000,000 b/s"),
        ({"width": 1279}, "it is 1279x720"),
        ({"height": 719}, "it is 1280x719"),
        ({"codec": "vp9", "profile": "Profile 0"}, "it is vp9"),
        ({"profile": "High 4:4:4 Predictive"}, "its profile is High 4:4:4 Predictive"),
        ({"profile": "Extended"}, "its profile is Extended"),
        ({"pixel_format": "yuv420p10le"}, "its pixels are yuv420p10le"),
        ({"transfer": "arib-std-b67"}, "its colours are bt2020, arib-std-b67"),
        ({"transfer": "linear"}, "its colours are bt709, linear"),
        ({"primaries": "smpte432"}, "its colours are smpte432, bt709"),
        ({"level": 53}, "its level is over 52"),
        ({"rotation": 180}, "it is not stored upright"),
        ({"pixel_aspect": Fraction(1281, 1280)}, "its pixels are not square"),
    ],
)
def test_a_picture_that_does_not_fit_is_encoded_and_the_reason_is_told(changes, reason):
    assert plan(with_video(**changes), MP4, 5).describe()["video"] == f"encode: {reason}"


@pytest.mark.parametrize(
    "changes",
    [
        {"level": 52},
        {"bit_rate": 5_000_000},
        {"profile": "Main"},
        {"profile": "Baseline"},
        {"profile": "Constrained Baseline"},
        {"pixel_format": "yuvj420p"},
        {"primaries": "bt709", "transfer": "bt709", "matrix": "bt709"},
        {"primaries": "smpte170m", "transfer": "smpte170m", "matrix": "smpte170m"},
        {"primaries": "bt470bg", "transfer": "bt470bg", "matrix": "bt470bg"},
        {"transfer": "iec61966-2-1"},
        {"width": 720, "height": 1280},
        {"width": 1278},
        # Players show a file's frames when they are due.
        {"constant_frame_rate": False},
        {"start": 0.5},
    ],
)
def test_a_picture_just_inside_the_limits_is_copied(changes):
    assert plan(with_video(**changes), MP4, 5).copies_picture


@pytest.mark.parametrize(
    ("profile", "reason"), [("Profile 0", ""), ("Profile 1", "its profile is Profile 1")]
)
def test_vp9_is_copied_into_webm(profile, reason):
    source = with_video(codec="vp9", profile=profile, level=-99)
    assert plan(source, FORMATS["webm"], 5).pictures[0].obstacle == reason


@pytest.mark.parametrize(
    ("short_side", "quality", "copied"),
    [(360, 1, True), (362, 1, False), (480, 2, True), (482, 2, False), (720, 3, True), (722, 3, False),
     (1080, 4, True), (1082, 4, False), (2160, 5, True), (144, 1, True)],
)  # fmt: skip
@pytest.mark.parametrize("turned", [False, True])
def test_a_picture_of_the_quality_or_smaller_is_copied(short_side, quality, copied, turned):
    sides = (2 * short_side, short_side)
    width, height = sides[::-1] if turned else sides
    source = with_video(width=width, height=height, bit_rate=1_000_000)
    assert plan(source, MP4, quality).copies_picture is copied


@pytest.mark.parametrize(
    ("sides", "rung"),
    [
        ((360, 640), 360),
        ((360, 864), 360),
        ((360, 1280), 480),
        ((360, 3456), 720),
        ((1080, 2592), 1080),
        ((1080, 5760), 2160),
    ],
)
def test_a_very_wide_picture_has_the_bit_rates_of_its_pixels(sides: tuple[int, int], rung: int) -> None:
    assert rung_for(*sides).short_side == rung
    wide = plan(with_video(width=sides[1], height=sides[0]), MP4, 5, may_copy=False)
    assert wide.pictures[0].rung.short_side == rung


@pytest.mark.parametrize("rung", LADDER)
def test_a_picture_is_copied_up_to_the_cap_of_its_size(rung):
    size = {"width": 16 * rung.short_side // 18 * 2, "height": rung.short_side}
    assert plan(with_video(**size, bit_rate=rung.max_bit_rate), MP4, 5).copies_picture
    over = plan(with_video(**size, bit_rate=rung.max_bit_rate + 1), MP4, 5).pictures[0]
    assert over.obstacle == f"its bit rate is over {rung.max_bit_rate:,} b/s"


@pytest.mark.parametrize(
    ("container", "size", "duration", "obstacle"),
    [
        # What the container tells, less the sound; else what the size tells.
        (5_128_000, 1, None, ""),
        (5_128_001, 1, None, "its bit rate is over 5,000,000 b/s"),
        (None, 37_500_000, 60.0, ""),
        (None, 37_500_008, 60.0, "its bit rate is over 5,000,000 b/s"),
        (None, 16_000_000, None, "its bit rate is not known"),
    ],
)
def test_a_bit_rate_that_the_stream_does_not_tell_is_found_otherwise(container, size, duration, obstacle):
    source = replace(with_video(bit_rate=None), bit_rate=container, size=size, duration=duration)
    assert plan(source, MP4, 5).pictures[0].obstacle == obstacle


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"codec": "opus"}, "it is opus"),
        ({"profile": "HE-AAC"}, "its profile is HE-AAC"),
        ({"right": 2}, "its channels are streams of their own"),
        ({"trimmed": True}, "an edit list hides some of it"),
        ({"channels": 6}, "it has 6 channels"),
        ({"sample_rate": 96_000}, "its sample rate is 96000 Hz"),
        ({"bit_rate": None}, "its bit rate is not known"),
        ({"bit_rate": 140_801}, "its bit rate is over 140,800 b/s"),
        ({"channels": 1, "bit_rate": 105_601}, "its bit rate is over 105,600 b/s"),
        ({"start": 0.0011}, "it starts later than the picture"),
        ({"codec": "mp3", "profile": ""}, "it is mp3"),
        ({"profile": "HE-AACv2"}, "its profile is HE-AACv2"),
        ({"channels": 3}, "it has 3 channels"),
        ({"channels": 0}, "it has 0 channels"),
        ({"sample_rate": 22_050}, "its sample rate is 22050 Hz"),
    ],
)
def test_sound_that_does_not_fit_is_encoded_and_the_reason_is_told(changes, reason):
    assert plan(with_audio(**changes), MP4, 5).describe()["audio"] == f"encode: {reason}"


@pytest.mark.parametrize(
    "changes",
    [
        {"bit_rate": 140_800},
        {"channels": 1, "bit_rate": 105_600},
        {"start": 0.001},
        {"sample_rate": 32_000},
        {"sample_rate": 44_100},
    ],
)
def test_sound_just_inside_the_limits_is_copied(changes):
    assert plan(with_audio(**changes), MP4, 5).sound.copied


@pytest.mark.parametrize(
    ("target", "changes", "copied"),
    [
        ("webm", {"codec": "opus", "profile": ""}, True),
        ("ogg", {"codec": "opus", "profile": "", "bit_rate": 250_000}, False),
        ("mp3", {"codec": "mp3", "profile": ""}, True),
        ("m4a", {}, True),
        # Without loss, the bit rate is what it is.
        ("wav", {"codec": "pcm_s16le", "profile": "", "bit_rate": 1_536_000}, True),
        ("wav", {"codec": "pcm_s24le", "profile": "", "bit_rate": 2_304_000}, False),
        ("wav", {"codec": "pcm_s16le", "profile": "", "bit_rate": 3_072_000, "sample_rate": 96_000}, False),
    ],
)
def test_sound_is_copied_into_what_holds_its_codec(target, changes, copied):
    assert plan(with_audio(**changes), FORMATS[target], 5).sound.copied is copied


@pytest.mark.parametrize(
    ("gap", "obstacle"),
    [
        (6.0, ""),
        (6.48, ""),
        (6.52, "its keyframes do not allow segments of at most 6 s"),
    ],
)
def test_keyframes_must_let_segments_be_short_enough(gap, obstacle):
    source = replace(SOURCE, keyframes=tuple(gap * n for n in range(9)), duration=gap * 9)
    assert plan(source, HLS, 5).pictures[0].obstacle == obstacle


@pytest.mark.parametrize(
    ("changes", "obstacle"),
    [
        ({"constant_frame_rate": False}, "its frame rate varies"),
        ({"start": 0.0201}, "it starts later than the sound"),
        ({"start": 0.0199}, ""),
    ],
)
def test_a_picture_is_copied_into_segments_only_if_all_frames_are_when_they_are_due(changes, obstacle):
    assert plan(with_video(**changes), HLS, 5).pictures[0].obstacle == obstacle
    assert plan(with_video(**changes), MP4, 5).copies_picture


def test_nothing_is_copied_when_copying_has_failed_before():
    assert not plan(SOURCE, MP4, 5, may_copy=False).copies


@pytest.mark.parametrize(("channels", "made"), [(1, 1), (2, 2), (6, 2), (8, 2), (0, 2)])
def test_mono_stays_mono_and_more_than_two_channels_become_stereo(channels, made):
    assert plan(with_audio(channels=channels, codec="opus"), MP4, 5).sound.channels == made


def test_segments_are_cut_shorter_when_that_lets_the_picture_be_copied():
    made = plan(replace(SOURCE, keyframes=tuple(float(t) for t in range(0, 60, 5))), HLS, 5)
    assert made.copies_picture
    assert made.segment_seconds == 5


def test_a_picture_whose_keyframes_are_too_far_apart_is_encoded_for_segments_only():
    source = replace(SOURCE, keyframes=tuple(float(t) for t in range(0, 60, 7)))
    assert "keyframes do not allow" in plan(source, HLS, 5).pictures[0].obstacle
    assert plan(source, HLS, 5).segment_seconds == 6
    assert plan(source, MP4, 5).copies_picture


def test_a_picture_without_known_keyframes_is_encoded_for_segments():
    assert "no index of its keyframes" in plan(replace(SOURCE, keyframes=None), HLS, 5).pictures[0].obstacle


def test_keyframes_are_looked_up_only_where_the_plan_hangs_on_them():
    assert needs_keyframes(SOURCE, HLS, 5)
    assert not needs_keyframes(SOURCE, MP4, 5)
    assert not needs_keyframes(with_video(codec="hevc"), HLS, 5)
    assert not needs_keyframes(replace(SOURCE, video=None), HLS, 5)


@pytest.mark.parametrize(
    ("video", "audio", "container", "target", "duration"),
    [
        (60.0, 59.9, 60.0, "mp4", 60.0),
        # Subtitles that last longer than what they belong to.
        (60.0, 59.9, 90.0, "mp4", 60.0),
        # An edit list that shows only a part.
        (60.0, 60.0, 10.0, "mp4", 10.0),
        (60.0, 30.0, 60.0, "mp3", 30.0),
        (None, 30.0, 60.0, "mp4", 60.0),
        (60.0, 60.0, None, "mp4", 60.0),
        (None, None, None, "mp4", None),
    ],
)
def test_a_result_is_as_long_as_the_streams_that_it_has(video, audio, container, target, duration):
    source = replace(
        SOURCE,
        duration=container,
        video=replace(VIDEO, duration=video),
        audio=replace(AUDIO, duration=audio),
    )
    assert plan(source, FORMATS[target], 5).duration == duration


def test_a_result_lasts_until_its_last_stream_ends():
    source = replace(
        SOURCE,
        duration=90.0,
        video=replace(VIDEO, start=20.5, duration=59.5),
        audio=replace(AUDIO, start=20.0, duration=10.0),
    )
    assert plan(source, MP4, 5).duration == pytest.approx(60.0)


def test_sound_alone_begins_at_once():
    source = replace(SOURCE, audio=replace(AUDIO, start=2.0))
    made = plan(source, FORMATS["m4a"], 5)
    assert (made.origin, made.sound.copied) == (2.0, True)


def test_the_first_frame_is_due_when_the_source_shows_it():
    late = replace(SOURCE, video=replace(VIDEO, start=10.5), audio=replace(AUDIO, start=10.0), start=10.0)
    made = plan(late, MP4, 1).pictures[0]
    assert (made.start, made.held) == (pytest.approx(0.5), False)


def test_in_segments_the_first_frame_is_held_from_the_beginning():
    late = replace(SOURCE, video=replace(VIDEO, start=10.5), audio=replace(AUDIO, start=10.0), start=10.0)
    made = plan(late, HLS, 5).pictures[0]
    assert (made.start, made.held) == (0.0, True)
    assert made.obstacle == "it starts later than the sound"
    assert plan(with_video(start=0.02), HLS, 5).copies_picture


@pytest.mark.parametrize(
    ("width", "height", "short_side", "made"),
    [
        (1920, 1080, 720, (1280, 720)),
        (1080, 1920, 720, (720, 1280)),
        (854, 480, 360, (640, 360)),
        (640, 360, 1080, (640, 360)),
        (427, 241, None, (426, 240)),
        (1, 1, None, (2, 2)),
        (7680, 4320, 2160, (3840, 2160)),
    ],
)
def test_sizes(width, height, short_side, made):
    assert output_size(replace(VIDEO, width=width, height=height), short_side) == made


def test_rotation_swaps_the_sides_and_pixels_become_square():
    portrait = replace(VIDEO, width=1920, height=1080, rotation=90)
    assert output_size(portrait, 720) == (720, 1280)
    dvd = replace(VIDEO, width=720, height=576, pixel_aspect=Fraction(64, 45))
    assert output_size(dvd, None) == (1024, 576)


@given(
    width=st.integers(2, 16_384),
    height=st.integers(2, 16_384),
    quality=st.sampled_from(sorted(SHORT_SIDE)),
    rotation=st.sampled_from([0, 90, 180, 270]),
    aspect=st.fractions(Fraction(1, 4), 4, max_denominator=100),
)
def test_a_result_is_even_never_larger_than_the_source_and_keeps_its_shape(
    width, height, quality, rotation, aspect
):
    video = replace(VIDEO, width=width, height=height, rotation=rotation, pixel_aspect=aspect)
    shown = (width * aspect, Fraction(height))
    if rotation in {90, 270}:
        shown = shown[::-1]
    made = output_size(video, SHORT_SIDE[quality])
    assert all(side % 2 == 0 and side >= 2 for side in made)
    assert all(side <= max(2, full) for side, full in zip(made, shown, strict=True))
    if SHORT_SIDE[quality]:
        assert min(made) <= SHORT_SIDE[quality]
    # Rounding to even moves a side by at most two pixels.
    scale = min(Fraction(1), (SHORT_SIDE[quality] or min(shown)) / min(shown))
    assert all(abs(side - full * scale) <= 2 for side, full in zip(made, shown, strict=True))


keyframe_lists = st.lists(st.floats(0.04, 12), min_size=0, max_size=60).map(
    lambda gaps: tuple(sum(gaps[:i]) for i in range(len(gaps) + 1))
)


@given(keyframe_lists, st.floats(0, 10))
def test_segments_of_a_copied_picture_begin_at_keyframes_and_none_is_too_long(keyframes, tail):
    duration = keyframes[-1] + tail
    length = copyable_segment_seconds(keyframes, duration)
    if length is not None:
        starts = segment_starts(keyframes, length)
        assert starts[0] == keyframes[0]
        assert set(starts) <= set(keyframes)
        assert all(round(b - a) <= 6 for a, b in pairwise([*starts, max(duration, starts[-1])]))


@given(st.integers(1, 10_000))
def test_every_size_has_settings_and_larger_ones_are_never_capped_lower(short_side):
    assert rung_for(short_side).max_bit_rate <= rung_for(short_side + 1).max_bit_rate


def test_the_readme_tells_the_qualities():
    rows = {
        f"| CRF {H264.crf(rung.short_side)} | {rung.max_bit_rate / 1e6:g} Mb/s | {LEVELS[rung.short_side]} | "
        f"{rung.stereo_bit_rate // 1000} kb/s | {rung.mono_bit_rate // 1000} kb/s |"
        for rung in LADDER
    }
    told = (Path(__file__).parents[2] / "README.md").read_text()
    assert {row for row in rows if row in told} == rows


@pytest.mark.parametrize("rung", LADDER)
def test_what_the_decoders_buffer_lets_through_in_two_seconds_is_within_the_cap(rung):
    assert 2 * rung.buffer_rate + rung.buffer <= 2 * rung.max_bit_rate


@pytest.mark.parametrize(
    ("size", "sides"),
    [
        ((1920, 1080), (1080, 720, 480, 360)),
        ((1080, 1920), (1080, 720, 480, 360)),
        ((3840, 2160), (2160, 1440, 1080, 720, 480, 360)),
        ((7680, 4320), (2160, 1440, 1080, 720, 480, 360)),
        ((2560, 1440), (1440, 1080, 720, 480, 360)),
        ((1280, 740), (720, 480, 360)),
        ((1600, 900), (900, 720, 480, 360)),
        ((1920, 800), (800, 720, 480, 360)),
        ((854, 478), (478, 360)),
        ((426, 240), (240,)),
    ],
)
def test_an_adaptive_result_has_every_quality_up_to_the_sources(size, sides):
    source = with_video(width=size[0], height=size[1])
    made = plan(source, HLS, 6, thumbnails=True)
    assert tuple(min(p.width, p.height) for p in made.pictures) == sides
    assert [p.name for p in made.pictures] == [f"h264-{side}p" for side in sides]
    assert made.thumbnails
    assert all(p.aligned for p in made.pictures) is (len(sides) > 1)
    assert not needs_keyframes(source, HLS, 6) or len(sides) == 1


def test_of_a_thin_picture_the_codec_that_takes_it_is_made():
    thin = with_video(width=1280, height=40)
    made = plan(thin, HLS, 6, codecs="h264,av1")
    assert [picture.name for picture in made.pictures] == ["h264-40p"]
    with pytest.raises(TaskFailedError, match="av1 takes no side of less than 64 pixels"):
        plan(thin, HLS, 6, codecs="av1")


@given(side=st.integers(2, 5000))
def test_no_rung_is_larger_than_the_source_or_like_another(side):
    sides = adaptive_sides(side)
    assert sides[0] <= side
    assert list(sides) == sorted(set(sides), reverse=True)
    assert all(a > b * 1.1 for a, b in pairwise(sides))
    # What is lost of the source's size is little, up to the largest rung.
    assert sides[0] * 1.1 >= min(side, 2160)
