"""Media that is broken on purpose: bits, bytes, boxes, lengths, and pieces of two files."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Sequence

#: Types of boxes of ISO media files (ISO/IEC 14496-12) come after their length, of four bytes.
_BOX = re.compile(
    rb"(?:moov|trak|mdia|minf|stbl|st[a-z]{2}|tkhd|mdhd|hdlr|mvhd|elst|edts|moof|traf|tfhd|trun|sidx|mvex"
    rb"|trex|mdat|ftyp|avc1|avcC|hvcC|av1C|esds|mp4a|free|udta|meta|ilst|uuid)"
)
#: Those of RIFF and its like come before it, little-endian.
_CHUNK = re.compile(rb"RIFF|LIST|avih|strh|strf|movi|idx1|fmt |data|JUNK|\d\d(?:dc|wb)")
#: Matroska's elements with lengths worth lying about: segment, cluster, tracks, entry, cues, blocks.
_ELEMENT = re.compile(rb"\x18\x53\x80\x67|\x1f\x43\xb6\x75|\x16\x54\xae\x6b|\xae|\x1c\x53\xbb\x6b|\xa3|\xa0")
_NUMBER = re.compile(rb"\d+")
_LIES = (0, 1, 7, 8, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF)

Mutation = Callable[[random.Random, bytearray, Sequence[bytes]], bytearray]


def flip_bits(dice: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    """Flip a few bits anywhere, or in the first kilobytes, where headers are."""
    end = len(data) if dice.random() < 0.5 else min(len(data), 4096)
    for _ in range(2 ** dice.randrange(8)):
        data[dice.randrange(end)] ^= 1 << dice.randrange(8)
    return data


def overwrite(dice: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    """Overwrite a piece with noise, or with the same byte."""
    start, length = _piece(dice, data)
    data[start : start + length] = dice.choice(
        [dice.randbytes(length), bytes([dice.randrange(256)]) * length]
    )
    return data


def cut(dice: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    """Let the file end early."""
    return data[: dice.randrange(1, len(data))]


def drop(dice: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    """Take a piece out."""
    start, length = _piece(dice, data)
    del data[start : start + length]
    return data


def repeat(dice: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    """Repeat a piece, somewhere."""
    start, length = _piece(dice, data)
    place = dice.randrange(len(data))
    return data[:place] + data[start : start + length] * dice.randrange(1, 5) + data[place:]


def splice(dice: random.Random, data: bytearray, others: Sequence[bytes]) -> bytearray:
    """Go on with another file, or have a piece of one inside."""
    other = dice.choice(others)
    start, length = _piece(dice, other)
    place = dice.randrange(len(data))
    rest = data[place:] if dice.random() < 0.5 else b""
    return data[:place] + other[start : start + length] + rest


def lie(dice: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    """Have boxes, chunks or elements tell a length that they do not have."""
    places = [
        *((found.start() - 4, ">I") for found in _BOX.finditer(data) if found.start() >= 4),
        *((found.end(), "<I") for found in _CHUNK.finditer(data) if found.end() + 4 <= len(data)),
    ]
    if data[:4] == b"\x1a\x45\xdf\xa3":
        places += [(found.end(), ">Q") for found in _ELEMENT.finditer(data) if found.end() + 8 <= len(data)]
    if not places:
        return flip_bits(dice, data, ())
    for place, how in dice.sample(places, min(len(places), dice.randrange(1, 4))):
        size = struct.calcsize(how)
        (told,) = struct.unpack_from(how, data, place)
        near = (told + dice.randrange(-9, 10)) % 2 ** (8 * size)
        struct.pack_into(
            how, data, place, dice.choice([dice.choice(_LIES), near, told * 2 % 2 ** (8 * size)])
        )
    return data


def nest(dice: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    """Put a box into another, over and over; or repeat a box's inside."""
    boxes = [found.start() - 4 for found in _BOX.finditer(data) if found.start() >= 4]
    if not boxes:
        return repeat(dice, data, ())
    place = dice.choice(boxes)
    (length,) = struct.unpack_from(">I", data, place)
    box = bytes(data[place : place + min(length, 4096)])
    for _ in range(dice.choice([2, 20, 500])):
        box = struct.pack(">I", (len(box) + 8) % 2**32) + data[place + 4 : place + 8] + box
    return data[:place] + box + data[place:]


def count(dice: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    """Change numbers that are written in digits."""
    found = list(_NUMBER.finditer(data))
    if not found:
        return overwrite(dice, data, ())
    place = dice.choice(found)
    return data[: place.start()] + str(dice.choice(_LIES)).encode() + data[place.end() :]


MUTATIONS: tuple[Mutation, ...] = (
    flip_bits,
    flip_bits,
    overwrite,
    cut,
    drop,
    repeat,
    splice,
    lie,
    lie,
    nest,
    count,
)


def mutate(dice: random.Random, data: bytes, others: Sequence[bytes]) -> tuple[bytes, str]:
    """Return what a few mutations make of a file, and what they are called."""
    broken, names = bytearray(data), []
    for _ in range(dice.choice([1, 1, 1, 2, 3])):
        mutation = dice.choice(MUTATIONS)
        broken = mutation(dice, broken, others) or bytearray(b"\0")
        names.append(mutation.__name__)
    return bytes(broken[: 4 * 2**20]), "+".join(names)


def _piece(dice: random.Random, data: Sequence[int]) -> tuple[int, int]:
    start = dice.randrange(len(data))
    return start, dice.randrange(1, min(len(data) - start, 2 ** dice.randrange(1, 17)) + 1)
