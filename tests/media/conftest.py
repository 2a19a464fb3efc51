"""Transcodes with real FFmpeg, between buckets of an S3 server (moto)."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.conftest import ENVIRONMENT, TABLE, TABLE_SCHEMA, small_disk
from transcoding.data import clients
from transcoding.data.object_store import ObjectStore
from transcoding.media.ffmpeg.tools import Tools
from transcoding.media.planning import codecs, quality
from transcoding.model import Order, Output, Part, Task
from transcoding.pipeline.fetch import HttpSource
from transcoding.pipeline.transcoder import Prepared, Transcoder

ROOT = Path(__file__).parents[2]
TOOLS = Tools.within(ROOT / ".local/ffmpeg/bin")
SHARED_MEDIA = ROOT.parent / "shared/media"

#: The role's: its access key, its secret key and its session's token. Found nowhere by chance.
CREDENTIALS = ("ASIAV3RYS3CRETKEYID7", "v3ryS3cretAcc3ssK3yOfTh3Rol3", "v3ryS3cretS3ssionT0k3nOfTh3Rol3")


def ffmpeg(arguments: str, *paths: Path) -> str:
    """Run FFmpeg; `{0}`, `{1}`, … in the arguments are the paths. Return its error output."""
    words = [str(TOOLS.ffmpeg), "-hide_banner", "-nostdin", "-y", "-v", "warning"]
    done = subprocess.run(
        [*words, *(word.format(*paths) for word in shlex.split(arguments))],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def ffprobe(path: Path, *options: str) -> dict[str, Any]:
    """Return ffprobe's report on a file or a playlist."""
    command = [str(TOOLS.ffprobe), "-v", "error", "-of", "json", "-show_streams", "-show_format", *options]
    done = subprocess.run([*command, str(path)], capture_output=True, check=True, timeout=120)
    return json.loads(done.stdout)


@dataclass(frozen=True)
class Result:
    """A result, copied out of the bucket: the file that `target_url` points at, and what lies beside it."""

    entry: Path
    objects: dict[str, dict[str, Any]]
    output: Output | None = None

    @property
    def folder(self) -> Path:
        return self.entry.parent

    def streams(self) -> dict[str, dict[str, Any]]:
        """The streams by kind, each decoded to its end, with `nb_read_frames`."""
        paths = [self.entry]
        if self.entry.suffix == ".m3u8":
            paths = [
                p for p in (self.folder / "video/index.m3u8", self.folder / "audio/index.m3u8") if p.exists()
            ]
        reports = [ffprobe(path, "-count_frames") for path in paths]
        return {s["codec_type"]: s for report in reports for s in report["streams"]}

    def decode(self) -> None:
        """Decode everything, with the times of the container; fails on a single warning."""
        # A WAV file of one or two channels does not say which they are; a track's name has two forms; an
        # index of a single keyframe leads nowhere.
        harmless = ("Guessed Channel Layout", "UDTA parsing failed retrying raw", "Invalid keyframes object")
        complaints, is_harmless = [], False
        times = "-fps_mode passthrough -enc_time_base:v demux"
        for line in ffmpeg(f"-i {{0}} {times} -f null -", self.entry).splitlines():
            if "Last message repeated" not in line:
                is_harmless = any(words in line for words in harmless)
            complaints += [] if is_harmless else [line]
        assert not complaints, complaints

    def pixel(self, at: float, x: int, y: int) -> tuple[int, int, int]:
        """The colour at a place of the frame shown at a time, in seconds."""
        raw = self.folder / "frame.rgb"
        ffmpeg(
            f"-ss {at} -i {{0}} -frames:v 1 -vf crop=2:2:{x}:{y} -pix_fmt rgb24 -f rawvideo {{1}}",
            self.entry,
            raw,
        )
        return tuple(raw.read_bytes()[:3])


#: Takes a port, or 0 for any, and prints the one it has. It ends with its standard input: when this process
#: ends, whichever way.
SERVER = """
import sys
import threading
from moto.dynamodb.models import DynamoDBBackend
from moto.server import ThreadedMotoServer
from moto.sqs.models import SQSBackend

# Moto loses a message that is sent while another one is deleted, and what is written to a table while a
# transaction fails.
lock = threading.RLock()

def one_at_a_time(method):
    def locked(*arguments, **named):
        with lock:
            return method(*arguments, **named)
    return locked

for backend, names in (
    (SQSBackend, ("send_message", "delete_message")),
    (DynamoDBBackend, ("put_item", "update_item", "delete_item", "transact_write_items")),
):
    for name in names:
        setattr(backend, name, one_at_a_time(getattr(backend, name)))

server = ThreadedMotoServer(ip_address="127.0.0.1", port=int(sys.argv[1]), verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve S3, SQS and DynamoDB from a process of their own: what mocks AWS in this one would empty them."""
    log = tmp_path_factory.mktemp("moto") / "log.txt"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-c", SERVER, "0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as server,
    ):
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        assert port, log.read_text()
        yield f"http://127.0.0.1:{port}"
        server.kill()


@pytest.fixture(autouse=True)
def constant_quality(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure no samples but in tests of what they lead to: they take as long as most clips here."""
    if not request.node.get_closest_marker("chooses"):
        monkeypatch.setattr(quality, "_SHARE", 0.0)


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    clients.s3.cache_clear()
    client = clients.s3(patient=True)
    for bucket in ("source", "output"):
        client.create_bucket(Bucket=bucket)
    yield client
    clients.s3.cache_clear()


@dataclass(frozen=True)
class Worker:
    """The service around a worker's process, of its own for each test; `run` waits for the process."""

    table: Any
    queue: Any
    environment: dict[str, str]

    def create(self, url: str, format: str = "mp4") -> str:
        """Create a task, and queue it."""
        task, _ = self.table.create(Order(url, 1, format), None, self._send)
        return task.id

    def _send(self, task_id: str) -> bool:
        self.queue.send(task_id)
        return True

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start a process that does what is queued first; its output is what it logs."""
        return subprocess.Popen(
            [sys.executable, "-m", "tests.media.worker_process", *options],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *options: str) -> str:
        """Do what is queued first; return what it logs."""
        process = self.start(*options)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
        return output


@pytest.fixture
def worker(s3: Any, s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """Make a table and a queue, and the environment of a worker that uses them and the buckets of `s3`."""
    from transcoding.data.queue import JobQueue
    from transcoding.data.task_table import TaskTable

    name = f"{TABLE}-{next(_numbers)}"
    boto3.client("dynamodb").create_table(**TABLE_SCHEMA | {"TableName": name})
    queue_url = boto3.client("sqs").create_queue(QueueName=name)["QueueUrl"]
    clients.sqs.cache_clear()
    folder = tmp_path / "tmp"
    folder.mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT / 'functions'}:{ROOT}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(folder),
        **ENVIRONMENT,
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": CREDENTIALS[0],
        "AWS_SECRET_ACCESS_KEY": CREDENTIALS[1],
        "AWS_SESSION_TOKEN": CREDENTIALS[2],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "TABLE_NAME": name,
        "QUEUE_URL": queue_url,
        "OUTPUT_BUCKET": "output",
        "OUTPUT_BASE_URL": "https://cdn.example.com",
        "PART_SECONDS": "7",
        "FAN_OUT_SECONDS": "60",
        "FFMPEG_DIR": str(TOOLS.ffmpeg.parent),
        "MAX_SOURCE_BYTES": str(10**9),
    }
    yield Worker(TaskTable(name), JobQueue(queue_url), environment)
    clients.sqs.cache_clear()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Make a folder on a disk of its own, of a size as mount(8) takes it."""
    with ExitStack() as mounted:

        def make(size: str) -> Path:
            folder = mounted.enter_context(small_disk(tmp_path / f"disk{next(_numbers)}", size))
            if folder is None:
                pytest.skip("a small disk cannot be mounted here")
            return folder

        yield make


_numbers = itertools.count()


def in_parts(
    transcoder: Transcoder,
    prepared: Prepared,
    parts: Sequence[Part],
    work: Path,
    report: Callable[[float], None],
) -> Output:
    """Do as the workers do that share a task, in an order that is not the result's."""
    task = prepared.task
    transcoder.store(prepared, parts)
    left, done = list(parts), []
    while left:
        part = left.pop()
        folder = work / str(part.number)
        folder.mkdir()
        rest = transcoder.run_part(transcoder.recall(task, part), part, folder, report)
        if rest is not None:
            # With what it had not finished when its time was over.
            shutil.rmtree(folder)
            left.append(replace(part, number=len(done) + len(left) + 1, start=rest))
            part = replace(part, end=rest)
        done.append(part)
    return transcoder.finish(task, sorted(done, key=lambda part: (part.kind, part.start)), report)


@pytest.fixture
def transcode(s3: Any, tmp_path: Path) -> Callable[..., Result]:
    """Transcode a file as a worker does, and return the result."""

    def run(
        source: Path,
        format: str = "mp4",
        quality: int = 5,
        *,
        codecs: str = "",
        thumbnails: bool = False,
        attempt: int = 1,
        present: bool = True,
        url: str = "",
        buckets: tuple[str, ...] = ("*",),
        part_seconds: float | None = None,
        sound_faults: int = 0,
        report: Callable[[float], None] = lambda progress: None,
    ) -> Result:
        number = next(_numbers)
        if present:
            s3.put_object(Bucket="source", Key=source.name, Body=source.read_bytes())
        now = datetime.now(UTC)
        task = Task(
            f"task{number:04d}",
            url or f"s3://source/{source.name}",
            quality,
            format,
            now,
            now,
            attempt=attempt,
            codecs=codecs,
            thumbnails=thumbnails,
        )
        work = tmp_path / f"work{number}"
        work.mkdir()
        # The servers of these tests are on this machine, where no source may be otherwise.
        fetch = partial(HttpSource, is_allowed=lambda address: True)
        transcoder = Transcoder(
            ObjectStore("output"),
            TOOLS,
            max_source_bytes=10**9,
            part_seconds=part_seconds or 1e9,
            fan_out_seconds=0 if part_seconds else 1e9,
            workers=1,
            source_buckets=buckets,
            fetch=fetch,
        )
        prepared = transcoder.prepare(task, report, time.monotonic() + 300)
        parts = transcoder.parts(prepared)
        if parts:
            parts = [replace(part, faults=sound_faults if part.kind == "sound" else 0) for part in parts]
            output = in_parts(transcoder, prepared, parts, work, report)
        else:
            assert not part_seconds, "the source is not cut into parts"
            output = transcoder.run(prepared, work, report)
        key = transcoder.target_key(task)
        folder = tmp_path / f"result{number}"
        prefix = key.rpartition("/")[0] + "/"
        objects = {}
        for item in s3.list_objects_v2(Bucket="output", Prefix=prefix)["Contents"]:
            name = item["Key"].removeprefix(prefix)
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            answer = s3.get_object(Bucket="output", Key=item["Key"])
            path.write_bytes(answer["Body"].read())
            objects[name] = answer
        left = [p for p in work.rglob("*.m*") if p.suffix in {".m4s", ".mp4"} and p.name != "init.mp4"]
        assert not left, "media is left in the temporary folder"
        return Result(folder / key.rpartition("/")[2], objects, output)

    return run


@pytest.fixture
def lossless(monkeypatch: pytest.MonkeyPatch) -> None:
    encoders = {
        "h264": ["-c:v", "libx264", "-preset", "superfast", "-qp", "0"],
        "hevc": ["-c:v", "libx265", "-preset", "superfast", "-forced-idr", "1"],
        "av1": ["-c:v", "libsvtav1", "-preset", "10"],
        "vp9": ["-c:v", "libvpx-vp9", "-lossless", "1", "-cpu-used", "8", "-row-mt", "1"],
    }
    parameters = {
        "hevc": "lossless=1:bframes=4:b-adapt=0:open-gop=0:scenecut=0:info=0:log-level=error",
        "av1": "lossless=1",
    }

    def options(
        codec: codecs.PictureCodec, rung: Any, crf: float, *, beside: bool, rate: Fraction | None
    ) -> list[str]:
        own = [*filter(None, [parameters.get(codec.name)]), *(codec.beside if beside else ())]
        return [*encoders[codec.name], *([codec.own, ":".join(own)] if own else ())]

    monkeypatch.setattr(codecs.PictureCodec, "options", options)


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Make a clip once: its name, and FFmpeg's arguments with `{0}` for its path."""
    folder = tmp_path_factory.mktemp("clips")
    made: dict[tuple[str, str], Path] = {}

    def make(name: str, arguments: str) -> Path:
        if (name, arguments) not in made:
            place = folder / str(len(made))
            place.mkdir()
            made[name, arguments] = place / name
            ffmpeg(arguments, place / name)
        return made[name, arguments]

    return make
