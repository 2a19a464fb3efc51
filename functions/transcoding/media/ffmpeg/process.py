"""Runs FFmpeg: its progress, its end, and its end when the worker ends."""

from __future__ import annotations

import ctypes
import re
import shlex
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import IO

from transcoding.media.ffmpeg.tools import Tools

#: What makes two messages of the same kind different.
_NUMBER = re.compile(r"0x[0-9a-f]+|(?<![A-Za-z0-9])-?\d+(\.\d+)?")
#: More kinds of messages, and longer ones, than a real source leads to.
_MOST_KINDS, _LONGEST_KIND = 50, 200

_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    # Without it, FFmpeg would go on encoding for nobody after a worker was killed.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def program(tools: Tools) -> list[str]:
    """Return how a command of FFmpeg's begins that an `Encoder` runs."""
    command = [str(tools.ffmpeg), "-hide_banner", "-nostdin", "-y", "-loglevel", "warning"]
    return [*command, "-nostats", "-progress", "pipe:1", "-stats_period", "0.5"]


class Encoder:
    """One run of FFmpeg, ended at the latest when the `with` block ends.

    Its command begins with `program`. Start it from the main thread: the kernel ties its life to the
    thread that started it (prctl(2), PR_SET_PDEATHSIG).
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command = shlex.join(command)
        #: How far the result reaches, seconds: the stream that is furthest behind.
        self.position = 0.0
        #: How many frames of the picture it has written.
        self.frames = 0
        #: The kinds of messages in its error output: their lines, with N for each number.
        self.kinds: set[str] = set()
        self._stderr: deque[str] = deque(maxlen=60)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - it only makes one system call
        )
        self._readers = [
            threading.Thread(target=self._read_progress, args=[self._process.stdout], daemon=True),
            threading.Thread(target=self._read_errors, args=[self._process.stderr], daemon=True),
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
        """Wait at most so long for the end; return the exit status (negative: a signal), None if it runs."""
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        for reader in self._readers:
            reader.join()
        return status

    def stop(self) -> None:
        """End it at once; what it was writing is incomplete."""
        self._process.kill()
        self._process.wait()

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
