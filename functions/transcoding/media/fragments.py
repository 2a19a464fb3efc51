"""Fragmented MP4 (ISO/IEC 14496-12) as bytes: when a segment is shown, and moving it to another time."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

_CONTAINERS = frozenset({b"moov", b"trak", b"edts", b"mdia", b"minf", b"stbl", b"moof", b"traf"})

#: Fields that a `trun` box (8.8.8) has, by its flags.
_OFFSET, _FIRST_FLAGS, _DURATION, _SIZE, _FLAGS, _COMPOSITION = 0x1, 0x4, 0x100, 0x200, 0x400, 0x800


@dataclass(frozen=True, slots=True)
class Init:
    """What an init segment says: ticks a second, and the tick of its media that is shown first."""

    timescale: int
    media_time: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A frame of the picture or a packet of sound; times in ticks, `size` in bytes."""

    duration: int
    size: int
    flags: int
    composition: int


@dataclass(frozen=True, slots=True)
class Fragment:
    """The samples of a segment in the order of decoding; `decode_time` is the first one's, in ticks."""

    decode_time: int
    samples: tuple[Sample, ...]

    @property
    def decode_times(self) -> list[int]:
        """When each sample is decoded, and when the last one ends, in ticks."""
        return list(accumulate((s.duration for s in self.samples), initial=self.decode_time))

    def shown(self) -> tuple[int, int]:
        """Return when its first sample is shown and when the last one ends, in ticks."""
        spans = [
            (t + s.composition, s.duration) for t, s in zip(self.decode_times, self.samples, strict=False)
        ]
        return min(start for start, _ in spans), max(start + duration for start, duration in spans)

    def shown_from(self, time: int) -> Fragment:
        """Return it with its first sample shown then.

        FFmpeg's muxer tells that of a segment's first frame wrongly, where frames do not last equally long.
        """
        first, *others = self.samples
        begin, next_begin = min(self.decode_time, time), self.decode_time + first.duration
        first = replace(first, duration=next_begin - begin, composition=time - begin)
        return Fragment(begin, (first, *others))

    def placed(self, start: int, reorder: int, delay: int) -> Fragment:
        """Return a fragment of an encode that begins at 0, moved so that its first frame is shown at `start`.

        `reorder` is how long that frame is decoded before it is shown, `delay` how long it is to be. Frames
        that are decoded before the first is shown are spread evenly over that time.
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


def read_init(data: bytes) -> Init:
    """Read an init segment of one track. Raises ValueError where it is none."""
    boxes = {name: data[start:end] for name, start, end in _boxes(data)}
    header = boxes.get(b"mdhd")
    if not header:
        raise ValueError("not an init segment")
    (timescale,) = struct.unpack_from(">I", header, 20 if header[0] else 12)
    edits = boxes.get(b"elst", bytes(8))
    long, times = edits[0], [0]
    for number in range(struct.unpack_from(">I", edits, 4)[0]):
        times.append(
            struct.unpack_from(">q" if long else ">i", edits, 16 + 20 * number if long else 12 + 12 * number)[
                0
            ]
        )
    # An empty edit, -1, delays the whole track.
    return Init(timescale, max(times))


def configuration(data: bytes) -> bytes:
    """Return what an init segment tells decoders of its stream (the `stsd` box)."""
    return next((data[start:end] for name, start, end in _boxes(data) if name == b"stsd"), b"")


def with_media_time(data: bytes, media_time: int) -> bytes:
    """Return an init segment whose media are shown from that tick on, without any delay of the track.

    Raises ValueError where it has no edit list to say so.
    """
    for name, start, end in _boxes(data):
        if name == b"elst":
            edit = struct.pack(">IIIII", 0, 1, 0, media_time, 0x10000)
            rest = end - start - len(edit)
            # What more there was becomes a box without meaning, so that all others keep their places.
            free = struct.pack(">I4s", rest, b"free") + bytes(rest - 8) if rest else b""
            return data[: start - 8] + struct.pack(">I4s", 8 + len(edit), name) + edit + free + data[end:]
    if media_time:
        raise ValueError("the init segment has no edit list")
    return data


def read(data: bytes) -> Fragment:
    """Read a segment that is one fragment of one track. Raises ValueError where it is something else."""
    boxes = [(name, data[start:end]) for name, start, end in _boxes(data)]
    runs = [body for name, body in boxes if name == b"trun"]
    if len(runs) != 1:
        raise ValueError("not a segment of one fragment")
    named = dict(boxes)
    time, defaults = named[b"tfdt"], _defaults(named[b"tfhd"])
    (decode_time,) = struct.unpack_from(">Q" if time[0] else ">I", time, 4)
    return Fragment(decode_time, tuple(_samples(runs[0], defaults)))


def retimed(data: bytes, fragment: Fragment) -> bytes:
    """Return a segment with the times of `fragment`, which has the same samples, and all else as it was."""
    places = {name: (start, end) for name, start, end in _boxes(data)}
    if fragment.samples != read(data).samples:
        start, end = places[b"trun"]
        fields = struct.unpack_from(">IIi", data, start)
        run = b"".join(
            struct.pack(">IIIi", s.duration, s.size, s.flags, s.composition) for s in fragment.samples
        )
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


def _boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Give (name, start, end) of the content of each box and of those inside."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, start)
        if size < 8 or start + size > end:
            raise ValueError("a box is damaged")
        yield name, start + 8, start + size
        if name in _CONTAINERS:
            yield from _boxes(data, start + 8, start + size)
        start += size


def _defaults(header: bytes) -> tuple[int, int, int]:
    """Return a `tfhd` box's (8.8.7) duration, size and flags of samples that do not have their own."""
    flags = int.from_bytes(header[1:4])
    at = 8 + (8 if flags & 0x1 else 0) + (4 if flags & 0x2 else 0)
    values = []
    for flag in (0x8, 0x10, 0x20):
        values.append(int.from_bytes(header[at : at + 4]) if flags & flag else 0)
        at += 4 if flags & flag else 0
    return values[0], values[1], values[2]


def _samples(run: bytes, defaults: tuple[int, int, int]) -> Iterator[Sample]:
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
