"""A long source that many workers share becomes one result or none, whatever dies, vanishes, comes twice.

Also where its workers are of different versions of the service.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from xml.etree import ElementTree

import m3u8
import pytest

from local.package import FFMPEG_DIR
from tests.conftest import some
from tests.integration.inside import (
    change,
    hurry,
    item,
    keys,
    parent,
    parts,
    pids,
    put,
    queued,
    send,
    until,
)
from tests.integration.playback import Color, Look
from transcoding.errors import Failure
from transcoding.model import MAX_ATTEMPTS, MAX_TRIES

#: Small clips become parts of 6 s, and a worker that died is missed soon.
PARAMETERS = {"FanOutSeconds": "1", "PartSeconds": "1", "LeaseSeconds": "5"}
LEASE = int(PARAMETERS["LeaseSeconds"])
SECONDS = 36
FRAMES = 25 * SECONDS
#: Its sound, and pieces of its picture; each of two workers has as many.
PARTS = 6
RUNNING, SUCCEEDED, FAILED = 1, 2, 3

Create = Callable[..., tuple[str, str]]


@pytest.fixture(scope="module")
def film(make_clip) -> Path:
    return make_clip("film.mkv", size="1280x720", seconds=SECONDS, options=("-g", "50"))


@pytest.fixture
def create(api, upload, film, tmp_path) -> Create:
    """Create a task with a source of a name of its own; gives its id and that name."""

    def run(clip: Path = film, **parameters: Any) -> tuple[str, str]:
        source = tmp_path / f"{time.time_ns()}{clip.suffix}"
        source.symlink_to(clip)
        wanted = {"task_config_temp_id": 1, "format": "m3u8"} | parameters
        status, answer = api("POST", "create-transcode", {"origin_url": upload(source)} | wanted)
        assert status == 200, answer
        return answer["id"], source.name

    return run


@pytest.fixture
def cut(stack, create) -> Callable[..., tuple[str, str]]:
    """Create a task, and give its id and its source's name when the picture is being encoded."""

    def run(**parameters: Any) -> tuple[str, str]:
        task_id, source = create(**parameters)
        until(lambda: "parts" in item(stack, task_id) and pids(source))
        return task_id, source

    return run


def frame_times(path: str) -> list[float]:
    command = [str(FFMPEG_DIR / "ffprobe"), "-v", "error", "-select_streams", "v", "-show_packets"]
    command += ["-show_entries", "packet=pts_time", "-of", "csv=p=0", path]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    times = sorted(float(line.strip(",")) for line in lines)
    return [round(time - times[0], 3) for time in times]


def named(task: dict[str, Any]) -> set[str]:
    """The URLs of all that a result's playlists, and its manifest, name."""
    folder = task["target_url"].rpartition("/")[0]
    master = m3u8.load(f"{folder}/master.m3u8")
    urls = {task["target_url"], f"{folder}/master.m3u8"}
    for playlist in (master.playlists[0].absolute_uri, master.media[0].absolute_uri):
        media = m3u8.load(playlist)
        urls |= {playlist, media.segment_map[0].absolute_uri, *(s.absolute_uri for s in media.segments)}
    return urls


def assert_whole(stack: Any, s3: Any, task: dict[str, Any], film: Path) -> None:
    """The result has every frame of the source at its time, and nothing else is left of the work."""
    assert (task["status"], task["progress"], task["error_code"]) == (SUCCEEDED, 1.0, 0), task
    stored = {f"{stack['output_base_url']}/{key}" for key in keys(stack, s3, task["id"])}
    assert stored == named(task)
    folder = task["target_url"].rpartition("/")[0]
    times = frame_times(f"{folder}/video/index.m3u8")
    assert times == frame_times(str(film))
    decoding = [str(FFMPEG_DIR / "ffmpeg"), "-nostdin", "-v", "warning", "-i", f"{folder}/master.m3u8"]
    decoded = subprocess.run([*decoding, "-f", "null", "-"], capture_output=True, text=True, check=True)
    assert decoded.stderr == ""
    until(lambda: not parts(stack, task["id"]), 10)


@pytest.mark.parametrize("format", ["m3u8", "mpd"])
def test_many_workers_make_one_result_and_tell_how_far_they_are(stack, api, s3, create, film, format):
    task_id, _ = create(format=format)
    seen: list[dict[str, Any]] = []
    while not seen or seen[-1]["status"] < SUCCEEDED:
        seen.append(api("GET", "get-transcode", {"id": task_id})[1]["transcoding"])
        time.sleep(0.2)
    assert_whole(stack, s3, seen[-1], film)
    progress = [task["progress"] for task in seen]
    assert progress == sorted(progress)
    assert len(set(progress)) >= PARTS // 2
    assert [task["target_url"] for task in seen[:-1]] == [""] * (len(seen) - 1)
    assert item(stack, task_id)["parts"] == {"N": str(PARTS)}


def test_a_manifest_tells_of_the_segments_that_are_there(s3, stack, create, wait):
    task = wait(create(format="mpd")[0])
    with urlopen(task["target_url"]) as answer:
        manifest = ElementTree.parse(answer)
    space = "{urn:mpeg:dash:schema:mpd:2011}"
    told = set()
    for representation in manifest.iter(f"{space}Representation"):
        template = next(representation.iter(f"{space}SegmentTemplate"))
        told.add(template.attrib["initialization"])
        at = 0
        for run in template.iter(f"{space}S"):
            at = int(run.get("t", at))
            for _ in range(int(run.get("r", 0)) + 1):
                told.add(template.attrib["media"].replace("$Time$", str(at)))
                at += int(run.attrib["d"])
    stored = {key.split("/", 3)[3] for key in keys(stack, s3, task["id"])}
    assert {name for name in stored if name.endswith((".m4s", ".mp4"))} == told


def test_the_part_of_a_worker_that_is_killed_goes_to_another(stack, s3, cut, wait, film):
    task_id, source = cut()
    victim = pids(source)[0]
    os.kill(parent(victim), signal.SIGKILL)
    assert until(lambda: victim not in pids(source)) < 3
    time.sleep(LEASE + 1)
    hurry(stack, task_id)
    assert_whole(stack, s3, wait(task_id), film)
    assert (item(stack, task_id)["attempt"], item(stack, task_id)["finishes"]) == ({"N": "1"}, {"N": "1"})


def test_the_parts_of_ffmpeg_that_is_killed_are_tried_again(stack, s3, cut, wait, film):
    task_id, source = cut()
    for pid in pids(source):
        os.kill(pid, signal.SIGKILL)
    assert_whole(stack, s3, wait(task_id), film)


def workers(source: str) -> set[int]:
    """The workers that are looking at a source or encoding it now."""
    found = set()
    for program in ("bin/ffmpeg", "bin/ffprobe", "transcoding.media.inspection.index"):
        for pid in pids(source, program):
            with suppress(FileNotFoundError):
                found.add(parent(pid))
    return found - {1}


def lives(stack: Any, task_id: str) -> int:
    """How many more workers may take anything of a task up that is not done, at least."""
    task = item(stack, task_id)
    undone = [part for part in parts(stack, task_id).values() if "done" not in part]
    if undone or "parts" in task:
        left = [MAX_TRIES - int(part["tries"]["N"]) for part in undone]
        return min([*left, MAX_ATTEMPTS - int(task.get("finishes", {"N": "0"})["N"])])
    return MAX_ATTEMPTS - int(task["attempt"]["N"])


@pytest.mark.parametrize("seed", some([1, 2], 2))
def test_workers_may_be_killed_at_any_time(stack, s3, create, wait, film, seed):
    chance = random.Random(seed)
    task_id, source = create()
    ends = time.monotonic() + 20
    known: set[int] = set()
    killed = 0
    while time.monotonic() < ends and int(item(stack, task_id)["status"]["N"]) < SUCCEEDED:
        found = workers(source)
        known |= found
        if lives(stack, task_id) and found:
            os.kill(chance.choice(sorted(found)), signal.SIGKILL)
            killed += 1
        time.sleep(chance.uniform(0.2, 2.5))
        hurry(stack, task_id)
    assert killed >= 2

    def done() -> bool:
        hurry(stack, task_id)
        time.sleep(1)
        return int(item(stack, task_id)["status"]["N"]) >= SUCCEEDED

    until(done, 120)
    assert_whole(stack, s3, wait(task_id), film)


def test_a_worker_that_is_killed_when_the_last_part_is_done_is_replaced(stack, s3, create, wait, film):
    task_id, source = create()
    known: set[int] = set()

    def left() -> int:
        return int(item(stack, task_id).get("parts_left", {"N": str(PARTS)})["N"])

    while left() > 1:
        known |= workers(source)
        time.sleep(0.1)
    known |= workers(source)
    while left():
        pass
    for worker in known:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
    time.sleep(LEASE + 1)
    hurry(stack, task_id)
    assert_whole(stack, s3, wait(task_id), film)


def test_a_task_that_is_deleted_while_its_parts_run_leaves_nothing(stack, api, s3, cut):
    task_id, source = cut()
    until(lambda: len(pids(source)) == 2)
    assert api("POST", "delete-transcode", {"id": task_id})[0] == 200
    assert until(lambda: not pids(source)) < 10
    until(lambda: not keys(stack, s3, task_id), 10)
    time.sleep(3)
    assert keys(stack, s3, task_id) == []
    assert not pids(source)
    hurry(stack, task_id)
    assert parts(stack, task_id) == {}
    assert item(stack, task_id)["status"] == {"N": "4"}


def assert_nothing_left(stack: Any, s3: Any, task_id: str, source: str) -> None:
    until(lambda: not pids(source), 10)
    until(lambda: not keys(stack, s3, task_id), 10)
    hurry(stack, task_id)
    assert parts(stack, task_id) == {}


@pytest.mark.parametrize("name", ["film.mkv", "film.mp4"])
def test_a_source_that_is_cut_off_fails_once(stack, s3, create, wait, make_clip, tmp_path, name):
    index_first = ("-movflags", "+faststart") if name == "film.mp4" else ()
    clip = make_clip(name, size="1280x720", seconds=SECONDS, options=("-g", "50", *index_first))
    cut_off = tmp_path / f"cut-off-{name}"
    cut_off.write_bytes(clip.read_bytes()[: clip.stat().st_size * 6 // 10])
    task_id, source = create(cut_off)
    task = wait(task_id)
    assert (task["status"], task["error_code"]) == (FAILED, Failure.DAMAGED)
    assert "Upload the whole file again" in task["error_info"]
    assert item(stack, task_id)["attempt"] == {"N": "1"}
    assert_nothing_left(stack, s3, task_id, source)


def test_a_source_that_vanishes_fails_the_task_once(stack, s3, cut, wait):
    task_id, source = cut()
    s3.delete_object(Bucket=stack["source_bucket"], Key=source)
    task = wait(task_id)
    assert (task["status"], task["error_code"]) == (FAILED, Failure.SOURCE_NOT_FOUND)
    assert "removed" in task["error_info"]
    assert item(stack, task_id)["attempt"] == {"N": "1"}
    assert_nothing_left(stack, s3, task_id, source)
    assert item(stack, task_id)["error_info"]["S"] == task["error_info"]


@pytest.mark.parametrize("other", ["text", "picture", "shorter"])
def test_a_source_that_is_overwritten_fails_the_task(stack, s3, cut, wait, make_clip, other):
    task_id, source = cut()
    content = b"not a video\n" * 100_000
    if other == "picture":
        content = make_clip("other.mkv", size="320x240", seconds=SECONDS, audio=False).read_bytes()
    elif other == "shorter":
        content = make_clip("short.mkv", size="1280x720", seconds=2).read_bytes()
    s3.put_object(Bucket=stack["source_bucket"], Key=source, Body=content)
    task = wait(task_id)
    assert (task["status"], task["error_code"]) == (FAILED, Failure.SOURCE_CHANGED)
    assert_nothing_left(stack, s3, task_id, source)


def test_messages_that_come_twice_late_or_never_were_change_nothing(stack, s3, cut, wait, film):
    task_id, source = cut()
    for number in (0, 1, 1, PARTS - 1, PARTS, -1, 10**9, "0", None, 1.5):
        send(stack, task_id, attempt=1, part=number)
    for attempt in (0, 2, "1", None):
        send(stack, task_id, attempt=attempt, part=0)
    send(stack, task_id)
    send(stack, "neverwas", attempt=1, part=0)
    malformed = [{}, [], 1, None, "", {"task_id": task_id}, {"task_id": task_id, "step": "part"}]
    for message in malformed:
        put(stack, json.dumps(message))
    put(stack, "{")
    task = wait(task_id)
    assert_whole(stack, s3, task, film)
    assert item(stack, task_id)["attempt"] == {"N": "1"}
    before, stored = item(stack, task_id), keys(stack, s3, task_id)
    for number in range(PARTS):
        send(stack, task_id, attempt=1, part=number)
    send(stack, task_id)
    until(lambda: queued(stack) == 0)
    time.sleep(1)
    assert (item(stack, task_id), keys(stack, s3, task_id)) == (before, stored)
    assert not pids(source)


def renamed(made: dict[str, Any]) -> dict[str, Any]:
    """A part with the same streams by other names, as of a version that makes other renditions."""
    return made | {"tracks": {f"{name}-360": track for name, track in made["tracks"].items()}}


def encoded_otherwise(made: dict[str, Any]) -> dict[str, Any]:
    """A part whose decoder needs another configuration, as of a version with another encoder."""
    tracks = {name: track | {"configuration": "another"} for name, track in made["tracks"].items()}
    return made | {"tracks": tracks}


def reshaped(stored: dict[str, Any]) -> dict[str, Any]:
    """What is stored in a shape that this version does not know."""
    return {"version": 2, "stored": stored}


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("source.json", reshaped),
        ("parts/1.json", renamed),
        pytest.param("parts/1.json", encoded_otherwise, marks=pytest.mark.slow),
    ],
)
def test_a_task_that_another_version_has_cut_is_planned_again(stack, s3, cut, wait, film, name, other):
    task_id, _ = cut()
    key = f"work/{task_id}/1/{name}"
    until(lambda: key in keys(stack, s3, task_id))
    place = {"Bucket": stack["output_bucket"], "Key": key}
    stored = json.load(s3.get_object(**place)["Body"])
    s3.put_object(**place, Body=json.dumps(other(stored)))
    assert_whole(stack, s3, wait(task_id), film)
    assert item(stack, task_id)["attempt"] == {"N": "2"}


def test_a_task_goes_on_whose_items_another_version_has_written(stack, s3, cut, wait, film):
    task_id, _ = cut()
    # These are new since 0.1.0. The one of a later version is left alone.
    change(stack, task_id, remove=("last_write",), later="1")
    for part in parts(stack, task_id).values():
        change(stack, part["id"]["S"], remove=("last_write", "sends", "sent_at"), later="1")
    hurry(stack, task_id)
    assert_whole(stack, s3, wait(task_id), film)
    assert item(stack, task_id)["attempt"] == {"N": "1"}
    assert item(stack, task_id)["later"] == {"S": "1"}


def test_a_small_task_does_not_wait_for_all_parts_of_a_long_one(
    stack, s3, cut, create, wait, make_clip, film
):
    task_id, _ = cut()
    small, _ = create(make_clip("small.mkv", size="320x180", seconds=1))
    assert wait(small)["status"] == SUCCEEDED
    assert int(item(stack, task_id)["parts_left"]["N"]) >= 2
    assert_whole(stack, s3, wait(task_id), film)


#: Six seconds of each, as long as a part.
COLORS: dict[str, Color] = {"red": (255, 0, 0), "lime": (0, 255, 0), "blue": (0, 0, 255)}
JOINTS = (6.0, 12.0)


@pytest.fixture(scope="module")
def colors(tmp_path_factory) -> Path:
    clip: Path = tmp_path_factory.mktemp("colors") / "colors.mp4"
    picture = "".join(f"color={name}:size=1280x720:rate=25:duration=6[{name}];" for name in COLORS)
    picture += "".join(f"[{name}]" for name in COLORS) + "concat=n=3"
    command = [str(FFMPEG_DIR / "ffmpeg"), "-v", "error", "-f", "lavfi", "-i", picture]
    command += ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration=18"]
    command += ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "50", "-c:a", "aac"]
    subprocess.run([*command, str(clip)], check=True)
    return clip


@pytest.mark.parametrize("format", some(["m3u8", "mpd", "mp4"], "mpd"))
def test_what_many_workers_made_plays_without_a_seam(stack, create, wait, colors, player, format):
    task = wait(create(colors, format=format)[0])
    assert task["status"] == SUCCEEDED, task
    # The sound and three pieces of the picture.
    assert item(stack, task["id"])["parts"] == {"N": "4"}
    times = [1.0, *(joint + side for joint in JOINTS for side in (-0.5, -0.06, 0.02, 0.5)), 17.9]
    playback = player.play(task["target_url"], looks=[Look(time) for time in times])
    assert (playback.errors, playback.stalls, playback.jumps) == ([], [], [])
    assert playback.played == pytest.approx(playback.duration, abs=0.1)
    assert playback.duration == pytest.approx(18, abs=0.1)
    assert len(playback.buffered) == 1
    assert playback.frames == pytest.approx(18 * 25, abs=3)
    assert playback.sound_bytes > 0
    for time_, color in zip(times, playback.colors, strict=True):
        name = list(COLORS)[sum(time_ >= joint for joint in JOINTS)]
        assert color == pytest.approx(COLORS[name], abs=40), f"at {time_} s"
