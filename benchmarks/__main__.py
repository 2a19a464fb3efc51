"""`make bench`: prints a table and writes .local/bench.json.

Everything runs on a stack of its own; a running `make up` is left alone, but takes its share of the cores.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import api, media
from local import stack as local_stack

REPEATS = 5


@dataclass(frozen=True)
class Row:
    """One comparison: medians of repeats, ours and the alternative's taken turn by turn."""

    name: str
    unit: str
    ours: float
    alternative: float
    ratio: float
    ratio_range: tuple[float, float]
    repeats: int


def compare(name: str, unit: str, ours: Callable[[], float], alternative: Callable[[], float]) -> Row:
    """Measure both in turn, so that a busy moment of the machine meets both."""
    pairs = [(ours(), alternative()) for _ in range(REPEATS)]
    ratios = [a / b for a, b in pairs]
    row = Row(
        name,
        unit,
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(ratios),
        (min(ratios), max(ratios)),
        REPEATS,
    )
    low, high = row.ratio_range
    print(
        f"{name:58} {row.ours:9.3f} {row.alternative:9.3f} {unit:4} {row.ratio:6.2f}  ({low:.2f}-{high:.2f})",
        flush=True,
    )
    return row


def main() -> None:
    """Run all comparisons."""
    print(f"{'':58} {'ours':>9} {'other':>9} {'':4} {'ratio':>6}  (range of {REPEATS})")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        try:
            stack = local_stack.start(home)
            for comparison in (*api.comparisons(stack), *media.comparisons(stack, home)):
                rows.append(compare(*comparison))
        finally:
            local_stack.stop(home)
    out = local_stack.HOME / "bench.json"
    out.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    print(f"\n{out}")


if __name__ == "__main__":
    main()
