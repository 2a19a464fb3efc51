"""The whole service on this machine: `start` makes it ready, `stop` ends it and keeps its data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict
from urllib.parse import urlsplit

from local import package
from local.deploy import STACK_NAME, client, deploy
from local.emulator import PREFERRED_PORT, REGION, Emulator
from local.package import BUCKETS, ROOT

HOME = ROOT / ".local"
#: Where the laptop differs from the template's defaults: two workers fit, tries should not wait long, and a
#: clip of a minute is to be cut into parts as a long film is.
PARAMETERS = {"MaxWorkers": "2", "LeaseSeconds": "20", "FanOutSeconds": "2", "PartSeconds": "2"}


class Stack(TypedDict):
    """How to reach a running stack; also the content of stack.json."""

    #: What comes before `/transcoding/api/…`; every call carries `api_key` in `x-api-key`.
    api_url: str
    api_key: str
    aws_endpoint_url: str
    region: str
    source_bucket: str
    output_bucket: str
    output_base_url: str
    table: str
    queue_url: str
    dlq_url: str
    stack_name: str
    #: Function names by their logical ids in template.yaml.
    functions: dict[str, str]


def start(home: Path = HOME, parameters: dict[str, str] | None = None, port: int = PREFERRED_PORT) -> Stack:
    """Start the emulator, deploy this checkout and write `home`/stack.json; quick where nothing changed.

    `parameters` are further template parameters; `port` is that of a first start, 0 for any. EmulatorError or
    DeployError if it does not come up.
    """
    emulator = Emulator(home)
    emulator.start(port)
    output_base_url = f"{emulator.url}/{BUCKETS['OutputBucket']}"
    deploy(package.build(PARAMETERS | {"OutputBaseUrl": output_base_url} | (parameters or {})), emulator.url)
    stack = _describe(emulator.url)
    (home / "stack.json").write_text(json.dumps(stack, indent=2) + "\n")
    return stack


def stop(home: Path = HOME) -> None:
    """End the emulator with all its functions. EmulatorError if it had to be killed."""
    Emulator(home).stop()


def _describe(endpoint_url: str) -> Stack:
    described = client("cloudformation", endpoint_url).describe_stacks(StackName=STACK_NAME)["Stacks"][0]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}
    api_url = urlsplit(outputs["ApiUrl"])
    key = client("apigateway", endpoint_url).get_api_key(apiKey=outputs["ApiKeyId"], includeValue=True)
    return {
        # The host name of an API resolves only on AWS; this form works with every client.
        "api_url": f"{endpoint_url}/restapis/{api_url.netloc.partition('.')[0]}{api_url.path}/_user_request_",
        "api_key": key["value"],
        "aws_endpoint_url": endpoint_url,
        "region": REGION,
        "source_bucket": outputs["SourceBucket"],
        "output_bucket": outputs["OutputBucket"],
        "output_base_url": outputs["OutputBaseUrl"],
        "table": outputs["Table"],
        "queue_url": outputs["QueueUrl"],
        "dlq_url": outputs["DeadLetterQueueUrl"],
        "stack_name": STACK_NAME,
        "functions": {name: value for name, value in outputs.items() if name.endswith("Function")},
    }
