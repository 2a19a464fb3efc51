"""One attempt at a task's media: find the source, plan, encode, publish."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from aws_lambda_powertools import Logger
from pydantic import TypeAdapter

from transcoding.data.media_store import MediaStore
from transcoding.data.storage import output_prefix, work_prefix
from transcoding.errors import Failure, TaskFailedError
from transcoding.media.encoding import command
from transcoding.media.ffmpeg.process import Encoder
from transcoding.media.ffmpeg.tools import Tools, diagnose, is_cut_short
from transcoding.media.inspection.facts import EntryPoint, SourceFacts
from transcoding.media.inspection.probe import probe, with_keyframes
from transcoding.media.packaging.hls import Subtitles
from transcoding.media.planning.cuts import (
    Span,
    begin,
    cut,
    entry,
    is_large_copy,
    look_up_step,
    part_length,
    run_up,
    span_frames,
    span_seconds,
)
from transcoding.media.planning.formats import FORMATS, Packaging
from transcoding.media.planning.plan import Plan, needs_keyframes, plan
from transcoding.model import Part, PartKind, Task
from transcoding.pipeline.fetch import HttpSource
from transcoding.pipeline.publication import (
    Stream,
    Track,
    Uploads,
    joined,
    publishing,
    put_file,
    put_playlists,
)

#: Is told how far an attempt is, 0.0 to 1.0; raises LeaseLostError to end it.
Report = Callable[[float], None]

#: Seconds between two looks at FFmpeg and at what it has finished.
_POLL = 0.25
#: FFmpeg that gets no further for so long never will, seconds.
_STALL = 120.0
#: What is decoded only to get to a part is decoded at least so many times as fast as it plays.
_RUN_UP_SPEED = 5.0
#: Where in a task's progress the copying of an http(s) source, and the encoding, end.
_COPIED_IN, ENCODED = 0.1, 0.96
#: A result may miss this much of what the source promised: containers round, and last packets get lost.
_SHORTFALL, _SHORTFALL_SECONDS = 0.05, 1.0

#: Parts whose results are read at once.
_READERS = 16

logger = Logger(child=True)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A source that has been looked at: where it is in S3, and what is known of it.

    `etag` changes with its content; `begun` is the share of the task's progress that was spent on getting
    there.
    """

    bucket: str
    key: str
    etag: str
    begun: float
    source: SourceFacts


@dataclass(frozen=True, slots=True)
class Made:
    """What has been stored of a part: a track, and beside the sound the subtitles."""

    track: Track
    texts: tuple[Subtitles, ...]


class OutOfTimeError(Exception):
    """Raised by `Report` when the invocation comes to its end."""


class _LateEntryError(Exception):
    """Reading from an entry point has missed frames of the part."""


_PREPARED = TypeAdapter(Prepared)
_MADE = TypeAdapter(Made)


class Transcoder:
    """Makes and publishes results; what it holds is made once in a process."""

    def __init__(
        self,
        media: MediaStore,
        tools: Tools,
        *,
        max_source_bytes: int,
        part_seconds: float,
        fan_out_seconds: float,
        workers: int,
        fetch: Callable[..., HttpSource] = HttpSource,
    ) -> None:
        self._media = media
        self._tools = tools
        self._max_source_bytes = max_source_bytes
        self._part_seconds = part_seconds
        self._fan_out_seconds = fan_out_seconds
        self._workers = workers
        self._fetch = fetch

    def prepare(self, task: Task, report: Report, deadline: float) -> Prepared:
        """Find the source and look at it, as far as planning needs.

        `deadline` is when an http(s) source must have been read, in seconds of `time.monotonic()`. Raises
        TaskFailedError where no attempt can succeed, whatever `report` raises, and other errors where another
        attempt may help.
        """
        bucket, key, begun = self._locate(task, report, deadline)
        size, etag = self._media.look_at(bucket, key)
        if size == 0:
            raise TaskFailedError(
                Failure.SOURCE_EMPTY, "The source is empty: it has 0 bytes. Upload it again."
            )
        url = self._media.presigned_url(bucket, key)
        source = probe(self._tools, url, size)
        length = self._part_length(source, self._plan(task, source))
        if length or (task.attempt == 1 and needs_keyframes(source, FORMATS[task.format], task.quality)):
            source = with_keyframes(source, url, length and look_up_step(source, length))
        prepared = Prepared(bucket, key, etag, begun, source)
        streams = self._plan(task, source).describe()
        # Of keyframes there are thousands.
        told = replace(source, keyframes=None, entry_points=())
        logger.info("planned", task_id=task.id, source=str(told), streams=streams)
        report(begun)
        return prepared

    def spans(self, task: Task, prepared: Prepared) -> tuple[Span, ...]:
        """Return the parts that the picture is to be made in; none where one worker does it all."""
        work = self._plan(task, prepared.source)
        length = self._part_length(prepared.source, work)
        spans = cut(prepared.source, work, length, self._workers) if length else ()
        if len(spans) > 1:
            return spans
        whole = Span(begin(prepared.source), None, first=True)
        return (whole,) if is_large_copy(prepared.source, work) else ()

    def store(self, task: Task, prepared: Prepared) -> None:
        """Keep what parts need to know of the source."""
        self._media.put(_PREPARED.dump_json(prepared).decode(), _prepared_key(task), "application/json")

    def recall(self, task: Task) -> Prepared:
        """Return what was stored of the source."""
        return _PREPARED.validate_json(self._media.get(_prepared_key(task)))

    def parts(self, task: Task, prepared: Prepared, spans: Sequence[Span]) -> list[Part]:
        """Return the parts of a task: its sound and text, in one piece, and the spans of its picture."""
        kinds: list[tuple[PartKind, int, int | None]] = [("sound", 0, None)]
        kinds = kinds if self.has_sound(task, prepared) else []
        kinds += [("picture", span.start, span.end) for span in spans]
        return [Part(task.id, task.attempt, number, *rest) for number, rest in enumerate(kinds)]

    def share(self, task: Task, prepared: Prepared, part: Part) -> float:
        """Return what a part is of the whole picture, 0.0 to 1.0."""
        work = self._plan(task, prepared.source)
        whole = span_seconds(work, Span(begin(prepared.source), None))
        return min(1.0, span_seconds(work, Span(part.start, part.end)) / whole) if whole else 0.0

    def has_sound(self, task: Task, prepared: Prepared) -> bool:
        """Tell whether the result has more than a picture."""
        return self._plan(task, prepared.source).has_sound

    def run(self, task: Task, prepared: Prepared, folder: Path, report: Report) -> str:
        """Make the task's whole result and return the key that `target_url` is to point at.

        `folder` is an empty one for temporary files. Raises as `prepare`.
        """
        work = self._plan(task, prepared.source)
        prefix = output_prefix(task.id, task.attempt)
        begun = prepared.begun
        with (
            self._reading(prepared),
            publishing(self._media, self._tools, work, folder, prefix) as publication,
        ):
            encoding = command.whole(self._tools, work, self._url(prepared), folder)

            def progress(encoder: Encoder) -> None:
                publication.collect()
                report(begun + (ENCODED - begun) * _share(_reached(work, encoder), work.duration))

            encoder = _encode(encoding, progress)
            _check_encoder(work, encoder)
            publication.collect()
            _check_result(work, encoder.frames, publication.duration(), encoder.errors)
            self._check_unchanged(prepared)
            publication.finish(partial(_report_end, report))
        return self.target_key(task)

    def run_part(
        self, task: Task, prepared: Prepared, part: Part, folder: Path, report: Report
    ) -> int | None:
        """Make and store a part of the result: a span of the picture, or all the sound. Raises as `prepare`.

        Where `report` raises OutOfTimeError, the segments that are finished stay, and the tick is returned at
        which what is left starts.
        """
        first = part.kind == "sound" or part.start == begin(prepared.source)
        # What cannot be copied is encoded at the next try, and so is what that leaves.
        work = self._plan(task, prepared.source, part.tries if first else 2)
        url = self._url(prepared)
        rest: int | None = None
        texts: list[Subtitles] = []
        if part.kind == "sound":
            (folder / command.SUBTITLES).mkdir()
            with self._reading(prepared), self._storing(task, work, command.AUDIO, folder) as stream:
                sound = command.sound(self._tools, work, url, folder)
                _run(sound, stream, lambda encoder: report(_share(encoder.position, work.duration)))
                if work.audio:
                    stream.store_init()
                texts = stream.store_texts(self._media, work.duration or stream.track().duration)
        else:
            span = Span(part.start, part.end, first=first)
            point = None if first else entry(prepared.source.entry_points, part.start)
            with self._reading(prepared), self._storing(task, work, command.VIDEO, folder, span) as stream:
                try:
                    rest = self._run_span(work, prepared, folder, stream, span, point, report)
                except _LateEntryError:
                    logger.warning("decoding from the beginning", task_id=task.id, part=part.number)
                    rest = self._run_span(work, prepared, folder, stream, span, None, report)
                if first:
                    stream.store_init()
        made = Made(stream.track(), tuple(texts))
        self._media.put(_MADE.dump_json(made).decode(), _made_key(task, part.number), "application/json")
        return rest

    def finish(self, task: Task, prepared: Prepared, parts: Sequence[Part], report: Report) -> str:
        """Join the parts that all are done, and return the key that `target_url` is to point at."""
        self._check_unchanged(prepared)
        # The sound's last try may have left the text out.
        tries = max((part.tries for part in parts if part.kind == "sound"), default=0)
        work = self._plan(task, prepared.source, tries)
        with ThreadPoolExecutor(_READERS) as pool:
            made = dict(zip(parts, pool.map(partial(self._made, task), parts), strict=True))
        tracks = {
            name: joined([one.track for part, one in made.items() if part.kind == kind])
            for kind, name, stream in (
                ("picture", command.VIDEO, work.video),
                ("sound", command.AUDIO, work.audio),
            )
            if stream
        }
        texts = [text for one in made.values() for text in one.texts]
        duration = max(track.duration for track in tracks.values())
        _check_result(work, tracks[command.VIDEO].content.samples, duration)
        prefix = output_prefix(task.id, task.attempt)
        key = self.target_key(task)
        if work.format.packaging is Packaging.SEGMENTS:
            put_playlists(self._media, work, prefix, tracks, texts)
        else:
            folder = work_prefix(task.id, task.attempt)
            put_file(self._media, work, folder, key, tracks, partial(_report_end, report))
        return key

    def target_key(self, task: Task) -> str:
        """Return the key that `target_url` is to point at: of what is stored last."""
        return output_prefix(task.id, task.attempt) + FORMATS[task.format].entry

    def _run_span(
        self,
        work: Plan,
        prepared: Prepared,
        folder: Path,
        stream: Stream,
        span: Span,
        point: EntryPoint | None,
        report: Report,
    ) -> int | None:
        frames = span_frames(work, span)

        def progress(encoder: Encoder) -> None:
            if point and stream.starts_late():
                raise _LateEntryError
            report(_share(encoder.frames, frames))

        try:
            encoding = command.picture(self._tools, work, span, point, self._url(prepared), folder)
            _run(encoding, stream, progress, run_up(prepared.source, span, point) / _RUN_UP_SPEED)
        except OutOfTimeError:
            rest = stream.next_start()
            if rest is None:
                raise
            return rest
        return None

    def _check_unchanged(self, prepared: Prepared) -> None:
        """Refuse to make one result of two sources. Raises TaskFailedError."""
        try:
            _, etag = self._media.look_at(prepared.bucket, prepared.key)
        except TaskFailedError:
            # What is gone by now has been read before, or FFmpeg has said so.
            return
        if etag != prepared.etag:
            raise TaskFailedError(
                Failure.SOURCE_CHANGED,
                "The source was changed while it was being transcoded. Create the task again.",
            )

    @contextmanager
    def _reading(self, prepared: Prepared) -> Iterator[None]:
        """Tell that a source was changed instead of what came of it. Raises TaskFailedError."""
        try:
            yield
        except TaskFailedError:
            self._check_unchanged(prepared)
            raise

    @contextmanager
    def _storing(
        self, task: Task, work: Plan, name: str, folder: Path, span: Span | None = None
    ) -> Iterator[Stream]:
        """Give what stores a stream; at the end, all of it is stored or abandoned."""
        segments = work.format.packaging is Packaging.SEGMENTS
        prefix = (output_prefix if segments else work_prefix)(task.id, task.attempt)
        uploads = Uploads(self._media)
        try:
            copied = work.video and work.video.copied
            yield Stream(name, work, folder, prefix, uploads, None if copied else span)
            uploads.settle(wait=True)
        finally:
            uploads.abandon()

    def _made(self, task: Task, part: Part) -> Made:
        return _MADE.validate_json(self._media.get(_made_key(task, part.number)))

    def _plan(self, task: Task, source: SourceFacts, tries: int = 0) -> Plan:
        tries = max(task.attempt, tries)
        target = FORMATS[task.format]
        return plan(source, target, task.quality, may_copy=tries <= 1, with_text=tries <= 2)

    def _part_length(self, source: SourceFacts, work: Plan) -> float | None:
        return part_length(source, work, self._part_seconds, self._fan_out_seconds)

    def _url(self, prepared: Prepared) -> str:
        return self._media.presigned_url(prepared.bucket, prepared.key)

    def _locate(self, task: Task, report: Report, deadline: float) -> tuple[str, str, float]:
        """Return the bucket and the key of the source, and the progress spent on it."""
        scheme, _, rest = task.origin_url.partition("://")
        if scheme == "s3":
            bucket, _, key = rest.partition("/")
            begun = 0.0
        else:
            bucket, key = self._media.bucket, f"{work_prefix(task.id, task.attempt)}source"
            self._copy_in(task.origin_url, key, report, deadline)
            begun = _COPIED_IN
        return bucket, key, begun

    def _copy_in(self, url: str, key: str, report: Report, deadline: float) -> None:
        with self._fetch(url, max_bytes=self._max_source_bytes, deadline=deadline) as stream:
            copying = self._media.copy_in(stream, key)
            try:
                while not copying.done():
                    report(_COPIED_IN * _share(stream.offset, stream.length))
                    time.sleep(_POLL)
                copying.result()
            except BaseException:
                stream.abort()
                copying.cancel()
                with suppress(BaseException):
                    copying.result()
                raise


def _run(
    encoding: Sequence[str],
    stream: Stream,
    progress: Callable[[Encoder], None],
    patience: float = 0.0,
) -> None:
    """Encode a stream and collect its segments. Raises as `Transcoder.run`, and what `progress` raises."""

    def collect(encoder: Encoder) -> None:
        progress(encoder)
        stream.collect()

    encoder = _encode(encoding, collect, patience)
    _check_encoder(stream.plan, encoder)
    with suppress(OutOfTimeError):  # it is done
        progress(encoder)
    stream.collect()


def _encode(encoding: Sequence[str], progress: Callable[[Encoder], None], patience: float = 0.0) -> Encoder:
    """Run FFmpeg to its end, looking at its progress all the time. Raises as `Transcoder.run`.

    `patience` is how many seconds longer than others it may take to get going.
    """
    with Encoder(encoding) as encoder:
        # What is behind the question mark of a presigned URL lets its reader in.
        logger.info("encoding", command=re.sub(r"\?\S+", "?…", encoder.command))
        reached, moved_at = (0.0, 0), time.monotonic()
        while encoder.wait(_POLL) is None:
            progress(encoder)
            now = time.monotonic()
            if (encoder.position, encoder.frames) != reached:
                reached, moved_at = (encoder.position, encoder.frames), now
            if now > moved_at + _STALL + patience:
                raise TaskFailedError(
                    Failure.TIMED_OUT,
                    f"The source could not be read on: no progress in {_STALL + patience:.0f} s after "
                    f"second {encoder.position:.0f}. It may be damaged there.",
                )
    return encoder


def _report_end(report: Report, share: float) -> None:
    """Report the share that is done of what follows the encoding."""
    report(ENCODED + (1 - ENCODED) * share)


def _prepared_key(task: Task) -> str:
    return f"{work_prefix(task.id, task.attempt)}prepared.json"


def _made_key(task: Task, number: int) -> str:
    return f"{work_prefix(task.id, task.attempt)}parts/{number}.json"


def _share(done: float, whole: float | None) -> float:
    # Of what does not tell its length, only that it goes on can be shown.
    return min(1.0, done / whole) if whole else done / (done + 60)


def _reached(work: Plan, encoder: Encoder) -> float:
    # FFmpeg tells of the stream that is furthest behind, also when it has ended long before the others.
    frames = encoder.frames / float(work.video.facts.frame_rate) if work.video else 0.0
    return max(encoder.position, frames)


def _check_encoder(work: Plan, encoder: Encoder) -> None:
    """Find out what it means when FFmpeg did not end well.

    Raises TaskFailedError, and OSError where another attempt may help: the second copies nothing, the third
    leaves out subtitles.
    """
    status, errors = encoder.wait(0), encoder.errors
    if status or errors:
        logger.warning("FFmpeg has complained", status=status, stderr=errors)
    if status is None or status < 0:
        raise OSError(f"FFmpeg was ended by signal {-(status or 0)}")
    if work.copies and (status > 0 or command.UNCOPYABLE.search(errors)):
        raise OSError("a stream could not be copied")
    if work.subtitles and status > 0:
        raise OSError("FFmpeg has failed, perhaps over the subtitles")
    if status > 0 or is_cut_short(errors):
        raise diagnose(errors)


def _check_result(work: Plan, frames: int, duration: float, complaints: str = "") -> None:
    """Refuse a result that is not what the source promised. Raises TaskFailedError."""
    if work.video and frames == 0:
        raise TaskFailedError(
            Failure.DAMAGED, "The source's picture could not be decoded. Export or upload it again."
        )
    is_promise = not (work.estimated or command.JUMPS.search(complaints))
    promised = (work.duration or 0.0) if is_promise else 0.0
    if promised - duration > max(_SHORTFALL_SECONDS, _SHORTFALL * promised):
        raise TaskFailedError(
            Failure.DAMAGED,
            f"The source is damaged or incomplete: of its {promised:.1f} s only {duration:.1f} s "
            "could be read. Upload the whole file again.",
        )
