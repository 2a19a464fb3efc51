"""A stack for the tests alone, in a folder and on a port of its own: a running `make up` is untouched."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest

from local import stack as local_stack
from local.deploy import client
from local.package import FFMPEG_DIR
from local.stack import Stack
from tests.integration.inside import call_api
from tests.integration.playback import Player

FINAL = {2, 3, 4}
#: What signed URLs and requests have, and is of use to a reader of a log.
SIGNED = ("X-Amz-Signature=", "X-Amz-Credential=", "X-Amz-Security-Token=", "AWS4-HMAC-SHA256")
#: The size of a part of an upload, bytes.
PART = 8 * 1024**2
#: Longer than anything here takes on two busy cores; a test that gets here is stuck.
PATIENCE = 300.0


class Api(Protocol):
    """Calls an endpoint; gives the HTTP status and the JSON of the answer."""

    def __call__(
        self, method: str, name: str, parameters: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]: ...


class Wait(Protocol):
    """Polls a task until it has one of the statuses; gives the task."""

    def __call__(
        self, task_id: str, until: set[int] = FINAL, timeout: float = PATIENCE
    ) -> dict[str, Any]: ...


@pytest.fixture(scope="session")
def stack_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("stack")
    # A test run that is told to end does so like one that is interrupted: through the line below.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield home
    finally:
        local_stack.stop(home)


@pytest.fixture(scope="module")
def stack(request: pytest.FixtureRequest, stack_home: Path) -> Iterator[Stack]:
    """The running stack, as stack.json has it; with the template parameters of the module's `PARAMETERS`.

    What has been logged until the end of the module has no secret in it.
    """
    stack = local_stack.start(stack_home, getattr(request.module, "PARAMETERS", None), port=0)
    yield stack
    secrets = [*SIGNED, stack["api_key"], stack["callback_key"]]
    for log in (stack_home / "log").iterdir():
        for line in log.read_text(errors="replace").splitlines():
            found = [secret for secret in secrets if secret in line]
            assert not found, f"{log.name} has {found}: {line[:1000]}"


@pytest.fixture(scope="module")
def api(stack: Stack) -> Api:
    """GET parameters go into the query, others into a JSON body; strings and bytes are a body as they are."""

    return partial(call_api, stack)


@pytest.fixture(scope="module")
def s3(stack: Stack) -> Any:
    return client("s3", stack["aws_endpoint_url"])


@pytest.fixture(scope="module")
def upload(stack: Stack, s3: Any) -> Callable[[Path], str]:
    """Put a file into the source bucket; gives its s3:// URL."""

    def put(path: Path) -> str:
        s3.upload_file(str(path), stack["source_bucket"], path.name)
        return f"s3://{stack['source_bucket']}/{path.name}"

    return put


@pytest.fixture(scope="module")
def wait(api: Api) -> Wait:
    def poll(task_id: str, until: set[int] = FINAL, timeout: float = PATIENCE) -> dict[str, Any]:
        deadline = time.monotonic() + timeout
        while True:
            status, answer = api("GET", "get-transcode", {"id": task_id})
            assert status == 200, answer
            task: dict[str, Any] = answer["transcoding"]
            if task["status"] in until:
                return task
            assert task["status"] not in FINAL, task
            assert time.monotonic() < deadline, f"not in {until} after {timeout:.0f} s: {task}"
            time.sleep(0.2)

    return poll


@pytest.fixture(scope="module")
def transcode(api: Api, wait: Wait) -> Callable[..., dict[str, Any]]:
    """Create a task with further parameters of create-transcode, wait for its end and give it."""

    def run(origin_url: str, **parameters: Any) -> dict[str, Any]:
        status, answer = api("POST", "create-transcode", {"origin_url": origin_url} | parameters)
        assert status == 200, answer
        return wait(answer["id"])

    return run


@pytest.fixture(scope="module")
def player() -> Iterator[Player]:
    with Player() as player:
        yield player


@pytest.fixture(scope="session")
def make_clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a small clip, the same one once a session.

    A picture that moves with a clock in it, and a tone that beeps every second; either can be left out.
    `options` are further output options of FFmpeg: codecs and containers of all kinds.
    """
    folder = tmp_path_factory.mktemp("clips")
    made: dict[object, Path] = {}

    def make(
        name: str = "clip.mp4",
        *,
        size: str = "640x360",
        seconds: float = 4,
        rate: str = "25",
        video: bool = True,
        audio: bool = True,
        options: tuple[str, ...] = (),
    ) -> Path:
        recipe = (name, size, seconds, rate, video, audio, options)
        if recipe in made:
            return made[recipe]
        command = [str(FFMPEG_DIR / "ffmpeg"), "-nostdin", "-v", "error"]
        if video:
            command += ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}:duration={seconds}"]
        if audio:
            command += ["-f", "lavfi", "-i", f"sine=440:beep_factor=4:sample_rate=48000:duration={seconds}"]
        path = folder / f"{len(made)}-{name}"
        codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac"]
        subprocess.run([*command, *codecs, *options, str(path)], check=True)
        made[recipe] = path
        return path

    return make


@pytest.fixture(scope="module")
def three_parts(make_clip: Callable[..., Path]) -> Path:
    """A film that is uploaded in three parts: noise, which no codec makes smaller."""
    path = make_clip(
        "film.mkv", seconds=3, options=("-vf", "noise=alls=100:allf=t", "-b:v", "40M", "-g", "25")
    )
    assert 2 * PART < path.stat().st_size <= 3 * PART
    return path
