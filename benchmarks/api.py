"""The service's handlers beside bare boto3 handlers, on the same emulated DynamoDB and SQS.

Both run from their packages, as Lambda would get them, with the Python that Lambda has.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks import package
from local.deploy import client
from local.stack import Stack

Comparison = tuple[str, str, Callable[[], float], Callable[[], float]]

#: Runs a handler in a new process, as a cold start does. Prints the first answer, then of the next calls the
#: medians of the time and of the processor time, in seconds.
_PROGRAM = """
import json, os, sys
module, name, event, calls = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
class Context:
    function_name = memory_limit_in_mb = invoked_function_arn = aws_request_id = "bench"
    @staticmethod
    def get_remaining_time_in_millis(): return 29_000
output = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)
handler = getattr(__import__(module), name)
print(json.dumps(handler(event, Context())), file=output)
import statistics, time
spent = []
for _ in range(calls):
    before, cpu_before = time.perf_counter(), time.process_time()
    handler(event, Context())
    spent.append((time.perf_counter() - before, time.process_time() - cpu_before))
print(json.dumps([statistics.median(times) for times in zip(*spent)]), file=output)
"""


class _Package:
    """A package, run by Lambda's Python."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._python = package.python()
        self._environment = {**environment, "PYTHONPATH": str(folder)}

    def run(self, module: str, name: str, event: object, calls: int) -> tuple[str, float, list[float]]:
        """Return the body of the first answer, when it came after the process was started, and a warm call.

        Times are in seconds, of a warm call also the processor's; without calls there are none.
        """
        before = time.perf_counter()
        with subprocess.Popen(
            [self._python, "-c", _PROGRAM, module, name, json.dumps(event), str(calls)],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            assert process.stdout
            answer = json.loads(process.stdout.readline())
            first = time.perf_counter() - before
            assert answer["statusCode"] == 200
            return answer["body"], first, json.loads(process.stdout.readline())


def comparisons(stack: Stack, home: Path) -> Iterator[Comparison]:
    """Yield the comparisons.

    Cold: from the start of the process to its first answer, and the processor time until its end, which a
    busy machine disturbs less. Warm: the medians of 50 further calls.
    """
    queue = client("sqs", stack["aws_endpoint_url"]).create_queue(QueueName="bench")["QueueUrl"]
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": stack["aws_endpoint_url"],
        "AWS_REGION": stack["region"],
        "AWS_DEFAULT_REGION": stack["region"],
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "TABLE_NAME": stack["table"],
        "OUTPUT_BASE_URL": stack["output_base_url"],
        # A queue without a worker.
        "QUEUE_URL": queue,
        "POWERTOOLS_SERVICE_NAME": "bench",
        "POWERTOOLS_METRICS_NAMESPACE": "bench",
    }
    ours = _Package(package.build(home / "package"), environment)
    bare = _Package(package.build_bare(home / "bare"), environment)
    create = gateway_event("POST", "create-transcode", body={"origin_url": "s3://bucket/key.mp4"})
    created, _, _ = ours.run("create_transcode", "handler", create, 0)
    get = gateway_event("GET", "get-transcode", query={"id": json.loads(created)["id"]})

    def cold(of: _Package, module: str, name: str, event: object) -> float:
        return of.run(module, name, event, 0)[1]

    def cold_cpu(of: _Package, module: str, name: str, event: object) -> float:
        before = _cpu_of_children()
        of.run(module, name, event, 0)
        return _cpu_of_children() - before

    def warm(of: _Package, module: str, name: str, event: object) -> float:
        return of.run(module, name, event, 50)[2][0]

    def warm_cpu(of: _Package, module: str, name: str, event: object) -> float:
        return of.run(module, name, event, 50)[2][1]

    for call, event, alternative in (("get-transcode", get, "get"), ("create-transcode", create, "create")):
        module = call.replace("-", "_")
        kinds = (
            ("cold start", cold),
            ("cold start's processor time", cold_cpu),
            ("warm call", warm),
            ("warm call's processor time", warm_cpu),
        )
        for kind, measure in kinds:
            yield (
                f"{call}: {kind} against a bare boto3 handler",
                "s",
                partial(measure, ours, module, "handler", event),
                partial(measure, bare, "bare", alternative, event),
            )


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def gateway_event(
    method: str, name: str, *, body: dict[str, object] | None = None, query: dict[str, str] | None = None
) -> dict[str, object]:
    """Return the event that API Gateway sends to the function of a call."""
    path = f"/transcoding/api/{name}"
    return {
        "resource": path,
        "path": path,
        "httpMethod": method,
        "headers": {"Content-Type": "application/json"},
        "multiValueHeaders": {"Content-Type": ["application/json"]},
        "queryStringParameters": query,
        "multiValueQueryStringParameters": {k: [v] for k, v in query.items()} if query else None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {"requestId": "bench", "path": path, "httpMethod": method, "stage": "v1"},
        "body": json.dumps(body) if body is not None else None,
        "isBase64Encoded": False,
    }
