"""The FFmpeg programs, how they may read a source, and what their error output means."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import certifi

from transcoding.errors import Failure, TaskFailedError

#: FFmpeg's demuxers for sources. No playlists (hls, dash, concat, imf, …) and no image sequences: a source
#: must not be able to make FFmpeg open another file.
DEMUXERS = (
    "aac",
    "ac3",
    "aiff",
    "amr",
    "asf",
    "au",
    "avi",
    "caf",
    "dv",
    "eac3",
    "flac",
    "flv",
    "gif",
    "h264",
    "hevc",
    "ivf",
    "m4v",
    "matroska,webm",
    "mov,mp4,m4a,3gp,3g2,mj2",
    "mp3",
    "mpeg",
    "mpegts",
    "mpegvideo",
    "mxf",
    "nut",
    "ogg",
    "rm",
    "w64",
    "wav",
    "wtv",
    "yuv4mpegpipe",
)
_PROTOCOLS = {"http": "http,tcp", "https": "https,tls,tcp"}

#: The certificate authorities that FFmpeg trusts: it has none of its own. The AWS clients use the same file.
CA_FILE = Path(certifi.where())

#: How long a read may wait for the network, seconds.
NETWORK_TIMEOUT = 30


@dataclass(frozen=True, slots=True)
class Tools:
    """Where the FFmpeg programs are."""

    ffmpeg: Path
    ffprobe: Path

    @classmethod
    def within(cls, folder: str | Path) -> Tools:
        """Return the programs of a folder, /opt/bin on Lambda."""
        return cls(Path(folder) / "ffmpeg", Path(folder) / "ffprobe")


def input_options(url: str) -> list[str]:
    """Return the options that go before an input: the demuxers and protocols it is held to."""
    scheme = url.partition("://")[0] if "://" in url else "file"
    options = ["-format_whitelist", ",".join(DEMUXERS), "-protocol_whitelist", _PROTOCOLS.get(scheme, "file")]
    # In a transport stream, sound may begin long after the picture.
    options += ["-probesize", "50M", "-analyzeduration", "20M"]
    if scheme in _PROTOCOLS:
        options += ["-rw_timeout", str(NETWORK_TIMEOUT * 1_000_000)]
        # FFmpeg resumes a dropped connection, instead of taking the break for the source's end.
        options += ["-reconnect", "1", "-reconnect_on_network_error", "1", "-reconnect_on_http_error", "5xx"]
        options += ["-reconnect_delay_max", "8"]
    if scheme == "https":
        options += ["-tls_verify", "1", "-ca_file", str(CA_FILE)]
    return options


def diagnose(stderr: str, *, opening: bool = False) -> Exception:
    """Return the error behind FFmpeg's error output: TaskFailedError, or OSError where a new try may help.

    `opening`: FFmpeg was still reading the header.
    """
    passing = _PASSING.search(stderr)
    if passing and (_NETWORK.search(stderr) or not _ENDS_EARLY.search(stderr)):
        return OSError(f"FFmpeg could not read or write: {passing[0]}")
    for pattern, code, info in _SYMPTOMS:
        if re.search(pattern, stderr, re.IGNORECASE):
            return TaskFailedError(code, info)
    if opening:
        return TaskFailedError(
            Failure.NOT_MEDIA, "The source is not a media file of a known kind, or its beginning is missing."
        )
    return TaskFailedError(
        Failure.DAMAGED, "The source is damaged: it could not be decoded. Export or upload it again."
    )


def is_cut_short(stderr: str) -> bool:
    """Return whether FFmpeg could not read its source to the end; its exit status does not show that."""
    messages = _HTTP.findall(stderr)
    return bool(messages) and not messages[-1].startswith("Will reconnect")


def complaints(kinds: Iterable[str], codec: str) -> frozenset[str]:
    """Return the kinds of messages about frames that could not be decoded, or only with errors.

    `kinds` are those of an `Encoder` that decodes `codec`.
    """
    decoder = f"[{codec} @ "
    return frozenset(
        kind
        for kind in kinds
        if _UNDECODED.search(kind) or (kind.startswith(decoder) and not _LEADING.search(kind))
    )


#: FFmpeg's own messages, whatever the codec.
_UNDECODED = re.compile("corrupt decoded frame|Error submitting packet to decoder|Decoding error: ")
#: Decoders' messages about frames that they skip: those shown before the keyframe that decoding begins with.
_LEADING = re.compile(
    "mmco: unref short failure|co located POCs unavailable|reference picture missing during reorder|"
    "Missing reference picture|number of reference frames .* exceeds max|Could not find ref with POC|"
    "Error constructing the frame RPS|Skipping invalid undecodable NALU|first frame is no keyframe"
)

#: Messages about a connection. 416, for a range behind the end of the file, is not a fault.
_HTTP = re.compile(
    r"^\[https? @ \w+\] (Will reconnect|.* prematurely|HTTP error (?!416)|Error reading)", re.MULTILINE
)

_PASSING = re.compile(
    "Connection timed out|Connection refused|Connection reset|Operation timed out|Server returned 5XX|"
    "HTTP error 5|Error reading HTTP response|(?<!error=)Input/output error|I/O error|The certificate is not",
    re.IGNORECASE,
)

#: What reads the network says so where it fails.
_NETWORK = re.compile(r"\[(?:https?|tls|tcp) @ ")
#: A file that ends inside its header, or that says so, is an "I/O error" to Matroska's demuxer, on any try.
_ENDS_EARLY = re.compile("File ended prematurely at pos|Truncating packet of size")

#: The `error_info` of ENCRYPTED.
ENCRYPTED_INFO = "The source is encrypted (DRM). Send it without encryption."

_SYMPTOMS = (
    (r"404 Not Found", Failure.SOURCE_NOT_FOUND, "The source has been removed while it was being read."),
    (r"403 Forbidden", Failure.SOURCE_FORBIDDEN, "The source may no longer be read by the service."),
    (
        _ENDS_EARLY.pattern,
        Failure.DAMAGED,
        "The source is damaged or incomplete: it ends too early. Upload the whole file again.",
    ),
    # FFmpeg could not read how samples are encrypted.
    (r"encryption info", Failure.ENCRYPTED, ENCRYPTED_INFO),
    (
        r"moov atom not found",
        Failure.DAMAGED,
        "The source is incomplete: its index (the moov box) is missing. Upload the whole file again.",
    ),
    (
        r"not on whitelist",
        Failure.NOT_MEDIA,
        "The source is not a media file of a supported kind (playlists and scripts are not).",
    ),
    (
        r"Decoder \S+ not found|Unsupported codec|no decoder|Decoding requested, but no decoder|"
        r"doesn't support hardware accelerated",
        Failure.CODEC_UNSUPPORTED,
        "The source is in a codec that is not supported.",
    ),
    (
        r"exceeds max_streams",
        Failure.DAMAGED,
        "The source announces more streams than a real one has. Export it again with fewer.",
    ),
    (
        r"Picture size \d+x\d+ is invalid",
        Failure.DIMENSIONS_UNSUPPORTED,
        "The source's picture has a size that cannot be decoded.",
    ),
)
