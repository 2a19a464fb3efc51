"""The cost of a minute of a film in parts on AWS: its measured steps at list prices (us-east-1, x86_64)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

#: A worker at the default of `WorkerMemory`. Lambda allots a processor for each 1,769 MB.
MEMORY_GB, STORAGE_GB, PROCESSORS = 10.0, 10.0, 6
#: Size of /tmp that is free of charge.
_FREE_STORAGE_GB = 0.5

#: Dollars a unit, from public texts of 2024 to 2026; compare AWS's pages.
PRICES: Mapping[str, float] = {
    "Lambda, GB-seconds": 0.0000166667,
    "Lambda, requests": 0.20 / 1e6,
    "Lambda, GB-seconds of /tmp": 0.0000000309,
    "DynamoDB, write units": 0.625 / 1e6,
    "DynamoDB, read units": 0.125 / 1e6,
    # Messages with a group, as on a fair queue, cost a quarter more than others.
    "SQS, requests": 0.50 / 1e6,
    "S3, PUT requests": 0.005 / 1e3,
    "S3, GET requests": 0.0004 / 1e3,
}
#: Dollars a minute of AVC up to 30 frames a second, single pass, in AWS Elemental MediaConvert's basic tier,
#: from public texts of about 2021. AWS now bills "normalized minutes", and less for large amounts.
MEDIACONVERT = {"SD": 0.0075, "HD": 0.015}

#: Requests with which FFmpeg opens a source: for its beginning, its index, and the first place that it reads.
_READS = 3
#: Requests of Lambda for a message: it receives it and deletes it.
_POLLS = 2
#: Steps that use one processor, or wait: more processors do not make them faster.
_SERIAL = frozenset({"plan", "sound", "finish"})


def measure(film: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cost of a minute of output of a measured film, by what AWS bills."""
    steps, minutes = film["steps"], film["seconds"] / 60
    seconds = sum(map(_seconds, steps))
    starts = min(len(steps), int(film["parameters"]["MaxWorkers"])) * film["start"]["wall"]
    requests: Counter[str] = Counter()
    for step in steps:
        requests.update(step["requests"])
    amounts = {
        "Lambda, GB-seconds": (seconds + starts) * MEMORY_GB,
        "Lambda, requests": len(steps),
        "Lambda, GB-seconds of /tmp": (seconds + starts) * (STORAGE_GB - _FREE_STORAGE_GB),
        "DynamoDB, write units": requests["writes"],
        "DynamoDB, read units": requests["reads"],
        "SQS, requests": requests["sqs"] + _POLLS * len(steps),
        "S3, PUT requests": requests["s3_put"],
        "S3, GET requests": requests["s3_get"] + _READS * len(steps),
    }
    rows = {
        name: {"amount": amount / minutes, "dollars": amount / minutes * PRICES[name]}
        for name, amount in amounts.items()
    }
    total = sum(row["dollars"] for row in rows.values())
    print(f"  a minute costs {total:.5f} $", flush=True)
    return {"rows": rows, "total": total, "mediaconvert": MEDIACONVERT}


def _seconds(step: Mapping[str, Any]) -> float:
    """Return how many seconds a step takes on Lambda, if a picture keeps all processors busy."""
    seconds: float = step["wall"] if step["kind"] in _SERIAL else step["cpu"] / PROCESSORS
    return seconds
