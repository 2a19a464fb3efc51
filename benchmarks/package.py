"""The packages of functions, made as `sam build` makes them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from local.package import ROOT

MAKEFILE = ROOT / "functions" / "Makefile"
UV = ROOT / ".local" / "uv" / "bin"


def build(target: Path) -> Path:
    """Make the package of the service's functions in a folder that does not exist yet, and return it."""
    return _make(ROOT / "functions", target)


def build_bare(target: Path) -> Path:
    """Make the package of the bare handlers, with what they import, in the same way."""
    sources = target.with_name(f"{target.name}-sources")
    sources.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("bare.py"), sources)
    export = [str(UV / "uv"), "export", "--quiet", "--frozen", "--no-header", "--only-group", "bare"]
    with (sources / "requirements.txt").open("wb") as requirements:
        subprocess.run(export, cwd=ROOT, stdout=requirements, check=True)
    return _make(sources, target)


def build_worker(target: Path) -> Path:
    """Make the packages of the worker's image, as worker.Dockerfile does."""
    functions, interpreter = ROOT / "functions", python()
    install = [str(UV / "uv"), "pip", "install", "--quiet", "--python", interpreter, "--target", str(target)]
    checks = ["--require-hashes", "--only-binary", ":all:", "--requirement", "requirements-worker.txt"]
    _run([*install, *checks], functions)
    shutil.copytree(functions, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    compile_all = ["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", str(target)]
    _run([interpreter, *compile_all], functions)
    return target


def python() -> str:
    """Return the Python of the version that Lambda has."""
    return _run(["make", "--silent", "--makefile", str(MAKEFILE), "python"], ROOT).splitlines()[-1]


def _make(sources: Path, target: Path) -> Path:
    target.mkdir(parents=True)
    _run(["make", "--makefile", str(MAKEFILE), "build-benchmark", f"ARTIFACTS_DIR={target}"], sources)
    return target


def _run(command: list[str], folder: Path) -> str:
    environment = os.environ | {"PATH": f"{UV}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
