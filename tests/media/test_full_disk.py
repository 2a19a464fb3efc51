"""What does not fit into a worker's temporary storage, and what a worker that was killed leaves there."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from transcoding.model import Status

H264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"


@pytest.fixture
def noise(clips) -> Path:
    """A clip of which, in 360p, an MP4 has 2.4 MB."""
    picture = "-f lavfi -i testsrc2=s=640x480:r=25:d=20 -vf noise=alls=60:allf=t"
    return clips("noise.mkv", f"{picture} {H264} -b:v 4M {{0}}")


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
