"""Results in segments: a folder of fMP4 segments and a playlist for each stream, and what names them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from transcoding.data.object_store import ObjectStore, output_prefix
from transcoding.media.encoding import command
from transcoding.media.packaging import dash, hls, subtitles
from transcoding.media.packaging.thumbnails import Sheets
from transcoding.media.planning.plan import PicturePlan, Plan, SoundPlan
from transcoding.model import OutputRendition, Task
from transcoding.pipeline.output import highest_frame_rate, main_streams, told
from transcoding.pipeline.progress import Report
from transcoding.pipeline.thumbnails import Depict, in_segments
from transcoding.pipeline.track import Track, TrackWriter
from transcoding.pipeline.uploads import Uploads

#: The playlist that a player opens.
_MASTER = "master.m3u8"


class SegmentsPackage:
    """Stores segments under the result's prefix while they are made, and playlists over them at the end."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def part_prefix(self, task: Task) -> str:
        """Return the result's own prefix: what parts store is what players read."""
        return output_prefix(task.id, task.attempt)

    def publication(self, plan: Plan, folder: Path, prefix: str, uploads: Uploads) -> _Segments:
        """Return what stores the whole result that FFmpeg makes in `folder`."""
        return _Segments(self, self._store, plan, folder, prefix, uploads)

    def store_texts(
        self, plan: Plan, folder: Path, prefix: str, uploads: Uploads, duration: float
    ) -> list[hls.Subtitles]:
        """Store the subtitles that have any text, in segments and, for DASH, in one file."""
        stored: list[hls.Subtitles] = []
        for number, text in enumerate(plan.texts):
            path = folder / command.subtitle_file(plan, number)
            with path.open("rb") as file:
                cues = subtitles.read(file.read(subtitles.MAX_BYTES), duration)
            if not cues:
                continue
            name = f"{command.SUBTITLES}/{number}"
            if plan.format.dash:
                path.write_text(subtitles.whole(cues), encoding="utf-8")
                uploads.add(path, f"{prefix}{name}.vtt", subtitles.CONTENT_TYPE)
            place = path.with_suffix("")
            place.mkdir()
            segments = []
            for start, end, content in subtitles.segments(cues, duration):
                segment = hls.Segment(start, end, len(content.encode()), "vtt")
                segment_path = place / segment.name
                segment_path.write_text(content, encoding="utf-8")
                segments.append(segment)
                uploads.add(segment_path, f"{prefix}{name}/{segment.name}", subtitles.CONTENT_TYPE)
            facts = text.facts
            rendition = hls.Rendition(
                f"{name}/{command.PLAYLIST}", "", "", 1000, tuple(segments), facts.language, facts.name
            )
            self._store.put(hls.media_playlist(rendition), prefix + rendition.uri, hls.CONTENT_TYPE)
            stored.append(hls.Subtitles(facts, rendition, f"{name}.vtt"))
        return stored

    def join(
        self,
        plan: Plan,
        task: Task,
        tracks: Mapping[str, Track],
        texts: Sequence[hls.Subtitles],
        sheets: Sheets | None,
        report: Report,
    ) -> list[OutputRendition]:
        """Store playlists over the segments that parts have stored."""
        return self.put_playlists(plan, output_prefix(task.id, task.attempt), tracks, texts, sheets)

    def put_playlists(
        self,
        plan: Plan,
        prefix: str,
        tracks: Mapping[str, Track],
        texts: Sequence[hls.Subtitles],
        sheets: Sheets | None,
    ) -> list[OutputRendition]:
        """Store what names the segments, and last what `target_url` points at; return the renditions."""
        pictures = [_picture(picture, tracks[picture.name]) for picture in plan.pictures]
        sound = _sound(plan.sound, tracks[plan.sound.name]) if plan.sound else None
        renditions = [*pictures, sound] if sound else pictures
        target = max(rendition.target_duration for rendition in renditions)
        for rendition in renditions:
            playlist = hls.media_playlist(rendition, target)
            self._store.put(playlist, prefix + rendition.uri, hls.CONTENT_TYPE)
        for picture in pictures:
            keyframes = hls.i_frames(picture)
            if keyframes.segments:
                self._store.put(hls.i_frame_playlist(picture), prefix + keyframes.uri, hls.CONTENT_TYPE)
        master = hls.master_playlist(pictures, sound, texts)
        self._store.put(master, prefix + _MASTER, hls.CONTENT_TYPE)
        if plan.format.dash:
            manifest = dash.manifest(pictures, sound, texts, sheets)
            self._store.put(manifest, prefix + plan.format.target, plan.format.content_type)
        frames = [tracks[stream.name].content.samples for stream in plan.streams]
        return [told(*stream) for stream in zip(main_streams(plan), renditions, frames, strict=False)]


class _Segments:
    """The result that one worker makes: all its streams, side by side."""

    def __init__(
        self,
        package: SegmentsPackage,
        store: ObjectStore,
        plan: Plan,
        folder: Path,
        prefix: str,
        uploads: Uploads,
    ) -> None:
        self._package = package
        self._store = store
        self._plan = plan
        self._folder = folder
        self._prefix = prefix
        self._uploads = uploads
        (folder / command.SUBTITLES).mkdir()
        self._writers = [
            TrackWriter(
                stream, folder, prefix, uploads, by_keyframe=stream in plan.pictures and plan.thumbnails
            )
            for stream in plan.streams
        ]

    def collect(self, *, ended: bool = False) -> None:
        for writer in self._writers:
            writer.collect(ended=ended)

    def duration(self) -> float:
        return max(writer.track().duration for writer in self._writers)

    def finish(self, report: Report, depict: Depict) -> list[OutputRendition]:
        for writer in self._writers:
            writer.store_init()
        texts = self._package.store_texts(
            self._plan, self._folder, self._prefix, self._uploads, self.duration()
        )
        report(0.5)
        self._uploads.settle(wait=True)
        tracks = {writer.stream.name: writer.track() for writer in self._writers}
        first = self._writers[0].stream.name
        sheets = depict(in_segments(self._store, f"{self._prefix}{first}/", tracks[first]))
        return self._package.put_playlists(self._plan, self._prefix, tracks, texts, sheets)


def _rendition(name: str, track: Track) -> hls.Rendition:
    return hls.Rendition(
        f"{name}/{command.PLAYLIST}",
        command.INIT_SEGMENT,
        track.codec,
        track.timescale,
        hls.closed(track.segments),
    )


def _picture(plan: PicturePlan, track: Track) -> hls.Rendition:
    picture = hls.Picture(
        plan.width,
        plan.height,
        highest_frame_rate(plan, track.segments, track.timescale),
        plan.video_range,
        captioned=plan.copied,
    )
    return replace(_rendition(plan.name, track), picture=picture)


def _sound(plan: SoundPlan, track: Track) -> hls.Rendition:
    facts = plan.facts
    return replace(
        _rendition(plan.name, track),
        language=facts.language,
        name=facts.name,
        channels=plan.channels,
        sample_rate=plan.sample_rate,
    )
