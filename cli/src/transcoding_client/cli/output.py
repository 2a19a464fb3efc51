"""What users see: results on stdout, everything else on stderr.

Bars and colours are for terminals; without one, stderr gets a line at each change. Rich honours NO_COLOR.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Protocol

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TaskProgressColumn, TimeRemainingColumn
from rich.progress import Task as RichTask
from rich.table import Table
from rich.text import Text

from transcoding_client.models import Quality, Rendition, Status, Task, TaskPage
from transcoding_client.uploads import UploadProgress

#: The columns of what is not a terminal: nothing is cut off.
_WIDE = 10_000
#: The columns of the list, and how wide their longest words are; then comes the source.
_WIDTHS = {"ID": 8, "STATUS": 12, "QUALITY": 8, "FORMAT": 6, "CREATED": 16}
_LEAST = 15
_COLOURS = {Status.SUCCEEDED: "green", Status.FAILED: "red", Status.RUNNING: "cyan"}


class QualityName(StrEnum):
    """The values of --quality; the members have the names of those of `Quality`."""

    P360 = "360p"
    P480 = "480p"
    P720 = "720p"
    P1080 = "1080p"
    SOURCE = "source"
    ADAPTIVE = "adaptive"


_QUALITY_NAMES = {Quality[name.name].value: name.value for name in QualityName}


class Report(Protocol):
    """Shows how far something is."""

    def upload(self, progress: UploadProgress) -> None:
        """Show how far an upload is."""

    def task(self, task: Task) -> None:
        """Show how far a task is."""


def tell(words: str) -> None:
    """Write a line to stderr."""
    _errors().print(Text(words), soft_wrap=True)


def say(line: str) -> None:
    """Write a result to stdout, as it is."""
    typer.echo(line)


def say_json(value: object) -> None:
    """Write a result to stdout as JSON."""
    say(json.dumps(value, ensure_ascii=False, indent=2))


def as_json(task: Task) -> dict[str, object]:
    """Return a task as the service answers it."""
    return task.model_dump(mode="json", exclude_unset=True)


@contextmanager
def reporting(name: str) -> Iterator[Report]:
    """Show how far things are while the block runs; `name` is of the file that is uploaded."""
    console = _errors()
    if console.is_terminal and not console.is_dumb_terminal:
        columns = (_Field("label"), BarColumn(), TaskProgressColumn(), _Field("facts"), TimeRemainingColumn())
        with Progress(*columns, console=console) as progress:
            yield _Bars(name, progress)
    else:
        yield _Lines(name)


class _Lines:
    def __init__(self, name: str) -> None:
        self._name = name
        self._upload_is_told = False
        self._status: Status | None = None

    def upload(self, progress: UploadProgress) -> None:
        if not self._upload_is_told:
            tell(f"{self._name}: uploading {size_in_words(progress.size)}")
            self._upload_is_told = True

    def task(self, task: Task) -> None:
        if task.status is not self._status:
            tell(f"{task.id}: {status_in_words(task)}")
            self._status = task.status


class _Bars:
    def __init__(self, name: str, progress: Progress) -> None:
        self._name = name
        self._progress = progress
        self._uploaded: TaskID | None = None
        self._done: TaskID | None = None

    def upload(self, progress: UploadProgress) -> None:
        if self._uploaded is None:
            self._uploaded = self._progress.add_task("", total=progress.size, label=Text(self._name))
        facts = f"{size_in_words(progress.sent)} of {size_in_words(progress.size)}"
        self._progress.update(self._uploaded, completed=progress.sent, facts=facts)

    def task(self, task: Task) -> None:
        if self._done is None:
            self._done = self._progress.add_task("", total=1.0, label=Text(task.id))
        facts = Text(task.status.name.lower(), _COLOURS.get(task.status, ""))
        self._progress.update(self._done, completed=task.progress, facts=facts)


class _Field(ProgressColumn):
    """A field of a bar as it is, without Rich's markup."""

    def __init__(self, name: str) -> None:
        self._name = name
        super().__init__()

    def render(self, task: RichTask) -> Text:
        value = task.fields.get(self._name, "")
        return value if isinstance(value, Text) else Text(value)


def show_page(page: TaskPage) -> None:
    """Write a page of the list to stdout. On a narrow terminal, sources are cut off at their beginning."""
    console = _results()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading, width in _WIDTHS.items():
        table.add_column(heading, min_width=width, no_wrap=True)
    table.add_column("SOURCE", no_wrap=True)
    # Rich pads the last column too, in some of its versions.
    left = console.width - sum(width + 2 for width in _WIDTHS.values()) - 2
    for task in page.results:
        table.add_row(
            task.id,
            Text(status_in_words(task), _COLOURS.get(task.status, "")),
            quality_in_words(task),
            Text(task.format),
            f"{task.created_at.astimezone():%Y-%m-%d %H:%M}",
            Text(_end_of(task.origin_url, left)),
        )
    console.print(table)


def _end_of(text: str, columns: int) -> str:
    """Return a text, or as much of its end as there is room for, at least a file's name of usual length."""
    if cell_len(text) <= max(columns, _LEAST):
        return text
    end = text[-max(columns, _LEAST) :]
    while cell_len(end) >= max(columns, _LEAST):
        end = end[1:]
    return f"…{end}"


def show_task(task: Task) -> None:
    """Write all that is known of a task to stdout."""
    facts = [
        ("id", task.id),
        ("status", status_in_words(task)),
        ("result", task.target_url),
        ("source", task.origin_url),
        ("quality", quality_in_words(task)),
        ("format", task.format),
        ("created", task.created_at.astimezone().isoformat()),
        ("updated", task.updated_at.astimezone().isoformat()),
    ]
    if task.status is Status.FAILED:
        facts.append(("reason", f"{task.error_info} ({task.error_code})"))
    if task.output:
        facts += [
            ("length", f"{task.output.duration:g} s"),
            ("size", size_in_words(task.output.bytes)),
            *(("rendition", _rendition_in_words(rendition)) for rendition in task.output.renditions),
            ("poster", task.output.poster_url),
            ("thumbnails", task.output.thumbnails_url),
        ]
    told = [(name, value) for name, value in facts if value]
    width = max(len(name) for name, _ in told)
    for name, value in told:
        # No line is broken: URLs are copied from it.
        _results().print(Text.assemble((f"{name:{width}}", "bold"), "  ", value), soft_wrap=True)


def status_in_words(task: Task) -> str:
    """Return a task's status, and of one that is running how far it is."""
    words = task.status.name.lower()
    return f"{words} {task.progress:.0%}" if task.status is Status.RUNNING else words


def quality_in_words(task: Task) -> str:
    """Return the quality as --quality takes it."""
    return _QUALITY_NAMES.get(task.task_config_temp_id, str(task.task_config_temp_id))


def size_in_words(size: float) -> str:
    """Return a number of bytes, in decimal units."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _rendition_in_words(rendition: Rendition) -> str:
    picture = (
        f"{rendition.width}x{rendition.height} at {rendition.frame_rate:g}/s, " if rendition.width else ""
    )
    rates = f"{rendition.bit_rate / 1e6:.2f} Mb/s, at most {rendition.peak_bit_rate / 1e6:.2f}"
    return f"{picture}{rendition.codec}, {rates}"


def _results() -> Console:
    return _console(stderr=False)


def _errors() -> Console:
    return _console(stderr=True)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the caller, as it is when other code writes."""
        raise BrokenPipeError


def _console(*, stderr: bool) -> Console:
    console = _Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _WIDE
    return console


def discard_results() -> None:
    """Let what is left for stdout, which nobody reads any more, go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def prepare_streams() -> None:
    """Have what the streams' encoding does not know be escaped."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
