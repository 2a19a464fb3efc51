"""What the end of FFmpeg says of the source."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any, cast

import pytest

from transcoding.errors import EncoderLostError, TaskFailedError
from transcoding.pipeline import encode


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (-signal.SIGKILL, EncoderLostError),
        (None, EncoderLostError),
        (-signal.SIGSEGV, OSError),
        (-signal.SIGSYS, OSError),
        (1, TaskFailedError),
    ],
)
def test_a_crash_is_an_error_and_a_kill_is_not(status: int | None, error: type[Exception]) -> None:
    plan = SimpleNamespace(copies=False, texts=(), thumbnails=False)
    ended = SimpleNamespace(wait=lambda seconds: status, errors="", shortage=None)
    with pytest.raises(error) as raised:
        encode._check_end(cast(Any, plan), cast(Any, ended))
    assert type(raised.value) is error
