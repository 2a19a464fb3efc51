"""How long a task in parts takes with many workers: list scheduling of its steps' measured times.

Parts are taken in the order of the queue, the sound first, each by the worker that can begin it first. The
one that ends last joins them.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

#: Assumed: what Lambda takes to start a container before the function's own code runs, seconds. With a small
#: function those of images took 0.6 to 1.4 s (https://mikhail.io/serverless/coldstarts/aws/) before Lambda
#: loaded them on demand, and take less since (https://aaronstuyvenberg.com/posts/containers-on-lambda).
CONTAINER_START = 0.5
#: Assumed: from a message's being sent, or its predecessor's end, to the worker's having it, seconds.
HOP = 0.05
#: With how many workers Lambda starts on a queue, and how many more it adds a second
#: (https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html).
RAMP_START, RAMP_RATE = 5, 300 / 60
WORKERS = (2, 5, 10, 20, 50)


@dataclass(frozen=True, slots=True)
class Steps:
    """Seconds of a worker's start, of looking at the source, of the parts in their order, of joining them."""

    start: float
    plan: float
    parts: tuple[float, ...]
    finish: float

    @classmethod
    def measured(cls, film: Mapping[str, Any]) -> Steps:
        """Return the steps of a film that was measured (`parts.measure`)."""
        walls: dict[str, list[float]] = {}
        for step in film["steps"]:
            walls.setdefault(step["kind"], []).append(step["wall"])
        return cls(
            film["start"]["wall"] + CONTAINER_START,
            sum(walls["plan"]),
            (*walls.get("sound", ()), *walls["picture"]),
            sum(walls["finish"]),
        )


@dataclass(frozen=True, slots=True)
class Path:
    """The critical path: when the parts could begin, when the last one was done, and the end, in seconds."""

    planned: float
    encoded: float
    end: float


def critical_path(steps: Steps, workers: int, *, warm: bool = False, ramp: bool = False) -> Path:
    """Return the critical path with so many workers.

    `warm`: they have all been started before. `ramp`: Lambda adds workers only at its own pace.
    """
    start = 0.0 if warm else steps.start
    planned = HOP + start + steps.plan
    # The worker that has planned is ready at once, all others have to start.
    ready = [planned + start + (max(0, n - RAMP_START) / RAMP_RATE if ramp else 0.0) for n in range(workers)]
    ready[0] = planned
    encoded = _last_end(ready, steps.parts)
    return Path(planned, encoded, encoded + steps.finish)


def _last_end(ready: Sequence[float], parts: Sequence[float]) -> float:
    """Return when the last part is done, where the workers are ready at these times."""
    free = list(ready)
    heapq.heapify(free)
    last = free[0]
    for part in parts:
        end = heapq.heappop(free) + HOP + part
        heapq.heappush(free, end)
        last = max(last, end)
    return last


def measure(film: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the critical paths of a film that was measured, beside FFmpeg's time alone."""
    steps, alone = Steps.measured(film), film["plain"]["wall"]
    rows = []
    for workers in WORKERS:
        cold, warm = critical_path(steps, workers), critical_path(steps, workers, warm=True)
        paced = critical_path(steps, workers, ramp=True)
        print(f"  {workers} workers: {alone / cold.end:.1f} times, warm {alone / warm.end:.1f}", flush=True)
        paths = {"cold": cold, "warm": warm, "paced": paced}
        rows.append({"workers": workers, "alone": alone} | {name: asdict(p) for name, p in paths.items()})
    return rows
