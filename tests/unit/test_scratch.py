"""Temporary folders: each lasts as long as its owner, however that ends."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from transcoding.errors import Failure, TaskFailedError
from transcoding.pipeline import scratch
from transcoding.pipeline.scratch import check_room, scratch_folder

OWNER = """
import sys, time
from transcoding.pipeline.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "video").mkdir()
    (folder / "video/1.m4s").write_bytes(bytes(1000))
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@contextmanager
def owner(temporary: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Start a process that has a folder."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER],
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(Path(scratch.__file__).parents[2])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_a_folder_lasts_as_long_as_its_block(temporary):
    with scratch_folder() as folder:
        assert folder.parent == temporary
        (folder / "file").write_text("x")
    assert not list(temporary.iterdir())


def test_what_a_killed_owner_has_left_is_removed_at_once(temporary):
    with owner(temporary) as (process, left):
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (left / "video/1.m4s").exists()
        with scratch_folder() as folder:
            assert list(temporary.iterdir()) == [folder]


def test_the_folder_of_an_owner_that_lives_stays_however_old_it_is(temporary):
    with owner(temporary) as (_, held):
        os.utime(held, (0, 0))
        with scratch_folder() as folder:
            assert sorted(temporary.iterdir()) == sorted([held, folder])
            with scratch_folder():
                assert folder.exists()
        assert (held / "video/1.m4s").exists()


def test_the_folder_of_an_owner_that_was_stopped_stays(temporary):
    with owner(temporary) as (process, held):
        process.send_signal(signal.SIGSTOP)
        with scratch_folder():
            assert (held / "video/1.m4s").exists()
        process.send_signal(signal.SIGCONT)


def test_a_child_of_a_killed_owner_does_not_keep_the_folder(temporary):
    child = "import subprocess; subprocess.Popen(['sleep', '30'], stdin=0)\n"
    program = OWNER.replace("    print", f"    {child}    print")
    environment = {**os.environ, "TMPDIR": str(temporary)}
    environment["PYTHONPATH"] = str(Path(scratch.__file__).parents[2])
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout
        left = Path(process.stdout.readline().decode().strip())
        process.kill()
        process.wait()
        with scratch_folder():
            assert not left.exists()
        os.killpg(process.pid, signal.SIGKILL)


def test_other_files_stay_even_with_such_a_name(temporary):
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir()
    (temporary / "transcoding-link").symlink_to(elsewhere)
    (temporary / "transcoding-file").write_text("x")
    (temporary / "other").mkdir()
    with scratch_folder():
        pass
    assert {path.name for path in temporary.iterdir()} == {
        *("elsewhere", "other", "transcoding-link", "transcoding-file")
    }


def test_workers_that_start_at_once_do_not_take_each_others_folders(temporary):
    def run(_: int) -> bool:
        kept = True
        for _ in range(100):
            with scratch_folder() as folder:
                (folder / "file").write_text("x")
                time.sleep(0.0005)
                kept &= (folder / "file").exists()
        return kept

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(run, range(8)))
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(
    ("error", "raised"), [(errno.ENOSPC, TaskFailedError), (errno.EIO, OSError), (None, ValueError)]
)
def test_a_full_disk_is_told_apart(temporary, error, raised):
    def write() -> None:
        with scratch_folder():
            raise OSError(error, "it cannot be written") if error else ValueError

    with pytest.raises(raised) as failure:
        write()
    if raised is TaskFailedError:
        assert failure.value.code is Failure.STORAGE_FULL
        assert "WorkerStorage" in failure.value.info
    assert not list(temporary.iterdir())


def test_a_folder_that_cannot_be_made_for_want_of_room(monkeypatch):
    def full(**_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(TaskFailedError) as failure, scratch_folder():
        pass
    assert failure.value.code is Failure.STORAGE_FULL


def test_what_cannot_fit_is_refused(temporary):
    free = shutil.disk_usage(temporary).free
    check_room(temporary, free // 2)
    with pytest.raises(TaskFailedError, match=r"at least [\d,]+ MB, and [\d,]+ MB are free") as failure:
        check_room(temporary, free * 2)
    assert failure.value.code is Failure.STORAGE_FULL
