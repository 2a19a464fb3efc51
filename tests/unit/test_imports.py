"""What the functions import: their packages here, their layers in `make lint` (import-linter)."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.conftest import FUNCTIONS

ROOT = Path(__file__).parents[2]
HANDLERS = sorted(path.stem for path in (ROOT / "functions").glob("*.py"))

#: Imports a module as if there were no others of these names.
WITHOUT = """
import sys
class Without:
    def find_spec(name, *_):
        if name in sys.argv[2:]:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Without)
__import__(sys.argv[1])
"""


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
    subprocess.run([sys.executable, "-c", WITHOUT, handler, *modules], check=True, cwd=ROOT / "functions")


@pytest.mark.parametrize("handler", FUNCTIONS)
def test_a_function_of_the_api_starts_without_what_takes_long_to_import(
    handler: str, environment: None
) -> None:
    program = "import sys; __import__(sys.argv[1]); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program, handler],
        check=True,
        cwd=ROOT / "functions",
        capture_output=True,
        text=True,
    )
    slow = {
        "asyncio",
        "aws_lambda_powertools.event_handler",
        "aws_xray_sdk",
        "boto3",
        "pydantic",
        "s3transfer",
    }
    assert not slow & set(done.stdout.split())


def test_the_worker_starts_without_what_it_needs_later(
    environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OUTPUT_BASE_URL", "MAX_SOURCE_BYTES", "PART_SECONDS", "FAN_OUT_SECONDS"):
        monkeypatch.setenv(name, "1")
    program = "import sys; import worker; assert not {'av', 'pydantic', 's3transfer'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT / "functions")


def test_no_package_of_the_functions_is_compiled_for_a_processor() -> None:
    """`sam build` packs them for any."""
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    versions = re.findall(
        r"^([\w.-]+)==(\S+)", (ROOT / "functions" / "requirements.txt").read_text(), re.MULTILINE
    )
    for name, version in versions:
        (package,) = (p for p in packages if (p["name"], p["version"]) == (name, version))
        assert [wheel["url"] for wheel in package["wheels"] if wheel["url"].endswith("-none-any.whl")]
        assert all(wheel["url"].endswith("-none-any.whl") for wheel in package["wheels"]), name


def _pinned(requirements: str) -> set[str]:
    text = (ROOT / "functions" / requirements).read_text()
    return set(re.findall(r"^([\w.-]+)==", text, re.MULTILINE))
