"""How good the picture is and how many bits it takes, on real footage; and who can decode it."""

from __future__ import annotations

import re

import pytest

from tests.media.conftest import SHARED_MEDIA, ffmpeg, ffprobe
from tests.unit.test_plan import LEVELS
from transcoding.media.planning.ladder import LADDER, rung_for

#: Clips: the file, where they start and how long they are, in seconds.
FOOTAGE = {
    "meadow": ("big-buck-bunny-480p-30s.mp4", 8, 2.1),
    "faces": ("big-buck-bunny-480p-30s.mp4", 14, 2.1),
    "pan": ("pancake.mkv", 2, 2.1),
}
SLOW = pytest.mark.slow
FOUND = pytest.mark.skipif(not SHARED_MEDIA.is_dir(), reason="the shared footage is not here")


def footage(clips, name, height, filters=""):
    """Scale a clip of real footage, without loss, to the height in pixels."""
    file, start, seconds = FOOTAGE[name]
    return clips(
        f"{name}-{height}.mkv",
        f"-ss {start} -i {SHARED_MEDIA / file} -t {seconds} -an "
        f"-vf scale=-2:{height}:flags=lanczos,setsar=1{filters} "
        "-c:v libx264 -preset ultrafast -qp 0 -pix_fmt yuv420p {0}",
    )


def vmaf(result, clip, step):
    """Compare every so many frames of a result with its source."""
    log = result.folder / "vmaf.json"
    # Frame by frame, as they are: FFmpeg would convert colours that are told differently.
    plain = "settb=1/25,setpts=N,setparams=colorspace=unknown:color_primaries=unknown:color_trc=unknown"
    ffmpeg(
        f"-i {{0}} -i {{1}} -lavfi [0:v]{plain}[made];[1:v]{plain}[source];"
        f"[made][source]libvmaf=n_threads=2:n_subsample={step}:log_fmt=json:log_path={{2}} -f null -",
        result.entry,
        clip,
        log,
    )
    pooled = re.search(r'"vmaf": \{[^}]*"mean": ([\d.]+)', log.read_text()[log.read_text().index("pooled") :])
    return float(pooled[1])


def bit_rates(result):
    """The picture's bits per second on the whole, and in the 2 s that have most."""
    packets = ffprobe(result.entry, "-show_packets", "-select_streams", "v")["packets"]
    found = sorted((float(p["pts_time"]), 8 * int(p["size"])) for p in packets)
    length = found[-1][0] - found[0][0] + found[1][0] - found[0][0]
    windows = (sum(bits for at, bits in found if start <= at < start + 2) for start, _ in found)
    return sum(bits for _, bits in found) / length, max(windows) / 2


@FOUND
@pytest.mark.parametrize(
    ("height", "name", "filters", "step"),
    [
        (240, "meadow", "", 1),
        (360, "meadow", "", 1),
        (360, "faces", "", 1),
        (360, "pan", "", 1),
        (480, "meadow", "", 2),
        (720, "pan", "", 6),
        pytest.param(480, "pan", "", 2, marks=SLOW),
        pytest.param(720, "faces", "", 6, marks=SLOW),
        # More detail than footage that was scaled up has.
        pytest.param(720, "meadow", ",unsharp", 6, marks=SLOW),
        pytest.param(1080, "faces", "", 6, marks=SLOW),
        pytest.param(1080, "meadow", ",unsharp", 6, marks=SLOW),
        pytest.param(2160, "pan", "", 20, marks=SLOW),
    ],
)
def test_real_footage_looks_as_its_source_within_the_bit_rate(clips, transcode, height, name, filters, step):
    clip = footage(clips, name, height, filters)
    result = transcode(clip, "mp4", 5, attempt=2)
    assert vmaf(result, clip, step) >= 93
    average, peak = bit_rates(result)
    assert max(average, peak) <= rung_for(height).max_bit_rate


@FOUND
@pytest.mark.parametrize(
    ("height", "name"),
    [
        (360, "meadow"),
        pytest.param(480, "pan", marks=SLOW),
        pytest.param(720, "meadow", marks=SLOW),
    ],
)
def test_so_does_vp9(clips, transcode, height, name):
    clip = footage(clips, name, height)
    result = transcode(clip, "webm", 5, attempt=2)
    assert vmaf(result, clip, 2) >= 93
    assert bit_rates(result)[0] <= rung_for(height).max_bit_rate


@FOUND
@pytest.mark.parametrize("codec", ["hevc", "av1"])
@pytest.mark.parametrize(
    ("height", "name"),
    [
        (360, "meadow"),
        pytest.param(360, "faces", marks=SLOW),
        pytest.param(480, "meadow", marks=SLOW),
        pytest.param(720, "pan", marks=SLOW),
    ],
)
def test_so_do_newer_codecs_with_fewer_bits(clips, transcode, codec, height, name):
    clip = footage(clips, name, height)
    result = transcode(clip, "mp4", 5, codecs=codec, attempt=2)
    assert vmaf(result, clip, 2) >= 93
    plain = transcode(clip, "mp4", 5, attempt=2)
    assert bit_rates(result)[0] < 0.95 * bit_rates(plain)[0]


@FOUND
@pytest.mark.parametrize(("codec", "peaks"), [("hevc", 1.0), ("av1", 1.5)])
def test_newer_codecs_keep_to_the_bit_rate_too(clips, transcode, codec, peaks):
    clip = footage(clips, "meadow", 360, ",noise=alls=30:allf=t")
    average, peak = bit_rates(transcode(clip, "mp4", 5, codecs=codec, attempt=2))
    cap = rung_for(360).max_bit_rate
    assert cap * 0.5 <= average
    assert peak <= cap * peaks


@FOUND
def test_a_picture_that_is_hard_to_encode_keeps_to_the_bit_rate(clips, transcode):
    clip = footage(clips, "meadow", 360, ",noise=alls=30:allf=t")
    average, peak = bit_rates(transcode(clip, "mp4", 5, attempt=2))
    cap = rung_for(360).max_bit_rate
    assert average <= cap * 0.95
    assert cap * 0.6 <= peak <= cap


@pytest.mark.parametrize(
    "rung",
    [pytest.param(r, marks=[SLOW] * (r.short_side > 1440), id=str(r.short_side)) for r in LADDER],
)
def test_the_level_is_what_players_of_the_size_decode(clips, transcode, rung):
    width = round(rung.short_side * 16 / 9 / 2) * 2
    clip = clips(
        f"level-{rung.short_side}.mkv",
        f"-f lavfi -i color=gray:s={width}x{rung.short_side}:r=30:d=0.1 -c:v ffv1 -g 1 {{0}}",
    )
    video = transcode(clip, "mp4", 5).streams()["video"]
    assert (video["profile"], video["level"]) == ("High", round(LEVELS[rung.short_side] * 10))


def test_a_level_holds_the_frame_rate(clips, transcode):
    clip = clips("level-60.mkv", "-f lavfi -i color=gray:s=1280x720:r=60:d=0.1 -c:v ffv1 {0}")
    assert transcode(clip, "mp4", 5).streams()["video"]["level"] == 32


LOW, HIGH = "0.4*sin(2*PI*(200*t+28*t*t))", "0.4*sin(2*PI*(1000*t+300*t*t))"


@pytest.mark.parametrize(("tones", "least"), [(LOW, 30), (f"{LOW}|{HIGH}", 24)])
@pytest.mark.parametrize("format", ["mp4", "m3u8"])
def test_tones_stay_clean_beside_the_smallest_picture(clips, transcode, format, tones, least):
    clip = clips(
        "tones.mkv",
        f"-f lavfi -i testsrc2=s=640x360:r=25:d=10 -f lavfi -i aevalsrc='{tones}':d=10:s=48000 "
        "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -c:a flac {0}",
    )
    result = transcode(clip, format, 1)
    entry = result.folder / "audio/index.m3u8" if format == "m3u8" else result.entry
    said = ffmpeg("-v info -i {0} -i {1} -lavfi [0:a][1:a]asdr -f null -", clip, entry)
    distances = [float(number) for number in re.findall(r"SDR ch\d+: (\S+) dB", said)]
    assert len(distances) == len(tones.split("|"))
    assert min(distances) > least
