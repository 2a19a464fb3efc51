"""How a result is stored: what the two kinds of packaging have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from transcoding.media.packaging.hls import Subtitles
from transcoding.media.planning.plan import Plan
from transcoding.model import Task
from transcoding.pipeline.progress import Report
from transcoding.pipeline.track import Track
from transcoding.pipeline.uploads import Uploads


class Publication(Protocol):
    """What is stored of a result that one worker makes."""

    def collect(self, *, ended: bool = False) -> None:
        """Store what FFmpeg has finished so far, and forget what is stored; `ended`: it has finished all.

        Raises OSError (ENOSPC) where FFmpeg had no room for what it wrote.
        """
        ...

    def duration(self) -> float:
        """Return how long the result is that has been collected, in seconds."""
        ...

    def finish(self, report: Report) -> None:
        """Store what is left, and last what `target_url` points at; report the share that is done."""
        ...


class Package(Protocol):
    """One kind of packaging."""

    def part_prefix(self, task: Task) -> str:
        """Return the prefix under which the tracks of parts are stored."""
        ...

    def publication(self, plan: Plan, folder: Path, prefix: str, uploads: Uploads) -> Publication:
        """Return what stores, under the prefix, the whole result that FFmpeg makes in `folder`."""
        ...

    def store_texts(
        self, plan: Plan, folder: Path, prefix: str, uploads: Uploads, duration: float
    ) -> list[Subtitles]:
        """Store the subtitles that FFmpeg has made in `folder`; `duration` of the media in seconds.

        Returns those that playlists name.
        """
        ...

    def join(
        self,
        plan: Plan,
        task: Task,
        tracks: Mapping[str, Track],
        texts: Sequence[Subtitles],
        report: Report,
    ) -> None:
        """Make the result of tracks, by their streams' names, and subtitles that are stored.

        Stores last what `target_url` points at, and nothing where `report` raises.
        """
        ...
