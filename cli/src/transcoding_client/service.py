"""Which service to talk to."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from transcoding_client.errors import UnknownServiceError

URL_VARIABLE = "TRANSCODING_API_URL"
KEY_VARIABLE = "TRANSCODING_API_KEY"
#: What a service on this machine writes into the folder of its repository.
STACK_FILE = Path(".local", "stack.json")


@dataclass(frozen=True, slots=True)
class Service:
    """The address of a service, its key, and in words where the key is from."""

    api_url: str
    api_key: str = field(repr=False)
    key_from: str = "the caller"


def find_service(
    api_url: str | None = None,
    api_key: str | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
    folder: Path | None = None,
) -> Service:
    """Return the service of the arguments, else of the environment, else the one that runs on this machine.

    The last is that of `.local/stack.json` in `folder` (the current one) or in one above. Address and key are
    never from different places of these, but either argument may be in the environment instead. Raises
    UnknownServiceError.
    """
    url = api_url or environment.get(URL_VARIABLE)
    key = api_key or environment.get(KEY_VARIABLE)
    if url and not url.startswith(("http://", "https://")):
        raise UnknownServiceError(f"The address of a service starts with https://, {url!r} does not.")
    if url and key:
        return Service(url, key, "the arguments" if api_key else f"the environment variable {KEY_VARIABLE}")
    if url or key:
        missing = f"The key of {url}" if url else "The address of the service"
        name = f"{KEY_VARIABLE} or --api-key" if url else f"{URL_VARIABLE} or --api-url"
        raise UnknownServiceError(
            f"{missing} is not given: set {name}. ({STACK_FILE} is read where neither is given.)"
        )
    for parent in _and_above(folder or Path.cwd()):
        if (path := parent / STACK_FILE).is_file():
            return _of_file(path)
    raise UnknownServiceError(
        "There is no service to talk to. Start one on this machine with `make up`, in its repository, and "
        f"stay in that folder; or set {URL_VARIABLE} and {KEY_VARIABLE}, or --api-url and --api-key."
    )


def _and_above(folder: Path) -> list[Path]:
    return [folder.absolute(), *folder.absolute().parents]


def _of_file(path: Path) -> Service:
    try:
        stack = json.loads(path.read_text(encoding="utf-8"))
        return Service(stack["api_url"], stack["api_key"], str(path))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnknownServiceError(f"{path} cannot be read: run `make up` again.") from error
