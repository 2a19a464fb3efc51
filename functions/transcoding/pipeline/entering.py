"""Where parts may begin to decode: only where that gives the frames of one pass over the source."""

from __future__ import annotations

import json
from collections.abc import Set
from dataclasses import replace

from aws_lambda_powertools import Logger

from transcoding.data.object_store import ObjectStore, work_prefix
from transcoding.errors import OutOfTimeError
from transcoding.media.ffmpeg.tools import Tools
from transcoding.media.inspection import entries
from transcoding.media.inspection.facts import EntryPoint, SourceFacts
from transcoding.media.planning.cuts import Span, begin
from transcoding.model import Task
from transcoding.pipeline.progress import Report
from transcoding.pipeline.scratch import scratch_folder

#: Stands for missing frames among complaints.
_LACKING = "frames are missing"

logger = Logger(child=True)


class EntryError(Exception):
    """Decoding from an entry point does not give the frames of one pass."""


class Entering:
    """Tries out entry points."""

    def __init__(self, store: ObjectStore, tools: Tools) -> None:
        self._store = store
        self._tools = tools

    def with_true_points(self, facts: SourceFacts, url: str, report: Report, progress: float) -> SourceFacts:
        """Return the facts with the entry points that decoding may begin at: all, or the beginning alone.

        `progress` is reported meanwhile. Raises what `report` raises.
        """
        start = begin(facts)
        with scratch_folder() as folder:
            if entries.are_true(self._tools, url, facts, start, folder, lambda: report(progress)):
                return facts
        logger.warning("the picture can be decoded from the beginning only")
        return replace(facts, entry_points=(EntryPoint(start, start),))

    def check(
        self,
        task: Task,
        url: str,
        facts: SourceFacts,
        point: EntryPoint,
        span: Span,
        complained: Set[str],
        report: Report,
    ) -> None:
        """Check that a span decoded from an entry point, with complaints, has the frames of one pass.

        Without complaints, it lacks frames. A comparison takes long: so complaints that one pass has too are
        stored for the task's other parts, and where no time is left the frames count as the same. Raises
        EntryError where they differ, and LeaseLostError.
        """
        key = f"{work_prefix(task.id, task.attempt)}complaints.json"
        known, found = self._known(key), complained or {_LACKING}
        if found <= known:
            return
        try:
            with scratch_folder() as folder:
                is_like_one_pass = entries.is_like_one_pass(
                    self._tools,
                    url,
                    facts,
                    point,
                    (span.start, span.end),
                    complained,
                    folder,
                    lambda: report(1.0),
                )
        except OutOfTimeError:
            logger.warning("no time to compare a part with one pass", task_id=task.id, start=span.start)
            return
        if not is_like_one_pass:
            raise EntryError(f"the frames are not those of one pass: {sorted(found - known)}")
        self._store.put(json.dumps(sorted(found | known)), key, "application/json")

    def _known(self, key: str) -> frozenset[str]:
        return frozenset(json.loads(self._store.find(key) or b"[]"))
