"""The Python client: uploads, broken off and resumed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.fake_service import API_KEY, API_URL, PART, FakeService, refusal
from transcoding_client import (
    Client,
    FileChangedError,
    NotFoundError,
    RefusedError,
    UploadError,
    UploadProgress,
)

FILM = bytes(range(2 * PART + 3)) + bytes(PART)


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    # Retries take no time.
    monkeypatch.setattr("transcoding_client.uploads.seconds_before", lambda *_: 0)
    with Client(API_URL, API_KEY, transport=service.transport) as client:
        yield client


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "我的 film.mov"
    path.write_bytes(FILM)
    return path


def _sent(service: FakeService) -> list[int]:
    """The numbers of the parts that were sent."""
    return sorted(int(r.url.params["partNumber"]) for r in service.requests if r.url.host == "s3.test")


def _of_part(
    number: int, answer: Callable[[], httpx.Response | None]
) -> Callable[[httpx.Request], httpx.Response | None]:
    def fault(request: httpx.Request) -> httpx.Response | None:
        is_it = request.url.host == "s3.test" and request.url.params["partNumber"] == str(number)
        return answer() if is_it else None

    return fault


def _break(kind: type[httpx.TransportError] = httpx.WriteError) -> httpx.Response:
    raise kind("broken pipe")


def test_a_file_becomes_a_source(client: Client, service: FakeService, film: Path) -> None:
    reported: list[UploadProgress] = []
    assert client.upload(film, report=reported.append) == "s3://uploads/film.mov"
    assert service.objects == [FILM]
    assert service.made("create-upload") == [{"name": "我的 film.mov", "size": len(FILM)}]
    # The id is known before anything is sent, and the end is the end.
    assert (reported[0].upload_id, reported[0].sent) == ("upload-1", 0)
    assert (reported[-1].sent, reported[-1].size) == (len(FILM), len(FILM))
    assert all(progress.sent <= len(FILM) for progress in reported)


def test_s3_is_not_told_the_key(client: Client, service: FakeService, film: Path) -> None:
    client.upload(film)
    to_s3 = [request for request in service.requests if request.url.host == "s3.test"]
    assert len(to_s3) == 4
    for request in to_s3:
        assert "x-api-key" not in request.headers
        assert "Transfer-Encoding" not in request.headers


@pytest.mark.parametrize("page", [1, 2, 3, 1000])
def test_urls_come_in_pages(client: Client, service: FakeService, film: Path, page: int) -> None:
    service.page = page
    client.upload(film)
    assert service.objects == [FILM]
    assert _sent(service) == [1, 2, 3, 4]
    assert len(service.made("create-upload")) == -(-4 // page)


@pytest.mark.parametrize("size", [1, PART - 1, PART, PART + 1, 2 * PART])
def test_files_of_all_sizes(client: Client, service: FakeService, tmp_path: Path, size: int) -> None:
    path = tmp_path / "film.mov"
    path.write_bytes(os.urandom(size))
    client.upload(path)
    assert service.objects == [path.read_bytes()]


def test_parts_are_sent_several_at_once(client: Client, service: FakeService, film: Path) -> None:
    # Each part waits until all four are on their way.
    together = threading.Barrier(4, timeout=10)

    def meet(request: httpx.Request) -> None:
        if request.url.host == "s3.test":
            together.wait()

    service.fault = meet
    client.upload(film)
    assert service.objects == [FILM]


@pytest.mark.parametrize(
    "answer",
    [
        _break,
        lambda: _break(httpx.ReadTimeout),
        lambda: httpx.Response(503, text="<Error><Code>SlowDown</Code></Error>"),
        lambda: httpx.Response(500),
    ],
    ids=["broken", "late", "503", "500"],
)
def test_a_part_is_sent_again(
    client: Client, service: FakeService, film: Path, answer: Callable[[], httpx.Response]
) -> None:
    left = [answer] * 2
    service.fault = _of_part(2, lambda: left.pop()() if left else None)
    reported: list[UploadProgress] = []
    client.upload(film, report=reported.append)
    assert service.objects == [FILM]
    assert _sent(service) == [1, 2, 2, 2, 3, 4]
    assert reported[-1].sent == len(FILM)


def test_a_url_that_is_over_is_signed_again(client: Client, service: FakeService, film: Path) -> None:
    left = [httpx.Response(403, text="<Error><Code>ExpiredToken</Code></Error>")]
    service.fault = _of_part(3, lambda: left.pop() if left else None)
    client.upload(film)
    assert service.objects == [FILM]
    assert service.made("create-upload")[1:] == [{"upload_id": "upload-1", "first_part": 3}]
    urls = [str(r.url) for r in service.requests if r.url.params.get("partNumber") == "3"]
    assert len(set(urls)) == 2


def test_what_is_broken_off_goes_on_from_what_is_there(
    client: Client, service: FakeService, film: Path
) -> None:
    service.fault = _of_part(4, _break)
    with pytest.raises(UploadError, match="part 4") as broken:
        client.upload(film)
    there = set(service.parts)
    assert 4 not in there
    service.fault = lambda _: None
    service.requests.clear()
    reported: list[UploadProgress] = []
    client.upload(film, upload_id=broken.value.upload_id, report=reported.append)
    assert service.objects == [FILM]
    # A part of the upload that was broken off may still have been under way.
    assert set(_sent(service)) == {1, 2, 3, 4} - there
    assert service.uploads == 1
    assert reported[-1].sent == len(FILM)


def test_parts_of_another_file_are_sent_again(client: Client, service: FakeService, film: Path) -> None:
    service.fault = _of_part(4, _break)
    with pytest.raises(UploadError) as broken:
        client.upload(film)
    changed = bytes(reversed(FILM))
    film.write_bytes(changed)
    service.fault = lambda _: None
    client.upload(film, upload_id=broken.value.upload_id)
    assert service.objects == [changed]


def test_what_s3_refuses_for_good_ends_it(client: Client, service: FakeService, film: Path) -> None:
    service.fault = _of_part(
        1, lambda: httpx.Response(400, text="<Error><Code>EntityTooLarge</Code></Error>")
    )
    with pytest.raises(UploadError, match="HTTP 400"):
        client.upload(film)
    assert _sent(service).count(1) == 1
    # Nor does it ask for new URLs for ever.
    service.fault = _of_part(1, lambda: httpx.Response(403))
    with pytest.raises(UploadError, match="HTTP 403"):
        client.upload(film)


def test_a_file_that_changes_meanwhile_is_no_source(client: Client, service: FakeService, film: Path) -> None:
    def change() -> None:
        film.write_bytes(FILM[:-1])

    service.fault = _of_part(1, change)
    with pytest.raises((FileChangedError, UploadError)):
        client.upload(film)
    assert service.objects == []


def test_an_upload_of_another_size_is_not_gone_on_with(
    client: Client, service: FakeService, tmp_path: Path, film: Path
) -> None:
    begun = client.create_upload("film.mov", 5 * PART)
    with pytest.raises(FileChangedError):
        client.upload(film, upload_id=begun.upload_id)
    assert service.objects == []


def test_what_there_is_no_upload_of_is_told(client: Client, film: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such upload"):
        client.upload(film, upload_id="upload-9")
    with pytest.raises(FileNotFoundError):
        client.upload(tmp_path / "none.mov")


def test_a_file_that_is_too_large_is_refused(client: Client, service: FakeService, film: Path) -> None:
    service.fault = lambda _: refusal(400, "size: must be at most 10 bytes")
    with pytest.raises(RefusedError, match="at most 10 bytes"):
        client.upload(film)
