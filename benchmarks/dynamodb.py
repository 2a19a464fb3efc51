"""Amazon's DynamoDB Local with the table of the template, and what the service's requests consume there.

It keeps everything in memory. It has no conflicts of transactions: see contention.py.

What it reports that a transaction consumes is wrong (version 1.25.1 reports four units for one item and for
four). So each part of a transaction is made as a plain write, of which it reports the right units. Of these,
AWS bills a transaction those of the table twice, as it documents, and those of indexes once: they follow a
transaction as they follow any other write.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from botocore.exceptions import BotoCoreError

from local.deploy import client
from local.emulator import ACCOUNT_ID, HOST, REGION, SECRET
from local.package import ROOT, load_template

#: `make bench` installs it.
FOLDER = ROOT / ".local" / "dynamodb"
TABLE = "tasks"
_START_SECONDS = 60


@contextmanager
def running() -> Iterator[str]:
    """Run DynamoDB Local with an empty table and yield its URL. The service's clients use it from then on."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    command = ["java", f"-Djava.library.path={FOLDER / 'DynamoDBLocal_lib'}"]
    command += [
        "-jar",
        str(FOLDER / "DynamoDBLocal.jar"),
        "-inMemory",
        "-disableTelemetry",
        "-port",
        str(port),
    ]
    with subprocess.Popen(command, cwd=FOLDER, stdout=subprocess.DEVNULL) as process:
        try:
            url = f"http://{HOST}:{port}"
            use(url)
            _create(url)
            yield url
        finally:
            process.kill()


def use(url: str) -> None:
    """Point the clients that the service makes in this process at a URL."""
    os.environ |= {
        "AWS_ENDPOINT_URL": url,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": ACCOUNT_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }


def schema() -> dict[str, Any]:
    """Return the template's table, as CreateTable takes it."""
    resources = load_template(ROOT / "template.yaml")["Resources"]
    names = ("BillingMode", "KeySchema", "AttributeDefinitions", "GlobalSecondaryIndexes")
    return {"TableName": TABLE} | {name: resources["Table"]["Properties"][name] for name in names}


def _create(url: str) -> None:
    dynamodb, started = client("dynamodb", url), time.monotonic()
    while True:
        try:
            dynamodb.create_table(**schema())
        except BotoCoreError:
            if time.monotonic() - started > _START_SECONDS:
                raise
            time.sleep(0.2)
        else:
            return


def clear(url: str) -> None:
    """Make the table anew, empty."""
    client("dynamodb", url).delete_table(TableName=TABLE)
    _create(url)


@dataclass
class Consumed:
    """What a call of the service has consumed."""

    #: Requests that had to wait for each other: those that other threads make side by side are one.
    requests: int = 0
    units: float = 0.0


class Meter:
    """Counts the requests and the units of a botocore client of DynamoDB Local."""

    def __init__(self, dynamodb: Any) -> None:
        self._client = dynamodb
        self._call = dynamodb._make_api_call
        self._lock = threading.Lock()
        self._consumed = Consumed()
        self._beside = False

    @contextmanager
    def measure(self) -> Iterator[Consumed]:
        """Yield what the block's calls consume."""
        self._consumed, self._beside = Consumed(), False
        with mock.patch.object(self._client, "_make_api_call", self._measured):
            yield self._consumed

    def _measured(self, operation: str, arguments: Mapping[str, Any]) -> Any:
        if operation == "TransactWriteItems":
            parts = [part for item in arguments["TransactItems"] for part in item.items()]
            answers = [self._ask(f"{kind}Item", part) for kind, part in parts]
            units = sum(2 * table + indexes for _, table, indexes in answers)
            answer: Any = {}
        else:
            answer, table, indexes = self._ask(operation, arguments)
            units = table + indexes
        with self._lock:
            beside = threading.current_thread() is not threading.main_thread()
            self._consumed.requests += not (beside and self._beside)
            self._beside = beside
            self._consumed.units += units
        return answer

    def _ask(self, operation: str, arguments: Mapping[str, Any]) -> tuple[Any, float, float]:
        """Make a request; return the answer, and the units of the table and of its indexes."""
        answer = self._call(operation, {**arguments, "ReturnConsumedCapacity": "INDEXES"})
        told = answer.get("ConsumedCapacity") or []
        table = indexes = 0.0
        for part in told if isinstance(told, list) else [told]:
            of_indexes = sum(i["CapacityUnits"] for i in part.get("GlobalSecondaryIndexes", {}).values())
            table += part["CapacityUnits"] - of_indexes
            indexes += of_indexes
        return answer, table, indexes
