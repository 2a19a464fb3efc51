"""The package that `sam build` makes of the functions."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from benchmarks import package
from local.package import ROOT, load_template

TEMPLATE = load_template(ROOT / "template.yaml")


@pytest.fixture(scope="module")
def python() -> str:
    try:
        return package.python()
    except subprocess.CalledProcessError:
        pytest.skip("there is no Python of the version that Lambda has")


@pytest.fixture(scope="module")
def built(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package.build(tmp_path_factory.mktemp("built") / "package")


def test_each_function_of_the_folder_is_built_by_its_makefile() -> None:
    built = {
        name: resource.get("Metadata", {}).get("BuildMethod")
        for name, resource in TEMPLATE["Resources"].items()
        if resource["Type"] == "AWS::Serverless::Function"
        and resource["Properties"].get("PackageType") != "Image"
    }
    assert built
    assert set(built.values()) == {"makefile"}


def test_the_python_that_compiles_is_the_one_that_runs(python: str) -> None:
    version = subprocess.run(
        [python, "-c", "import sys; print('python%d.%d' % sys.version_info[:2])"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert version.stdout.strip() == TEMPLATE["Globals"]["Function"]["Runtime"]


def test_all_of_it_is_compiled_and_needs_no_look_at_the_sources(built: Path, python: str) -> None:
    magic = subprocess.run(
        [python, "-c", "import importlib.util as u; print(u.MAGIC_NUMBER.hex())"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    sources = list(built.rglob("*.py"))
    assert built / "get_transcode.py" in sources
    assert built / "transcoding" / "data" / "table.py" in sources
    for source in sources:
        (compiled,) = (source.parent / "__pycache__").glob(f"{source.stem}.cpython-*.pyc")
        head = compiled.read_bytes()[:8]
        # PEP 552: bit 0 for a hash of the source, bit 1 for checking it.
        assert (head[:4].hex(), int.from_bytes(head[4:], "little")) == (magic, 0b01), source


def test_it_runs_by_itself(built: Path, python: str, environment: None) -> None:
    """With the clients of the services that it keeps of botocore."""
    done = subprocess.run(
        [
            python,
            "-I",
            "-c",
            f"import sys; sys.path.insert(0, {str(built)!r}); import callback, notify, sweep",
        ],
        env=dict(os.environ),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    kept = {path.name for path in (built / "botocore" / "data").iterdir() if path.is_dir()}
    assert kept == {"dynamodb", "events", "s3", "sqs", "ssm"}
