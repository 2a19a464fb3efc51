"""Runs FFmpeg for a plan, and interprets how it ended."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence

from aws_lambda_powertools import Logger

from transcoding.errors import SHORTAGE_INFO, EncoderLostError, Failure, TaskFailedError
from transcoding.media.encoding import command
from transcoding.media.ffmpeg.process import Encoder
from transcoding.media.ffmpeg.tools import diagnose, is_cut_short
from transcoding.media.planning.plan import Plan
from transcoding.pipeline.progress import POLL

#: After this long without progress, FFmpeg counts as stalled, seconds.
_STALL = 120.0
#: A result may be this much shorter than the source promised: containers round, and last packets get lost.
_SHORTFALL, _SHORTFALL_SECONDS = 0.05, 1.0

logger = Logger(child=True)


def encode(
    arguments: Sequence[str], plan: Plan, progress: Callable[[Encoder], None], patience: float = 0.0
) -> Encoder:
    """Run FFmpeg to its end, and return it as it ended; `progress` is called every `POLL` seconds.

    `patience` is how many seconds longer than others it may be without progress. Raises TaskFailedError where
    no attempt can succeed, OSError where another may (the second copies nothing, the third leaves out
    subtitles and thumbnails), and what `progress` raises.
    """
    with Encoder(arguments) as encoder:
        logger.info("encoding", command=encoder.command)
        reached, moved_at = (0.0, 0), time.monotonic()
        while encoder.wait(POLL) is None:
            _check_shortage(encoder)
            progress(encoder)
            now = time.monotonic()
            if (encoder.position, encoder.frames) != reached:
                reached, moved_at = (encoder.position, encoder.frames), now
            if now > moved_at + _STALL + patience:
                raise TaskFailedError(
                    Failure.TIMED_OUT,
                    f"The source could not be read any further: no progress in {_STALL + patience:.0f} s "
                    f"after second {encoder.position:.0f}. It may be damaged there.",
                )
    _check_end(plan, encoder)
    return encoder


def _check_shortage(encoder: Encoder) -> None:
    """Check that FFmpeg has not run out of storage or memory, even if it goes on. Raises TaskFailedError."""
    if encoder.shortage:
        logger.warning("FFmpeg has run short", shortage=encoder.shortage.name, stderr=encoder.errors)
        raise TaskFailedError(encoder.shortage, SHORTAGE_INFO[encoder.shortage])


def _check_end(plan: Plan, encoder: Encoder) -> None:
    """Raise the error that FFmpeg's end means, if it did not succeed: TaskFailedError or OSError."""
    _check_shortage(encoder)
    status, errors = encoder.wait(0), encoder.errors
    if status or errors:
        logger.warning("FFmpeg has complained", status=status, stderr=errors)
    if status in {None, -signal.SIGKILL}:
        # By hand, or by the kernel where memory is short.
        raise EncoderLostError("FFmpeg was killed")
    if status < 0:
        raise OSError(f"FFmpeg has crashed: signal {-status}")
    if plan.copies and (status > 0 or command.UNCOPYABLE.search(errors)):
        raise OSError("a stream could not be copied")
    if plan.texts and status > 0:
        raise OSError("FFmpeg has failed, perhaps over the subtitles")
    if plan.thumbnails and status > 0 and command.NO_TILES.search(errors):
        raise OSError("FFmpeg has failed over the thumbnails")
    if status > 0 or is_cut_short(errors):
        raise diagnose(errors)


def check_result(plan: Plan, frames: int, duration: float, complaints: str = "") -> None:
    """Check that a result has what the source promised. Raises TaskFailedError.

    `frames` are those of the picture, `duration` is the result's in seconds, `complaints` FFmpeg's error
    output.
    """
    if plan.pictures and frames == 0:
        raise TaskFailedError(
            Failure.DAMAGED, "The source's picture could not be decoded. Export or upload it again."
        )
    # FFmpeg is content with a source of whose sound it can decode nothing.
    if not plan.pictures and not duration:
        raise TaskFailedError(Failure.DAMAGED, "The source could not be decoded. Export or upload it again.")
    is_promise = not (plan.estimated or command.JUMPS.search(complaints))
    promised = (plan.duration or 0.0) if is_promise else 0.0
    if promised - duration > max(_SHORTFALL_SECONDS, _SHORTFALL * promised):
        raise TaskFailedError(
            Failure.DAMAGED,
            f"The source is damaged or incomplete: of its {promised:.1f} s only {duration:.1f} s "
            "could be read. Upload the whole file again.",
        )


def reached(plan: Plan, encoder: Encoder) -> float:
    """Return how far the result reaches, in seconds."""
    # FFmpeg's position is that of the stream that is furthest behind, even if it ended long before the rest.
    shown = encoder.frames / float(plan.pictures[0].rate) if plan.pictures else 0.0
    return max(encoder.position, shown)
