"""Subtitles as WebVTT: reads what FFmpeg has written, makes it harmless, cuts it into segments."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

#: The media type of WebVTT.
CONTENT_TYPE = "text/vtt"

#: Length of a segment, seconds: text is small, and its target duration may differ (RFC 8216, 6.2.4).
SEGMENT_SECONDS = 60

#: Limits far above any text that is meant to be read: of a stream in bytes and cues, of a cue and of a
#: segment in characters.
MAX_BYTES, MAX_CUES = 8 * 1024 * 1024, 20_000
MAX_CUE, _MAX_SEGMENT = 2000, 100_000

#: Where each segment's times count from: the beginning of the media (RFC 8216, 3.5).
_TIMESTAMP_MAP = "X-TIMESTAMP-MAP=MPEGTS:0,LOCAL:00:00:00.000"

#: FFmpeg's length of a cue that stays until the next one, milliseconds.
_OPEN_END = 2**32 - 1000

_TIME = r"(?:(\d{1,4}):)?(\d{2}):(\d{2})\.(\d{3})"
_TIMING = re.compile(rf"{_TIME}[ \t]+-->[ \t]+{_TIME}([ \t].*)?")
#: No `region`: the definitions of regions are not taken over.
_SETTING = re.compile(r"(?:vertical|line|position|size|align):[\w.,%+-]+")
_TAG = re.compile(r"</?(?:[biu]|c|v|lang|ruby|rt)(?:\.[\w.-]+)*(?:[ \t][^<>&\n]*)?>")
_ENTITY = re.compile(r"&(?:amp|lt|gt|lrm|rlm|nbsp|#\d{1,7}|#[xX][0-9a-fA-F]{1,6});")
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
#: What libass would draw as a shape.
_DRAWING = re.compile(r"m(?:[ \t]+(?:[mnlbspc]|-?\d+(?:\.\d+)?))+")


@dataclass(frozen=True, slots=True)
class Cue:
    """A text and when it is shown, in milliseconds; `settings` say where."""

    start: int
    end: int
    text: str
    settings: str = ""


def read(vtt: bytes, duration: float) -> list[Cue]:
    """Return the cues of what FFmpeg wrote, in order, all within the media's `duration` in seconds."""
    found: list[Cue] = []
    texts: list[list[str]] = []
    # A line that is not a timing belongs to the cue before, also after a blank line: text may have those.
    for line in vtt[:MAX_BYTES].decode(errors="replace").replace("\0", "").splitlines():
        timing = _TIMING.fullmatch(line)
        if timing:
            settings = " ".join(s for s in (timing[9] or "").split() if _SETTING.fullmatch(s))
            start, end = _milliseconds(timing.groups()[:4]), _milliseconds(timing.groups()[4:8])
            found.append(Cue(start, end, "", settings))
            texts.append([])
        elif texts:
            texts[-1].append(line)
    cues = [replace(cue, text=_clean(text)) for cue, text in zip(found, texts, strict=True)]
    return _within(sorted(cues[:MAX_CUES], key=lambda cue: cue.start), int(duration * 1000))


def _within(cues: Sequence[Cue], end: int) -> list[Cue]:
    nexts = [*(cue.start for cue in cues[1:]), end]
    lasts = [
        min(end, following) if cue.end - cue.start >= _OPEN_END else min(end, cue.end)
        for cue, following in zip(cues, nexts, strict=False)
    ]
    ended = [replace(cue, end=last) for cue, last in zip(cues, lasts, strict=True)]
    return [cue for cue in ended if cue.text and cue.start < cue.end]


def whole(cues: Sequence[Cue]) -> str:
    """Render all cues as one file."""
    return _render("WEBVTT", cues)


def segments(cues: Sequence[Cue], duration: float) -> list[tuple[int, int, str]]:
    """Return (start, end, text) of each segment of a result of `duration` seconds, times in milliseconds.

    A cue that is shown in several segments is in each of them; a segment may have none.
    """
    length, end = SEGMENT_SECONDS * 1000, int(duration * 1000)
    starts = range(0, max(end, 1), length)
    inside: list[list[Cue]] = [[] for _ in starts]
    room = [_MAX_SEGMENT] * len(starts)
    for cue in cues:
        for n in range(cue.start // length, (cue.end - 1) // length + 1):
            room[n] -= len(cue.text)
            if room[n] >= 0:
                inside[n].append(cue)
    header = f"WEBVTT\n{_TIMESTAMP_MAP}"
    return [
        (start, min(start + length, end), _render(header, part))
        for start, part in zip(starts, inside, strict=True)
    ]


def _render(header: str, cues: Sequence[Cue]) -> str:
    blocks = [header]
    for cue in cues:
        timing = f"{_clock(cue.start)} --> {_clock(cue.end)} {cue.settings}".rstrip()
        blocks.append(f"{timing}\n{cue.text}")
    return "\n\n".join(blocks) + "\n"


def _clean(lines: Sequence[str]) -> str:
    """Return a cue's text: of limited length, without blank lines, and with no markup but WebVTT's tags."""
    # ASS writes a no-break space as \h.
    kept = [line.replace(r"\h", "\N{NO-BREAK SPACE}").strip() for line in lines]
    kept = [line for line in kept if line and not _DRAWING.fullmatch(line)]
    text = "\n".join(kept)[:MAX_CUE]
    clean, at = [], 0
    for markup in re.finditer(f"{_TAG.pattern}|{_ENTITY.pattern}", text):
        clean += [text[at : markup.start()].translate(_ESCAPES), markup[0]]
        at = markup.end()
    return "".join([*clean, text[at:].translate(_ESCAPES)])


def _milliseconds(clock: Sequence[str | None]) -> int:
    hours, minutes, seconds, thousandths = (int(part or 0) for part in clock)
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + thousandths


def _clock(milliseconds: int) -> str:
    seconds, thousandths = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{thousandths:03d}"
