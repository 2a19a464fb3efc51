"""What does not fit into a worker's temporary storage, and what a worker that was killed leaves there."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import some
from tests.media.conftest import Worker
from transcoding.errors import Failure
from transcoding.model import Status

H264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"


@pytest.fixture
def noise(clips) -> Path:
    """A clip of which, in 360p, an MP4 has 2.4 MB."""
    picture = "-f lavfi -i testsrc2=s=640x480:r=25:d=20 -vf noise=alls=60:allf=t"
    return clips("noise.mkv", f"{picture} {H264} -b:v 4M {{0}}")


def in_storage_of(worker: Worker, folder: Path, **settings: str) -> Worker:
    return replace(worker, environment=worker.environment | {"TMPDIR": str(folder)} | settings)


def test_what_a_killed_worker_leaves_does_not_stop_the_next(noise, s3, worker, disk):
    folder = disk("3300k")
    worker = replace(worker, environment=worker.environment | {"TMPDIR": str(folder), "LEASE_SECONDS": "5"})
    s3.put_object(Bucket="source", Key=noise.name, Body=noise.read_bytes())
    id_ = worker.create(f"s3://source/{noise.name}")
    process = worker.start()

    def left() -> int:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    deadline = time.monotonic() + 60
    while left() < 1_600_000:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert left() >= 1_600_000
    time.sleep(5)
    worker.queue.send(id_)
    logged = worker.run()
    task = worker.table.get(id_)
    assert (task.status, task.attempt) == (Status.SUCCEEDED, 2), logged
    result = s3.head_object(Bucket="output", Key=f"outputs/{id_}/2/video.mp4")
    assert result["ContentLength"] > 2_100_000
    assert not list(folder.iterdir())


@pytest.mark.parametrize("format", some(["mp4", "mkv", "ts", "m3u8", "mpd"], "mp4", "m3u8"))
def test_a_result_that_does_not_fit_fails_at_once(noise, s3, worker, disk, format):
    folder = disk("400k")
    worker = in_storage_of(worker, folder)
    s3.put_object(Bucket="source", Key=noise.name, Body=noise.read_bytes())
    id_ = worker.create(f"s3://source/{noise.name}", format)
    logged = worker.run()
    task = worker.table.get(id_)
    assert (task.status, task.error_code) == (Status.FAILED, Failure.STORAGE_FULL), logged
    assert task.attempt == 1
    assert "WorkerStorage" in task.error_info
    assert not list(folder.iterdir())
    assert not s3.list_objects_v2(Bucket="output", Prefix=f"outputs/{id_}/").get("Contents")


@pytest.mark.parametrize(
    ("format", "options"), [("wav", "-c:a libopus"), ("mkv", f"{H264} -b:v 800k -c:a libopus")]
)
def test_a_result_that_cannot_fit_is_not_begun(clips, s3, worker, disk, format, options):
    picture = "-f lavfi -i testsrc2=s=320x180:r=25:d=20,noise=alls=60:allf=t" * ("264" in options)
    clip = clips("film.mkv", f"{picture} -f lavfi -i sine=r=48000:d=20 {options} {{0}}")
    worker = in_storage_of(worker, disk("1m"))
    s3.put_object(Bucket="source", Key=clip.name, Body=clip.read_bytes())
    id_ = worker.create(f"s3://source/{clip.name}", format)
    logged = worker.run()
    task = worker.table.get(id_)
    assert (task.status, task.error_code) == (Status.FAILED, Failure.STORAGE_FULL), logged
    assert "at least" in task.error_info
    assert '"encoding"' not in logged
