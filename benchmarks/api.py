"""The service's handlers beside bare boto3 handlers, on the same emulated DynamoDB and SQS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial

from local.deploy import client
from local.package import ROOT
from local.stack import Stack

Comparison = tuple[str, str, Callable[[], float], Callable[[], float]]

#: Runs a handler in a new process, as a cold start does, and prints three times in seconds: its import, its
#: first call, and the median of the next calls.
_PROGRAM = """
import json, statistics, sys, time
module, name, event, calls = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
class Context:
    function_name = memory_limit_in_mb = invoked_function_arn = aws_request_id = "bench"
    @staticmethod
    def get_remaining_time_in_millis(): return 29_000
started = time.perf_counter()
handler = getattr(__import__(module, fromlist=[name]), name)
imported = time.perf_counter()
assert handler(event, Context())["statusCode"] == 200
times = []
for _ in range(calls):
    before = time.perf_counter()
    handler(event, Context())
    times.append(time.perf_counter() - before)
first = time.perf_counter() - imported - sum(times)
print(json.dumps([imported - started, first, statistics.median(times or [0])]), file=sys.stderr)
"""


def comparisons(stack: Stack) -> Iterator[Comparison]:
    """Yield the comparisons. Cold: import and first call. Warm: median of 50 further calls."""
    queue = client("sqs", stack["aws_endpoint_url"]).create_queue(QueueName="bench")["QueueUrl"]
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": stack["aws_endpoint_url"],
        "AWS_DEFAULT_REGION": stack["region"],
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "TABLE_NAME": stack["table"],
        # A queue without a worker.
        "QUEUE_URL": queue,
        "OUTPUT_BASE_URL": stack["output_base_url"],
        "POWERTOOLS_SERVICE_NAME": "bench",
        "POWERTOOLS_METRICS_NAMESPACE": "bench",
        "POWERTOOLS_TRACE_DISABLED": "true",
        "PYTHONPATH": f"{ROOT / 'functions'}:{ROOT}",
    }
    create = gateway_event("POST", "create-transcode", body={"origin_url": "s3://bucket/key.mp4"})
    get = gateway_event("GET", "get-transcode", query={"id": _existing(environment, create)})

    def run(module: str, name: str, event: dict[str, object], calls: int) -> list[float]:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, module, name, json.dumps(event), str(calls)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        times: list[float] = json.loads(done.stderr.splitlines()[-1])
        return times

    def cold(module: str, name: str, event: dict[str, object]) -> float:
        return sum(run(module, name, event, 0))

    def warm(module: str, name: str, event: dict[str, object]) -> float:
        return run(module, name, event, 50)[2]

    for call, event, bare in (("get-transcode", get, "get"), ("create-transcode", create, "create")):
        module = call.replace("-", "_")
        yield (
            f"{call}: cold start against a bare boto3 handler",
            "s",
            partial(cold, module, "handler", event),
            partial(cold, "benchmarks.bare", bare, event),
        )
        yield (
            f"{call}: warm call against a bare boto3 handler",
            "s",
            partial(warm, module, "handler", event),
            partial(warm, "benchmarks.bare", bare, event),
        )


def _existing(environment: dict[str, str], create: dict[str, object]) -> str:
    program = (
        "import json, sys, create_transcode as c\n"
        "class Context:\n"
        "    function_name = memory_limit_in_mb = invoked_function_arn = aws_request_id = 'bench'\n"
        "print(json.loads(c.handler(json.loads(sys.argv[1]), Context())['body'])['id'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(create)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[-1]


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
