"""A million tasks on Amazon's DynamoDB Local: requests and units of pages and writes; and sustained load."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks import contention, dynamodb
from benchmarks.dynamodb import TABLE, Consumed, Meter
from local.deploy import client
from transcoding.data import counts, periods
from transcoding.data.counts import SHARDS
from transcoding.data.records import CountRecord
from transcoding.data.task_table import TaskTable
from transcoding.model import Order, Output, OutputRendition, Task

#: Filled over so many days before now; of these tasks so many in one hour.
_DAYS, _BUSY = 395, 0.1
_DELETED = 0.1
_LIMITS = (1, 15, 100)
_BATCH, _WRITERS = 25, 4
_LEASE = timedelta(seconds=60)
_RETENTION = timedelta(days=30)
_SOURCE = "s3://some-bucket-of-sources/some/folder/a-film-of-some-length.mov"


def measure(*, tasks: int) -> dict[str, Any]:
    """Fill a table and measure the service's calls."""
    with dynamodb.running() as url:
        sustained = contention.measure(TaskTable(TABLE))
        dynamodb.clear(url)
        started = time.monotonic()
        ids = fill(url, tasks)
        print(f"  {tasks:,} tasks stored in {time.monotonic() - started:.0f} s", flush=True)
        return {"tasks": tasks, "pages": pages(ids), "writes": writes(), "sustained": sustained}


def fill(url: str, count: int) -> list[str]:
    """Store tasks as the service does, with their counts folded. Return the ids of the list, newest first."""
    table = TaskTable(TABLE)
    live, deleted = _samples(table, url)
    random_ = random.Random(1)
    now = time.time()
    busy = now - _DAYS / 2 * 86400 // 3600 * 3600
    listed: list[tuple[str, str]] = []
    slices: Counter[int] = Counter()

    def items() -> Iterator[dict[str, Any]]:
        for number in range(count):
            at = (
                busy + random_.random() * 3600
                if number < count * _BUSY
                else now - random_.random() * _DAYS * 86400
            )
            created_at = datetime.fromtimestamp(at, UTC)
            task_id = f"{number:08}"
            created = f"{created_at:%Y-%m-%dT%H:%M:%S.%f}#{task_id}"
            stamp = {"S": f"{created_at:%Y-%m-%dT%H:%M:%S.%f}+0000"}
            own = {"id": {"S": task_id}, "created": {"S": created}, "created_at": stamp, "updated_at": stamp}
            if random_.random() < _DELETED:
                yield deleted | own
                continue
            listed.append((created, task_id))
            slices[periods.slice_at(at)] += 1
            yield live | own | {"month": {"S": created[:7]}}

    _store(url, items())
    _count(slices)
    return [task_id for _, task_id in sorted(listed, reverse=True)]


def _output() -> Output:
    """Return what came out of an adaptive task of four renditions."""
    renditions = tuple(
        OutputRendition("avc1.640033", rate, rate * 3 // 2, height * 16 // 9, height, 29.97)
        for height, rate in ((2160, 12_345_678), (1440, 7_654_321), (1080, 4_567_890), (720, 2_345_678))
    )
    return Output(3599.96, 14_612_345_678, renditions, "outputs/17lok52y/1/poster.jpg")


def _samples(table: TaskTable, url: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make a task that has succeeded and one that is deleted; return their items, and leave no trace."""
    reader = client("dynamodb", url)
    items = []
    for delete in (False, True):
        task, _ = table.create(Order(_SOURCE, 3, "m3u8"), None, lambda task_id: True)
        table.claim(task.id, "worker", _LEASE)
        done = table.succeed(task.id, "worker", f"outputs/{task.id}/1/master.m3u8", _output())
        if delete:
            table.delete(task.id, _RETENTION)
        table.settle(table.get(task.id) or done)
        key = {"id": {"S": task.id}}
        items.append(reader.get_item(TableName=TABLE, Key=key)["Item"])
        reader.delete_item(TableName=TABLE, Key=key)
    for shard in range(SHARDS):
        reader.delete_item(TableName=TABLE, Key={"id": {"S": counts._pending(shard)}})
    return items[0], items[1]


def _store(url: str, items: Iterator[dict[str, Any]]) -> None:
    lock = threading.Lock()

    def write(_: int) -> None:
        writer = client("dynamodb", url)
        while True:
            with lock:
                batch = [{"PutRequest": {"Item": item}} for item in itertools.islice(items, _BATCH)]
            if not batch:
                return
            while batch:
                answer = writer.batch_write_item(RequestItems={TABLE: batch})
                batch = answer["UnprocessedItems"].get(TABLE, [])

    with ThreadPoolExecutor(_WRITERS) as pool:
        list(pool.map(write, range(_WRITERS)))


def _count(slices: Counter[int]) -> None:
    """Store the folded counts as the sweep leaves them, one fold of each shard."""
    by_day = periods.by_day(slices)
    for day, within in by_day.items():
        numbers = [within.get(number, 0) for number in range(periods.DAY_SLICES)]
        CountRecord(counts._day(day), fold=SHARDS, slices=numbers).save()
    days = {day: sum(within.values()) for day, within in by_day.items()}
    CountRecord(counts._ROOT, fold=SHARDS, folds=[1] * SHARDS, days=days).save()
    for shard in range(SHARDS):
        CountRecord(counts._pending(shard), fold=1).save()


def pages(ids: list[str]) -> list[dict[str, Any]]:
    """Measure pages of all places and limits, and check what they show."""
    table = TaskTable(TABLE)
    meter = Meter(table._connection.client)
    random_ = random.Random(2)
    rows = []
    for limit in _LIMITS:
        last = -(-len(ids) // limit)
        busy = len(ids) // 2 // limit
        places = {
            "first": [1],
            "last": [last],
            "past the end": [last + 1],
            "of the busy hour": [random_.randint(int(busy * 0.96), int(busy * 1.04)) for _ in range(50)],
            "any": [random_.randint(1, last) for _ in range(50)],
            "over two months": _over_months(table, len(ids), limit),
        }
        for name, numbers in places.items():
            worst = Consumed()
            seconds = []
            for number in numbers:
                started = time.perf_counter()
                with meter.measure() as consumed:
                    tasks, total = table.page(number, limit)
                seconds.append(time.perf_counter() - started)
                assert total == len(ids), total
                assert [task.id for task in tasks] == ids[(number - 1) * limit : number * limit], (
                    name,
                    number,
                )
                worst = max(worst, consumed, key=lambda consumed: (consumed.requests, consumed.units))
                worst.units = max(worst.units, consumed.units)
            rows.append({"limit": limit, "place": name, "pages": len(numbers), **asdict(worst)})
            print(f"  {limit:3} {name:18} {worst.requests} requests {worst.units:6.1f} units", flush=True)
    return rows


def _over_months(table: TaskTable, total: int, limit: int) -> list[int]:
    """Return the pages in which a month ends."""
    days = table._counts._snapshot(range(SHARDS)).all_days()
    numbers, passed = [], 0
    for day in sorted(days, reverse=True):
        passed += days[day]
        if day.endswith("-01") and passed < total:
            numbers.append(passed // limit + 1)
    return numbers


def writes() -> list[dict[str, Any]]:
    """Measure the writes of a task's life."""
    table = TaskTable(TABLE)
    meter = Meter(table._connection.client)
    made: list[Task] = []

    def create(key: str | None) -> None:
        made.append(table.create(Order(_SOURCE, 3, "m3u8"), key, lambda task_id: True)[0])

    def end() -> None:
        table.succeed(made[0].id, "worker", f"outputs/{made[0].id}/1/master.m3u8", _output())

    calls: dict[str, Callable[[], object]] = {
        "create": lambda: create(None),
        "create with a key": lambda: create(f"key of {time.time()}"),
        "claim": lambda: table.claim(made[0].id, "worker", _LEASE),
        "heartbeat": lambda: table.heartbeat(made[0].id, "worker", 0.5, _LEASE),
        "succeed": end,
        "delete": lambda: table.delete(made[0].id, _RETENTION),
        "sweep with nothing to fold": lambda: table.fold(lambda: 60.0),
        "sweep that folds three changes": lambda: table._counts.fold(time.time() + 3600, lambda: 60.0),
    }
    rows = []
    for name, call in calls.items():
        with meter.measure() as consumed:
            call()
        rows.append({"call": name, **asdict(consumed)})
        print(f"  {name:32} {consumed.requests} requests {consumed.units:6.1f} units", flush=True)
    return rows
