"""Flash Video with an index of its keyframes in front, written from beginning to end.

Players in browsers (flv.js, mpegts.js) cannot seek beyond what they have loaded without it. FFmpeg's muxer
writes one only into a file that it can read again.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

#: A file begins with its header and the size of the tag before the first; each tag with a header of its own.
_FILE_HEADER, _TAG_HEADER, _TAG_SIZE = 13, 11, 4
_VIDEO, _SCRIPT = 9, 18
#: What the script tag begins with, before the number of its properties, and what ends it.
_METADATA, _END = b"\x02\x00\x0aonMetaData\x08", b"\x00\x00\x09"
#: The sizes of an index without entries, of an empty property of padding, and of an entry, bytes.
_EMPTY, _PADDING, _ENTRY = 47, 12, 18
#: The longest property of padding, bytes: FFmpeg reads strings of less than 1024.
_LONGEST = 1000


class Writable(Protocol):
    """A file that is written from beginning to end; only bytes near its beginning are rewritten."""

    @property
    def closed(self) -> bool:
        """Whether no more can be written."""
        ...

    def write(self, data: bytes, /) -> int:
        """Write all of the data at the position."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move the position and return it."""
        ...

    def tell(self) -> int:
        """Return the position."""
        ...

    def abort(self) -> None:
        """Discard it, so that nothing of it is left."""
        ...


def index_size(keyframes: int) -> int:
    """Return how many bytes an index of this many keyframes takes."""
    return _EMPTY + _PADDING + _ENTRY * keyframes


@contextmanager
def indexed(opened: AbstractContextManager[Writable], keyframes: int) -> Iterator[Writable]:
    """Yield a file for FFmpeg's muxer, and at the end write an index of at most `keyframes` into it."""
    with opened as file:
        result = _IndexedFlv(file, keyframes)
        yield result
        result.write_index()


class _IndexedFlv:
    """Writes to `file`, with room for the index in the script tag that comes first.

    Its positions are those of the file without that room.
    """

    def __init__(self, file: Writable, keyframes: int) -> None:
        self._file = file
        self._most = keyframes
        self._room = index_size(keyframes)
        #: Where the room is; the script tag ends behind it.
        self._at = 0
        self._written = 0
        self._next_tag = _FILE_HEADER
        self._tail = b""
        self._found: list[tuple[int, float]] = []

    @property
    def closed(self) -> bool:
        return self._file.closed

    def write(self, data: bytes, /) -> int:
        data = bytes(data)
        if not self._written:
            self._file.write(self._with_room(data))
        else:
            self._file.write(data)
        end = self.tell()
        if end > self._written:
            self._scan(data[-(end - self._written) :])
            self._written = end
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        offset += {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self._written}[whence]
        self._file.seek(offset + self._room if 0 < self._at <= offset else offset)
        return offset

    def tell(self) -> int:
        position = self._file.tell()
        return position - self._room if 0 < self._at < position else position

    def abort(self) -> None:
        self._file.abort()

    def write_index(self) -> None:
        """Write the index of what has been written."""
        index = _index(self._found[: self._most])
        self._file.seek(self._at)
        self._file.write(index + _padding(self._room - len(index)))

    def _with_room(self, data: bytes) -> bytes:
        """Return the file's first bytes with the room. Raises ValueError where they are not its metadata."""
        tag = data[_FILE_HEADER:]
        size = int.from_bytes(tag[1:4])
        end = _TAG_HEADER + size
        if tag[0] != _SCRIPT or not tag.startswith(_METADATA, _TAG_HEADER) or len(tag) < end + _TAG_SIZE:
            raise ValueError("the file does not begin with its metadata")
        self._at = _FILE_HEADER + end - len(_END)
        size += self._room
        count_at = _TAG_HEADER + len(_METADATA)
        (count,) = struct.unpack_from(">I", tag, count_at)
        return b"".join(
            (
                data[: _FILE_HEADER + 1],
                size.to_bytes(3),
                tag[4:count_at],
                struct.pack(">I", count + 2),
                tag[count_at + 4 : end - len(_END)],
                _padding(self._room),
                _END,
                struct.pack(">I", _TAG_HEADER + size),
                tag[end + _TAG_SIZE :],
            )
        )

    def _scan(self, data: bytes) -> None:
        """Find the keyframes in the next bytes."""
        data = self._tail + data
        start = self._written - len(self._tail)
        # The first two bytes of a picture's tag are its kind: a keyframe, and no header or end of H.264.
        while (at := self._next_tag - start) + _TAG_HEADER + 2 <= len(data):
            size, time = int.from_bytes(data[at + 1 : at + 4]), int.from_bytes(data[at + 4 : at + 7])
            kind, content = data[at + _TAG_HEADER] >> 4, data[at + _TAG_HEADER + 1]
            if data[at] == _VIDEO and kind == 1 and content == 1:
                self._found.append((self._next_tag + self._room, (time | data[at + 7] << 24) / 1000))
            self._next_tag += _TAG_HEADER + size + _TAG_SIZE
        self._tail = data[at:] if at < len(data) else b""


def _index(keyframes: Sequence[tuple[int, float]]) -> bytes:
    """Return the property of the script tag (AMF 0) with positions, in bytes, and times, in seconds."""
    positions = _numbers(b"filepositions", [at for at, _ in keyframes])
    times = _numbers(b"times", [time for _, time in keyframes])
    return _name(b"keyframes") + b"\x03" + positions + times + _END


def _numbers(name: bytes, values: Sequence[float]) -> bytes:
    array = b"".join(struct.pack(">Bd", 0, value) for value in values)
    return _name(name) + struct.pack(">BI", 10, len(values)) + array


def _padding(size: int) -> bytes:
    """Return properties without meaning, of `size` bytes in all, at least _PADDING."""
    # The last two share what is left, so that neither is too small.
    sizes = [_LONGEST] * (size // _LONGEST - 1)
    rest = size - sum(sizes)
    sizes += [rest // 2, rest - rest // 2] if rest > _LONGEST else [rest]
    return b"".join(
        _name(b"padding") + struct.pack(">BH", 2, each - _PADDING) + bytes(each - _PADDING) for each in sizes
    )


def _name(name: bytes) -> bytes:
    return struct.pack(">H", len(name)) + name
