"""The results as tables in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from benchmarks.costs import total

_MIB = 2**20


def markdown(results: Mapping[str, Any]) -> str:
    """Return the tables of the sections that have results."""
    tables = [render(results[name]) for name, render in _TABLES.items() if name in results]
    return "\n\n".join(tables) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _comparisons(rows: Sequence[Mapping[str, Any]]) -> str:
    return _table(
        ("", "here", "instead", "ratio (range)"),
        [
            (
                row["name"],
                _time(row["ours"]),
                _time(row["alternative"]),
                f"{row['ratio']:.2f} ({row['ratio_range'][0]:.2f}-{row['ratio_range'][1]:.2f})",
            )
            for row in rows
        ],
    )


def _parts(film: Mapping[str, Any]) -> str:
    pictures = [step for step in film["steps"] if step["kind"] == "picture"]
    ours, alone = film["picture_bytes"]
    rows = [
        ("processor time", f"{film['cpu']:.0f} s", f"{film['plain']['cpu']:.0f} s", f"{film['ratio']:.3f}"),
        ("frames", *film["frames"], f"{film['frames'][0] / film['frames'][1]:.3f}"),
        ("bytes of the picture", f"{ours:,}", f"{alone:,}", f"{ours / alone:.3f}"),
    ]
    ratios = ", ".join(f"{excerpt['ratio']:.3f}" for excerpt in film["excerpts"])
    if ratios:
        rows.append((f"processor time, {film['excerpt_seconds']} s of it", "", "", ratios))
    title = f"{film['seconds']} s of 1080p to 720p, m3u8: {len(pictures)} parts and the sound"
    return _table((title, "in parts", "FFmpeg alone", "ratio"), rows)


def _speedups(rows: Sequence[Mapping[str, Any]]) -> str:
    return _table(
        ("workers", "cold", "of it until parts begin", "speedup", "a worker", "warm", "speedup", "a worker",
         "cold, at Lambda's pace", "speedup"),
        [
            (
                row["workers"],
                f"{row['cold']['end']:.1f} s",
                f"{row['cold']['planned']:.1f} s",
                f"{row['alone'] / row['cold']['end']:.1f}",
                f"{row['alone'] / row['cold']['end'] / row['workers']:.2f}",
                f"{row['warm']['end']:.1f} s",
                f"{row['alone'] / row['warm']['end']:.1f}",
                f"{row['alone'] / row['warm']['end'] / row['workers']:.2f}",
                f"{row['paced']['end']:.1f} s",
                f"{row['alone'] / row['paced']['end']:.1f}",
            )
            for row in rows
        ],
    )  # fmt: skip


def _scale(rows: Sequence[Mapping[str, Any]]) -> str:
    return _table(
        ("source", "format", "parts", "time", "/tmp of a worker", "memory of a worker"),
        [
            (
                f"{row['hours']:g} h, {row['source_bytes'] / _MIB:.0f} MiB",
                row["format"],
                row["parts"],
                f"{row['seconds']:.0f} s",
                f"{row['files_of_one'] / _MIB:.1f} MiB",
                f"{row['memory_of_one'] / _MIB:.0f} MiB",
            )
            for row in rows
        ],
    )


def _simulation(rows: Sequence[Mapping[str, Any]]) -> str:
    return _table(
        (
            *("workers", "queue", "small tasks wait: median", "95th percentile", "films take: median"),
            *("workers busy", "writes/s: hottest task", "hottest index key"),
        ),
        [
            (
                row["workers"],
                row["queue"],
                f"{row['small_wait_median']:.1f} s",
                f"{row['small_wait_95']:.1f} s",
                f"{row['film_median']:.0f} s",
                f"{row['utilisation']:.0%}",
                row["item_writes"],
                row["index_writes"],
            )
            for row in rows
        ],
    )


def _costs(costs: Mapping[str, Any]) -> str:
    sections = {
        "a minute of 720p": costs["making"],
        "1,000 views of it": costs["watching"],
        "a month of it in S3": costs["storing"],
        **{f"1,000 calls of {call}": rows for call, rows in costs["calls"].items()},
    }
    rows: list[tuple[str, str, str]] = []
    for title, items in sections.items():
        rows.append((f"**{title}**", "", f"**{total(items):.4f} $**"))
        rows += [(name, f"{item['amount']:.3g}", f"{item['dollars']:.6f} $") for name, item in items.items()]
    rows += [
        (f"MediaConvert, basic tier, {size}, a minute", "", f"{price:.4f} $")
        for size, price in costs["mediaconvert"].items()
    ]
    return _table(("what is billed", "amount", "cost"), rows)


def _sound(rows: Sequence[Mapping[str, Any]]) -> str:
    names = [name for name in rows[0] if name not in {"codec", "channels", "rate"}]
    return _table(
        ("above its difference from the source", *names),
        [
            (
                f"{row['codec']}, {'mono' if row['channels'] == 1 else 'stereo'}, {row['rate']} kb/s",
                *(f"{row[name]:.0f} dB" for name in names),
            )
            for row in rows
        ],
    )


def _quality(rows: Sequence[Mapping[str, Any]]) -> str:
    lines: list[tuple[object, ...]] = []
    for row in rows:
        ways = [row["constant"], row["chosen"]]
        lines.append(
            (
                f"{row['clip']}, {row['side']}p, {row['codec']}",
                *(f"{way['crf']:g}: {way['mean']:.1f} ({way['worst']:.1f})" for way in ways),
                f"{ways[1]['bit_rate'] / ways[0]['bit_rate'] - 1:+.0%}",
                f"{row['samples']['share']:.1%}",
            )
        )
    for side in sorted({row["side"] for row in rows}):
        these = [row for row in rows if row["side"] == side]
        saved = fmean(row["chosen"]["bit_rate"] / row["constant"]["bit_rate"] - 1 for row in these)
        means = (fmean(row[way]["mean"] for row in these) for way in ("constant", "chosen"))
        share = fmean(row["samples"]["share"] for row in these)
        lines.append(
            (f"**mean of {side}p**", *(f"{mean:.1f}" for mean in means), f"{saved:+.0%}", f"{share:.1%}")
        )
    head = ("", "CRF as ever: VMAF (worst second)", "chosen", "bytes", "processor time of the samples")
    return _table(head, lines)


def _renditions(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for row in rows:
        likeness = row["vmaf"].values()
        means = [one["mean"] for one in likeness]
        lines.append(
            (
                row["name"],
                f"{row['cpu'] / row['minutes']:.0f} s",
                f"{row['plain_cpu'] / row['minutes']:.0f} s",
                f"{row['ratio']:.3f}",
                ", ".join(f"{speedup:.1f}" for speedup in row["speedups"].values()),
                f"{row['bytes'] / row['minutes'] / 1e6:.1f} MB",
                f"{min(means):.1f} to {max(means):.1f}" if len(means) > 1 else f"{means[0]:.1f}",
                f"{min(one['worst'] for one in likeness):.1f}",
                f"{row['making']:.4f} $",
                f"{row['watching']:.2f} $",
            )
        )
    head = (
        *("a minute of 1080p in parts", "processor time", "FFmpeg alone", "ratio"),
        *("times as fast with 2, 5, 10 workers", "bytes", "VMAF"),
        *("worst second", "cost of making", "of 1,000 views"),
    )
    return _table(head, lines)


def _tasks(result: Mapping[str, Any]) -> str:
    pages = _table(
        (f"{result['tasks']:,} tasks: a page", "limit", "requests, one after the other", "read units"),
        [(row["place"], row["limit"], row["requests"], f"{row['units']:g}") for row in result["pages"]],
    )
    writes = _table(
        ("call", "requests", "units"),
        [(row["call"], row["requests"], f"{row['units']:g}") for row in result["writes"]],
    )
    load = result["sustained"]
    sustained = _table(
        ("created", "deleted", "503", "transactions", "cancelled", "a call takes: median", "99 %", "longest"),
        [
            (
                *(load[name] for name in ("created", "deleted", "503", "transactions", "cancelled")),
                *(_time(load[name]) for name in ("median", "p99", "longest")),
            )
        ],
    )
    return "\n\n".join((pages, writes, sustained))


def _load(result: Mapping[str, Any]) -> str:
    summed = (
        "clients",
        "created",
        "deleted",
        "lost",
        "double",
        "count is wrong by",
        "answers of another form",
    )
    whole = _table((*summed, "in"), [(*(result[name] for name in summed), f"{result['seconds']:.0f} s")])
    calls = _table(
        ("call", "calls", "not 200", "median", "99 %", "longest"),
        [
            (name, row["calls"], row["not 200"], *(_time(row[key]) for key in ("median", "p99", "longest")))
            for name, row in result["calls"].items()
        ],
    )
    return f"{whole}\n\n{calls}"


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 0.1 else f"{seconds:.2f} s"


_TABLES: Mapping[str, Callable[[Any], str]] = {
    "comparisons": _comparisons,
    "parts": _parts,
    "renditions": _renditions,
    "speedups": _speedups,
    "scale": _scale,
    "simulation": _simulation,
    "costs": _costs,
    "sound": _sound,
    "quality": _quality,
    "tasks": _tasks,
    "load": _load,
}
