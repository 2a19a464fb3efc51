"""Pictures come out upright, whole and in their shape: what was in a corner is in the right one."""

from __future__ import annotations

from itertools import product

import pytest

from tests.conftest import some
from tests.media.conftest import ffmpeg, ffprobe

H264 = "-c:v libx264 -preset ultrafast -qp 10 -pix_fmt yuv420p"
#: The colours of the corners, by the signs of x and y from the middle; y goes down.
CORNERS = {(-1, -1): (255, 0, 0), (1, -1): (0, 255, 0), (-1, 1): (0, 0, 255), (1, 1): (255, 255, 255)}


def corners(size, seconds=0.2):
    """A source for `-f lavfi -i` with a colour in each quarter."""
    quarters = "drawbox=x=iw/2:w=iw:h=ih/2:c=0x00FF00:t=fill,drawbox=y=ih/2:w=iw/2:h=ih:c=0x0000FF:t=fill,"
    quarters += "drawbox=x=iw/2:y=ih/2:w=iw:h=ih:c=white:t=fill"
    return f"-f lavfi -i color=0xFF0000:s={size}:r=25:d={seconds},format=rgb24,{quarters}"


def seen(result):
    """The corners of the first frame, with each pixel's nearest colour."""
    video = result.streams()["video"]
    made = {}
    for x, y in CORNERS:
        at = (video["width"] * (2 + x) // 4 - 1, video["height"] * (2 + y) // 4 - 1)
        made[x, y] = tuple(255 * (c > 127) for c in result.pixel(0, *at))
    return video["width"], video["height"], made


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("flip", ["", "-display_hflip", "-display_vflip"])
@pytest.mark.parametrize("format", some(["mp4", "webm"], "mp4"))
def test_a_display_matrix_is_applied(clips, transcode, turn, flip, format):
    flat = clips("flat.mp4", f"{corners('320x180')} {H264} {{0}}")
    turned = flat.with_name(f"turned{turn}{flip}.mp4")
    ffmpeg(f"-display_rotation {turn} {flip} -i {{0}} -c copy {{1}}", flat, turned)
    sides = ffprobe(turned)["streams"][0].get("side_data_list")
    (a, b), (c, d) = (1, 0), (0, 1)
    if sides:
        rows = sides[0]["displaymatrix"].strip().splitlines()
        (a, b), (c, d) = ([int(n) // 65536 for n in row.split(":")[1].split()[:2]] for row in rows[:2])
    expected = {(a * x + c * y, b * x + d * y): colour for (x, y), colour in CORNERS.items()}
    result = transcode(turned, format, 5)
    assert seen(result) == (*((320, 180) if a else (180, 320)), expected)
    assert "side_data_list" not in result.streams()["video"]


@pytest.mark.parametrize(
    ("size", "shape", "turn", "quality", "made"),
    [
        ("720x576", "64/45", 0, 5, (1024, 576)),
        ("720x480", "8/9", 0, 5, (640, 480)),
        ("1440x1080", "4/3", 0, 1, (640, 360)),
        ("720x576", "64/45", 90, 5, (576, 1024)),
        ("352x576", "24/11", 0, 5, (768, 576)),
        # Nobody's pixels: such a ratio is a mistake.
        ("320x180", "100/1", 0, 5, (320, 180)),
        ("1080x1920", "1", 0, 1, (360, 640)),
        ("1000x400", "1", 0, 1, (900, 360)),
        ("2000x100", "1", 0, 1, (2000, 100)),
    ],
)
def test_pixels_come_out_square(clips, transcode, size, shape, turn, quality, made):
    flat = clips("flat.mp4", f"{corners(size)} -vf setsar={shape}:max=1000 {H264} {{0}}")
    clip = flat
    if turn:
        clip = flat.with_name("turned.mp4")
        ffmpeg(f"-display_rotation -{turn} -i {{0}} -c copy {{1}}", flat, clip)
    result = transcode(clip, "mp4", quality)
    video = result.streams()["video"]
    assert (video["width"], video["height"]) == made
    assert video.get("sample_aspect_ratio", "1:1") == "1:1"
    turned = {(-y, x): colour for (x, y), colour in CORNERS.items()}
    assert seen(result)[2] == (turned if turn else CORNERS)


@pytest.mark.parametrize(
    ("size", "made"),
    [
        ("1x1", (2, 2)),
        ("1x64", (2, 64)),
        ("3x3", (2, 2)),
        ("17x15", (16, 14)),
        ("427x241", (426, 240)),
        ("4096x16", (4096, 16)),
        ("7680x4320", (7680, 4320)),
    ],
)
@pytest.mark.parametrize("format", ["mp4", "m3u8"])
def test_every_size(clips, transcode, size, made, format):
    clip = clips("size.mov", f"{corners(size, 0.04)} -c:v png {{0}}")
    result = transcode(clip, format, 5)
    video = result.streams()["video"]
    assert (video["width"], video["height"], video["nb_read_frames"]) == (*made, "1")
    if min(made) >= 14:
        assert seen(result)[2] == CORNERS


@pytest.mark.parametrize(
    ("pixels", "turn"), product(["yuv422p10le", "yuv444p", "gbrp", "yuv410p", "gray", "rgba"], [0, 90])
)
def test_odd_sizes_of_every_kind_of_pixels(clips, transcode, pixels, turn):
    # HDR and wide gamut go another way than the rest.
    colour = "setparams=colorspace=bt2020nc:color_primaries=bt2020:color_trc=smpte2084"
    if not pixels.startswith("yuv4"):
        colour = "null"
    clip = clips("odd.mkv", f"{corners('427x241')} -vf format={pixels},{colour} -c:v ffv1 {{0}}")
    turned = clip.with_name("turned.mkv")
    ffmpeg(f"-display_rotation -{turn} -i {{0}} -c copy {{1}}", clip, turned)
    result = transcode(turned, "mp4", 5)
    width, height, made = seen(result)
    assert (width, height) == ((240, 426) if turn else (426, 240))
    turned = {(-y, x): colour for (x, y), colour in CORNERS.items()}
    if pixels != "gray":
        assert made == (turned if turn else CORNERS)
