"""Stores a result's objects: segments while FFmpeg writes them, a file when it is done, the entry last."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from s3transfer.futures import TransferFuture

from transcoding.data.media_store import MediaStore
from transcoding.domain.errors import Failure, TaskFailedError
from transcoding.media import command, dash, hls, subtitles
from transcoding.media.formats import Packaging
from transcoding.media.plan import Plan
from transcoding.media.probe import probe
from transcoding.media.tools import Tools

#: Seconds between two looks at an upload.
_POLL = 0.25


class Publication(Protocol):
    """What is stored of one attempt's result."""

    def collect(self) -> None:
        """Store what FFmpeg has finished so far, and forget what is stored."""
        ...

    def duration(self) -> float:
        """Return how long the result is that has been collected, in seconds."""
        ...

    def finish(self, report: Callable[[float], None]) -> None:
        """Store what is left, and last what `target_url` points at; report the share that is done."""
        ...


@contextmanager
def publishing(
    media: MediaStore, tools: Tools, plan: Plan, folder: Path, prefix: str
) -> Iterator[Publication]:
    """Give what stores the plan's result, which FFmpeg makes in `folder`, under the prefix.

    Leaving the block abandons what is still under way, and returns when nothing is being stored any more.
    """
    uploads = _Uploads(media)
    try:
        if plan.format.packaging is Packaging.SEGMENTS:
            yield _Segments(media, plan, folder, prefix, uploads)
        else:
            yield _File(tools, plan, folder, prefix, uploads)
    finally:
        uploads.abandon()


class _Uploads:
    """Uploads under way."""

    def __init__(self, media: MediaStore) -> None:
        self._media = media
        self._under_way: list[tuple[TransferFuture, Path]] = []

    def add(
        self, path: Path, key: str, content_type: str, on_bytes: Callable[[int], None] | None = None
    ) -> None:
        self._under_way.append((self._media.upload(path, key, content_type, on_bytes), path))

    @property
    def done(self) -> bool:
        return all(future.done() for future, _ in self._under_way)

    def settle(self, *, wait: bool = False) -> None:
        """Remove the files whose upload is done. Raises what made an upload fail."""
        still = []
        for future, path in self._under_way:
            if wait or future.done():
                future.result()
                path.unlink()
            else:
                still.append((future, path))
        self._under_way = still

    def abandon(self) -> None:
        for future, _ in self._under_way:
            future.cancel()
        for future, _ in self._under_way:
            with suppress(BaseException):
                future.result()


class _Segments:
    """A folder of fMP4 segments and a playlist for each of picture and sound, and what names them all."""

    def __init__(self, media: MediaStore, plan: Plan, folder: Path, prefix: str, uploads: _Uploads) -> None:
        self._media = media
        self._plan = plan
        self._folder = folder
        self._prefix = prefix
        self._uploads = uploads
        self._segments: dict[str, list[hls.Segment]] = {}
        if plan.video:
            self._segments[command.VIDEO] = []
        if plan.audio:
            self._segments[command.AUDIO] = []
        for stream in (*self._segments, command.SUBTITLES):
            (folder / stream).mkdir()

    def collect(self) -> None:
        self._uploads.settle()
        for stream, segments in self._segments.items():
            try:
                playlist = (self._folder / stream / command.PLAYLIST).read_text()
            except FileNotFoundError:
                continue
            for name, duration in hls.finished_segments(playlist)[len(segments) :]:
                path = self._folder / stream / name
                segments.append(hls.Segment(name, duration, path.stat().st_size))
                self._upload(path, stream)

    def duration(self) -> float:
        return max(sum(s.duration for s in segments) for segments in self._segments.values())

    def finish(self, report: Callable[[float], None]) -> None:
        renditions = {}
        for stream, segments in self._segments.items():
            if not segments:
                raise TaskFailedError(
                    Failure.DAMAGED, f"The source's {stream} could not be decoded. Export or upload it again."
                )
            init = self._folder / stream / command.INIT_SEGMENT
            uri = f"{stream}/{command.PLAYLIST}"
            codec = hls.codec_string(init.read_bytes())
            renditions[stream] = hls.Rendition(uri, command.INIT_SEGMENT, codec, tuple(segments))
            self._upload(init, stream)
        target = max(hls.target_duration(r.segments) for r in renditions.values())
        for rendition in renditions.values():
            playlist = hls.media_playlist(rendition, target)
            self._media.put(playlist, self._prefix + rendition.uri, hls.CONTENT_TYPE)
        texts = self._finish_subtitles()
        report(0.5)
        self._uploads.settle(wait=True)
        plan = self._plan
        video, audio = renditions.get(command.VIDEO), renditions.get(command.AUDIO)
        picture = None
        if plan.video:
            picture = hls.Picture(plan.video.width, plan.video.height, plan.video.facts.frame_rate)
        if audio and plan.audio:
            audio = replace(audio, language=plan.audio.facts.language, name=plan.audio.facts.name)
        channels = plan.audio.channels if plan.audio else 0
        master = hls.master_playlist(video, picture, audio, channels, texts)
        self._media.put(master, f"{self._prefix}{command.MASTER}", hls.CONTENT_TYPE)
        if plan.format.muxer == "dash":
            manifest = dash.manifest(video, picture, audio, channels, command.SEGMENT_PATTERN, texts)
            self._media.put(manifest, self._prefix + plan.format.entry, plan.format.content_type)

    def _finish_subtitles(self) -> list[hls.Subtitles]:
        """Store the subtitles that have any text, in segments and in one file."""
        finished = []
        duration = self.duration()
        for number, text in enumerate(self._plan.subtitles):
            path = command.subtitle_file(self._folder, number)
            with path.open("rb") as file:
                cues = subtitles.read(file.read(subtitles.MAX_BYTES), duration)
            if not cues:
                continue
            if self._plan.format.muxer == "dash":
                path.write_text(subtitles.whole(cues), encoding="utf-8")
                self._uploads.add(path, self._key(path), subtitles.CONTENT_TYPE)
            folder = path.with_suffix("")
            folder.mkdir()
            segments = []
            for n, (content, seconds) in enumerate(subtitles.segments(cues, duration)):
                part = folder / f"{n:05d}.vtt"
                part.write_text(content, encoding="utf-8")
                segments.append(hls.Segment(part.name, seconds, part.stat().st_size))
                self._uploads.add(part, self._key(part), subtitles.CONTENT_TYPE)
            uri = (folder / command.PLAYLIST).relative_to(self._folder).as_posix()
            rendition = hls.Rendition(uri, "", "", tuple(segments), text.facts.language, text.facts.name)
            self._media.put(hls.media_playlist(rendition), self._prefix + uri, hls.CONTENT_TYPE)
            file_uri = path.relative_to(self._folder).as_posix()
            finished.append(hls.Subtitles(text.facts, rendition, file_uri))
        return finished

    def _key(self, path: Path) -> str:
        return self._prefix + path.relative_to(self._folder).as_posix()

    def _upload(self, path: Path, stream: str) -> None:
        self._uploads.add(path, f"{self._prefix}{stream}/{path.name}", f"{stream}/mp4")


class _File:
    """One file, which is complete only when FFmpeg is done."""

    def __init__(self, tools: Tools, plan: Plan, folder: Path, prefix: str, uploads: _Uploads) -> None:
        self._tools = tools
        self._plan = plan
        self._path = folder / plan.format.entry
        self._prefix = prefix
        self._uploads = uploads

    def collect(self) -> None:
        pass

    def duration(self) -> float:
        size = self._path.stat().st_size if self._path.exists() else 0
        return (probe(self._tools, str(self._path), size).duration or 0.0) if size else 0.0

    def finish(self, report: Callable[[float], None]) -> None:
        size = self._path.stat().st_size
        stored = 0

        def count(more: int) -> None:
            nonlocal stored
            stored += more

        self._uploads.add(self._path, self._prefix + self._path.name, self._plan.format.content_type, count)
        while not self._uploads.done:
            report(stored / size)
            time.sleep(_POLL)
        self._uploads.settle(wait=True)
