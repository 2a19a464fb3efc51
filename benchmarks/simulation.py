"""Many tasks on many workers: how long small ones wait, how busy workers are, how often the table is written.

A simulation of the queue and of Lambda from measured times of steps. Equal seeds give equal results.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
import statistics
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.schedule import CONTAINER_START, HOP, RAMP_RATE, RAMP_START
from transcoding.media.planning.cuts import MOST_PARTS
from transcoding.service.jobs import PART_INTERVAL, TASK_INTERVAL

#: Lengths of sources: (tasks in a hundred, shortest, longest), in seconds, evenly spread on a log scale.
LENGTHS = ((70, 10, 120), (25, 120, 1800), (5, 3600, 10800))
#: Work that arrives, as a share of what the workers can do.
LOAD = 0.8
TASKS = 1000
CAPS = (100, 1000)
_SEED = 7
#: Assumed: seconds to send the messages of a batch of parts. SQS takes at most 10 in a request.
QUEUEING, BATCH = 0.015, 10
#: The most by which the work of a part differs from that of its length, as a share, up or down.
VARIATION = 0.1
#: As in `transcoding.service.jobs`.
PROGRESS_WRITES = 25


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds that a worker takes: `alone`, `picture` and `sound` for each second of a source.

    Sources of more than `threshold` seconds are cut into parts of `part` seconds.
    """

    start: float
    plan: float
    alone: float
    picture: float
    sound: float
    finish_a_part: float
    part: float
    threshold: float

    @classmethod
    def measured(cls, film: Mapping[str, Any]) -> Costs:
        """Return the costs of a measured film (`parts.measure`)."""
        walls = Counter[str]()
        for step in film["steps"]:
            walls[step["kind"]] += step["wall"]
        seconds = film["seconds"]
        return cls(
            start=film["start"]["wall"] + CONTAINER_START,
            plan=walls["plan"],
            alone=film["plain"]["wall"] / seconds,
            picture=walls["picture"] / seconds,
            sound=walls["sound"] / seconds,
            finish_a_part=walls["finish"] / len(film["steps"]),
            part=film["part_length"],
            threshold=film["threshold"],
        )


@dataclass(slots=True)
class Task:
    """A task: when it arrives, and its steps in seconds. It has parts only if it is cut."""

    number: int
    at: float
    length: float
    first: float
    parts: tuple[float, ...]
    finish: float
    queued: int = 0
    left: int = 0
    running: int = 0
    began: float = math.nan
    ended: float = math.nan

    @property
    def work(self) -> float:
        """Seconds of all its steps."""
        return self.first + sum(self.parts) + self.finish


class Queue:
    """Waiting messages: a task and the number of its part, or None for the task itself.

    Messages come in the order in which they were sent. From a `fair` queue, those of the task with the fewest
    running workers come first, which is about what SQS does with groups of messages.
    """

    def __init__(self, *, fair: bool) -> None:
        self._fair = fair
        self._waiting: dict[int, deque[int | None]] = defaultdict(deque)
        self._heap: list[tuple[int, int, Task]] = []
        self._order = itertools.count()

    def put(self, task: Task, part: int | None) -> None:
        """Add a message."""
        self._waiting[task.number].append(part)
        self._rank(task)

    def take(self) -> tuple[Task, int | None] | None:
        """Remove and return the next message; None if there is none."""
        while self._heap:
            rank, _, task = heapq.heappop(self._heap)
            if not self._waiting[task.number]:
                continue
            if self._fair and rank != task.running:
                self._rank(task)
                continue
            return task, self._waiting[task.number].popleft()
        return None

    def freed(self, task: Task) -> None:
        """Record that a worker of the task has become free."""
        if self._fair and self._waiting[task.number]:
            self._rank(task)

    def _rank(self, task: Task) -> None:
        heapq.heappush(self._heap, (task.running if self._fair else 0, next(self._order), task))


def tasks(costs: Costs, count: int, workers: int, seed: int = _SEED) -> list[Task]:
    """Return tasks of mixed lengths at random times. They keep a share `LOAD` of the workers busy."""
    chance = random.Random(seed)
    shares = [share for share, _, _ in LENGTHS]
    made = []
    for number in range(count):
        ((_, low, high),) = chance.choices(LENGTHS, shares)
        made.append(task(costs, number, math.exp(chance.uniform(math.log(low), math.log(high))), chance))
    interval = statistics.fmean(task.work for task in made) / workers / LOAD
    now = 0.0
    for one in made:
        one.at = now
        now += chance.expovariate(1 / interval)
    return made


def task(costs: Costs, number: int, length: float, chance: random.Random) -> Task:
    """Return the task of a source of this length, in seconds."""
    if length <= costs.threshold:
        return Task(number, 0.0, length, costs.plan + length * costs.alone, (), 0.0)
    count = max(2, round(length / costs.part))
    part = length / count * costs.picture
    pictures = [part * chance.uniform(1 - VARIATION, 1 + VARIATION) for _ in range(count)]
    parts = (length * costs.sound, *pictures)
    return Task(number, 0.0, length, costs.plan, parts, len(parts) * costs.finish_a_part)


class Simulation:
    """Workers that receive messages from a queue. At most `window` parts of a task are queued or running."""

    def __init__(self, costs: Costs, workers: int, window: int, queue: Queue) -> None:
        self._costs = costs
        self._workers = workers
        self._window = window
        self._queue = queue
        self._events: list[tuple[float, int, str, Task | None]] = []
        self._order = itertools.count()
        self._started = self._idle = 0
        #: The times from and until which a worker was busy, its start included.
        self.busy: list[tuple[float, float]] = []
        #: Units written in each second to a task's item, and to the index of all tasks of an hour.
        self.item_writes: Counter[tuple[int, int]] = Counter()
        self.index_writes: Counter[int] = Counter()

    def run(self, todo: Sequence[Task]) -> None:
        """Run all tasks and record in them when they began and ended."""
        for coming in todo:
            self._later(coming.at, "comes", coming)
        for number in range(RAMP_START, self._workers):
            self._later((number + 1 - RAMP_START) / RAMP_RATE, "more workers")
        while self._events:
            now, _, what, task = heapq.heappop(self._events)
            if task:
                self._handle(now, what, task)
            self._dispatch(now)

    def _later(self, at: float, what: str, task: Task | None = None) -> None:
        heapq.heappush(self._events, (at, next(self._order), what, task))

    def _handle(self, now: float, what: str, task: Task) -> None:
        if what == "comes":
            self._queue.put(task, None)
            return
        if what == "part done":
            # Writes its progress, its end (in a transaction), and the next part.
            self._write(task, now, 1, 2, 1)
            self._queue_next(task)
            task.left -= 1
            if task.left == 0:
                self._work(task, now, task.finish, "ended")
                return
        elif task.parts and what == "planned":
            task.left = len(task.parts)
            self._write(task, now, 1)
            first = min(self._window, len(task.parts))
            for n in range(first):
                self._later(now + (n // BATCH + 1) * QUEUEING, "part queued", task)
            self._later(now + math.ceil(first / BATCH) * QUEUEING, "cut", task)
            return
        elif what == "part queued":
            self._queue_next(task)
            return
        elif what != "cut":
            task.ended = now
        task.running -= 1
        self._idle += 1
        self._queue.freed(task)

    def _queue_next(self, task: Task) -> None:
        if task.queued < len(task.parts):
            self._queue.put(task, task.queued)
            task.queued += 1

    def _dispatch(self, now: float) -> None:
        """Give messages to idle workers, and to new ones if Lambda may start them."""
        allowed = min(self._workers, RAMP_START + int(now * RAMP_RATE + 1e-6))
        while self._idle or self._started < allowed:
            message = self._queue.take()
            if message is None:
                return
            task, part = message
            delay = HOP
            if self._idle:
                self._idle -= 1
            else:
                self._started += 1
                delay += self._costs.start
            task.running += 1
            if part is None:
                task.began = now + delay
                interval = TASK_INTERVAL
            else:
                interval = max(PART_INTERVAL, min(len(task.parts), self._window) / PROGRESS_WRITES)
            seconds = task.first if part is None else task.parts[part]
            self._work(task, now, delay + seconds, "planned" if part is None else "part done")
            for n in range(1, int(seconds / interval) + 1):
                self._write(task, now + delay + n * interval, 1)

    def _work(self, task: Task, now: float, seconds: float, then: str) -> None:
        self.busy.append((now, now + seconds))
        self._later(now + seconds, then, task)

    def _write(self, task: Task, at: float, *units: int) -> None:
        self.item_writes[task.number, int(at)] += sum(units)
        self.index_writes[int(at)] += len(units)


def measure(film: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Simulate each kind of queue and number of workers, from the steps of a measured film."""
    costs = Costs.measured(film)
    rows = []
    for workers in CAPS:
        for name, window, fair in (
            ("all parts at once", MOST_PARTS, False),
            ("window", workers, False),
            ("window, fair", workers, True),
        ):
            todo = tasks(costs, TASKS, workers)
            simulation = Simulation(costs, workers, window, Queue(fair=fair))
            simulation.run(todo)
            rows.append({"workers": workers, "queue": name, **_summary(simulation, todo, workers)})
            print(f"  {rows[-1]}", flush=True)
    return rows


def _summary(simulation: Simulation, todo: Sequence[Task], workers: int) -> dict[str, float]:
    last = todo[-1].at
    waits = [task.began - task.at for task in todo if not task.parts]
    films = [task.ended - task.at for task in todo if task.length >= 3600]
    busy = sum(max(0.0, min(end, last) - begin) for begin, end in simulation.busy)
    return {
        "seconds": last,
        "small_wait_median": statistics.median(waits),
        "small_wait_95": statistics.quantiles(waits, n=20)[-1],
        "film_median": statistics.median(films),
        "utilisation": busy / workers / last,
        "item_writes": max(simulation.item_writes.values()),
        "index_writes": max(simulation.index_writes.values()),
    }
