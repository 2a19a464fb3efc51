"""What the functions import: their packages here, their layers in `make lint` (import-linter)."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HANDLERS = sorted(path.stem for path in (ROOT / "functions").glob("*.py"))


def test_every_handler_is_in_the_contract_of_the_layers() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (handlers,) = (contract for contract in contracts if contract["id"] == "handlers")
    assert handlers["forbidden_modules"] == HANDLERS


@pytest.mark.parametrize("handler", [name for name in HANDLERS if name != "worker"])
def test_a_function_imports_without_the_packages_of_the_worker(handler: str, environment: None) -> None:
    worker_only = _pinned("requirements-worker.txt") - _pinned("requirements.txt")
    modules = [
        module
        for module, distributions in packages_distributions().items()
        if worker_only & {name.lower().replace("_", "-") for name in distributions}
    ]
    assert "av" in modules
    # What sys.modules holds None for cannot be imported.
    program = "import sys; sys.modules.update(dict.fromkeys(sys.argv[2:])); __import__(sys.argv[1])"
    subprocess.run([sys.executable, "-c", program, handler, *modules], check=True, cwd=ROOT / "functions")


def _pinned(requirements: str) -> set[str]:
    text = (ROOT / "functions" / requirements).read_text()
    return set(re.findall(r"^([\w.-]+)==", text, re.MULTILINE))
