"""What one would write without this service: handlers of boto3 alone."""

from __future__ import annotations

import json
import os
from functools import cache
from typing import Any

import boto3

dynamodb = boto3.client("dynamodb")


@cache
def sqs() -> Any:
    """Return the client of the queue, which `get` does not need."""
    return boto3.client("sqs")


def get(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Read one item, as get_transcode does."""
    key = {"id": {"S": event["queryStringParameters"]["id"]}}
    item = dynamodb.get_item(TableName=os.environ["TABLE_NAME"], Key=key, ConsistentRead=True).get("Item")
    return {"statusCode": 200, "body": json.dumps({"transcoding": item, "errcode": 1000})}


def create(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Write one item and send one message, as create_transcode does, but without counts and idempotency."""
    body = json.loads(event["body"])
    dynamodb.put_item(
        TableName=os.environ["TABLE_NAME"],
        Item={"id": {"S": f"bare-{os.urandom(4).hex()}"}, "origin_url": {"S": body["origin_url"]}},
    )
    sqs().send_message(QueueUrl=os.environ["QUEUE_URL"], MessageBody="{}")
    return {"statusCode": 200, "body": json.dumps({"errcode": 1000})}
