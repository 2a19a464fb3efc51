"""Objects of S3 as files: what is written is what is stored, and nothing is stored of what was given up."""

from __future__ import annotations

import io
import threading
from contextlib import suppress
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import BUCKET, Aws

MIB = 1024 * 1024
TYPE = "video/mp4"


@pytest.fixture
def media(aws: Aws) -> Any:
    from transcoding.data.object_store import ObjectStore

    return ObjectStore(BUCKET)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make parts of 100 bytes, the second thousand of 200: the numbers of S3, 170,000 times smaller."""
    from moto.s3 import models

    from transcoding.data import streams

    monkeypatch.setattr(streams, "_PART_BYTES", 100)
    monkeypatch.setattr(streams, "_GROWTH", 3)
    monkeypatch.setattr(models, "S3_UPLOAD_PART_MIN_SIZE", 100, raising=False)
    monkeypatch.setenv("S3_UPLOAD_PART_MIN_SIZE", "100")


def stored(aws: Aws, key: str) -> bytes:
    return aws.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()


def unfinished(aws: Aws) -> list[Any]:
    return aws.s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])


def test_a_small_object_is_stored_when_the_block_ends(aws: Aws, media: Any) -> None:
    with media.writing("a", TYPE, 10) as file:
        file.write(b"hello")
        assert aws.keys() == []
    answer = aws.s3.get_object(Bucket=BUCKET, Key="a")
    assert answer["Body"].read() == b"hello"
    assert answer["ContentType"] == TYPE
    assert answer["CacheControl"] == "public, max-age=31536000, immutable"


def test_a_large_object_goes_in_parts_and_its_head_is_amended_at_the_end(aws: Aws, media: Any) -> None:
    block = bytes(range(256)) * 4096
    with media.writing("a", TYPE, 20 * MIB) as file:
        for _ in range(57):
            file.write(block)
        end = file.tell()
        file.seek(19 * MIB)
        file.write(b"amended")
        file.seek(end)
        file.write(b"end")
    expected = bytearray(block * 57 + b"end")
    expected[19 * MIB : 19 * MIB + 7] = b"amended"
    assert stored(aws, "a") == expected
    head = aws.s3.head_object(Bucket=BUCKET, Key="a")
    assert head["ETag"].strip('"').endswith("-4")
    assert (head["ContentType"], head["CacheControl"]) == (TYPE, "public, max-age=31536000, immutable")


def test_parts_grow(aws: Aws, media: Any, small_parts: None) -> None:
    data = bytes(range(250)) * 8
    with media.writing("a", TYPE, 10) as file:
        for at in range(0, len(data), 7):
            file.write(data[at : at + 7])
    assert stored(aws, "a") == data
    parts = [
        aws.s3.head_object(Bucket=BUCKET, Key="a", PartNumber=number)["ContentLength"]
        for number in range(1, 8)
    ]
    assert parts == [100, 100, 100, 100, 200, 200, 200]


@pytest.mark.parametrize("sent", [False, True])
def test_nothing_is_left_of_what_was_given_up(aws: Aws, media: Any, small_parts: None, sent: bool) -> None:
    def give_up() -> None:
        with media.writing("a", TYPE, 10) as file:
            file.write(bytes(1000 if sent else 50))
            assert bool(unfinished(aws)) == sent
            raise KeyError

    threads = set(threading.enumerate())
    with pytest.raises(KeyError):
        give_up()
    assert aws.keys() == []
    assert unfinished(aws) == []
    assert set(threading.enumerate()) <= threads


def test_what_fails_in_a_part_is_raised_and_nothing_is_left(aws: Aws, media: Any, small_parts: None) -> None:
    def write() -> None:
        with media.writing("a", TYPE, 10) as file:
            file.write(bytes(250))
            aws.s3.delete_bucket(Bucket=BUCKET)
            for _ in range(100):
                file.write(bytes(100))

    threads = set(threading.enumerate())
    with pytest.raises(ClientError, match="NoSuchBucket"):
        write()
    assert set(threading.enumerate()) <= threads


def test_what_was_sent_cannot_be_amended(aws: Aws, media: Any, small_parts: None) -> None:
    with media.writing("a", TYPE, 150) as file:
        file.write(bytes(400))
        for place in (151, 399, 401):
            with pytest.raises(io.UnsupportedOperation):
                file.seek(place)
        with pytest.raises(ValueError):
            file.seek(-1)
        file.seek(149)
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"xy")
        file.write(b"x")
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"y")
        assert file.seek(0, io.SEEK_END) == 400
    assert stored(aws, "a") == bytes(149) + b"x" + bytes(250)
    with pytest.raises(ValueError):
        file.write(b"late")


_operations = st.lists(
    st.one_of(
        st.binary(max_size=120),
        st.tuples(st.integers(0, 130), st.sampled_from([io.SEEK_SET, io.SEEK_CUR])),
        st.just((0, io.SEEK_END)),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=_operations)
def test_what_is_not_refused_is_as_in_memory(
    aws: Aws, media: Any, small_parts: None, operations: list[Any]
) -> None:
    memory = io.BytesIO()
    with media.writing("a", TYPE, 120) as file:
        for operation in operations:
            with suppress(io.UnsupportedOperation):
                if isinstance(operation, bytes):
                    file.write(operation)
                    memory.write(operation)
                else:
                    assert file.seek(*operation) == memory.seek(*operation)
            memory.seek(file.tell())
    assert stored(aws, "a") == memory.getvalue()


def test_objects_are_read_one_after_the_other(aws: Aws, media: Any) -> None:
    from transcoding.data.streams import StoredObject

    bodies = [b"init", b"", bytes(range(256)) * 40_000, *(b"%d" % number for number in range(30))]
    for number, body in enumerate(bodies):
        aws.s3.put_object(Bucket=BUCKET, Key=f"{number}", Body=body)
    threads = set(threading.enumerate())
    with media.reading([StoredObject(f"{n}", len(body)) for n, body in enumerate(bodies)]) as reader:
        read = b"".join(iter(lambda: reader.read(100_000), b""))
        assert reader.read(1) == b""
    assert read == b"".join(bodies)
    assert set(threading.enumerate()) <= threads


def test_a_missing_object_is_told(aws: Aws, media: Any) -> None:
    from transcoding.data.streams import StoredObject

    aws.put_object("there")
    with media.reading([StoredObject("there", 1), StoredObject("gone", 5)]) as reader:
        assert reader.read(10) == b"x"
        with pytest.raises(ClientError, match="NoSuchKey"):
            reader.read(10)
