"""Chooses each rendition's constant rate factor for the quality aimed at, once for all parts of a task."""

from __future__ import annotations

import time
from dataclasses import asdict

from aws_lambda_powertools import Logger

from transcoding.errors import TaskFailedError
from transcoding.media.encoding.samples import measured
from transcoding.media.ffmpeg.tools import Tools
from transcoding.media.inspection.facts import SourceFacts
from transcoding.media.planning.codecs import Choice
from transcoding.media.planning.plan import Plan
from transcoding.media.planning.quality import Measured, choices, first_crfs, next_crfs, samples
from transcoding.pipeline.progress import Report
from transcoding.pipeline.scratch import scratch_folder

#: The longest that measuring may take, seconds, and the largest share of what is left until the deadline.
_LONGEST, _SHARE = 120.0, 0.25

logger = Logger(child=True)


class SlowError(Exception):
    """Measuring takes too long."""


class QualityChooser:
    """Encodes samples of sources, and chooses from what they show."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def choices(
        self, facts: SourceFacts, planned: Plan, url: str, report: Report, progress: float, deadline: float
    ) -> dict[str, Choice]:
        """Return what is chosen for renditions, by their names; others keep the codec's constant.

        Nothing is chosen where samples would cost too much, and where they fail or take too long: a task
        does not depend on them. `progress` is reported meanwhile; `deadline` is that of the preparation, in
        seconds of `time.monotonic()`. Raises what `report` raises.
        """
        crfs = first_crfs(planned)
        # Where two measurements cost too much, one is better than none.
        taken, measurements = samples(facts, planned, 2), 2
        if not taken:
            taken, measurements = samples(facts, planned, 1), 1
        if not crfs or not taken:
            return {}
        started = time.monotonic()
        latest = started + min(_LONGEST, _SHARE * (deadline - started))

        def watch() -> None:
            report(progress)
            if time.monotonic() > latest:
                raise SlowError("it takes too long")

        points: dict[str, list[Measured]] = {name: [] for name in crfs}
        try:
            with scratch_folder() as folder:
                for number in range(measurements):
                    place = folder / str(number)
                    place.mkdir()
                    found = measured(self._tools, planned, crfs, taken, url, place, watch)
                    for name, one in found.items():
                        points[name].append(one)
                    crfs = next_crfs(planned, points)
                    if not crfs:
                        break
        except (SlowError, OSError, TaskFailedError) as error:
            logger.warning("the quality could not be measured", reason=str(error))
        chosen = choices(planned, points)
        logger.info(
            "quality chosen",
            seconds=round(time.monotonic() - started, 1),
            samples=len(taken),
            measured={name: [asdict(one) for one in ones] for name, ones in points.items()},
            chosen={name: asdict(choice) for name, choice in chosen.items()},
        )
        return chosen
