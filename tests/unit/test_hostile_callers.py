"""Whatever a caller sends, the answer has the contract's form, and nothing of it is the service's fault."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Api, api_event

GETS = ("get-transcode", "get-transcodes")
POSTS = ("create-transcode", "delete-transcode", "delete-transcodes", "create-upload", "complete-upload")
NAMES = (
    *("id", "ids", "page", "limit", "origin_url", "task_config_temp_id", "format", "codec", "thumbnails"),
    *("callback_url", "name", "size", "upload_id", "first_part", "etags"),
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
#: What is nearly right gets further than what is not.
NEAR = st.sampled_from(
    [
        *(
            "",
            "0",
            "-1",
            "1e3",
            "01",
            "1 ",
            "\uff19",
            "9" * 400,
            "zzzzzzzz",
            "ZZZZZZZZ",
            "../../x",
            "a,b,,c",
            ",",
        ),
        *("s3://bucket/key", "s3://bucket//", "s3://b/../..", "S3://bucket/key", "https://a.test/%zz?&&#"),
        *("http://[::1]/", "http://a.test:99999/", "m3u8", "M3U8", "h264,", "h264,av1", "true", "null"),
        *(0, -1, 1, 6, 7, 2**31, 2**63, 2**70, -(2**70), 0.5, 1e308, True, False, None),
    ]
)
VALUES = st.recursive(
    NEAR | TEXTS | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
OBJECTS = st.dictionaries(st.sampled_from(NAMES) | TEXTS, VALUES, max_size=8)
HEADERS = st.dictionaries(
    st.sampled_from(["Idempotency-Key", "Content-Type", "Accept", "X-Forwarded-For", "Origin"]),
    TEXTS,
    max_size=3,
)
LONG = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@LONG
@given(st.sampled_from(POSTS), OBJECTS | st.binary(max_size=60) | TEXTS, HEADERS)
def test_posts(api: Api, call: str, body: Any, headers: dict[str, str]) -> None:
    sent = json.dumps(body) if isinstance(body, dict) else body
    # The form of the answer is checked by `call`.
    answer = api.post(call, sent, headers=headers)
    assert answer.status < 500, answer.text
    assert "Traceback" not in answer.text


@LONG
@given(
    st.sampled_from(GETS),
    st.dictionaries(
        st.sampled_from(NAMES) | TEXTS, st.lists(NEAR.map(str) | TEXTS, min_size=1, max_size=3), max_size=5
    ),
)
def test_gets(api: Api, call: str, query: dict[str, list[str]]) -> None:
    event = api_event(
        "GET", f"/transcoding/api/{call}", query={name: given[-1] for name, given in query.items()}
    )
    event["multiValueQueryStringParameters"] = query or None
    answer = api.call(call.replace("-", "_"), event)
    assert answer.status < 500, answer.text
    assert "Traceback" not in answer.text
