"""Of several streams, the ones that a viewer would choose; of several channels, the right mix."""

from __future__ import annotations

import cmath
import math
from array import array
from contextlib import suppress
from functools import cache

import pytest

from tests.conftest import some
from tests.media.conftest import ffmpeg, ffprobe
from transcoding.errors import Failure, TaskFailedError
from transcoding.media import languages

H264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"
SECONDS = 0.5


def picture(colour, size="320x180"):
    return f"-f lavfi -i color={colour}:s={size}:r=25:d={SECONDS}"


def tones(*frequencies, layout=""):
    """A sound source with a full-scale tone in each channel; 0: silence."""
    channels = "|".join(f"sin({f}*2*PI*t)" if f else "0" for f in frequencies)
    return f"-f lavfi -i aevalsrc='{channels}:s=48000:d={SECONDS}{f':c={layout}' if layout else ''}'"


@cache
def samples(path):
    """A file's channels from 0.1 to 0.4 s, at 48 kHz."""
    raw = path.with_suffix(".raw")
    ffmpeg("-i {0} -map 0:a -af aresample=48000,atrim=0.1:0.4 -f f32le {1}", path, raw)
    (audio,) = (s for s in ffprobe(path)["streams"] if s["codec_type"] == "audio")
    data = array("f", raw.read_bytes())
    return [data[n :: audio["channels"]] for n in range(audio["channels"])]


def level(result, channel, frequency):
    """How loud a tone is in a channel of the result, dB of full scale."""
    sound = samples(result.entry)[channel]
    turn = cmath.exp(-2j * math.pi * frequency / 48_000)
    total, phase = 0j, 1 + 0j
    for sample in sound:
        total += sample * phase
        phase *= turn
    return 20 * math.log10(max(2 * abs(total) / len(sound), 1e-6))


def peak(result):
    return 20 * math.log10(max(max(map(abs, channel)) for channel in samples(result.entry)))


@pytest.mark.parametrize("default", [0, 1, 2])
def test_the_default_sound_is_taken_else_the_first(clips, transcode, default):
    marks = " ".join(f"-disposition:a:{n} {'default' if n == default else 0}" for n in range(3))
    clip = clips(
        f"languages{default}.mkv",
        f"{tones(300)} {tones(1000)} {tones(3000)} -map 0 -map 1 -map 2 {marks} -c:a flac {{0}}",
    )
    result = transcode(clip, "m4a", 5)
    levels = [level(result, 0, f) for f in (300, 1000, 3000)]
    assert levels.index(max(levels)) == default
    none = clips("none.avi", f"{tones(300)} {tones(1000)} -map 0 -map 1 -c:a pcm_s16le {{0}}")
    assert level(transcode(none, "m4a", 5), 0, 300) > -3


@pytest.mark.parametrize(
    ("name", "codec", "language", "stereo"),
    [
        ("master.mxf", "pcm_s24le", "", True),
        ("master.mov", "pcm_s16le", "", True),
        ("languages.mov", "pcm_s16le", "-metadata:s:a:0 language=eng -metadata:s:a:1 language=fra", False),
        ("film.mov", "aac", "", False),
        ("film.mkv", "pcm_s16le", "", False),
    ],
)
@pytest.mark.parametrize("format", ["mp4", "m4a"])
def test_tracks_of_one_channel_are_left_and_right_in_masters(
    clips, transcode, name, codec, language, stereo, format
):
    tracks = " ".join(tones(f) for f in (300, 1000, 3000, 5000))
    clip = clips(
        name,
        f"{picture('red')} {tracks} -map 0 -map 1 -map 2 -map 3 -map 4 -c:v mpeg2video "
        f"-c:a {codec} {language} {{0}}",
    )
    result = transcode(clip, format, 5)
    assert result.streams()["audio"]["channels"] == (2 if stereo else 1)
    assert level(result, 0, 300) == pytest.approx(0, abs=1)
    assert level(result, 0, 1000) < -20
    if stereo:
        assert level(result, 1, 1000) == pytest.approx(0, abs=1)
        assert level(result, 1, 300) < -20


#: Tones by the places of the channels; None: in either.
SURROUND = {
    "FL": 200, "FR": 500, "FC": 1100, "LFE": 60, "BL": 2300, "BR": 4100, "SL": 2900, "SR": 5300, "BC": 7000,
}  # fmt: skip
LAYOUTS = {
    "3.0": "FL FR FC",
    "quad": "FL FR BL BR",
    "4.0": "FL FR FC BC",
    "5.0": "FL FR FC BL BR",
    "5.1": "FL FR FC LFE BL BR",
    "5.1(side)": "FL FR FC LFE SL SR",
    "6.1": "FL FR FC LFE BC SL SR",
    "7.1": "FL FR FC LFE BL BR SL SR",
    # The order of film.
    "FL+FC+FR+SL+SR+LFE": "FL FC FR SL SR LFE",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_surround_keeps_the_dialogue_and_its_sides_and_never_clips(clips, transcode, layout):
    places = LAYOUTS[layout].split()
    clip = clips(
        "surround.mov",
        f"{tones(*(SURROUND[p] for p in places), layout=layout)} -c:a pcm_s16le {{0}}",
    )
    result = transcode(clip, "wav", 5)
    left, right = ({p: level(result, side, SURROUND[p]) for p in places} for side in (0, 1))
    assert peak(result) <= 0.0
    assert left["FL"] == pytest.approx(right["FR"], abs=0.5)
    assert left["FL"] > -10
    assert left["FR"] < left["FL"] - 20
    if "FC" in places:
        assert left["FC"] == pytest.approx(left["FL"] - 3, abs=0.6)
        assert right["FC"] == pytest.approx(left["FC"], abs=0.6)
    if "LFE" in places:
        assert left["LFE"] < -25
    for behind in ("BL", "SL"):
        if behind in places:
            assert left[behind] > left["FL"] - 4
            assert right[behind] < left["FL"] - 20
    loud = clips("loud.mov", f"{tones(*[440] * len(places), layout=layout)} -c:a pcm_s16le {{0}}")
    assert peak(transcode(loud, "wav", 5)) <= 0.01


@pytest.mark.parametrize("layout", ["3.0", "5.1", "5.1(side)", "7.1", "FL+FC+FR+SL+SR+LFE"])
def test_dialogue_alone_stays_as_loud_as_it_was(clips, transcode, layout):
    places = LAYOUTS[layout].split()
    tone = tones(*(1100 * (p == "FC") for p in places), layout=layout)
    for db in (0, -20):
        clip = clips(f"dialogue{db}.mov", f"{tone} -af volume={db}dB -c:a pcm_s16le {{0}}")
        result = transcode(clip, "wav", 5)
        # In both ears at -3 dB: that is as much power as from the centre.
        assert [level(result, n, 1100) for n in (0, 1)] == pytest.approx([db - 3] * 2, abs=0.2)


@pytest.mark.parametrize("format", ["wav", "m4a"])
def test_the_mix_of_surround_stays_in_time_and_clean(clips, transcode, format):
    # Quiet for 0.2 s, then all channels at full scale: more than stereo can hold.
    clip = clips(
        "burst.mov",
        "-f lavfi -i aevalsrc='"
        + "|".join(["sin(440*2*PI*t)*gte(t\\,0.2)"] * 6)
        + f":s=48000:d={SECONDS}:c=5.1' -c:a pcm_s16le {{0}}",
    )
    result = transcode(clip, format, 5)
    assert peak(result) <= (0.0 if format == "wav" else 0.3)
    raw = result.folder / "begin.raw"
    ffmpeg("-i {0} -f f32le -ac 1 -ar 48000 {1}", result.entry, raw)
    sound = array("f", raw.read_bytes())
    first = next(n for n, sample in enumerate(sound) if abs(sample) > 0.1)
    assert first / 48_000 == pytest.approx(0.2, abs=0.003)
    # A tone that was cut off has others above it.
    third = level(result, 0, 3 * 440)
    assert third < level(result, 0, 440) - 30


@pytest.mark.parametrize("count", [9, 11, 17, 32])
def test_of_channels_without_places_the_first_two_are_heard(clips, transcode, count):
    clip = clips(f"{count}.wav", f"{tones(300, 1000, *[3000] * (count - 2))} -c:a pcm_s16le {{0}}")
    result = transcode(clip, "m4a", 5)
    assert (level(result, 0, 300), level(result, 1, 1000)) == pytest.approx((0, 0), abs=1)
    assert level(result, 0, 3000) < -20


def test_a_field_of_sound_becomes_left_and_right(clips, transcode):
    clip = clips(
        "ambisonic.mkv",
        f"{tones(300, 1000, 0, 0, layout='ambisonic 1')} -c:a libopus -mapping_family 2 -b:a 512k {{0}}",
    )
    result = transcode(clip, "m4a", 5)
    assert [level(result, n, f) for n in (0, 1) for f in (300, 1000)] == pytest.approx([-6] * 4, abs=1)


@pytest.mark.parametrize(
    "rate", [1000, 8000, 11025, 16000, 22050, 37800, 88200, 96000, 192000, 384000, 768000]
)
def test_sample_rates(clips, transcode, rate):
    clip = clips(f"{rate}.wav", f"{tones(300)} -ar {rate} -c:a pcm_s16le {{0}}")
    result = transcode(clip, "m4a", 5)
    assert result.streams()["audio"]["sample_rate"] == ("44100" if rate % 11025 == 0 else "48000")
    assert level(result, 0, 300) == pytest.approx(0, abs=1)


def shown(transcode, clip):
    """The colour of the picture that is chosen."""
    try:
        result = transcode(clip, "mp4", 5)
    except OSError:
        result = transcode(clip, "mp4", 5, attempt=2)
    return tuple(255 * (c > 127) for c in result.pixel(0.2, 50, 50))


RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.mark.parametrize(
    ("name", "streams", "colour"),
    [
        ("two.mkv", (f"red:320x180 {H264} default", f"blue:320x180 {H264} 0"), RED),
        ("second.mkv", (f"red:320x180 {H264} 0", f"blue:320x180 {H264} default"), BLUE),
        ("larger.mkv", (f"red:320x180 {H264} 0", f"blue:640x360 {H264} 0"), BLUE),
        ("proxy.mkv", (f"red:160x90 {H264} default", f"blue:640x360 {H264} 0"), BLUE),
        ("angle.mkv", (f"red:480x270 {H264} default", f"blue:640x360 {H264} 0"), RED),
        ("poster.mkv", ("red:640x360 -c:v mjpeg -pix_fmt yuvj420p default", f"blue:320x180 {H264} 0"), BLUE),
        ("poster.mov", ("red:640x360 -c:v png default", f"blue:320x180 {H264} 0"), BLUE),
        ("cover.mp4", ("red:640x360 -c:v png attached_pic", f"blue:320x180 {H264} default"), BLUE),
    ],
)
def test_of_several_pictures_the_real_one_is_shown(clips, transcode, name, streams, colour):
    inputs, options = "", ""
    for n, stream in enumerate(streams):
        source, *codec, mark = stream.split()
        codec = " ".join(codec).replace(":v", f":v:{n}").replace("-preset", f"-preset:v:{n}")
        codec = codec.replace("-pix_fmt", f"-pix_fmt:v:{n}")
        inputs += " " + picture(*source.split(":"))
        options += f" -map {n} {codec} -disposition:v:{n} {mark}"
    assert shown(transcode, clips(name, f"{inputs} {options} {{0}}")) == colour


def test_a_stream_in_an_unknown_codec_does_no_harm_beside_a_known_one(clips, transcode):
    clip = clips(
        "strange.mp4",
        f"{picture('red', '640x360')} {picture('blue')} {tones(300)} -map 0 -map 1 -map 2 -c:v:0 libx265 "
        "-x265-params log-level=error -c:v:1 libx264 -preset:v:1 ultrafast -pix_fmt yuv420p -c:a aac {0}",
    )
    clip.write_bytes(clip.read_bytes().replace(b"hev1", b"zzzz"))
    assert shown(transcode, clip) == BLUE


def test_data_timecodes_and_attachments_do_no_harm(clips, transcode, tmp_path):
    film = f"{picture('red')} {tones(300)} {H264}"
    timecode = clips("timecode.mov", f"{film} -timecode 01:00:00:00 -c:a pcm_s16le {{0}}")
    assert {s["codec_type"] for s in ffprobe(timecode)["streams"]} >= {"data"}
    font, chapters = tmp_path / "font.ttf", tmp_path / "chapters.txt"
    font.write_bytes(bytes(2000))
    chapters.write_text(";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=300\ntitle=One\n")
    plain = clips("plain.mkv", f"{film} -c:a flac {{0}}")
    attached = plain.with_name("attached.mkv")
    ffmpeg(
        "-i {0} -f ffmetadata -i {2} -map 0 -map_chapters 1 -c copy -attach {1} "
        "-metadata:s:t mimetype=application/x-truetype-font {3}",
        plain, font, chapters, attached,
    )  # fmt: skip
    chaptered = plain.with_name("chaptered.mp4")
    ffmpeg("-i {0} -f ffmetadata -i {1} -map 0 -map_chapters 1 -c:v copy -c:a aac {2}",
           plain, chapters, chaptered)  # fmt: skip
    for clip in (timecode, attached, chaptered):
        with suppress(OSError):
            transcode(clip, "mp4", 5)
        result = transcode(clip, "mp4", 5, attempt=2)
        assert set(result.streams()) == {"video", "audio"}
        result.decode()


@pytest.mark.parametrize("name", ["album.mp3", "album.m4a", "album.flac"])
@pytest.mark.parametrize("format", some(["mp4", "m3u8", "mp3", "webm", "flv"], "mp4", "mp3"))
def test_a_cover_is_no_picture(clips, transcode, name, format):
    flag = "" if name.endswith("m4a") else "-disposition:v attached_pic"
    codec = {"album.mp3": "libmp3lame", "album.m4a": "aac -f mov"}.get(name, "flac")
    clip = clips(
        name,
        f"{tones(300)} -f lavfi -i testsrc2=s=64x64:r=1:d=1 -map 0 -map 1 -c:v mjpeg -pix_fmt yuvj420p "
        f"{flag} -c:a {codec} {{0}}",
    )
    if format in {"webm", "flv"}:
        with pytest.raises(TaskFailedError) as failure:
            transcode(clip, format, 5)
        assert failure.value.code is Failure.FORMAT_NEEDS_PICTURE
    else:
        assert set(transcode(clip, format, 5).streams()) == {"audio"}


def test_sound_that_is_only_announced_does_no_harm(clips, transcode):
    clip = clips("whole.ts", f"{picture('red')} {tones(300)} {H264} -c:a aac {{0}}")
    data = clip.read_bytes()
    packets = [data[n : n + 188] for n in range(0, len(data), 188)]
    mute = clip.with_name("mute.ts")
    mute.write_bytes(b"".join(p for p in packets if (p[1] & 31) << 8 | p[2] != 0x101))
    assert set(transcode(mute, "mp4", 5).streams()) == {"video"}


def test_quicktime_keeps_the_languages_that_it_has_numbers_for(tmp_path):
    tags = ["de", "fa", "fil", "fo", "fr", "hr", "pa", "sr", "sv", "zh"]
    told = " ".join(
        f"-map 0 -metadata:s:{n} language='{languages.code(tag, quicktime=True)}'"
        for n, tag in enumerate(tags)
    )
    ffmpeg(f"{tones(440)} {told} -c:a pcm_s16le {{0}}", tmp_path / "languages.mov")
    streams = ffprobe(tmp_path / "languages.mov")["streams"]
    assert [languages.tag(stream["tags"]["language"]) for stream in streams] == tags
