"""Stores a result's objects: segments while FFmpeg writes them, a file when it is done, the entry last."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property, partial
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Protocol

from s3transfer.futures import TransferFuture

from transcoding.data.media_store import MediaStore
from transcoding.data.streams import StoredObject
from transcoding.errors import Failure, TaskFailedError
from transcoding.media.encoding import command
from transcoding.media.ffmpeg.tools import Tools
from transcoding.media.inspection.probe import probe
from transcoding.media.packaging import dash, fragments, hls, subtitles
from transcoding.media.packaging.fragments import Content
from transcoding.media.planning import codecs
from transcoding.media.planning.cuts import Span
from transcoding.media.planning.formats import Packaging
from transcoding.media.planning.plan import Plan

#: A cue of text takes at least so many bytes of a file, with what tells its time.
_SMALLEST_CUE = 20

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
    uploads = Uploads(media)
    try:
        if plan.format.packaging is Packaging.SEGMENTS:
            yield _Segments(media, plan, folder, prefix, uploads)
        else:
            yield _File(tools, plan, folder, prefix, uploads)
    finally:
        uploads.abandon()


class Uploads:
    """Uploads under way."""

    def __init__(self, media: MediaStore) -> None:
        self._media = media
        self._under_way: list[tuple[TransferFuture, Path]] = []

    def add(
        self, path: Path, key: str, content_type: str, on_bytes: Callable[[int], None] | None = None
    ) -> None:
        """Begin to store a file."""
        self._under_way.append((self._media.upload(path, key, content_type, on_bytes), path))

    @property
    def done(self) -> bool:
        """Whether nothing is under way any more."""
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
        """Give up what is under way, and return when nothing is being stored any more."""
        for future, _ in self._under_way:
            future.cancel()
        for future, _ in self._under_way:
            with suppress(BaseException):
                future.result()


class _Segments:
    """A folder of fMP4 segments and a playlist for each of picture and sound, and what names them all."""

    def __init__(self, media: MediaStore, plan: Plan, folder: Path, prefix: str, uploads: Uploads) -> None:
        self._media = media
        self._plan = plan
        self._folder = folder
        self._prefix = prefix
        (folder / command.SUBTITLES).mkdir()
        self._streams = [
            Stream(name, plan, folder, prefix, uploads)
            for name, stream in ((command.VIDEO, plan.video), (command.AUDIO, plan.audio))
            if stream
        ]
        self._uploads = uploads

    def collect(self) -> None:
        for stream in self._streams:
            stream.collect()

    def duration(self) -> float:
        return max(stream.track().duration for stream in self._streams)

    def finish(self, report: Callable[[float], None]) -> None:
        for stream in self._streams:
            stream.store_init()
        texts = store_texts(
            self._media, self._plan, self._folder, self._prefix, self._uploads, self.duration()
        )
        report(0.5)
        self._uploads.settle(wait=True)
        tracks = {stream.name: stream.track() for stream in self._streams}
        put_playlists(self._media, self._plan, self._prefix, tracks, texts)


@dataclass(frozen=True, slots=True)
class Track:
    """What has been stored of a stream, or of a part of it: segments in order, with ticks a second.

    `configuration` is a digest of what decoders are told of the stream: parts must have it in common. `codec`
    is for playlists, and empty where none names it.
    """

    timescale: int
    codec: str
    configuration: str
    segments: tuple[hls.Segment, ...] = ()
    content: Content = field(default_factory=Content)

    @property
    def duration(self) -> float:
        """Length in seconds, also of what is missing in between."""
        return (self.segments[-1].end - self.segments[0].start) / self.timescale if self.segments else 0.0


def joined(tracks: Sequence[Track]) -> Track:
    """Return the track that parts, in order, make together.

    Raises TaskFailedError where there is nothing in them, and ValueError where they do not fit.
    """
    tracks = [track for track in tracks if track.segments]
    if not tracks:
        raise TaskFailedError(Failure.DAMAGED, "The source could not be decoded. Export or upload it again.")
    described = {Track(track.timescale, track.codec, track.configuration) for track in tracks}
    if len(described) > 1:
        raise ValueError("the parts of a picture differ in how they are to be decoded")
    return replace(
        described.pop(),
        segments=tuple(segment for track in tracks for segment in track.segments),
        content=sum((track.content for track in tracks), Content()),
    )


class Stream:
    """The segments of one stream: taken from FFmpeg's folder, set to their times, and stored.

    With `span`, FFmpeg makes that part of the picture, and counts time from the part's first frame.
    """

    def __init__(
        self, name: str, plan: Plan, folder: Path, prefix: str, uploads: Uploads, span: Span | None = None
    ) -> None:
        self.name = name
        self.plan = plan
        self._folder = folder / name
        self._folder.mkdir()
        self._frames = _Times(folder / command.FRAMES)
        self._packets = _Times(folder / command.PACKETS)
        self._result = prefix
        self._prefix = f"{prefix}{name}/"
        self._uploads = uploads
        self._span = span
        self._names: list[str] = []
        self._segments: list[hls.Segment] = []
        self._content = Content()
        self._first_shown = 0

    @cached_property
    def _written_init(self) -> bytes:
        """The init segment as FFmpeg has written it."""
        return (self._folder / command.INIT_SEGMENT).read_bytes()

    @cached_property
    def _init(self) -> bytes:
        written = self._written_init
        return fragments.with_media_time(written, self._delay) if self._span else written

    @cached_property
    def _facts(self) -> fragments.Init:
        return fragments.read_init(self._init)

    @cached_property
    def _delay(self) -> int:
        """How long before it is shown the first frame of every part is decoded, in ticks."""
        if self.plan.video is None:
            return 0
        timescale = fragments.read_init(self._written_init).timescale
        frames = codecs.REORDERED[self.plan.video.codec]
        return round(frames * timescale / self.plan.video.facts.frame_rate)

    @cached_property
    def _start(self) -> int:
        """When the first frame is shown, in ticks of the result's timeline."""
        return round(self._frames.first[0] * self._facts.timescale)

    def starts_late(self) -> bool:
        """Tell whether the part lacks frames at its start, as far as the frame rate tells."""
        times = _Times(self._folder.parent / command.FRAMES).of(0)
        if not (self._span and self.plan.video and times):
            return False
        facts = self.plan.video.facts
        return (
            facts.constant_frame_rate and times[1] - self._span.start * facts.time_base > 2 / facts.frame_rate
        )

    def next_start(self) -> int | None:
        """Return the tick of the source at which what is not stored starts; None before anything is."""
        times = self._frames.of(self._content.samples) if self._segments else ()
        if not (times and self.plan.video):
            return None
        return round(times[1] / self.plan.video.facts.time_base)

    def collect(self) -> None:
        """Store the segments that FFmpeg has finished since, and forget those that are stored."""
        self._uploads.settle()
        try:
            playlist = (self._folder / command.PLAYLIST).read_text()
        except FileNotFoundError:
            return
        for name in hls.finished_segments(playlist)[len(self._names) :]:
            self._names.append(name)
            path = self._folder / name
            data = path.read_bytes()
            if b"moof" not in data:
                # All that FFmpeg writes of a stream, or of a part of it, that has no frame.
                path.unlink()
                continue
            fragment = fragments.read(data)
            if self.name == command.VIDEO and self.plan.video and not self.plan.video.copied:
                fragment = self._set(fragment)
                data = fragments.retimed(data, fragment)
                path.write_bytes(data)
            start, end = (max(0, time - self._facts.media_time) for time in fragment.shown())
            segment = hls.Segment(start, end, len(data))
            self._content += fragment.content()
            self._segments.append(segment)
            self._uploads.add(path, self._prefix + segment.name, f"{self.name}/mp4")

    def _set(self, fragment: fragments.Fragment) -> fragments.Fragment:
        """Return a fragment of the picture with its right times."""
        if self._segments:
            seconds = self._packets.of(self._content.samples)[0] - self._packets.first[0]
            ticks = self._first_shown + round(seconds * self._facts.timescale)
            fragment = fragment.shown_from(ticks)
        else:
            self._first_shown, _ = fragment.shown()
        return fragment.placed(self._start, self._first_shown, self._delay) if self._span else fragment

    def store_init(self) -> None:
        """Store the init segment. Raises TaskFailedError where nothing of the stream could be decoded."""
        if not self._segments:
            raise TaskFailedError(
                Failure.DAMAGED, f"The source's {self.name} could not be decoded. Export or upload it again."
            )
        path = self._folder / command.INIT_SEGMENT
        path.write_bytes(self._init)
        self._uploads.add(path, self._prefix + path.name, f"{self.name}/mp4")

    def store_texts(self, media: MediaStore, duration: float) -> list[hls.Subtitles]:
        """Store the subtitles that FFmpeg has made along; `duration` of the media in seconds."""
        return store_texts(media, self.plan, self._folder.parent, self._result, self._uploads, duration)

    def track(self) -> Track:
        """Return what has been stored so far."""
        if not self._segments:
            return Track(1, "", "")
        digest = hashlib.sha256(self._facts.configuration).hexdigest()
        named = self.plan.format.packaging is Packaging.SEGMENTS
        codec = hls.codec_string(self._init) if named else ""
        return Track(self._facts.timescale, codec, digest, tuple(self._segments), self._content)


class _Times:
    """The times that FFmpeg notes of frames while it runs, a line each; asked for in their order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._place = 0
        self._line: tuple[Fraction, ...] = ()

    @cached_property
    def first(self) -> tuple[Fraction, ...]:
        """Those of the first frame, which must have been noted."""
        return _Times(self._path).of(0)

    def of(self, number: int) -> tuple[Fraction, ...]:
        """Return the times, in seconds, of the frame of that number; empty if they are not noted yet."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._place)
                for line in islice(file, number + 1 - self._read):
                    if not line.endswith(b"\n"):
                        break
                    numbers = line.split()
                    self._read += 1
                    self._place += len(line)
                    ticks = zip(numbers[::2], numbers[1::2], strict=True)
                    self._line = tuple(int(n) * Fraction(base.decode()) for n, base in ticks)
        except FileNotFoundError:
            return ()
        return self._line if self._read > number else ()


def store_texts(
    media: MediaStore, plan: Plan, folder: Path, prefix: str, uploads: Uploads, duration: float
) -> list[hls.Subtitles]:
    """Store the subtitles that have any text, in segments and in one file; `duration` in seconds.

    Those that are joined are stored as they are.
    """
    stored: list[hls.Subtitles] = []
    if plan.format.packaging is Packaging.FILE:
        for name in _text_files(plan):
            uploads.add(folder / name, prefix + name, plan.format.content_type)
        return stored
    for number, text in enumerate(plan.subtitles):
        path = folder / command.subtitle_file(plan, number)
        with path.open("rb") as file:
            cues = subtitles.read(file.read(subtitles.MAX_BYTES), duration)
        if not cues:
            continue
        name = f"{command.SUBTITLES}/{number}"
        if plan.format.muxer == "dash":
            path.write_text(subtitles.whole(cues), encoding="utf-8")
            uploads.add(path, f"{prefix}{name}.vtt", subtitles.CONTENT_TYPE)
        place = path.with_suffix("")
        place.mkdir()
        segments = []
        for start, end, content in subtitles.segments(cues, duration):
            segment = hls.Segment(start, end, len(content.encode()), "vtt")
            part = place / segment.name
            part.write_text(content, encoding="utf-8")
            segments.append(segment)
            uploads.add(part, f"{prefix}{name}/{part.name}", subtitles.CONTENT_TYPE)
        facts = text.facts
        rendition = hls.Rendition(
            f"{name}/{command.PLAYLIST}", "", "", 1000, tuple(segments), facts.language, facts.name
        )
        media.put(hls.media_playlist(rendition), prefix + rendition.uri, hls.CONTENT_TYPE)
        stored.append(hls.Subtitles(facts, rendition, f"{name}.vtt"))
    return stored


def _text_files(plan: Plan) -> list[str]:
    return [command.subtitle_file(plan, number) for number in range(len(plan.subtitles))]


def put_playlists(
    media: MediaStore,
    plan: Plan,
    prefix: str,
    tracks: Mapping[str, Track],
    texts: Sequence[hls.Subtitles],
) -> None:
    """Store what names the segments, and last what `target_url` points at."""
    renditions = {
        name: hls.Rendition(
            f"{name}/{command.PLAYLIST}",
            command.INIT_SEGMENT,
            track.codec,
            track.timescale,
            hls.closed(track.segments),
        )
        for name, track in tracks.items()
    }
    target = max(rendition.target_duration for rendition in renditions.values())
    for rendition in renditions.values():
        media.put(hls.media_playlist(rendition, target), prefix + rendition.uri, hls.CONTENT_TYPE)
    video, audio = renditions.get(command.VIDEO), renditions.get(command.AUDIO)
    picture = None
    if plan.video:
        picture = hls.Picture(plan.video.width, plan.video.height, plan.video.facts.frame_rate)
    if audio and plan.audio:
        audio = replace(audio, language=plan.audio.facts.language, name=plan.audio.facts.name)
    channels = plan.audio.channels if plan.audio else 0
    master = hls.master_playlist(video, picture, audio, channels, texts)
    media.put(master, f"{prefix}{command.MASTER}", hls.CONTENT_TYPE)
    if plan.format.muxer == "dash":
        manifest = dash.manifest(video, picture, audio, channels, texts)
        media.put(manifest, prefix + plan.format.entry, plan.format.content_type)


def put_file(
    media: MediaStore,
    plan: Plan,
    folder: str,
    key: str,
    tracks: Mapping[str, Track],
    report: Callable[[float], None],
) -> None:
    """Join the tracks, and the subtitles, that are stored under the prefix `folder` into one file.

    The share that is done is reported; nothing is stored where `report` raises.
    """
    # It loads FFmpeg's libraries: no worker that does not join should wait for them when it starts.
    from transcoding.media.packaging.join import Piece, join  # noqa: PLC0415

    pieces = []
    for name, stream in ((command.VIDEO, plan.video), (command.AUDIO, plan.audio)):
        if not stream:
            continue
        track, init = tracks[name], f"{folder}{name}/{command.INIT_SEGMENT}"
        objects = [StoredObject(init, len(media.get(init)))]
        objects += [StoredObject(f"{folder}{name}/{s.name}", s.size) for s in track.segments]
        told = command.labels(plan, stream)
        pieces.append(Piece(partial(media.reading, objects), track.content, track.duration, told))
    duration = max(track.duration for track in tracks.values())
    for name, text in zip(_text_files(plan), plan.subtitles, strict=True):
        data = media.get(folder + name)
        cues = len(data) // _SMALLEST_CUE
        flags, told = command.disposition(text), command.labels(plan, text)
        pieces.append(Piece(partial(BytesIO, data), Content(cues, cues, cues), duration, told, flags))
    join(pieces, plan.format.muxer, partial(media.writing, key, plan.format.content_type), report)


class _File:
    """One file, which is complete only when FFmpeg is done."""

    def __init__(self, tools: Tools, plan: Plan, folder: Path, prefix: str, uploads: Uploads) -> None:
        self._tools = tools
        self._plan = plan
        self._path = folder / plan.format.entry
        self._prefix = prefix
        self._uploads = uploads

    def collect(self) -> None:
        pass

    def duration(self) -> float:
        size = self._path.stat().st_size if self._path.exists() else 0
        try:
            return (probe(self._tools, str(self._path), size).duration or 0.0) if size else 0.0
        except TaskFailedError:
            # It is the result that holds nothing.
            raise TaskFailedError(
                Failure.DAMAGED, "The source could not be decoded. Export or upload it again."
            ) from None

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
