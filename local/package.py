"""Convert template.yaml and functions/ into a package that the emulator can deploy, and change nothing else.

The emulator runs all functions with its own Python, deploys zip files only and mounts no layers. So the
worker's image becomes a zip file, the FFmpeg layer a folder, and packages come from this environment.
"""

from __future__ import annotations

import hashlib
import io
import json
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
FFMPEG_DIR = ROOT / ".local" / "ffmpeg" / "bin"
CODE_BUCKET = "transcoding-code"
#: Fixed names: the base URL of the outputs, a parameter of the deployment, contains one.
BUCKETS = {"SourceBucket": "transcoding-sources", "OutputBucket": "transcoding-outputs"}

_LAYER = "AWS::Serverless::LayerVersion"


@dataclass(frozen=True, slots=True)
class Package:
    """What CloudFormation deploys: a template in JSON, its parameters, and the functions' code in a zip."""

    template: str
    parameters: dict[str, str]
    code: bytes
    code_key: str

    @property
    def digest(self) -> str:
        """SHA-256 of all that is deployed."""
        parts = [self.template, json.dumps(self.parameters, sort_keys=True), self.code_key]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def build(parameters: dict[str, str]) -> Package:
    """Return the package of this checkout."""
    code = _zip(ROOT / "functions")
    code_key = f"{hashlib.sha256(code).hexdigest()}.zip"
    template = adapt(load_template(ROOT / "template.yaml"), parameters, code_key)
    return Package(json.dumps(template, indent=1), parameters, code, code_key)


def load_template(path: Path) -> dict[str, Any]:
    """Return a CloudFormation template, with short tags in their long form: `!Ref x` is `{"Ref": "x"}`."""
    template: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=_TemplateLoader)
    return template


def adapt(template: dict[str, Any], parameters: dict[str, str], code_key: str) -> dict[str, Any]:
    """Replace image, layers and build by a zip file, an FFmpeg folder and this environment's packages."""
    resources = template["Resources"]
    layers = {name for name, resource in resources.items() if resource["Type"] == _LAYER}
    for name in layers:
        del resources[name]
    template["Outputs"] = {
        name: output
        for name, output in template.get("Outputs", {}).items()
        if not (isinstance(output["Value"], dict) and output["Value"].get("Ref") in layers)
    }
    for name, bucket in BUCKETS.items():
        resources[name].setdefault("Properties", {})["BucketName"] = bucket
    numbers = {
        name: int(parameters.get(name, declared.get("Default")))
        for name, declared in template["Parameters"].items()
        if declared["Type"] == "Number"
    }
    defaults = template["Globals"]["Function"]
    defaults["CodeUri"] = {"Bucket": CODE_BUCKET, "Key": code_key}
    defaults["Environment"]["Variables"]["PYTHONPATH"] = sysconfig.get_path("purelib")
    worker = resources["WorkerFunction"]
    del worker["Metadata"], worker["Properties"]["PackageType"]
    worker["IgnoreGlobals"] = [name for name in worker["IgnoreGlobals"] if name not in {"CodeUri", "Runtime"}]
    worker["Properties"]["Handler"] = "worker.handler"
    worker["Properties"]["Environment"]["Variables"]["FFMPEG_DIR"] = str(FFMPEG_DIR)
    template["Resources"] = _with_numbers(resources, numbers)
    return template


def _with_numbers(node: Any, numbers: dict[str, int]) -> Any:
    """Replace references to number parameters by their values, which the emulator would pass on as strings.

    In `Environment` they stay, as variables are strings.
    """
    if isinstance(node, dict):
        if node.keys() == {"Ref"} and node["Ref"] in numbers:
            return numbers[node["Ref"]]
        return {
            key: value if key == "Environment" else _with_numbers(value, numbers)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_with_numbers(value, numbers) for value in node]
    return node


def _zip(folder: Path) -> bytes:
    """Return a zip file of a folder's code and pages. Equal files give equal bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted([*folder.rglob("*.py"), *(folder / "pages").iterdir()]):
            archive.writestr(zipfile.ZipInfo(path.relative_to(folder).as_posix()), path.read_bytes())
    return content.getvalue()


class _TemplateLoader(yaml.SafeLoader):
    """A loader of YAML with CloudFormation's short tags."""


def _short_tag(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    if tag == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {tag if tag in {"Ref", "Condition"} else f"Fn::{tag}": value}


_TemplateLoader.add_multi_constructor("!", _short_tag)
