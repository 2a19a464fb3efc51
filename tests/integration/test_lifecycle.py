"""Whatever dies or comes twice: each task reaches its end, once, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import m3u8
import pytest

from tests.integration.inside import item, keys, parent, pids, send, sweep, until
from transcoding.errors import Failure

#: One worker does all of a task here: test_fanout.py has those that are cut into parts. One that was killed
#: has soon lost its task.
PARAMETERS = {"FanOutSeconds": "86400", "LeaseSeconds": "5"}
LEASE = int(PARAMETERS["LeaseSeconds"])


@pytest.fixture(scope="module")
def long_clip(make_clip) -> Path:
    """A clip that takes a worker some seconds."""
    return make_clip("long.mp4", size="1920x1080", seconds=10, rate="25")


@pytest.fixture
def running(api, upload, wait, long_clip, tmp_path) -> Iterator[tuple[str, Callable[[], list[int]]]]:
    """A task that a worker is encoding, and a way to find its FFmpeg processes."""
    source = tmp_path / f"{time.time_ns()}.mp4"
    source.symlink_to(long_clip)
    _, answer = api("POST", "create-transcode", {"origin_url": upload(source), "task_config_temp_id": 4})
    task = wait(answer["id"], until={1})
    encoders = lambda: pids(source.name)  # noqa: E731
    until(
        lambda: (
            encoders() and api("GET", "get-transcode", {"id": task["id"]})[1]["transcoding"]["progress"] > 0
        )
    )
    yield task["id"], encoders
    api("POST", "delete-transcode", {"id": task["id"]})
    until(lambda: not encoders())


def test_a_video_becomes_a_url_that_plays(stack, api, s3, upload, wait, make_clip):
    status, answer = api("POST", "create-transcode", {"origin_url": upload(make_clip(seconds=14))})
    assert (status, answer["errcode"]) == (200, 1000)
    task = wait(answer["id"], until={2})
    assert task["progress"] == 1.0
    assert (task["error_code"], task["error_info"]) == (0, "")
    assert task["target_url"].startswith(f"{stack['output_base_url']}/outputs/{task['id']}/")
    with urllib.request.urlopen(task["target_url"]) as response:
        assert response.headers["Content-Type"] == "application/vnd.apple.mpegurl"
    stored = {f"{stack['output_base_url']}/{key}" for key in keys(stack, s3, task["id"])}
    named = {task["target_url"]}
    master = m3u8.load(task["target_url"])
    for playlist in (master.playlists[0].absolute_uri, master.media[0].absolute_uri):
        media = m3u8.load(playlist)
        named |= {playlist, media.segment_map[0].absolute_uri, *(s.absolute_uri for s in media.segments)}
    assert stored == named


def test_a_running_task_that_is_deleted_stops_and_leaves_nothing(stack, api, s3, running):
    task_id, encoders = running
    assert api("POST", "delete-transcode", {"id": task_id})[0] == 200
    assert until(lambda: not encoders()) < 5
    until(lambda: not keys(stack, s3, task_id), 10)
    time.sleep(3)
    assert keys(stack, s3, task_id) == []
    assert api("GET", "get-transcode", {"id": task_id})[1]["transcoding"]["status"] == 4


def test_a_finished_task_that_is_deleted_leaves_nothing(stack, api, s3, upload, transcode, make_clip):
    task = transcode(upload(make_clip()), format="mp4")
    assert keys(stack, s3, task["id"])
    assert api("POST", "delete-transcode", {"id": task["id"]})[0] == 200
    until(lambda: not keys(stack, s3, task["id"]), 10)


def test_progress_is_written_every_two_seconds_and_never_falls(api, running):
    task_id, _ = running
    seen = []
    for _ in range(30):
        task = api("GET", "get-transcode", {"id": task_id})[1]["transcoding"]
        if task["status"] != 1:
            break
        seen.append((time.monotonic(), task["progress"]))
        time.sleep(0.3)
    progress = [value for _, value in seen]
    assert progress == sorted(progress)
    changes = [seen[0][0], *(time for (_, before), (time, now) in pairwise(seen) if now != before)]
    assert len(changes) > 2
    assert max(later - earlier for earlier, later in pairwise(changes)) < 4


def test_a_message_that_comes_twice_does_nothing(stack, api, s3, running, wait):
    task_id, encoders = running
    send(stack, task_id)
    send(stack, task_id)
    assert wait(task_id)["status"] == 2
    assert item(stack, task_id)["attempt"] == {"N": "1"}
    before, stored = item(stack, task_id), keys(stack, s3, task_id)
    send(stack, task_id)
    time.sleep(3)
    assert (item(stack, task_id), keys(stack, s3, task_id)) == (before, stored)
    assert not encoders()


def test_a_message_for_a_task_that_never_was_does_nothing(stack, api):
    send(stack, "neverwas")
    time.sleep(2)
    assert api("GET", "get-transcode", {"id": "neverwas"})[0] == 404


def test_a_worker_that_is_killed_takes_ffmpeg_along_and_its_task_is_taken_up_again(
    stack, api, s3, running, wait
):
    task_id, encoders = running
    os.kill(parent(encoders()[0]), signal.SIGKILL)
    assert until(lambda: not encoders()) < 3
    expires = float(item(stack, task_id)["lease_expires_at"]["N"])
    assert expires - time.time() < LEASE
    until(lambda: time.time() > expires + 1)
    sweep(stack)
    assert wait(task_id)["status"] == 2
    assert item(stack, task_id)["attempt"] == {"N": "2"}
    assert {key.split("/")[2] for key in keys(stack, s3, task_id)} == {"2"}


def test_ffmpeg_that_is_killed_gives_the_task_another_attempt(stack, running, wait):
    task_id, encoders = running
    os.kill(encoders()[0], signal.SIGKILL)
    until(lambda: item(stack, task_id)["attempt"] == {"N": "2"})
    assert wait(task_id)["status"] == 2


def test_after_three_lost_attempts_a_task_fails_and_leaves_nothing(stack, s3, running, wait):
    task_id, encoders = running
    for attempt in (1, 2, 3):
        until(lambda n=attempt: item(stack, task_id)["attempt"] == {"N": str(n)} and encoders())
        os.kill(parent(encoders()[0]), signal.SIGKILL)
        expires = float(item(stack, task_id)["lease_expires_at"]["N"])
        until(lambda at=expires: time.time() > at + 1)
        sweep(stack)
    task = wait(task_id, until={3})
    assert task["error_code"] == Failure.WORKER_LOST
    assert task["error_info"]
    until(lambda: sweep(stack) or not keys(stack, s3, task_id), 90)


@pytest.mark.parametrize("name", ["missing.mp4", "text.mp4", "empty.mp4"])
def test_a_source_that_is_no_video_fails_with_its_own_code(stack, s3, transcode, name):
    contents = {"text.mp4": b"not a video\n" * 100, "empty.mp4": b""}
    codes = {
        "missing.mp4": Failure.SOURCE_NOT_FOUND,
        "text.mp4": Failure.NOT_MEDIA,
        "empty.mp4": Failure.SOURCE_EMPTY,
    }
    if name in contents:
        s3.put_object(Bucket=stack["source_bucket"], Key=name, Body=contents[name])
    task = transcode(f"s3://{stack['source_bucket']}/{name}")
    assert (task["status"], task["error_code"]) == (3, codes[name])
    assert task["error_info"]
    assert task["target_url"] == ""
    assert keys(stack, s3, task["id"]) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/video.mp4",
        "http://localhost/video.mp4",
        "http://169.254.169.254/latest/meta-data/",
        "http://2130706433/video.mp4",
        "http://10.0.0.1/video.mp4",
    ],
)
def test_an_address_inside_is_refused(transcode, url):
    task = transcode(url)
    assert (task["status"], task["error_code"]) == (3, Failure.SOURCE_ADDRESS_REFUSED)
