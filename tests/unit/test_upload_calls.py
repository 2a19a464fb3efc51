"""Uploads: from the first call to the source of a task, by the URLs that a caller gets."""

from __future__ import annotations

import importlib
import json
import os
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import requests
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError
from hypothesis import example, given
from hypothesis import strategies as st
from moto.s3.models import FakeKey, FakeMultipart, S3Backend

from tests.conftest import UPLOADS, Answer, Api, Aws
from transcoding.api.parameters import MAX_ETAGS
from transcoding.data import upload_store
from transcoding.service import uploads
from transcoding.service.uploads import MAX_BYTES, MAX_PARTS, PART_BYTES, Upload, safe_name

MIB = 1024**2
LIMIT = 1_000_000_000


def begin(api: Api, size: int = 2 * PART_BYTES + 5, name: str = "film.mp4") -> dict[str, Any]:
    answer = api.post("create-upload", name=name, size=size)
    assert answer.status == 200, answer.text
    begun: dict[str, Any] = answer.json
    return begun


def again(api: Api, begun: dict[str, Any], **fields: Any) -> Answer:
    return api.post("create-upload", upload_id=begun["upload_id"], **fields)


def send(url: str, part: bytes) -> str:
    """Send a part as a browser does; return what it reads of the answer."""
    answer = requests.put(url, part, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.headers["ETag"]


def send_all(begun: dict[str, Any], file: bytes) -> list[str]:
    size = begun["part_size"]
    return [send(url, file[n * size : (n + 1) * size]) for n, url in enumerate(begun["urls"])]


def stored(aws: Aws, origin_url: str) -> bytes:
    assert origin_url.startswith(f"s3://{UPLOADS}/")
    key = origin_url.removeprefix(f"s3://{UPLOADS}/")
    found: bytes = aws.s3.get_object(Bucket=UPLOADS, Key=key)["Body"].read()
    return found


def forged(*of: Any) -> str:
    return urlsafe_b64encode(json.dumps(of, separators=(",", ":")).encode()).decode().rstrip("=")


def opened(begun: dict[str, Any]) -> list[Any]:
    """What is in an upload's id."""
    text = begun["upload_id"]
    of: list[Any] = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return of


# The way of a file.


@pytest.mark.parametrize("size", [1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES + 5])
def test_a_file_becomes_a_source(api: Api, aws: Aws, size: int) -> None:
    begun, file = begin(api, size), os.urandom(size)
    assert begun.keys() == {"errcode", "msg", "upload_id", "origin_url", "part_size", "urls", "etags"}
    assert begun["part_size"] == PART_BYTES
    assert begun["etags"] == [""] * len(begun["urls"])
    done = api.post("complete-upload", upload_id=begun["upload_id"], etags=send_all(begun, file)).json
    assert done == {"errcode": 1000, "msg": "OK", "origin_url": begun["origin_url"]}
    assert stored(aws, done["origin_url"]) == file
    assert api.create(origin_url=done["origin_url"])


def test_an_upload_that_was_broken_off_goes_on_with_its_id_alone(api: Api, aws: Aws) -> None:
    begun, file = begin(api), os.urandom(2 * PART_BYTES + 5)
    send(begun["urls"][0], file[:PART_BYTES])
    # Of a part that is not whole nothing counts.
    send(begun["urls"][2], b"film")
    resumed = again(api, begun).json
    assert (resumed["origin_url"], resumed["part_size"]) == (begun["origin_url"], begun["part_size"])
    assert [bool(etag) for etag in resumed["etags"]] == [True, False, False]
    etags = resumed["etags"][:1] + [
        send(resumed["urls"][n], file[n * PART_BYTES : (n + 1) * PART_BYTES]) for n in (1, 2)
    ]
    assert again(api, begun).json["etags"] == [etag.strip('"') for etag in etags]
    assert api.post("complete-upload", upload_id=begun["upload_id"], etags=etags).status == 200
    assert stored(aws, begun["origin_url"]) == file


def test_etags_are_taken_with_and_without_their_quotes(api: Api) -> None:
    begun, file = begin(api, PART_BYTES + 1), os.urandom(PART_BYTES + 1)
    first, second = send_all(begun, file)
    assert first.startswith('"')
    etags = [first, second.strip('"')]
    assert api.post("complete-upload", upload_id=begun["upload_id"], etags=etags).status == 200


def test_completing_again_answers_the_same(api: Api, aws: Aws) -> None:
    begun, file = begin(api, 5), os.urandom(5)
    call = {"upload_id": begun["upload_id"], "etags": send_all(begun, file)}
    answers = [api.post("complete-upload", **call).json for _ in range(3)]
    assert answers == [{"errcode": 1000, "msg": "OK", "origin_url": begun["origin_url"]}] * 3
    assert stored(aws, begun["origin_url"]) == file
    # Parts of it are not sent any more.
    assert again(api, begun).status == 404


def test_an_upload_whose_answer_was_lost_is_complete_when_it_is_repeated(
    api: Api, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, file = begin(api, 5), os.urandom(5)
    call = {"upload_id": begun["upload_id"], "etags": send_all(begun, file)}
    client = importlib.import_module("complete_upload").store._s3
    make = client._make_api_call

    def lose(operation: str, arguments: Any) -> Any:
        answer = make(operation, arguments)
        if operation == "CompleteMultipartUpload":
            raise ReadTimeoutError(endpoint_url="http://secret")
        return answer

    monkeypatch.setattr(client, "_make_api_call", lose)
    answers = [api.post("complete-upload", **call) for _ in range(2)]
    assert [answer.status for answer in answers] == [503, 200]
    assert answers[0].json["msg"] == (
        "the upload bucket is not available; the upload may be complete already, and the call may be repeated"
    )
    assert stored(aws, begun["origin_url"]) == file


def test_an_upload_that_another_call_completes_meanwhile_is_complete(
    api: Api, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, file = begin(api, 5), os.urandom(5)
    call = {"upload_id": begun["upload_id"], "etags": send_all(begun, file)}
    client = importlib.import_module("complete_upload").store._s3
    make = client._make_api_call

    def first_another(operation: str, arguments: Any) -> Any:
        answer = make(operation, arguments)
        if operation == "CompleteMultipartUpload":
            raise client.exceptions.NoSuchUpload({"Error": {"Code": "NoSuchUpload"}}, operation)
        return answer

    monkeypatch.setattr(client, "_make_api_call", first_another)
    assert api.post("complete-upload", **call).json["origin_url"] == begun["origin_url"]


def test_what_was_sent_again_since_it_was_looked_at_is_told(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = begin(api, 5)
    call = {"upload_id": begun["upload_id"], "etags": send_all(begun, os.urandom(5))}
    client = importlib.import_module("complete_upload").store._s3
    make = client._make_api_call

    def send_another(operation: str, arguments: Any) -> Any:
        if operation == "CompleteMultipartUpload":
            send(begun["urls"][0], os.urandom(5))
        return make(operation, arguments)

    with monkeypatch.context() as patch:
        patch.setattr(client, "_make_api_call", send_another)
        assert api.post("complete-upload", **call).status == 503
    assert "part 1 has another ETag" in api.post("complete-upload", **call).json["msg"]


# URLs.


def test_a_url_takes_one_part_of_its_size_for_a_day(api: Api) -> None:
    size = PART_BYTES + 7
    begun = begin(api, size)
    key, s3_id, _ = opened(begun)
    for number, url in enumerate(begun["urls"], 1):
        parts = urlsplit(url)
        query = {name: value for name, (value,) in parse_qs(parts.query).items()}
        assert (parts.scheme, parts.netloc) == ("https", f"{UPLOADS}.s3.eu-west-1.amazonaws.com")
        assert unquote(parts.path) == f"/{key}"
        assert (query["partNumber"], query["uploadId"]) == (str(number), s3_id)
        assert query["X-Amz-Expires"] == "86400"
        # S3 refuses a body of another length, which would have another signature.
        assert query["X-Amz-SignedHeaders"] == "content-length;host"
    assert begun["urls"][0] != begun["urls"][1]


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """List parts after the number of a part, as S3 does; to moto it is how many are passed over."""

    def list_parts(self: FakeMultipart, part_number_marker: int, max_parts: int) -> Iterator[FakeKey]:
        numbers = [number for number in self.partlist if number > part_number_marker]
        return iter([self.parts[number] for number in numbers[:max_parts]])

    def is_truncated(self: S3Backend, bucket_name: str, multipart_id: str, marker: int) -> bool:
        return max(self.get_bucket(bucket_name).multiparts[multipart_id].partlist) > marker

    monkeypatch.setattr(FakeMultipart, "list_parts", list_parts)
    monkeypatch.setattr(S3Backend, "is_truncated", is_truncated)


@pytest.mark.usefixtures("listed")
def test_more_parts_than_s3_lists_at_once_are_found(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_store, "_PAGE", 2)
    begun, file = begin(api, 4 * PART_BYTES + 5), os.urandom(4 * PART_BYTES + 5)
    size = begun["part_size"]
    for n in (1, 2, 4):
        send(begun["urls"][n], file[n * size : (n + 1) * size])
    assert [bool(etag) for etag in again(api, begun).json["etags"]] == [False, True, True, False, True]
    etags = send_all(begun, file)
    assert again(api, begun).json["etags"] == [etag.strip('"') for etag in etags]
    assert api.post("complete-upload", upload_id=begun["upload_id"], etags=etags).status == 200


@pytest.mark.usefixtures("listed")
def test_a_call_gives_a_thousand_urls_and_the_next_goes_on(api: Api, aws: Aws) -> None:
    create = importlib.import_module("create_upload")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(create, "settings", replace(create.settings, max_source_bytes=10**12))
        begun = begin(api, 2000 * PART_BYTES + 1)
        urls = begun["urls"]
        assert len(urls) == 1000
        # S3's list of parts has gaps, and ends before and after what is asked for.
        key, s3_id, _ = opened(begun)
        for number in (1, 1001, 1500, 2001):
            data = b"x" if number == 2001 else os.urandom(PART_BYTES)
            aws.s3.upload_part(Bucket=UPLOADS, Key=key, UploadId=s3_id, PartNumber=number, Body=data)
        for first, count, sent in ((1001, 1000, {1001, 1500}), ("2001", 1, {2001}), (2, 1000, {1001})):
            later = again(api, begun, first_part=first).json
            numbers = [int(parse_qs(urlsplit(url).query)["partNumber"][0]) for url in later["urls"]]
            assert numbers == list(range(int(first), int(first) + count))
            assert len(later["etags"]) == count
            assert {n for n, etag in zip(numbers, later["etags"], strict=True) if etag} == sent
        answer = again(api, begun, first_part=2002)
    assert answer.status == 400
    assert answer.json["msg"] == "first_part: must be at most 2001, the number of parts"


@given(st.integers(1, MAX_BYTES))
@example(1)
@example(PART_BYTES)
@example(PART_BYTES * MAX_PARTS)
@example(PART_BYTES * MAX_PARTS + 1)
@example(MAX_BYTES)
def test_parts_add_up_to_the_file_and_are_what_s3_takes(size: int) -> None:
    upload = Upload("key", "id", size)
    assert 1 <= upload.part_count <= MAX_PARTS
    *most, last = (upload.size_of(n) for n in sorted({1, upload.part_count - 1, upload.part_count} - {0}))
    assert all(part == upload.part_size for part in most)
    assert 0 < last <= upload.part_size
    assert (upload.part_count - 1) * upload.part_size + last == size
    assert PART_BYTES <= upload.part_size <= 5 * 1024**3
    assert upload.part_size % MIB == 0
    # No larger than it has to be.
    assert upload.part_size == PART_BYTES or (upload.part_size - MIB) * MAX_PARTS < size


# Names.


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("film.mp4", "film.mp4"),
        ("Holiday (1) - final.MOV", "Holiday_(1)_-_final.MOV"),
        ("视频 第1集.mp4", "视频_第1集.mp4"),
        ("cafe\u0301.mkv", "café.mkv"),
        ("फ़िल्म.mp4", "फ़िल्म.mp4"),
        ("../../etc/passwd", "_.._.._etc_passwd"),
        ("..", "_.."),
        (".", "_."),
        (".mp4", "_.mp4"),
        ("a/b\\c.mp4", "a_b_c.mp4"),
        ("a\x00b\nc\x7f\u0085.mp4", "a_b_c__.mp4"),
        ("a\u202egpj.mp4", "a_gpj.mp4"),
        ("a?b#c%d&e+f=g:h*i<j>k|l\"m'n`o.mp4", "a_b_c_d_e_f_g_h_i_j_k_l_m_n_o.mp4"),
        ("🎬.mp4", "_.mp4"),
        (" ", "_"),
        ("x" * 251 + ".mp4", "x" * 196 + ".mp4"),
        ("视" * 251 + ".mp4", "视" * 65 + ".mp4"),
        ("a." + "x" * 253, "a." + "x" * 198),
    ],
)
def test_names_are_made_safe_and_keep_their_extension(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=255))
def test_any_name_makes_a_key_that_can_be_a_source(name: str) -> None:
    from transcoding.api.parameters import ORIGIN_URL

    upload = Upload(f"{'0' * 32}/{safe_name(name)}", "id", 1)
    assert Upload.of_id(upload.id) == upload
    last = upload.key.partition("/")[2]
    assert last.strip(".")
    assert "/" not in last
    assert len(last.encode()) <= 200
    url = f"s3://{UPLOADS}/{upload.key}"
    assert ORIGIN_URL.read(url) == url


@pytest.mark.parametrize("name", ["../../etc/passwd", "视频.mp4", "a\u0000b.mp4", "x" * 255])
def test_a_caller_writes_under_a_name_of_its_own_that_nobody_guesses(api: Api, name: str) -> None:
    urls = [begin(api, 1, name)["origin_url"] for _ in range(2)]
    assert urls[0] != urls[1]
    for url in urls:
        assert re.fullmatch(rf"s3://{UPLOADS}/[0-9a-f]{{32}}/[^/]+", url)


# What is refused.


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "name: is required without upload_id; size: is required without upload_id"),
        ({"name": "a.mp4"}, "size: is required without upload_id"),
        ({"size": 1, "name": None}, "name: is required without upload_id"),
        ({"name": "", "size": 1}, "name: must not be empty"),
        ({"name": 1, "size": 1}, "name: must be a string"),
        ({"name": "x" * 256, "size": 1}, "name: must have at most 255 characters"),
        ({"name": "a", "size": 0}, "size: must be a whole number of bytes, 1 or more"),
        ({"name": "a", "size": -1}, "size: must be a whole number of bytes, 1 or more"),
        ({"name": "a", "size": 1.5}, "size: must be a whole number of bytes, 1 or more"),
        ({"name": "a", "size": True}, "size: must be a whole number of bytes, 1 or more"),
        ({"name": "a", "size": "big"}, "size: must be a whole number of bytes, 1 or more"),
        ({"name": "a", "size": LIMIT + 1}, f"size: must be at most {LIMIT} bytes"),
        ({"name": "a", "size": 999_999_999_999_999}, f"size: must be at most {LIMIT} bytes"),
        ({"name": "a", "size": 1, "first_part": 0}, "first_part: must be a whole number from 1 to 10000"),
        ({"name": "a", "size": 1, "first_part": 10001}, "first_part: must be a whole number from 1 to 10000"),
        ({"upload_id": ""}, "upload_id: must not be empty"),
        ({"upload_id": 1}, "upload_id: must be a string"),
    ],
)
def test_uploads_are_refused_in_words(api: Api, fields: dict[str, Any], words: str) -> None:
    answer = api.post("create-upload", **fields)
    assert (answer.status, answer.json["msg"]) == (400, words)


def test_the_largest_file_is_taken(api: Api) -> None:
    assert len(begin(api, LIMIT)["urls"]) == -(-LIMIT // PART_BYTES)


GOOD = ["0" * 32 + "/film.mp4", "s3-id", 5]


@pytest.mark.parametrize(
    "upload_id",
    [
        "x",
        "視頻",
        "e30",
        "bnVsbA",
        forged(*GOOD),
        forged(*GOOD) + "=",
        forged(*GOOD)[:-2],
        f"{forged(*GOOD)}\n",
        forged("film.mp4", *GOOD[1:]),
        forged("0" * 31 + "/film.mp4", *GOOD[1:]),
        forged("../outputs/film.mp4", *GOOD[1:]),
        forged(GOOD[0] + "/../../film.mp4", *GOOD[1:]),
        forged(GOOD[0] + "\n", *GOOD[1:]),
        forged(1, *GOOD[1:]),
        forged(GOOD[0], "a b", 5),
        forged(GOOD[0], "", 5),
        forged(GOOD[0], None, 5),
        *(forged(*GOOD[:2], size) for size in (0, -1, 1.5, True, "5", None)),
        forged(*GOOD, 1),
        urlsafe_b64encode(b"[" * 100_000).decode()[:40_000],
    ],
)
def test_what_is_no_upload_is_not_found(api: Api, upload_id: str) -> None:
    etags = ["0" * 32]
    for answer in (
        api.post("create-upload", upload_id=upload_id),
        api.post("complete-upload", upload_id=upload_id, etags=etags),
    ):
        assert answer.json["errcode"] == 1404
        assert answer.json["msg"].startswith("no such upload")


def test_an_upload_that_was_removed_is_not_found(api: Api, aws: Aws) -> None:
    begun = begin(api, 5)
    etags = send_all(begun, os.urandom(5))
    key, s3_id, _ = opened(begun)
    aws.s3.abort_multipart_upload(Bucket=UPLOADS, Key=key, UploadId=s3_id)
    assert again(api, begun).status == 404
    assert api.post("complete-upload", upload_id=begun["upload_id"], etags=etags).status == 404


def test_an_object_of_another_size_is_no_upload_of_a_caller(api: Api, aws: Aws) -> None:
    aws.s3.put_object(Bucket=UPLOADS, Key=GOOD[0], Body=b"123456")
    assert api.post("complete-upload", upload_id=forged(*GOOD), etags=["0" * 32]).status == 404


def test_an_id_that_was_changed_to_a_larger_file_is_refused(api: Api) -> None:
    key, s3_id, _ = opened(begin(api, 5))
    larger = forged(key, s3_id, LIMIT + 1)
    assert api.post("create-upload", upload_id=larger).status == 400
    beyond = forged(key, s3_id, MAX_BYTES + 1)
    assert api.post("create-upload", upload_id=beyond).status == 404


def test_a_part_that_is_missing_or_another_one_is_named(api: Api, aws: Aws) -> None:
    begun, file = begin(api, 3 * PART_BYTES + 5), os.urandom(3 * PART_BYTES + 5)
    call = {"upload_id": begun["upload_id"]}
    answer = api.post("complete-upload", etags=["0" * 32], **call)
    assert (answer.status, answer.json["msg"]) == (400, "etags: must be 4, one for each part, are 1")
    first = send(begun["urls"][0], file[:PART_BYTES])
    third = send(begun["urls"][2], b"film")
    answer = api.post("complete-upload", etags=[first, first, third, first], **call)
    assert (answer.status, answer.json["msg"]) == (
        400,
        "etags: part 2, 4 was not sent; part 3 has another size than its URL was made for: send it again",
    )
    etags = send_all(begun, file)
    answer = api.post("complete-upload", etags=[etags[1], etags[0], *etags[2:]], **call)
    assert answer.status == 400
    assert answer.json["msg"].startswith("etags: part 1, 2 has another ETag")
    assert aws.s3.list_objects_v2(Bucket=UPLOADS)["KeyCount"] == 0
    assert api.post("complete-upload", etags=etags, **call).status == 200


def test_many_missing_parts_are_counted(api: Api) -> None:
    begun = begin(api, 25 * PART_BYTES)
    answer = api.post("complete-upload", upload_id=begun["upload_id"], etags=["0" * 32] * 25)
    assert answer.json["msg"] == "etags: part 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 15 more was not sent"


@pytest.mark.parametrize(
    ("etags", "words"),
    [
        (None, "etags: is required"),
        ([], "etags: must be a list of the parts' ETags"),
        ("0" * 32, "etags: must be a list of the parts' ETags"),
        ({"1": "0" * 32}, "etags: must be a list of the parts' ETags"),
        (["0" * 32, 1], "etags: that of part 2 must be 32 hexadecimal digits, as S3 answers them"),
        (["0" * 32, ""], "etags: that of part 2 must be 32 hexadecimal digits, as S3 answers them"),
        (["<Part/>"], "etags: that of part 1 must be 32 hexadecimal digits, as S3 answers them"),
        (["0" * 32] * (MAX_ETAGS + 1), "etags: must have at most 10000 ETags, has 10001"),
    ],
)
def test_etags_are_refused_in_words(api: Api, etags: Any, words: str) -> None:
    answer = api.post("complete-upload", upload_id=begin(api)["upload_id"], etags=etags)
    assert (answer.status, answer.json["msg"]) == (400, words)


def test_a_body_of_all_etags_is_taken(api: Api) -> None:
    begun = begin(api)
    body = json.dumps(
        {"upload_id": begun["upload_id"], "etags": ['"' + "0" * 32 + '"'] * MAX_ETAGS}, indent=2
    )
    assert len(body) > 400_000
    answer = api.post("complete-upload", body)
    assert answer.json["msg"] == "etags: must be 3, one for each part, are 10000"
    assert api.post("complete-upload", body + " " * 512 * 1024).json == {
        "errcode": 1413,
        "msg": "the body is larger than 524288 bytes",
    }


@pytest.mark.parametrize(
    "error",
    [
        EndpointConnectionError(endpoint_url="http://secret"),
        ClientError({"Error": {"Code": "SlowDown"}}, "x"),
    ],
    ids=["no connection", "SlowDown"],
)
def test_without_s3_calls_are_unavailable(
    api: Api, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    begun = begin(api)
    for function in ("create_upload", "complete_upload"):

        def fail(*_: object) -> None:
            raise error

        client = importlib.import_module(function).store._s3
        monkeypatch.setattr(client, "_make_api_call", fail)
    msg = "the upload bucket is not available; the call may be repeated"
    assert api.post("create-upload", name="a", size=1).json == {"errcode": 1503, "msg": msg}
    assert again(api, begun).json == {"errcode": 1503, "msg": msg}
    answer = api.post("complete-upload", upload_id=begun["upload_id"], etags=["0" * 32] * 3)
    assert answer.status == 503


def test_a_thousand_urls_fit_into_an_answer_of_lambda(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with a role's session token, which is in each of them."""
    create = importlib.import_module("create_upload")
    monkeypatch.setattr(create, "settings", replace(create.settings, max_source_bytes=10**12))
    signer = create.store._s3._request_signer
    monkeypatch.setattr(signer._credentials, "token", "/" * 1500)
    answer = api.post("create-upload", name="视" * 251 + ".mp4", size=1000 * PART_BYTES)
    assert len(answer.json["urls"]) == uploads.MAX_URLS == 1000
    assert "X-Amz-Security-Token" in answer.json["urls"][0]
    assert len(answer.text.encode()) < 6 * MIB
