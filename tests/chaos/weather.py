"""What happens to the processes and the disk of the running service, at random moments."""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tests.integration.inside import descendants

#: Begins the name of each source, by which FFmpeg's processes tell what they work on.
SOURCE = re.compile(rb"chaos-(\d+)-")


class Blow(StrEnum):
    """What happens, by what it is called in the table."""

    FFMPEG = "kill -9 of an FFmpeg"
    WORKER = "kill -9 of a worker"
    STOPPED = "SIGSTOP for longer than a lease, SIGCONT"
    MEMORY = "no more memory for an FFmpeg"
    DISK = "/tmp full for some seconds"


SHARES = {Blow.FFMPEG: 40, Blow.WORKER: 25, Blow.STOPPED: 8, Blow.MEMORY: 12, Blow.DISK: 3}
_FULL_SECONDS = 4.0


@dataclass
class Weather:
    """Blows of all kinds, on average one in `seconds`, on the workers and the FFmpegs of an emulator.

    `emulator` finds its process; `disk` is the small disk of the functions' /tmp, or None where none could be
    mounted; `stopped` is for how long a worker is stopped, in seconds.
    """

    seed: int
    seconds: float
    emulator: Callable[[], int | None]
    disk: Path | None
    stopped: float
    #: How often each kind comes, relative to the others.
    shares: Mapping[Blow, int] = field(default_factory=lambda: SHARES)
    blows: Counter[Blow] = field(default_factory=Counter)
    #: By the number of the task, as its source's name has it: what its processes have had.
    suffered: dict[int, list[Blow]] = field(default_factory=dict)
    #: When a worker was struck that had no FFmpeg, which would tell its task: time.time().
    unseen: list[float] = field(default_factory=list)
    #: When the disk was full, and until when: time.time().
    full: list[tuple[float, float]] = field(default_factory=list)
    #: Nothing happens while it is held.
    calm: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def blowing(self) -> Iterator[None]:
        over = threading.Event()
        thread = threading.Thread(target=self._blow, args=(over,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _blow(self, over: threading.Event) -> None:
        dice = random.Random(self.seed)
        shares = {blow: share for blow, share in self.shares.items() if self.disk or blow is not Blow.DISK}
        while not over.wait(dice.expovariate(1 / self.seconds)):
            (blow,) = dice.choices(list(shares), list(shares.values()))
            with self.calm, suppress(ProcessLookupError, FileNotFoundError):
                workers, encoders = self._processes()
                if blow is Blow.DISK and encoders:
                    self._fill()
                    continue
                pids = workers if blow in {Blow.WORKER, Blow.STOPPED} else encoders
                if pids:
                    self._hit(blow, dice.choice(pids))

    def _hit(self, blow: Blow, pid: int) -> None:
        on = {self._works_on(one) for one in [pid, *descendants(pid)]} - {None}
        match blow:
            case Blow.FFMPEG | Blow.WORKER:
                os.kill(pid, signal.SIGKILL)
            case Blow.MEMORY:
                size = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
                resource.prlimit(pid, resource.RLIMIT_AS, (size, size))
            case Blow.STOPPED:
                family = [pid, *descendants(pid)]
                for one in family:
                    os.kill(one, signal.SIGSTOP)
                threading.Timer(self.stopped, _go_on, [family]).start()
        self.blows[blow] += 1
        if not on:
            self.unseen.append(time.time())
        for number in on:
            assert number is not None
            self.suffered.setdefault(number, []).append(blow)

    def _fill(self) -> None:
        assert self.disk
        self.blows[Blow.DISK] += 1
        started, filler = time.time(), self.disk / "filler"
        with suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(2**20))
        time.sleep(_FULL_SECONDS)
        filler.unlink(missing_ok=True)
        self.full.append((started, time.time()))

    def _processes(self) -> tuple[list[int], list[int]]:
        """Find the workers, those that wait for work too, and the FFmpegs."""
        emulator = self.emulator()
        workers, encoders = [], []
        for pid in descendants(emulator) if emulator else []:
            with suppress(OSError):
                if b"/ffmpeg\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    encoders.append(pid)
                elif b"WorkerFunction" in Path(f"/proc/{pid}/environ").read_bytes():
                    workers.append(pid)
        return workers, encoders

    @staticmethod
    def _works_on(pid: int) -> int | None:
        with suppress(OSError):
            found = SOURCE.search(Path(f"/proc/{pid}/cmdline").read_bytes())
            return int(found[1]) if found else None
        return None


def _go_on(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
