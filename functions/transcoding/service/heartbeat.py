"""Keeps a worker's lease of its task or part, and reports when it is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType

from aws_lambda_powertools import Logger

from transcoding.errors import LeaseLostError

#: Notes the progress and extends the lease; raises LeaseLostError.
Beat = Callable[[float, timedelta], None]

logger = Logger(child=True)


class Heartbeat:
    """Calls `beat` every `interval` seconds, four times in a lease at least, while the `with` block runs.

    Where the table cannot be reached until the lease is over, the lease counts as lost: another worker may
    have the task by then.
    """

    def __init__(self, beat: Beat, lease: timedelta, interval: float) -> None:
        self._beat_once = beat
        self._lease = lease
        self._interval = min(interval, lease.total_seconds() / 4)
        self._progress = 0.0
        self._ends = time.monotonic() + lease.total_seconds()
        self._lost = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def report(self, progress: float) -> None:
        """Note how far the task is, 0.0 to 1.0. Raises LeaseLostError where it is no longer this worker's."""
        self._progress = max(self._progress, progress)
        if self._lost.is_set():
            raise LeaseLostError

    def _beat(self) -> None:
        while not self._done.wait(self._interval):
            sent = time.monotonic()
            try:
                self._beat_once(self._progress, self._lease)
            except LeaseLostError:
                self._lost.set()
                return
            except Exception:
                logger.warning("heartbeat failed", exc_info=True)
                if time.monotonic() > self._ends - self._interval:
                    self._lost.set()
                    return
            else:
                self._ends = sent + self._lease.total_seconds()
