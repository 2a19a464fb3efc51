"""Fragmented MP4 (ISO/IEC 14496-12): reads its times, changes them, and reads it as a stream.

FFmpeg's own reader moves the times of a picture that is stored with negative composition offsets, by a
distance that depends on what it has read so far. Here every time is the stored one.
"""

from __future__ import annotations

import struct
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Protocol

_CONTAINERS = frozenset({b"moov", b"trak", b"edts", b"mdia", b"minf", b"stbl", b"moof", b"traf"})

#: Fields that a `tfhd` box (8.8.7) and a `trun` box (8.8.8) have, by their flags.
_BASE_OFFSET, _ENTRY, _DEFAULTS, _BASE_IS_MOOF = 0x1, 0x2, (0x8, 0x10, 0x20), 0x20000
_OFFSET, _FIRST_FLAGS, _DURATION, _SIZE, _FLAGS, _COMPOSITION = 0x1, 0x4, 0x100, 0x200, 0x400, 0x800
#: The flag of a sample that cannot be decoded without others.
_NOT_SYNC = 0x10000

#: FFmpeg may read this many bytes past the end of a sample's data (AV_INPUT_BUFFER_PADDING_SIZE).
_PADDING = 64
#: Bytes that are read from a stream at once.
_CHUNK = 1 << 20


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none only at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Content:
    """The counts of a stream's samples; `size` is that of their data, in bytes.

    `changes` is how often a sample's duration, or its composition offset, differs from the one before.
    `reordered` is the most samples that are decoded before another one and shown after it.
    """

    samples: int = 0
    keyframes: int = 0
    changes: int = 0
    size: int = 0
    reordered: int = 0

    def __add__(self, other: Content) -> Content:
        return Content(
            self.samples + other.samples,
            self.keyframes + other.keyframes,
            self.changes + other.changes,
            self.size + other.size,
            max(self.reordered, other.reordered),
        )


@dataclass(frozen=True, slots=True)
class Init:
    """What an init segment says of its one track: ticks a second, and the tick of its media shown first.

    `delay` is how long before that nothing is shown, in ticks. `configuration` is the decoders' configuration
    (the `stsd` box).
    """

    timescale: int
    media_time: int
    delay: int
    configuration: bytes


@dataclass(frozen=True, slots=True)
class Sample:
    """A frame of the picture or a packet of sound; times in ticks, `size` in bytes."""

    duration: int
    size: int
    flags: int
    composition: int

    @property
    def keyframe(self) -> bool:
        """Whether it can be decoded without others."""
        return not self.flags & _NOT_SYNC


@dataclass(frozen=True, slots=True)
class Fragment:
    """The samples of a segment in the order of decoding; `decode_time` is the first one's, in ticks."""

    decode_time: int
    samples: tuple[Sample, ...]

    @property
    def decode_times(self) -> list[int]:
        """When each sample is decoded, and when the last one ends, in ticks."""
        return list(accumulate((s.duration for s in self.samples), initial=self.decode_time))

    @property
    def times(self) -> list[int]:
        """When each sample is shown, in ticks."""
        return [t + s.composition for t, s in zip(self.decode_times, self.samples, strict=False)]

    def shown(self) -> tuple[int, int]:
        """Return when its first sample is shown and when the last one ends, in ticks."""
        times = self.times
        # Durations are of decoding: that of a frame which is decoded long before it is shown says nothing.
        last = max(range(len(times)), key=times.__getitem__)
        return min(times), times[last] + self.samples[last].duration

    def content(self) -> Content:
        """Return the counts of its samples."""
        return Content(
            len(self.samples),
            sum(sample.keyframe for sample in self.samples),
            2
            + sum(
                (a.duration != b.duration) + (a.composition != b.composition)
                for a, b in pairwise(self.samples)
            ),
            sum(sample.size for sample in self.samples),
            _reordered(self.times),
        )

    def shown_at(self, times: Sequence[int]) -> Fragment:
        """Return it with its samples, in the order of decoding, shown at these times, in ticks.

        FFmpeg's muxer writes wrong times of a segment's first frames where the frame rate varies.
        """
        begin = min(self.decode_time, times[0])
        decoded = pairwise([begin, *self.decode_times[1:]])
        samples = tuple(
            replace(sample, duration=end - start, composition=time - start)
            for sample, time, (start, end) in zip(self.samples, times, decoded, strict=True)
        )
        return Fragment(begin, samples)

    def placed(self, start: int, reorder: int, delay: int) -> Fragment:
        """Return a fragment of an encode that begins at 0, moved so that its first frame is shown at `start`.

        `reorder` is how long before it is shown that frame is decoded, `delay` how long before it should be,
        all in ticks. Frames that are decoded before the first is shown are spread evenly over that time.
        """
        shift = start + delay - reorder
        if reorder == delay or self.decode_time >= reorder:
            return replace(self, decode_time=self.decode_time + shift)
        times = self.decode_times
        leading = sum(1 for time in times if time < reorder)
        moved = [start + i * delay // leading if i < leading else t + shift for i, t in enumerate(times)]
        samples = tuple(
            replace(sample, duration=end - begin, composition=sample.composition + time + shift - begin)
            for sample, time, (begin, end) in zip(self.samples, times, pairwise(moved), strict=False)
        )
        return Fragment(start, samples)


@dataclass(frozen=True, slots=True)
class Keyframe:
    """Where a keyframe is in a segment, in bytes: from the start of its fragment to the end of its data.

    `time` is when it is shown, in ticks.
    """

    time: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Coded:
    """A sample with its data. `time`, when it is presented, and `duration` are in ticks."""

    data: memoryview
    time: int
    duration: int
    keyframe: bool


class FragmentedMp4:
    """An init segment and its fragments, read from a stream as they are iterated over, once.

    Where parts follow each other, each may have an init segment of its own, if all describe the same. Raises
    ValueError where they do not, where something is missing, and where it is another kind of file.
    """

    def __init__(self, stream: Readable) -> None:
        beginning = bytearray()
        self._media = _media(stream, beginning)
        try:
            self.init, samples = next(self._media)
        except StopIteration:
            raise ValueError("there is no media") from None
        #: The first fragment's samples, and its bytes with the init segment's, for a reader that knows the
        #: codec.
        self.first = list(samples)
        self.beginning = bytes(beginning)
        beginning.clear()

    def __iter__(self) -> Iterator[Coded]:
        yield from self.first
        self.first.clear()
        for init, samples in self._media:
            if (init.timescale, init.configuration) != (self.init.timescale, self.init.configuration):
                raise ValueError("parts of one stream have been encoded differently")
            yield from samples


def read_init(data: bytes | memoryview) -> Init:
    """Read an init segment. Raises ValueError where it is not one of a single track."""
    boxes = _named(data)
    if len(boxes.get(b"mdhd", ())) != 1 or not boxes.keys() >= {b"mvhd", b"stsd"}:
        raise ValueError("not an init segment of one track")
    timescale, movie_timescale = (_timescale(boxes[name][0]) for name in (b"mdhd", b"mvhd"))
    media_time = delay = 0
    for edits in boxes.get(b"elst", ()):
        for duration, time in struct.iter_unpack(">Qq4x" if edits[0] else ">Ii4x", edits[8:]):
            # An empty edit, -1, delays the whole track.
            if time >= 0:
                media_time = time
                break
            delay += round(duration * timescale / movie_timescale)
    return Init(timescale, media_time, delay, bytes(boxes[b"stsd"][0]))


def with_media_time(data: bytes, media_time: int) -> bytes:
    """Return an init segment whose media are shown from that tick on, without any delay of the track.

    Raises ValueError where that needs an edit list and it has none.
    """
    for name, start, end in _boxes(data):
        if name == b"elst":
            edit = struct.pack(">IIIII", 0, 1, 0, media_time, 0x10000)
            rest = end - start - len(edit)
            # The rest becomes a box without meaning, so that all other boxes keep their places.
            free = struct.pack(">I4s", rest, b"free") + bytes(rest - 8) if rest else b""
            return data[: start - 8] + struct.pack(">I4s", 8 + len(edit), name) + edit + free + data[end:]
    if media_time:
        raise ValueError("the init segment has no edit list")
    return data


def is_whole(data: bytes) -> bool:
    """Return whether a file ends with the end of a box, as it does unless the disk was full."""
    try:
        return sum(8 + end - start for name, start, end in _boxes(data, inside=False)) == len(data) > 0
    except ValueError:
        return False


def read(data: bytes | memoryview) -> Fragment:
    """Read a segment that is one fragment of one track. Raises ValueError where it is something else."""
    boxes = _named(data)
    if any(len(boxes.get(name, ())) != 1 for name in (b"tfhd", b"tfdt", b"trun")):
        raise ValueError("not a segment of one fragment")
    time = boxes[b"tfdt"][0]
    (decode_time,) = struct.unpack_from(">Q" if time[0] else ">I", time, 4)
    return Fragment(decode_time, tuple(_samples(boxes[b"trun"][0], _defaults(boxes[b"tfhd"][0]))))


def retimed(data: bytes, fragment: Fragment) -> bytes:
    """Return a segment with the times of `fragment`, which has the same samples, and all else as it was."""
    places = {name: (start, end) for name, start, end in _boxes(data)}
    if fragment.samples != read(data).samples:
        start, end = places[b"trun"]
        fields = struct.unpack_from(">IIi", data, start)
        run = b"".join(map(_entry, fragment.samples))
        growth = 12 + len(run) - (end - start)
        flags = _OFFSET | _DURATION | _SIZE | _FLAGS | _COMPOSITION
        # The offset of the samples is counted from the start of the moof.
        run = struct.pack(">IIi", 0x01000000 | flags, len(fragment.samples), fields[2] + growth) + run
        data = data[:start] + run + data[end:]
        for name in (b"moof", b"traf", b"trun"):
            at = places[name][0] - 8
            (size,) = struct.unpack_from(">I", data, at)
            data = data[:at] + struct.pack(">I", size + growth) + data[at + 4 :]
    start, _ = places[b"tfdt"]
    if not data[start]:
        raise ValueError("the segment's time has only 32 bits")
    return data[: start + 4] + struct.pack(">Q", fragment.decode_time) + data[start + 12 :]


def by_keyframe(data: bytes) -> tuple[bytes, tuple[Keyframe, ...]]:
    """Return a segment of one fragment with a fragment for each keyframe, and where the keyframes are.

    So a player can load a keyframe without the others (RFC 8216, 4.3.3.6). Raises ValueError where the
    segment does not begin with a keyframe, or has boxes that belong to single samples.
    """
    boxes = list(_boxes(data))
    places = {name: (start, end) for name, start, end in boxes}
    fragment = read(data)
    inside = [name for name, *_ in boxes if name not in {b"styp", b"sidx", b"free"}]
    if inside != [b"moof", b"mfhd", b"traf", b"tfhd", b"tfdt", b"trun", b"mdat"]:
        raise ValueError("a segment of more than one plain fragment")
    samples, times, shown = fragment.samples, fragment.decode_times, fragment.times
    firsts = [at for at, sample in enumerate(samples) if sample.keyframe]
    if firsts[:1] != [0]:
        raise ValueError("a segment that does not begin with a keyframe")
    begin, in_traf = places[b"moof"][0] - 8, places[b"traf"][0]
    number, header = data[begin + 8 : in_traf - 8], data[in_traf : places[b"tfhd"][1]]
    split = bytearray(data[:begin])
    keyframes = []
    at = places[b"mdat"][0]
    for first, end in pairwise([*firsts, len(samples)]):
        run = samples[first:end]
        size = sum(sample.size for sample in run)
        moof = _moof(number, header, times[first], run)
        keyframes.append(Keyframe(shown[first], len(split), len(moof) + 8 + run[0].size))
        split += moof + struct.pack(">I4s", 8 + size, b"mdat") + data[at : at + size]
        at += size
    return bytes(split), tuple(keyframes)


def _moof(number: bytes, header: bytes, decode_time: int, samples: Sequence[Sample]) -> bytes:
    """Return a `moof` box with the `mfhd` box `number` and the `tfhd` box `header`."""
    time = struct.pack(">I4sIQ", 20, b"tfdt", 0x01000000, decode_time)
    flags = 0x01000000 | _OFFSET | _DURATION | _SIZE | _FLAGS | _COMPOSITION
    traf_size = 8 + len(header) + len(time) + 20 + 16 * len(samples)
    size = 8 + len(number) + traf_size
    # The media begin behind the header of the mdat.
    run = struct.pack(">I4sIIi", 20 + 16 * len(samples), b"trun", flags, len(samples), size + 8)
    run += b"".join(map(_entry, samples))
    return (
        struct.pack(">I4s", size, b"moof")
        + number
        + struct.pack(">I4s", traf_size, b"traf")
        + header
        + time
        + run
    )


def _entry(sample: Sample) -> bytes:
    return struct.pack(">IIIi", sample.duration, sample.size, sample.flags, sample.composition)


def _boxes(
    data: bytes | memoryview, start: int = 0, end: int | None = None, *, inside: bool = True
) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, start, end) of the content of each box and, with `inside`, of those inside."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, start)
        if size < 8 or start + size > end:
            raise ValueError("a box is damaged")
        yield name, start + 8, start + size
        if inside and name in _CONTAINERS:
            yield from _boxes(data, start + 8, start + size)
        start += size


def _named(data: bytes | memoryview) -> dict[bytes, list[memoryview]]:
    """Return the contents of boxes, at any depth, by name."""
    found: dict[bytes, list[memoryview]] = {}
    for name, start, end in _boxes(data):
        found.setdefault(name, []).append(memoryview(data)[start:end])
    return found


def _timescale(header: memoryview) -> int:
    (timescale,) = struct.unpack_from(">I", header, 20 if header[0] else 12)
    return int(timescale)


def _defaults(header: memoryview) -> tuple[int, int, int]:
    """Return a `tfhd` box's duration, size and flags of samples that do not have their own."""
    flags = int.from_bytes(header[1:4])
    if flags & _BASE_OFFSET or not flags & _BASE_IS_MOOF:
        raise ValueError("a fragment with offsets from the beginning of its file")
    at = 12 if flags & _ENTRY else 8
    values = []
    for flag in _DEFAULTS:
        values.append(int.from_bytes(header[at : at + 4]) if flags & flag else 0)
        at += 4 if flags & flag else 0
    return values[0], values[1], values[2]


def _samples(run: memoryview, defaults: tuple[int, int, int]) -> Iterator[Sample]:
    flags, count = struct.unpack_from(">II", run)
    at = 8 + (4 if flags & _OFFSET else 0)
    duration, size, sample_flags = defaults
    first_flags = sample_flags
    if flags & _FIRST_FLAGS:
        (first_flags,) = struct.unpack_from(">I", run, at)
        at += 4
    for number in range(count):
        values = [duration, size, sample_flags if number else first_flags, 0]
        for i, flag in enumerate((_DURATION, _SIZE, _FLAGS, _COMPOSITION)):
            if flags & flag:
                # Composition offsets are signed from version 1 on, and small enough before.
                (values[i],) = struct.unpack_from(">i" if flag == _COMPOSITION else ">I", run, at)
                at += 4
        yield Sample(*values)


def _reordered(times: list[int]) -> int:
    before: list[int] = []
    most = 0
    for time in times:
        at = bisect(before, time)
        most = max(most, len(before) - at)
        before.insert(at, time)
    return most


def _media(stream: Readable, beginning: bytearray) -> Iterator[tuple[Init, Iterator[Coded]]]:
    """Yield fragment after fragment; the bytes up to the end of the first are added to `beginning`."""
    init = fragment = None
    begun = False
    for name, box, start in _read_boxes(stream):
        if not begun:
            beginning += box
        if name == b"moov":
            init = read_init(box)
        elif name == b"moof":
            fragment = read(box)
        elif name == b"mdat":
            if init is None or fragment is None:
                raise ValueError("media without a description")
            if sum(sample.size for sample in fragment.samples) != len(box) - start:
                raise ValueError("a fragment whose description does not match its media")
            begun = True
            yield init, _coded(init, fragment, box[start:])
            fragment = None


def _coded(init: Init, fragment: Fragment, data: memoryview) -> Iterator[Coded]:
    shift = init.delay - init.media_time
    at = 0
    for sample, time in zip(fragment.samples, fragment.times, strict=True):
        yield Coded(data[at : at + sample.size], time + shift, sample.duration, sample.keyframe)
        at += sample.size


def _read_boxes(stream: Readable) -> Iterator[tuple[bytes, memoryview, int]]:
    """Yield (name, box, start of its content) of each box; behind each is the padding that media need."""
    while header := _read(stream, b"", 8, may_end=True):
        size, name = struct.unpack(">I4s", header)
        if size == 1:
            header = _read(stream, header, 16)
            (size,) = struct.unpack_from(">Q", header, 8)
        if size < len(header):
            raise ValueError("a box is damaged")
        yield name, _read(stream, header, size), len(header)


def _read(stream: Readable, begun: bytes | memoryview, size: int, *, may_end: bool = False) -> memoryview:
    """Return `size` bytes: those of `begun`, and the next ones of the stream."""
    data = memoryview(bytearray(size + _PADDING))[:size]
    data[: len(begun)] = begun
    at = len(begun)
    while at < size:
        chunk = stream.read(min(size - at, _CHUNK))
        if not chunk:
            if may_end and not at:
                return data[:0]
            raise ValueError("the stream ends in the middle of a box")
        data[at : at + len(chunk)] = chunk
        at += len(chunk)
    return data
