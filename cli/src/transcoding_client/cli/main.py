"""The commands."""

from __future__ import annotations

import math
import os
import sys
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from transcoding_client.cli import output
from transcoding_client.cli.exits import EXIT_CODES, Exit, reported, situation
from transcoding_client.cli.memory import Memory
from transcoding_client.client import Client, check_end
from transcoding_client.errors import NotFoundError
from transcoding_client.models import Quality, Task
from transcoding_client.service import find_service
from transcoding_client.uploads import UploadProgress

#: For the shell's completion; what is possible, the service decides.
FORMATS = ("m3u8", "mpd", "mp4", "mov", "mkv", "ts", "flv", "webm", "gif", "mp3", "m4a", "ogg", "wav")
CODECS = ("h264", "hevc", "av1", "vp9")

app = typer.Typer(
    name="transcoding",
    help="Transcode videos with a transcoding service.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _starting_with(choices: tuple[str, ...]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete


TaskId = Annotated[str, typer.Argument(metavar="ID", help="The task.")]
QualityOption = Annotated[
    output.QualityName | None,
    typer.Option("--quality", "-q", help="At most this size, or every size (adaptive). [default: source]"),
]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        "-f",
        metavar="FORMAT",
        help="Of the result: m3u8 (HLS), mpd (DASH), mp4, … [default: m3u8]",
        autocompletion=_starting_with(FORMATS),
    ),
]
CodecOption = Annotated[
    str | None,
    typer.Option(
        "--codec",
        metavar="CODEC",
        help="Of the picture; with --quality adaptive also two, as h264,av1.",
        autocompletion=_starting_with(CODECS),
    ),
]
ThumbnailsOption = Annotated[
    bool | None,
    typer.Option("--thumbnails/--no-thumbnails", help="Make a poster and thumbnails. [default: if adaptive]"),
]
CallbackOption = Annotated[
    str | None,
    typer.Option("--callback-url", metavar="URL", help="Is called at each change of the task's status."),
]
IdempotencyOption = Annotated[
    str | None,
    typer.Option("--idempotency-key", metavar="KEY", help="The same key within a day gives the same task."),
]
WaitOption = Annotated[
    bool, typer.Option("--wait", "-w", help="Wait for the end, and print the result's URL.")
]
TimeoutOption = Annotated[
    float | None,
    typer.Option("--timeout", metavar="SECONDS", min=0, help="How long to wait for the end of the task."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON, and nothing else, to stdout.")]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--api-url",
        metavar="URL",
        help="Of the service. Else TRANSCODING_API_URL, or .local/stack.json in this folder or above.",
    ),
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--api-key", metavar="KEY", help="Others can see arguments: rather set TRANSCODING_API_KEY."
    ),
]


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"transcoding {version('transcoding-client')}")
        raise typer.Exit


@app.callback()
def main(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version, and end."),
    ] = False,
) -> None:
    """Transcode videos with a transcoding service."""


@contextmanager
def _connected(api_url: str | None, api_key: str | None) -> Iterator[Client]:
    service = situation.service = find_service(api_url, api_key)
    with Client(service.api_url, service.api_key) as client:
        yield client


@app.command()
@reported
def put(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, readable=True, help="The video.")
    ],
    quality: QualityOption = None,
    format: FormatOption = None,
    codec: CodecOption = None,
    thumbnails: ThumbnailsOption = None,
    callback_url: CallbackOption = None,
    wait: WaitOption = False,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
    api_url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Upload a file and transcode it. Prints the task's id, or with --wait the result's URL.

    What was broken off goes on where it was: run the same command again within a day.
    """
    with _connected(api_url, api_key) as client, output.reporting(file.name) as report:
        memory = Memory.of(client.api_url, file)
        origin_url = _upload(client, file, memory, report)
        task_id = client.create(
            origin_url,
            quality=None if quality is None else Quality[quality.name],
            format=format,
            codec=codec,
            thumbnails=thumbnails,
            callback_url=callback_url,
        )
        memory.forget()
        task = _wait_for(client, task_id, timeout, report) if wait else None
    _say_created(task_id, task, as_json=as_json)


@app.command()
@reported
def create(
    origin_url: Annotated[
        str, typer.Argument(metavar="URL", help="s3://bucket/key, or an http(s) URL on the public Internet.")
    ],
    quality: QualityOption = None,
    format: FormatOption = None,
    codec: CodecOption = None,
    thumbnails: ThumbnailsOption = None,
    callback_url: CallbackOption = None,
    idempotency_key: IdempotencyOption = None,
    wait: WaitOption = False,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
    api_url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Transcode what is in S3 or on the Internet. Prints as put does."""
    with _connected(api_url, api_key) as client, output.reporting(origin_url) as report:
        task_id = client.create(
            origin_url,
            quality=None if quality is None else Quality[quality.name],
            format=format,
            codec=codec,
            thumbnails=thumbnails,
            callback_url=callback_url,
            idempotency_key=idempotency_key,
        )
        task = _wait_for(client, task_id, timeout, report) if wait else None
    _say_created(task_id, task, as_json=as_json)


@app.command("list")
@reported
def list_(
    page: Annotated[int, typer.Option(min=1, help="Which page.")] = 1,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many tasks a page has.")] = 15,
    as_json: JsonOption = False,
    api_url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """List the tasks, newest first."""
    with _connected(api_url, api_key) as client:
        found = client.tasks(page, limit)
    if as_json:
        results = [output.as_json(task) for task in found.results]
        output.say_json({"results": results, "count": found.count})
    else:
        output.show_page(found)
        before, shown = (page - 1) * limit, len(found.results)
        pages = f"; there are {math.ceil(found.count / limit)} pages" if found.count else ""
        output.tell(
            f"{before + 1} to {before + shown} of {found.count}" if shown else f"0 of {found.count}{pages}"
        )


@app.command()
@reported
def show(
    task_id: TaskId, as_json: JsonOption = False, api_url: UrlOption = None, api_key: KeyOption = None
) -> None:
    """Show a task."""
    with _connected(api_url, api_key) as client:
        task = client.get(task_id)
    if as_json:
        output.say_json(output.as_json(task))
    else:
        output.show_task(task)


@app.command()
@reported
def watch(
    task_id: TaskId,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
    api_url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Follow a task to its end. Prints the result's URL."""
    with _connected(api_url, api_key) as client, output.reporting(task_id) as report:
        task = _wait_for(client, task_id, timeout, report)
    _say_created(task_id, task, as_json=as_json)


@app.command()
@reported
def rm(
    task_ids: Annotated[list[str], typer.Argument(metavar="ID", help="The tasks.")],
    api_url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Delete tasks and their results. A task that runs is stopped."""
    with _connected(api_url, api_key) as client:
        client.delete_all(task_ids)


@app.command("open")
@reported
def open_(
    task_id: TaskId,
    result: Annotated[bool, typer.Option("--result", help="Open the result itself.")] = False,
    api_url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Open a task in the console, in the browser: how far it is, the result or the error. Prints the URL."""
    key = find_service(api_url, api_key).api_key
    with _connected(api_url, api_key) as client:
        task = client.get(task_id)
        place = f"{client.api_url}/console#"
    if result:
        place = url = _result(task)
    else:
        # The console takes the key out of its address at once.
        place, url = f"{place}/tasks/{task_id}", f"{place}key={quote(key, safe='')}&/tasks/{task_id}"
    output.say(place)
    webbrowser.open(url)


def _upload(client: Client, file: Path, memory: Memory, report: output.Report) -> str:
    """Return the `origin_url` of a file, of which only what S3 does not have is sent."""
    known = memory.read()
    if "origin_url" in known:
        return known["origin_url"]
    situation.how_to_go_on = "What is sent stays for a day: the same command goes on with it."

    def note(progress: UploadProgress) -> None:
        if known.get("upload_id") != progress.upload_id:
            known["upload_id"] = progress.upload_id
            memory.write(upload_id=progress.upload_id)
        report.upload(progress)

    try:
        origin_url = client.upload(file, upload_id=known.get("upload_id"), report=note)
    except NotFoundError:
        if "upload_id" not in known:
            raise
        # It was removed, or completed.
        memory.forget()
        origin_url = client.upload(file, report=note)
    memory.write(origin_url=origin_url)
    situation.how_to_go_on = "The file is uploaded: the same command goes on from there."
    return origin_url


def _wait_for(client: Client, task_id: str, timeout: float | None, report: output.Report) -> Task:
    situation.how_to_go_on = f"The task goes on; `transcoding watch {task_id}` follows it."
    for task in client.watch(task_id, timeout=timeout):
        report.task(task)
    return task


def _say_created(task_id: str, task: Task | None, *, as_json: bool) -> None:
    """Write what came of put, create or watch."""
    if as_json:
        output.say_json({"id": task_id} if task is None else output.as_json(task))
    if task is not None:
        url = _result(task)
        if not as_json:
            output.say(url)
    elif not as_json:
        output.say(task_id)


def _result(task: Task) -> str:
    """Return the URL of a result. Raises TaskFailedError and TaskDeletedError."""
    check_end(task)
    if not task.target_url:
        output.tell(f"{task.id} is not done: {output.status_in_words(task)}.")
        raise typer.Exit(Exit.TASK_FAILED)
    return task.target_url


def run() -> None:
    """Run the command of the command line, and exit."""
    output.prepare_streams()
    try:
        app(prog_name="transcoding")
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        output.discard_results()
        code = Exit.PIPE_CLOSED
    if code == Exit.INTERRUPTED:
        # Threads that wait for S3 would be waited for.
        os._exit(Exit.INTERRUPTED)
    sys.exit(code)
