"""FFmpeg's arguments for a plan."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

from transcoding.media import languages
from transcoding.media.ffmpeg.process import program
from transcoding.media.ffmpeg.tools import Tools, input_options
from transcoding.media.inspection.colour import Colour, is_hdr, meant, shown
from transcoding.media.inspection.entries import reading
from transcoding.media.inspection.facts import AudioFacts, EntryPoint, VideoFacts
from transcoding.media.inspection.probe import MAX_PIXELS
from transcoding.media.planning.cuts import Span, segment_seconds
from transcoding.media.planning.plan import (
    KEYFRAME_SECONDS,
    LONGEST_GAP,
    PicturePlan,
    Plan,
    SoundPlan,
    TextPlan,
)
from transcoding.media.planning.quality import Sample
from transcoding.media.planning.thumbnails import TOLERANCE, interval, tile_size

#: Names inside the folder of a rendition, which is named after its stream; and the folder of the subtitles.
PLAYLIST, INIT_SEGMENT, SUBTITLES = "index.m3u8", "init.mp4", "subtitles"

#: Files in the folder of a rendition in which FFmpeg notes when each frame of a part is shown, in the result
#: and in the source, and when each packet of the picture is. Each time is in ticks, followed by the length of
#: a tick in seconds.
FRAMES, PACKETS = "frames.txt", "packets.txt"

#: Files in the folder of a sample's rendition: the VMAF of its frames, and the sizes of its packets in bytes.
SCORES, SIZES = "scores.csv", "sizes.txt"
#: Of so many frames of a sample, one is compared: that takes longer than encoding it.
_COMPARED = 2

#: A file of tiles for thumbnails, JPEGs one after the other, and one in which FFmpeg notes of each when it is
#: shown, in microseconds of the result, and its size in bytes.
TILES, TILE_TIMES = "tiles.mjpeg", "tiles.txt"
#: FFmpeg's quality of tiles: nearly without loss, as they become JPEGs again.
_TILE_QUALITY = 3

#: The brightness of white paper in HDR, nits (ITU-R BT.2408), which becomes the white of SDR, nearly.
_HDR_WHITE = 203
#: Light that is brighter than this many times that is clipped. The brightest light according to a file's
#: metadata is not used: it is missing or wrong too often.
_HDR_PEAK = 10

#: FFmpeg's names of the metadata that SDR does not have.
_OF_HDR = ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL")

#: hls.js 1.7 stalls before a last segment of a few packets and never ends: no segment is cut off this near
#: the end, seconds. Encoders add some packets to the length of the sound that the source declares.
_SCRAP, _PADDING = 0.4, 0.1

#: FFmpeg's messages when it leaves out a packet that it could not parse, or the time of one.
UNCOPYABLE = re.compile("Error applying bitstream filters|invalid dropping")

#: FFmpeg's messages when the source's times jump, so that its length is unknown.
JUMPS = re.compile("DTS discontinuity in stream|invalid dropping")

#: FFmpeg's messages when it fails over tiles, not over the result itself.
NO_TILES = re.compile(rf"#\d+[:\d]*/mjpeg @|{re.escape(TILES)}")

#: No real cue is larger, bytes, and encoders fail at larger ones.
_LARGEST_CUE = 32_000
#: The longest cue where the result's length is unknown, seconds: some are meant to stay for ever.
_LONGEST_CUE = 10
#: The filter that leaves out cues from before the beginning.
_NOT_BEFORE = r"noise=drop=lt(pts\,0)"
#: The filters that give frames their numbers as times: encoders round times.
_NUMBERED = "settb=AVTB,setpts=N"


def whole(tools: Tools, plan: Plan, url: str, folder: Path) -> list[str]:
    """Return the command that makes the plan's result from the source at `url` in `folder`.

    Where the result is segmented, `folder` has a folder for each of the plan's streams, by its name.
    """
    command = [
        *_program(tools),
        *_timeline(plan, *plan.streams),
        *input_options(url),
        *_decoding(plan),
        *_text_input_options(plan),
        "-i",
        url,
        *_shared_graph(plan),
    ]
    if plan.format.segmented:
        command += [*_segmented_pictures(plan, folder), *_segmented_sound(plan, folder)]
        command += _text_outputs(plan, folder)
    else:
        for picture in plan.pictures:
            command += _picture_options(plan, picture)
        command += _sound_options(plan.sound) if plan.sound else []
        command += [*_text_options(plan), *_labels(plan, *plan.streams, *plan.texts)]
        command += [*_clean(), "-f", plan.format.muxer, *plan.format.muxer_options]
        command += [str(folder / plan.format.target)]
    return [*command, *_tiles(plan, folder)]


def description(tools: Tools, path: Path, stream: PicturePlan | SoundPlan) -> list[str]:
    """Return the command that writes an init segment of a file's picture or sound to standard output."""
    kind = "v" if isinstance(stream, PicturePlan) else "a"
    command = [str(tools.ffmpeg), "-v", "error", "-nostdin", *input_options(str(path)), "-i", str(path)]
    command += ["-map", f"0:{kind}:0", "-c", "copy", f"-frames:{kind}", "1"]
    if isinstance(stream, SoundPlan) and stream.codec.segment_filter:
        command += ["-bsf:a", stream.codec.segment_filter]
    command += ["-f", "mp4"]
    return [*command, "-movflags", "+empty_moov+delay_moov+default_base_moof", "pipe:1"]


def packets(tools: Tools, path: Path, stream: PicturePlan | SoundPlan, listing: Path) -> list[str]:
    """Return the command that lists the packets of a file's picture or sound, as FFmpeg's framecrc does."""
    kind = "v" if isinstance(stream, PicturePlan) else "a"
    command = [str(tools.ffmpeg), "-v", "error", "-nostdin", *input_options(str(path)), "-i", str(path)]
    return [*command, "-map", f"0:{kind}:0", "-c", "copy", "-f", "framecrc", str(listing)]


def picture(
    tools: Tools, plan: Plan, span: Span, point: EntryPoint | None, url: str, folder: Path
) -> list[str]:
    """Return the command that makes the segments of a span of the picture, in all renditions, in `folder`.

    The source is read from the entry point on; None: from its beginning. A picture that is copied is copied
    as a whole.
    """
    facts = plan.source_picture
    if facts is None or plan.copies_picture:
        command = [*_program(tools), *_timeline(plan, *plan.pictures), *input_options(url)]
        command += [*_decoding(plan), "-i", url, *_segmented_pictures(plan, folder)]
    else:
        command = [*_program(tools), *reading(url, facts, point), *_shared_graph(plan, span)]
        command += _segmented_pictures(plan, folder, span)
    return [*command, *_tiles(plan, folder)]


def sample(
    tools: Tools, plan: Plan, crfs: Mapping[str, float], taken: Sample, url: str, folder: Path
) -> list[str]:
    """Return the command that encodes a sample of the picture and compares it with the source.

    `crfs` are the constant rate factors, by the names of the renditions to encode. Each one's folder in
    `folder` then has `SCORES` and `SIZES`. VMAF is between the frames that the encoder takes and those that
    a player decodes, so at the rendition's own size.
    """
    # Samples run side by side.
    single = ["-threads", "1"]
    pictures = [picture for picture in plan.pictures if picture.name in crfs]
    facts, names = pictures[0].facts, [picture.name for picture in pictures]
    first = f"trim=start_frame={taken.skipped}:end_frame={taken.skipped + taken.frames},setpts=PTS-STARTPTS"
    common = ",".join([first, *_common_filters(pictures[0]), f"split={len(names)}"])
    graph = [f"[0:{facts.index}]{common}" + "".join(f"[{name}-source]" for name in names)]
    graph += [
        f"[{p.name}-source]{','.join(_own_filters(p))},split[{p.name}][{p.name}-taken]" for p in pictures
    ]
    command = [*_program(tools), *single, *reading(url, facts, taken.point)]
    command += ["-filter_complex_threads", "1", "-filter_complex", ";".join(graph)]
    compared = f"trim=end_frame={math.ceil(taken.compared / pictures[0].thinned)},{_NUMBERED}"
    for number, picture in enumerate(pictures):
        name, place = picture.name, folder / picture.name
        command += ["-map", f"[{name}]", "-fps_mode", "passthrough", *_time_base(facts)]
        command += ["-g", "9999", *_encoder(picture, crfs[name]), *single]
        command += ["-stats_enc_post:v", str(place / SIZES), "-stats_enc_post_fmt:v", "{size}"]
        # What comes out of the encoder is decoded in the same process, and stored nowhere.
        # Before it are two outputs of each other rendition, and one decoder.
        command += ["-f", "null", "-", *single, "-dec", f"{2 * number}:0"]
        vmaf = f"libvmaf=n_subsample={_COMPARED}:log_fmt=csv:log_path={place / SCORES}"
        command += [
            "-filter_complex",
            f"[dec:{number}]{compared}[{name}-made];[{name}-taken]{compared}[{name}-meant];"
            f"[{name}-made][{name}-meant]{vmaf}[{name}-scored]",
            *("-map", f"[{name}-scored]", "-f", "null", "-"),
        ]
    return command


def sound(tools: Tools, plan: Plan, url: str, folder: Path) -> list[str]:
    """Return the command that makes the segments of the sound, and the subtitles, in `folder`."""
    command = [*_program(tools), *(_timeline(plan, plan.sound) if plan.sound else _timeline(plan))]
    command += [*input_options(url), *_text_input_options(plan), "-i", url]
    return [*command, *_segmented_sound(plan, folder), *_text_outputs(plan, folder)]


def _program(tools: Tools) -> list[str]:
    # The picture may grow in mid-stream.
    return [*program(tools), "-max_pixels", str(MAX_PIXELS)]


def _timeline(plan: Plan, *streams: PicturePlan | SoundPlan) -> list[str]:
    """Return the options that make the timeline begin at the plan's origin, even if a stream begins sooner.

    Gaps of more than `LONGEST_GAP` are closed, except where the container stores durations.
    """
    options = [] if plan.stores_durations else ["-dts_error_threshold", str(LONGEST_GAP)]
    starts = [stream.facts.start for stream in streams]
    begin = plan.source_start if plan.source_start is not None else min(starts, default=plan.origin)
    if begin != plan.origin:
        options += ["-itsoffset", f"{round((begin - plan.origin) * 1_000_000)}us"]
    return options


def _segmented_pictures(plan: Plan, folder: Path, span: Span | None = None) -> list[str]:
    """Return an output for each rendition; FFmpeg decodes the source once for all of them."""
    seconds = segment_seconds(plan, span) if span else plan.segment_seconds
    options = []
    for picture in plan.pictures:
        place = folder / picture.name
        options += [*_picture_options(plan, picture, span), *_labels(plan, picture)]
        options += ["-stats_mux_pre:v", str(place / PACKETS), "-stats_mux_pre_fmt:v", "{pts} {tb}"]
        if span:
            options += ["-stats_enc_pre:v", str(place / FRAMES)]
            options += ["-stats_enc_pre_fmt:v", "{pts} {tb} {ptsi} {tbi}"]
        # A result that is joined may be cut anywhere: so no segment is all of a picture with rare keyframes.
        anywhere = picture.copied and not plan.format.segmented
        options += _segment_options(place, seconds, anywhere=anywhere)
    return options


def _segmented_sound(plan: Plan, folder: Path) -> list[str]:
    if plan.sound is None:
        return []
    options = [*_sound_options(plan.sound), *_labels(plan, plan.sound)]
    if plan.sound.copied and plan.sound.codec.segment_filter:
        options += ["-bsf:a", plan.sound.codec.segment_filter]
    return [*options, *_segment_options(folder / plan.sound.name, _sound_seconds(plan, plan.sound))]


def _sound_seconds(plan: Plan, sound: SoundPlan) -> float:
    """Return the length of the sound's segments, in seconds, such that the last is not a scrap."""
    duration = sound.facts.duration or plan.duration or 0.0
    end = duration + _PADDING
    count, rest = divmod(end, plan.segment_seconds)
    return end / count if count and rest < _SCRAP else plan.segment_seconds


def _decoding(plan: Plan) -> list[str]:
    """Return the options of a decoder that makes nothing but tiles: of keyframes alone."""
    if not plan.thumbnails or _encoded(plan):
        return []
    # What cannot be decoded may be copied all the same.
    return [f"-skip_frame:{plan.pictures[0].facts.index}", "nokey", "-max_error_rate", "1"]


def _encoded(plan: Plan) -> list[PicturePlan]:
    return [picture for picture in plan.pictures if not picture.copied]


def _is_shared(plan: Plan) -> bool:
    """Return whether frames of one decode go to several encoders."""
    encoded = len(_encoded(plan))
    return encoded > 0 and encoded + plan.thumbnails > 1


def _shared_graph(plan: Plan, span: Span | None = None) -> list[str]:
    """Return the filters of several renditions and of tiles, of which each does what all need once."""
    if not _is_shared(plan):
        return []
    first = plan.pictures[0]
    branches = {picture.name: _own_filters(picture, span) for picture in _encoded(plan)}
    if plan.thumbnails:
        branches[TILES] = _tile_filters(plan, span)
    shared = _common_filters(first, span)
    if is_hdr(meant(first.facts)):
        # Only the first output of a split has HDR's metadata. What is decoded is the same, once.
        graphs = [
            f"[0:{first.facts.index}]{','.join([*shared, *own])}[{name}]" for name, own in branches.items()
        ]
        return [option for graph in graphs for option in ("-filter_complex", graph)]
    common = ",".join([*shared, f"split={len(branches)}"])
    graph = [f"[0:{first.facts.index}]{common}" + "".join(f"[{name}-source]" for name in branches)]
    graph += [f"[{name}-source]{','.join(filters)}[{name}]" for name, filters in branches.items()]
    return ["-filter_complex", ";".join(graph)]


def _tiles(plan: Plan, folder: Path) -> list[str]:
    """Return the output of tiles."""
    if not plan.thumbnails:
        return []
    if _is_shared(plan):
        options = ["-map", f"[{TILES}]"]
    else:
        options = ["-map", f"0:{plan.pictures[0].facts.index}", "-vf", ",".join(_tile_filters(plan))]
    options += ["-fps_mode", "passthrough", "-enc_time_base", "filter", *jpeg(_TILE_QUALITY)]
    options += ["-stats_mux_pre:v", str(folder / TILE_TIMES), "-stats_mux_pre_fmt:v", "{pts} {size}"]
    # Of an encoder that is killed, those tiles count that are complete.
    return [*options, "-f", "mjpeg", "-flush_packets", "1", str(folder / TILES)]


def _tile_filters(plan: Plan, span: Span | None = None) -> list[str]:
    """Return the filters that pass the first frame at or after the time of each tile, as a tile."""
    first, seconds = plan.pictures[0], interval(plan.duration)
    due, before = (f"floor(({time}+{TOLERANCE})/{seconds})" for time in ("t", "prev_selected_t"))
    return [
        *_held(first, span),
        rf"select=isnan(prev_selected_t)+gt({due}\,{before})",
        *_sdr(meant(first.facts), tile_size(first.width, first.height), tagged=bool(first.facts.matrix)),
        "settb=1/1000000",
    ]


def still_filters(picture: PicturePlan, size: tuple[int, int]) -> list[str]:
    """Return the filters that make a JPEG's frame, of a size in pixels, of a frame of a rendition."""
    return _sdr(picture.colour, size, tagged=not picture.copied or bool(picture.facts.matrix))


def _sdr(colour: Colour, size: tuple[int, int], *, tagged: bool) -> list[str]:
    """Return the filters that scale a frame for a JPEG, which is in SDR, full range, with BT.601's matrix."""
    scaled = _scaled(colour, shown(colour, hdr=False), size, tagged=tagged)
    return [*scaled, "scale=out_color_matrix=bt601:out_range=pc", "setsar=1", "format=yuv420p"]


def jpeg(quality: int) -> list[str]:
    """Return the options of an encoder of JPEGs in one of FFmpeg's qualities, 2 (the best) to 31."""
    return ["-c:v", "mjpeg", "-q:v", str(quality), "-threads:v", "1"]


def _picture_options(plan: Plan, picture: PicturePlan, span: Span | None = None) -> list[str]:
    options = ["-map", f"0:{picture.facts.index}"]
    if picture.copied:
        # Parses every packet, and so finds those that no player could parse.
        return [*options, "-c:v", "copy", "-bsf:v", "trace_headers", *_tag(picture)]
    if _is_shared(plan):
        options = ["-map", f"[{picture.name}]"]
    else:
        filters = [*_common_filters(picture, span), *_own_filters(picture, span)]
        options += ["-vf", ",".join(filters)]
    # Frames keep their own times: none is doubled or dropped to fill a constant rate.
    options += ["-fps_mode", "vfr", *_time_base(picture.facts)]
    options += [*_encoder(picture, picture.crf), *_tag(picture)]
    if picture.thinned > 1 and picture.facts.constant_frame_rate:
        # Each frame is shown in place of the next ones; where a segment ends, its own duration counts.
        options += ["-bsf:v", f"setts=duration=DURATION*{picture.thinned}"]
    if not picture.codec.in_parts:
        return options
    # Keyframes at known distances, so that segments can be cut there; more where a scene changes.
    wanted = f"gte(t-prev_forced_t,{KEYFRAME_SECONDS}-0.001)"
    if span is None and picture.facts.duration:
        end = picture.facts.start - picture.origin + picture.facts.duration
        wanted += f"*not(between(t,{end - _SCRAP:.3f},{end:.3f}))"
    options += ["-force_key_frames", f"expr:if(isnan(prev_forced_t),1,{wanted})", "-g", "9999"]
    return options


def _encoder(picture: PicturePlan, crf: float) -> list[str]:
    rate = picture.rate if picture.thinned > 1 else None
    return picture.codec.options(picture.rung, crf, beside=picture.aligned, rate=rate)


def _time_base(facts: VideoFacts) -> list[str]:
    base = facts.time_base
    return [] if facts.constant_frame_rate else ["-enc_time_base", f"{base.numerator}:{base.denominator}"]


def _tag(picture: PicturePlan) -> list[str]:
    return ["-tag:v", picture.codec.tag] if picture.codec.tag else []


def _span_filters(picture: PicturePlan, span: Span) -> list[str]:
    """Return the filters that pass only the span's frames, with their times in the result."""
    base = picture.facts.time_base
    trim = [] if span.first else [f"start_pts={span.start}"]
    trim += [] if span.end is None else [f"end_pts={span.end}"]
    filters = [f"settb={base}"]
    filters += [f"trim={':'.join(trim)}"] if trim else []
    return [*filters, f"setpts=PTS-{round(Fraction(picture.origin) / base)}"]


def _common_filters(picture: PicturePlan, span: Span | None = None) -> list[str]:
    """Return the filters that all renditions of a picture begin with."""
    deinterlace = ["bwdif=mode=send_frame:deint=interlaced"] if picture.facts.interlaced else []
    return [*deinterlace, *(_span_filters(picture, span) if span else []), *_thinning(picture, span)]


def _thinning(picture: PicturePlan, span: Span | None) -> list[str]:
    """Return the filter that passes one of so many frames, in a part those that one pass would.

    The timeline is cut into periods of as many frames, and the first frame in each passes. In a part, the
    frame before its first one is known where the rate is constant; else that one passes.
    """
    if picture.thinned == 1:
        return []
    facts, begin = picture.facts, float(Fraction(picture.facts.start) - Fraction(picture.origin))

    def period(time: str) -> str:
        # Times are rounded: the first frame of a period begins in the midst of it.
        return f"floor(({time}-{begin:.6f})*{picture.rate}+{1 / (2 * picture.thinned):.6f})"

    first = "1"
    if span and not span.first and facts.constant_frame_rate:
        first = f"gt({period('t')},{period(f't-{1 / facts.frame_rate}')})"
    return [f"select='if(isnan(prev_t),{first},gt({period('t')},{period('prev_t')}))'"]


def _own_filters(picture: PicturePlan, span: Span | None = None) -> list[str]:
    colour, size = meant(picture.facts), (picture.width, picture.height)
    filters = _scaled(colour, picture.colour, size, tagged=bool(picture.facts.matrix))
    filters += _held(picture, span)
    if picture.frame_rate:
        filters.append(f"fps={picture.frame_rate}")
    return [*filters, "setsar=1", picture.codec.last_filter(picture.bits)]


def _held(picture: PicturePlan, span: Span | None) -> list[str]:
    """Return the filter that shows the first frame from the beginning on, where it comes later."""
    return [r"setpts=if(eq(N\,0)\,0\,PTS)"] if picture.held and (span is None or span.first) else []


def _scaled(colour: Colour, wanted: Colour, size: tuple[int, int], *, tagged: bool) -> list[str]:
    """Return the filters that scale a picture of these colours, and bring it into those wanted.

    `tagged`: its frames say which matrix they have.
    """
    # FFmpeg has turned the picture upright before its filters see it.
    scale = f"scale={size[0]}:{size[1]}:flags=bicubic:out_range=tv"
    if not tagged:
        scale += f":in_color_matrix={colour.matrix}:out_color_matrix={colour.matrix}"
    # Players guess missing colour tags, each in its own way: so the result has them all.
    tags = f"colorspace={colour.matrix}:color_primaries={colour.primaries}:color_trc={colour.transfer}"
    return [scale, f"setparams={tags}", *_converted(colour, wanted)]


def _converted(colour: Colour, wanted: Colour) -> list[str]:
    """Return the filters that bring a picture into other colours."""
    if colour == wanted:
        return []
    # In these pixel formats, zscale takes every even size.
    pixels = "format=yuv420p10le|yuv422p10le|yuv444p10le"
    if not is_hdr(colour) or is_hdr(wanted):
        told = f"primaries={wanted.primaries}:transfer={wanted.transfer}:matrix={wanted.matrix}"
        return [pixels, f"zscale={told}"]
    return [
        pixels,
        f"zscale=transfer=linear:npl={_HDR_WHITE}",
        "format=gbrpf32le",
        "zscale=primaries=bt709",
        # Leaves mid-tones as they are, and compresses the highlights.
        f"tonemap=mobius:desat=0:peak={_HDR_PEAK}",
        "zscale=transfer=bt709:matrix=bt709:range=limited",
        *(f"sidedata=mode=delete:type={kind}" for kind in _OF_HDR),
    ]


def _sound_options(sound: SoundPlan) -> list[str]:
    options = ["-map", f"0:{sound.facts.index}"]
    if sound.copied:
        return [*options, "-c:a", "copy"]
    # Silence fills a late start and gaps, so that the sound stays in step with the picture.
    filters = ",".join([*_channels(sound.facts), "aresample=async=1:first_pts=0", *_mixed(sound)])
    if sound.facts.right is None:
        options += ["-af", filters]
    else:
        pair = f"[0:{sound.facts.index}][0:{sound.facts.right}]join=inputs=2:channel_layout=stereo"
        options = ["-filter_complex", f"{pair},{filters}[sound]", "-map", "[sound]"]
    options += sound.codec.options(sound.bit_rate)
    return [*options, "-ac", str(sound.channels), "-ar", str(sound.sample_rate)]


def _mixed(sound: SoundPlan) -> list[str]:
    """Return the filters that mix surround down to stereo, as loud as it was and without clipping.

    The centre and the surround channels come to -3 dB in each ear (ITU-R BS.775); the LFE is left out.
    """
    if sound.facts.channels <= 2:
        return []
    # The limiter lowers only sums beyond full scale, for which its sample format has room.
    return ["aformat=sample_fmts=dblp:channel_layouts=stereo", "alimiter=limit=0.98:level=0:latency=1"]


def _channels(audio: AudioFacts) -> list[str]:
    """Return the filters for the channels that FFmpeg does not know how to mix."""
    if audio.right is not None:
        return []
    if audio.channels == 1:
        return ["pan=mono|c0=c0"]
    if audio.layout.startswith("ambisonic"):
        # Left and right, from the first two channels: W (all directions) and Y (left minus right).
        return ["pan=stereo|c0=0.5*c0+0.5*c1|c1=0.5*c0-0.5*c1"]
    if audio.channels > 2 and (not audio.layout or "UN" in audio.layout):
        return ["pan=stereo|c0=c0|c1=c1"]
    return []


def _text_input_options(plan: Plan) -> list[str]:
    options = []
    for text in plan.texts:
        index = text.facts.index
        options += [f"-bsf:{index}", rf"noise=drop=gt(size\,{_LARGEST_CUE})"]
        # Old subtitles may not be in UTF-8; a cue with a wrong letter is better than none.
        options += [f"-sub_charenc_mode:{index}", "ignore"]
    return options


def _text_options(plan: Plan) -> list[str]:
    """Return the options of all subtitles in one file, after picture and sound."""
    options = []
    for n, text in enumerate(plan.texts):
        options += ["-map", f"0:{text.facts.index}", f"-c:s:{n}", "copy" if text.copied else text.codec]
        options += [f"-bsf:s:{n}", _within(plan.duration), f"-disposition:s:{n}", disposition(text) or "0"]
    return options


def _text_outputs(plan: Plan, folder: Path) -> list[str]:
    """Return an output for each of the subtitles: a file of its own, which is segmented or joined later."""
    segments = plan.format.segmented
    options = []
    for n, text in enumerate(plan.texts):
        options += ["-map", f"0:{text.facts.index}", "-c:s", "copy" if text.copied else text.codec]
        # Without this filter, a cue from before the beginning would move all others.
        options += ["-bsf:s", _NOT_BEFORE if segments else _within(plan.duration)]
        options += ["-avoid_negative_ts", "disabled", *_clean()]
        options += ["-f", plan.format.text_muxer, str(folder / subtitle_file(plan, n))]
    return options


def subtitle_file(plan: Plan, number: int) -> str:
    """Return the file of the subtitles of this number, from 0, which is segmented or joined later."""
    return f"{SUBTITLES}/{number}.{plan.format.text_suffix}"


def _within(duration: float | None) -> str:
    """Return the filter that leaves out cues before or after the media, and ends the others with it."""
    if duration is None:
        return rf"{_NOT_BEFORE},setts=duration=min(DURATION\,{_LONGEST_CUE}/TB)"
    drop = rf"{_NOT_BEFORE}+gte(pts*tb\,{duration:.3f})"
    return rf"{drop},setts=duration=min(DURATION\,{duration:.3f}/TB-PTS)"


def disposition(text: TextPlan) -> str:
    """Return FFmpeg's flags of subtitles, joined by a plus."""
    flags = {
        "default": text.facts.default,
        "forced": text.facts.forced,
        "hearing_impaired": text.facts.hearing_impaired,
    }
    return "+".join(flag for flag, is_set in flags.items() if is_set)


def labels(plan: Plan, stream: PicturePlan | SoundPlan | TextPlan) -> dict[str, str]:
    """Return the language and the name of a stream of the result, as FFmpeg's metadata."""
    facts = stream.facts
    metadata = {}
    if facts.language:
        metadata["language"] = languages.code(facts.language, quicktime=plan.format.quicktime)
    if plan.format.names_streams and not isinstance(facts, VideoFacts) and facts.name:
        metadata["title"] = facts.name
    return metadata


def _labels(plan: Plan, *streams: PicturePlan | SoundPlan | TextPlan) -> list[str]:
    options = []
    for n, stream in enumerate(streams):
        for name, value in labels(plan, stream).items():
            options += [f"-metadata:s:{n}", f"{name}={value}"]
    return options


def _clean() -> list[str]:
    # The source's metadata may name a person's phone or place.
    return ["-map_metadata", "-1", "-map_chapters", "-1"]


def _segment_options(folder: Path, seconds: float, *, anywhere: bool = False) -> list[str]:
    options = [*_clean(), "-f", "hls", "-hls_time", f"{seconds:g}", "-hls_segment_type", "fmp4"]
    # FFmpeg rewrites an event playlist with each segment, which by then has its final name.
    flags = "temp_file+split_by_time" if anywhere else "temp_file+independent_segments"
    options += ["-hls_playlist_type", "event", "-hls_flags", flags]
    options += ["-hls_segment_options", "movflags=+skip_sidx"]
    # Edit lists state the encoders' delay; shifting times would move sound and picture apart.
    options += ["-avoid_negative_ts", "disabled"]
    options += [
        "-hls_fmp4_init_filename",
        INIT_SEGMENT,
        "-hls_segment_filename",
        str(folder / "%05d.m4s"),
    ]
    return [*options, str(folder / PLAYLIST)]
