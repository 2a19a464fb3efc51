"""Colours come out as they look in the source, and are told."""

from __future__ import annotations

import math
import struct

import pytest

from tests.media.conftest import ffmpeg, ffprobe
from transcoding.errors import Failure, TaskFailedError

HEVC = "-c:v libx265 -preset ultrafast -crf 8 -x265-params log-level=error:repeat-headers=1"
HD = ("bt709", "bt709", "bt709")
PATCH = 64


def pq(nits):
    """The inverse EOTF of SMPTE ST 2084."""
    y = (nits / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375


def hlg(light):
    """The OETF of ARIB STD-B67."""
    return (
        math.sqrt(3 * light)
        if light <= 1 / 12
        else 0.17883277 * math.log(12 * light - 0.28466892) + 0.55991073
    )


def signal(transfer, nits):
    if transfer == "smpte2084":
        return [pq(n) for n in nits]
    # As a display of 1000 nits shows it: its system gamma is 1.2.
    r, g, b = (n / 1000 for n in nits)
    luminance = 0.2627 * r + 0.678 * g + 0.0593 * b
    return [hlg(c * luminance ** (1 / 1.2 - 1)) if luminance else 0.0 for c in (r, g, b)]


def patches(clips, name, pixels, options):
    """A clip of patches side by side, each of one colour: RGB signals, 0.0 to 1.0."""
    raw = clips(f"{name}.wav", "-f lavfi -i sine=d=0.1 {0}").with_suffix(".rgb")
    row = b"".join(struct.pack("<3H", *(round(c * 65535) for c in pixel)) * PATCH for pixel in pixels)
    raw.write_bytes(row * PATCH)
    clip = raw.with_suffix(".mkv")
    size = f"-s {PATCH * len(pixels)}x{PATCH}"
    ffmpeg(f"-stream_loop 4 -f rawvideo -pix_fmt rgb48le {size} -r 25 -i {{0}} {options} {{1}}", raw, clip)
    return clip


def shown(result, count):
    return [result.pixel(0, n * PATCH + PATCH // 2, PATCH // 2) for n in range(count)]


def tags(result):
    video = result.streams()["video"]
    assert video["color_range"] == "tv"
    return video["color_primaries"], video["color_transfer"], video["color_space"]


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
@pytest.mark.parametrize(("format", "codec"), [("mp4", HEVC), ("webm", HEVC), ("m3u8", "-c:v ffv1")])
def test_hdr_becomes_sdr(clips, transcode, transfer, format, codec):
    nits = [(n, n, n) for n in (0, 10, 100, 203, 300, 1000)] + [(300, 0, 0), (0, 100, 0), (0, 0, 60)]
    clip = patches(
        clips,
        transfer,
        [signal(transfer, n) for n in nits],
        "-vf scale=out_color_matrix=bt2020nc:out_range=tv,format=yuv420p10le,"
        f"setparams=colorspace=bt2020nc:color_primaries=bt2020:color_trc={transfer} {codec}",
    )
    result = transcode(clip, format, 5)
    assert tags(result) == HD
    made = shown(result, len(nits))
    greys = made[:6]
    assert all(max(grey) - min(grey) <= 4 for grey in greys), made
    black, shadow, middle, white, light, brightest = (grey[1] for grey in greys)
    assert black <= 3
    assert 60 <= shadow <= 85
    assert 165 <= middle <= 200
    assert 200 <= white < light - 6
    assert light + 12 <= brightest <= 255
    for strongest, colour in enumerate(made[6:]):
        others = [c for n, c in enumerate(colour) if n != strongest]
        assert colour[strongest] > 130, made
        assert max(others) < 30, made


def test_wide_gamut_becomes_bt709(clips, transcode):
    # A red and a grey that BT.709 has, as BT.2020 stores them (ITU-R BT.2087).
    red = [c ** (1 / 2.4) for c in (0.6274, 0.0691, 0.0164)]
    clip = patches(
        clips,
        "wide",
        [red, (0.5, 0.5, 0.5)],
        "-vf scale=out_color_matrix=bt2020nc:out_range=tv,format=yuv420p10le,"
        f"setparams=colorspace=bt2020nc:color_primaries=bt2020:color_trc=bt2020-10 {HEVC}",
    )
    result = transcode(clip, "mp4", 5)
    assert tags(result) == HD
    made_red, grey = shown(result, 2)
    assert made_red[0] >= 245
    assert max(made_red[1:]) <= 25
    assert all(abs(c - 128) <= 4 for c in grey)


@pytest.mark.parametrize(
    ("name", "pixels", "range_", "told", "size", "colours"),
    [
        ("untagged-hd", "yuv420p", "tv", {}, "1280x720", HD),
        ("untagged-sd", "yuv420p", "tv", {}, "640x480", ("smpte170m",) * 3),
        ("rgb", "gbrp", "pc", {}, "320x180", HD),
        ("rgb-of-a-screen", "bgra", "pc", {}, "320x180", HD),
        ("pal", "yuv420p", "tv", {"matrix": "bt470bg", "primaries": "bt470bg"}, "320x180",
         ("bt470bg", "smpte170m", "bt470bg")),
        ("ntsc-in-hd", "yuv422p", "tv", {"matrix": "smpte170m"}, "1280x720", ("smpte170m",) * 3),
        ("full-range", "yuv420p", "pc", {"matrix": "bt709"}, "320x180", HD),
        ("full-range-sd", "yuvj420p", "pc", {"matrix": "smpte170m"}, "320x180", ("smpte170m",) * 3),
        ("old-hd", "yuv420p", "tv", {"matrix": "smpte240m", "primaries": "bt709", "trc": "bt709"},
         "1280x720", HD),
        ("srgb", "yuv444p", "tv", {"matrix": "bt709", "primaries": "bt709", "trc": "iec61966-2-1"},
         "320x180", ("bt709", "iec61966-2-1", "bt709")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("format", ["mp4", "webm"])
def test_colours_stay_and_are_told(clips, transcode, name, pixels, range_, told, size, colours, format):
    matrix = told.get("matrix", colours[2])
    scale = f"scale=out_color_matrix={matrix}:out_range={range_}," if "yuv" in pixels else ""
    params = {"colorspace": told.get("matrix", "unknown"), "range": range_}
    params |= {f"color_{k}": told.get(k, "unknown") for k in ("primaries", "trc")}
    clip = clips(
        f"{name}.mkv",
        f"-f lavfi -i color=0xE04020:s={size}:d=0.2 -vf {scale}format={pixels},"
        + "setparams="
        + ":".join(f"{k}={v}" for k, v in params.items())
        + " -c:v ffv1 {0}",
    )
    result = transcode(clip, format, 5)
    assert tags(result) == colours
    made = result.pixel(0, 100, 100)
    assert all(abs(a - b) <= 6 for a, b in zip(made, (0xE0, 0x40, 0x20), strict=True)), made


def test_the_bitstream_tells_the_colours_too(clips, transcode, tmp_path):
    clip = clips("bare.mkv", "-f lavfi -i testsrc2=s=320x180:d=0.2 -pix_fmt yuv420p -c:v ffv1 {0}")
    result = transcode(clip, "mp4", 5)
    bare = tmp_path / "bare.h264"
    ffmpeg("-i {0} -c copy {1}", result.entry, bare)
    (video,) = ffprobe(bare)["streams"]
    assert {video[k] for k in ("color_space", "color_primaries", "color_transfer")} == {"smpte170m"}


def test_dolby_vision_without_a_common_base_is_refused(clips, transcode):
    clip = clips("vision.mp4", f"-f lavfi -i testsrc2=s=320x180:d=0.2 -pix_fmt yuv420p10le {HEVC} "
                 "-tag:v dvh1 {0}")  # fmt: skip
    # The box that says so: version 1.0, profile 5, level 1, RPU and base layer, compatible with nothing.
    box = struct.pack(">I4sBBHB", 32, b"dvcC", 1, 0, 5 << 9 | 1 << 3 | 0b101, 0) + bytes(19)
    data = clip.read_bytes()
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"dvh1"):
        at = data.index(name) - 4
        data = data[:at] + struct.pack(">I", struct.unpack(">I", data[at : at + 4])[0] + 32) + data[at + 4 :]
    at = data.index(b"hvcC") - 4
    changed = clip.with_name("five.mp4")
    changed.write_bytes(data[:at] + box + data[at:])
    with pytest.raises(TaskFailedError) as failure:
        transcode(changed, "mp4", 5)
    assert failure.value.code is Failure.CODEC_UNSUPPORTED
    assert "Dolby Vision" in failure.value.info
