"""docs/openapi.json is what the code says, and describes the contract."""

from __future__ import annotations

import json
from typing import Any

import pytest

from docs import openapi


@pytest.fixture(scope="module")
def document(environment: None) -> dict[str, Any]:
    return openapi.describe()


def test_the_committed_document_is_current(document: dict[str, Any]) -> None:
    assert json.loads(openapi.TARGET.read_text()) == document, "run python -m docs.openapi"


def test_it_has_all_calls(document: dict[str, Any]) -> None:
    assert {(path, *item) for path, item in document["paths"].items()} == {
        ("/transcoding/api/create-transcode", "post"),
        ("/transcoding/api/get-transcodes", "get"),
        ("/transcoding/api/get-transcode", "get"),
        ("/transcoding/api/delete-transcode", "post"),
        ("/transcoding/api/delete-transcodes", "post"),
        ("/transcoding/api/create-upload", "post"),
        ("/transcoding/api/complete-upload", "post"),
    }
    assert document["openapi"].startswith("3.1")


def test_every_answer_has_the_envelope(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for item in document["paths"].values():
        for operation in item.values():
            assert {"200", "400", "403", "429", "500", "503"} <= operation["responses"].keys()
            assert "422" not in operation["responses"]
            for response in operation["responses"].values():
                name = response["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
                assert {"errcode", "msg"} <= set(schemas[name]["required"])


def test_nothing_is_left_over(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    for name in document["components"]["schemas"]:
        assert f'"#/components/schemas/{name}"' in text


def test_calls_need_the_key_and_create_takes_an_idempotency_key(document: dict[str, Any]) -> None:
    assert document["components"]["securitySchemes"]["apiKey"]["name"] == "x-api-key"
    assert document["security"] == [{"apiKey": []}]
    (parameter,) = document["paths"]["/transcoding/api/create-transcode"]["post"]["parameters"]
    assert (parameter["in"], parameter["name"].lower(), parameter["required"]) == (
        "header",
        "idempotency-key",
        False,
    )


def test_it_says_what_an_unavailable_service_may_have_done(document: dict[str, Any]) -> None:
    told = {
        path.rpartition("/")[2]: operation["responses"]["503"]["description"]
        for path, item in document["paths"].items()
        for operation in item.values()
    }
    assert "Idempotency-Key" in told["create-transcode"]
    assert "may be deleted already" in told["delete-transcodes"]
