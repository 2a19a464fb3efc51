"""`make bench`: print what is measured, and write .local/bench/results.json and tables.md.

Everything runs on its own stack. A stack started by `make up` is left alone, but shares the processors.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import (
    api,
    costs,
    first_frame,
    load,
    media,
    parts,
    quality,
    renditions,
    report,
    scale,
    schedule,
    simulation,
    sound,
    sources,
    tasks,
)
from local import stack as local_stack
from local.stack import Stack

_SECTIONS = (
    *("comparisons", "parts", "renditions", "speedups", "scale", "simulation", "costs", "sound", "quality"),
    "tasks",
    "load",
)
#: The sections that need a running stack. "sound", "quality" and "tasks" need none; the others are computed
#: from the results of "parts".
_MEASURED = frozenset({"comparisons", "parts", "renditions", "scale", "load"})


@dataclass(frozen=True)
class Row:
    """One comparison: medians over all repeats, of the service and of the alternative."""

    name: str
    unit: str
    ours: float
    alternative: float
    ratio: float
    ratio_range: tuple[float, float]
    repeats: int


def compare(
    repeats: int, name: str, unit: str, ours: Callable[[], float], alternative: Callable[[], float]
) -> Row:
    """Measure the service and the alternative by turns, so that a busy moment of the machine affects both."""
    pairs = [(ours(), alternative()) for _ in range(repeats)]
    ratios = [a / b for a, b in pairs]
    row = Row(
        name,
        unit,
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(ratios),
        (min(ratios), max(ratios)),
        repeats,
    )
    print(f"  {name:60} {row.ours:9.3f} {row.alternative:9.3f} {unit:2} {row.ratio:6.2f}", flush=True)
    return row


def comparisons(stack: Stack, home: Path, sizes: sources.Sizes) -> list[dict[str, Any]]:
    """Compare calls and tasks with the alternatives."""
    rows = [compare(sizes.starts, *comparison) for comparison in api.comparisons(stack, home)]
    rows += [compare(sizes.starts, *comparison) for comparison in first_frame.comparisons(stack, home)]
    rows += [compare(sizes.repeats, *comparison) for comparison in media.comparisons(stack, home)]
    return [asdict(row) for row in rows]


def main() -> None:
    """Run all sections, or those on the command line. Earlier results of the other sections stay."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--quick", action="store_true", help="short sources, no repeats")
    parser.add_argument("sections", nargs="*", help=f"all, or some of {', '.join(_SECTIONS)}")
    arguments = parser.parse_args()
    if unknown := set(arguments.sections) - set(_SECTIONS):
        parser.error(f"there is no {', '.join(unknown)}")
    sizes = sources.QUICK if arguments.quick else sources.FULL
    started = time.monotonic()
    wanted = [name for name in _SECTIONS if name in (arguments.sections or _SECTIONS)]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        try:
            stack = local_stack.start(home, port=0) if _MEASURED & set(wanted) else None
            for name in wanted:
                print(f"{name}:", flush=True)
                _keep(name, _measure(name, stack, home, sizes))
        finally:
            local_stack.stop(home)
    tables = report.markdown(_results())
    (sources.FOLDER / "tables.md").write_text(tables)
    print(f"\n{tables}\n{sources.FOLDER}: {time.monotonic() - started:.0f} s")


def _measure(name: str, stack: Stack | None, home: Path, sizes: sources.Sizes) -> Any:
    if stack and name in _MEASURED:
        sections: dict[str, Callable[..., Any]]
        sections = {"comparisons": comparisons, "parts": parts.measure, "renditions": renditions.measure}
        sections |= {"scale": scale.measure, "load": load.measure}
        return sections[name](stack, home, sizes)
    if name in {"sound", "quality"}:
        return {"sound": sound.measure, "quality": quality.measure}[name](home)
    if name == "tasks":
        return tasks.measure(tasks=sizes.tasks)
    film = _results()["parts"]
    if name == "costs":
        return costs.measure(film, _results().get("comparisons", ()))
    return {"speedups": schedule.measure, "simulation": simulation.measure}[name](film)


def _results() -> dict[str, Any]:
    path = sources.FOLDER / "results.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return results


def _keep(name: str, result: Any) -> None:
    """Write a section's results to the file at once, as the next section may fail."""
    sources.FOLDER.mkdir(parents=True, exist_ok=True)
    taken = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "cores": os.cpu_count()}
    results = _results() | {name: result}
    results["taken"] = results.get("taken", {}) | {name: taken}
    (sources.FOLDER / "results.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
