"""What FFmpeg's error output tells of the source."""

from __future__ import annotations

import pytest

from transcoding.media.ffmpeg import process
from transcoding.media.ffmpeg.process import Encoder
from transcoding.media.ffmpeg.tools import complaints

HARMLESS = (
    "[h264 @ N] mmco: unref short failure",
    "[h264 @ N] co located POCs unavailable",
    "[hevc @ N] Could not find ref with POC N",
    "[libx264 @ N] VBV underflow (frame N, N bits)",
    "[mpegts @ N] Packet corrupt (stream = N, dts = N).",
    "    Last message repeated N times",
)
SERIOUS = (
    "[vist#N:N/h264 @ N] [dec:h264 @ N] corrupt decoded frame",
    "[h264 @ N] error while decoding MB N N, bytestream N",
    "[dec:libdav1d @ N] Error submitting packet to decoder: Invalid data found when processing input",
    "[dec:av1 @ N] Decoding error: Invalid data found when processing input",
)


def said(*lines: str) -> Encoder:
    """FFmpeg, as it has ended after saying so."""
    text = "\n".join(lines)
    with Encoder(["sh", "-c", f"cat >&2 <<'END'\n{text}\nEND"]) as encoder:
        assert encoder.wait(10) == 0
        return encoder


def test_messages_of_one_kind_differ_in_their_numbers():
    encoder = said(
        "[h264 @ 0x55d0c8a3b2c0] error while decoding MB 8 0, bytestream 15257",
        "[h264 @ 0x55d0c8a3b2c0] error while decoding MB 17 9, bytestream -5",
        "[vist#0:0/h264 @ 0x1] [dec:h264 @ 0x2] corrupt decoded frame",
        "[ffv1 @ 0x3] slice damaged at 12.500 seconds",
    )
    assert encoder.kinds == {
        "[h264 @ N] error while decoding MB N N, bytestream N",
        "[vist#N:N/h264 @ N] [dec:h264 @ N] corrupt decoded frame",
        "[ffv1 @ N] slice damaged at N seconds",
    }


def test_what_a_hostile_source_leads_to_takes_no_more_memory_than_that(monkeypatch):
    monkeypatch.setattr(process, "_MOST_KINDS", 3)
    encoder = said(*("x" * number for number in range(300, 310)), *("abcdefgh"))
    assert len(encoder.kinds) == 3
    assert max(map(len, encoder.kinds)) <= 200


@pytest.mark.parametrize("kind", SERIOUS)
def test_a_frame_that_could_not_be_decoded_is_complained_of(kind):
    assert complaints({*HARMLESS, kind}, "h264") == {kind}


def test_frames_that_nobody_sees_are_none_of_it():
    assert not complaints(HARMLESS, "h264")
    assert not complaints(HARMLESS, "hevc")
    assert not complaints({"[h264 @ N] error while decoding MB N N, bytestream N"}, "hevc")
