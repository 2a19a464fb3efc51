"""The first stage: finds a task's source, copies it in where it is not in S3, and inspects it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from transcoding.data.object_store import ObjectStore, forbidden, work_prefix
from transcoding.errors import Failure, TaskFailedError
from transcoding.media.ffmpeg.tools import Tools
from transcoding.media.inspection.facts import SourceFacts
from transcoding.media.inspection.probe import probe
from transcoding.media.planning.codecs import Choice
from transcoding.model import Task
from transcoding.pipeline.fetch import HttpSource
from transcoding.pipeline.progress import COPIED_IN, POLL, Report, fraction

#: Time reserved for inspecting an http(s) source after it is copied in, seconds.
_INSPECTION = 30.0


@dataclass(frozen=True, slots=True)
class Source:
    """An inspected source: where it is in S3, and what is known of it.

    `etag` changes with its content; `begun` is the task's progress when it was in S3, 0.0 to 1.0. `choices`
    are made for its renditions, by their names.
    """

    bucket: str
    key: str
    etag: str
    begun: float
    facts: SourceFacts
    choices: Mapping[str, Choice] = field(default_factory=dict)


class SourceReader:
    """Finds and inspects sources."""

    def __init__(
        self,
        store: ObjectStore,
        tools: Tools,
        *,
        buckets: Sequence[str],
        max_source_bytes: int,
        fetch: Callable[..., HttpSource] = HttpSource,
    ) -> None:
        """`buckets` are patterns of the names of those that sources are read from."""
        self._store = store
        self._tools = tools
        self._buckets = buckets
        self._max_source_bytes = max_source_bytes
        self._fetch = fetch

    def inspect(self, task: Task, report: Report, deadline: float) -> Source:
        """Return a task's source, which is in S3 from then on.

        `deadline` is when that must be done, in seconds of `time.monotonic()`. Raises TaskFailedError where
        no attempt can succeed, what `report` raises, and other errors where another attempt may help.
        """
        scheme, _, rest = task.origin_url.partition("://")
        if scheme == "s3":
            bucket, _, key = rest.partition("/")
            if bucket == self._store.bucket:
                raise TaskFailedError(
                    Failure.SOURCE_FORBIDDEN,
                    "The output bucket holds what tasks have stored, and no sources. Copy the file into the "
                    "source bucket.",
                )
            # The role's rights are no guard where a bucket's own policy lets its whole account read.
            if not any(fnmatchcase(bucket, pattern) for pattern in self._buckets):
                raise forbidden(bucket, key)
            begun = 0.0
        else:
            bucket, key = self._store.bucket, f"{work_prefix(task.id, task.attempt)}source"
            self._copy_in(task.origin_url, key, report, deadline - _INSPECTION)
            begun = COPIED_IN
        report(begun)
        size, etag = self._store.look_at(bucket, key)
        if size == 0:
            raise TaskFailedError(
                Failure.SOURCE_EMPTY, "The source is empty: it has 0 bytes. Upload it again."
            )
        facts = probe(self._tools, self._store.presigned_url(bucket, key), size, deadline)
        return Source(bucket, key, etag, begun, facts)

    def url(self, source: Source) -> str:
        """Return a URL that FFmpeg reads the source from."""
        return self._store.presigned_url(source.bucket, source.key)

    def check_unchanged(self, source: Source) -> None:
        """Check that the source is still the same, as a result is made of one. Raises TaskFailedError."""
        try:
            _, etag = self._store.look_at(source.bucket, source.key)
        except TaskFailedError:
            # A source that is gone by now was read before, or FFmpeg has reported it.
            return
        if etag != source.etag:
            raise TaskFailedError(
                Failure.SOURCE_CHANGED,
                "The source was changed while it was being transcoded. Create the task again.",
            )

    @contextmanager
    def reading(self, source: Source) -> Iterator[None]:
        """Raise SOURCE_CHANGED for a failure in the block that a change of the source led to."""
        try:
            yield
        except TaskFailedError:
            self.check_unchanged(source)
            raise

    def _copy_in(self, url: str, key: str, report: Report, deadline: float) -> None:
        with self._fetch(url, max_bytes=self._max_source_bytes, deadline=deadline) as stream:
            copying = self._store.copy_in(stream, key)
            try:
                while not copying.done():
                    report(COPIED_IN * fraction(stream.offset, stream.length))
                    time.sleep(POLL)
                copying.result()
            except BaseException:
                stream.abort()
                copying.cancel()
                with suppress(BaseException):
                    copying.result()
                raise
