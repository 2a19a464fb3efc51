"""Reads fragmented MP4 (ISO/IEC 14496-12): an init segment and the fragments that follow it.

FFmpeg's own reader moves the times of a picture that is stored with negative composition offsets, by a
distance that it learns while it reads. Here every time is what is stored.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

#: FFmpeg may read so many bytes past the end of a sample's data (AV_INPUT_BUFFER_PADDING_SIZE).
_PADDING = 64
#: Bytes that are read at once.
_CHUNK = 1 << 20
_CONTAINERS = frozenset({b"trak", b"edts", b"mdia", b"minf", b"stbl", b"mvex", b"traf"})
#: Of a sample's flags: it cannot be decoded without others.
_NOT_SYNC = 0x10000
#: What tells whether a field is there, in the flags of a track fragment's header (tfhd) and of a run (trun).
_BASE_OFFSET, _ENTRY, _DURATION, _SIZE, _FLAGS, _BASE_IS_MOOF = 0x01, 0x02, 0x08, 0x10, 0x20, 0x20000
_DATA_OFFSET, _FIRST_FLAGS = 0x01, 0x04
_EACH_DURATION, _EACH_SIZE, _EACH_FLAGS, _EACH_OFFSET = 0x100, 0x200, 0x400, 0x800


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Give at most `size` bytes; none only at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Content:
    """How much there is of a stream, for its index; `size` in bytes.

    `changes` is how often a sample's duration, or its composition offset, is not that of the one before.
    """

    samples: int = 0
    keyframes: int = 0
    changes: int = 0
    size: int = 0

    def __add__(self, other: Content) -> Content:
        return Content(
            self.samples + other.samples,
            self.keyframes + other.keyframes,
            self.changes + other.changes,
            self.size + other.size,
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """One coded frame. `time`, when it is presented, `offset`, `duration` are in ticks of its track.

    `offset` is by how much it is presented after it is decoded, as stored: it may be below 0.
    """

    data: memoryview
    time: int
    offset: int
    duration: int
    keyframe: bool


@dataclass(frozen=True, slots=True)
class Track:
    """The one track that an init segment describes.

    `timescale` is in ticks a second. `shift`, in ticks, makes a time of presentation of a composition time:
    below 0 by what an encoder has put before the sound. `entry` is the sample description. `duration`, `size`
    and `flags` are a sample's where its fragment does not tell.
    """

    timescale: int
    shift: int
    entry: bytes
    duration: int
    size: int
    flags: int


class FragmentedMp4:
    """An init segment and its fragments, read from a stream as they are iterated over, once.

    Where parts follow each other, each may have an init segment of its own, if all describe the same. Raises
    ValueError where they do not, where something is missing, and where it is another kind of file.
    """

    def __init__(self, stream: Readable) -> None:
        beginning: list[bytearray] = []
        self._fragments = _fragments(stream, beginning)
        try:
            self.track, samples = next(self._fragments)
        except StopIteration:
            raise ValueError("there is no media") from None
        #: The first fragment's samples; with the init segment before it, as it is, for what knows its codec.
        self.first = list(samples)
        self.beginning = b"".join(beginning)
        beginning.clear()

    def __iter__(self) -> Iterator[Sample]:
        yield from self.first
        self.first.clear()
        for track, samples in self._fragments:
            if (track.timescale, track.entry) != (self.track.timescale, self.track.entry):
                raise ValueError("parts of one stream have been encoded differently")
            yield from samples


def content(stream: Readable) -> Content:
    """Count what a segment holds, from an init segment on or without one. Raises as `FragmentedMp4`."""
    count = keyframes = changes = size = 0
    duration = offset = None
    for _, samples in _fragments(stream, [], Track(1, 0, b"", 0, 0, _NOT_SYNC)):
        for sample in samples:
            count += 1
            keyframes += sample.keyframe
            changes += (sample.duration != duration) + (sample.offset != offset)
            size += len(sample.data)
            duration, offset = sample.duration, sample.offset
    return Content(count, keyframes, changes, size)


def _fragments(
    stream: Readable, beginning: list[bytearray], track: Track | None = None
) -> Iterator[tuple[Track, Iterator[Sample]]]:
    """Read fragment after fragment; `beginning` gets what the first is made of."""
    moof, found = None, False
    for kind, header, payload in _boxes(stream):
        if not found:
            beginning += [header, payload[:-_PADDING] if kind == b"mdat" else payload]
        if kind == b"moov":
            track = _track(payload)
        elif kind == b"moof":
            moof = payload
        elif kind == b"mdat":
            if moof is None or track is None:
                raise ValueError("media that nothing describes")
            found = True
            # Where the data begins is told from the beginning of the moof box.
            yield track, _samples(track, moof, payload, 8 + len(moof) + len(header))
            moof = None


def _boxes(stream: Readable) -> Iterator[tuple[bytes, bytearray, bytearray]]:
    """Read (kind, header, payload) of box after box; media with the padding that it needs."""
    while header := _read(stream, 8, may_end=True):
        size, kind = struct.unpack(">I4s", header)
        if size == 1:
            header += _read(stream, 8)
            (size,) = struct.unpack(">Q", header[8:])
        if size < len(header):
            raise ValueError(f"a box {kind!r} of {size} bytes")
        yield kind, header, _read(stream, size - len(header), padding=_PADDING if kind == b"mdat" else 0)


def _read(stream: Readable, size: int, *, padding: int = 0, may_end: bool = False) -> bytearray:
    data = bytearray(size + padding)
    at = 0
    while at < size:
        chunk = stream.read(min(size - at, _CHUNK))
        if not chunk:
            if may_end and not at:
                return bytearray()
            raise ValueError("the stream ends in the middle of a box")
        data[at : at + len(chunk)] = chunk
        at += len(chunk)
    return data


def _inner(payload: bytearray) -> dict[bytes, list[bytearray]]:
    """Return the payloads of the boxes inside, at any depth, by kind."""
    found: dict[bytes, list[bytearray]] = {}
    at = 0
    while at + 8 <= len(payload):
        size, kind = struct.unpack_from(">I4s", payload, at)
        if not 8 <= size <= len(payload) - at:
            raise ValueError(f"a box {kind!r} of {size} bytes")
        inside = payload[at + 8 : at + size]
        found.setdefault(kind, []).append(inside)
        if kind in _CONTAINERS:
            for inner, payloads in _inner(inside).items():
                found.setdefault(inner, []).extend(payloads)
        at += size
    return found


def _track(moov: bytearray) -> Track:
    boxes = _inner(moov)
    if len(boxes.get(b"trak", ())) != 1 or not boxes.keys() >= {b"mvhd", b"mdhd", b"stsd", b"trex"}:
        raise ValueError("not a fragmented MP4 of one track")
    timescale, movie_timescale = _timescale(boxes[b"mdhd"][0]), _timescale(boxes[b"mvhd"][0])
    shift = 0
    for elst in boxes.get(b"elst", ()):
        for duration, start in struct.iter_unpack(">Qq4x" if elst[0] else ">Ii4x", elst[8:]):
            if start >= 0:
                shift -= start
                break
            shift += round(duration * timescale / movie_timescale)
    _, _, duration, size, flags = struct.unpack_from(">5I", boxes[b"trex"][0], 4)
    return Track(timescale, shift, bytes(boxes[b"stsd"][0]), duration, size, flags)


def _timescale(header: bytearray) -> int:
    (timescale,) = struct.unpack_from(">I", header, 20 if header[0] else 12)
    return int(timescale)


def _samples(track: Track, moof: bytearray, mdat: bytearray, data_start: int) -> Iterator[Sample]:
    boxes = _inner(moof)
    if not all(len(boxes.get(kind, ())) == 1 for kind in (b"tfhd", b"tfdt")):
        raise ValueError("a fragment without its time, or of several tracks")
    (tfhd,), (tfdt,) = boxes[b"tfhd"], boxes[b"tfdt"]
    told = int.from_bytes(tfhd[:4])
    if told & _BASE_OFFSET or not told & _BASE_IS_MOOF:
        raise ValueError("a fragment that can be read only where it was written")
    fields = iter(int.from_bytes(tfhd[at : at + 4]) for at in range(8, len(tfhd), 4))
    if told & _ENTRY:
        next(fields)
    duration = next(fields) if told & _DURATION else track.duration
    size = next(fields) if told & _SIZE else track.size
    flags = next(fields) if told & _FLAGS else track.flags
    decoded = int.from_bytes(tfdt[4:12] if tfdt[0] else tfdt[4:8])
    data = memoryview(mdat)
    at = 0
    for trun in boxes.get(b"trun", ()):
        told = int.from_bytes(trun[1:4])
        (count,) = struct.unpack_from(">I", trun, 4)
        start, first_flags = 8, flags
        if told & _DATA_OFFSET:
            at = struct.unpack_from(">i", trun, start)[0] - data_start
            start += 4
        if told & _FIRST_FLAGS:
            first_flags = int.from_bytes(trun[start : start + 4])
            start += 4
        each = [field for field in (_EACH_DURATION, _EACH_SIZE, _EACH_FLAGS, _EACH_OFFSET) if told & field]
        # Offsets below 0 are not meant in version 0, but there none is so large that it would look like one.
        layout = struct.Struct(">" + "".join("i" if field == _EACH_OFFSET else "I" for field in each))
        rows = layout.iter_unpack(trun[start:]) if each else iter([()] * count)
        for number, row in enumerate(rows):
            values = dict(zip(each, row, strict=True))
            own_size = values.get(_EACH_SIZE, size)
            own_duration = values.get(_EACH_DURATION, duration)
            own_flags = values.get(_EACH_FLAGS, flags if number else first_flags)
            if not 0 <= at <= at + own_size <= len(mdat) - _PADDING:
                raise ValueError("a fragment that describes more than it holds")
            offset = values.get(_EACH_OFFSET, 0)
            yield Sample(
                data[at : at + own_size],
                decoded + offset + track.shift,
                offset,
                own_duration,
                not own_flags & _NOT_SYNC,
            )
            at += own_size
            decoded += own_duration
