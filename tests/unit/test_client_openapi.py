"""The Python client has what docs/openapi.json has: every call, every parameter, every field, every type."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from docs.openapi import TARGET
from tests.fake_service import API_KEY, API_URL, PART, FakeService, task
from transcoding_client import Client, Quality, Status
from transcoding_client import models as client_models
from transcoding_client.cli.main import CODECS, FORMATS
from transcoding_client.cli.output import QualityName

DOCUMENT: dict[str, Any] = json.loads(TARGET.read_text())
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
ENVELOPE = {"errcode", "msg"}
#: The model of each schema of an answer. What is in lists lacks `output`.
MODELS = {
    "Created": client_models.Created,
    "DescribedTranscoding": client_models.Task,
    "Listed": client_models.TaskPage,
    "Output": client_models.Output,
    "Rendition": client_models.Rendition,
    "UploadParts": client_models.UploadParts,
    "Uploaded": client_models.Uploaded,
}
#: Those without a model, and why.
NO_MODEL = {
    "Deleted": "it has the envelope alone",
    "Found": "it is its task",
    "Refusal": "it is an exception",
    "Transcoding": "it is a task without output",
}


def _operations() -> dict[str, tuple[str, str, dict[str, Any]]]:
    return {
        operation["operationId"]: (path.rpartition("/")[2], method, operation)
        for path, item in DOCUMENT["paths"].items()
        for method, operation in item.items()
    }


@pytest.fixture
def service() -> FakeService:
    service = FakeService()
    service.states = [task(status=2)]
    return service


def _make_all_calls(client: Client) -> None:
    """Make each call with all that it takes."""
    client.create(
        "s3://films/holiday.mov",
        quality=Quality.ADAPTIVE,
        format="m3u8",
        codec="h264,av1",
        thumbnails=True,
        callback_url="https://example.com/done",
        idempotency_key="key",
    )
    client.get("17lok52y")
    client.tasks(page=2, limit=100)
    client.delete("17lok52y")
    client.delete_all(["17lok52y", "82md0xk1"])
    begun = client.create_upload("film.mov", PART)
    client.continue_upload(begun.upload_id, first_part=1)
    client._storage.put(begun.urls[0], content=bytes(PART))
    client.complete_upload(begun.upload_id, client.continue_upload(begun.upload_id).etags)


def test_every_call_is_made_with_every_parameter(service: FakeService) -> None:
    with Client(API_URL, API_KEY, transport=service.transport) as client:
        _make_all_calls(client)
    operations = _operations()
    assert {call for call, _ in service.calls} == {name for name, _, _ in operations.values()}
    for name, method, operation in operations.values():
        requests = [r for r in service.requests if r.url.path.endswith(f"/{name}")]
        assert {request.method.lower() for request in requests} == {method}
        for request in requests:
            assert request.headers["x-api-key"] == API_KEY
        if method == "post":
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            resolved = SCHEMAS[schema["$ref"].rpartition("/")[2]]
            for parameters in service.made(name):
                jsonschema.validate(parameters, resolved)
            sent = {field for parameters in service.made(name) for field in parameters}
            assert sent == resolved["properties"].keys()
        for parameter in operation.get("parameters", []):
            for request in requests:
                where = request.headers if parameter["in"] == "header" else request.url.params
                assert parameter["name"] in where


def test_every_schema_of_an_answer_is_known() -> None:
    answers = {
        reference["$ref"].rpartition("/")[2]
        for _, _, operation in _operations().values()
        for response in operation["responses"].values()
        for reference in [response["content"]["application/json"]["schema"]]
    }
    bodies = {
        operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        for _, method, operation in _operations().values()
        if method == "post"
    }
    assert answers <= MODELS.keys() | NO_MODEL.keys()
    assert MODELS.keys() | NO_MODEL.keys() == SCHEMAS.keys() - bodies
    assert SCHEMAS["Transcoding"]["properties"].keys() < SCHEMAS["DescribedTranscoding"]["properties"].keys()


def _kinds(schema: dict[str, Any], definitions: dict[str, Any]) -> set[str]:
    """The types that a schema allows, with those of lists and the names of objects."""
    if "anyOf" in schema:
        return {kind for one in schema["anyOf"] for kind in _kinds(one, definitions)}
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        target = definitions[name]
        return {name} if target["type"] == "object" else _kinds(target, definitions)
    if schema["type"] == "array":
        return {f"list of {kind}" for kind in _kinds(schema["items"], definitions)}
    return {schema["type"]}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_the_fields_and_types_of_its_schema(name: str) -> None:
    schema, model = SCHEMAS[name], MODELS[name].model_json_schema(mode="serialization")
    fields = {field: value for field, value in schema["properties"].items() if field not in ENVELOPE}
    assert model["properties"].keys() == fields.keys()
    named = {"Task": "DescribedTranscoding"}
    for field, value in fields.items():
        ours = _kinds(model["properties"][field], model.get("$defs", {}))
        theirs = _kinds(value, SCHEMAS)
        ours = {named.get(kind, kind) for kind in ours}
        if name == "Listed" and field == "results":
            ours, theirs = {"list of Task"}, {kind.replace("Transcoding", "Task") for kind in theirs}
        # What the service may leave out is None.
        optional = set() if field in schema["required"] else {"null"}
        assert ours == theirs | optional, field
    # A service of an earlier version has no output.
    required = set(schema["required"]) - ENVELOPE - {"output"}
    assert set(model.get("required", [])) >= required


def test_values_are_those_of_the_service() -> None:
    create = SCHEMAS["CreateTranscode"]["properties"]
    quality = create["task_config_temp_id"]["anyOf"][0]
    assert [int(value) for value in Quality] == [*range(quality["minimum"], quality["maximum"] + 1)]
    status = SCHEMAS["Transcoding"]["properties"]["status"]
    assert [int(value) for value in Status] == [*range(status["minimum"], status["maximum"] + 1)]
    assert [*FORMATS] == [name for name in create["format"]["enum"] if name]
    for codec in CODECS:
        jsonschema.validate(codec, create["codec"])
    assert create["codec"]["pattern"].count("|") / 2 + 1 == len(CODECS)
    assert [Quality[name.name] for name in QualityName] == [*Quality]
