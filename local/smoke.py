"""Try a service as its users do: `python -m local.smoke`, or `--stack NAME` for a stack on AWS.

Prints what is expected of each step and what comes. The exit code is 1 where they differ. On AWS, credentials
and region are those that the AWS tools find.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin

import boto3
from botocore.config import Config

from local.deploy import client
from local.package import FFMPEG_DIR
from local.stack import HOME, Stack

#: Seconds that a task may take, with all cold starts.
PATIENCE = 300.0
_POLL_SECONDS = 1.0
_FINAL = {2: "succeeded", 3: "failed", 4: "deleted"}
#: The source clips: a film that has to be encoded, and a clip that fits as it is.
_RATE, _SECONDS = 25, 6
_FILM, _CLIP = "film.mkv", "clip.mp4"
_LARGE = "large.mp4"
_CODECS = {_FILM: "mpeg4 -q:v 4", _CLIP: "libx264 -preset veryfast -pix_fmt yuv420p"}


class SmokeError(Exception):
    """A step came to something else than it should. The message is what it came to."""


@dataclass(frozen=True)
class Service:
    """How to reach a service and its buckets; `here` is one on this machine."""

    api_url: str
    api_key: str
    source_bucket: str
    output_bucket: str
    s3: Any
    here: bool

    @classmethod
    def running(cls, stack: Stack) -> Service:
        """Return the service on the emulator."""
        buckets = stack["source_bucket"], stack["output_bucket"]
        s3 = client("s3", stack["aws_endpoint_url"])
        return cls(stack["api_url"], stack["api_key"], *buckets, s3, here=True)

    @classmethod
    def on_aws(cls, stack_name: str) -> Service:
        """Return the service of a stack on AWS."""
        session = boto3.Session()
        (stack,) = session.client("cloudformation").describe_stacks(StackName=stack_name)["Stacks"]
        outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
        key = session.client("apigateway").get_api_key(apiKey=outputs["ApiKeyId"], includeValue=True)
        # A presigned URL is then of the bucket's own region.
        s3 = session.client("s3", config=Config(signature_version="s3v4", s3={"addressing_style": "virtual"}))
        buckets = outputs["SourceBucket"], outputs["OutputBucket"]
        return cls(outputs["ApiUrl"], key["value"], *buckets, s3, here=False)

    def call(self, method: str, name: str, /, **parameters: Any) -> dict[str, Any]:
        """Call the API and return its response. Raises SmokeError where `errcode` is not 1000."""
        url, body = f"{self.api_url}/transcoding/api/{name}", None
        if method == "GET":
            url += f"?{urlencode(parameters)}"
        else:
            body = json.dumps(parameters).encode()
        headers = {"x-api-key": self.api_key, "Content-Type": "application/json"}
        answer: dict[str, Any] = json.loads(self.fetch(url, method, body, headers))
        if answer["errcode"] != 1000:
            raise SmokeError(f"{answer['errcode']}: {answer['msg']}")
        return answer

    def fetch(
        self, url: str, method: str = "GET", body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> bytes:
        """Return what a URL gives, also the API's refusals. Raises SmokeError for any other error."""
        return self._open(url, method, body, headers or {})[0]

    def put_part(self, url: str, part: bytes) -> str:
        """Send a part of an upload and return its ETag. Raises SmokeError."""
        return self._open(url, "PUT", part, {})[1]["ETag"]

    def _open(
        self, url: str, method: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[bytes, Message]:
        proxies = [urllib.request.ProxyHandler({})] if self.here else []
        request = urllib.request.Request(url, body, headers, method=method)
        try:
            with urllib.request.build_opener(*proxies).open(request, timeout=60) as response:
                return bytes(response.read()), response.headers
        except urllib.error.HTTPError as error:
            with error:
                content = error.read()
            if content.startswith(b'{"errcode"'):
                return content, error.headers
            raise SmokeError(f"HTTP {error.code} from {url.partition('?')[0]}") from error


@dataclass
class Report:
    """The steps, with what was expected of each, what came, and how many seconds it took."""

    rows: list[tuple[str, str, str, float]] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether all came as expected."""
        return all(expected == got for _, expected, got, _ in self.rows)

    def check(self, step: str, expected: str, act: Callable[[], str]) -> None:
        """Do a step. Its failure is what came of it."""
        started = time.monotonic()
        try:
            got = act()
        except SmokeError as error:
            got = str(error)
        except Exception as error:  # the other steps still say something
            got = f"{type(error).__name__}: {error}"
        self.rows.append((step, expected, got, time.monotonic() - started))

    def __str__(self) -> str:
        rows = [
            ("OK" if expected == got else "!!", step, expected, got, f"{seconds:.1f}")
            for step, expected, got, seconds in self.rows
        ]
        rows.insert(0, ("", "step", "expected", "got", "seconds"))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        return "\n".join(
            "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]])
            for row in rows
        )


class Smoke:
    """One try: a task from S3, one from a URL, one that is copied, one of an upload; then listing, deleting.

    `url` is of a video on the public Internet. Without one, a service on AWS gets a clip's presigned URL. The
    service on this machine has to refuse that: it leads to this machine, which is not public.
    """

    def __init__(self, service: Service, url: str = "") -> None:
        self._service = service
        self._url = url
        self._tasks: dict[str, str] = {}
        self._picture = ""
        self._uploaded = ""
        self._prefix = f"smoke-{uuid.uuid4().hex}/"

    def run(self) -> Report:
        """Do all steps. Nothing is left of them in the buckets of sources."""
        report = Report()
        with tempfile.TemporaryDirectory() as folder:
            self._folder = Path(folder)
            try:
                report.check("upload the sources", "2 clips", self._upload)
                self._transcode(report)
            finally:
                for name in _CODECS:
                    self._service.s3.delete_object(
                        Bucket=self._service.source_bucket, Key=self._prefix + name
                    )
                if self._uploaded:
                    bucket, _, key = self._uploaded.removeprefix("s3://").partition("/")
                    self._service.s3.delete_object(Bucket=bucket, Key=key)
        return report

    def _transcode(self, report: Report) -> None:
        encoded = f"{_RATE * _SECONDS} frames, sound"
        sources = f"s3://{self._service.source_bucket}/{self._prefix}"
        report.check("create: from S3", "OK", lambda: self._create("S3", sources + _FILM, 1, "m3u8"))
        report.check("create: from a URL", "OK", lambda: self._create("URL", self._source_url(), 1, "mp4"))
        report.check("create: to be copied", "OK", lambda: self._create("copy", sources + _CLIP, 5, "mp4"))
        report.check("upload by URLs", "2 parts", self._upload_by_urls)
        report.check("create: of an upload", "OK", lambda: self._create("upload", self._uploaded, 5, "mp4"))
        report.check("from S3: HLS", encoded, lambda: _content(self._result("S3")))
        told = f"{_SECONDS} s, 640x360 at {_RATE} frames a second"
        report.check("from S3: what is told of it", told, lambda: self._told("S3"))
        if self._service.here and not self._url:
            report.check("from a URL of this machine", "failed 1004", lambda: self._outcome("URL"))
        elif self._url:
            report.check("from a URL: MP4", "succeeded", lambda: self._outcome("URL"))
        else:
            report.check("from a URL: MP4", encoded, lambda: _content(self._result("URL")))
        report.check("copied: its picture", self._picture, lambda: _digest(self._result("copy")))
        report.check("of an upload: MP4", f"{_RATE * 2} frames", lambda: _content(self._result("upload")))
        report.check("list", "4 of 4", self._listed)
        report.check("delete-transcode", "deleted, 0 objects", lambda: self._delete("S3"))
        report.check("delete-transcodes", "deleted, 0 objects", lambda: self._delete("URL", "copy", "upload"))
        report.check("list", "0 of 4", self._listed)

    def _upload(self) -> str:
        inputs = f"-f lavfi -i testsrc2=s=1280x720:r={_RATE}:d={_SECONDS} -f lavfi -i sine=d={_SECONDS}"
        for name, codec in _CODECS.items():
            path = str(self._folder / name)
            _ffmpeg(*f"{inputs} -c:v {codec} -g {_RATE} -c:a aac".split(), path)
            self._service.s3.upload_file(path, self._service.source_bucket, self._prefix + name)
        self._picture = _digest(self._folder / _CLIP)
        return f"{len(_CODECS)} clips"

    def _upload_by_urls(self) -> str:
        """Upload a clip of two parts as callers do, without AWS credentials; send the second part later."""
        path = self._folder / _LARGE
        noise = f"-f lavfi -i nullsrc=s=640x360:r={_RATE}:d=2,geq=random(1)*255:128:128"
        codec = f"-c:v libx264 -preset veryfast -qp 10 -pix_fmt yuv420p -g {_RATE}"
        _ffmpeg(*f"{noise} {codec}".split(), str(path))
        call, file = partial(self._service.call, "POST", "create-upload"), path.read_bytes()
        begun = call(name=path.name, size=len(file))
        size = begun["part_size"]
        parts = [file[start : start + size] for start in range(0, len(file), size)]
        self._service.put_part(begun["urls"][0], parts[0])
        resumed = call(upload_id=begun["upload_id"])
        etags = [
            etag or self._service.put_part(url, part)
            for etag, url, part in zip(resumed["etags"], resumed["urls"], parts, strict=True)
        ]
        complete = {"upload_id": begun["upload_id"], "etags": etags}
        self._uploaded = self._service.call("POST", "complete-upload", **complete)["origin_url"]
        return f"{len(parts)} parts"

    def _source_url(self) -> str:
        key = {"Bucket": self._service.source_bucket, "Key": self._prefix + _FILM}
        return self._url or str(self._service.s3.generate_presigned_url("get_object", Params=key))

    def _create(self, name: str, origin_url: str, quality: int, target: str) -> str:
        body = {"origin_url": origin_url, "task_config_temp_id": quality, "format": target}
        answer = self._service.call("POST", "create-transcode", **body)
        self._tasks[name] = answer["id"]
        return str(answer["msg"])

    def _wait(self, name: str) -> dict[str, Any]:
        """Return a task when it is final. Raises SmokeError where that takes too long."""
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self._service.call("GET", "get-transcode", id=self._tasks[name])
            task: dict[str, Any] = answer["transcoding"]
            if task["status"] in _FINAL:
                return task
            if time.monotonic() > deadline:
                raise SmokeError(f"status {task['status']} after {PATIENCE:.0f} s")
            time.sleep(_POLL_SECONDS)

    def _outcome(self, name: str) -> str:
        task = self._wait(name)
        code = task["error_code"]
        return f"{_FINAL[task['status']]} {code}" if code else _FINAL[task["status"]]

    def _result(self, name: str) -> Path:
        """Download a result as a viewer does: what target_url points at, and all that the playlists name."""
        task = self._wait(name)
        if not task["target_url"]:
            raise SmokeError(f"{_FINAL[task['status']]} {task['error_code']}: {task['error_info']}")
        base, _, entry = str(task["target_url"]).rpartition("/")
        left, known = [entry], {entry}
        while left:
            object_name = left.pop()
            path = self._folder / name / object_name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._service.fetch(f"{base}/{object_name}"))
            if path.suffix == ".m3u8":
                text = path.read_text()
                uris = re.findall(r'URI="([^"]+)"', text) + re.findall(r"^[^#\s].*", text, re.MULTILINE)
                new = {urljoin(object_name, uri) for uri in uris} - known
                left += new
                known |= new
        return self._folder / name / entry

    def _told(self, name: str) -> str:
        """Return what the API tells of a result of one rendition."""
        output = self._wait(name)["output"]
        if not output:
            raise SmokeError("nothing")
        (one,) = output["renditions"]
        return (
            f"{output['duration']:.0f} s, {one['width']}x{one['height']} "
            f"at {one['frame_rate']:g} frames a second"
        )

    def _listed(self) -> str:
        ids = set(self._tasks.values())
        listed = {task["id"] for task in self._service.call("GET", "get-transcodes", limit=100)["results"]}
        return f"{len(ids & listed)} of {len(ids)}"

    def _delete(self, *names: str) -> str:
        names = tuple(name for name in names if name in self._tasks)
        ids = [self._tasks[name] for name in names]
        if len(ids) == 1:
            self._service.call("POST", "delete-transcode", id=ids[0])
        else:
            self._service.call("POST", "delete-transcodes", ids=",".join(ids))
        states = {_FINAL[self._wait(name)["status"]] for name in names}
        stored = [
            self._service.s3.list_objects_v2(Bucket=self._service.output_bucket, Prefix=f"outputs/{id_}/")
            for id_ in ids
        ]
        objects = sum(answer["KeyCount"] for answer in stored)
        return f"{' and '.join(sorted(states))}, {objects} objects"


def _content(path: Path) -> str:
    """Return what is in a media file or a playlist: the frames of its picture, and whether there is sound."""
    command = [str(FFMPEG_DIR / "ffprobe"), "-v", "error", "-count_packets", "-show_streams", "-of", "json"]
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SmokeError(done.stderr.strip())
    packets = {s["codec_type"]: s["nb_read_packets"] for s in json.loads(done.stdout)["streams"]}
    return f"{packets.get('video', 0)} frames" + (", sound" if "audio" in packets else "")


def _digest(path: Path) -> str:
    """Return a digest of a picture's packets: that of a copy is the source's."""
    return _ffmpeg("-i", str(path), *["-map", "0:v", "-c", "copy", "-f", "hash", "-hash", "md5", "-"]).strip()


def _ffmpeg(*arguments: str) -> str:
    command = [str(FFMPEG_DIR / "ffmpeg"), "-nostdin", "-v", "error", "-y", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SmokeError(done.stderr.strip())
    return done.stdout


def main() -> int:
    """Try the service that the command line names and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m local.smoke")
    parser.add_argument("--stack", default="", help="a stack on AWS, instead of the running service")
    parser.add_argument("--url", default="", help="a video on the public Internet")
    parser.add_argument("--home", type=Path, default=HOME, help="the folder of the running service")
    arguments = parser.parse_args()
    if arguments.stack:
        service = Service.on_aws(arguments.stack)
    else:
        try:
            service = Service.running(json.loads((arguments.home / "stack.json").read_text()))
        except FileNotFoundError:
            print("The stack does not run: `make up` starts it.", file=sys.stderr)
            return 1
    report = Smoke(service, arguments.url).run()
    print(report)
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main())
