"""Deploy a package to the emulator through CloudFormation."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, WaiterError

from local.emulator import ACCOUNT_ID, REGION, SECRET
from local.package import CODE_BUCKET, Package

STACK_NAME = "transcoding-local"
_DIGEST_TAG = "package-digest"
_WAIT = {"Delay": 1, "MaxAttempts": 120}
_BROKEN = {"CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED", "REVIEW_IN_PROGRESS"}


class DeployError(Exception):
    """CloudFormation refused the stack or rolled it back. The message has its reasons."""


def client(service: Any, endpoint_url: str) -> Any:
    """Return an AWS client for the emulator that uses neither the user's credentials nor proxies."""
    session = boto3.Session(ACCOUNT_ID, SECRET, region_name=REGION)
    config = Config(
        read_timeout=120, retries={"total_max_attempts": 2}, s3={"addressing_style": "path"}, proxies={}
    )
    return session.client(service, endpoint_url=endpoint_url, config=config)


def deploy(package: Package, endpoint_url: str) -> None:
    """Create or update the stack and wait until it is complete. A package that is deployed is left alone.

    Raises DeployError if CloudFormation fails.
    """
    cloudformation = client("cloudformation", endpoint_url)
    status, digest = _deployed(cloudformation)
    if digest == package.digest and status in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}:
        return
    if status in _BROKEN:
        cloudformation.delete_stack(StackName=STACK_NAME)
        cloudformation.get_waiter("stack_delete_complete").wait(StackName=STACK_NAME, WaiterConfig=_WAIT)
        status = None
    template_url = _upload(package, endpoint_url)
    _execute(cloudformation, package, template_url, create=status is None)
    api = cloudformation.describe_stack_resource(StackName=STACK_NAME, LogicalResourceId="Api")
    _put_gateway_responses(package, api["StackResourceDetail"]["PhysicalResourceId"], endpoint_url)


def _deployed(cloudformation: Any) -> tuple[str | None, str | None]:
    """Return the stack's status and the digest of the deployed package; None for what does not exist."""
    try:
        stack = cloudformation.describe_stacks(StackName=STACK_NAME)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in str(error):
            return None, None
        raise
    digests = [tag["Value"] for tag in stack.get("Tags", []) if tag["Key"] == _DIGEST_TAG]
    return stack["StackStatus"], next(iter(digests), None)


def _upload(package: Package, endpoint_url: str) -> str:
    """Put code and template into a bucket, and return the template's URL: it is too large for a call."""
    s3 = client("s3", endpoint_url)
    with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=CODE_BUCKET)
    s3.put_object(Bucket=CODE_BUCKET, Key=package.code_key, Body=package.code)
    template_key = f"{package.digest}.template.json"
    s3.put_object(Bucket=CODE_BUCKET, Key=template_key, Body=package.template.encode())
    return f"{endpoint_url}/{CODE_BUCKET}/{template_key}"


def _execute(cloudformation: Any, package: Package, template_url: str, *, create: bool) -> None:
    name = f"package-{package.digest[:16]}-{int(time.time())}"
    operation = "create" if create else "update"
    try:
        cloudformation.create_change_set(
            StackName=STACK_NAME,
            ChangeSetName=name,
            ChangeSetType="CREATE" if create else "UPDATE",
            TemplateURL=template_url,
            Parameters=[
                {"ParameterKey": key, "ParameterValue": value} for key, value in package.parameters.items()
            ],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
            Tags=[{"Key": _DIGEST_TAG, "Value": package.digest}],
        )
        cloudformation.get_waiter("change_set_create_complete").wait(
            StackName=STACK_NAME, ChangeSetName=name, WaiterConfig=_WAIT
        )
        cloudformation.execute_change_set(StackName=STACK_NAME, ChangeSetName=name)
        if create:
            cloudformation.get_waiter("stack_create_complete").wait(StackName=STACK_NAME, WaiterConfig=_WAIT)
        else:
            cloudformation.get_waiter("stack_update_complete").wait(StackName=STACK_NAME, WaiterConfig=_WAIT)
    except (ClientError, WaiterError) as error:
        reasons = "\n".join([str(error), *_failures(cloudformation)])
        raise DeployError(f"could not {operation} the stack: {reasons}") from error


def _put_gateway_responses(package: Package, api_id: str, endpoint_url: str) -> None:
    """Set the template's gateway responses, which the emulator does not read from SAM's API body."""
    api = json.loads(package.template)["Resources"]["Api"]["Properties"]
    apigateway = client("apigateway", endpoint_url)
    for response_type, response in api["GatewayResponses"].items():
        apigateway.put_gateway_response(
            restApiId=api_id,
            responseType=response_type,
            statusCode=response["StatusCode"],
            responseTemplates=response["ResponseTemplates"],
        )
    apigateway.create_deployment(restApiId=api_id, stageName=api["StageName"])


def _failures(cloudformation: Any) -> list[str]:
    """Return what failed, from the stack's events, first cause first."""
    try:
        events = cloudformation.describe_stack_events(StackName=STACK_NAME)["StackEvents"]
    except ClientError:
        return []
    return [
        f"  {event.get('LogicalResourceId')}: {event.get('ResourceStatusReason')}"
        for event in reversed(events)
        if event.get("ResourceStatus", "").endswith("_FAILED")
    ]
