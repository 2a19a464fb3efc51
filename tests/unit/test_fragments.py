"""Segments of fragmented MP4, moved in time."""

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcoding.media.packaging.fragments import (
    Fragment,
    Sample,
    by_keyframe,
    is_whole,
    read,
    read_init,
    retimed,
    with_media_time,
)

TIMESCALE = 12_800


def box(name: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), name) + body


def segment(fragment: Fragment, *, durations: bool) -> bytes:
    """A segment as FFmpeg writes it: what all samples have in common is told once."""
    flags = 0x1 | 0x200 | 0x400 | 0x800 | (0x100 if durations else 0)
    run = b"".join(
        (struct.pack(">I", s.duration) if durations else b"")
        + struct.pack(">IIi", s.size, s.flags, s.composition)
        for s in fragment.samples
    )
    header = box(b"tfhd", struct.pack(">III", 0x020008, 1, fragment.samples[0].duration))
    time = box(b"tfdt", struct.pack(">IQ", 0x01000000, fragment.decode_time))
    size = 8 + 16 + 8 + len(header) + len(time) + 8 + 12 + len(run)
    trun = box(b"trun", struct.pack(">IIi", 0x01000000 | flags, len(fragment.samples), size + 8), run)
    moof = box(b"moof", box(b"mfhd", bytes(8)), box(b"traf", header, time, trun))
    assert len(moof) == size
    return moof + box(b"mdat", bytes(range(16)))


@st.composite
def encodes(draw):
    """The first segment of an encode that reorders: times of showing in the order of decoding."""
    lengths = draw(st.lists(st.integers(1, 5000), min_size=4, max_size=30))
    if draw(st.booleans()):
        lengths = [lengths[0]] * len(lengths)
    shown = [sum(lengths[:n]) for n in range(len(lengths))]
    ahead = draw(st.integers(0, 2))
    delay = shown[ahead]
    # x264 tells the first frames' decoding times by the delay, and all others by frames shown before.
    decoded = [shown[n] - delay if n < ahead else shown[n - ahead] for n in range(len(shown))]
    decoded = [time + delay for time in decoded]
    last = lengths[-1]
    ends = [*decoded[1:], decoded[-1] + last]
    samples = tuple(
        Sample(end - start, 100, 0, time + delay - start)
        for start, end, time in zip(decoded, ends, shown, strict=True)
    )
    return Fragment(0, samples), delay


def times(fragment):
    return [t + s.composition for t, s in zip(fragment.decode_times, fragment.samples, strict=False)]


@given(encodes(), st.integers(0, 10**9), st.integers(0, 4000))
def test_a_placed_fragment_shows_all_frames_at_their_distances(encode, start, delay):
    fragment, reorder = encode
    placed = fragment.placed(start, reorder, delay if reorder else 0)
    first = start + (delay if reorder else 0)
    assert min(times(placed)) == first
    assert [time - first for time in times(placed)] == [time - reorder for time in times(fragment)]
    assert all(a <= b for a, b in pairwise(placed.decode_times))
    assert all(s.composition >= 0 for s in placed.samples)
    assert placed.decode_time == start


@given(encodes(), st.integers(0, 10**9))
def test_a_later_fragment_of_the_encode_moves_along(encode, start):
    fragment, reorder = encode
    later = Fragment(10_000, fragment.samples)
    assert later.placed(start, min(reorder, 10_000), 700).decode_time == 10_000 + start + 700 - min(
        reorder, 10_000
    )


@given(encodes(), st.booleans(), st.integers(0, 2**40))
def test_a_segment_reads_back_as_it_was_written(encode, durations, start):
    fragment, reorder = encode
    durations = durations or len({s.duration for s in fragment.samples}) > 1
    data = segment(fragment, durations=durations)
    assert read(data) == fragment
    placed = fragment.placed(start, reorder, 500 if reorder else 0)
    moved = retimed(data, placed)
    assert read(moved) == placed
    assert moved[-16:] == data[-16:]
    # The samples are still where the run says that they are.
    at = moved.index(b"trun") + 12
    assert moved[struct.unpack_from(">i", moved, at)[0] :] == data[-16:]


def init(*edits: tuple[int, int]) -> bytes:
    entries = b"".join(struct.pack(">IiI", duration, time, 0x10000) for duration, time in edits)
    elst = box(b"elst", struct.pack(">II", 0, len(edits)), entries)
    mvhd = box(b"mvhd", struct.pack(">IIIII", 0, 0, 0, 1000, 0))
    mdhd = box(b"mdhd", struct.pack(">IIIII", 0, 0, 0, TIMESCALE, 0))
    mdia = box(b"mdia", mdhd, box(b"minf", box(b"stbl", box(b"stsd", b"codec"))))
    return box(b"ftyp", b"iso5") + box(b"moov", mvhd, box(b"trak", box(b"edts", elst), mdia))


@pytest.mark.parametrize("edits", [[(0, 1024)], [(8000, -1), (0, 512)], [(0, 0)]])
def test_an_init_segment_is_told_where_its_media_begin(edits):
    data = init(*edits)
    assert read_init(data).media_time == max(time for _, time in edits)
    assert read_init(data).delay == sum(length for length, time in edits if time < 0) * TIMESCALE / 1000
    told = with_media_time(data, 2048)
    assert read_init(told) == read_init(init((0, 2048)))
    assert len(told) == len(data)


def test_what_is_no_segment_is_refused():
    with pytest.raises(ValueError, match="not a segment"):
        read(init((0, 0)))
    with pytest.raises(ValueError, match="not an init"):
        read_init(box(b"ftyp", b"iso5"))
    with pytest.raises(ValueError, match="damaged"):
        read(b"\x00\x00\xff\xffmoof1234")


def test_a_file_that_is_cut_off_is_told():
    data = box(b"styp", b"msdh") + segment(Fragment(0, (Sample(1, 16, 0, 0),)), durations=True)
    assert is_whole(data)
    # At the end of a box, what is there is whole: of what FFmpeg writes of no frame, there is no more.
    ends = {12, len(data) - 24, len(data)}
    assert {size for size in range(len(data) + 1) if is_whole(data[:size])} == ends


def film(keyframes: list[bool]) -> tuple[bytes, Fragment]:
    """A segment whose samples are 7, 8, 9, … bytes of their own number."""
    samples = tuple(
        Sample(40, 7 + n, 0x02000000 if keyframe else 0x01010000, 80) for n, keyframe in enumerate(keyframes)
    )
    fragment = Fragment(2**33, samples)
    media = b"".join(bytes([n]) * s.size for n, s in enumerate(samples))
    data = segment(fragment, durations=True)
    return box(b"styp", b"msdh") + data[: data.index(b"mdat") - 4] + box(b"mdat", media), fragment


@given(st.lists(st.booleans(), max_size=20).map(lambda rest: [True, *rest]))
def test_a_keyframe_can_be_loaded_without_what_follows(keyframes):
    data, fragment = film(keyframes)
    split, places = by_keyframe(data)
    assert is_whole(split)
    assert [place.time for place in places] == [
        time for time, keyframe in zip(fragment.times, keyframes, strict=True) if keyframe
    ]
    read_back, media, numbers = [], b"", [n for n, keyframe in enumerate(keyframes) if keyframe]
    ends = [place.offset for place in places[1:]] + [len(split)]
    for number, place, end in zip(numbers, places, ends, strict=True):
        part = split[place.offset : end]
        one = read(part)
        read_back += one.samples
        media += part[part.index(b"mdat") + 4 :]
        assert one.times[0] == place.time
        assert part[: place.size].endswith(bytes([number]) * fragment.samples[number].size)
        assert struct.unpack_from(">i", part, part.index(b"trun") + 12)[0] == part.index(b"mdat") + 4
    assert tuple(read_back) == fragment.samples
    assert media == data[data.index(b"mdat") + 4 :]


def test_a_segment_without_a_keyframe_at_its_start_is_left_as_it_is():
    data, _ = film([True, False])
    late, _ = film([False, True])
    for wrong in (late, data + data):
        with pytest.raises(ValueError):
            by_keyframe(wrong)
