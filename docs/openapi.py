"""Write docs/openapi.json, the description of the API, from the code of its functions.

python -m docs.openapi          write the file
python -m docs.openapi --check  fail if the file is not current
"""

from __future__ import annotations

import builtins
import importlib
import json
import os
import sys
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, NotRequired, get_args, get_origin, get_type_hints

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "docs" / "openapi.json"
FUNCTIONS = (
    *("create_transcode", "get_transcodes", "get_transcode", "delete_transcode", "delete_transcodes"),
    *("create_upload", "complete_upload"),
)

#: The functions read their environment when they are imported. No AWS service is called.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_DEFAULT_REGION": "us-east-1",
    "MAX_SOURCE_BYTES": "1",
    "OUTPUT_BASE_URL": "none",
    "OUTPUT_BUCKET": "none",
    "QUEUE_URL": "none",
    "TABLE_NAME": "none",
    "UPLOAD_BUCKET": "none",
}


def describe() -> dict[str, Any]:
    """Return the description of all functions' operations."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if str(ROOT / "functions") not in sys.path:
        sys.path.insert(0, str(ROOT / "functions"))

    operations = [importlib.import_module(function).operation for function in FUNCTIONS]
    schemas = _Schemas()
    paths = {
        operation.path: {operation.method.lower(): _operation(operation, schemas)} for operation in operations
    }

    # The task that a call creates can be shown and deleted.
    paths["/transcoding/api/create-transcode"]["post"]["responses"]["200"]["links"] = {
        "get": {"operationId": "getTranscode", "parameters": {"id": "$response.body#/id"}},
        "delete": {"operationId": "deleteTranscode", "requestBody": {"id": "$response.body#/id"}},
        "deleteAll": {"operationId": "deleteTranscodes", "requestBody": {"ids": "$response.body#/id"}},
    }

    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Transcoding API",
            "version": "1.0.0",
            "description": "Video transcoding: upload sources, create tasks, follow them, delete "
            "them. Every response is an object with `errcode` (1000 on success, else 1000 + the HTTP status) "
            "and `msg`.",
        },
        "servers": [
            {
                "url": "https://{api}.execute-api.{region}.{suffix}/{stage}",
                "description": "The API of a stack, whose output `ApiUrl` is this URL.",
                "variables": {
                    "api": {"default": "api"},
                    "region": {"default": "us-east-1"},
                    "suffix": {"default": "amazonaws.com", "enum": ["amazonaws.com", "amazonaws.com.cn"]},
                    "stage": {"default": "v1"},
                },
            }
        ],
        "security": [{"apiKey": []}],
        "paths": {path: paths[path] for path in sorted(paths)},
        "components": {
            "schemas": {name: schemas[name] for name in sorted(schemas)},
            "securitySchemes": {"apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"}},
        },
    }


class _Schemas(dict[str, Any]):
    """The schemas that responses and bodies refer to, by name."""

    def refer(self, name: str, schema: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return a reference to the schema of this name, which `schema` makes."""
        if name not in self:
            self[name] = schema()
        return {"$ref": f"#/components/schemas/{name}"}

    def body(self, body: Any) -> dict[str, Any]:
        """Return the schema of a request's body."""
        fields = {field.name: _parameter(field) for field in body.fields}
        required = [field.name for field in body.fields if field.required]
        return self.refer(body.name, lambda: _object(body.name, body.description, fields, required))

    def answer(self, kind: type) -> dict[str, Any]:
        """Return the schema of a response's body, or of an object in one; it has all its fields."""

        def make() -> dict[str, Any]:
            hints = get_type_hints(kind, include_extras=True)
            fields = {name: _titled(name, self._of(hint)) for name, hint in hints.items()}
            required = [name for name, hint in hints.items() if get_origin(hint) is not NotRequired]
            return _object(kind.__name__, kind.__doc__, fields, required)

        return self.refer(kind.__name__, make)

    def _of(self, hint: Any) -> dict[str, Any]:
        """Return the schema of a type."""
        parts = get_args(hint)
        match get_origin(hint):
            case typing.Annotated:
                schema = {**self._of(parts[0]), **parts[1]}
            case typing.NotRequired:
                schema = self._of(parts[0])
            case typing.Literal:
                schema = {"type": _TYPES[type(parts[0])], "const": parts[0]}
            case types.UnionType:  # with None
                schema = {"anyOf": [self._of(parts[0]), {"type": "null"}]}
            case builtins.list:
                schema = {"type": "array", "items": self._of(parts[0])}
            case _:
                schema = {"type": _TYPES[hint]} if hint in _TYPES else self.answer(hint)
        return schema


_TYPES: dict[Any, str] = {int: "integer", float: "number", str: "string"}


def _operation(operation: Any, schemas: _Schemas) -> dict[str, Any]:
    """Return the OpenAPI operation of a call."""
    from transcoding.api.answers import Refusal  # noqa: PLC0415 - not before functions/ is on the path
    from transcoding.api.operation import COMMON_REFUSALS  # noqa: PLC0415

    answer = get_type_hints(operation.function)["return"]
    meanings = {
        200: "OK",
        **operation.refusals,
        **COMMON_REFUSALS,
        503: f"A backing service is not available; {operation.unavailable}",
    }
    described = {
        "summary": operation.summary,
        "description": operation.description,
        "operationId": operation.id,
    }
    parameters = [
        {
            "description": parameter.description,
            "required": parameter.required,
            "schema": _titled(parameter.name, {**parameter.schema, **_default(parameter)}),
            "name": parameter.name,
            "in": place,
        }
        for place, group in (("query", operation.query), ("header", operation.headers))
        for parameter in group
    ]
    if parameters:
        described["parameters"] = parameters
    if operation.body:
        described["requestBody"] = {"content": _json(schemas.body(operation.body)), "required": True}
    described["responses"] = {
        str(status): {
            "description": meaning,
            "content": _json(schemas.answer(answer if status == 200 else Refusal)),
        }
        for status, meaning in sorted(meanings.items())
    }
    return described


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _object(
    name: str, description: str | None, fields: dict[str, Any], required: list[str]
) -> dict[str, Any]:
    return {
        "properties": fields,
        "type": "object",
        "required": required,
        "title": name,
        "description": description,
    }


def _parameter(field: Any) -> dict[str, Any]:
    """Return the schema of a field of a request's body."""
    facts = {"description": field.description, "examples": list(field.examples)}
    return _titled(field.name, {**field.schema, **facts, **_default(field)})


def _titled(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a field with a title, unless it refers to another."""
    if "$ref" in schema:
        return schema
    words = {key: schema[key] for key in ("description", "default", "examples") if key in schema}
    rules = {key: value for key, value in schema.items() if key not in words}
    return rules | {"title": name.replace("_", " ").title()} | words


def _default(parameter: Any) -> dict[str, Any]:
    return {} if parameter.default is None else {"default": parameter.default}


def render() -> str:
    """Return the description as the file holds it."""
    return json.dumps(describe(), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the file, or with --check compare it."""
    if sys.argv[1:] == ["--check"]:
        if not TARGET.exists() or TARGET.read_text() != render():
            sys.exit(f"{TARGET.relative_to(ROOT)} is not current: run python -m docs.openapi")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        TARGET.parent.mkdir(exist_ok=True)
        TARGET.write_text(render())


if __name__ == "__main__":
    main()
