"""The real programs, started by a real worker: what they see of it, and what ends them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.media.conftest import CREDENTIALS, TOOLS
from transcoding.errors import Failure, TaskFailedError
from transcoding.media.ffmpeg import process
from transcoding.model import Status

H264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"


@pytest.fixture
def noted(tmp_path: Path) -> Path:
    """Make a folder of the programs, and of what Python reads first, that note what environment they get."""
    for program in (TOOLS.ffmpeg, TOOLS.ffprobe):
        script = tmp_path / program.name
        script.write_text(f'#!/bin/sh\ncat /proc/$$/environ > {script}.environ\nexec {program} "$@"\n')
        script.chmod(0o755)
    (tmp_path / "sitecustomize.py").write_text(
        "from pathlib import Path\n"
        "if 'inspection.index' in Path('/proc/self/cmdline').read_text():\n"
        f"    Path('{tmp_path}/index.environ').write_bytes(Path('/proc/self/environ').read_bytes())\n"
    )
    return tmp_path


def test_no_program_sees_anything_of_the_role(clips, s3, worker, noted):
    # To be copied into segments, so that its keyframes are asked for.
    clip = clips("film.mp4", f"-f lavfi -i testsrc2=s=320x180:r=25:d=20 {H264} -g 25 {{0}}")
    s3.put_object(Bucket="source", Key=clip.name, Body=clip.read_bytes())
    folders = f"{noted}:{worker.environment['PYTHONPATH']}"
    worker = replace(
        worker, environment=worker.environment | {"FFMPEG_DIR": str(noted), "PYTHONPATH": folders}
    )
    id_ = worker.create(f"s3://source/{clip.name}", "m3u8")
    logged = worker.run()
    assert worker.table.get(id_).status is Status.SUCCEEDED, logged
    for program, own in (("ffmpeg", {"SVT_LOG"}), ("ffprobe", set()), ("index", {"PYTHONPATH"})):
        environment = (noted / f"{program}.environ").read_text()
        names = {line.partition("=")[0] for line in environment.split("\0") if line}
        assert names == {"PATH", "TMPDIR"} | own
        assert not [secret for secret in CREDENTIALS if secret in environment]


@pytest.mark.parametrize("format", ["mp4", "m3u8"])
@pytest.mark.parametrize("attempt", [1, 2])
def test_a_source_that_takes_more_memory_than_there_is(clips, transcode, monkeypatch, format, attempt):
    clip = clips("large.mkv", f"-f lavfi -i testsrc2=s=3840x2160:r=25:d=0.4 {H264} {{0}}")
    monkeypatch.setattr(process, "_free_memory", lambda: 300 << 20)
    with pytest.raises(TaskFailedError) as failure:
        transcode(clip, format, 4, attempt=attempt)
    assert failure.value.code is Failure.MEMORY_FULL
    assert "WorkerMemory" in failure.value.info
