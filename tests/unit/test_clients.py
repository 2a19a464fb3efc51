"""Where S3 is asked for media: the hosts that are signed for, and what a bucket elsewhere answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError

from transcoding.data import clients
from transcoding.data.object_store import ObjectStore
from transcoding.errors import Failure, TaskFailedError

REGIONS = {
    "us-east-1": "s3.us-east-1.amazonaws.com",
    "eu-west-1": "s3.eu-west-1.amazonaws.com",
    "ap-east-1": "s3.ap-east-1.amazonaws.com",
    "ap-southeast-1": "s3.ap-southeast-1.amazonaws.com",
    "eu-central-2": "s3.eu-central-2.amazonaws.com",
    "cn-north-1": "s3.cn-north-1.amazonaws.com.cn",
    "us-gov-west-1": "s3.us-gov-west-1.amazonaws.com",
}


@pytest.fixture
def store_in(environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ObjectStore]]:
    """Make the store of a region, at AWS or at an endpoint of its own."""

    def make(region: str, **endpoint: str) -> ObjectStore:
        monkeypatch.setenv("AWS_DEFAULT_REGION", region)
        for name, url in endpoint.items():
            monkeypatch.setenv(name, url)
        clients.s3.cache_clear()
        return ObjectStore("outputs")

    clients.session.cache_clear()
    yield make
    clients.s3.cache_clear()
    clients.session.cache_clear()


@pytest.mark.parametrize(("region", "host"), REGIONS.items())
def test_a_source_is_read_from_the_host_of_its_region(store_in, region, host):
    url = urlsplit(store_in(region).presigned_url("films", "a film.mp4"))
    assert (url.scheme, url.netloc, url.path) == ("https", f"films.{host}", "/a%20film.mp4")
    (credential,) = parse_qs(url.query)["X-Amz-Credential"]
    assert credential.split("/")[2:4] == [region, "s3"]


def test_every_client_says_whose_it_is(environment: None) -> None:
    clients.session.cache_clear()
    names: list[str] = []

    def answer(request: AWSRequest, **_: object) -> AWSResponse:
        names.append(request.headers["User-Agent"].decode())
        return AWSResponse(request.url, 503, {}, _Empty())

    session = clients.session()
    session.register("before-send", answer)
    for service, call in (("sqs", "list_queues"), ("dynamodb", "list_tables"), ("s3", "list_buckets")):
        client = session.create_client(service, config=Config(retries={"total_max_attempts": 1}))
        with suppress(ClientError):
            getattr(client, call)()
    clients.session.cache_clear()
    assert len(names) == 3
    assert all(name.split()[0] == "transcoding" for name in names)


@pytest.mark.parametrize(("region", "host"), REGIONS.items())
def test_a_bucket_with_dots_is_in_the_path_for_the_certificate_to_hold(store_in, region, host):
    url = urlsplit(store_in(region).presigned_url("my.films", "a.mp4"))
    assert (url.scheme, url.netloc, url.path) == ("https", host, "/my.films/a.mp4")


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:4580", "http://localhost:4580", "https://s3.example"])
@pytest.mark.parametrize("bucket", ["films", "my.films"])
def test_an_endpoint_of_its_own_needs_no_names_of_buckets(store_in, variable, endpoint, bucket):
    url = store_in("eu-west-1", **{variable: endpoint}).presigned_url(bucket, "a.mp4")
    assert url.startswith(f"{endpoint}/{bucket}/a.mp4?")


@pytest.mark.parametrize("status", [301, 400])
def test_a_bucket_of_another_region_is_refused_before_it_is_read(store_in, status):
    store = store_in("eu-west-1")
    asked = []

    def answer(request: AWSRequest, **_: Any) -> AWSResponse:
        asked.append(request.url)
        there = "eu-west-2" in request.url
        headers = {"x-amz-bucket-region": "eu-west-2", "ETag": '"tag"', "Content-Length": "1000"}
        return AWSResponse(request.url, 200 if there else status, headers, _Empty())

    store._s3.meta.events.register("before-send.s3", answer)
    with pytest.raises(TaskFailedError, match="of the same region") as failure:
        store.look_at("films", "a.mp4")
    assert failure.value.code is Failure.SOURCE_FORBIDDEN
    assert asked
    assert all(re.match(r"https://films\.s3\.eu-west-1\.", url) for url in asked)


class _Empty(BytesIO):
    def stream(self, *_: object, **__: object) -> Iterator[bytes]:
        return iter(())
