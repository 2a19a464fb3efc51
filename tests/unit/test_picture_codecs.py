"""The names of codecs in playlists, and the colours and bits of their pictures."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from tests.unit.test_plan import HLS, MP4, SOURCE, VIDEO, with_video
from transcoding.errors import Failure, TaskFailedError
from transcoding.media.inspection.colour import is_deep
from transcoding.media.planning.codecs import AV1, HEVC
from transcoding.media.planning.formats import FORMATS
from transcoding.media.planning.plan import plan

HDR10 = {"primaries": "bt2020", "transfer": "smpte2084", "matrix": "bt2020nc", "pixel_format": "yuv420p10le"}


def hevc(profile: int, compatible: int, constraints: str, level: int) -> bytes:
    return (
        b"....hvcC"
        + struct.pack(">BBI", 1, profile, compatible)
        + bytes.fromhex(constraints)
        + bytes([level])
    )


@pytest.mark.parametrize(
    ("record", "name"),
    [
        # The examples of ISO/IEC 14496-15, Annex E.3, and a profile in a space of its own.
        (hevc(1, 0x60000000, "b00000000000", 93), "hvc1.1.6.L93.B0"),
        (hevc(2, 0x20000000, "900000000000", 153), "hvc1.2.4.L153.90"),
        (hevc(0x20 | 2, 0x20000000, "b00000000000", 150), "hvc1.2.4.H150.B0"),
        (hevc(0x40 | 4, 0x08000000, "9d0800000000", 120), "hvc1.A4.10.L120.9D.8"),
    ],
)
def test_the_name_of_hevc(record, name):
    assert HEVC.codec_string(record) == name


@pytest.mark.parametrize(
    ("configuration", "colours", "name"),
    [
        # Examples of "Codecs Parameter String" of AV1's binding to MP4.
        ((0x81, 0x04, 0x0C, 0), None, "av01.0.04M.08"),
        ((0x81, 0x05, 0x4C, 0), (9, 16, 9, 0), "av01.0.05M.10.0.110.09.16.09.0"),
        ((0x81, 0x08, 0x8D, 0), (1, 1, 1, 0), "av01.0.08H.08"),
        ((0x81, 0x00, 0x0D, 0), (6, 6, 6, 0), "av01.0.00M.08.0.111.06.06.06.0"),
        ((0x81, 0x4D, 0x68, 0), (1, 1, 1, 0x80), "av01.2.13M.12.0.100.01.01.01.1"),
    ],
)
def test_the_name_of_av1(configuration, colours, name):
    box = b"" if colours is None else b"....colrnclx" + struct.pack(">HHHB", *colours)
    assert AV1.codec_string(b"....av1C" + bytes(configuration) + box) == name


@pytest.mark.parametrize("codec", [HEVC, AV1])
def test_an_init_segment_of_another_codec_has_no_name(codec):
    with pytest.raises(ValueError, match="describes no"):
        codec.codec_string(b"....avcC")


@pytest.mark.parametrize(
    ("name", "deep"),
    [
        *(("yuv420p", False), ("nv12", False), ("yuvj420p", False), ("gbrp", False), ("bgra", False)),
        *(("rgb565le", False), ("bgr444be", False)),
        *(
            ("yuv420p10le", True),
            ("yuv444p12be", True),
            ("p010le", True),
            ("rgb48le", True),
            ("gray16be", True),
        ),
        *(("x2rgb10le", True), ("gbrpf32le", True)),
    ],
)
def test_a_deep_picture_is_known_by_its_format(name, deep):
    assert is_deep(replace(VIDEO, pixel_format=name)) is deep


@pytest.mark.parametrize(
    ("codecs", "changes", "expected"),
    [
        ("h264", HDR10, ("SDR", "bt709", 8)),
        ("hevc", HDR10, ("PQ", "smpte2084", 10)),
        ("av1", HDR10 | {"transfer": "arib-std-b67"}, ("HLG", "arib-std-b67", 10)),
        # Colours of HDR that no player knows become those of HDR10.
        ("av1", HDR10 | {"primaries": "smpte432"}, ("PQ", "smpte2084", 10)),
        ("hevc", {"pixel_format": "yuv422p10le"}, ("SDR", "bt709", 10)),
        ("hevc", {}, ("SDR", "bt709", 8)),
        ("av1", {"primaries": "bt2020", "pixel_format": "yuv420p10le"}, ("SDR", "bt709", 10)),
    ],
)
def test_bits_and_hdr_stay_where_the_codec_has_them(codecs, changes, expected):
    (picture,) = plan(with_video(**changes), HLS, 5, codecs=codecs).pictures
    assert (picture.video_range, picture.colour.transfer, picture.bits) == expected
    assert picture.colour.primaries == ("bt2020" if picture.video_range != "SDR" else "bt709")


@pytest.mark.parametrize(
    ("codecs", "changes", "copied"),
    [
        ("hevc", {"codec": "hevc", "profile": "Main", "level": 93}, True),
        ("hevc", {"codec": "hevc", "profile": "Main 10", "level": 150} | HDR10, True),
        ("hevc", {"codec": "hevc", "profile": "Main", "level": 156}, False),
        ("hevc", {"codec": "hevc", "profile": "Rext", "level": 93}, False),
        ("av1", {"codec": "av1", "profile": "Main", "level": 5} | HDR10, True),
        ("av1", {"codec": "av1", "profile": "Main", "level": 14}, False),
        ("av1", {"codec": "av1", "profile": "Main", "level": 5} | HDR10 | {"primaries": "smpte432"}, False),
        ("h264", {"codec": "hevc", "profile": "Main", "level": 93}, False),
    ],
)
def test_what_already_is_in_the_codec_is_copied(codecs, changes, copied):
    assert plan(with_video(**changes), MP4, 5, codecs=codecs).copies_picture is copied


@pytest.mark.parametrize(("codecs", "side"), [("hevc", 16), ("av1", 64)])
def test_a_picture_that_is_too_small_for_its_codec_is_told(codecs, side):
    assert plan(with_video(width=side, height=side), MP4, 5, codecs=codecs).pictures
    with pytest.raises(TaskFailedError) as failure:
        plan(with_video(width=side, height=side - 2), MP4, 5, codecs=codecs)
    assert failure.value.code is Failure.DIMENSIONS_UNSUPPORTED
    assert f"{side} pixels" in failure.value.info


def test_av1_is_in_the_newer_kind_of_file_under_either_name():
    muxers = [plan(SOURCE, FORMATS["mov"], 5, codecs=c).format.muxer for c in ("h264", "hevc", "av1")]
    assert muxers == ["mov", "mov", "mp4"]
