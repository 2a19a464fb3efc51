"""Run tasks of all formats on a service whose world falls apart, and say what became of them.

python -m tests.chaos [--seed N] [--tasks N]

A stack of its own, with a proxy before its AWS that has 5 % of all calls fail, and blows on its processes and
its disk. Each result is decoded and compared with what the same order gave in calm weather: times of frames,
likeness of each frame with the source's, the sound bit by bit. The exit code is 0 if no task was lost, stuck,
wrong or failed without a reason, and nothing is left of those that have ended.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from local.deploy import client
from tests.chaos.orders import WISHES, Look, Wish, clips, look
from tests.chaos.run import DELETED, SUCCEEDED, Made, Run, running
from tests.chaos.weather import Blow, Weather

LEASE = 10
#: Films of a few seconds are cut into parts of a few seconds.
PARAMETERS = {"MaxWorkers": "4", "LeaseSeconds": str(LEASE), "FanOutSeconds": "0", "PartSeconds": "1"}
RATE = 0.05
#: Seconds from one blow to the next, on average.
BLOWS = 6.0
DISK = "96m"
#: Seconds: from the last fault on, until all has to have ended.
SETTLED = 1500


def _calm(run: Run) -> dict[Wish, Look]:
    """Give each order once in calm weather; return what came."""
    made = [run.create(wish) for wish in WISHES]
    left = run.settle(600)
    assert not left, f"stuck in calm weather: {left}"
    looks = {}
    for one in made:
        task = run.task(one)
        if one.wish.fails:
            assert task["error_code"] in one.wish.fails, (str(one.wish), task)
            continue
        assert task["status"] == SUCCEEDED, (str(one.wish), task)
        looks[one.wish] = look(task["target_url"], run.clips / one.wish.clip)
        low = [value for value in looks[one.wish].worst if value < 18]
        assert not low, (str(one.wish), looks[one.wish].worst)
    return looks


def _storm(run: Run, weather: Weather, dice: random.Random, tasks: int) -> None:
    """Create the tasks, delete some, send messages that nobody has asked for, and start the stack again."""
    queue = client("sqs", run.stack["aws_endpoint_url"])
    wishes = itertools.cycle(WISHES)
    first = len(run.made)
    for number in range(tasks):
        made = run.create(next(wishes))
        if dice.random() < 0.1:
            threading.Timer(dice.uniform(0, 40), _quietly(lambda made=made: run.delete(made))).start()
        if dice.random() < 0.2:
            other = dice.choice(run.made[first:])
            body = dice.choice(
                [
                    {"task_id": other.id, "step": "transcode"},
                    {"task_id": other.id, "step": "finish"},
                    {"task_id": other.id, "step": "part", "attempt": 1, "part": dice.randrange(9)},
                    {"task_id": "none", "step": "transcode"},
                    {"nothing": "of ours"},
                ]
            )
            with suppress(Exception):
                queue.send_message(QueueUrl=run.stack["queue_url"], MessageBody=json.dumps(body))
        if number == tasks // 2:
            with weather.calm:
                run.emulator.stop()
                run.start()
        # The workers are not to be so far behind that all waits for the calm.
        while len(run.unfinished()) > 24:
            time.sleep(1)


def _quietly(act: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        with suppress(AssertionError):
            act()

    return run


def _report(run: Run, weather: Weather, calm: dict[Wish, Look], first: int, stuck: list[Made]) -> bool:
    """Look at all tasks of the storm, print the table, and tell whether all is well."""
    storm = run.made[first:]
    run.let_time_pass()
    objects, found = run.objects(), Counter[str]()
    complaints: list[str] = []
    listed = list(_listed(run))
    for made in storm:
        task = run.task(made)
        if not task:
            found["lost"] += 1
            complaints.append(f"{made.id} ({made.wish}) is lost")
            continue
        keys = objects.pop(made.id, set())
        left = run.left(task, keys)
        if left:
            found["objects left"] += len(left)
            complaints.append(f"{made.id} ({made.wish}, status {task['status']}) has left {sorted(left)[:3]}")
        if made in stuck or task["status"] < SUCCEEDED:
            found["stuck"] += 1
            complaints.append(f"{made.id} ({made.wish}) is stuck: {task}")
        elif made.deleted:
            found["deleted" if task["status"] == DELETED else "wrong"] += 1
        elif task["status"] == SUCCEEDED:
            difference = (
                "a success"
                if made.wish.fails
                else look(task["target_url"], run.clips / made.wish.clip).differs(calm[made.wish])
            )
            found["wrong" if difference else "succeeded"] += 1
            if difference:
                complaints.append(f"{made.id} ({made.wish}): {difference}")
        else:
            reason = _reason(made, task, weather)
            found["failed rightly" if reason else "failed wrongly"] += 1
            if not reason or not made.wish.fails:
                said = f"{task['error_code']} {task['error_info']} [{weather.suffered.get(made.number)}]"
                complaints.append(f"{made.id} ({made.wish}): {said}: {reason or 'no reason'}")
    strangers = {
        task_id: keys for task_id, keys in objects.items() if task_id not in {m.id for m in run.made}
    }
    found["objects left"] += sum(len(keys) for keys in strangers.values())
    there = Counter(task["id"] for task in listed)
    expected = {made.id for made in run.made if not made.deleted}
    found["listed twice, or not at all"] = sum(there[one] != 1 for one in expected) + len(
        there.keys() - expected
    )
    found["answers of another form"] = len(run.odd_answers)
    for line in [*complaints, *run.odd_answers]:
        print(f"  {line}")
    _print("blow", dict(weather.blows))
    _print("fault", {f"{service}: {fault}": n for (service, fault), n in sorted(run.proxy.faults.items())})
    print(f"{run.proxy.calls} calls of AWS, {sum(run.proxy.faults.values())} of them with a fault\n")
    names = ["succeeded", "failed rightly", "deleted", "lost", "stuck", "wrong", "failed wrongly"]
    names += ["objects left", "listed twice, or not at all", "answers of another form"]
    _print("task", {"all": len(storm)} | {name: found[name] for name in names})
    return not any(found[name] for name in names[3:])


def _reason(made: Made, task: dict[str, Any], weather: Weather) -> str:
    """Say why a task failed, if a person would have had it fail."""
    code = task["error_code"]
    if made.wish.fails:
        return "as it should" if code in made.wish.fails else ""
    suffered = weather.suffered.get(made.number, [])
    if code == 3004 and any(made.created_at < until for _, until in weather.full):
        return "its disk was full"
    if code == 3005 and Blow.MEMORY in suffered:
        return "its memory was short"
    unseen = [when for when in weather.unseen if when > made.created_at]
    struck = len(suffered) + (len(unseen) if code == 3002 else 0)
    return "it was struck three times" if code in {3002, 3003, 3005} and struck >= 3 else ""


def _listed(run: Run) -> Iterator[dict[str, Any]]:
    for page in itertools.count(1):
        answer = run.call("GET", "get-transcodes", page=page, limit=100)
        yield from answer["results"]
        if page * 100 >= answer["count"]:
            return


def _print(what: str, rows: dict[str, int]) -> None:
    width = max(map(len, rows), default=0)
    print(f"\n{what}s")
    for name, number in rows.items():
        print(f"  {name:{width}} {number:6}")


def main() -> int:
    """Run, print and tell by the exit code whether all is well."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tasks", type=int, default=300)
    arguments = parser.parse_args()
    with running(arguments.seed, PARAMETERS, DISK) as (run, disk):
        return 0 if _all(run, disk, arguments.seed, arguments.tasks) else 1


def _all(run: Run, disk: Path | None, seed: int, tasks: int) -> bool:
    run.start()
    for path in clips(run.clips):
        run.upload(path)
    print(f"Seed {seed}: {len(WISHES)} orders in calm weather …", flush=True)
    calm = _calm(run)
    first, started = len(run.made), time.monotonic()
    weather = Weather(seed, BLOWS, run.emulator.running_pid, disk, LEASE + 6)
    if disk is None:
        print("No small disk can be mounted here (that takes root): /tmp is never full.")
    print(f"{tasks} tasks in bad weather …", flush=True)
    run.proxy.rate = RATE
    with weather.blowing():
        _storm(run, weather, random.Random(seed), tasks)
        run.settle(120)
    run.proxy.rate = 0
    print(f"The storm took {time.monotonic() - started:.0f} s; waiting for what is left of it …", flush=True)
    stuck = run.settle(SETTLED)
    print(f"All ended or given up after {time.monotonic() - started:.0f} s.", flush=True)
    return _report(run, weather, calm, first, stuck)


if __name__ == "__main__":
    sys.exit(main())
