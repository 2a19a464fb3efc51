"""What is known of uploads that were broken off: a file for each, in the user's state folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_state_path

#: After which the service removes what was not completed.
_DAY = 86_400


def _folder() -> Path:
    return user_state_path("transcoding") / "uploads"


@dataclass(frozen=True, slots=True)
class Memory:
    """Remembers the upload of one version of one file to one service. Where it cannot, it does not."""

    _path: Path

    @classmethod
    def of(cls, api_url: str, file: Path) -> Memory:
        """Return that of a file as it is now. Raises OSError where there is no such file."""
        path, stat = file.resolve(), file.stat()
        key = json.dumps([api_url, str(path), stat.st_size, stat.st_mtime_ns])
        return cls(_folder() / f"{hashlib.sha256(key.encode()).hexdigest()}.json")

    def read(self) -> dict[str, str]:
        """Return the `upload_id`, or the `origin_url` of an upload that is complete; else nothing."""
        _forget_old()
        with contextlib.suppress(OSError, ValueError):
            known = json.loads(self._path.read_text())
            if isinstance(known, dict):
                return {name: value for name, value in known.items() if isinstance(value, str)}
        return {}

    def write(self, **known: str) -> None:
        """Remember either."""
        with contextlib.suppress(OSError):
            # An upload id lets others go on with the upload.
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            unfinished = self._path.with_suffix(".new")
            unfinished.write_text(json.dumps(known))
            unfinished.replace(self._path)

    def forget(self) -> None:
        """Forget it."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def _forget_old() -> None:
    with contextlib.suppress(OSError):
        for path in _folder().iterdir():
            if path.stat().st_mtime < time.time() - _DAY:
                path.unlink(missing_ok=True)
