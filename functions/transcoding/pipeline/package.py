"""How a result is stored: what the two kinds of packaging have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from transcoding.media.packaging.hls import Subtitles
from transcoding.media.packaging.thumbnails import Sheets
from transcoding.media.planning.plan import Plan
from transcoding.model import OutputRendition, Task
from transcoding.pipeline.progress import Report
from transcoding.pipeline.thumbnails import Depict
from transcoding.pipeline.track import Track
from transcoding.pipeline.uploads import Uploads


class Publication(Protocol):
    """Stores a result that one worker makes."""

    def collect(self, *, ended: bool = False) -> None:
        """Store what FFmpeg has finished so far, and remove files that are stored; `ended`: it has ended.

        Raises OSError (ENOSPC) where the disk was too full for what FFmpeg wrote.
        """
        ...

    def duration(self) -> float:
        """Return the length of the result that has been collected, in seconds."""
        ...

    def finish(self, report: Report, depict: Depict) -> list[OutputRendition]:
        """Store the rest, and last what `target_url` points at; return the renditions.

        Reports the fraction that is done. `depict` makes and stores the pictures of the result, once its
        frames can be read.
        """
        ...


class Package(Protocol):
    """One kind of packaging."""

    def part_prefix(self, task: Task) -> str:
        """Return the prefix under which the tracks of parts are stored."""
        ...

    def publication(self, plan: Plan, folder: Path, prefix: str, uploads: Uploads) -> Publication:
        """Return what stores the whole result that FFmpeg makes in `folder` under the prefix."""
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
        sheets: Sheets | None,
        report: Report,
    ) -> list[OutputRendition]:
        """Make the result from stored tracks, by their streams' names, and stored subtitles.

        Returns its renditions. `sheets` are those of its thumbnails.

        Stores last what `target_url` points at, and nothing where `report` raises.
        """
        ...
