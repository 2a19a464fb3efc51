"""An adaptive result, made in parts, in every player: its quality changes, by hand and with the network."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import m3u8
import pytest

from local.package import FFMPEG_DIR, ROOT
from tests.conftest import some
from tests.integration.inside import item
from tests.integration.playback import Choose, Play, Playback, Player, Throttle, numbered

#: Small clips become parts of 6 s.
PARAMETERS = {"FanOutSeconds": "1", "PartSeconds": "1"}
SECONDS = 60
RATE = 12
HEIGHTS = (720, 480, 360)
#: Seconds of media that the players load ahead: a clip is short, and should not be loaded at once.
BUFFER = 12

BY_HAND = (Choose(0, 480), Choose(9, 720), Choose(18, 360))
FAST, SLOW = 8, 30


def network(best: int) -> tuple[Throttle, ...]:
    """Return what a network does; the best rendition, of these bits a second, fits into it for a while."""
    return (Throttle(0, 0.85 * best), Throttle(FAST, 3 * best), Throttle(SLOW, 0.58 * best))


FOOTAGE = ROOT.parent / "shared/media/big-buck-bunny-480p-30s.mp4"
#: Of the clip that is made in two codecs, with thumbnails and playlists of keyframes.
BOTH_SECONDS = 20

#: What plays which format.
PLAYERS = {
    "hls.js": ("hls.js", "m3u8"),
    "dash.js": ("dash.js", "mpd"),
    "shaka-hls": ("shaka", "m3u8"),
    "shaka-dash": ("shaka", "mpd"),
}
CASES = {f"{name}-{how}": (name, how) for name in PLAYERS for how in ("by-hand", "network")}
#: Each player once, and each way for HLS and DASH.
QUICK_BY_HAND, QUICK_NETWORK = ("dash.js", "shaka-hls"), ("hls.js", "shaka-dash")
QUICK = [f"{n}-by-hand" for n in QUICK_BY_HAND] + [f"{n}-network" for n in QUICK_NETWORK]


def film(folder: Path, picture: Sequence[str], width: int, seconds: int) -> Path:
    """Make a clip whose frames have their numbers in them, of FFmpeg's options for a picture so wide."""
    path = folder / "film.mp4"
    command = [str(FFMPEG_DIR / "ffmpeg"), "-nostdin", "-v", "error", *picture]
    command += ["-f", "lavfi", "-i", f"sine=frequency=440:sample_rate=48000:duration={seconds}"]
    command += ["-map", "0:v", "-map", "1:a", "-vf", f"fps={RATE},{numbered(width)}", "-t", str(seconds)]
    command += ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "24", "-c:a", "aac"]
    subprocess.run([*command, str(path)], check=True)
    return path


def both(task: dict[str, Any]) -> dict[str, str]:
    """The addresses of a DASH result, by format: it has HLS's playlists over the same segments."""
    return {"mpd": task["target_url"], "m3u8": task["target_url"].replace("manifest.mpd", "master.m3u8")}


@pytest.fixture(scope="module")
def playbacks(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    stack: Any,
    upload: Callable[[Path], str],
    transcode: Callable[..., dict[str, Any]],
    player: Player,
) -> dict[str, Playback]:
    """How each case went that is asked for; all are played side by side."""
    asked = {item.name for item in request.session.items if item.path == request.path}
    cases = [case for case in CASES if any(f"[{case}]" in name for name in asked)]
    picture = ["-f", "lavfi", "-i", f"testsrc2=size=1280x720:rate={RATE}"]
    source = upload(film(tmp_path_factory.mktemp("film"), picture, 1280, SECONDS))
    task = transcode(source, format="mpd", task_config_temp_id=6, thumbnails=False)
    assert task["status"] == 2, task
    assert int(item(stack, task["id"])["parts"]["N"]) > 4
    urls = both(task)
    best = max(variant.stream_info.bandwidth for variant in m3u8.load(urls["m3u8"]).playlists)
    ways = {"by-hand": BY_HAND, "network": network(best)}
    plays = []
    for case in cases:
        name, how = CASES[case]
        engine, extension = PLAYERS[name]
        plays.append(Play(urls[extension], engine, buffer=BUFFER, changes=ways[how], patience=120))
    return dict(zip(cases, player.play_together(plays), strict=True))


@pytest.mark.parametrize("case", some(CASES, *QUICK))
def test_it_plays_to_its_end_and_every_frame_is_right(case: str, playbacks: dict[str, Playback]) -> None:
    playback = playbacks[case]
    assert playback.errors == []
    assert (playback.stalls, playback.jumps, playback.resets) == ([], [], [])
    assert playback.duration == pytest.approx(SECONDS, abs=0.1)
    assert playback.played == pytest.approx(SECONDS, abs=0.1)
    assert len(playback.buffered) == 1
    assert playback.sound_bytes > 0
    assert len(playback.shown) > SECONDS
    wrong = [frame for frame in playback.shown if frame.number != round(frame.time * RATE)]
    assert wrong == []


@pytest.mark.parametrize("name", some(PLAYERS, *QUICK_BY_HAND))
def test_every_quality_can_be_chosen(name: str, playbacks: dict[str, Playback]) -> None:
    seen = [height for _, height in playbacks[f"{name}-by-hand"].heights]
    # A player may begin with another one.
    assert seen[-3:] == [choice.height for choice in BY_HAND]
    assert set(seen) <= set(HEIGHTS)


@pytest.mark.parametrize("name", some(PLAYERS, *QUICK_NETWORK))
def test_the_quality_follows_the_network(name: str, playbacks: dict[str, Playback]) -> None:
    heights = playbacks[f"{name}-network"].heights
    changes = list(pairwise(heights))
    ups = [time for (_, before), (time, height) in changes if height > before and time > FAST]
    downs = [time for (_, before), (time, height) in changes if height < before and time > SLOW]
    assert ups, heights
    assert downs, heights
    assert ups[0] < downs[-1], heights


@pytest.fixture(scope="module")
def in_both_codecs(
    tmp_path_factory: pytest.TempPathFactory,
    upload: Callable[[Path], str],
    transcode: Callable[..., dict[str, Any]],
    player: Player,
) -> dict[str, Playback]:
    """How a result in H.264 and AV1 went in each player."""
    # Of a generated picture, AV1 takes more bits.
    source = upload(film(tmp_path_factory.mktemp("film"), ["-i", str(FOOTAGE)], 854, BOTH_SECONDS))
    task = transcode(source, format="mpd", task_config_temp_id=6, codec="h264,av1")
    assert task["status"] == 2, task
    assert {r["codec"][:4] for r in task["output"]["renditions"]} == {"avc1", "av01"}
    urls = both(task)
    plays = [Play(urls[extension], engine, patience=60) for engine, extension in PLAYERS.values()]
    return dict(zip(PLAYERS, player.play_together(plays), strict=True))


@pytest.mark.skipif(not FOOTAGE.exists(), reason="there is no footage")
@pytest.mark.parametrize("name", PLAYERS)
def test_of_two_codecs_a_player_takes_the_one_of_fewer_bits_and_stays_with_it(
    name: str, in_both_codecs: dict[str, Playback]
) -> None:
    playback = in_both_codecs[name]
    assert playback.errors == []
    assert (playback.stalls, playback.jumps, playback.resets) == ([], [], [])
    assert playback.played == pytest.approx(BOTH_SECONDS, abs=0.1)
    assert [frame for frame in playback.shown if frame.number != round(frame.time * RATE)] == []
    media = [url for url in playback.loaded if "/av1-" in url or "/h264-" in url]
    segments = [url for url in media if url.endswith(".m4s")]
    taken = [url for url in segments if "/av1-" in url]
    assert len(taken) >= 3
    # Of HLS, shaka loads some of the first rendition too, without showing them: there was no reset.
    assert len(segments) == len(taken) or name == "shaka-hls", segments
