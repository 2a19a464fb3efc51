"""What AWS bills for a film that is made in parts, watched and asked for, by measured units at list prices.

Prices are of us-east-1 and x86_64, before free tiers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
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
    "S3, GB-months": 0.023,
    "CloudWatch Logs, GB": 0.50,
    "X-Ray, traces": 5.00 / 1e6,
    "API Gateway, calls": 3.50 / 1e6,
    "CloudFront, GB": 0.085,
    "CloudFront, requests": 0.010 / 1e4,
}
#: Dollars a minute of AVC up to 30 frames a second, single pass, in AWS Elemental MediaConvert's basic tier,
#: from public texts of about 2021. AWS now bills "normalized minutes", and less for large amounts.
MEDIACONVERT = {"SD": 0.0075, "HD": 0.015}

#: Requests with which FFmpeg opens a source: for its beginning, its index, and the first place that it reads.
_READS = 3
#: Requests of Lambda for a message: it receives it and deletes it.
_POLLS = 2
#: What Lambda itself logs of an invocation, bytes: its start, its end, and its report.
_PLATFORM_LOG = 400
#: The memory of an API function, GB.
_API_MEMORY_GB = 0.5
#: Views and calls that are billed together in the tables.
THOUSAND = 1000
#: Steps that use one processor, or wait: more processors do not make them faster.
_SERIAL = frozenset({"plan", "sound", "finish"})


def measure(film: Mapping[str, Any], comparisons: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return what a minute of output of a measured film costs, to make, to store for a month, and to watch.

    `comparisons` are the rows of that section; with them, it also returns what calls cost.
    """
    minutes = film["seconds"] / 60
    making = _priced(_making(film), 1 / minutes)
    output = film["output"]
    watching = {
        "CloudFront, GB": output["bytes"] / 1e9,
        "CloudFront, requests": output["objects"],
    }
    costs = {
        "making": making,
        "watching": _priced(watching, THOUSAND / minutes),
        "storing": _priced({"S3, GB-months": output["bytes"] / 1e9}, 1 / minutes),
        "calls": {
            row["name"].partition(":")[0]: _priced(_call(row["ours"]), THOUSAND)
            for row in comparisons
            if "warm call against" in row["name"]
        },
        "mediaconvert": MEDIACONVERT,
    }
    print(f"  a minute costs {total(making):.5f} $", flush=True)
    return costs


def total(rows: Mapping[str, Mapping[str, float]]) -> float:
    """Return the sum of priced rows, in dollars."""
    return sum(row["dollars"] for row in rows.values())


def _priced(amounts: Mapping[str, float], factor: float) -> dict[str, dict[str, float]]:
    return {
        name: {"amount": amount * factor, "dollars": amount * factor * PRICES[name]}
        for name, amount in amounts.items()
    }


def _call(seconds: float) -> dict[str, float]:
    """Return what is billed for a warm call of an API function that takes so long."""
    return {
        "API Gateway, calls": 1,
        "Lambda, requests": 1,
        "Lambda, GB-seconds": _API_MEMORY_GB * seconds,
        "CloudWatch Logs, GB": _PLATFORM_LOG / 1e9,
        "X-Ray, traces": 1,
    }


def _making(film: Mapping[str, Any]) -> dict[str, float]:
    """Return what is billed for making all of a film."""
    steps = film["steps"]
    seconds = sum(map(_seconds, steps))
    starts = min(len(steps), int(film["parameters"]["MaxWorkers"])) * film["start"]["wall"]
    requests: Counter[str] = Counter()
    for step in steps:
        requests.update(step["requests"])
    return {
        "Lambda, GB-seconds": (seconds + starts) * MEMORY_GB,
        "Lambda, requests": len(steps),
        "Lambda, GB-seconds of /tmp": (seconds + starts) * (STORAGE_GB - _FREE_STORAGE_GB),
        "DynamoDB, write units": requests["writes"],
        "DynamoDB, read units": requests["reads"],
        "SQS, requests": requests["sqs"] + _POLLS * len(steps),
        "S3, PUT requests": requests["s3_put"],
        "S3, GET requests": requests["s3_get"] + _READS * len(steps),
        "CloudWatch Logs, GB": (requests["log_bytes"] + _PLATFORM_LOG * len(steps)) / 1e9,
        "X-Ray, traces": len(steps),
    }


def _seconds(step: Mapping[str, Any]) -> float:
    """Return how many seconds a step takes on Lambda, if a picture keeps all processors busy."""
    seconds: float = step["wall"] if step["kind"] in _SERIAL else step["cpu"] / PROCESSORS
    return seconds
