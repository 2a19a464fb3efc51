"""What the benchmarks compute from measured times: that it is what arithmetic says in cases that are easy."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from benchmarks import costs
from benchmarks.schedule import HOP, Steps, critical_path
from benchmarks.simulation import LOAD, Costs, Queue, Simulation, Task, task, tasks

STEPS = Steps(start=2.0, plan=1.0, parts=(4.0, 10.0, 10.0, 10.0), finish=0.5)
COSTS = Costs(
    start=3.0,
    plan=1.0,
    alone=0.5,
    picture=0.5,
    sound=0.01,
    finish_a_part=0.01,
    part=36.0,
    threshold=145.0,
)


def simulated(todo: list[Task], workers: int, window: int, *, fair: bool = False) -> Simulation:
    simulation = Simulation(COSTS, workers, window, Queue(fair=fair))
    simulation.run(todo)
    return simulation


@pytest.fixture
def film() -> Task:
    return task(COSTS, 0, 7200.0, random.Random(1))


def test_one_worker_does_all_steps_in_turn() -> None:
    assert critical_path(STEPS, 1).end == pytest.approx(2 + 1 + 34 + 0.5 + 5 * HOP)


def test_enough_workers_take_as_long_as_a_start_and_the_longest_part() -> None:
    path = critical_path(STEPS, 10)
    # The worker that has planned takes the sound; the others start while it does.
    assert path.end == pytest.approx(2 + 1 + 2 + 10 + 0.5 + 2 * HOP)
    assert critical_path(STEPS, 10, warm=True).end == pytest.approx(1 + 10 + 0.5 + 2 * HOP)


def test_parts_are_taken_in_the_order_of_the_queue() -> None:
    # The worker with the sound takes the second picture as well, and the third one goes to the other.
    assert critical_path(STEPS, 2, warm=True).encoded == pytest.approx(1 + 10 + 10 + 3 * HOP)


def test_a_sixth_worker_comes_later_at_lambdas_pace() -> None:
    steps = replace(STEPS, parts=(10.0,) * 60)
    paths = [critical_path(steps, 60, ramp=ramp).end for ramp in (False, True)]
    assert paths[1] > paths[0] + 5


def test_a_short_task_waits_for_a_worker_to_start() -> None:
    short = task(COSTS, 0, 60.0, random.Random(1))
    simulated([short], 1, 1)
    assert short.began == pytest.approx(HOP + 3)
    assert short.ended == pytest.approx(HOP + 3 + 1 + 30)


def test_workers_do_all_the_work_once(film: Task) -> None:
    simulation = simulated([film], 10, 10)
    starts = 10 * (3 + HOP)
    messages = len(film.parts) * HOP
    busy = sum(end - begin for begin, end in simulation.busy)
    assert busy == pytest.approx(film.work + starts + messages, abs=1)
    assert film.ended > film.work / 10


def test_more_workers_are_faster_until_the_sound_takes_longest() -> None:
    ends = []
    for workers in (5, 20, 1000):
        film = task(COSTS, 0, 7200.0, random.Random(1))
        simulated([film], workers, workers)
        ends.append(film.ended)
    assert ends[0] > 3 * ends[1]
    assert ends[2] > 7200 * COSTS.sound


@pytest.mark.parametrize(("window", "fair"), [(1000, False), (10, False), (10, True)])
def test_every_task_ends(window: int, fair: bool) -> None:
    todo = tasks(COSTS, 100, 10)
    simulated(todo, 10, window, fair=fair)
    assert all(one.ended > one.began >= one.at for one in todo)


def test_behind_a_film_a_short_task_waits_less_with_a_window_and_least_in_a_fair_queue(film: Task) -> None:
    waits = []
    for window, fair in ((1000, False), (10, False), (10, True)):
        long = task(COSTS, 0, 7200.0, random.Random(1))
        short = replace(task(COSTS, 1, 60.0, random.Random(1)), at=60.0)
        simulated([long, short], 10, window, fair=fair)
        waits.append(short.began - short.at)
    assert waits[0] > 10 * waits[1]
    assert waits[1] >= waits[2]


def test_random_tasks_are_the_same_each_time_and_are_the_load_that_is_asked_for() -> None:
    first, second = tasks(COSTS, 1000, 50), tasks(COSTS, 1000, 50)
    assert first == second
    assert sum(one.work for one in first) / 50 / first[-1].at == pytest.approx(LOAD, rel=0.1)


def test_a_minute_that_keeps_all_processors_busy_costs_its_processor_time() -> None:
    measured = {
        "seconds": 60,
        "start": {"wall": 0.0},
        "parameters": {"MaxWorkers": "10"},
        "steps": [
            {"kind": "picture", "wall": 30.0, "cpu": 54.0, "requests": {"writes": 1_000_000, "log_bytes": 0}}
        ],
        "output": {"bytes": 10**9, "objects": 100},
    }
    calls = [
        {"name": "get-transcode: warm call against a bare boto3 handler", "ours": 0.01},
        {"name": "get-transcode: warm call's processor time against a bare boto3 handler", "ours": 9.0},
    ]
    whole = costs.measure(measured, calls)
    rows = whole["making"]
    # 54 s of processor time on six processors, 10 GB.
    assert rows["Lambda, GB-seconds"]["dollars"] == pytest.approx(0.0015, rel=0.01)
    assert rows["DynamoDB, write units"]["dollars"] == pytest.approx(0.625)
    # A thousand views of a GB, and of a hundred objects.
    assert costs.total(whole["watching"]) == pytest.approx(85.1)
    assert whole["storing"]["S3, GB-months"]["dollars"] == pytest.approx(0.023)
    assert whole["calls"]["get-transcode"]["API Gateway, calls"]["dollars"] == pytest.approx(0.0035)
    assert whole["calls"]["get-transcode"]["Lambda, GB-seconds"]["amount"] == pytest.approx(1000 * 0.01 / 2)
