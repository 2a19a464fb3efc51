"""The bill of materials has what is pinned, and what really runs."""

from __future__ import annotations

import hashlib
import re

from local import sbom
from local.package import FFMPEG_DIR, ROOT


def test_all_that_the_image_is_made_of_is_named():
    document = sbom.document()
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    named = {component["name"]: component for component in document["components"]}
    pinned = re.findall(r"^(\S+)==(\S+)", (ROOT / "functions/requirements-worker.txt").read_text(), re.M)
    assert {"av", "botocore", "pynamodb", "aws-lambda-powertools"} <= dict(pinned).keys()
    for name, version in pinned:
        assert named[name]["version"] == version
        assert named[name]["externalReferences"][0]["hashes"]
    for name in ("ffmpeg", "ffprobe"):
        digest = hashlib.sha256((FFMPEG_DIR / name).read_bytes()).hexdigest()
        assert named[name]["hashes"] == [{"alg": "SHA-256", "content": digest}]
        assert re.match(r"\d+\.\d+", named[name]["version"])
    (base,) = [component for component in document["components"] if component["type"] == "container"]
    assert f"FROM {base['name']}:{base['version']}" in (ROOT / "functions/worker.Dockerfile").read_text()
    references = [component["bom-ref"] for component in document["components"]]
    assert len(references) == len(set(references))
