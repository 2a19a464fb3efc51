"""What a file tells of its owner is not passed on."""

from __future__ import annotations

from contextlib import suppress

import pytest

from tests.media.conftest import ffprobe
from transcoding.media.planning.formats import FORMATS

H264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"
#: Found nowhere by chance.
SECRETS = {
    "location": "+48.8584+002.2945/",
    "com.apple.quicktime.location.ISO6709": "+48.8585+002.2946+035.000/",
    "make": "Phonemaker",
    "model": "Phonemodel 7",
    "creation_time": "2021-03-04T05:06:07Z",
    "title": "Annas Geburtstag",
    "comment": "Musterstrasse 12",
    "artist": "Anna Muster",
}


@pytest.mark.parametrize("format", sorted(FORMATS))
@pytest.mark.parametrize("attempt", [1, 2])
def test_nothing_of_the_owner_is_passed_on(clips, transcode, format, attempt):
    told = " ".join(f"-metadata '{k}={v}'" for k, v in SECRETS.items())
    streams = "-metadata:s:v 'handler_name=Annas Kamera' -metadata:s:a 'title=Annas Mikrofon'"
    clip = clips(
        "phone.mov",
        "-f lavfi -i testsrc2=s=320x180:r=25:d=1 -f lavfi -i sine=d=1 "
        f"{H264} -c:a aac {told} {streams} -timecode 05:06:07:00 -movflags use_metadata_tags {{0}}",
    )
    written = clip.read_bytes()
    secrets = [v.encode() for v in (*SECRETS.values(), "Annas Kamera") if v.encode() in written]
    assert len(secrets) >= 7
    result = None
    with suppress(OSError):
        result = transcode(clip, format, 5, attempt=attempt)
    result = result or transcode(clip, format, 5, attempt=2)
    files = [p for p in result.folder.rglob("*") if p.is_file()]
    assert files
    made = b"".join(p.read_bytes() for p in files)
    assert not [secret for secret in secrets if secret in made]
    # This ffprobe reads no DASH; the playlists beside it are of the same segments.
    entry = result.folder / "master.m3u8" if format == "mpd" else result.entry
    report = ffprobe(entry, "-show_chapters")
    tags = [report["format"].get("tags", {}), *(s.get("tags", {}) for s in report["streams"])]
    assert not {"creation_time", "timecode"} & {key for each in tags for key in each}
    # The names of tracks are for viewers, and stay.
    assert "title" not in tags[0]
    assert {s["codec_type"] for s in report["streams"]} <= {"video", "audio"}
