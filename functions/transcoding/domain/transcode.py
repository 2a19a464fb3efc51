"""One attempt at a task's media: find the source, plan, encode, publish."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aws_lambda_powertools import Logger

from transcoding.data.media_store import MediaStore
from transcoding.data.storage import output_prefix, work_prefix
from transcoding.domain.errors import Failure, TaskFailedError
from transcoding.domain.fetch import HttpSource
from transcoding.domain.model import Task
from transcoding.domain.publication import publishing
from transcoding.media import command
from transcoding.media.encoder import Encoder
from transcoding.media.formats import FORMATS
from transcoding.media.plan import Plan, needs_keyframes, plan
from transcoding.media.probe import probe, with_keyframes
from transcoding.media.tools import Tools, diagnose

#: Is told how far an attempt is, 0.0 to 1.0; raises LeaseLostError to end it.
Report = Callable[[float], None]

#: Seconds between two looks at FFmpeg and at what it has finished.
_POLL = 0.25
#: FFmpeg that gets no further for so long never will, seconds.
_STALL = 120.0
#: Where in a task's progress the copying of an http(s) source, and the encoding, end.
_COPIED_IN, _ENCODED = 0.1, 0.96
#: A result may miss this much of what the source promised: containers round, and last packets get lost.
_SHORTFALL, _SHORTFALL_SECONDS = 0.05, 1.0

logger = Logger(child=True)


@dataclass(frozen=True, slots=True)
class _Located:
    """Where FFmpeg reads a source; `size` in bytes; `begun` is the progress spent on getting it there."""

    url: str
    size: int
    begun: float = 0.0


class Transcoder:
    """Makes and publishes results; what it holds is made once in a process."""

    def __init__(
        self,
        media: MediaStore,
        tools: Tools,
        *,
        max_source_bytes: int,
        fetch: Callable[..., HttpSource] = HttpSource,
    ) -> None:
        self._media = media
        self._tools = tools
        self._max_source_bytes = max_source_bytes
        self._fetch = fetch

    def run(self, task: Task, folder: Path, report: Report, deadline: float) -> str:
        """Make the task's result and return the key that `target_url` is to point at.

        `folder` is an empty one for temporary files, `deadline` when an http(s) source must have been read,
        in seconds of `time.monotonic()`. Raises TaskFailedError where no attempt can succeed, whatever
        `report` raises, and other errors where another attempt may help.
        """
        located = self._locate(task, report, deadline)
        target = FORMATS[task.format]
        source = probe(self._tools, located.url, located.size)
        if task.attempt == 1 and needs_keyframes(source, target, task.quality):
            source = with_keyframes(source, located.url)
        work = plan(source, target, task.quality, may_copy=task.attempt == 1, with_text=task.attempt <= 2)
        logger.info("planned", task_id=task.id, source=str(source), streams=work.describe())
        report(located.begun)
        prefix = output_prefix(task.id, task.attempt)
        with publishing(self._media, self._tools, work, folder, prefix) as publication:
            encoding = command.build(self._tools, work, located.url, folder)

            def progress(encoder: Encoder) -> None:
                publication.collect()
                report(
                    located.begun
                    + (_ENCODED - located.begun) * _share(_reached(work, encoder), work.duration)
                )

            encoder = _encode(encoding, progress)
            _check_encoder(work, encoder)
            publication.collect()
            _check_result(work, encoder, publication.duration())
            publication.finish(lambda share: report(_ENCODED + (1 - _ENCODED) * share))
        return prefix + target.entry

    def _locate(self, task: Task, report: Report, deadline: float) -> _Located:
        scheme, _, rest = task.origin_url.partition("://")
        if scheme == "s3":
            bucket, _, key = rest.partition("/")
            begun = 0.0
        else:
            bucket, key = self._media.bucket, f"{work_prefix(task.id, task.attempt)}source"
            self._copy_in(task.origin_url, key, report, deadline)
            begun = _COPIED_IN
        size = self._media.size(bucket, key)
        if size == 0:
            raise TaskFailedError(
                Failure.SOURCE_EMPTY, "The source is empty: it has 0 bytes. Upload it again."
            )
        return _Located(self._media.presigned_url(bucket, key), size, begun)

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


def _encode(encoding: Sequence[str], progress: Callable[[Encoder], None]) -> Encoder:
    """Run FFmpeg to its end, looking at its progress all the time. Raises as `Transcoder.run`."""
    with Encoder(encoding) as encoder:
        # What is behind the question mark of a presigned URL lets its reader in.
        logger.info("encoding", command=re.sub(r"\?\S+", "?…", encoder.command))
        reached, moved_at = (0.0, 0), time.monotonic()
        while encoder.wait(_POLL) is None:
            progress(encoder)
            now = time.monotonic()
            if (encoder.position, encoder.frames) != reached:
                reached, moved_at = (encoder.position, encoder.frames), now
            if now > moved_at + _STALL:
                raise TaskFailedError(
                    Failure.TIMED_OUT,
                    f"The source could not be read on: no progress in {_STALL:.0f} s after "
                    f"second {encoder.position:.0f}. It may be damaged there.",
                )
    return encoder


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
    if work.copies and (status > 0 or command.UNCOPYABLE in errors):
        raise OSError("a stream could not be copied")
    if work.subtitles and status > 0:
        raise OSError("FFmpeg has failed, perhaps over the subtitles")
    if status > 0:
        raise diagnose(errors)


def _check_result(work: Plan, encoder: Encoder, duration: float) -> None:
    """Refuse a result that is not what the source promised. Raises TaskFailedError."""
    if work.video and encoder.frames == 0:
        raise TaskFailedError(
            Failure.DAMAGED, "The source's picture could not be decoded. Export or upload it again."
        )
    promised = work.duration or 0.0
    if promised - duration > max(_SHORTFALL_SECONDS, _SHORTFALL * promised):
        raise TaskFailedError(
            Failure.DAMAGED,
            f"The source is damaged or incomplete: of its {promised:.1f} s only {duration:.1f} s "
            "could be read. Upload the whole file again.",
        )
