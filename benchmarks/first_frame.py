"""How soon a worker that starts writes its first frame, beside FFmpeg alone.

The worker has the packages of its image, compiled, and Lambda's Python. Both tell of frames every 20 ms.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks import package, s3, sources
from benchmarks.parts import Bench
from benchmarks.sources import TOOLS
from local.stack import Stack
from transcoding.media.encoding import command
from transcoding.media.inspection.probe import probe
from transcoding.media.planning.formats import FORMATS
from transcoding.media.planning.plan import plan

Comparison = tuple[str, str, Callable[[], float], Callable[[], float]]

#: `task_config_temp_id` of 360p, which the source is larger than.
_QUALITY = 1
_FORMAT = "m3u8"
_OFTEN = ("-stats_period", "0.02")

#: Handles an event. When FFmpeg has written a frame, it prints a line and ends at once.
_PROGRAM = """
import json, os, sys
output = os.dup(1)
os.dup2(2, 1)
import worker
from transcoding.media.ffmpeg import process
class Encoder(process.Encoder):
    def __init__(self, command, *others, **named):
        super().__init__([command[0], "-stats_period", "0.02", *command[1:]], *others, **named)
    def _read_progress(self, stdout):
        for line in stdout:
            if line.startswith("frame=") and int(line.partition("=")[2]):
                os.write(output, b"frame\\n")
                self._process.kill()
                os._exit(0)
from transcoding.pipeline import encode, transcoder
for module in (process, encode, transcoder):
    module.Encoder = Encoder
class Context:
    function_name = memory_limit_in_mb = invoked_function_arn = aws_request_id = "bench"
    @staticmethod
    def get_remaining_time_in_millis(): return 800_000
worker.handler(json.loads(sys.argv[1]), Context())
"""


def comparisons(stack: Stack, home: Path) -> Iterator[Comparison]:
    """Yield the comparison: from the start of the process to its first frame."""
    source = sources.footage()
    with s3.in_front_of(stack["aws_endpoint_url"], home / "state" / "s3") as url:
        bench = Bench(stack, home, url)
        worker = package.build_worker(home / "worker")
        yield (
            "worker: first frame of 480p to 360p m3u8 after it starts",
            "s",
            partial(_worker, bench, worker, source),
            partial(_alone, source, home / "first-frame"),
        )


def _worker(bench: Bench, worker: Path, source: Path) -> float:
    event = bench.event(source, _FORMAT, _QUALITY)
    environment = {**bench.environment, "PYTHONPATH": str(worker)}
    return _first_line([package.python(), "-c", _PROGRAM, json.dumps(event)], "frame", environment)


def _alone(source: Path, folder: Path) -> float:
    shutil.rmtree(folder, ignore_errors=True)
    planned = plan(probe(TOOLS, str(source), source.stat().st_size), FORMATS[_FORMAT], _QUALITY)
    for stream in planned.streams:
        (folder / stream.name).mkdir(parents=True)
    program, *arguments = command.whole(TOOLS, planned, str(source), folder)
    return _first_line([program, *_OFTEN, *arguments], "frame=")


def _first_line(command: Sequence[str], start: str, environment: dict[str, str] | None = None) -> float:
    """Return the seconds until a process prints a line that starts so and is not of a zero."""
    before = time.perf_counter()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith(start) and line.strip() != f"{start}0":
                seconds = time.perf_counter() - before
                process.kill()
                return seconds
    raise RuntimeError(f"{command} has written no frame")
