"""Starts every process that parses strangers' bytes: FFmpeg, ffprobe, the reader of indexes.

They run as if a file could take them over. A process gets of the worker's environment only where programs and
libraries are, so no credentials, and cannot read the worker's own under /proc. It is in a session of its own
and ends, with all that it may have started, when the worker is done with it or dies. Its input is closed, and
`Limits` holds it to what it may use.
"""

from __future__ import annotations

import ctypes
import io
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
from pathlib import Path
from types import TracebackType
from typing import IO

from transcoding.errors import Failure
from transcoding.media.ffmpeg.tools import Tools

#: What makes two messages of the same kind different.
_NUMBER = re.compile(r"0x[0-9a-f]+|(?<![A-Za-z0-9])-?\d+(\.\d+)?")
#: More kinds of messages, and longer ones, than a real source leads to.
_MOST_KINDS, _LONGEST_KIND = 50, 200

#: prctl(2), and what it is asked for.
_prctl = ctypes.CDLL(None).prctl
_prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38

#: What a process gets of the worker's environment. On Lambda, Python needs its libraries' path.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")

#: What the worker needs of the function's memory for itself, bytes: Python with its clients of AWS has
#: 100 MiB, and uploads have up to 128 MiB under way.
_WORKER_MEMORY = 384 << 20
#: Looking at a source takes less, bytes: ffprobe has 160 MiB for 8K. A hostile header asks for all there is.
_PROBING_MEMORY = 4 << 30
#: The most that is told of a source, bytes: three million keyframes have as many.
_PROBING_OUTPUT = 128 << 20
#: No invocation lasts longer, seconds.
_LONGEST_INVOCATION = 900.0
#: The largest /tmp of a function, bytes. A smaller one is full before.
_LARGEST_STORAGE = 10240 << 20

#: What programs say when they get no more of what they need; whatever they make then may lack something.
_SHORTAGES = (
    (re.compile("No space left on device|File too large"), Failure.STORAGE_FULL),
    (re.compile("Cannot allocate memory|Memory allocation error"), Failure.MEMORY_FULL),
    # Of x264, and of the kernel to threads.
    (re.compile(r"malloc of size \d+ failed|pthread_create\(\) failed"), Failure.MEMORY_FULL),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a process may use: bytes of memory and of each file that it writes, and seconds until it ends.

    Memory is what it could write to (RLIMIT_DATA), the libraries that it maps are not counted. Its processor
    time is limited to all processors for those seconds: that ends it where the worker, stopped, does not.
    """

    memory: int
    file_size: int
    seconds: float


def probing_limits(seconds: float) -> Limits:
    """Return the limits of what looks at a source, whose output counts as a file."""
    return Limits(min(_PROBING_MEMORY, _free_memory()), _PROBING_OUTPUT, seconds)


def encoding_limits() -> Limits:
    """Return the limits of what makes a result: all that the function has."""
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
    """Run a program to its end. Raises TimeoutError where it takes longer than it may."""
    # Files in memory, for their size to be limited.
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
    """Return how a command of FFmpeg's begins that an `Encoder` runs."""
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
        #: What it has run out of, if anything. It may go on, and leave out what it had no room for.
        self.shortage: Failure | None = None
        self._stderr: deque[str] = deque(maxlen=60)
        limits = encoding_limits()
        self._ends = time.monotonic() + limits.seconds
        self._process = _start(command, limits, subprocess.PIPE, subprocess.PIPE)
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
        """Wait at most so long for the end; return the exit status (negative: a signal), None if it runs.

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
        """End it at once; what it was writing is incomplete."""
        _end(self._process)

    @property
    def errors(self) -> str:
        """The last lines of its error output."""
        return "\n".join(self._stderr)

    def _read_progress(self, stdout: IO[str]) -> None:
        for line in stdout:
            key, _, value = line.strip().partition("=")
            if key == "out_time_us" and value.isdigit():
                self.position = max(self.position, int(value) / 1_000_000)
            elif key == "frame" and value.isdigit():
                self.frames = int(value)

    def _read_errors(self, stderr: IO[str]) -> None:
        # A line may be as long as a hostile file likes.
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
    _prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        env=kept | dict(environment or {}),
        start_new_session=True,
        preexec_fn=_confinement(limits),  # noqa: PLW1509 - it only makes system calls
    )
    # Where memory runs out all the same, the kernel is to end it, not the worker.
    with suppress(OSError):
        Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000", encoding="ascii")
    return process


def _confinement(limits: Limits) -> Callable[[], None]:
    """Return what a new process does before it becomes the program."""
    worker = os.getpid()
    processor_seconds = math.ceil(limits.seconds) * (os.cpu_count() or 1)
    held = [
        (which, _allowed(which, value))
        for which, value in (
            (resource.RLIMIT_DATA, limits.memory),
            (resource.RLIMIT_FSIZE, limits.file_size),
            (resource.RLIMIT_CPU, processor_seconds),
            # What is left of a crash would fill the storage.
            (resource.RLIMIT_CORE, 0),
        )
    ]

    def confine() -> None:
        # Without it, FFmpeg would go on encoding for nobody after a worker was killed.
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != worker:
            os._exit(1)
        _prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        for which, value in held:
            resource.setrlimit(which, (value, value))

    return confine


def _allowed(which: int, value: int) -> int:
    """Return a limit that the worker, held to one itself, may set."""
    _, highest = resource.getrlimit(which)
    return value if highest == resource.RLIM_INFINITY else min(value, highest)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process with all that is in its group, and wait for its end."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _memory_file() -> IO[bytes]:
    return os.fdopen(os.memfd_create("output"), "w+b")


def _text(stream: IO[bytes] | None) -> IO[str]:
    assert stream  # noqa: S101 - a pipe was asked for
    return io.TextIOWrapper(stream, encoding="utf-8", errors="replace")
