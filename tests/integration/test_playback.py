"""What the service makes plays in a browser, from start to end, as it was meant to look and sound."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from local.package import FFMPEG_DIR
from tests.integration.playback import Color, Look, Player

SECONDS = 9.0
#: Three seconds of each, so that the second HLS segment, of 6 s each, begins with the last one.
COLORS: dict[str, Color] = {"red": (255, 0, 0), "lime": (0, 255, 0), "blue": (0, 0, 255)}
#: What is seen when: in the middle of each colour and a tenth of a second from each change.
SEEN = {1.5: "red", 2.9: "red", 3.1: "lime", 4.5: "lime", 5.9: "lime", 6.1: "blue", 7.5: "blue", 8.8: "blue"}

_PICTURE = "".join(f"color={name}:size=960x540:rate=25:duration=3[{name}];" for name in COLORS)
_PICTURE += "".join(f"[{name}]" for name in COLORS) + "concat=n=3"
PICTURE = ["-f", "lavfi", "-i", _PICTURE, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]
SOUND = ["-f", "lavfi", "-i", f"sine=frequency=440:sample_rate=48000:duration={SECONDS:g}", "-c:a", "aac"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same clip with picture and sound, with its picture only and with its sound only."""
    folder = tmp_path_factory.mktemp("clips")
    streams = {
        "both": [*PICTURE[:4], *SOUND[:4], *PICTURE[4:], *SOUND[4:]],
        "picture": PICTURE,
        "sound": SOUND,
    }
    for name, arguments in streams.items():
        command = [str(FFMPEG_DIR / "ffmpeg"), "-nostdin", "-v", "error", *arguments, f"{folder}/{name}.mp4"]
        subprocess.run(command, check=True)
    return {name: folder / f"{name}.mp4" for name in streams}


@dataclass(frozen=True)
class Case:
    clip: str
    format: str
    quality: int
    size: tuple[int, int]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(Case("both", "m3u8", 5, (960, 540)), id="hls-copied"),
        pytest.param(Case("both", "m3u8", 1, (640, 360)), id="hls-360p"),
        pytest.param(Case("both", "mp4", 5, (960, 540)), id="mp4-copied"),
        pytest.param(Case("both", "mp4", 1, (640, 360)), id="mp4-360p"),
        pytest.param(Case("picture", "m3u8", 1, (640, 360)), id="hls-without-sound"),
        pytest.param(Case("sound", "m3u8", 5, (0, 0)), id="hls-without-picture"),
        pytest.param(Case("both", "mpd", 1, (640, 360)), id="dash-360p"),
        pytest.param(Case("both", "webm", 1, (640, 360)), id="webm-360p"),
    ],
)
def test_a_result_plays_from_start_to_end(
    case: Case,
    sources: dict[str, Path],
    upload: Callable[[Path], str],
    transcode: Callable[..., dict[str, Any]],
    player: Player,
) -> None:
    task = transcode(upload(sources[case.clip]), format=case.format, task_config_temp_id=case.quality)
    assert task["status"] == 2, task
    looks = [] if case.clip == "sound" else [Look(time) for time in SEEN]
    playback = player.play(task["target_url"], rate=2, looks=looks)
    assert playback.errors == []
    assert (playback.stalls, playback.jumps) == ([], [])
    assert playback.duration == pytest.approx(SECONDS, abs=0.2)
    assert playback.played == pytest.approx(playback.duration, abs=0.2)
    assert (playback.width, playback.height) == case.size
    assert playback.frames == pytest.approx(0 if case.clip == "sound" else SECONDS * 25, abs=5)
    assert (playback.sound_bytes > 0) == (case.clip != "picture")
    for look, color in zip(looks, playback.colors, strict=True):
        assert color == pytest.approx(COLORS[SEEN[look.time]], abs=40), f"at {look.time} s"


@pytest.mark.parametrize("format", ["m3u8", "mpd"])
def test_subtitles_are_shown_when_they_are_due(
    format: str,
    sources: dict[str, Path],
    tmp_path: Path,
    upload: Callable[[Path], str],
    transcode: Callable[..., dict[str, Any]],
    player: Player,
) -> None:
    text, film = tmp_path / "text.srt", tmp_path / f"film-{format}.mkv"
    text.write_text(
        "1\n00:00:01,000 --> 00:00:02,000\nred & <i>warm</i>\n\n"
        "2\n00:00:05,500 --> 00:00:06,500\nfrom lime to blue\n"
    )
    command = [
        str(FFMPEG_DIR / "ffmpeg"),
        "-nostdin",
        "-v",
        "error",
        "-i",
        str(sources["both"]),
        "-i",
        str(text),
    ]
    command += ["-c", "copy", "-c:s", "subrip", "-metadata:s:s", "language=eng", "-disposition:s", "default"]
    subprocess.run([*command, str(film)], check=True)
    task = transcode(upload(film), format=format, task_config_temp_id=1)
    assert task["status"] == 2, task
    playback = player.play(task["target_url"], rate=2, reads=[1.1, 1.9, 5.6, 6.4])
    assert playback.errors == []
    assert playback.texts == ["red & warm"] * 2 + ["from lime to blue"] * 2
