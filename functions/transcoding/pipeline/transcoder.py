"""Makes and publishes results: the stages in their order, for a whole task and for each part of one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from aws_lambda_powertools import Logger

from transcoding.data.object_store import ObjectStore, output_prefix, work_prefix
from transcoding.errors import Failure, OutOfTimeError, StaleAttemptError, TaskFailedError
from transcoding.media.encoding import command
from transcoding.media.ffmpeg.process import Encoder
from transcoding.media.ffmpeg.tools import Tools, complaints
from transcoding.media.inspection.facts import EntryPoint, SourceFacts
from transcoding.media.inspection.probe import with_keyframes
from transcoding.media.packaging.hls import Subtitles
from transcoding.media.packaging.thumbnails import CONTENT_TYPE, Sheets
from transcoding.media.planning import quality
from transcoding.media.planning.cuts import (
    Span,
    begin,
    cut,
    entry_point,
    is_large_copy,
    look_up_step,
    needed_entry_points,
    part_length,
    run_up,
    span_frames,
    span_seconds,
)
from transcoding.media.planning.formats import FORMATS, Packaging
from transcoding.media.planning.plan import Plan, needs_keyframes, plan
from transcoding.media.planning.size import least_size
from transcoding.model import Output, OutputRendition, Part, PartKind, Task
from transcoding.pipeline.encode import check_result, encode, reached
from transcoding.pipeline.entering import Entering, EntryError
from transcoding.pipeline.fetch import HttpSource
from transcoding.pipeline.file import FilePackage
from transcoding.pipeline.package import Package
from transcoding.pipeline.progress import ENCODED, Report, fraction, report_rest
from transcoding.pipeline.quality import QualityChooser
from transcoding.pipeline.scratch import check_room, scratch_folder
from transcoding.pipeline.segments import SegmentsPackage
from transcoding.pipeline.source import Source, SourceReader
from transcoding.pipeline.thumbnails import (
    Footage,
    PictureMaker,
    Pictures,
    Tile,
    TileIndex,
    in_segments,
    read_tiles,
    tile_index,
    tiles_in,
)
from transcoding.pipeline.track import Track, TrackWriter, joined
from transcoding.pipeline.uploads import Uploads

if TYPE_CHECKING:
    from pydantic import TypeAdapter

#: The run-up to a part is decoded at least this many times as fast as it plays.
_RUN_UP_SPEED = 5.0
#: The sound's share of a task's progress, where there is a picture.
_SOUND_SHARE = 0.05
#: How many parts' results are read at once.
_READERS = 16

logger = Logger(child=True)


@dataclass(frozen=True, slots=True)
class Prepared:
    """An attempt at a task, with its inspected source and its plan."""

    task: Task
    source: Source
    plan: Plan

    def share(self, part: Part) -> float:
        """Return a part's share of the task's progress, 0.0 to 1.0."""
        whole = ENCODED - self.source.begun
        if part.kind == "sound":
            return whole * _SOUND_SHARE
        pictures = whole * (1 - _SOUND_SHARE * self.plan.has_sound_or_text)
        seconds = span_seconds(self.plan, Span(begin(self.source.facts), None))
        return (
            pictures * min(1.0, span_seconds(self.plan, Span(part.start, part.end)) / seconds)
            if seconds
            else 0.0
        )


@dataclass(frozen=True, slots=True)
class Made:
    """What has been stored of a part: tracks by their streams' names, and beside the sound the subtitles.

    `tiles` are those of the picture, for thumbnails.
    """

    tracks: Mapping[str, Track]
    texts: tuple[Subtitles, ...]
    tiles: TileIndex = ()


_T = TypeVar("_T")

# pydantic takes 80 ms to import. A worker that does the whole of a task has no use for it.


@cache
def _source_json() -> TypeAdapter[Source]:
    from pydantic import TypeAdapter  # noqa: PLC0415

    return TypeAdapter(Source)


@cache
def _made_json() -> TypeAdapter[Made]:
    from pydantic import TypeAdapter  # noqa: PLC0415

    return TypeAdapter(Made)


@cache
def _output_json() -> TypeAdapter[Output]:
    from pydantic import TypeAdapter  # noqa: PLC0415

    return TypeAdapter(Output)


class Transcoder:
    """Makes and publishes results; a process creates one and reuses it.

    `part_seconds` and `fan_out_seconds` are in seconds of 1080p at 30 frames a second: the length of a part,
    and the longest source that one worker does by itself. `source_buckets` are patterns of the names of the
    buckets that sources are read from.
    """

    def __init__(
        self,
        store: ObjectStore,
        tools: Tools,
        *,
        max_source_bytes: int,
        part_seconds: float,
        fan_out_seconds: float,
        workers: int,
        source_buckets: Sequence[str] = ("*",),
        fetch: Callable[..., HttpSource] = HttpSource,
    ) -> None:
        self._store = store
        self._tools = tools
        self._entering = Entering(store, tools)
        self._quality = QualityChooser(tools)
        self._pictures = PictureMaker(store, tools)
        self._sources = SourceReader(
            store, tools, buckets=source_buckets, max_source_bytes=max_source_bytes, fetch=fetch
        )
        self._packages: Mapping[Packaging, Package] = {
            Packaging.SEGMENTS: SegmentsPackage(store),
            Packaging.FILE: FilePackage(store, tools),
        }
        self._part_seconds = part_seconds
        self._fan_out_seconds = fan_out_seconds
        self._workers = workers

    def prepare(self, task: Task, report: Report, deadline: float) -> Prepared:
        """Find the source, inspect it, and plan.

        `deadline` is when that must be done, in seconds of `time.monotonic()`. Raises TaskFailedError where
        no attempt can succeed, what `report` raises, and other errors where another attempt may help.
        """
        source = self._sources.inspect(task, report, deadline)
        planned = _plan(task, source)
        length = self._part_length(source.facts, planned)
        copies = task.attempt == 1 and needs_keyframes(
            source.facts, FORMATS[task.format], task.quality, task.codecs
        )
        if length or copies or quality.needs_keyframes(source.facts, planned):
            step = length and look_up_step(source.facts, length)
            url = self._sources.url(source)
            facts = with_keyframes(source.facts, url, step, deadline)
            facts = self._entering.with_true_points(facts, url, report, source.begun) if length else facts
            source = replace(source, facts=facts)
            planned = _plan(task, source)
        if not length or source.facts.entry_points:
            # A long source without an index would be read through to find the samples.
            url = self._sources.url(source)
            choices = self._quality.choices(source.facts, planned, url, report, source.begun, deadline)
            source = replace(source, choices=choices)
            planned = _plan(task, source)
        # There may be thousands of keyframes.
        logged = replace(source.facts, keyframes=None, entry_points=())
        logger.info("planned", task_id=task.id, source=str(logged), streams=planned.describe())
        report(source.begun)
        return Prepared(task, source, planned)

    def parts(self, prepared: Prepared) -> list[Part]:
        """Return the parts that the task is to be made in; none where one worker does it all.

        They are the sound and the text, in one piece, and the spans of the picture.
        """
        spans = self._spans(prepared)
        kinds: list[tuple[PartKind, int, int | None]] = [("sound", 0, None)]
        kinds = kinds if spans and prepared.plan.has_sound_or_text else []
        kinds += [("picture", span.start, span.end) for span in spans]
        task = prepared.task
        return [Part(task.id, task.attempt, number, *rest) for number, rest in enumerate(kinds)]

    def store(self, prepared: Prepared, parts: Sequence[Part]) -> None:
        """Store what the workers of parts need to know of the source."""
        spans = [Span(part.start, part.end) for part in parts if part.kind == "picture"]
        points = needed_entry_points(prepared.source.facts, spans)
        facts = replace(prepared.source.facts, keyframes=None, entry_points=points)
        kept = _source_json().dump_json(replace(prepared.source, facts=facts)).decode()
        self._store.put(kept, _source_key(prepared.task), "application/json")

    def recall(self, task: Task, part: Part) -> Prepared:
        """Return what was stored for parts, planned for one of them. Raises StaleAttemptError.

        What could not be copied is encoded at the next try, and so are parts split from it. A try that was
        lost with its worker says nothing of the source: the next one leaves nothing out.
        """
        source = self._recalled(_source_json(), _source_key(task))
        first = part.kind == "sound" or part.start == begin(source.facts)
        return Prepared(task, source, _plan(task, source, max(part.faults + 1, 1 if first else 2)))

    def run(self, prepared: Prepared, folder: Path, report: Report) -> Output:
        """Make the task's whole result, and return what it is.

        `folder` is an empty one for temporary files. Raises as `prepare`.
        """
        task, source, planned = prepared.task, prepared.source, prepared.plan
        if not planned.format.segmented:
            check_room(folder, least_size(source.facts, planned))
        with self._sources.reading(source), Uploads(self._store) as uploads:
            prefix = output_prefix(task.id, task.attempt)
            publication = self._package(planned).publication(planned, folder, prefix, uploads)

            def progress(encoder: Encoder) -> None:
                publication.collect()
                done = fraction(reached(planned, encoder), planned.duration)
                report(source.begun + (ENCODED - source.begun) * done)

            arguments = command.whole(self._tools, planned, self._sources.url(source), folder)
            encoder = encode(arguments, planned, progress)
            publication.collect(ended=True)
            duration = publication.duration()
            check_result(planned, encoder.frames, duration, encoder.errors)
            self._sources.check_unchanged(source)
            pictures = Pictures()

            def depict(footage: Footage) -> Sheets | None:
                nonlocal pictures
                tiles = tiles_in(folder)
                pictures = self._pictures.make(planned, tiles, duration, folder, prefix, report, footage)
                return pictures.sheets

            renditions = publication.finish(partial(report_rest, report), depict)
        return self._output(task, duration, renditions, pictures)

    def run_part(self, prepared: Prepared, part: Part, folder: Path, report: Report) -> int | None:
        """Make and store a part of the result: a span of the picture, or all the sound. Raises as `prepare`.

        Where `report` raises OutOfTimeError, the segments that are finished stay, and the tick is returned at
        which what is left starts.
        """
        rest = None
        with self._sources.reading(prepared.source), Uploads(self._store) as uploads:
            if part.kind == "sound":
                made = self._run_sound(prepared, folder, uploads, report)
            else:
                made, rest = self._run_picture(prepared, part, folder, uploads, report)
            uploads.settle(wait=True)
        text = _made_json().dump_json(made).decode()
        self._store.put(text, _made_key(prepared.task, part.number), "application/json")
        return rest

    def finish(self, task: Task, parts: Sequence[Part], report: Report) -> Output:
        """Join the parts, which all are done, and return what the result is, which `finished` then knows.

        Raises as `prepare`, and StaleAttemptError.
        """
        # The sound's last try may have left the text out; thumbnails are made of the tiles that there are.
        sound = next((part for part in parts if part.kind == "sound"), None)
        source = self._recalled(_source_json(), _source_key(task))
        self._sources.check_unchanged(source)
        whole = _plan(task, source, sound.faults + 1 if sound else 0)
        whole = replace(whole, thumbnails=_plan(task, source).thumbnails)
        form = _made_json()
        with ThreadPoolExecutor(_READERS) as pool:
            made = list(pool.map(lambda part: self._recalled(form, _made_key(task, part.number)), parts))
        _check_streams(whole, parts, made)
        tracks = {
            stream.name: joined([one.tracks[stream.name] for one in made if stream.name in one.tracks])
            for stream in whole.streams
        }
        texts = [text for one in made for text in one.texts]
        duration = max(track.duration for track in tracks.values())
        first = whole.pictures[0].name
        check_result(whole, tracks[first].content.samples, duration)
        package, pictures = self._package(whole), Pictures()
        if whole.thumbnails:
            footage = in_segments(self._store, f"{package.part_prefix(task)}{first}/", tracks[first])
            prefix = output_prefix(task.id, task.attempt)
            with scratch_folder() as folder:
                tiles = self._recalled_tiles(task, parts, made)
                pictures = self._pictures.make(whole, tiles, duration, folder, prefix, report, footage)
        renditions = package.join(whole, task, tracks, texts, pictures.sheets, partial(report_rest, report))
        output = self._output(task, duration, renditions, pictures)
        self._store.put(_output_json().dump_json(output).decode(), _output_key(task), "application/json")
        return output

    def finished(self, task: Task) -> Output | None:
        """Return what the result of joined parts is; None where they are not, or another version did it."""
        try:
            return _output_json().validate_json(self._store.find(_output_key(task)) or b"")
        # pydantic's ValidationError is one.
        except ValueError:
            return None

    def _recalled_tiles(self, task: Task, parts: Sequence[Part], made: Sequence[Made]) -> list[Tile]:
        """Return the tiles of parts, in order."""
        stored = [(_tiles_key(task, part.number), one.tiles) for part, one in zip(parts, made, strict=True)]
        stored = [(key, index) for key, index in stored if index]
        with ThreadPoolExecutor(_READERS) as pool:
            data = pool.map(lambda one: self._store.get(one[0]), stored)
            return [
                tile
                for (_, index), tiles in zip(stored, data, strict=True)
                for tile in read_tiles(index, tiles)
            ]

    def target_key(self, task: Task) -> str:
        """Return the key that `target_url` is to point at: of what is stored last."""
        return output_prefix(task.id, task.attempt) + FORMATS[task.format].target

    def _output(
        self, task: Task, duration: float, renditions: Sequence[OutputRendition], pictures: Pictures
    ) -> Output:
        """Describe a result that is stored. Its bytes are what all workers have stored."""
        best_first = sorted(renditions, key=lambda rendition: -rendition.width * rendition.height)
        size = self._store.size(output_prefix(task.id, task.attempt))
        return Output(round(duration, 3), size, tuple(best_first), pictures.poster, pictures.thumbnails)

    def _run_sound(self, prepared: Prepared, folder: Path, uploads: Uploads, report: Report) -> Made:
        planned = prepared.plan
        if not planned.has_sound_or_text:
            # A part of text alone whose text has been given up.
            return Made({}, ())
        package = self._package(planned)
        prefix = package.part_prefix(prepared.task)
        (folder / command.SUBTITLES).mkdir()
        writers = [TrackWriter(planned.sound, folder, prefix, uploads)] if planned.sound else []
        arguments = command.sound(self._tools, planned, self._sources.url(prepared.source), folder)
        _run(
            arguments, planned, writers, lambda encoder: report(fraction(encoder.position, planned.duration))
        )
        tracks = _tracks(writers)
        duration = planned.duration or max((track.duration for track in tracks.values()), default=0.0)
        for writer in writers:
            writer.store_init()
        return Made(tracks, tuple(package.store_texts(planned, folder, prefix, uploads, duration)))

    def _run_picture(
        self, prepared: Prepared, part: Part, folder: Path, uploads: Uploads, report: Report
    ) -> tuple[Made, int | None]:
        facts = prepared.source.facts
        span = Span(part.start, part.end, first=part.start == begin(facts))
        point = None if span.first else entry_point(facts, part.start)
        run = partial(self._run_span, prepared, span, uploads, report)
        entered, whole = folder / "entered", folder / "whole"
        used = entered
        try:
            writers, rest = run(entered, point)
        except EntryError as error:
            logger.warning(
                "decoding from the beginning", task_id=part.task_id, part=part.number, reason=str(error)
            )
            # What is stored under the same names must not come after what replaces it.
            uploads.settle(wait=True)
            shutil.rmtree(entered)
            used = whole
            writers, rest = run(whole, None)
        if span.first:
            for writer in writers:
                writer.store_init()
        tiles = tile_index(used)
        if tiles:
            uploads.add(used / command.TILES, _tiles_key(prepared.task, part.number), CONTENT_TYPE)
        return Made(_tracks(writers), (), tiles), rest

    def _run_span(
        self,
        prepared: Prepared,
        span: Span,
        uploads: Uploads,
        report: Report,
        folder: Path,
        point: EntryPoint | None,
    ) -> tuple[list[TrackWriter], int | None]:
        """Make a span of the picture in a new folder, read from the entry point on; None: from the beginning.

        Returns what has stored it, and the tick as `run_part`. Raises EntryError where decoding from the
        point does not give the frames of one pass.
        """
        source, planned = prepared.source, prepared.plan
        folder.mkdir()
        prefix = self._package(planned).part_prefix(prepared.task)
        writers = [
            TrackWriter(
                picture,
                folder,
                prefix,
                uploads,
                None if picture.copied else span,
                by_keyframe=planned.thumbnails and planned.format.segmented,
            )
            for picture in planned.pictures
        ]
        frames = span_frames(planned, span)

        def progress(encoder: Encoder) -> None:
            if point and any(writer.starts_late() for writer in writers):
                raise EntryError("the first frames are missing")
            report(fraction(encoder.frames, frames))

        url = self._sources.url(source)
        arguments = command.picture(self._tools, planned, span, point, url, folder)
        try:
            patience = run_up(source.facts, span, point) / _RUN_UP_SPEED
            encoder = _run(arguments, planned, writers, progress, patience)
        except OutOfTimeError:
            rest = self._end_together(writers, uploads)
            if rest is None:
                raise
            return writers, rest
        except TaskFailedError as error:
            if point and error.code is Failure.DAMAGED:
                raise EntryError("it could not be decoded") from error
            raise
        complained = complaints(encoder.kinds, source.facts.video.codec if source.facts.video else "")
        if point and (complained or any(writer.is_short() for writer in writers)):
            self._entering.check(prepared.task, url, source.facts, point, span, complained, report)
        return writers, None

    def _end_together(self, writers: Sequence[TrackWriter], uploads: Uploads) -> int | None:
        """Have all renditions of a part end with the same segment; return the tick that the next starts at.

        None where one of them has no segment yet.
        """
        count = min(writer.stored for writer in writers)
        dropped = [key for writer in writers for key in writer.drop(count)]
        if dropped:
            uploads.settle(wait=True)
            self._store.remove(dropped)
        return writers[0].next_start()

    def _spans(self, prepared: Prepared) -> tuple[Span, ...]:
        facts, planned = prepared.source.facts, prepared.plan
        length = self._part_length(facts, planned)
        spans = cut(facts, planned, length, self._workers) if length else ()
        if len(spans) > 1:
            return spans
        whole = Span(begin(facts), None, first=True)
        return (whole,) if is_large_copy(facts, planned) else ()

    def _part_length(self, source: SourceFacts, planned: Plan) -> float | None:
        return part_length(source, planned, self._part_seconds, self._fan_out_seconds)

    def _recalled(self, kind: TypeAdapter[_T], key: str) -> _T:
        """Read what an attempt has stored. Raises StaleAttemptError where another version has stored it."""
        stored = self._store.find(key) or b""
        try:
            return kind.validate_json(stored)
        # pydantic's ValidationError is one.
        except ValueError as error:
            raise StaleAttemptError(f"{key}: {error}") from error

    def _package(self, planned: Plan) -> Package:
        return self._packages[planned.format.packaging]


def _plan(task: Task, source: Source, tries: int = 0) -> Plan:
    """Plan for a try: the second copies nothing, the third leaves out subtitles and thumbnails."""
    tries = max(task.attempt, tries)
    return plan(
        source.facts,
        FORMATS[task.format],
        task.quality,
        codecs=task.codecs,
        thumbnails=task.thumbnails and tries <= 2,
        choices=source.choices,
        may_copy=tries <= 1,
        with_text=tries <= 2,
    )


def _run(
    arguments: Sequence[str],
    planned: Plan,
    writers: Sequence[TrackWriter],
    progress: Callable[[Encoder], None],
    patience: float = 0.0,
) -> Encoder:
    """Encode streams, collect their segments, and return FFmpeg as it ended. Raises as `encode`."""

    def collect(encoder: Encoder) -> None:
        progress(encoder)
        for writer in writers:
            writer.collect()

    encoder = encode(arguments, planned, collect, patience)
    with suppress(OutOfTimeError):  # it is done
        progress(encoder)
    for writer in writers:
        writer.collect(ended=True)
    return encoder


def _check_streams(whole: Plan, parts: Sequence[Part], made: Sequence[Made]) -> None:
    """Check that each part has the streams that are to be joined: another version may have made others.

    Raises StaleAttemptError.
    """
    sound = {whole.sound.name} if whole.sound else set()
    pictures = {picture.name for picture in whole.pictures}
    for part, one in zip(parts, made, strict=True):
        if one.tracks.keys() != (sound if part.kind == "sound" else pictures):
            raise StaleAttemptError(f"part {part.number} has the streams {sorted(one.tracks)}")


def _tracks(writers: Sequence[TrackWriter]) -> dict[str, Track]:
    return {writer.stream.name: writer.track() for writer in writers}


def _source_key(task: Task) -> str:
    return f"{work_prefix(task.id, task.attempt)}source.json"


def _output_key(task: Task) -> str:
    return f"{work_prefix(task.id, task.attempt)}output.json"


def _tiles_key(task: Task, number: int) -> str:
    return f"{work_prefix(task.id, task.attempt)}tiles/{number}.mjpeg"


def _made_key(task: Task, number: int) -> str:
    return f"{work_prefix(task.id, task.attempt)}parts/{number}.json"
