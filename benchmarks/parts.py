"""A film in parts beside one FFmpeg process: processor time, and the time of each step when it runs alone.

The worker's own handler receives the messages one after the other from a queue that only it reads. It has the
template's default parameters and uses the emulator's S3, DynamoDB and SQS. The emulator's processor time is
not counted, as one does not pay for AWS's.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import s3, sources
from benchmarks.api import gateway_event
from benchmarks.runtime import Function, Spent
from benchmarks.sources import TOOLS, Sizes
from local.deploy import client
from local.emulator import ACCOUNT_ID, SECRET
from local.package import FFMPEG_DIR, ROOT, load_template
from local.stack import Stack
from transcoding.data.object_store import output_prefix
from transcoding.media.encoding import command
from transcoding.media.inspection.probe import probe, with_keyframes
from transcoding.media.planning.codecs import Choice
from transcoding.media.planning.cuts import cost, part_length
from transcoding.media.planning.formats import FORMATS
from transcoding.media.planning.plan import needs_keyframes, plan
from transcoding.pipeline.quality import QualityChooser

#: `task_config_temp_id` of 720p.
QUALITY = 3
_FORMAT = "m3u8"
_STARTS = 5
#: Time limits in seconds. An invocation for a part has too few to join the parts too, so that this is a step.
_PART_TIME, _TASK_TIME = 280.0, 900.0


@dataclass(frozen=True, slots=True)
class Step:
    """An invocation of the worker: `plan`, `sound`, `picture` or `finish`."""

    kind: str
    spent: Spent


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a film: its number of frames, the bytes of its picture, and what all of it is.

    `playlists` has the bytes of each rendition of the picture by its playlist's URL.
    """

    frames: int
    bytes: int
    output: Mapping[str, int] = field(default_factory=dict)
    playlists: Mapping[str, int] = field(default_factory=dict)


def measure(stack: Stack, home: Path, sizes: Sizes) -> dict[str, Any]:
    """Measure the whole film, and an excerpt of it a few times, by the service and FFmpeg alone by turns."""
    film = sources.film(sizes.film)
    with s3.in_front_of(stack["aws_endpoint_url"], home / "state" / "s3") as url:
        return _measure(Bench(stack, home, url), film, sizes)


def _measure(bench: Bench, film: Path, sizes: Sizes) -> dict[str, Any]:
    starts = [bench.started() for _ in range(_STARTS)]
    whole = bench.compare(film)
    excerpts = []
    for _ in range(sizes.excerpt_repeats):
        excerpts.append(bench.compare(sources.excerpt(film, sizes.excerpt)))
    facts = probe(TOOLS, str(film), film.stat().st_size)
    planned = plan(facts, FORMATS[_FORMAT], QUALITY)
    part_seconds, fan_out_seconds = (float(bench.parameters[n]) for n in ("PartSeconds", "FanOutSeconds"))
    return {
        "seconds": sizes.film,
        "part_length": part_length(facts, planned, part_seconds, 0),
        "threshold": fan_out_seconds / cost(planned),
        "parameters": bench.parameters,
        "start": {
            "wall": statistics.median(start.wall for start in starts),
            "cpu": statistics.median(start.cpu for start in starts),
        },
        **whole,
        "excerpt_seconds": sizes.excerpt,
        "excerpts": [{"ratio": excerpt["ratio"]} for excerpt in excerpts],
    }


class Bench:
    """A worker with its own table and queue beside the stack's, so that nothing else disturbs it."""

    def __init__(self, stack: Stack, home: Path, s3_url: str) -> None:
        self._stack = stack
        self._home = home
        self._log = home / "worker.log"
        self._sqs = client("sqs", stack["aws_endpoint_url"])
        self._s3 = client("s3", stack["aws_endpoint_url"])
        self._queue = self._sqs.create_queue(QueueName="bench-parts")["QueueUrl"]
        defaults = load_template(ROOT / "template.yaml")["Parameters"]
        names = ("PartSeconds", "FanOutSeconds", "LeaseSeconds", "MaxWorkers", "MaxSourceBytes")
        self.parameters = {name: str(defaults[name]["Default"]) for name in names}
        self.environment = {
            **os.environ,
            "AWS_ENDPOINT_URL": stack["aws_endpoint_url"],
            "AWS_ENDPOINT_URL_S3": s3_url,
            "AWS_DEFAULT_REGION": stack["region"],
            "AWS_ACCESS_KEY_ID": ACCOUNT_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "POWERTOOLS_SERVICE_NAME": "bench",
            "POWERTOOLS_METRICS_NAMESPACE": "bench",
            "TABLE_NAME": self._table(),
            "QUEUE_URL": self._queue,
            "OUTPUT_BUCKET": stack["output_bucket"],
            "LEASE_SECONDS": self.parameters["LeaseSeconds"],
            "MAX_WORKERS": self.parameters["MaxWorkers"],
            "PART_SECONDS": self.parameters["PartSeconds"],
            "FAN_OUT_SECONDS": self.parameters["FanOutSeconds"],
            "MAX_SOURCE_BYTES": self.parameters["MaxSourceBytes"],
            "FFMPEG_DIR": str(FFMPEG_DIR),
        }

    def compare(
        self, film: Path, quality: int = QUALITY, codecs: str = "", *, thumbnails: bool = False
    ) -> dict[str, Any]:
        """Measure a film in parts and by FFmpeg alone, which makes the same from one decode.

        FFmpeg alone makes no `thumbnails`.
        """
        steps, ours = self.fan_out(film, quality, codecs, thumbnails=thumbnails)
        spent, folder = plain(film, self._home, _FORMAT, quality, codecs, self._chosen())
        pictures = [
            path.parent for path in folder.glob(f"*/{command.PLAYLIST}") if path.parent.name != "audio"
        ]
        alone = Result(
            sum(_frames(str(place / command.PLAYLIST)) for place in pictures),
            sum(path.stat().st_size for place in pictures for path in place.glob("*.m4s")),
        )
        cpu = sum(step.spent.cpu for step in steps)
        print(f"  {film.name}: {len(steps)} steps {cpu:.1f} s, FFmpeg alone {spent.cpu:.1f} s", flush=True)
        return {
            "ratio": cpu / spent.cpu,
            "cpu": cpu,
            "plain": {"wall": spent.wall, "cpu": spent.cpu},
            "frames": [ours.frames, alone.frames],
            "picture_bytes": [ours.bytes, alone.bytes],
            "output": ours.output,
            "playlists": ours.playlists,
            "steps": [{"kind": step.kind, **asdict(step.spent)} for step in steps],
        }

    def _chosen(self) -> dict[str, Choice]:
        """Return what the worker has chosen for the renditions of the last film, from its log."""
        chosen: dict[str, Choice] = {}
        for line in self._log.read_text().splitlines():
            if '"quality chosen"' in line:
                found = json.loads(line)["chosen"]
                chosen = {name: Choice(**choice) for name, choice in found.items()}
        return chosen

    def started(self) -> Spent:
        """Start a worker, end it, and return what its start took."""
        with self._function("worker") as function:
            return function.started

    def fan_out(
        self, film: Path, quality: int = QUALITY, codecs: str = "", *, thumbnails: bool = False
    ) -> tuple[list[Step], Result]:
        """Transcode a film in parts, all by one worker. Return the steps and the result."""
        task_id = self._create(film, _FORMAT, quality, codecs, thumbnails=thumbnails)
        steps: list[Step] = []
        with self._function("worker") as worker:
            for message in self._messages():
                job = json.loads(message["Body"])
                seconds = _PART_TIME if job["step"] == "part" else _TASK_TIME
                answer, spent = worker.call(_event(message), seconds)
                assert not answer["batchItemFailures"], f"see {self._log}"
                steps.append(Step(_kind(job, first=not steps), spent))
        if len(steps) == 1:
            # A task that was not cut: all of its time is its picture's, nearly.
            steps = [Step("picture", steps[0].spent)]
        prefix = output_prefix(task_id, 1)
        stored = {key.removeprefix(prefix): size for key, size in self._stored(prefix).items()}
        media = {key: size for key, size in stored.items() if not key.startswith("audio/")}
        playlists = [key for key in media if key.endswith(f"/{command.PLAYLIST}")]
        base = f"{self._stack['output_base_url']}/{prefix}"
        sizes = {
            base + playlist: sum(
                size for key, size in media.items() if key.startswith(playlist.removesuffix(command.PLAYLIST))
            )
            for playlist in playlists
        }
        frames = sum(map(_frames, sizes))
        output = {"bytes": sum(stored.values()), "objects": len(stored)}
        segments = sum(size for key, size in media.items() if key.endswith(".m4s"))
        return steps, Result(frames, segments, output, sizes)

    def event(self, film: Path, target: str, quality: int) -> dict[str, Any]:
        """Create a task, and return the event of its message, which is off the queue then."""
        self._create(film, target, quality)
        messages = list(self._messages())
        return _event(messages[-1])

    def _create(
        self, film: Path, target: str, quality: int, codecs: str = "", *, thumbnails: bool = False
    ) -> str:
        self._s3.upload_file(str(film), self._stack["source_bucket"], film.name)
        url = f"s3://{self._stack['source_bucket']}/{film.name}"
        body = {"origin_url": url, "format": target, "task_config_temp_id": quality}
        body |= {"codec": codecs or None, "thumbnails": thumbnails}
        with self._function("create_transcode") as create:
            answer, _ = create.call(gateway_event("POST", "create-transcode", body=body))
        task_id: str = json.loads(answer["body"])["id"]
        return task_id

    def _messages(self) -> Iterator[dict[str, Any]]:
        """Yield the queue's messages until there are no more. Delete each one when it is done."""
        while True:
            answer = self._sqs.receive_message(
                QueueUrl=self._queue,
                WaitTimeSeconds=1,
                VisibilityTimeout=900,
                MessageSystemAttributeNames=["SentTimestamp"],
            )
            if not answer.get("Messages"):
                return
            (message,) = answer["Messages"]
            yield message
            self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])

    def _function(self, module: str) -> Function:
        return Function(module, self.environment, self._log)

    def _table(self) -> str:
        """Create a table like the stack's and return its name."""
        dynamodb = client("dynamodb", self._stack["aws_endpoint_url"])
        described = dynamodb.describe_table(TableName=self._stack["table"])["Table"]
        indexes = [
            {name: index[name] for name in ("IndexName", "KeySchema", "Projection")}
            for index in described["GlobalSecondaryIndexes"]
        ]
        schema = {name: described[name] for name in ("KeySchema", "AttributeDefinitions")}
        name = f"bench-{os.urandom(4).hex()}"
        dynamodb.create_table(
            TableName=name, BillingMode="PAY_PER_REQUEST", GlobalSecondaryIndexes=indexes, **schema
        )
        return name

    def _stored(self, prefix: str) -> dict[str, int]:
        """Return the objects under a prefix, and their bytes."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._stack["output_bucket"], Prefix=prefix
        )
        return {item["Key"]: item["Size"] for page in pages for item in page["Contents"]}


def plain(
    source: Path,
    home: Path,
    target: str,
    quality: int,
    codecs: str = "",
    choices: Mapping[str, Choice] | None = None,
) -> tuple[Spent, Path]:
    """Run one FFmpeg with the service's settings on local files. Return what it took, and its folder.

    `choices` are what the service has chosen for the renditions; without, they are chosen here. FFmpeg alone
    has no such step, so its time does not count.
    """
    folder = home / "plain"
    shutil.rmtree(folder, ignore_errors=True)
    facts = probe(TOOLS, str(source), source.stat().st_size)
    if needs_keyframes(facts, FORMATS[target], quality, codecs):
        facts = with_keyframes(facts, str(source))
    planned = plan(facts, FORMATS[target], quality, codecs=codecs)
    if choices is None:
        never = time.monotonic() + _TASK_TIME
        choices = QualityChooser(TOOLS).choices(facts, planned, str(source), lambda _: None, 0.0, never)
    planned = plan(facts, FORMATS[target], quality, codecs=codecs, choices=choices)
    for stream in planned.streams:
        (folder / stream.name).mkdir(parents=True)
    encoding = command.whole(TOOLS, planned, str(source), folder)
    started = time.perf_counter()
    process = subprocess.Popen(encoding, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, encoding
    return Spent(wall, usage.ru_utime + usage.ru_stime), folder


def _event(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return the event in which Lambda passes on a message."""
    record = {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
        "eventSource": "aws:sqs",
    }
    return {"Records": [record]}


def _kind(job: Mapping[str, Any], *, first: bool) -> str:
    if job["step"] == "part":
        return "picture" if job["part"] else "sound"
    return "plan" if first else "finish"


def _frames(playlist: str) -> int:
    show = ["-count_packets", "-show_entries", "stream=nb_read_packets", "-of", "csv=p=0"]
    done = subprocess.run(
        [str(TOOLS.ffprobe), "-v", "error", *show, playlist], capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[0])
