"""Results in one file: made whole by one worker, or joined from the tracks of parts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path

from aws_lambda_powertools import Logger

from transcoding.data.object_store import ObjectStore, output_prefix, work_prefix
from transcoding.data.streams import StoredObject
from transcoding.errors import Failure, TaskFailedError
from transcoding.media.encoding import command
from transcoding.media.ffmpeg import process
from transcoding.media.ffmpeg.tools import Tools
from transcoding.media.inspection.probe import PROBE_TIMEOUT, probe
from transcoding.media.packaging import hls
from transcoding.media.packaging.fragments import Content
from transcoding.media.packaging.hls import Subtitles
from transcoding.media.packaging.thumbnails import Sheets
from transcoding.media.planning.plan import PicturePlan, Plan, SoundPlan
from transcoding.model import OutputRendition, Task
from transcoding.pipeline.output import listed, main_streams, told
from transcoding.pipeline.progress import POLL, Report
from transcoding.pipeline.thumbnails import Depict
from transcoding.pipeline.track import Track
from transcoding.pipeline.uploads import Uploads

#: The least size of a cue of text in a file, with its times, bytes.
_SMALLEST_CUE = 20

logger = Logger(child=True)


class FilePackage:
    """Stores a file when it is complete."""

    def __init__(self, store: ObjectStore, tools: Tools) -> None:
        self._store = store
        self._tools = tools

    def part_prefix(self, task: Task) -> str:
        """Return the prefix of temporary objects: the tracks of parts are joined later."""
        return work_prefix(task.id, task.attempt)

    def publication(self, plan: Plan, folder: Path, prefix: str, uploads: Uploads) -> _File:
        """Return what stores the file that FFmpeg makes in `folder`."""
        return _File(self._tools, plan, folder, prefix, uploads)

    def store_texts(
        self, plan: Plan, folder: Path, prefix: str, uploads: Uploads, duration: float
    ) -> list[Subtitles]:
        """Store the subtitles as they are, to be joined."""
        for name in _text_files(plan):
            uploads.add(folder / name, prefix + name, plan.format.content_type)
        return []

    def join(
        self,
        plan: Plan,
        task: Task,
        tracks: Mapping[str, Track],
        texts: Sequence[Subtitles],
        sheets: Sheets | None,
        report: Report,
    ) -> list[OutputRendition]:
        """Join the tracks and the subtitles of parts into the file, as a stream from S3 to S3."""
        # It loads FFmpeg's libraries, for which only a worker that joins should wait.
        from transcoding.media.packaging.join import Piece, join  # noqa: PLC0415

        prefix = self.part_prefix(task)
        pieces = []
        for stream in plan.streams:
            track, folder = tracks[stream.name], f"{prefix}{stream.name}/"
            init = folder + command.INIT_SEGMENT
            objects = [StoredObject(init, len(self._store.get(init)))]
            objects += [StoredObject(folder + segment.name, segment.size) for segment in track.segments]
            opening = partial(self._store.reading, objects)
            pieces.append(Piece(opening, track.content, track.duration, command.labels(plan, stream)))
        duration = max(track.duration for track in tracks.values())
        for name, text in zip(_text_files(plan), plan.texts, strict=True):
            data = self._store.get(prefix + name)
            cues = len(data) // _SMALLEST_CUE
            flags, labels = command.disposition(text), command.labels(plan, text)
            content = Content(cues, cues, cues)
            pieces.append(Piece(partial(BytesIO, data), content, duration, labels, flags))
        key = output_prefix(task.id, task.attempt) + plan.format.target
        writing = partial(self._store.writing, key, plan.format.content_type)
        join(pieces, plan.format, writing, report)
        streams = [(stream, tracks[stream.name]) for stream in main_streams(plan)]
        return [told(stream, _media(track), track.content.samples) for stream, track in streams]


class _File:
    """One file, which is complete only when FFmpeg is done."""

    def __init__(self, tools: Tools, plan: Plan, folder: Path, prefix: str, uploads: Uploads) -> None:
        self._tools = tools
        self._plan = plan
        self._path = folder / plan.format.target
        self._prefix = prefix
        self._uploads = uploads

    def collect(self, *, ended: bool = False) -> None:
        pass

    def duration(self) -> float:
        size = self._path.stat().st_size if self._path.exists() else 0
        try:
            return (probe(self._tools, str(self._path), size).duration or 0.0) if size else 0.0
        except TaskFailedError:
            # What cannot be probed is the result, not the source.
            raise TaskFailedError(
                Failure.DAMAGED, "The source could not be decoded. Export or upload it again."
            ) from None

    def finish(self, report: Report, depict: Depict) -> list[OutputRendition]:
        renditions = [self._told(stream) for stream in main_streams(self._plan)]
        depict(lambda time, folder: (self._path, time))
        size = self._path.stat().st_size
        stored = 0

        def count(more: int) -> None:
            nonlocal stored
            stored += more

        self._uploads.add(self._path, self._prefix + self._path.name, self._plan.format.content_type, count)
        while not self._uploads.done:
            report(stored / size)
            time.sleep(POLL)
        self._uploads.settle(wait=True)
        return renditions

    def _told(self, stream: PicturePlan | SoundPlan) -> OutputRendition:
        """Describe the stream, from its packets in the file, which copied ones tell of nowhere else.

        A file that is done does not fail for that: what cannot be read is not told.
        """
        codec, count, segments = "", 0, tuple[hls.Segment, ...]()
        try:
            described = process.run(
                command.description(self._tools, self._path, stream), process.probing_limits(PROBE_TIMEOUT)
            )
            codec = stream.codec.codec_string(described.stdout)
            listing = self._path.with_name("packets.txt")
            process.run(command.packets(self._tools, self._path, stream, listing), process.encoding_limits())
            count, segments = listed(listing)
        except (OSError, ValueError):
            logger.warning("the result could not be described", path=self._path.name, exc_info=True)
        return told(stream, hls.Rendition("", "", codec, 1000, segments), count)


def _media(track: Track) -> hls.Rendition:
    """Return a track without what its segments add to the media: the file does not have that."""
    stored = sum(segment.size for segment in track.segments)
    share = track.content.size / stored if stored else 0.0
    segments = [replace(segment, size=round(segment.size * share)) for segment in track.segments]
    return hls.Rendition("", "", track.codec, track.timescale, hls.closed(segments))


def _text_files(plan: Plan) -> list[str]:
    return [command.subtitle_file(plan, number) for number in range(len(plan.texts))]
