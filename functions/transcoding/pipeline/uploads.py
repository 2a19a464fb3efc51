"""Uploads of files under way, while FFmpeg writes the next ones."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from transcoding.data.object_store import ObjectStore

if TYPE_CHECKING:
    from s3transfer.futures import TransferFuture


class Uploads:
    """Uploads under way; those that are done leave nothing in /tmp.

        with Uploads(store) as uploads:
            uploads.add(path, key, "video/mp4")
            uploads.settle(wait=True)

    Leaving the block abandons what is still under way, and returns when nothing is being stored any more.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._under_way: list[tuple[TransferFuture, Path]] = []

    def add(
        self, path: Path, key: str, content_type: str, on_bytes: Callable[[int], None] | None = None
    ) -> None:
        """Begin to store a file."""
        self._under_way.append((self._store.upload(path, key, content_type, on_bytes), path))

    @property
    def done(self) -> bool:
        """Whether nothing is under way any more."""
        return all(future.done() for future, _ in self._under_way)

    def settle(self, *, wait: bool = False) -> None:
        """Remove the files whose upload is done, or all after a wait. Raises what made an upload fail."""
        still = []
        for future, path in self._under_way:
            if wait or future.done():
                future.result()
                path.unlink()
            else:
                still.append((future, path))
        self._under_way = still

    def __enter__(self) -> Uploads:
        return self

    def __exit__(self, *exception: object) -> None:
        for future, _ in self._under_way:
            future.cancel()
        for future, _ in self._under_way:
            with suppress(BaseException):
                future.result()
