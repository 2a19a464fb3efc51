"""Give the worker thousands of broken files, and say how that ended.

python -m tests.fuzz [--seed N] [--files N]

The sources are those of the tests, of every container and codec, changed by tests/fuzz/mutations.py; every
format and quality occurs, whole and in parts. Each message has a process of its own, with the worker's
handler and moto's AWS. The exit code is 0 if each task has succeeded or failed with a reason of its source,
no process was lost, and none took more memory than it has. Files with which that is not so are kept in
.local/fuzz, with what the workers log of errors.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import boto3

from local.package import ROOT
from tests.conftest import ENVIRONMENT, TABLE, TABLE_SCHEMA, lambda_context
from tests.fuzz.mutations import mutate
from tests.fuzz.worker import MEMORY, SECONDS
from tests.media.conftest import SERVER, TOOLS, ffmpeg
from tests.media.test_sources import CLIPS

WORKERS = 2
_BATCH = 50
#: Tasks that are created and not finished yet.
_WINDOW = 12
SUCCEEDED, FAILED = 2, 3
_KEPT = ROOT / ".local" / "fuzz"
#: Where moto makes buckets without being told where.
_REGION = {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
_SETTINGS = {
    "OUTPUT_BUCKET": "output",
    "POWERTOOLS_LOG_LEVEL": "ERROR",
    "POWERTOOLS_METRICS_DISABLED": "true",
}
#: Films that are cut into parts.
_FILM = "-f lavfi -i testsrc2=s=320x180:r=25:d=40 -f lavfi -i sine=d=40 -c:a aac"
_LONG = {
    f"long.{name}": f"{_FILM} -c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 50 {{0}}"
    for name in ("mkv", "mp4", "ts", "mov")
}
#: Texts that FFmpeg may take for media, and that name other files.
_TEXTS = {
    "list.m3u8": b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4.0,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    "script.ffconcat": b"ffconcat version 1.0\nfile /etc/passwd\nduration 4\n",
    "picture.svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="64"><image href="/etc/passwd"/></svg>',
    "session.sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    "words.srt": b"1\n00:00:00,000 --> 00:00:02,000\nHello\n\n2\n00:00:02,500 --> 00:00:04,000\nThere\n",
    "words.ass": b"[Script Info]\nPlayResX: 640\n\n[Events]\nDialogue: 0:00:00.00,0:00:02.00,Hello\n",
    "manifest.mpd": b'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>file:///etc/</BaseURL></MPD>',
}


@dataclass
class File:
    """A broken file, what is asked of it, and what its messages took."""

    name: str
    how: str
    order: tuple[str, int, str]
    task_id: str = ""
    seconds: float = 0.0
    bytes: int = 0
    lost: list[int] = field(default_factory=list)
    status: int = -1
    code: int = 0
    info: str = ""


class Fuzzing:
    """The service's parts around the workers."""

    def __init__(self, home: Path, port: int) -> None:
        from transcoding.data.object_store import ObjectStore
        from transcoding.data.queue import JobQueue
        from transcoding.data.task_table import TaskTable

        self.home, self.port = home, port
        os.environ["QUEUE_URL"] = boto3.client("sqs").create_queue(QueueName="fuzz")["QueueUrl"]
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT / 'functions'}:{ROOT}",
            "TMPDIR": str(home / "tmp"),
            **ENVIRONMENT,
            **_REGION,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "QUEUE_URL": os.environ["QUEUE_URL"],
            "FFMPEG_DIR": str(TOOLS.ffmpeg.parent),
            **_SETTINGS,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(MEMORY),
            "PART_SECONDS": "1",
            "MAX_WORKERS": "4",
        }
        (home / "tmp").mkdir()
        boto3.client("dynamodb").create_table(**TABLE_SCHEMA)
        self.s3 = boto3.client("s3")
        for bucket in ("source", "output"):
            self.s3.create_bucket(Bucket=bucket)
        self.store = ObjectStore("output")
        self.table = TaskTable(TABLE)
        self.queue = JobQueue(self.environment["QUEUE_URL"])
        self.files: dict[str, File] = {}
        self.left = 0
        self.processes: list[subprocess.Popen[str]] = []
        self.room = threading.Semaphore(_WINDOW)
        self.lock = threading.Lock()

    def give(self, file: File, data: bytes) -> None:
        """Store a file and create its task."""
        from transcoding.model import Order

        self.room.acquire()
        self.s3.put_object(Bucket="source", Key=file.name, Body=data)
        target, quality, codecs = file.order
        order = Order(f"s3://source/{file.name}", quality, target, codecs=codecs, thumbnails=quality == 4)
        task, _ = self.table.create(order, None, lambda task_id: True)
        file.task_id = task.id
        with self.lock:
            self.files[task.id] = file
        self.queue.send(task.id)

    def work(self, number: int) -> None:
        """Run a worker until it is told to end; note what it says of each message."""
        environment = self.environment | {"FAN_OUT_SECONDS": ("86400", "0")[number % 2]}
        log = (_KEPT / f"worker-{number}.log").open("a")
        with log, subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.worker"],
            cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
        ) as process:  # fmt: skip
            self.processes.append(process)
            assert process.stdout
            for line in process.stdout:
                told = json.loads(line)
                file = self.files[json.loads(told["body"])["task_id"]]
                file.seconds += told["seconds"]
                file.bytes = max(file.bytes, told["bytes"])
                if told["ended"]:
                    file.lost.append(told["ended"])
                self.look(file)

    def look(self, file: File) -> None:
        """See whether a task has ended, and remove what it has if so."""
        task = self.table.get(file.task_id)
        assert task
        with self.lock:
            if int(task.status) < SUCCEEDED or file.status >= SUCCEEDED:
                return
            file.status, file.code, file.info = int(task.status), int(task.error_code or 0), task.error_info
        # Moto keeps all in memory.
        self.store.remove_task(file.task_id)
        if not self.bad(file):
            self.s3.delete_object(Bucket="source", Key=file.name)
        self.room.release()

    def sweep(self) -> None:
        """Do what the service does every minute."""
        importlib.import_module("sweep").handler({}, lambda_context())

    def keep(self) -> None:
        """Keep the files that ended as they should not; count what is left in /tmp."""
        for file in self.files.values():
            if self.bad(file):
                self.s3.download_file("source", file.name, str(_KEPT / file.name))
        self.left = sum(path.is_file() for path in (self.home / "tmp").rglob("*"))

    @staticmethod
    def bad(file: File) -> str:
        """Say what is wrong with how a file ended; empty if nothing is."""
        if file.status not in {SUCCEEDED, FAILED}:
            return "has not ended"
        if file.lost:
            return f"lost a worker ({file.lost})"
        if file.bytes > MEMORY * 1e6:
            return f"took {file.bytes / 1e6:.0f} MB"
        # 3001 and 3005 are for what would take longer, or more, than there is.
        if file.status == FAILED and file.code in {3002, 3003, 3004}:
            return f"failed with {file.code}: {file.info}"
        return ""


def _files(seed: int, number: int) -> Iterator[tuple[File, bytes]]:
    from transcoding.media.planning.formats import FORMATS

    dice = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        whole = dict(_TEXTS)
        for name, recipe in [*((clip.name, clip.arguments) for clip in CLIPS), *_LONG.items()]:
            path = Path(folder) / name
            ffmpeg(recipe, path)
            whole[name] = path.read_bytes()
    names, contents, formats = list(whole), list(whole.values()), list(FORMATS.values())
    for index in range(number):
        name = names[index % len(names)]
        data, how = mutate(dice, whole[name], contents)
        target = dice.choice(formats)
        quality = dice.choice([1, 3, 5, 5, 6 if target.segmented else 4])
        codecs = dice.choice([codec.name for codec in target.pictures]) if target.pictures else ""
        yield File(f"{index:05d}-{name}", how, (target.name, quality, codecs)), data


def _report(files: Sequence[File], left: int, took: float) -> bool:
    codes = Counter(file.code or "succeeded" for file in files)
    print(f"\n{len(files)} files in {took:.0f} s:")
    for code, number in sorted(codes.items(), key=str):
        print(f"  {code!s:10} {number:6}")
    print("\nThe slowest, and those that took most:")
    slowest = sorted(files, key=lambda file: -file.seconds)[:8]
    for file in slowest + [f for f in sorted(files, key=lambda file: -file.bytes)[:5] if f not in slowest]:
        how = f"{file.code or 'succeeded'} {file.name} {file.how} {file.order}"
        print(f"  {file.seconds:6.1f} s {file.bytes / 1e6:6.0f} MB  {how}")
    bad = [file for file in files if Fuzzing.bad(file)]
    for file in bad:
        print(f"BAD {_KEPT / file.name} {file.how} {file.order}: {Fuzzing.bad(file)}")
    print(f"\n{len(bad)} of {len(files)} ended as they should not; {left} files are left in /tmp.")
    return not bad and not left


def _batch(files: Iterable[tuple[File, bytes]], port: int) -> Fuzzing:
    """Run some files on an AWS and with workers of their own: moto keeps a part of all that it was given.

    It has the port of the one before it, which this process knows.
    """
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fuzz-")))
        errors = stack.enter_context((home / "moto.log").open("w"))
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        stack.callback(server.kill)
        assert server.stdout
        port = int(server.stdout.readline())
        os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
        fuzzing = Fuzzing(home, port)
        with ThreadPoolExecutor(WORKERS) as pool:
            running = [pool.submit(fuzzing.work, number) for number in range(WORKERS)]
            for file, data in files:
                fuzzing.give(file, data)
            deadline = time.monotonic() + 10 * SECONDS
            while any(f.status < SUCCEEDED for f in fuzzing.files.values()) and time.monotonic() < deadline:
                # What a lost worker, or moto, has lost, the service's own sweep brings on.
                fuzzing.sweep()
                time.sleep(1)
            for process in fuzzing.processes:
                assert process.stdin
                process.stdin.close()
            for future in running:
                future.result()
        fuzzing.keep()
        return fuzzing


def main() -> int:
    """Run, print and tell by the exit code whether all is well."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--files", type=int, default=5000)
    arguments = parser.parse_args()
    os.environ.update(ENVIRONMENT | _REGION | _SETTINGS)
    shutil.rmtree(_KEPT, ignore_errors=True)
    _KEPT.mkdir(parents=True)
    files: list[File] = []
    left = port = 0
    source = _files(arguments.seed, arguments.files)
    started = time.monotonic()
    while batch := list(islice(source, _BATCH)):
        done = _batch(batch, port)
        port = done.port
        files += done.files.values()
        left += done.left
        bad = sum(bool(Fuzzing.bad(file)) for file in files)
        print(f"{len(files)} files, {time.monotonic() - started:.0f} s, {bad} bad", flush=True)
    return 0 if _report(files, left, time.monotonic() - started) else 1


if __name__ == "__main__":
    sys.exit(main())
