"""Run `sam build` with the container engine of this machine: `python -m local.build --config-env newaccount`.

The arguments are those of `sam build`. The worker's image is built for one
processor, and can then be deployed for no other. The packages of the other functions are the same for all.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from local.engine import Engine, EngineError
from local.package import ROOT

SAM = ROOT / ".local" / "envs" / "sam" / "bin" / "sam"
UV = ROOT / ".local" / "uv" / "bin"
BUILD = ROOT / ".aws-sam" / "build"
DOCKERFILE = ROOT / "functions" / "worker.Dockerfile"
#: Lambda's name of a processor, by that of an image.
PROCESSORS = {"amd64": "x86_64", "arm64": "arm64"}

_IMAGE = re.compile(r"\n {6}ImageUri: (\S+)")
_PARAMETER = re.compile(
    r"(?<=\n  Architecture:\n    Type: String\n)    Default: \S+\n    AllowedValues:\n(?:    - \S+\n)+"
)


def prepare(engine: Engine) -> None:
    """Give the worker's image a base where there is no registry: what the engine has of the same Python.

    The pinned image is fetched wherever its registry can be reached.
    """
    pinned = base_image()
    stand_in = pinned.rpartition(":")[0] + ":" + ".".join(pinned.rpartition(":")[2].split(".")[:2])
    stand_in_id = engine.image_id(stand_in)
    if engine.image_id(pinned) not in {"", stand_in_id}:
        return
    engine.pull(pinned)
    if not engine.image_id(pinned) and stand_in_id:
        engine.tag(stand_in, pinned)
    if stand_in_id and engine.image_id(pinned) == stand_in_id:
        print(f"{pinned} is here the image that this machine has as {stand_in}.", file=sys.stderr)


def base_image() -> str:
    """Return the name of the image that the worker's is built on."""
    (name,) = set(re.findall(r"^FROM (\S+:\S+)", DOCKERFILE.read_text(), re.MULTILINE))
    return str(name)


def seal(build: Path, engine: Engine) -> str:
    """Let the built template take only the processor that the worker's image is built for; return that.

    Raises ValueError where that is not known, or where the template has no such parameter.
    """
    path = build / "template.yaml"
    template = path.read_text()
    (image,) = _IMAGE.findall(template) or [""]
    processor = PROCESSORS.get(engine.architecture(image)) if image else None
    if not processor:
        raise ValueError(f"the image {image} of {path} is for no known processor")
    sealed, count = _PARAMETER.subn(
        f"    Default: {processor}\n    AllowedValues:\n    - {processor}\n", template
    )
    if count != 1:
        raise ValueError(f"{path} has no parameter Architecture as expected")
    path.write_text(sealed)
    return processor


def main(arguments: list[str]) -> int:
    """Build, and return the exit code."""
    environment = os.environ | {"PATH": f"{UV}{os.pathsep}{os.environ['PATH']}", "SAM_CLI_TELEMETRY": "0"}
    engine = None
    if (environment.get("DOCKER_HOST") or "unix://").startswith("unix://"):
        try:
            engine = Engine.find()
        except EngineError as error:
            print(f"The worker's image is built with a container engine, but {error}.", file=sys.stderr)
            return 1
        environment["DOCKER_HOST"] = engine.host
        prepare(engine)
    code = subprocess.run([SAM, "build", *arguments], cwd=ROOT, env=environment, check=False).returncode
    if code == 0 and engine:
        processor = seal(BUILD, engine)
        print(f"The worker is built for {processor}; `sam deploy` takes no other Architecture now.")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
