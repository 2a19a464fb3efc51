"""Joins streams that were encoded in parts into one file, packet by packet, without decoding."""

from __future__ import annotations

import heapq
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from functools import reduce
from io import BytesIO
from operator import or_
from types import MappingProxyType
from typing import IO, TypeVar, cast

import av
import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet, PacketSideData
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from transcoding.media.packaging.flv import Writable, index_size, indexed
from transcoding.media.packaging.fragments import Coded, Content, FragmentedMp4, Readable
from transcoding.media.planning.formats import Format, Index

_StreamT = TypeVar("_StreamT", bound=Stream)

#: Seconds between two reports.
_REPORT_INTERVAL = 0.25
#: Bytes that are written at once.
_BUFFER = 1 << 20
#: Room for what precedes the media besides the index, bytes.
_HEADERS = 1 << 16
#: How often an index may turn out larger than the room that is kept for it.
_TRIES = 3
#: In an MP4, sound and picture take turns of this many seconds: shorter turns make the index larger.
_TURN = 1.0
#: FFmpeg lets no run of one stream be longer, bytes (movenc.c).
_LONGEST_RUN = 1 << 20
#: Muxers of the MP4 family, in which a codec may have several names.
_TAGGED = frozenset({"mp4", "mov"})
#: AV_PKT_DATA_SKIP_SAMPLES
_SKIP_SAMPLES = 11
#: The ffmpeg program's default: how long a transport stream's packets may wait to be decoded, microseconds.
_OPTIONS = MappingProxyType({"max_delay": "700000"})


@dataclass(frozen=True, slots=True)
class Piece:
    """One stream of the result.

    `open` opens it from its beginning each time it is called: an init segment and all fragments; of text,
    any container that FFmpeg reads. The size of its index follows from `content` and `seconds`, its length.
    `labels` are its metadata; `text_flags`, of text only, FFmpeg's dispositions, joined by a plus.
    """

    open: Callable[[], AbstractContextManager[Readable]]
    content: Content
    seconds: float
    labels: Mapping[str, str] = field(default_factory=dict)
    text_flags: str | None = None

    @property
    def text(self) -> bool:
        """Whether it is subtitles."""
        return self.text_flags is not None


#: Opens the result; its first bytes, as many as the argument says, can be rewritten. It is complete when the
#: block ends; when an exception ends the block, nothing is left of it.
Opening = Callable[[int], AbstractContextManager[Writable]]


def _mp4_index(pieces: Sequence[Piece]) -> int:
    # The boxes of each track; then the tables stsz, stss, stts with ctts, and for each chunk stsc with co64.
    chunks = sum(2 * p.seconds / _TURN + 2 * p.content.size / _LONGEST_RUN + 64 for p in pieces)
    tables = sum(4 * (p.content.samples + p.content.keyframes) + 9 * p.content.changes for p in pieces)
    return 4096 * (len(pieces) + 1) + tables + 20 * int(chunks)


def _matroska_index(pieces: Sequence[Piece]) -> int:
    # Keyframes of the picture are listed, else of the sound, and each text: in at most 40 bytes.
    seen = [p for p in pieces if p.text or _is_picture(p)]
    return 1024 + 40 * sum(p.content.keyframes for p in seen or pieces)


def _is_picture(piece: Piece) -> bool:
    return piece.content.keyframes < piece.content.samples


@dataclass(frozen=True, slots=True)
class _Index:
    """The index of a file: the muxer's option that keeps room for it in front, and how much it may need."""

    option: str
    room: Callable[[Sequence[Piece]], int]
    options: tuple[tuple[str, str], ...] = ()


_MP4 = _Index("moov_size", _mp4_index, (("chunk_duration", f"{_TURN * 1e6:.0f}"),))
_MATROSKA = _Index("reserve_index_space", _matroska_index)
_INDEXES = MappingProxyType({Index.MOOV: _MP4, Index.CUES: _MATROSKA})


def join(pieces: Sequence[Piece], target: Format, opening: Opening, report: Callable[[float], None]) -> None:
    """Make one file of the pieces, its index in front where the format has one.

    `report` takes the fraction that is done, and may raise to end the join. Raises ValueError where a piece
    is not a stream that can be joined, what opening, reading and writing raise, and FFmpegError.
    """
    muxer = target.muxer
    index = _INDEXES.get(target.index) if target.index else None
    if target.index is Index.KEYFRAMES:
        # The picture comes first.
        keyframes = pieces[0].content.keyframes
        file = indexed(opening(_HEADERS + index_size(keyframes)), keyframes)
        _join_once(pieces, muxer, {}, file, report)
        return
    if index is None:
        _join_once(pieces, muxer, {}, opening(_HEADERS), report)
        return
    room = index.room(pieces)
    for again in reversed(range(_TRIES)):
        options = dict(index.options) | {index.option: str(room)}
        try:
            _join_once(pieces, muxer, options, opening(_HEADERS + room), report)
        except _IndexTooLargeError:
            if not again:
                raise
            room *= 2
        else:
            return


class _IndexTooLargeError(Exception):
    """The index does not fit into the room that was kept."""


def _join_once(
    pieces: Sequence[Piece],
    muxer: str,
    options: Mapping[str, str],
    result: AbstractContextManager[Writable],
    report: Callable[[float], None],
) -> None:
    with result as file, ExitStack() as stack:
        # An abandoned result is closed before its container, so that FFmpeg cannot write an end to it.
        stack.push(lambda kind, error, trace: file.abort() if kind else None)
        container = av.open(
            cast("IO[bytes]", file), "w", format=muxer, options={**_OPTIONS, **options}, buffer_size=_BUFFER
        )
        streams = [_add_stream(container, piece, stack.enter_context(piece.open())) for piece in pieces]
        whole = sum(piece.content.samples for piece in pieces)
        reported = 0.0
        for done, (_, packet) in enumerate(heapq.merge(*streams, key=_decoded_first)):
            container.mux(packet)
            if time.monotonic() > reported + _REPORT_INTERVAL:
                report(min(1.0, done / whole) if whole else 0.0)
                reported = time.monotonic()
        try:
            container.close()
        except av.error.ArgumentError as error:
            if not options:
                raise
            raise _IndexTooLargeError from error


def _decoded_first(timed: tuple[float, Packet[Stream]]) -> float:
    return timed[0]


def _add_stream(
    container: OutputContainer, piece: Piece, file: Readable
) -> Iterator[tuple[float, Packet[Stream]]]:
    """Add the piece's stream to the container; return its packets, each with when it is decoded, seconds."""
    if piece.text_flags is not None:
        return _add_text(container, piece, file)
    media = FragmentedMp4(file)
    timescale = media.init.timescale
    depth, frame = 0, None
    with av.open(BytesIO(media.beginning), format="mp4") as beginning:
        (source,) = beginning.streams
        stream: Stream
        if isinstance(source, VideoStream):
            stream = _copy(container, source)
            if container.format.name in _TAGGED:
                stream.codec_context.codec_tag = source.codec_context.codec_tag
            depth = max(source.codec_context.reorder_depth, piece.content.reordered)
            durations = {sample.duration for sample in media.first}
            if len(durations) == 1:
                stream.codec_context.framerate = Fraction(timescale, *durations)
        elif isinstance(source, AudioStream):
            frame = media.first[0].duration
            if container.format.name == "matroska" and source.codec_context.name == "aac":
                header = BytesIO(_matroska_header(source, media.init.media_time - media.init.delay))
                with av.open(header, format="matroska") as described:
                    stream = _copy(container, described.streams.audio[0])
            else:
                stream = _copy(container, source)
        else:
            raise ValueError(f"a stream of {source.type}")  # noqa: TRY004 - the data is at fault
        stream.disposition = source.disposition
    stream.metadata.update(piece.labels)
    stream.time_base = Fraction(1, timescale)
    if piece.seconds:
        # FFmpeg knows that of the first fragment only.
        stream.codec_context.bit_rate = round(piece.content.size * 8 / piece.seconds)
    return _media_packets(stream, media, depth, frame)


def _copy(container: OutputContainer, template: _StreamT) -> _StreamT:
    # Opaque: a codec may have no encoder of its own name.
    return container.add_stream_from_template(template, opaque=True)


def _media_packets(
    stream: Stream, media: FragmentedMp4, depth: int, frame: int | None
) -> Iterator[tuple[float, Packet[Stream]]]:
    """Yield the media's packets; `frame` is the length of what a packet of sound decodes to, in ticks."""
    timescale = media.init.timescale
    time_base = Fraction(1, timescale)
    for sample, decoded in _with_decode_times(media, depth):
        packet: Packet[Stream] = Packet(cast("bytes", sample.data))
        packet.time_base = time_base
        packet.pts, packet.dts, packet.duration = sample.time, decoded, sample.duration
        packet.is_keyframe = sample.keyframe
        packet.stream = stream
        if frame and sample.duration < frame:
            # The encoder has padded the last frame.
            packet.set_sidedata(_skip(frame - sample.duration))
        yield decoded / timescale, packet


def _skip(ticks: int) -> PacketSideData:
    """Return the side data that hides the last `ticks` of what a packet decodes to."""
    side_data = PacketSideData(_SKIP_SAMPLES, 10)  # type: ignore[call-arg]
    side_data.update(struct.pack("<IIBB", 0, ticks, 0, 0))
    return side_data


def _with_decode_times(media: FragmentedMp4, depth: int) -> Iterator[tuple[Coded, int]]:
    """Yield samples with their decoding times, in a stream where `depth` frames wait for later ones.

    These are the presentation times, in order, `depth` frames later. The stored decoding times do not fit:
    they begin anew with each part, and are later than the presentation times of some frames.
    """
    ahead = sorted(sample.time for sample in media.first)[: depth + 1]
    while len(ahead) <= depth:
        ahead.append(ahead[-1] + media.first[-1].duration)
    lag = ahead[depth] - ahead[0]
    waiting: list[int] = []
    for number, sample in enumerate(media):
        heapq.heappush(waiting, sample.time)
        decoded = heapq.heappop(waiting) if number >= depth else ahead[number] - lag
        if decoded > sample.time:
            raise ValueError("frames are further out of order than their codec's header says")
        yield sample, decoded


def _add_text(
    container: OutputContainer, piece: Piece, file: Readable
) -> Iterator[tuple[float, Packet[Stream]]]:
    source = av.open(cast("IO[bytes]", file), "r")
    (template,) = source.streams
    stream = _copy(container, template)
    flags = (piece.text_flags or "").split("+")
    stream.disposition = reduce(or_, (Disposition[flag] for flag in flags if flag), Disposition(0))
    stream.metadata.update(piece.labels)
    return _text_packets(stream, source)


def _text_packets(stream: Stream, source: InputContainer) -> Iterator[tuple[float, Packet[Stream]]]:
    for packet in source.demux():
        # The last packet only marks the end.
        if packet.dts is not None:
            packet.stream = stream
            yield float(packet.dts * packet.time_base), packet


def _matroska_header(sound: AudioStream, padding: int) -> bytes:
    """Return a Matroska file that has nothing but the description of the sound.

    Without it, the encoder's padding, `padding` samples, would be heard. FFmpeg takes the number from
    Matroska, not from MP4, and PyAV cannot set it.
    """
    delay = round(padding * 1e9 / sound.codec_context.sample_rate)
    entry = [
        (0xD7, bytes([1])),  # TrackNumber
        (0x73C5, bytes([1])),  # TrackUID
        (0x83, bytes([2])),  # TrackType: audio
        (0x86, b"A_AAC"),  # CodecID
        (0x63A2, sound.codec_context.extradata or b""),  # CodecPrivate
        (0x56AA, delay.to_bytes(8)),  # CodecDelay, nanoseconds
        (
            0xE1,  # Audio: SamplingFrequency, Channels
            _ebml(0xB5, struct.pack(">d", sound.codec_context.sample_rate))
            + _ebml(0x9F, bytes([sound.codec_context.channels])),
        ),
    ]
    track = _ebml(0xAE, b"".join(_ebml(*field) for field in entry))
    info = _ebml(0x1549A966, _ebml(0x2AD7B1, (1_000_000).to_bytes(4)))
    # FFmpeg reads until media begins: until a cluster, here an empty one.
    cluster = _ebml(0x1F43B675, _ebml(0xE7, bytes(1)))
    segment = _ebml(0x18538067, info + _ebml(0x1654AE6B, track) + cluster)
    return _ebml(0x1A45DFA3, _ebml(0x4282, b"matroska")) + segment


def _ebml(id_: int, payload: bytes) -> bytes:
    """Return an element (RFC 8794): its id, its length in eight bytes, its payload."""
    return id_.to_bytes((id_.bit_length() + 7) // 8) + (len(payload) | 1 << 56).to_bytes(8) + payload
