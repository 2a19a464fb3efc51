"""FFmpeg's arguments for a plan."""

from __future__ import annotations

from pathlib import Path

from transcoding.media import encoders, languages
from transcoding.media.facts import TextFacts, VideoFacts
from transcoding.media.formats import Packaging
from transcoding.media.plan import KEYFRAME_SECONDS, AudioPlan, Plan, TextPlan, VideoPlan
from transcoding.media.tools import Tools, input_options

#: The folders of a segmented result's renditions, and the names inside them.
VIDEO, AUDIO, SUBTITLES = "video", "audio", "subtitles"
MASTER, PLAYLIST, INIT_SEGMENT, SEGMENT_PATTERN = "master.m3u8", "index.m3u8", "init.mp4", "%05d.m4s"

#: Pictures up to this many lines are in the colours of ITU-R BT.601 where they do not tell.
_STANDARD_DEFINITION = 576

#: No cue is that large, bytes, and encoders fail at those that are.
_LARGEST_CUE = 32_000
#: Of a cue where the result's length is not known, seconds: some say to stay for ever.
_LONGEST_CUE = 10
#: The filter that leaves out cues from before the beginning.
_NOT_BEFORE = r"noise=drop=lt(pts\,0)"

#: What FFmpeg says when it leaves out a packet that could not be taken apart.
UNCOPYABLE = "Error applying bitstream filters"


def build(tools: Tools, plan: Plan, url: str, folder: Path) -> list[str]:
    """Return the command that makes the plan's result of the source at `url` in `folder`, which exists."""
    command = [str(tools.ffmpeg), "-hide_banner", "-nostdin", "-y", "-loglevel", "warning"]
    command += ["-nostats", "-progress", "pipe:1", "-stats_period", "0.5"]
    command += [*input_options(url), *_text_input_options(plan), "-i", url]
    if plan.format.packaging is Packaging.SEGMENTS:
        if plan.video:
            command += [*_video_options(plan.video), *_labels(plan, plan.video)]
            command += _segment_options(plan, folder / VIDEO)
        if plan.audio:
            command += [*_audio_options(plan.audio), *_labels(plan, plan.audio)]
            command += _segment_options(plan, folder / AUDIO)
        command += _text_outputs(plan, folder)
    else:
        streams = [stream for stream in (plan.video, plan.audio) if stream]
        command += _video_options(plan.video) if plan.video else []
        command += _audio_options(plan.audio) if plan.audio else []
        command += [*_text_options(plan), *_labels(plan, *streams, *plan.subtitles)]
        command += [*_clean(), "-f", plan.format.muxer, *plan.format.muxer_options]
        command += [str(folder / plan.format.entry)]
    return command


def _video_options(video: VideoPlan) -> list[str]:
    options = ["-map", f"0:{video.facts.index}"]
    if video.copied:
        # Takes every packet apart, and so finds those that no player could.
        return [*options, "-c:v", "copy", "-bsf:v", "trace_headers"]
    options += ["-vf", ",".join(_filters(video))]
    # Frames keep their own times: none is doubled or dropped to fill a constant rate.
    options += ["-fps_mode", "vfr"]
    if not video.facts.constant_frame_rate:
        options += ["-enc_time_base", "demux"]
    options += [option.format(rung=video.rung) for option in encoders.PICTURE[video.codec]]
    # Keyframes at known times, so that segments can be cut there; more where a scene changes.
    first = max(0.0, video.start - 0.001)
    options += ["-force_key_frames", f"expr:gte(t,{first:.3f}+n_forced*{KEYFRAME_SECONDS})", "-g", "9999"]
    return options


def _filters(video: VideoPlan) -> list[str]:
    filters = []
    if video.facts.interlaced:
        filters.append("bwdif=mode=send_frame:deint=interlaced")
    # FFmpeg has turned the picture upright before its filters see it.
    scale = f"scale={video.width}:{video.height}:flags=bicubic:out_range=tv"
    if video.facts.matrix:
        filters.append(scale)
    else:
        # Players guess what is not told, each in its own way: so it is told, as it is most likely meant.
        colour = "bt709" if min(video.facts.width, video.facts.height) > _STANDARD_DEFINITION else "smpte170m"
        filters.append(f"{scale}:in_color_matrix={colour}:out_color_matrix={colour}")
        filters.append(f"setparams=colorspace={colour}:color_primaries={colour}:color_trc={colour}")
    if video.held:
        filters.append(r"setpts=if(eq(N\,0)\,0\,PTS)")
    return [*filters, "setsar=1", "format=yuv420p"]


def _audio_options(audio: AudioPlan) -> list[str]:
    options = ["-map", f"0:{audio.facts.index}"]
    if audio.copied:
        return [*options, "-c:a", "copy"]
    # Sound that starts late or has holes is filled with silence, so that it stays with the picture.
    options += ["-af", "aresample=async=1:first_pts=0"]
    options += [option.format(bit_rate=audio.bit_rate) for option in encoders.SOUND[audio.codec]]
    return [*options, "-ac", str(audio.channels), "-ar", str(audio.sample_rate)]


def _text_input_options(plan: Plan) -> list[str]:
    options = []
    for text in plan.subtitles:
        index = text.facts.index
        options += [f"-bsf:{index}", rf"noise=drop=gt(size\,{_LARGEST_CUE})"]
        # Old ones are not in UTF-8; a cue with a wrong letter is better than none.
        options += [f"-sub_charenc_mode:{index}", "ignore"]
    return options


def _text_options(plan: Plan) -> list[str]:
    """Return the options of all subtitles in one file, after picture and sound."""
    options = []
    for n, text in enumerate(plan.subtitles):
        options += ["-map", f"0:{text.facts.index}", f"-c:s:{n}", "copy" if text.copied else text.codec]
        options += [f"-bsf:s:{n}", _within(plan.duration), f"-disposition:s:{n}", _disposition(text.facts)]
    return options


def _text_outputs(plan: Plan, folder: Path) -> list[str]:
    """Return an output for each of the subtitles: a file of its own, of which segments are made later."""
    options = []
    for n, text in enumerate(plan.subtitles):
        options += ["-map", f"0:{text.facts.index}", "-c:s", "copy" if text.copied else text.codec]
        # Without it, a cue from before the beginning would move all others.
        options += ["-bsf:s", _NOT_BEFORE, "-avoid_negative_ts", "disabled", *_clean()]
        options += ["-f", "webvtt", str(subtitle_file(folder, n))]
    return options


def subtitle_file(folder: Path, number: int) -> Path:
    """Return where the text of a plan's subtitles of this number, from 0, is written for segments."""
    return folder / SUBTITLES / f"{number}.vtt"


def _within(duration: float | None) -> str:
    """Return the filter that leaves out cues beside the media, and ends the last one with it."""
    if duration is None:
        return rf"{_NOT_BEFORE},setts=duration=min(DURATION\,{_LONGEST_CUE}/TB)"
    drop = rf"{_NOT_BEFORE}+gte(pts*tb\,{duration:.3f})"
    return rf"{drop},setts=duration=min(DURATION\,{duration:.3f}/TB-PTS)"


def _disposition(text: TextFacts) -> str:
    flags = {
        "default": text.default,
        "forced": text.forced,
        "hearing_impaired": text.hearing_impaired,
    }
    return "+".join(flag for flag, is_set in flags.items() if is_set) or "0"


def _labels(plan: Plan, *streams: VideoPlan | AudioPlan | TextPlan) -> list[str]:
    """Return the languages and names of an output's streams."""
    options = []
    for n, stream in enumerate(streams):
        facts = stream.facts
        if facts.language:
            code = languages.code(facts.language, quicktime=plan.format.muxer == "mov")
            options += [f"-metadata:s:{n}", f"language={code}"]
        # Playlists tell names themselves; and in a file of sound alone, it would be the title of the song.
        named = plan.format.packaging is Packaging.FILE and plan.format.picture
        if named and not isinstance(facts, VideoFacts) and facts.name:
            options += [f"-metadata:s:{n}", f"title={facts.name}"]
    return options


def _clean() -> list[str]:
    # Nothing that tells of a person's phone or place is passed on.
    return ["-map_metadata", "-1", "-map_chapters", "-1"]


def _segment_options(plan: Plan, folder: Path) -> list[str]:
    options = [*_clean(), "-f", "hls", "-hls_time", f"{plan.segment_seconds:g}", "-hls_segment_type", "fmp4"]
    # An event playlist is written anew with each segment, which by then has its final name.
    options += ["-hls_playlist_type", "event", "-hls_flags", "temp_file+independent_segments"]
    # The encoders' delay is told by edit lists; shifting would move sound and picture apart.
    options += ["-avoid_negative_ts", "disabled"]
    options += [
        "-hls_fmp4_init_filename",
        INIT_SEGMENT,
        "-hls_segment_filename",
        str(folder / SEGMENT_PATTERN),
    ]
    return [*options, str(folder / PLAYLIST)]
