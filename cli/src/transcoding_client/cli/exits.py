"""How the program ends: its exit codes, and the words for what went wrong. It never shows a traceback."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import ParamSpec
from urllib.parse import urlsplit

import typer

from transcoding_client.cli import output
from transcoding_client.errors import (
    ApiKeyError,
    FileChangedError,
    RefusedError,
    TaskDeletedError,
    TaskFailedError,
    UnavailableError,
    UnknownServiceError,
    UploadError,
    WaitTimeoutError,
)
from transcoding_client.service import Service

_Parameters = ParamSpec("_Parameters")


class Exit(IntEnum):
    """The exit codes."""

    DONE = 0
    TASK_FAILED = 1
    USAGE = 2
    REFUSED = 3
    AWAY = 4
    TIMED_OUT = 5
    FAULT = 70
    INTERRUPTED = 130
    PIPE_CLOSED = 141


#: The end of --help.
EXIT_CODES = (
    "Exit codes: 0 done; 1 the task failed or was deleted; 2 wrong usage, or no service is known; 3 the "
    "service refuses (wrong API key, no such task, a wrong value); 4 the service is away; 5 --timeout is "
    "over, and the task goes on; 130 interrupted."
)
_OF_ERRORS: tuple[tuple[type[Exception], Exit], ...] = (
    (TaskFailedError, Exit.TASK_FAILED),
    (TaskDeletedError, Exit.TASK_FAILED),
    (UnknownServiceError, Exit.USAGE),
    (FileChangedError, Exit.USAGE),
    (RefusedError, Exit.REFUSED),
    (WaitTimeoutError, Exit.TIMED_OUT),
    (UploadError, Exit.AWAY),
    (UnavailableError, Exit.AWAY),
    (OSError, Exit.USAGE),
)


#: What this program calls the parameters that messages of the service begin with.
_OPTIONS = {
    "task_config_temp_id": "--quality",
    "format": "--format",
    "codec": "--codec",
    "thumbnails": "--thumbnails",
    "callback_url": "--callback-url",
    "origin_url": "the source",
}


@dataclass
class Situation:
    """What the words for an error need to know; commands note it as they go."""

    service: Service | None = None
    #: What to do where the program is broken off now.
    how_to_go_on: str = ""


situation = Situation()


def reported(command: Callable[_Parameters, None]) -> Callable[_Parameters, None]:
    """Have a command end with an exit code, and words on stderr, whatever it raises."""

    @functools.wraps(command)
    def run(*arguments: _Parameters.args, **options: _Parameters.kwargs) -> None:
        situation.service, situation.how_to_go_on = None, ""
        try:
            command(*arguments, **options)
        except typer.Exit:
            raise
        except KeyboardInterrupt:
            output.tell(f"Interrupted. {situation.how_to_go_on}".strip())
            raise typer.Exit(Exit.INTERRUPTED) from None
        except BrokenPipeError:
            output.discard_results()
            raise typer.Exit(Exit.PIPE_CLOSED) from None
        except Exception as error:
            code = next((code for kind, code in _OF_ERRORS if isinstance(error, kind)), Exit.FAULT)
            output.tell(_words(error, code))
            raise typer.Exit(code) from None

    return run


def _words(error: Exception, code: Exit) -> str:
    words = str(error)
    if code is Exit.FAULT:
        return f"A fault of this program: {type(error).__name__}: {words}"
    if isinstance(error, ApiKeyError):
        key_from = situation.service.key_from if situation.service else "nowhere"
        words = f"The service refuses the API key ({error.errcode}), which is from {key_from}."
    elif isinstance(error, RefusedError):
        for parameter, option in _OPTIONS.items():
            words = words.replace(f"{parameter}:", f"{option}:")
        words = f"The service refuses this ({error.errcode}): {words}"
    elif isinstance(error, UnavailableError):
        words = f"The service is away{_number(error)}: {words}"
        host = urlsplit(situation.service.api_url).hostname if situation.service else None
        if host in {"127.0.0.1", "localhost"}:
            words += " If it does not run, `make up` in its repository starts it."
    if code in {Exit.AWAY, Exit.TIMED_OUT} and situation.how_to_go_on:
        words += f"\n{situation.how_to_go_on}"
    return words


def _number(error: UnavailableError) -> str:
    return f" ({error.errcode})" if error.errcode else ""
