"""How a stage reports its progress, and how it is stopped: by the same call."""

from __future__ import annotations

from typing import Protocol

#: Where in a task's progress the copying of an http(s) source, and the encoding, end.
COPIED_IN, ENCODED = 0.1, 0.96
#: Seconds between two reports of whatever takes long.
POLL = 0.25


class Report(Protocol):
    """Takes how far an attempt at a task, or a part of it, is: 0.0 to 1.0.

    The job that starts the pipeline passes it on to every stage; each stage that takes long calls it every
    `POLL` seconds, and lets what it raises through. So a stage ends where it stands, and its `with` blocks
    stop FFmpeg and abandon uploads. It raises

    - LeaseLostError: the task was deleted, or is another worker's by now. Nothing more may be stored.
    - OutOfTimeError: the invocation is nearly over. A part of the picture keeps the segments that are
      finished; anything else has failed.
    """

    def __call__(self, progress: float, /) -> None:
        """Note the progress. Raises LeaseLostError and OutOfTimeError."""
        ...


def fraction(done: float, whole: float | None) -> float:
    """Return how much of the whole is done, 0.0 to 1.0.

    Without a known whole, the fraction is only indicative: it grows, ever more slowly.
    """
    return min(1.0, done / whole) if whole else done / (done + 60)


def report_rest(report: Report, done: float) -> None:
    """Report what follows the encoding, of which `done` (0.0 to 1.0) is done."""
    report(ENCODED + (1 - ENCODED) * done)
