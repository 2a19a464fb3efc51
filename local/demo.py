"""Transcode one video on the running stack and print what a user of the API sees."""

from __future__ import annotations

import http.client
import json
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from local.deploy import client
from local.package import FFMPEG_DIR
from local.stack import HOME, Stack

_POLL_SECONDS = 0.5
_BAR_WIDTH = 40
_STATUS = {-1: "accepted", 0: "waiting", 1: "running", 2: "succeeded", 3: "failed", 4: "deleted"}
#: Ignores proxies: the stack is on this machine.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def run(stack: Stack, source: str, target_format: str, quality: int) -> bool:
    """Transcode a file, an s3:// or http(s):// URL, or ("") a generated clip; return whether it succeeds."""
    origin_url = source if "://" in source else upload(stack, Path(source) if source else sample_clip())
    request = {"origin_url": origin_url, "task_config_temp_id": quality, "format": target_format}
    print(f"POST create-transcode {json.dumps(request)}")
    answer = call(stack, "POST", "create-transcode", request)
    if answer["errcode"] != 1000:
        print(f"create-transcode refused: {answer['msg']}", file=sys.stderr)
        return False
    task = _watch(stack, answer["id"])
    print(json.dumps(task, indent=2, ensure_ascii=False))
    if task["status"] != 2:
        print(f"\nError {task['error_code']}: {task['error_info']}", file=sys.stderr)
        return False
    _explain(stack, task)
    return True


def call(stack: Stack, method: str, name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Call the API and return the response's JSON, whatever its HTTP status."""
    url = f"{stack['api_url']}/transcoding/api/{name}"
    headers = {"x-api-key": stack["api_key"]}
    body = None
    if method == "GET":
        url += "?" + urlencode(parameters)
    else:
        headers["Content-Type"] = "application/json"
        body = json.dumps(parameters).encode()
    request = urllib.request.Request(url, body, headers, method=method)
    response: http.client.HTTPResponse | urllib.error.HTTPError
    try:
        response = _OPENER.open(request, timeout=60)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        answer: dict[str, Any] = json.load(response)
    return answer


def sample_clip() -> Path:
    """Return a clip of 20 s of 1080p, a moving picture with a beep every second. It is generated once."""
    clip = HOME / "sample.mp4"
    if clip.exists():
        return clip
    print("Making a sample clip: 20 s of 1080p with sound …")
    unfinished = clip.with_suffix(".part.mp4")
    command = [
        str(FFMPEG_DIR / "ffmpeg"), "-nostdin", "-v", "error", "-y",
        "-f", "lavfi", "-i", "testsrc2=size=1920x1080:rate=30:duration=20",
        "-f", "lavfi", "-i", "sine=frequency=220:beep_factor=4:sample_rate=48000:duration=20",
        "-c:v", "libx264", "-preset", "superfast", "-pix_fmt", "yuv420p", "-g", "60",
        "-c:a", "aac", "-b:a", "128k", "-movflags", "+faststart", str(unfinished),
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return unfinished.rename(clip)


def upload(stack: Stack, path: Path) -> str:
    """Upload a file to the source bucket under its own name and return its s3:// URL."""
    url = f"s3://{stack['source_bucket']}/{path.name}"
    print(f"Uploading {path} ({path.stat().st_size / 1e6:.1f} MB) to {url}")
    client("s3", stack["aws_endpoint_url"]).upload_file(str(path), stack["source_bucket"], path.name)
    return url


def _watch(stack: Stack, task_id: str) -> dict[str, Any]:
    """Poll get-transcode and print the progress until the task has a final status. Return the task."""
    started = time.monotonic()
    shown = ""
    while True:
        task: dict[str, Any] = call(stack, "GET", "get-transcode", {"id": task_id})["transcoding"]
        done = task["progress"]
        bar = "█" * round(done * _BAR_WIDTH)
        line = f"{task_id} {_STATUS[task['status']]:9} │{bar:<{_BAR_WIDTH}}│ {done:4.0%}"
        if sys.stdout.isatty():
            print(f"\r{line}  {time.monotonic() - started:.0f} s ", end="", flush=True)
        elif line != shown:
            print(line, flush=True)
        shown = line
        if task["status"] in (2, 3, 4):
            print(f"\nDone in {time.monotonic() - started:.1f} s.\n")
            return task
        time.sleep(_POLL_SECONDS)


def _explain(stack: Stack, task: dict[str, Any]) -> None:
    url, api = task["target_url"], f"{stack['api_url']}/transcoding/api"
    console = f"{stack['console_url']}#key={quote(stack['api_key'])}&/tasks/{task['id']}?play"
    key = f"-H 'x-api-key: {stack['api_key']}'"
    body = {"origin_url": task["origin_url"], "task_config_temp_id": 1, "format": "mp4"}
    print(f"""
Watch it (the service goes on running; `make down` stops it and keeps its data):
  {url}
  in Safari or Chrome, in VLC (Media > Open Network Stream), or with ffplay '{url}'

In the console (the address contains the key of the API, which is of this machine alone):
  {console}

Call the API:
  curl {key} '{api}/get-transcode?id={task["id"]}'
  curl {key} '{api}/get-transcodes?limit=5'
  curl {key} '{api}/create-transcode' -H 'Content-Type: application/json' \\
    -d {shlex.quote(json.dumps(body, ensure_ascii=False))}""")
