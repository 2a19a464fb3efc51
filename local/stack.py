"""The whole service on this machine: `start` deploys it, `stop` ends it and keeps its data."""

from __future__ import annotations

import contextlib
import json
import secrets
from pathlib import Path
from typing import TypedDict
from urllib.parse import urlsplit

from local import package
from local.deploy import STACK_NAME, client, deploy
from local.emulator import PREFERRED_PORT, REGION, Emulator
from local.package import BUCKETS, ROOT

HOME = ROOT / ".local"
#: Values that differ from the template's defaults: a laptop has room for two workers, a retry should come
#: soon, and a clip of a minute should be cut into parts as a long film is.
PARAMETERS = {"MaxWorkers": "2", "LeaseSeconds": "20", "FanOutSeconds": "2", "PartSeconds": "2"}


class Stack(TypedDict):
    """How to reach a running stack. This is the content of stack.json."""

    #: The part of a call's URL before `/transcoding/api/`. Calls have `api_key` in the header `x-api-key`.
    api_url: str
    console_url: str
    api_key: str
    aws_endpoint_url: str
    region: str
    source_bucket: str
    upload_bucket: str
    output_bucket: str
    output_base_url: str
    table: str
    queue_url: str
    dlq_url: str
    callback_queue_url: str
    #: The key of the signatures of callbacks.
    callback_key: str
    stack_name: str
    #: Names of functions by logical id in template.yaml.
    functions: dict[str, str]


def start(
    home: Path = HOME,
    parameters: dict[str, str] | None = None,
    port: int = PREFERRED_PORT,
    functions_endpoint_url: str | None = None,
) -> Stack:
    """Start the emulator, deploy this checkout if it has changed, and write `home`/stack.json.

    `parameters` are added to the template's; `port` is that of the first start (0: any); the functions find
    AWS at `functions_endpoint_url` instead of in the emulator. Raises EmulatorError or DeployError.
    """
    emulator = Emulator(home)
    emulator.start(port, functions_endpoint_url)
    # The emulator has no CDN: its S3 is one.
    delivery = {"Delivery": "cdn", "OutputBaseUrl": f"{emulator.url}/{BUCKETS['OutputBucket']}"}
    # The origin of pages that the API serves. (The emulator itself answers pages of any origin.)
    uploads = {"UploadOrigins": emulator.url}
    deploy(package.build(PARAMETERS | delivery | uploads | (parameters or {})), emulator.url)
    stack = _describe(emulator.url)
    (home / "stack.json").write_text(json.dumps(stack, indent=2) + "\n")
    return stack


def stop(home: Path = HOME) -> None:
    """Stop the emulator with all its functions. Raises EmulatorError if it had to be killed."""
    Emulator(home).stop()


def _describe(endpoint_url: str) -> Stack:
    described = client("cloudformation", endpoint_url).describe_stacks(StackName=STACK_NAME)["Stacks"][0]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}
    api_url = urlsplit(outputs["ApiUrl"])
    key = client("apigateway", endpoint_url).get_api_key(apiKey=outputs["ApiKeyId"], includeValue=True)
    # The host name of an API resolves only on AWS; this form works with every client.
    reachable = f"{endpoint_url}/restapis/{api_url.netloc.partition('.')[0]}{api_url.path}/_user_request_"
    return {
        "api_url": reachable,
        "console_url": f"{reachable}/console",
        "api_key": key["value"],
        "aws_endpoint_url": endpoint_url,
        "region": REGION,
        "source_bucket": outputs["SourceBucket"],
        "upload_bucket": outputs["UploadBucket"],
        "output_bucket": outputs["OutputBucket"],
        "output_base_url": outputs["OutputBaseUrl"],
        "table": outputs["Table"],
        "queue_url": outputs["QueueUrl"],
        "dlq_url": outputs["DeadLetterQueueUrl"],
        "callback_queue_url": outputs["CallbackQueueUrl"],
        "callback_key": _callback_key(outputs["CallbackKeyName"], endpoint_url),
        "stack_name": STACK_NAME,
        "functions": {name: value for name, value in outputs.items() if name.endswith("Function")},
    }


def _callback_key(name: str, endpoint_url: str) -> str:
    """Return the key of the signatures; of a new stack, make it before the first callback does."""
    ssm = client("ssm", endpoint_url)
    with contextlib.suppress(ssm.exceptions.ParameterAlreadyExists):
        ssm.put_parameter(Name=name, Type="SecureString", Value=secrets.token_hex(32))
    key: str = ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]
    return key
