"""A stream of the result in segments: collected from FFmpeg while it runs, retimed, and stored."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from itertools import islice
from pathlib import Path

from transcoding.errors import Failure, StaleAttemptError, TaskFailedError
from transcoding.media.encoding import command
from transcoding.media.packaging import fragments, hls
from transcoding.media.packaging.fragments import Content
from transcoding.media.planning.cuts import Span
from transcoding.media.planning.plan import PicturePlan, SoundPlan
from transcoding.pipeline.uploads import Uploads

#: A part that has less than this share of its frames lacks some.
_LEAST = Fraction(9, 10)


@dataclass(frozen=True, slots=True)
class Track:
    """What has been stored of a stream, or of a part of it: segments in order, with ticks a second.

    `configuration` is a digest of the decoders' configuration, which parts must have in common. `codec` is
    for playlists, and empty where none names it.
    """

    timescale: int
    codec: str
    configuration: str
    segments: tuple[hls.Segment, ...] = ()
    content: Content = field(default_factory=Content)

    @property
    def duration(self) -> float:
        """Length in seconds, with what is missing in between."""
        return (self.segments[-1].end - self.segments[0].start) / self.timescale if self.segments else 0.0


def joined(tracks: Sequence[Track]) -> Track:
    """Return the track that parts, in order, make together.

    Raises TaskFailedError where there is nothing in them, and StaleAttemptError where their configurations
    differ.
    """
    tracks = [track for track in tracks if track.segments]
    if not tracks:
        raise TaskFailedError(Failure.DAMAGED, "The source could not be decoded. Export or upload it again.")
    described = {Track(track.timescale, track.codec, track.configuration) for track in tracks}
    if len(described) > 1:
        raise StaleAttemptError("the parts of a stream have different decoder configurations")
    return replace(
        described.pop(),
        segments=tuple(segment for track in tracks for segment in track.segments),
        content=sum((track.content for track in tracks), Content()),
    )


class TrackWriter:
    """Stores the segments of one stream, which FFmpeg makes in a folder of `folder`, under `prefix`.

    With `span`, FFmpeg makes that part of the picture, and counts time from the part's first frame. With
    `by_keyframe`, segments have a fragment for each keyframe, which players can load by itself.
    """

    def __init__(
        self,
        stream: PicturePlan | SoundPlan,
        folder: Path,
        prefix: str,
        uploads: Uploads,
        span: Span | None = None,
        *,
        by_keyframe: bool = False,
    ) -> None:
        self.stream = stream
        self._folder = folder / stream.name
        self._folder.mkdir()
        self._frames = _Times(self._folder / command.FRAMES)
        self._packets = _Times(self._folder / command.PACKETS)
        self._prefix = f"{prefix}{stream.name}/"
        self._uploads = uploads
        self._span = span
        self._by_keyframe = by_keyframe
        self._names: list[str] = []
        self._segments: list[hls.Segment] = []
        self._contents: list[Content] = []
        self._content = Content()
        self._first_shown = 0

    @property
    def _picture(self) -> PicturePlan | None:
        return self.stream if isinstance(self.stream, PicturePlan) else None

    @property
    def _kind(self) -> str:
        """What the stream is in media types and in words."""
        return "video" if self._picture else "audio"

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
        if self._picture is None:
            return 0
        timescale = fragments.read_init(self._written_init).timescale
        return round(self._picture.codec.reordered * timescale / self._picture.rate)

    @cached_property
    def _start(self) -> int:
        """When the first frame is shown, in ticks of the result's timeline. Raises OSError."""
        if not self._frames.first:
            # What FFmpeg tells of its frames does not fit into a full /tmp, and FFmpeg does not mind.
            raise OSError("FFmpeg has told nothing of its frames")
        return round(self._frames.first[0] * self._facts.timescale)

    def starts_late(self) -> bool:
        """Return whether the part lacks frames at its start, judged by the frame rate."""
        times = _Times(self._folder / command.FRAMES).of(0)
        if not (self._span and self._picture and times):
            return False
        facts = self._picture.facts
        late = times[1] - self._span.start * facts.time_base
        return facts.constant_frame_rate and late > 2 / self._picture.rate

    def is_short(self) -> bool:
        """Return whether the part lacks frames anywhere, judged by the frame rate."""
        if not (self._span and self._span.end and self._picture):
            return False
        facts = self._picture.facts
        frames = (self._span.end - self._span.start) * facts.time_base * self._picture.rate
        least = _LEAST * frames - 1 if facts.constant_frame_rate else 0
        return self._content.samples <= least

    def next_start(self) -> int | None:
        """Return the source's tick of the first frame that is not stored; None before anything is stored."""
        times = self._frames.of(self._content.samples) if self._segments else ()
        if not (times and self._picture):
            return None
        return round(times[1] / self._picture.facts.time_base)

    @property
    def stored(self) -> int:
        """How many segments are stored, or about to be."""
        return len(self._segments)

    def drop(self, count: int) -> list[str]:
        """Forget all segments but the first `count`; return the keys of the others, which may be stored."""
        dropped = self._segments[count:]
        del self._segments[count:], self._contents[count:]
        self._content = sum(self._contents, Content())
        return [self._prefix + segment.name for segment in dropped]

    def collect(self, *, ended: bool = False) -> None:
        """Store the segments that FFmpeg has finished since, and remove files that are stored.

        `ended`: it has ended. Raises OSError (ENOSPC) where the disk was too full for what it wrote, which
        its muxer of segments does not report.
        """
        self._uploads.settle()
        try:
            playlist = (self._folder / command.PLAYLIST).read_text()
        except FileNotFoundError:
            return
        if ended and not hls.is_ended(playlist):
            raise OSError(errno.ENOSPC, "a playlist is cut off")
        for name in hls.finished_segments(playlist)[len(self._names) :]:
            self._names.append(name)
            path = self._folder / name
            data = path.read_bytes()
            if not fragments.is_whole(data):
                raise OSError(errno.ENOSPC, "a segment is cut off")
            if b"moof" not in data:
                # FFmpeg writes such a segment for a stream, or a part of one, without any frame.
                path.unlink()
                continue
            fragment = fragments.read(data)
            if self._picture and not self._picture.copied:
                fragment = self._retimed(fragment)
                data = fragments.retimed(data, fragment)
                path.write_bytes(data)
            data, keyframes = self._with_keyframes(data)
            if keyframes:
                path.write_bytes(data)
            start, end = (max(0, time - self._facts.media_time) for time in fragment.shown())
            self._contents.append(fragment.content())
            samples = self._contents[-1].samples
            segment = hls.Segment(start, end, len(data), keyframes=keyframes, samples=samples)
            self._content += self._contents[-1]
            self._segments.append(segment)
            self._uploads.add(path, self._prefix + segment.name, f"{self._kind}/mp4")

    def _with_keyframes(self, data: bytes) -> tuple[bytes, tuple[fragments.Keyframe, ...]]:
        """Return a segment, and where its keyframes are; none where players cannot load them."""
        if not self._by_keyframe:
            return data, ()
        try:
            data, keyframes = fragments.by_keyframe(data)
        except ValueError:
            return data, ()
        return data, tuple(replace(k, time=max(0, k.time - self._facts.media_time)) for k in keyframes)

    def _retimed(self, fragment: fragments.Fragment) -> fragments.Fragment:
        """Return a fragment of the picture with its times in the result."""
        if not self._segments:
            self._first_shown, _ = fragment.shown()
        begin, scale = self._packets.first[0], self._facts.timescale
        times = [time - begin for time, *_ in self._packets.following(len(fragment.samples))]
        fragment = fragment.shown_at([self._first_shown + round(time * scale) for time in times])
        return fragment.placed(self._start, self._first_shown, self._delay) if self._span else fragment

    def store_init(self) -> None:
        """Store the init segment. Raises TaskFailedError where nothing of the stream could be decoded."""
        if not self._segments:
            raise TaskFailedError(
                Failure.DAMAGED, f"The source's {self._kind} could not be decoded. Export or upload it again."
            )
        path = self._folder / command.INIT_SEGMENT
        path.write_bytes(self._init)
        self._uploads.add(path, self._prefix + path.name, f"{self._kind}/mp4")

    def track(self) -> Track:
        """Return what has been stored so far."""
        if not self._segments:
            return Track(1, "", "")
        digest = hashlib.sha256(self._facts.configuration).hexdigest()
        codec = self.stream.codec.codec_string(self._init)
        return Track(self._facts.timescale, codec, digest, tuple(self._segments), self._content)


class _Times:
    """The times of frames that FFmpeg notes while it runs, a line each; they are read in order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._place = 0
        self._line: tuple[Fraction, ...] = ()

    @cached_property
    def first(self) -> tuple[Fraction, ...]:
        """The times of the first frame, which FFmpeg must have noted."""
        return _Times(self._path).of(0)

    def of(self, number: int) -> tuple[Fraction, ...]:
        """Return the times, in seconds, of the frame of that number; empty if they are not noted yet."""
        with suppress(FileNotFoundError):
            for times in self._more(number + 1 - self._read):
                self._line = times
        return self._line if self._read > number else ()

    def following(self, count: int) -> list[tuple[Fraction, ...]]:
        """Return the times of so many frames more. Raises OSError where FFmpeg has not noted them."""
        lines = list(self._more(count))
        if len(lines) < count:
            # What FFmpeg tells of its packets does not fit into a full /tmp, and FFmpeg does not mind.
            raise OSError(errno.ENOSPC, "FFmpeg has not told of all its packets")
        return lines

    def _more(self, count: int) -> Iterator[tuple[Fraction, ...]]:
        with self._path.open("rb") as file:
            file.seek(self._place)
            for line in islice(file, max(0, count)):
                if not line.endswith(b"\n"):
                    break
                numbers = line.split()
                self._read += 1
                self._place += len(line)
                ticks = zip(numbers[::2], numbers[1::2], strict=True)
                yield tuple(int(n) * Fraction(base.decode()) for n, base in ticks)
