"""The AWS clients, made once in a process, and what it means when they fail.

The clients are botocore's: they are boto3's without its import and its second session. `AWS_ENDPOINT_URL` is
honoured.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, cast

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from transcoding.errors import UnavailableError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

#: Seconds. Three tries of both stay well within API Gateway's 29 s for a call.
CONNECT_TIMEOUT = 2
READ_TIMEOUT = 5
MAX_ATTEMPTS = 3
MAX_CONNECTIONS = 20
#: Those of a worker's transfers.
PATIENT_READ_TIMEOUT = 60
PATIENT_ATTEMPTS = 5

_TRANSIENT = frozenset(
    {
        # What botocore makes of answers that are not the service's own, such as a proxy's.
        "500",
        "502",
        "503",
        "504",
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "KMS.ThrottlingException",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
    }
)


@cache
def session() -> botocore.session.Session:
    """Return this process's session. A second one would read the models and endpoints of AWS again: 60 ms.

    Its clients have a name of their own. What botocore calls them by itself it puts together twice a request,
    which is an eighth of the processor time of create-transcode.
    """
    session = botocore.session.get_session()
    session.set_default_client_config(Config(user_agent="transcoding"))
    return session


def _config() -> Config:
    return Config(
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        max_pool_connections=MAX_CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": MAX_ATTEMPTS},
    )


@cache
def sqs() -> SQSClient:
    """Return this process's SQS client."""
    return cast("SQSClient", session().create_client("sqs", config=_config()))


@cache
def events() -> Any:
    """Return this process's EventBridge client."""
    return session().create_client("events", config=_config())


@cache
def ssm() -> Any:
    """Return this process's client of Systems Manager, whose Parameter Store has the key of callbacks."""
    return session().create_client("ssm", config=_config())


@cache
def s3(*, patient: bool) -> S3Client:
    """Return this process's S3 client, which is able to presign in every region.

    A worker has minutes of work to lose over an answer that comes late: it is `patient`. The calls of the
    API have to be answered, and the sweep has other tasks to look at.

    It presigns for the regional host. S3's global one, which botocore prefers, redirects requests for new
    buckets, and does not serve regions opened after 2019:
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html
    """
    config = _config().merge(
        Config(
            signature_version="s3v4",
            s3={"addressing_style": _addressing_style(), "us_east_1_regional_endpoint": "regional"},
        )
    )
    if patient:
        config = config.merge(
            Config(
                read_timeout=PATIENT_READ_TIMEOUT,
                retries={"mode": "standard", "total_max_attempts": PATIENT_ATTEMPTS},
            )
        )
    client = cast("S3Client", session().create_client("s3", config=config))
    client.meta.events.register_first("needs-retry.s3", _stay_in_region)
    return client


def _addressing_style() -> Literal["path", "virtual"]:
    # Only AWS is known to have a DNS name for each bucket. botocore itself puts a bucket whose name has dots,
    # which no wildcard certificate covers, into the path.
    custom = {"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"} & os.environ.keys()
    return "path" if custom else "virtual"


def _stay_in_region(request_dict: MutableMapping[str, Any], **_: object) -> None:
    """Keep botocore from following a bucket into another region, whose presigned URLs it signs wrongly."""
    request_dict["context"].setdefault("s3_redirect", {})["redirected"] = True


def is_transient(error: BaseException | None) -> bool:
    """Tell whether a call failed for the service's own reasons, so that the same call may succeed later."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or error.response.get("Error", {}).get("Code") in _TRANSIENT
    return isinstance(error, BotoCoreError)


@contextmanager
def availability(service: str) -> Iterator[None]:
    """Turn a transient failure of the block's calls into UnavailableError; others pass as they are."""
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        if is_transient(error):
            raise UnavailableError(service) from error
        raise
