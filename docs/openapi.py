"""Write docs/openapi.json, the description of the API, from the code of its functions.

python -m docs.openapi          write the file
python -m docs.openapi --check  fail if the file is not current
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "docs" / "openapi.json"
FUNCTIONS = ("create_transcode", "get_transcodes", "get_transcode", "delete_transcode", "delete_transcodes")

#: The functions read their environment when they are imported. No AWS service is called.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_DEFAULT_REGION": "us-east-1",
    "OUTPUT_BASE_URL": "none",
    "OUTPUT_BUCKET": "none",
    "POWERTOOLS_TRACE_DISABLED": "true",
    "QUEUE_URL": "none",
    "TABLE_NAME": "none",
}


def describe() -> dict[str, Any]:
    """Return the merged descriptions of the functions' resolvers."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if str(ROOT / "functions") not in sys.path:
        sys.path.insert(0, str(ROOT / "functions"))

    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for function in FUNCTIONS:
        app = importlib.import_module(function).app
        document = json.loads(app.get_openapi_json_schema(openapi_version="3.1.0"), parse_float=_number)
        paths |= document["paths"]
        schemas |= document["components"]["schemas"]

    # Powertools describes a 422 for wrong parameters; the resolver returns 400 in the envelope instead.
    for item in paths.values():
        for operation in item.values():
            del operation["responses"]["422"]
    # The task that a call creates can be shown and deleted.
    paths["/transcoding/api/create-transcode"]["post"]["responses"]["200"]["links"] = {
        "get": {"operationId": "getTranscode", "parameters": {"id": "$response.body#/id"}},
        "delete": {"operationId": "deleteTranscode", "requestBody": {"id": "$response.body#/id"}},
        "deleteAll": {"operationId": "deleteTranscodes", "requestBody": {"ids": "$response.body#/id"}},
    }
    for name in ("HTTPValidationError", "ValidationError", "ResponseValidationError"):
        del schemas[name]

    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Transcoding API",
            "version": "1.0.0",
            "description": "Video transcoding: create tasks, follow them, delete them. Every response is "
            "an object with `errcode` (1000 on success, else 1000 + the HTTP status) and `msg`.",
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


def _number(text: str) -> float:
    """Read a number. Powertools writes the bounds of integers as floats."""
    return int(float(text)) if float(text).is_integer() else float(text)


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
