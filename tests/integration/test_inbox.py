"""The watch folder of the running service: S3, EventBridge, the queue and the function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from local.deploy import client
from local.stack import Stack
from tests.integration.conftest import Api, Wait
from tests.integration.inside import until

PARAMETERS = {"InboxFormat": "mp4", "InboxQuality": "1"}


def _queued(stack: Stack) -> list[int]:
    """How many messages are on the queues of the watch folder, seen and not."""
    cloudformation = client("cloudformation", stack["aws_endpoint_url"])
    (described,) = cloudformation.describe_stacks(StackName=stack["stack_name"])["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    sqs = client("sqs", stack["aws_endpoint_url"])
    return [
        int(sqs.get_queue_attributes(QueueUrl=outputs[queue], AttributeNames=names)["Attributes"][name])
        for queue in ("InboxQueueUrl", "InboxDeadLetterQueueUrl")
        for name in names
    ]


def test_what_is_put_into_the_folder_becomes_a_task_once(
    stack: Stack, api: Api, wait: Wait, s3: Any, make_clip: Callable[..., Path]
) -> None:
    bucket, film = stack["source_bucket"], "inbox/2026/我的 film + 100%?.mp4"

    def tasks() -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = api("GET", "get-transcodes", {"limit": 100})[1]["results"]
        prefix = f"s3://{bucket}/"
        return [task for task in results if task["origin_url"].startswith(prefix)]

    before = len(tasks())
    s3.put_object(Bucket=bucket, Key="inbox/")
    s3.put_object(Bucket=bucket, Key="inboxes/clip.mp4", Body=b"elsewhere")
    s3.put_object(Bucket=bucket, Key="inbox/empty.mp4", Body=b"")
    clip = make_clip(size="640x480", seconds=1)
    s3.upload_file(str(clip), bucket, film)
    until(lambda: len(tasks()) >= before + 2)
    by_key = {task["origin_url"].removeprefix(f"s3://{bucket}/"): task for task in tasks()}
    done = wait(by_key[film]["id"])
    assert (done["status"], done["format"], done["task_config_temp_id"]) == (2, "mp4", 1), done
    assert done["output"]["renditions"][0]["height"] == 360
    empty = wait(by_key["inbox/empty.mp4"]["id"])
    assert (empty["status"], empty["error_code"]) == (3, 1007)

    # An object that is overwritten is another task.
    s3.upload_file(str(clip), bucket, film)
    until(lambda: len(tasks()) >= before + 3)
    # All events are dealt with, and none made another task.
    until(lambda: _queued(stack) == [0, 0, 0, 0])
    assert len(tasks()) == before + 3
