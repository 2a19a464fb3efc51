"""Write docs/event.json, the schema of the events, from the code.

python -m docs.events          write the file
python -m docs.events --check  fail if the file is not current
"""

from __future__ import annotations

import json
import sys
from typing import Any

from docs.openapi import ROOT, describe

TARGET = ROOT / "docs" / "event.json"


def schema() -> dict[str, Any]:
    """Return the JSON Schema of an event as EventBridge hands it to a rule's target."""
    schemas = describe()["components"]["schemas"]
    task = schemas["DescribedTranscoding"]
    from transcoding.data.event_bus import DETAIL_TYPE, SOURCE  # noqa: PLC0415 - describe() sets the path

    sequence = {
        "type": "integer",
        "minimum": 1,
        "description": "Grows with each change of one task's status. Of two events of a task, that with the "
        "greater one is the later; two with the same one are the same.",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": DETAIL_TYPE,
        "description": "A task's status was set.",
        "type": "object",
        "properties": {
            "source": {"const": SOURCE},
            "detail-type": {"const": DETAIL_TYPE},
            "detail": {
                "type": "object",
                "description": "The task, as get-transcode shows it, and the place of the change.",
                "properties": {**task["properties"], "sequence": sequence},
                "required": [*task["required"], "sequence"],
            },
        },
        "required": ["source", "detail-type", "detail"],
        "$defs": {name: schemas[name] for name in ("Output", "Rendition")},
    }


def render() -> str:
    """Return the schema as the file holds it."""
    text = json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
    return text.replace("#/components/schemas/", "#/$defs/")


def main() -> None:
    """Write the file, or with --check compare it."""
    if sys.argv[1:] == ["--check"]:
        if not TARGET.exists() or TARGET.read_text() != render():
            sys.exit(f"{TARGET.relative_to(ROOT)} is not current: run python -m docs.events")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        TARGET.write_text(render())


if __name__ == "__main__":
    main()
