"""Sources of the kinds that users have, and what is special about some."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction

import pytest

from tests.media.conftest import ffmpeg, ffprobe
from transcoding.errors import Failure, TaskFailedError

SIZE = "320x180"
PICTURE = "-f lavfi -i testsrc2=s={size}:r={rate}:d={seconds}"
SOUND = "-f lavfi -i sine=f=440:r=48000:d={seconds}"
H264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"


@dataclass(frozen=True)
class Clip:
    """How a clip is made, and what is to come out: frames and channels (None: no such stream)."""

    name: str
    options: str
    size: str = SIZE
    rate: str = "25"
    seconds: float = 1
    frames: int | None = 25
    channels: int | None = 1
    made: tuple[int, int] = (320, 180)

    @property
    def frame_rate(self) -> float:
        return float(Fraction(self.rate))

    @property
    def arguments(self) -> str:
        values = {"size": self.size, "rate": self.rate, "seconds": self.seconds}
        inputs = [PICTURE] if self.frames else []
        inputs += [SOUND] if self.channels else []
        return " ".join([*inputs, self.options]).format(**values) + " {0}"


CLIPS = [
    # Containers
    Clip("h264.mkv", f"{H264} -c:a libopus"),
    Clip("h264.ts", f"{H264} -c:a aac"),
    Clip("h264.flv", f"{H264} -c:a aac"),
    Clip("fragmented.mp4", f"{H264} -c:a aac -movflags frag_keyframe+empty_moov"),
    Clip("moov-at-end.mov", f"{H264} -c:a aac"),
    Clip("h264.3gp", f"{H264} -c:a aac"),
    Clip("mpeg4.avi", "-c:v mpeg4 -q:v 3 -c:a libmp3lame"),
    Clip("wmv.wmv", "-c:v wmv2 -q:v 3 -c:a wmav2"),
    Clip("mpeg2.mpg", "-c:v mpeg2video -q:v 3 -c:a mp2"),
    Clip("mpeg2.mxf", "-c:v mpeg2video -q:v 3 -c:a pcm_s16le"),
    Clip("vp8.webm", "-c:v libvpx -b:v 1M -c:a vorbis -strict -2 -ac 2", channels=2),
    Clip("vp9.webm", "-c:v libvpx-vp9 -deadline realtime -b:v 1M -c:a libopus"),
    # Codecs
    Clip("hevc.mp4", "-c:v libx265 -preset ultrafast -x265-params log-level=error -tag:v hvc1 -c:a aac"),
    Clip("av1.mp4", "-c:v libsvtav1 -preset 12 -svtav1-params lp=1 -c:a aac"),
    Clip("av1.webm", "-c:v libsvtav1 -preset 12 -pix_fmt yuv420p10le -c:a libopus"),
    Clip("vvc.mp4", "-c:v libvvenc -preset faster -pix_fmt yuv420p10le -c:a aac", size="128x96", rate="10",
         seconds=0.5, frames=5, made=(128, 96)),
    Clip("hevc-ten-bit.mkv", "-c:v libx265 -preset ultrafast -x265-params log-level=error "
         "-pix_fmt yuv420p10le -c:a eac3"),
    Clip("vp9-ten-bit.webm", "-c:v libvpx-vp9 -deadline realtime -b:v 1M -pix_fmt yuv420p10le -c:a libopus"),
    Clip("prores-4444.mov", "-c:v prores_ks -profile:v 4444 -pix_fmt yuva444p10le -c:a pcm_s24be"),
    Clip("dnxhd.mxf", "-vf scale=1280:720 -c:v dnxhd -b:v 60M -pix_fmt yuv422p -c:a pcm_s24le",
         seconds=0.4, frames=10, made=(1280, 720)),
    Clip("mjpeg.avi", "-c:v mjpeg -pix_fmt yuvj420p -c:a pcm_u8"),
    Clip("raw.avi", "-c:v rawvideo -pix_fmt bgr24 -c:a pcm_s16le", seconds=0.4, frames=10),
    Clip("qtrle.mov", "-c:v qtrle -c:a pcm_s32le"),
    Clip("theora.ogv", "-c:v libtheora -q:v 8 -c:a libvorbis"),
    Clip("flash.flv", "-c:v flv -q:v 3 -c:a libmp3lame -ar 44100"),
    Clip("old.3gp", "-c:v h263 -q:v 3 -c:a libopencore_amrnb -ar 8000", size="352x288", made=(352, 288)),
    Clip("old.asf", "-c:v msmpeg4 -q:v 3 -c:a wmav1"),
    Clip("cinepak.avi", "-c:v cinepak -c:a adpcm_ms", seconds=0.4, frames=10),
    Clip("real.rm", "-c:v rv20 -q:v 3 -c:a ac3 -ar 44100", size="352x288", made=(352, 288)),
    Clip("animation.gif", "-c:v gif", channels=None),
    Clip("bare.h264", H264, channels=None),
    Clip("frames.y4m", "-pix_fmt yuv420p", channels=None),
    Clip("prores.mov", "-c:v prores_ks -c:a pcm_s24le"),
    Clip("mjpeg.mov", "-c:v mjpeg -pix_fmt yuvj420p -c:a pcm_s16le"),
    Clip("ten-bit.mp4", "-c:v libx264 -preset ultrafast -pix_fmt yuv420p10le -c:a aac"),
    Clip("444.mp4", "-c:v libx264 -preset ultrafast -pix_fmt yuv444p -c:a aac"),
    Clip("422.mkv", "-c:v libx264 -preset ultrafast -pix_fmt yuv422p -c:a flac"),
    # Sound
    Clip("ac3.ts", f"{H264} -c:a ac3"),
    Clip("eac3.mp4", f"{H264} -c:a eac3"),
    Clip("dts.mkv", f"{H264} -c:a dca -strict -2 -ac 2", channels=2),
    Clip("truehd.mkv", f"{H264} -c:a truehd -strict -2 -ac 2", channels=2),
    Clip("alac.m4a", "-c:a alac", frames=None),
    Clip("sound.ac3", "-c:a ac3", frames=None),
    Clip("sound.aiff", "-c:a pcm_s16be", frames=None),
    Clip("sound.caf", "-c:a pcm_f32le", frames=None),
    Clip("sound.wma", "-c:a wmav2", frames=None),
    Clip("sound.amr", "-c:a libopencore_amrnb -ar 8000", frames=None),
    Clip("float.wav", "-c:a pcm_f64le", frames=None),
    Clip("law.wav", "-c:a pcm_mulaw -ar 8000", frames=None),
    Clip("three.wav", "-af pan=3c|c0=c0|c1=c0|c2=c0 -c:a pcm_s24le", frames=None, channels=2),
    Clip("surround.mkv", f"{H264} -af pan=5.1|c0=c0|c1=c0|c2=c0|c3=c0|c4=c0|c5=c0 -c:a ac3", channels=2),
    Clip("eight.mov", f"{H264} -af pan=7.1|c0=c0|c1=c0|c2=c0|c6=c0 -c:a pcm_s16le", channels=2),
    Clip("low-rate.mp4", f"{H264} -c:a aac -ar 22050"),
    Clip("sound.wav", "-c:a pcm_s16le", frames=None),
    Clip("sound.flac", "-c:a flac", frames=None),
    Clip("sound.m4a", "-c:a aac -ac 2", frames=None, channels=2),
    Clip("sound.ogg", "-c:a libopus", frames=None),
    Clip("sound.mp3", "-c:a libmp3lame", frames=None),
    # Pictures
    Clip("portrait.mp4", f"{H264} -c:a aac", size="180x320", made=(180, 320)),
    Clip("tiny.mkv", "-c:v ffv1 -c:a flac", size="16x16", made=(16, 16)),
    Clip("one-pixel.mkv", "-vf scale=1:1 -c:v ffv1 -c:a flac", made=(2, 2)),
    Clip("one-frame.mp4", f"{H264}", seconds=0.04, frames=1, channels=None),
    Clip("fast.mp4", f"{H264} -c:a aac", rate="240", seconds=0.5, frames=120),
    Clip("film.mp4", f"{H264} -c:a aac", rate="24000/1001", seconds=1.001, frames=24),
    Clip("slow.mp4", f"{H264} -c:a aac", rate="1", seconds=8, frames=8),
    Clip("dv.dv", "-vf scale=720:576,setsar=16/15 -c:v dvvideo -pix_fmt yuv420p -c:a pcm_s16le -ac 2",
         channels=2, made=(768, 576)),
    Clip("ntsc.dv", "-vf scale=720:480,setsar=8/9 -c:v dvvideo -pix_fmt yuv411p -c:a pcm_s16le -ac 2",
         rate="30000/1001", seconds=1.001, frames=30, channels=2, made=(640, 480)),
    # Times
    Clip("late.ts", f"{H264} -c:a aac -output_ts_offset 1000"),
    Clip("b-frames.mp4", "-c:v libx264 -preset medium -bf 8 -b_strategy 0 -pix_fmt yuv420p -c:a aac"),
    Clip("open-gop.mkv", "-c:v libx264 -x264-params open-gop=1:keyint=12 -pix_fmt yuv420p -c:a libopus"),
    Clip("far.mkv", f"{H264} -c:a libopus -output_ts_offset 1000"),
    Clip("variable.mkv", f"-vf select='lt(mod(n\\,5)\\,3)' -fps_mode vfr {H264} -c:a flac",
         seconds=3, frames=45),
    Clip("interlaced.ts", "-vf interlace,setfield=tff -c:v mpeg2video -flags +ildct+ilme -q:v 2 -c:a mp2",
         size="640x576", rate="50", made=(640, 576)),
    # What is larger than a quality, or needs more than scaling
    Clip("full-hd.mp4", f"{H264} -b:v 20M -c:a aac -ac 2", size="1920x1080", seconds=0.4, frames=10,
         channels=2, made=(1920, 1080)),
    Clip("portrait-hd.mkv", f"{H264} -c:a flac", size="720x1280", seconds=0.4, frames=10, made=(720, 1280)),
    Clip("quad-hd.mov", f"{H264} -c:a pcm_s16le", size="2560x1440", seconds=0.2, frames=5,
         made=(2560, 1440)),
    Clip("hdr.mkv", "-pix_fmt yuv420p10le -color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc "
         "-c:v libx265 -preset ultrafast -x265-params log-level=error -c:a eac3", size="640x480",
         seconds=0.4, frames=10, made=(640, 480)),
    Clip("anamorphic.mp4", f"-vf setsar=64/45 {H264} -c:a aac", size="720x576", seconds=0.4, frames=10,
         made=(1024, 576)),
    Clip("odd.mp4", "-vf scale=427:241,setsar=1 -c:v libx264 -preset ultrafast -pix_fmt yuv444p -c:a aac",
         seconds=0.4, frames=10, made=(426, 240)),
]  # fmt: skip


def retried(transcode, source, format, quality=5):
    """Transcode as the service does, where a first attempt that copied in vain is followed by another."""
    with suppress(OSError):
        return transcode(source, format, quality)
    return transcode(source, format, quality, attempt=2)


@pytest.mark.parametrize("format", ["m3u8", "mp4"])
def test_interlaced_material_is_deinterlaced(clips, transcode, format):
    clip = clips(
        "interlaced.ts",
        "-f lavfi -i testsrc2=s=640x576:r=50:d=2 -vf interlace,setfield=tff "
        "-c:v mpeg2video -flags +ildct+ilme -q:v 2 {0}",
    )
    assert ffprobe(clip)["streams"][0]["field_order"] in {"tt", "tb"}
    video = transcode(clip, format, 5).streams()["video"]
    assert video.get("field_order", "progressive") == "progressive"
    assert int(video["nb_read_frames"]) == 50


def test_sound_that_starts_late_and_ends_early_stays_where_it_was(clips, transcode, tmp_path):
    clip = clips(
        "unequal.mkv",
        "-f lavfi -i testsrc2=s=320x180:r=25:d=6 -itsoffset 2 -f lavfi -i sine=f=440:d=2 "
        f"{H264} -c:a flac {{0}}",
    )
    streams = transcode(clip, "mp4", 5).streams()
    assert int(streams["video"]["nb_read_frames"]) == 150
    assert float(streams["audio"]["duration"]) == pytest.approx(4.0, abs=0.05)


def test_the_sound_alone_of_a_source_whose_picture_lasts_longer(clips, transcode):
    clip = clips(
        "short-sound.mkv",
        "-f lavfi -i testsrc2=s=320x180:r=25:d=6 -f lavfi -i sine=f=440:d=2 " + H264 + " -c:a flac {0}",
    )
    result = transcode(clip, "mp3", 5)
    assert float(ffprobe(result.entry)["format"]["duration"]) == pytest.approx(2.0, abs=0.06)


def test_subtitles_that_last_longer_do_no_harm(clips, transcode):
    subtitles = clips("late.srt", "-f lavfi -i sine=d=1 -c:a pcm_s16le -f wav {0}")
    subtitles.write_text("1\n00:00:00,000 --> 00:00:30,000\nHello\n")
    clip = clips(CLIPS[0].name, CLIPS[0].arguments)
    both = subtitles.with_name("subtitled.mkv")
    ffmpeg("-i {0} -i {1} -map 0 -map 1 -c copy {2}", clip, subtitles, both)
    assert float(ffprobe(both)["format"]["duration"]) > 20
    assert int(retried(transcode, both, "mp4").streams()["video"]["nb_read_frames"]) == 25


@pytest.mark.parametrize(
    ("name", "tag", "codec"), [("strange.mp4", b"avc1", H264), ("strange.avi", b"FMP4", "-c:v mpeg4")]
)
def test_a_codec_that_ffmpeg_cannot_decode_is_told(clips, transcode, name, tag, codec):
    clip = clips(name, f"{PICTURE.format(size=SIZE, rate=25, seconds=1)} {codec} {{0}}")
    clip.write_bytes(clip.read_bytes().replace(tag, b"zzzz"))
    with pytest.raises(TaskFailedError) as failure:
        transcode(clip, "mp4", 5)
    assert failure.value.code is Failure.CODEC_UNSUPPORTED
    assert "zzzz" in failure.value.info


@pytest.mark.parametrize("format", ["m3u8", "mp4", "mp3"])
def test_sound_that_ends_sooner_than_its_size_and_bit_rate_say(clips, transcode, format):
    # A variable bit rate without a header: FFmpeg goes by that of the tone at the beginning.
    sound = "-f lavfi -i sine=d=2 -f lavfi -i anoisesrc=a=0.5:d=4:r=44100 -filter_complex concat=v=0:a=1"
    clip = clips("variable.mp3", f"{sound} -c:a libmp3lame -q:a 2 -write_xing 0 {{0}}")
    assert float(ffprobe(clip)["format"]["duration"]) > 7
    result = transcode(clip, format)
    assert float(ffprobe(result.entry)["format"]["duration"]) == pytest.approx(6, abs=0.1)
    result.decode()


@pytest.mark.parametrize("format", ["m3u8", "mp4", "wav"])
def test_a_source_that_ends_behind_its_index_is_damaged(clips, transcode, tmp_path, format):
    data = clips("index.m4a", "-f lavfi -i sine=d=4 -c:a aac -movflags +faststart {0}").read_bytes()
    clip = tmp_path / "empty.m4a"
    clip.write_bytes(data[: data.index(b"mdat") + 4])
    with pytest.raises(TaskFailedError) as failure:
        transcode(clip, format)
    assert failure.value.code is Failure.DAMAGED
