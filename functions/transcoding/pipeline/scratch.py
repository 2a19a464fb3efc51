"""The folder for temporary files of one run: room for it, and the removal of what dead workers have left.

A worker that is killed removes nothing, and Lambda may give its /tmp to the next one. The owner of a folder
holds a lock (flock) on it, which the kernel releases when the owner ends, however it ends: so whether an
owner lives depends on no clock, process number or file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from transcoding.errors import SHORTAGE_INFO, Failure, TaskFailedError

_PREFIX = "transcoding-"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Remove the folders of dead owners, and yield a new one, which is removed after the `with` block.

    Raises TaskFailedError where the disk is full when the block writes: no other attempt has more room.
    """
    _remove_dead()
    try:
        folder, lock = _create()
        try:
            yield folder
        finally:
            # A folder that cannot be removed now is removed later, as a dead owner's.
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise _full() from error


def check_room(folder: Path, size: int) -> None:
    """Check that a folder has room for `size` bytes. Raises TaskFailedError where it has not."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise _full(f" It takes at least {size / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free.")


def _full(numbers: str = "") -> TaskFailedError:
    return TaskFailedError(Failure.STORAGE_FULL, SHORTAGE_INFO[Failure.STORAGE_FULL] + numbers)


def _create() -> tuple[Path, int]:
    """Return a new folder, and the open file that holds its lock; no child process inherits it."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        # Until it is locked, another worker may take it for a dead owner's, and remove it.
        with suppress(BlockingIOError, FileNotFoundError):
            lock = _lock(folder)
            if folder.exists():
                return folder, lock
            os.close(lock)


def _lock(folder: Path) -> int:
    """Lock a folder. Raises BlockingIOError where its owner lives."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _remove_dead() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            lock = _lock(folder)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
