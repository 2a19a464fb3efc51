"""What the workers of parts are told of the source."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.unit.test_cuts import every, plan_of, source
from transcoding.errors import StaleAttemptError
from transcoding.media.ffmpeg.tools import Tools
from transcoding.media.planning.cuts import entry_point
from transcoding.model import Task
from transcoding.pipeline.source import Source
from transcoding.pipeline.transcoder import Prepared, Transcoder


@pytest.fixture
def stored() -> dict[str, str]:
    return {}


@pytest.fixture
def transcoder(stored: dict[str, str]) -> Transcoder:
    store = SimpleNamespace(
        put=lambda text, key, kind: stored.update({key: text}),
        find=stored.get,
        look_at=lambda bucket, key: (1, '"tag"'),
    )
    sizes = {"max_source_bytes": 1, "part_seconds": 7, "fan_out_seconds": 60, "workers": 10}
    return Transcoder(cast(Any, store), Tools.within(Path("/opt/bin")), **sizes)


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    """Three hours in which each frame is a keyframe."""
    facts = source(10_800.0, keyframes=every(10_800, 1 / 25))
    facts = replace(facts, keyframes=tuple(every(10_800, 1 / 25)))
    now = datetime.now(UTC)
    task = Task("17lok52y", "s3://source/key", 4, "m3u8", now, now, attempt=1)
    return Prepared(task, Source("source", "key", '"tag"', 0.0, facts), plan_of(facts))


def test_what_is_stored_for_parts_is_small_however_many_keyframes_there_are(transcoder, stored, prepared):
    parts = transcoder.parts(prepared)
    transcoder.store(prepared, parts)
    (kept,) = stored.values()
    assert len(kept) < 500 * len(parts) + 5000


def test_a_part_begins_reading_at_its_own_entry_point(transcoder, prepared):
    parts = transcoder.parts(prepared)
    transcoder.store(prepared, parts)
    for part in [part for part in parts if part.kind == "picture"][::10]:
        recalled = transcoder.recall(prepared.task, part)
        expected = entry_point(prepared.source.facts, part.start)
        assert entry_point(recalled.source.facts, part.start) == expected


def test_the_shares_of_all_parts_are_the_whole(transcoder, prepared):
    parts = transcoder.parts(prepared)
    assert sum(map(prepared.share, parts)) == pytest.approx(0.96)


@pytest.mark.parametrize(
    ("number", "tries", "faults", "copies"),
    [
        (0, 1, 0, True),
        # Its worker was lost.
        (0, 2, 0, True),
        (0, 2, 1, False),
        # It begins within the film: it was split from the first.
        (2, 1, 0, False),
    ],
)
def test_what_could_not_be_copied_is_encoded(transcoder, prepared, number, tries, faults, copies):
    parts = transcoder.parts(prepared)
    transcoder.store(prepared, parts)
    part = replace(parts[number], tries=tries, faults=faults)
    assert transcoder.recall(prepared.task, part).plan.copies is copies


@pytest.mark.parametrize("number", [0, 2])
def test_the_third_try_of_any_part_goes_without_what_two_may_have_failed_over(transcoder, prepared, number):
    task = replace(prepared.task, thumbnails=True)
    parts = transcoder.parts(prepared)
    transcoder.store(prepared, parts)
    made = [transcoder.recall(task, replace(parts[number], faults=n)).plan.thumbnails for n in range(3)]
    assert made == [True, True, False]


@pytest.mark.parametrize("stored_by_another", [None, b"", b"{}", b'{"bucket": "source"}'])
def test_what_another_version_has_stored_is_recognised(transcoder, stored, prepared, stored_by_another):
    parts = transcoder.parts(prepared)
    transcoder.store(prepared, parts)
    for key in stored:
        stored[key] = stored_by_another
    with pytest.raises(StaleAttemptError):
        transcoder.recall(prepared.task, parts[0])
    with pytest.raises(StaleAttemptError):
        transcoder.finish(prepared.task, parts, lambda progress: None)


def test_what_an_older_version_has_stored_with_fewer_facts_is_read(transcoder, stored, prepared):
    parts = transcoder.parts(prepared)
    transcoder.store(prepared, parts)
    ((key, text),) = stored.items()
    kept = json.loads(text)
    del kept["facts"]["estimated"]
    stored[key] = json.dumps(kept | {"added later": 1})
    assert transcoder.recall(prepared.task, parts[0]).source.facts.duration == 10_800.0


@pytest.mark.parametrize("streams", [[], ["720p"], ["720p", "video"]])
def test_streams_that_another_version_has_made_are_not_joined(transcoder, stored, prepared, streams):
    parts = transcoder.parts(prepared)[:3]
    transcoder.store(prepared, parts)
    track = {"timescale": 12_800, "codec": "avc1.640028", "configuration": "", "segments": []}
    prefix = next(iter(stored)).rpartition("/")[0]
    for part in parts:
        names = ["audio"] if part.kind == "sound" else streams
        made = {"tracks": dict.fromkeys(names, track), "texts": []}
        stored[f"{prefix}/parts/{part.number}.json"] = json.dumps(made)
    with pytest.raises(StaleAttemptError, match="part 1 has the streams"):
        transcoder.finish(prepared.task, parts, lambda progress: None)
