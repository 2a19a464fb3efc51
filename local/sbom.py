"""Write what the worker's image is made of to .local/worker.cdx.json (CycloneDX): `python -m local.sbom`.

Python's packages are those of functions/requirements-worker.txt, FFmpeg and ffprobe those of the layer's
pinned wheels, with what runs of them (.local/ffmpeg, of this machine). What the base image has, AWS tells.
https://cyclonedx.org/docs/1.6/json/
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from local.package import FFMPEG_DIR, ROOT

TARGET = ROOT / ".local/worker.cdx.json"
_CYCLONEDX = ROOT / ".local/envs/supply/bin/cyclonedx-py"


def document() -> dict[str, Any]:
    """Return the document."""
    bom = _of(ROOT / "functions/requirements-worker.txt")
    layer = _of(ROOT / "layers/ffmpeg/requirements.txt")["components"]
    for component in (*bom["components"], *layer):
        # It repeats the line of the requirements.
        del component["description"]
        component["bom-ref"] = component["purl"]
    dockerfile = (ROOT / "functions/worker.Dockerfile").read_text()
    (image,) = set(re.findall(r"^FROM (\S+:\S+)", dockerfile, re.MULTILINE))
    name, _, version = image.rpartition(":")
    base = {"type": "container", "bom-ref": image, "name": name, "version": version}
    bom["components"] = [base, *bom["components"], *layer, *_programs()]
    bom["metadata"]["component"] = {"type": "container", "bom-ref": "worker", "name": "transcoding-worker"}
    bom.pop("dependencies", None)
    return bom


def _of(requirements: Path) -> dict[str, Any]:
    command = [str(_CYCLONEDX), "requirements", str(requirements), "--output-reproducible", "--sv", "1.6"]
    done = subprocess.run(command, capture_output=True, check=True)
    bom: dict[str, Any] = json.loads(done.stdout)
    return bom


def _programs() -> list[dict[str, Any]]:
    """Return FFmpeg and ffprobe, with their versions as they tell them and their hashes."""
    record = json.loads((FFMPEG_DIR.parent / "share/ffmpeg/build.json").read_text())
    programs = []
    for name, digest in record["sha256"].items():
        told = subprocess.run([FFMPEG_DIR / name, "-version"], capture_output=True, text=True, check=True)
        version = told.stdout.split()[2].removeprefix("n")
        programs.append(
            {
                "type": "application",
                "bom-ref": f"{name}@{version}",
                "name": name,
                "version": version,
                "licenses": [{"license": {"id": "GPL-3.0-or-later"}}],
                "hashes": [{"alg": "SHA-256", "content": digest}],
            }
        )
    return programs


def main() -> None:
    """Write the document."""
    TARGET.write_text(json.dumps(document(), indent=1) + "\n")
    print(TARGET)


if __name__ == "__main__":
    main()
