"""A source of hours on the running service: parts, time, and the workers' memory and /tmp."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import media, sources
from benchmarks.sources import Sizes
from local.deploy import client
from local.emulator import Emulator
from local.stack import Stack

_FORMATS = ("m3u8", "mp4")
_QUALITY = 1
_INTERVAL = 0.2
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Peak:
    """The highest values seen, in bytes, of all workers together and of one."""

    memory: int = 0
    memory_of_one: int = 0
    files: int = 0
    files_of_one: int = 0

    def see(self, memory: list[int], files: list[int]) -> None:
        """Record what each worker uses at a moment."""
        self.memory = max(self.memory, sum(memory))
        self.memory_of_one = max([self.memory_of_one, *memory])
        self.files = max(self.files, sum(files))
        self.files_of_one = max([self.files_of_one, *files])


def measure(stack: Stack, home: Path, sizes: Sizes) -> list[dict[str, Any]]:
    """Transcode the long source to each format, on as many workers as the stack has."""
    source = sources.long(sizes.long)
    url = media.upload(stack, source)
    rows = []
    for target in _FORMATS:
        with _watching(home) as peak:
            task_id, seconds = media.transcode(stack, url, target, _QUALITY)
        parts = _parts(stack, task_id)
        print(f"  {sizes.long / 3600:g} h, {target}: {parts} parts, {seconds:.0f} s, {peak}", flush=True)
        rows.append(
            {
                "format": target,
                "hours": sizes.long / 3600,
                "source_bytes": source.stat().st_size,
                "parts": parts,
                "seconds": seconds,
                **asdict(peak),
            }
        )
    return rows


def _parts(stack: Stack, task_id: str) -> int:
    """Return the number of a task's parts; 0 if one worker did all of it."""
    item = client("dynamodb", stack["aws_endpoint_url"]).get_item(
        TableName=stack["table"], Key={"id": {"S": task_id}}
    )["Item"]
    return int(item.get("parts", {"N": "0"})["N"])


@contextmanager
def _watching(home: Path) -> Iterator[Peak]:
    """Watch the emulator's workers and their temporary folders while the block runs; yield the peak."""
    pid = Emulator(home).running_pid()
    assert pid
    peak, done = Peak(), threading.Event()

    def watch() -> None:
        while not done.wait(_INTERVAL):
            peak.see(_memory(pid), _files(home / "tmp"))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    yield peak
    done.set()
    watcher.join()


def _memory(emulator: int) -> list[int]:
    """Return the resident bytes of each worker that runs FFmpeg, with those of its FFmpeg."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            name, _, rest = (folder / "stat").read_text().rpartition(")")
            pid = int(folder.name)
            names[pid], parents[pid] = name.partition("(")[2], int(rest.split()[1])
    workers: dict[int, int] = {}
    for pid, parent in parents.items():
        if names[pid] == "ffmpeg" and parents.get(parent) == emulator:
            workers[parent] = workers.get(parent, _resident(parent)) + _resident(pid)
    return list(workers.values())


def _resident(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    return 0


def _files(scratch: Path) -> list[int]:
    """Return the bytes in each worker's temporary folder."""
    sizes: dict[str, int] = {}
    for folder, _, names in os.walk(scratch):  # os.walk ignores folders that are removed meanwhile
        worker = next((part for part in Path(folder).parts if part.startswith("transcoding-")), None)
        if worker is None:
            continue
        for name in names:
            with suppress(OSError):
                sizes[worker] = sizes.get(worker, 0) + Path(folder, name).stat().st_size
    return list(sizes.values())
