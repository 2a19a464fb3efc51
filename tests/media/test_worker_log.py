"""Whoever looks for a task finds all that was logged of it by its id."""

from __future__ import annotations

import json

from transcoding.model import Status

H264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"


def test_every_line_of_a_worker_names_the_task(clips, s3, worker):
    clip = clips("film.mkv", f"-f lavfi -i testsrc2=s=320x180:r=25:d=1 -f lavfi -i sine=d=1 {H264} {{0}}")
    s3.put_object(Bucket="source", Key="film.mkv", Body=clip.read_bytes())
    id_ = worker.create("s3://source/film.mkv", "m3u8")
    logged = [json.loads(line) for line in worker.run().splitlines() if line.startswith("{")]
    assert worker.table.get(id_).status is Status.SUCCEEDED
    lines = [line for line in logged if "level" in line]
    # What is logged deep inside, too.
    assert {"taken up", "encoding", "succeeded"} <= {line["message"] for line in lines}
    assert {line.get("task_id") for line in lines} == {id_}
