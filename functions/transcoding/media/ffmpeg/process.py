"""Starts every process that parses untrusted bytes: FFmpeg, ffprobe, the reader of indexes.

A hostile file may take over such a process. So it inherits only the paths of programs and libraries from the
worker's environment, no credentials, and cannot read that environment under /proc. It has a session of its
own and is killed when the worker is done with it or dies. Its input is closed, `Limits` restricts what it may
use, and `sandbox` what it may ask of the kernel.
"""

from __future__ import annotations

import io
import logging
import math
import os
import re
import resource
import shlex
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO

from transcoding.errors import Failure
from transcoding.media.ffmpeg.sandbox import prctl, sandbox
from transcoding.media.ffmpeg.tools import Tools

#: The numbers in which two messages of the same kind differ.
_NUMBER = re.compile(r"0x[0-9a-f]+|(?<![A-Za-z0-9])-?\d+(\.\d+)?")
#: The most kinds of messages, and characters of each, that are kept: more than a real source leads to.
_MOST_KINDS, _LONGEST_KIND = 50, 200

#: Operations of prctl(2).
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4

#: The variables that a process inherits from the worker. On Lambda, Python needs its libraries' path.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
#: Of SVT-AV1's messages, only errors: it has no other way to say so.
_QUIET = MappingProxyType({"SVT_LOG": "1"})

#: The function's memory that the worker itself needs, bytes: Python with the AWS clients takes 100 MiB, and
#: uploads under way take up to 128 MiB.
_WORKER_MEMORY = 384 << 20
#: The most memory for inspecting a source, bytes: ffprobe takes 160 MiB for 8K, a hostile header all it gets.
_PROBING_MEMORY = 4 << 30
#: The most output of inspecting a source, bytes: enough for three million keyframes.
_PROBING_OUTPUT = 128 << 20
#: The longest invocation, seconds.
_LONGEST_INVOCATION = 900.0
#: The largest /tmp of a function, bytes. A smaller one is full before a file has this size.
_LARGEST_STORAGE = 10240 << 20

#: Messages of programs that have run out of storage or memory; their results may be incomplete.
_SHORTAGES = (
    (re.compile("No space left on device|File too large"), Failure.STORAGE_FULL),
    (re.compile("Cannot allocate memory|Memory allocation error"), Failure.MEMORY_FULL),
    # x264's message, and FFmpeg's where it cannot start a thread.
    (re.compile(r"malloc of size \d+ failed|pthread_create\(\) failed"), Failure.MEMORY_FULL),
)


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a process may use: bytes of memory and of each file that it writes, and seconds until it ends.

    Memory is what the process could write to (RLIMIT_DATA), without the libraries that it maps. Its processor
    time is limited to `seconds` on every processor, which ends it even if the worker is stopped.
    """

    memory: int
    file_size: int
    seconds: float


def probing_limits(seconds: float) -> Limits:
    """Return the limits of a process that inspects a source, whose output counts as a file."""
    return Limits(min(_PROBING_MEMORY, _free_memory()), _PROBING_OUTPUT, seconds)


def encoding_limits() -> Limits:
    """Return the limits of a process that makes a result: all that the function has."""
    return Limits(_free_memory(), _LARGEST_STORAGE, _LONGEST_INVOCATION)


def _free_memory() -> int:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # Set by Lambda, in MiB.
    function = int(os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "0")) << 20
    return min(machine, function or machine) - _WORKER_MEMORY


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process has ended: its exit status (negative: a signal), and what it has written."""

    status: int
    stdout: bytes
    stderr: bytes


def run(command: Sequence[str], limits: Limits, environment: Mapping[str, str] | None = None) -> Ended:
    """Run a program to its end. Raises TimeoutError where it takes longer than its limit."""
    # Files in memory, not pipes: their size can be limited.
    with _memory_file() as stdout, _memory_file() as stderr:
        process = _start(command, limits, stdout, stderr, environment or {})
        try:
            status = process.wait(limits.seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{command[0]} takes longer than {limits.seconds:.0f} s") from None
        finally:
            _end(process)
        stdout.seek(0)
        stderr.seek(0)
        return Ended(status, stdout.read(), stderr.read())


def program(tools: Tools) -> list[str]:
    """Return the beginning of an FFmpeg command for an `Encoder`."""
    command = [str(tools.ffmpeg), "-hide_banner", "-nostdin", "-y", "-loglevel", "warning"]
    return [*command, "-nostats", "-progress", "pipe:1", "-stats_period", "0.5"]


class Encoder:
    """One run of FFmpeg, ended at the latest when the `with` block ends.

    Its command begins with `program`.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command = shlex.join(command)
        #: How far the result reaches, seconds: the stream that is furthest behind.
        self.position = 0.0
        #: How many frames of the picture it has written.
        self.frames = 0
        #: The kinds of messages in its error output: their lines, with N for each number.
        self.kinds: set[str] = set()
        #: STORAGE_FULL or MEMORY_FULL once it has run out of either. It may continue, and leave data out.
        self.shortage: Failure | None = None
        self._stderr: deque[str] = deque(maxlen=60)
        limits = encoding_limits()
        self._ends = time.monotonic() + limits.seconds
        self._process = _start(command, limits, subprocess.PIPE, subprocess.PIPE, _QUIET)
        self._readers = [
            threading.Thread(target=self._read_progress, args=[_text(self._process.stdout)], daemon=True),
            threading.Thread(target=self._read_errors, args=[_text(self._process.stderr)], daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Encoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait(self, seconds: float) -> int | None:
        """Wait at most `seconds` for the end; return the exit status (negative: a signal), None if it runs.

        Raises TimeoutError where it runs longer than any invocation.
        """
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            if time.monotonic() > self._ends:
                raise TimeoutError("FFmpeg runs longer than any invocation") from None
            return None
        for reader in self._readers:
            reader.join()
        if status == -signal.SIGXFSZ:
            self.shortage = Failure.STORAGE_FULL
        return status

    def stop(self) -> None:
        """Kill it; the file that it was writing is incomplete."""
        _end(self._process)

    @property
    def errors(self) -> str:
        """The last lines of its error output."""
        return "\n".join(self._stderr)

    def _read_progress(self, stdout: IO[str]) -> None:
        for line in iter(lambda: stdout.readline(2000), ""):
            key, _, value = line.strip().partition("=")
            if key == "out_time_us" and value.isdigit():
                self.position = max(self.position, int(value) / 1_000_000)
            elif key == "frame" and value.isdigit():
                self.frames = int(value)

    def _read_errors(self, stderr: IO[str]) -> None:
        # A hostile file may cause lines of any length.
        for line in iter(lambda: stderr.readline(2000), ""):
            self._stderr.append(line.rstrip())
            if len(self.kinds) < _MOST_KINDS:
                self.kinds.add(_NUMBER.sub("N", line.strip()[:_LONGEST_KIND]))
            for words, shortage in _SHORTAGES:
                if words.search(line):
                    self.shortage = self.shortage or shortage


def _start(
    command: Sequence[str],
    limits: Limits,
    stdout: int | IO[bytes],
    stderr: int | IO[bytes],
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program. Call it in the main thread: when the calling thread ends, the process is killed."""
    # From now on, only root may read the worker's memory and its environment under /proc.
    prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        env=kept | dict(environment or {}),
        start_new_session=True,
        preexec_fn=_confinement(limits, network=_reads_url(command)),  # noqa: PLW1509 - it only makes system calls
    )
    # If memory runs out in spite of the limit, the kernel is to kill this process, not the worker.
    with suppress(OSError):
        Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000", encoding="ascii")
    return process


def _reads_url(command: Sequence[str]) -> bool:
    """Return whether a command reads a URL: all others read files alone."""
    return any(word.startswith(("http://", "https://")) for word in command)


def _confinement(limits: Limits, *, network: bool) -> Callable[[], None]:
    """Return what a new process does before it becomes the program."""
    worker, allowed = os.getpid(), sandbox(network=network)
    if not allowed.is_filtered:
        _warn_of_no_filter()
    processor_seconds = math.ceil(limits.seconds) * (os.cpu_count() or 1)
    limited = [
        (which, _allowed(which, value))
        for which, value in (
            (resource.RLIMIT_DATA, limits.memory),
            (resource.RLIMIT_FSIZE, limits.file_size),
            (resource.RLIMIT_CPU, processor_seconds),
            # A core dump would fill the storage.
            (resource.RLIMIT_CORE, 0),
        )
    ]

    def confine() -> None:
        # Otherwise, FFmpeg would continue to encode after its worker was killed.
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != worker:
            os._exit(1)
        for which, value in limited:
            resource.setrlimit(which, (value, value))
        allowed.enter()

    return confine


@cache
def _warn_of_no_filter() -> None:
    logger.warning("System calls cannot be filtered on this machine")


def _allowed(which: int, value: int) -> int:
    """Return the limit, or the worker's own hard limit if that is lower."""
    _, highest = resource.getrlimit(which)
    return value if highest == resource.RLIM_INFINITY else min(value, highest)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process with all others in its group, and wait for its end."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _memory_file() -> IO[bytes]:
    return os.fdopen(os.memfd_create("output"), "w+b")


def _text(stream: IO[bytes] | None) -> IO[str]:
    assert stream  # noqa: S101 - a pipe was asked for
    return io.TextIOWrapper(stream, encoding="utf-8", errors="replace")
