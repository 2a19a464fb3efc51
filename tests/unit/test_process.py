"""What a program is given, and held to, that parses strangers' bytes."""

from __future__ import annotations

import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from transcoding.errors import Failure, TaskFailedError
from transcoding.media.ffmpeg import process
from transcoding.media.ffmpeg.process import Encoder, Limits, encoding_limits, probing_limits, run
from transcoding.media.ffmpeg.sandbox import sandbox
from transcoding.media.ffmpeg.tools import Tools
from transcoding.media.inspection.probe import probe

MIB = 1 << 20
#: The numbers of clone(2) and tgkill(2).
CLONE, TGKILL = {"x86_64": (56, 234), "aarch64": (220, 131)}[platform.machine()]
LIMITS = Limits(memory=512 * MIB, file_size=4 * MIB, seconds=20)
#: What Lambda tells a function of its role, and more that is nobody's business.
SECRETS = {
    "AWS_ACCESS_KEY_ID": "s3cret",
    "AWS_SECRET_ACCESS_KEY": "s3cret",
    "AWS_SESSION_TOKEN": "s3cret",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN": "s3cret",
    "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001",
    "OUTPUT_BUCKET": "s3cret",
    "http_proxy": "http://proxy",
    "FFREPORT": "file=/tmp/report",
}


def python(program: str) -> list[str]:
    return [sys.executable, "-c", f"import json, os, resource, subprocess, sys, time\n{program}"]


def told(program: str, limits: Limits = LIMITS) -> Any:
    """Run a program that prints JSON."""
    ended = run(python(program), limits)
    assert ended.status == 0, ended.stderr
    return json.loads(ended.stdout)


def read(encoder: Encoder, seconds: float = 20) -> int:
    status = encoder.wait(seconds)
    assert status is not None
    return status


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_nothing_of_the_role_is_in_its_environment(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TMPDIR", "/tmp")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/lib")
    environment = told("json.dump(dict(os.environ), sys.stdout)")
    # The last is Python's own.
    assert environment.keys() - {"LC_CTYPE"} == {"PATH", "LD_LIBRARY_PATH", "TMPDIR"}
    with Encoder(python("print(os.environ, file=sys.stderr)")) as encoder:
        assert read(encoder) == 0
    assert "PATH" in encoder.errors
    assert "s3cret" not in encoder.errors


def test_what_is_given_to_it_is_added_to_its_environment():
    ended = run(python("print(os.environ['PYTHONPATH'])"), LIMITS, {"PYTHONPATH": "/somewhere"})
    assert ended.stdout == b"/somewhere\n"


def test_it_has_no_input_and_no_open_file_of_the_worker(tmp_path):
    with (tmp_path / "file").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        links = told(
            "json.dump({fd: os.readlink(f'/proc/self/fd/{fd}') for fd in range(100) "
            "if os.path.exists(f'/proc/self/fd/{fd}')}, sys.stdout)"
        )
    assert links.keys() == {"0", "1", "2"}
    assert links["0"] == "/dev/null"
    assert "memfd:" in links["1"]
    assert "memfd:" in links["2"]


WORKER = """
import sys
from transcoding.media.ffmpeg.process import Limits, run
spy = 'import os; print(open(f"/proc/{os.getppid()}/environ").read())'
ended = run([sys.executable, "-c", spy], Limits(1 << 30, 1 << 20, 20))
print(ended.stdout.decode(), ended.stderr.decode())
"""


def test_it_cannot_read_the_environment_of_the_worker():
    environment = {**os.environ, **SECRETS, "PYTHONPATH": str(Path(process.__file__).parents[3])}
    command = [sys.executable, "-c", WORKER]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "PermissionError" in done.stdout
    assert "s3cret" not in done.stdout


def test_its_limits_are_those_of_the_kernel():
    held = told("json.dump([resource.getrlimit(n) for n in (2, 1, 0, 4)], sys.stdout)")
    # RLIMIT_DATA, RLIMIT_FSIZE, RLIMIT_CPU and RLIMIT_CORE.
    assert held == [[512 * MIB] * 2, [4 * MIB] * 2, [20 * (os.cpu_count() or 1)] * 2, [0, 0]]
    assert told("json.dump(int(open('/proc/self/oom_score_adj').read()), sys.stdout)") == 1000
    privileges = told("json.dump(open('/proc/self/status').read(), sys.stdout)")
    assert "NoNewPrivs:\t1" in privileges


def test_it_gets_no_more_memory_than_it_may():
    ended = run(python("bytearray(600 << 20)"), LIMITS)
    assert ended.status == 1
    assert b"MemoryError" in ended.stderr


def test_it_writes_no_larger_file_than_it_may(tmp_path):
    path = tmp_path / "file"
    ended = run(["sh", "-c", f"exec head -c 10000000 /dev/zero > {path}"], LIMITS)
    assert ended.status == -signal.SIGXFSZ
    assert path.stat().st_size == 4 * MIB


def test_it_tells_no_more_than_it_may():
    ended = run(["yes"], LIMITS)
    assert ended.status == -signal.SIGXFSZ
    assert len(ended.stdout) == 4 * MIB


def test_it_ends_when_its_time_is_over():
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        run(["sleep", "60"], Limits(512 * MIB, MIB, 0.3))
    assert time.monotonic() - started < 5


def test_it_ends_also_where_the_worker_does_not_watch_it(monkeypatch):
    monkeypatch.setattr(process, "_LONGEST_INVOCATION", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    with Encoder(python("while True: pass")) as encoder:
        assert encoder._process.wait(60) == -signal.SIGKILL


@pytest.mark.parametrize("hangs", [True, False])
def test_all_that_it_has_started_ends_with_it(tmp_path, hangs):
    told = tmp_path / "child"
    program = f"child = subprocess.Popen(['sleep', '60'])\nopen({str(told)!r}, 'w').write(str(child.pid))"
    limits = Limits(512 * MIB, MIB, 5)
    if hangs:
        with pytest.raises(TimeoutError):
            run(python(f"{program}\ntime.sleep(60)"), limits)
    else:
        assert run(python(program), limits).status == 0
    assert until(lambda: not is_alive(int(told.read_text())))


def test_an_encoder_is_ended_with_all_that_it_has_started(tmp_path):
    told = tmp_path / "child"
    program = f"child = subprocess.Popen(['sleep', '60'])\nopen({str(told)!r}, 'w').write(str(child.pid))"
    with Encoder(python(f"{program}\nprint('frame=1', flush=True)\ntime.sleep(60)")) as encoder:
        assert until(lambda: encoder.frames == 1)
        assert os.getsid(encoder._process.pid) == os.getpgid(encoder._process.pid) == encoder._process.pid
        assert encoder.wait(0) is None
    assert encoder.wait(0) == -signal.SIGKILL
    assert until(lambda: not is_alive(int(told.read_text())))


@pytest.mark.parametrize(
    "attempt",
    [
        "os.fork() or os.setsid()\nassert os.wait()[1] == 0",
        "os.fork() or os.setpgid(0, 0)\nassert os.wait()[1] == 0",
        "subprocess.Popen(['true'], start_new_session=True)",
        "assert ctypes.CDLL(None).unshare(0x10000000) == 0",
        # clone with CLONE_NEWUSER.
        f"assert ctypes.CDLL(None).syscall({CLONE}, 0x10000011, 0, 0, 0, 0) >= 0",
        "os.symlink('/proc/self/environ', 'link')",
        "os.link('/bin/true', 'link')",
        "os.mkfifo('pipe')",
        "os.kill(os.getppid(), 0)",
        f"ctypes.CDLL(None).syscall({TGKILL}, os.getppid(), os.getppid(), 0) == -1 and exit(1)",
        "resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)",
        "fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())",
        "fcntl.fcntl(0, 15, struct.pack('ii', 1, os.getppid()))",
        "socket.socket()",
        "socket.socket(socket.AF_UNIX)",
        "socket.socketpair()",
        "ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == -1 and exit(1)",
    ],
)
def test_the_kernel_refuses_what_it_has_no_business_with(tmp_path: Path, attempt: str) -> None:
    ended = run(
        python(f"import ctypes, fcntl, socket, struct\nos.chdir({str(tmp_path)!r})\n{attempt}"), LIMITS
    )
    assert ended.status == 1, ended
    assert not list(tmp_path.iterdir())


def test_it_may_limit_and_end_itself() -> None:
    limiting = "which = resource.RLIMIT_NOFILE\nresource.setrlimit(which, (8, 8))\nresource.prlimit(0, which)"
    assert run(python(limiting), LIMITS).status == 0
    assert run(python("os.abort()"), LIMITS).status in {-signal.SIGSEGV, -signal.SIGTRAP}


def test_without_its_filter_no_program_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox(network=False), "_address", 0)
    with pytest.raises(subprocess.SubprocessError):
        run(python("print('here')"), LIMITS)


def test_a_machine_that_cannot_filter_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sandbox(network=False), "is_filtered", False)
    process._warn_of_no_filter.cache_clear()
    for _ in range(2):
        assert run(python("os.symlink('/', '/nowhere/link')"), LIMITS).stderr.count(b"FileNotFoundError") == 1
    assert caplog.text.count("System calls cannot be filtered") == 1


def test_it_has_threads() -> None:
    program = "import threading\nt = threading.Thread(target=print, args=['here'])\nt.start()\nt.join()"
    assert run(python(program), LIMITS).stdout == b"here\n"


def test_who_reads_a_url_may_connect_and_may_not_listen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        connecting = (
            "import socket\nsocket.create_connection(('127.0.0.1', int(sys.argv[1].split(':')[2][:-1])))"
        )
        assert run([*python(connecting), url], LIMITS).status == 0
        assert run(python(connecting), LIMITS).status == 1
    for attempt in (
        "socket.socket().listen()",
        "fcntl.ioctl(socket.socket(), 0x8901, struct.pack('i', os.getppid()))",
        "fcntl.ioctl(socket.socket(), 0x8902, struct.pack('i', os.getppid()))",
    ):
        ended = run([*python(f"import fcntl, socket, struct\n{attempt}"), url], LIMITS)
        assert b"PermissionError" in ended.stderr, attempt
    # As musl does, FFmpeg's library, to look names up.
    resolver = "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(('', 0))"
    assert run([*python(resolver), url], LIMITS).status == 0


def test_root_has_no_capabilities() -> None:
    status = told("json.dump(open('/proc/self/status').read(), sys.stdout)")
    for kind in ("Prm", "Eff", "Bnd"):
        assert f"Cap{kind}:\t0000000000000000" in status


def test_it_dies_with_the_worker():
    program = """
import sys, time
from transcoding.media.ffmpeg.process import Encoder
with Encoder(["sleep", "60"]) as encoder:
    print(encoder._process.pid, flush=True)
    time.sleep(60)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(process.__file__).parents[3])}
    with subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout
        pid = int(worker.stdout.readline())
        assert is_alive(pid)
        worker.kill()
    assert until(lambda: not is_alive(pid))


def test_an_encoder_that_nothing_else_ends_is_given_up():
    with Encoder(["sleep", "60"]) as encoder:
        assert encoder.wait(0.05) is None
        encoder._ends = time.monotonic()
        with pytest.raises(TimeoutError):
            encoder.wait(0.05)


@pytest.mark.parametrize(
    ("program", "shortage"),
    [
        ("print('Error writing trailer: No space left on device', file=sys.stderr)", Failure.STORAGE_FULL),
        ("print('Decoding error: Cannot allocate memory', file=sys.stderr)", Failure.MEMORY_FULL),
        ("print('x264 [error]: malloc of size 48303424 failed', file=sys.stderr)", Failure.MEMORY_FULL),
        ("print('Error opening input: Input/output error', file=sys.stderr)", None),
        # It stays known when many other lines follow.
        ("for n in range(999): print(n or 'No space left on device', file=sys.stderr)", Failure.STORAGE_FULL),
    ],
)
def test_what_a_program_has_run_out_of(program, shortage):
    with Encoder(python(program)) as encoder:
        assert read(encoder) == 0
    assert encoder.shortage is shortage


def test_a_file_that_is_too_large_is_no_room_for_it(monkeypatch, tmp_path):
    monkeypatch.setattr(process, "_LARGEST_STORAGE", MIB)
    with Encoder(["sh", "-c", f"exec head -c 10000000 /dev/zero > {tmp_path}/file"]) as encoder:
        assert read(encoder) == -signal.SIGXFSZ
    assert encoder.shortage is Failure.STORAGE_FULL


def test_the_memory_of_the_function_is_shared_with_the_worker(monkeypatch):
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769")
    assert encoding_limits().memory == (1769 - 384) * MIB
    assert probing_limits(90).memory == (1769 - 384) * MIB
    assert probing_limits(90).seconds == 90
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "999999")
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert encoding_limits().memory == machine - 384 * MIB
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
    assert encoding_limits().memory == machine - 384 * MIB


def fake(folder: Path, program: str) -> Tools:
    """Make tools whose ffprobe is a shell's program."""
    script = folder / "ffprobe"
    script.write_text(f"#!/bin/sh\n{program}\n")
    script.chmod(0o755)
    return Tools.within(folder)


def test_a_source_whose_header_never_ends_is_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "_PROBING_OUTPUT", MIB)
    with pytest.raises(TaskFailedError) as failure:
        probe(fake(tmp_path, "exec yes"), "https://example.com/film.mp4", 1000)
    assert failure.value.code is Failure.DAMAGED


def test_a_source_that_takes_all_memory_is_damaged(tmp_path):
    tools = fake(tmp_path, "echo 'film.mp4: Cannot allocate memory' >&2; exit 1")
    with pytest.raises(TaskFailedError) as failure:
        probe(tools, "https://example.com/film.mp4", 1000)
    assert failure.value.code is Failure.DAMAGED
