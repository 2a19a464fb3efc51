"""Look the packages that are shipped, and those that the browser tests use, up among known vulnerabilities.

`python -m local.audit`. The exit code is 1 if one has a hole that is not explained below. Where the
advisories cannot be reached, it says how many packages were not looked up.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from local.package import ROOT

#: What is known and does no harm here, with the reason: an advisory's id (PYSEC-…, GHSA-…, CVE-…).
EXPLAINED: dict[str, str] = {}

_UV = ROOT / ".local/uv/bin/uv"
_PIP_AUDIT = ROOT / ".local/envs/supply/bin/pip-audit"
#: What is deployed, what users install, and what runs on a developer's machine.
_PYTHON = (
    ("the functions", ("--only-group", "worker")),
    (
        "the command line and the client",
        ("--package", "transcoding-client", "--no-dev", "--no-emit-workspace"),
    ),
    ("the emulator", ("--only-group", "ministack")),
)
_PIP_OPTIONS = ("--disable-pip", "--format", "json", "--progress-spinner", "off", "--timeout", "5")
_NPM = ROOT / "tests/browser"
_NPM_OPTIONS = ("--json", "--fetch-retries", "0", "--fetch-timeout", "5000")


@dataclass(frozen=True)
class Hole:
    """A known vulnerability of a package, by the id of its advisory."""

    package: str
    id: str
    aliases: frozenset[str] = frozenset()

    @property
    def explained(self) -> bool:
        """Whether a reason is given why it does no harm here."""
        return bool(({self.id} | self.aliases) & EXPLAINED.keys())


@dataclass(frozen=True)
class Report:
    """What is known of some packages; `missed` could not be looked up."""

    looked_up: int
    missed: int
    holes: tuple[Hole, ...] = ()


def python(report: str, packages: int) -> Report:
    """Read pip-audit's report in JSON on so many packages; there is none where it cannot reach anything.

    A package that its service does not know was not looked up.
    """
    found = _object(report).get("dependencies", [])
    known = [package for package in found if "skip_reason" not in package]
    holes = [
        Hole(f"{package['name']} {package['version']}", hole["id"], frozenset(hole["aliases"]))
        for package in known
        for hole in package["vulns"]
    ]
    return Report(len(known), packages - len(known), tuple(holes))


def npm(report: str, packages: int) -> Report:
    """Read npm's report in JSON on so many packages; npm tells of all or, with an error, of none."""
    found = _object(report)
    if "vulnerabilities" not in found:
        return Report(0, packages)
    holes = [
        Hole(f"{name} {package['range']}", advisory["url"].rpartition("/")[2])
        for name, package in found["vulnerabilities"].items()
        for advisory in package["via"]
        if isinstance(advisory, dict)
    ]
    return Report(packages, 0, tuple(holes))


def _object(report: str) -> dict[str, Any]:
    try:
        found = json.loads(report)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _reports() -> Iterator[tuple[str, Report]]:
    with TemporaryDirectory() as folder:
        for what, chosen in _PYTHON:
            requirements = Path(folder) / "requirements.txt"
            exported = _run(str(_UV), "export", "--quiet", "--frozen", "--no-header", *chosen)
            requirements.write_text(exported)
            report = _run(str(_PIP_AUDIT), "--requirement", str(requirements), *_PIP_OPTIONS)
            yield what, python(report, len(re.findall("^[^ #]", exported, re.MULTILINE)))
    lock = json.loads((_NPM / "package-lock.json").read_text())
    report = _run("npm", "audit", "--prefix", str(_NPM), *_NPM_OPTIONS)
    yield "the player and the browser tests", npm(report, len(lock["packages"]) - 1)


def _run(*command: str) -> str:
    """Return what a program writes; it exits with 1 where it has found something, or cannot look it up."""
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return ""


def main() -> int:
    """Print a line for each list of packages, and each hole."""
    harmful = 0
    for what, report in _reports():
        missed = f"; NOT looked up, as no advisories can be reached: {report.missed}" if report.missed else ""
        print(f"{what}: {report.looked_up} packages looked up{missed}")
        for hole in report.holes:
            print(f"  {hole.package}: {hole.id}{' (explained)' if hole.explained else ''}")
            harmful += not hole.explained
    return min(harmful, 1)


if __name__ == "__main__":
    sys.exit(main())
