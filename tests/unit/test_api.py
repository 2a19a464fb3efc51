"""Each call of the contract, through its handler, with the events that API Gateway sends."""

from __future__ import annotations

import importlib
import json
import re
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

from tests.conftest import BUCKET, FUNCTIONS, OUTPUT, TABLE, Api, Aws, Clock, api_event, lambda_context
from transcoding.data.task_table import TaskTable
from transcoding.errors import Failure
from transcoding.media.planning.formats import FORMATS
from transcoding.model import OutputRendition

LEASE = timedelta(seconds=60)
#: The fields of a task in the reference, with their types.
TASK_FIELDS = {
    "id": str,
    "created_at": str,
    "updated_at": str,
    "task_config_temp_id": int,
    "origin_url": str,
    "target_url": str,
    "format": str,
    "status": int,
    "progress": float,
    "error_code": int,
    "error_info": str,
}


def types(fields: dict[str, Any]) -> dict[str, type]:
    return {name: type(value) for name, value in fields.items()}


# The shape of the five answers.


def test_create_answers_as_the_reference_says(api: Api) -> None:
    answer = api.post("create-transcode", origin_url="s3://bucket/video.mp4").json
    assert types(answer) == {"errcode": int, "msg": str, "id": str}
    assert (answer["errcode"], answer["msg"]) == (1000, "OK")
    assert re.fullmatch("[0-9a-z]{8}", answer["id"])


def test_get_answers_as_the_reference_says(api: Api) -> None:
    id_ = api.create()
    answer = api.get("get-transcode", id=id_).json
    assert types(answer) == {"errcode": int, "msg": str, "transcoding": dict}
    assert types(answer["transcoding"]) == TASK_FIELDS | {"output": type(None)}
    assert answer["transcoding"] == {
        "id": id_,
        "created_at": "2026-11-22T23:16:17+08:00",
        "updated_at": "2026-11-22T23:16:17+08:00",
        "task_config_temp_id": 5,
        "origin_url": "s3://bucket/video.mp4",
        "target_url": "",
        "format": "m3u8",
        "status": 0,
        "progress": 0.0,
        "error_code": 0,
        "error_info": "",
        "output": None,
    }


def test_list_answers_as_the_reference_says(api: Api) -> None:
    id_ = api.create()
    answer = api.get("get-transcodes").json
    assert types(answer) == {"errcode": int, "msg": str, "results": list, "count": int}
    shown = api.get("get-transcode", id=id_).json["transcoding"]
    del shown["output"]
    assert answer["results"] == [shown]
    assert answer["count"] == 1


@pytest.mark.parametrize(("call", "field"), [("delete-transcode", "id"), ("delete-transcodes", "ids")])
def test_deletes_answer_as_the_reference_says(api: Api, call: str, field: str) -> None:
    assert api.post(call, **{field: api.create()}).json == {"errcode": 1000, "msg": "OK"}


# create-transcode


def test_create_queues_the_task(api: Api, aws: Aws) -> None:
    id_ = api.create()
    assert aws.take_messages() == [{"task_id": id_, "step": "transcode"}]
    assert api.get("get-transcode", id=id_).json["transcoding"]["status"] == 0
    assert float(aws.item(id_)["attention_at"]["N"]) == 1795360577.0 + 300


def test_create_is_one_write_after_its_message(api: Api, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    function, done = importlib.import_module("create_transcode"), list[str]()
    for client in (function.table._connection.client, function.queue._sqs):
        call = client._make_api_call

        def watch(operation: str, arguments: Any, call: Any = call) -> Any:
            done.append(operation)
            return call(operation, arguments)

        monkeypatch.setattr(client, "_make_api_call", watch)
    api.create()
    assert done == ["SendMessage", "TransactWriteItems"]
    done.clear()
    for _ in range(2):
        api.post("create-transcode", origin_url="s3://bucket/a", headers={"Idempotency-Key": "key"})
    assert done == ["GetItem", "SendMessage", "TransactWriteItems", "GetItem", "GetItem"]


@pytest.mark.parametrize("value", [3, "3", 3.0])
def test_quality_is_taken_as_a_whole_number_in_any_spelling(api: Api, value: object) -> None:
    id_ = api.create(task_config_temp_id=value)
    assert api.get("get-transcode", id=id_).json["transcoding"]["task_config_temp_id"] == 3


@pytest.mark.parametrize(
    "value",
    [0, 7, -1, "0", "7", "", " 3", "3.0", "three", 2.5, True, False, [3], {"a": 3}, "٣", "3\n", 10**30],
)
def test_quality_is_refused_in_words(api: Api, value: object) -> None:
    answer = api.post("create-transcode", origin_url="s3://bucket/v.mp4", task_config_temp_id=value)
    assert answer.status == 400
    assert answer.json["msg"] == "task_config_temp_id: must be a whole number from 1 to 6"


@pytest.mark.parametrize(
    ("fields", "stored"),
    [
        ({}, ("", False)),
        ({"codec": "h264"}, ("", False)),
        ({"codec": None, "thumbnails": None}, ("", False)),
        ({"thumbnails": True}, ("", True)),
        ({"task_config_temp_id": 6}, ("", True)),
        ({"task_config_temp_id": "6", "format": "mpd", "thumbnails": False}, ("", False)),
        ({"format": "webm", "codec": "vp9"}, ("", False)),
    ],
)
def test_codec_and_thumbnails_have_defaults(api, aws, fields, stored):
    item = aws.item(api.create(**fields))
    assert (item.get("codecs", {"S": ""})["S"], "thumbnails" in item) == stored


def test_a_callback_url_is_stored_and_not_shown(api, aws):
    url = "https://hooks.example.com:8443/done?token=1"
    id_ = api.create(callback_url=url)
    assert aws.item(id_)["callback_url"] == {"S": url}
    assert "callback_url" not in api.get("get-transcode", id=id_).json["transcoding"]
    assert "callback_url" not in aws.item(api.create(callback_url=None))


@pytest.mark.parametrize(
    ("url", "msg"),
    [
        ("s3://bucket/key", "callback_url: must start with http:// or https://"),
        ("", "callback_url: must not be empty"),
        (1, "callback_url: must be a string"),
        ("https://example.com/" + "x" * 2048, "callback_url: must have at most 2048 characters"),
        ("https://user:password@example.com/", "callback_url: must not have a user name or password in it"),
        ("http://localhost:3000/", "callback_url: must be on the public Internet"),
        ("http://LOCALHOST/", "callback_url: must be on the public Internet"),
        ("http://127.0.0.1/", "callback_url: must be on the public Internet"),
        *(
            (f"http://{host}/", "callback_url: must be on the public Internet")
            for host in (
                *("2130706433", "0x7f.1", "127.1", "017700000001", "0xA9FEA9FE", "10.1"),
                *("localhost.", "a.localhost", "169.254.169.254."),
            )
        ),
        ("http://10.0.0.1:8080/done", "callback_url: must be on the public Internet"),
        ("http://169.254.169.254/latest/meta-data/", "callback_url: must be on the public Internet"),
    ],
)
def test_callback_urls_that_are_refused(api, aws, url, msg):
    answer = api.post("create-transcode", origin_url="s3://bucket/video.mp4", callback_url=url)
    assert (answer.status, answer.json["msg"]) == (400, msg)
    assert aws.items() == []


def test_a_callback_url_is_part_of_what_a_key_stands_for(api):
    key = {"Idempotency-Key": "key"}

    def create(**fields: str):
        body = json.dumps({"origin_url": "s3://bucket/video.mp4"} | fields)
        return api.post("create-transcode", body, headers=key).status

    assert create(callback_url="https://example.com/1") == 200
    assert create(callback_url="https://example.com/1") == 200
    assert create(callback_url="https://example.com/2") == 400
    assert create() == 400


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        (
            {"task_config_temp_id": 6, "format": "mp4"},
            "task_config_temp_id: 6 (adaptive) needs one of the formats m3u8, mpd",
        ),
        ({"format": "ts", "codec": "vp9"}, "codec: must be one of h264 for ts"),
        ({"format": "mp3", "codec": "h264"}, "codec: has no choice for mp3"),
        ({"format": "gif", "codec": "h264"}, "codec: has no choice for gif"),
        ({"codec": "h264,h264"}, "codec: must not name a codec twice"),
        ({"codec": "H264"}, "codec: must be one of "),
        ({"codec": ""}, "codec: must be one of "),
        ({"codec": ["h264"]}, "codec: must be one of "),
        ({"codec": "h264,vp9,h264"}, "codec: must be one of "),
        ({"thumbnails": "true"}, "thumbnails: must be true or false"),
        ({"thumbnails": 1}, "thumbnails: must be true or false"),
        (
            {"task_config_temp_id": 6, "format": "webm", "codec": "h264"},
            "task_config_temp_id: 6 (adaptive) needs one of the formats m3u8, mpd; codec: must be one of vp9",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_in_words(api, aws, fields, refusal):
    answer = api.post("create-transcode", origin_url="s3://bucket/v.mp4", **fields)
    assert answer.status == 400
    assert answer.json["msg"].startswith(refusal)
    assert aws.items() == []


def test_null_is_the_default(api: Api) -> None:
    task = api.get("get-transcode", id=api.create(task_config_temp_id=None, format=None)).json["transcoding"]
    assert (task["task_config_temp_id"], task["format"]) == (5, "m3u8")


def test_mp4_is_a_format(api: Api) -> None:
    assert api.get("get-transcode", id=api.create(format="mp4")).json["transcoding"]["format"] == "mp4"


@pytest.mark.parametrize("value", ["avi", "", "M3U8", 1, ["m3u8"], {}])
def test_unknown_formats_are_refused_with_the_known_ones(api: Api, value: object) -> None:
    answer = api.post("create-transcode", origin_url="s3://bucket/v.mp4", format=value)
    assert answer.status == 400
    assert answer.json["msg"] == f"format: must be one of {', '.join(FORMATS)}"


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/key",
        "s3://my.bucket-1/a/b c/视频.mp4",
        "s3://bucket//",
        "http://example.com",
        "http://example.com/",
        "https://example.com:8443/a%20b.mp4?x=1&y=http://z@w#t",
        "https://xn--fiq228c.example/视频.mp4",
        "http://192.0.2.1/v.mp4",
        "https://example.com/" + "a" * (2048 - 20),
    ],
)
def test_sources_are_taken_as_they_are(api: Api, url: str) -> None:
    assert api.get("get-transcode", id=api.create(origin_url=url)).json["transcoding"]["origin_url"] == url


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (None, "is required"),
        ("", "must not be empty"),
        (1, "must be a string"),
        (["s3://bucket/key"], "must be a string"),
        ("video.mp4", "must start with s3://"),
        ("ftp://example.com/v.mp4", "must start with s3://"),
        ("file:///etc/passwd", "must start with s3://"),
        ("s3://bucket", "must be s3://bucket/key"),
        ("s3://bucket/", "must be s3://bucket/key"),
        ("s3:///key", "must be s3://bucket/key"),
        ("s3://UPPER_case/key", "must be s3://bucket/key"),
        ("s3://ab/key", "must be s3://bucket/key"),
        ("s3://bucket/a\nb", "control characters"),
        ("s3://bucket/key\n", "control characters"),
        ("http:///v.mp4", "must have a host name"),
        ("http://", "must have a host name"),
        ("http://?x", "must have a host name"),
        ("https://example.com:99999/v.mp4", "must have a host name"),
        ("https://exa mple.com/v.mp4", "must not have spaces"),
        ("https://example.com/a b.mp4", "must not have spaces"),
        ("https://example.com/\u0085", "control characters"),
        ("https://user:secret@example.com/v.mp4", "user name or password"),
        ("https://user@example.com", "user name or password"),
        ("http://a\\@example.com/", "user name or password"),
        ("https://example.com/" + "a" * (2049 - 20), "at most 2048"),
    ],
)
def test_sources_that_cannot_be_one_are_refused_in_words(api: Api, aws: Aws, url: object, words: str) -> None:
    answer = api.post("create-transcode", origin_url=url)
    assert answer.status == 400
    assert answer.json["msg"].startswith("origin_url: ")
    assert words in answer.json["msg"]
    assert "secret" not in answer.json["msg"]
    assert aws.items() == []


def test_all_that_is_wrong_is_said_at_once(api: Api) -> None:
    answer = api.post("create-transcode", task_config_temp_id=7, format="avi")
    assert answer.json["msg"] == (
        "origin_url: is required; task_config_temp_id: must be a whole number from 1 to 6; "
        f"format: must be one of {', '.join(FORMATS)}"
    )


def test_unknown_fields_are_passed_over(api: Api) -> None:
    api.create(callback="https://example.com", nested={"a": [1, None]})


# Bodies

BODY_REFUSALS: list[tuple[str | bytes, int, str]] = [
    ("", 400, "the body is empty"),
    (" \n", 400, "the body is empty"),
    (b"", 400, "the body is empty"),
    ("{", 400, "the body is not JSON"),
    ("origin_url=s3://bucket/key", 400, "the body is not JSON"),
    ('{"origin_url": "s3://bucket/key",}', 400, "the body is not JSON"),
    ('{"origin_url": "s3://bucket/key"} x', 400, "the body is not JSON"),
    ('\ufeff{"origin_url": "s3://bucket/key"}', 400, "the body is not JSON"),
    ('{"a": NaN}', 400, "the body is not JSON"),
    ('{"a": -Infinity}', 400, "the body is not JSON"),
    ('{"a": ' + "1" * 5000 + "}", 400, "the body is not JSON"),
    ("null", 400, "the body is not a JSON object"),
    ("[]", 400, "the body is not a JSON object"),
    ('"text"', 400, "the body is not a JSON object"),
    ("0", 400, "the body is not a JSON object"),
    ("false", 400, "the body is not a JSON object"),
    ("{}", 400, "is required"),
    ('{"id": "a", "ids": "a", "origin_url": "s3://b/k", "id": "b"}', 400, "the body names a field twice"),
    ('{"x": {"a": 1, "a": 1}}', 400, "the body names a field twice"),
    ('{"x": "\\ud800"}', 400, "the body is not valid Unicode"),
    ('{"x": "\ud800"}', 400, "the body is not valid Unicode"),
    (b'{"x": "\xff"}', 400, "the body is not valid Unicode"),
    ("[" * 30_000, 400, "the body is nested too deeply"),
    ('{"x": ' * 8_000, 400, "the body is nested too deeply"),
    ('{"x": "' + "y" * 200 * 1024 + '"}', 413, "the body is larger than 65536 bytes"),
    (b'{"x": "' + b"y" * 200 * 1024 + b'"}', 413, "the body is larger than 65536 bytes"),
    ('{"x": "' + "视" * 22 * 1024 + '"}', 413, "the body is larger than 65536 bytes"),
]


@pytest.mark.parametrize(
    "call", ["create-transcode", "delete-transcode", "delete-transcodes", "create-upload"]
)
@pytest.mark.parametrize(("body", "status", "words"), BODY_REFUSALS, ids=range(len(BODY_REFUSALS)))
def test_bodies_are_refused_in_words(api: Api, call: str, body: str | bytes, status: int, words: str) -> None:
    answer = api.post(call, body)
    assert answer.status == status
    assert words in answer.json["msg"]


def test_a_body_that_is_absent_is_empty(api: Api) -> None:
    answer = api.call("create_transcode", api_event("POST", "/transcoding/api/create-transcode"))
    assert answer.json == {"errcode": 1400, "msg": "the body is empty; it must be a JSON object"}


def test_a_body_of_64_kib_is_taken(api: Api) -> None:
    start, end = '{"origin_url": "s3://bucket/key", "x": "', '"}'
    body = start + "y" * (65536 - len(start) - len(end)) + end
    assert api.post("create-transcode", body).status == 200
    assert api.post("create-transcode", body + " ").status == 413


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain", ""],
)
@pytest.mark.parametrize("name", ["Content-Type", "content-type"])
def test_any_content_type_is_read_as_json(api: Api, name: str, content_type: str) -> None:
    event = api_event(
        "POST",
        "/transcoding/api/create-transcode",
        body='{"origin_url": "s3://bucket/key"}',
        headers={name: content_type},
    )
    assert api.call("create_transcode", event).status == 200


def test_binary_bodies_are_decoded(api: Api) -> None:
    answer = api.post("create-transcode", '{"origin_url": "s3://bucket/视频.mp4"}'.encode())
    assert answer.status == 200
    shown = api.get("get-transcode", id=answer.json["id"])
    assert '"s3://bucket/视频.mp4"' in shown.text


def test_an_event_without_headers_is_answered(api: Api) -> None:
    event = api_event("POST", "/transcoding/api/create-transcode", body='{"origin_url": "s3://bucket/key"}')
    event["headers"] = event["multiValueHeaders"] = None
    assert api.call("create_transcode", event).status == 200


# Idempotency-Key


@pytest.mark.parametrize("name", ["Idempotency-Key", "idempotency-key"])
def test_the_same_key_gives_the_same_task(api: Api, aws: Aws, name: str) -> None:
    ids = {
        api.post("create-transcode", origin_url="s3://bucket/a", headers={name: "key 1"}).json["id"]
        for _ in range(3)
    }
    assert len(ids) == 1
    assert len(aws.take_messages()) == 1
    assert api.get("get-transcodes").json["count"] == 1
    assert (
        api.post("create-transcode", origin_url="s3://bucket/a", headers={name: "key 2"}).json["id"]
        not in ids
    )


def test_the_same_key_with_other_parameters_is_refused(api: Api) -> None:
    headers = {"Idempotency-Key": "key"}
    first = api.post("create-transcode", origin_url="s3://bucket/a", headers=headers).json["id"]
    answer = api.post("create-transcode", origin_url="s3://bucket/b", headers=headers)
    assert answer.status == 400
    assert "Idempotency-Key" in answer.json["msg"]
    # A default that is spelled out is the same parameter.
    same = api.post("create-transcode", origin_url="s3://bucket/a", task_config_temp_id="5", headers=headers)
    assert same.json["id"] == first


def test_a_key_is_forgotten_after_a_day(api: Api, clock: Clock) -> None:
    headers = {"Idempotency-Key": "key"}
    first = api.post("create-transcode", origin_url="s3://bucket/a", headers=headers).json["id"]
    clock.advance(24 * 3600 - 1)
    assert api.post("create-transcode", origin_url="s3://bucket/a", headers=headers).json["id"] == first
    clock.advance(1)
    assert api.post("create-transcode", origin_url="s3://bucket/b", headers=headers).json["id"] != first


def test_a_key_of_a_deleted_task_still_gives_that_task(api: Api) -> None:
    headers = {"Idempotency-Key": "key"}
    first = api.post("create-transcode", origin_url="s3://bucket/a", headers=headers).json["id"]
    api.post("delete-transcode", id=first)
    assert api.post("create-transcode", origin_url="s3://bucket/a", headers=headers).json["id"] == first


@pytest.mark.parametrize(
    ("key", "status"), [("k" * 255, 200), ("k" * 256, 400), ("", 400), ("é", 400), ("\ud800", 400)]
)
def test_keys_have_1_to_255_characters(api: Api, key: str, status: int) -> None:
    answer = api.post("create-transcode", origin_url="s3://bucket/a", headers={"Idempotency-Key": key})
    assert answer.status == status
    assert status == 200 or answer.json["msg"].lower().startswith("idempotency-key: must have 1 to 255")


# get-transcodes


def test_the_list_is_newest_first_in_pages_of_15(api: Api, clock: Clock) -> None:
    ids = []
    for _ in range(20):
        ids.append(api.create())
        clock.advance(60)
    ids.reverse()
    first, second, third = (api.get("get-transcodes", page=str(n)).json for n in (1, 2, 3))
    assert [task["id"] for task in first["results"]] == ids[:15]
    assert [task["id"] for task in second["results"]] == ids[15:]
    assert third["results"] == []
    assert first["count"] == second["count"] == third["count"] == 20
    assert api.get("get-transcodes").json == first
    assert [t["id"] for t in api.get("get-transcodes", page="2", limit="3").json["results"]] == ids[3:6]


def test_an_empty_list_is_a_list(api: Api) -> None:
    assert api.get("get-transcodes").json == {"errcode": 1000, "msg": "OK", "results": [], "count": 0}


@pytest.mark.parametrize("page", ["2", "99999999999999999999", "9" * 1000])
def test_a_page_far_past_the_end_is_empty(api: Api, page: str) -> None:
    api.create()
    answer = api.get("get-transcodes", page=page, limit="100").json
    assert (answer["results"], answer["count"]) == ([], 1)


@pytest.mark.parametrize("page", ["0", "-1", "", "one", "1.0", "1e3", " 1", "+1", "1,2", "null", "\ud800"])
def test_pages_are_refused_in_words(api: Api, page: str) -> None:
    assert api.get("get-transcodes", page=page).json == {
        "errcode": 1400,
        "msg": "page: must be a whole number, 1 or more",
    }


@pytest.mark.parametrize("limit", ["0", "101", "-1", "", "x", "15.0", "1000"])
def test_limits_are_refused_in_words(api: Api, limit: str) -> None:
    assert api.get("get-transcodes", limit=limit).json == {
        "errcode": 1400,
        "msg": "limit: must be a whole number from 1 to 100",
    }


@pytest.mark.parametrize("limit", ["1", "100"])
def test_limits_reach_from_1_to_100(api: Api, limit: str) -> None:
    assert api.get("get-transcodes", limit=limit).status == 200


def test_a_repeated_parameter_does_not_break_it(api: Api) -> None:
    event = api_event("GET", "/transcoding/api/get-transcodes", query={"page": "2"})
    event["multiValueQueryStringParameters"] = {"page": ["1", "2"]}
    assert api.call("get_transcodes", event).status in {200, 400}


# get-transcode


@pytest.mark.parametrize("query", [{}, {"id": ""}])
def test_an_id_is_required(api: Api, query: dict[str, str]) -> None:
    answer = api.get("get-transcode", **query)
    assert answer.status == 400
    assert answer.json["msg"].startswith("id: ")


@pytest.mark.parametrize(
    "id_",
    [
        "zzzzzzzz",
        "short",
        "UPPERCAS",
        "aaaaaaaaa",
        " ",
        "aaaaaaa\n",
        "视频视频视频视频",
        "\ud800",
        "a,b",
        "count#2026-11",
    ],
)
def test_an_id_that_never_was_is_not_found(api: Api, id_: str) -> None:
    api.create()
    assert api.get("get-transcode", id=id_).status == 404
    assert api.post("delete-transcode", id=id_).status == (400 if id_ == "\ud800" else 404)


def test_times_are_in_the_zone_of_the_stack(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoneinfo import ZoneInfo

    function = importlib.import_module("get_transcode")
    id_ = api.create()
    settings = replace(function.settings, timezone=ZoneInfo("America/St_Johns"))
    monkeypatch.setattr(function, "settings", settings)
    assert api.get("get-transcode", id=id_).json["transcoding"]["created_at"] == "2026-11-22T11:46:17-03:30"


def test_a_task_is_shown_as_its_worker_left_it(api: Api, table: TaskTable, clock: Clock) -> None:
    id_ = api.create()
    table.claim(id_, "worker", LEASE)
    clock.advance(2)
    table.heartbeat(id_, "worker", 0.25, LEASE)
    running = api.get("get-transcode", id=id_).json["transcoding"]
    assert (running["status"], running["progress"], running["target_url"]) == (1, 0.25, "")
    assert running["updated_at"] == "2026-11-22T23:16:19+08:00"
    table.succeed(id_, "worker", f"outputs/{id_}/1/a.m3u8", OUTPUT)
    done = api.get("get-transcode", id=id_).json["transcoding"]
    assert (done["status"], done["progress"]) == (2, 1.0)
    assert done["target_url"] == f"https://media.example.com/outputs/{id_}/1/a.m3u8"


def test_a_succeeded_task_tells_what_came_out_but_not_in_the_list(api: Api, table: TaskTable) -> None:
    id_ = api.create()
    table.claim(id_, "worker", LEASE)
    sound = OutputRendition("mp4a.40.2", 128_000, 131_000)
    made = replace(
        OUTPUT,
        renditions=(*OUTPUT.renditions, sound),
        poster=f"outputs/{id_}/1/poster.jpg",
        thumbnails=f"outputs/{id_}/1/thumbnails/thumbnails.vtt",
    )
    table.succeed(id_, "worker", f"outputs/{id_}/1/a.m3u8", made)
    base = f"https://media.example.com/outputs/{id_}/1"
    assert api.get("get-transcode", id=id_).json["transcoding"]["output"] == {
        "duration": 60.0,
        "bytes": 14_600_000,
        "renditions": [
            {
                "width": 1280,
                "height": 720,
                "frame_rate": 25.0,
                "codec": "avc1.64001f",
                "bit_rate": 1_800_000,
                "peak_bit_rate": 2_900_000,
            },
            {"codec": "mp4a.40.2", "bit_rate": 128_000, "peak_bit_rate": 131_000},
        ],
        "poster_url": f"{base}/poster.jpg",
        "thumbnails_url": f"{base}/thumbnails/thumbnails.vtt",
    }
    assert all("output" not in task for task in api.get("get-transcodes").json["results"])
    api.post("delete-transcode", id=id_)
    assert api.get("get-transcode", id=id_).json["transcoding"]["output"] is None


def test_results_are_under_the_url_that_is_served_now(
    api: Api, table: TaskTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those of before a new distribution; those that version 0.1.0 has stored keep their URL."""
    keys = ["outputs/a/1/a.m3u8", "https://old.example.com/outputs/b/1/b.m3u8"]
    for key in keys:
        id_ = api.create()
        table.claim(id_, "worker", LEASE)
        table.succeed(id_, "worker", key, OUTPUT)
    api.create()
    for name in ("get_transcode", "get_transcodes"):
        function = importlib.import_module(name)
        served = replace(function.settings, output_base_url="https://new.example.com")
        monkeypatch.setattr(function, "settings", served)
    shown = {task["id"]: task["target_url"] for task in api.get("get-transcodes").json["results"]}
    assert set(shown.values()) == {"", keys[1], f"https://new.example.com/{keys[0]}"}
    for id_, url in shown.items():
        assert api.get("get-transcode", id=id_).json["transcoding"]["target_url"] == url


def test_a_failed_task_says_why(api: Api, table: TaskTable) -> None:
    id_ = api.create()
    table.claim(id_, "worker", LEASE)
    table.fail(id_, "worker", Failure.NOT_MEDIA, "The source is not a video: 不是视频")
    failed = api.get("get-transcode", id=id_)
    assert failed.json["transcoding"]["status"] == 3
    assert failed.json["transcoding"]["error_code"] == 2001
    assert "不是视频" in failed.text


# Deleting


def test_a_deleted_task_leaves_the_list_and_is_shown_until_its_time_is_over(api: Api, clock: Clock) -> None:
    id_ = api.create()
    api.post("delete-transcode", id=id_)
    assert api.get("get-transcodes").json["count"] == 0
    assert api.get("get-transcode", id=id_).json["transcoding"]["status"] == 4
    clock.advance(30 * 86400 - 1)
    assert api.get("get-transcode", id=id_).json["transcoding"]["status"] == 4
    clock.advance(1)
    # DynamoDB has not removed the item yet.
    assert api.get("get-transcode", id=id_).status == 404
    assert api.post("delete-transcode", id=id_).status == 404


def test_a_deleted_task_has_no_result(api: Api, table: TaskTable, aws: Aws) -> None:
    id_ = api.create()
    table.claim(id_, "worker", LEASE)
    table.succeed(id_, "worker", "https://media.example.com/a.m3u8", OUTPUT)
    for key in (f"outputs/{id_}/1/master.m3u8", f"work/{id_}/source", "outputs/other000/1/master.m3u8"):
        aws.put_object(key)
    assert api.post("delete-transcode", id=id_).status == 200
    assert aws.keys() == ["outputs/other000/1/master.m3u8"]
    shown = api.get("get-transcode", id=id_).json["transcoding"]
    assert (shown["status"], shown["target_url"], shown["progress"]) == (4, "", 0.0)


def test_deleting_twice_is_well(api: Api) -> None:
    id_ = api.create()
    other = api.create()
    assert api.post("delete-transcode", id=id_).status == 200
    assert api.post("delete-transcode", id=id_).status == 200
    assert api.post("delete-transcodes", ids=f"{id_},{other}").status == 200
    assert api.get("get-transcodes").json["count"] == 0


@pytest.mark.parametrize(
    ("fields", "msg"),
    [
        ({}, "id: is required"),
        ({"id": None}, "id: is required"),
        ({"id": ""}, "id: must not be empty"),
        ({"id": 12345678}, "id: must be a string"),
        ({"id": ["a"]}, "id: must be a string"),
    ],
)
def test_ids_to_delete_are_refused_in_words(api: Api, fields: dict[str, Any], msg: str) -> None:
    assert api.post("delete-transcode", "{}" if not fields else None, **fields).json["msg"] == msg


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (None, "ids: is required"),
        ("", "ids: must have at least one id"),
        (" , ,,\n", "ids: must have at least one id"),
        (1, "ids: must be a string of ids separated by commas"),
        (["aaaaaaaa"], "ids: must be a string of ids separated by commas"),
        (",".join(f"{n:08}" for n in range(101)), "ids: must have at most 100 different ids, has 101"),
    ],
)
def test_batches_are_refused_in_words(api: Api, ids: object, words: str) -> None:
    answer = api.post("delete-transcodes", ids=ids)
    assert answer.status == 400
    assert answer.json["msg"] == words


def test_a_batch_deletes_all_that_exist_and_names_the_others(api: Api, aws: Aws) -> None:
    kept, *ids = (api.create() for _ in range(4))
    for id_ in ids:
        aws.put_object(f"outputs/{id_}/1/video.mp4")
    answer = api.post(
        "delete-transcodes", ids=f" {ids[0]},{ids[1]},,zzzzzzzz ,{ids[0]}\n,{ids[2]},not-an-id,"
    )
    assert answer.json == {"errcode": 1404, "msg": "no such task: zzzzzzzz, not-an-id"}
    assert aws.keys() == []
    assert [task["id"] for task in api.get("get-transcodes").json["results"]] == [kept]


def test_a_batch_may_have_100_ids_and_repeat_them(api: Api) -> None:
    ids = [api.create(), *(f"{n:08}" for n in range(99))]
    answer = api.post("delete-transcodes", ids=", ".join(ids * 2))
    assert answer.json == {"errcode": 1404, "msg": f"no such task: {', '.join(ids[1:])}"}
    assert api.get("get-transcodes").json["count"] == 0


def test_deleting_works_where_objects_cannot_be_removed(api: Api, aws: Aws) -> None:
    id_ = api.create()
    aws.s3.delete_bucket(Bucket=BUCKET)
    assert api.post("delete-transcode", id=id_).status == 200
    assert aws.item(id_)["attention"] == {"S": "1"}


# What goes wrong elsewhere


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("PUT", None), ("GET", "/transcoding/api/视频")])
def test_other_routes_are_not_found(api: Api, function: str, method: str, path: str | None) -> None:
    path = path or f"/transcoding/api/{function.replace('_', '-')}"
    answer = api.call(function, api_event(method, path))
    assert answer.json == {"errcode": 1404, "msg": f"no such route: {method} {path}"}


CALLS: list[tuple[str, str, dict[str, Any]]] = [
    ("post", "create-transcode", {"origin_url": "s3://bucket/key"}),
    ("get", "get-transcodes", {}),
    ("get", "get-transcode", {"id": "aaaaaaaa"}),
    ("post", "delete-transcode", {"id": "aaaaaaaa"}),
    ("post", "delete-transcodes", {"ids": "aaaaaaaa"}),
]


#: What each says where a backing service is not available.
UNAVAILABLE = {
    "create-transcode": "it is not known whether a task was created. With the same Idempotency-Key, the call "
    "may be repeated and makes no second one",
    "get-transcodes": "the call may be repeated",
    "get-transcode": "the call may be repeated",
    "delete-transcode": "the task may be deleted already, and the call may be repeated",
    "delete-transcodes": "some of the tasks may be deleted already, and the call may be repeated",
}


def client_error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "secret"}}, "Operation")


@pytest.mark.parametrize(("method", "call", "parameters"), CALLS)
@pytest.mark.parametrize(
    "error",
    [
        EndpointConnectionError(endpoint_url="http://secret"),
        ReadTimeoutError(endpoint_url="http://secret"),
        client_error("InternalServerError"),
        client_error("ThrottlingException"),
        client_error("503"),
    ],
    ids=str,
)
def test_without_the_database_calls_are_unavailable(
    api: Api,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    *,
    method: str,
    call: str,
    parameters: dict[str, Any],
) -> None:
    def fail(*_: object) -> None:
        raise error

    client = importlib.import_module(call.replace("-", "_")).table._connection.client
    monkeypatch.setattr(client, "_make_api_call", fail)
    answer = getattr(api, method)(call, **parameters)
    assert answer.json == {
        "errcode": 1503,
        "msg": f"the database is not available; {UNAVAILABLE[call]}",
    }


def lose_answers(monkeypatch: pytest.MonkeyPatch, function: str, count: int) -> None:
    """Lose the answers of the function's first transactions, all of which DynamoDB does."""
    client = importlib.import_module(function).table._connection.client
    call = client._make_api_call

    def lose(operation: str, arguments: dict[str, Any]) -> Any:
        nonlocal count
        answer = call(operation, arguments)
        if operation == "TransactWriteItems" and count:
            count -= 1
            raise ReadTimeoutError(endpoint_url="http://dynamodb")
        return answer

    monkeypatch.setattr(client, "_make_api_call", lose)


def test_a_create_whose_answer_was_lost_makes_no_second_task_when_it_is_repeated_with_its_key(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_answers(monkeypatch, "create_transcode", 1)
    calls = [
        api.post("create-transcode", origin_url="s3://bucket/a", headers={"Idempotency-Key": "key"})
        for _ in range(2)
    ]
    assert [answer.status for answer in calls] == [503, 200]
    listed = api.get("get-transcodes").json
    assert [task["id"] for task in listed["results"]] == [calls[1].json["id"]]
    assert listed["count"] == 1


@pytest.mark.usefixtures("repeated")
@pytest.mark.parametrize("headers", [None, {"Idempotency-Key": "key"}], ids=["without a key", "with a key"])
def test_a_create_that_had_to_be_written_twice_makes_one_task_and_queues_it(
    api: Api, aws: Aws, headers: dict[str, str] | None
) -> None:
    id_ = api.post("create-transcode", origin_url="s3://bucket/a", headers=headers).json["id"]
    assert aws.take_messages() == [{"task_id": id_, "step": "transcode"}]
    listed = api.get("get-transcodes").json
    assert ([task["id"] for task in listed["results"]], listed["count"]) == ([id_], 1)


def test_a_batch_that_stops_in_the_middle_goes_on_when_it_is_repeated(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [api.create() for _ in range(3)]
    lose_answers(monkeypatch, "delete_transcodes", 1)
    answers = [api.post("delete-transcodes", ids=",".join(ids)) for _ in range(2)]
    assert [answer.status for answer in answers] == [503, 200]
    assert api.get("get-transcodes").json["count"] == 0


@pytest.mark.parametrize(("method", "call", "parameters"), CALLS)
def test_faults_tell_a_request_id_and_nothing_else(
    api: Api, aws: Aws, method: str, call: str, parameters: dict[str, Any]
) -> None:
    aws.dynamodb.delete_table(TableName=TABLE)
    answer = getattr(api, method)(call, **parameters)
    request_id = lambda_context().aws_request_id
    assert answer.json == {"errcode": 1500, "msg": f"internal error; request id {request_id}"}


def test_without_the_queue_a_task_is_accepted_and_waits_for_the_sweep(
    api: Api, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise EndpointConnectionError(endpoint_url="http://queue")

    function = importlib.import_module("create_transcode")
    monkeypatch.setattr(function.queue._sqs, "send_message", fail)
    id_ = api.create()
    assert api.get("get-transcode", id=id_).json["transcoding"]["status"] == -1
    assert float(aws.item(id_)["attention_at"]["N"]) == 1795360577.0 + 60


def test_a_create_that_is_refused_leaves_nothing(api: Api, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    function = importlib.import_module("create_transcode")
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    client = function.table._connection.client
    call = client._make_api_call

    def conflict(operation: str, arguments: Any) -> Any:
        if operation != "TransactWriteItems":
            return call(operation, arguments)
        reasons = [{"Code": "None"}, {"Code": "TransactionConflict"}]
        response: Any = {"Error": {"Code": "TransactionCanceledException"}, "CancellationReasons": reasons}
        raise ClientError(response, operation)

    monkeypatch.setattr(client, "_make_api_call", conflict)
    answer = api.post("create-transcode", origin_url="s3://bucket/a", headers={"Idempotency-Key": "key"})
    assert answer.status == 503
    assert aws.items() == []


def test_messages_are_not_escaped(api: Api) -> None:
    answer = api.get("get-transcode", id="不存在的任务")
    assert answer.text == json.dumps(
        {"errcode": 1404, "msg": "no such task: 不存在的任务"}, ensure_ascii=False, separators=(",", ":")
    )
