"""The time of a task in parts with many workers, by list scheduling of its steps' measured times.

Parts start in the order of the queue, the sound first, each on the worker that is free first. The worker that
ends last joins them.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

#: Assumed: seconds that Lambda takes to start a container before the function's own code runs. Small
#: functions in images took 0.6 to 1.4 s (https://mikhail.io/serverless/coldstarts/aws/) before Lambda loaded
#: images on demand, and take less since (https://aaronstuyvenberg.com/posts/containers-on-lambda).
CONTAINER_START = 0.5
#: Assumed: seconds until a worker has a message, from when it is sent or the worker's last one ends.
HOP = 0.05
#: The number of workers that Lambda starts with on a queue, and the number that it adds a second
#: (https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html).
RAMP_START, RAMP_RATE = 5, 300 / 60
WORKERS = (2, 5, 10, 20, 50)


@dataclass(frozen=True, slots=True)
class Steps:
    """Seconds of a worker's start, of planning, of each part in the order of the queue, and of joining."""

    start: float
    plan: float
    parts: tuple[float, ...]
    finish: float

    @classmethod
    def measured(cls, film: Mapping[str, Any]) -> Steps:
        """Return the steps of a measured film (`parts.measure`)."""
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
    """The critical path: when the parts can begin, when the last one is done, and the end, in seconds."""

    planned: float
    encoded: float
    end: float


def critical_path(steps: Steps, workers: int, *, warm: bool = False, ramp: bool = False) -> Path:
    """Return the critical path with `workers` workers.

    `warm`: all have been started before. `ramp`: Lambda adds workers only at its own pace.
    """
    start = 0.0 if warm else steps.start
    planned = HOP + start + steps.plan
    # The worker that has planned is ready at once; all others have to start.
    ready = [planned + start + (max(0, n - RAMP_START) / RAMP_RATE if ramp else 0.0) for n in range(workers)]
    ready[0] = planned
    encoded = _last_end(ready, steps.parts)
    return Path(planned, encoded, encoded + steps.finish)


def _last_end(ready: Sequence[float], parts: Sequence[float]) -> float:
    """Return when the last part is done if the workers are ready at the times `ready`."""
    free = list(ready)
    heapq.heapify(free)
    last = free[0]
    for part in parts:
        end = heapq.heappop(free) + HOP + part
        heapq.heappush(free, end)
        last = max(last, end)
    return last


def measure(film: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the critical paths of a measured film, beside the time of FFmpeg alone."""
    steps, alone = Steps.measured(film), film["plain"]["wall"]
    rows = []
    for workers in WORKERS:
        cold, warm = critical_path(steps, workers), critical_path(steps, workers, warm=True)
        paced = critical_path(steps, workers, ramp=True)
        print(f"  {workers} workers: {alone / cold.end:.1f} times, warm {alone / warm.end:.1f}", flush=True)
        paths = {"cold": cold, "warm": warm, "paced": paced}
        rows.append({"workers": workers, "alone": alone} | {name: asdict(p) for name, p in paths.items()})
    return rows
