"""Plays what the service has made in Chromium, as a viewer's page would: from another origin."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from playwright.sync_api import sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
PAGES = Path(__file__).parents[1] / "browser"

Color = tuple[float, float, float]
#: Left, top, right and bottom as fractions of the picture.
Region = tuple[float, float, float, float]
WHOLE: Region = (0, 0, 1, 1)


@dataclass(frozen=True)
class Look:
    """A frame to look at: the one shown at a time in seconds, in a region of the picture."""

    time: float
    region: Region = WHOLE


@dataclass(frozen=True)
class Playback:
    """How playing went. Times are seconds of media, however fast they were played."""

    duration: float
    played: float
    #: What was there at the end, from and to; more than one range where there are gaps.
    buffered: list[tuple[float, float]]
    #: Where playing stood still for want of data, after it had started.
    stalls: list[float]
    #: Where the player moved on to by itself, over a gap for example.
    jumps: list[float]
    #: Fatal and other errors of the player, of the media element and of the page.
    errors: list[str]
    width: int
    height: int
    frames: int
    dropped: int
    #: Bytes of sound that were decoded.
    sound_bytes: int
    #: Mean red, green and blue (0 to 255) of each look; empty after errors.
    colors: list[Color] = field(default_factory=list)
    #: The subtitles shown at each of the times to be read; empty after errors.
    texts: list[str] = field(default_factory=list)


class Player:
    """A Chromium that plays one URL after another, each in a page of its own.

    with Player() as player:
        playback = player.play(task["target_url"], looks=[Look(0.5), Look(1.5)])

    Where Chromium or a player library is not installed, the tests that want it are skipped.
    """

    def __enter__(self) -> Self:
        for needed in (CHROMIUM, PAGES / "node_modules" / "hls.js", PAGES / "node_modules" / "dashjs"):
            if not needed.exists():
                pytest.skip(f"playback in Chromium: {needed} is missing")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietFiles, directory=str(PAGES)))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self._playwright = sync_playwright().start()
        self._browser = self._playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--autoplay-policy=no-user-gesture-required",
            ],
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._browser.close()
        self._playwright.stop()
        self._server.shutdown()
        self._server.server_close()

    def play(
        self,
        url: str,
        *,
        until: float | None = None,
        rate: float = 1.0,
        patience: float = 60.0,
        looks: Sequence[Look] = (),
        reads: Sequence[float] = (),
    ) -> Playback:
        """Play from the start to the end, or to `until`; look at frames and read subtitles afterwards.

        `rate` is the speed, up to 16; `patience` the seconds after which playing is given up with an error.
        """
        page = self._browser.new_page()
        try:
            page_errors: list[str] = []
            page.on("pageerror", lambda error: page_errors.append(f"page: {error}"))
            page.goto(f"http://127.0.0.1:{self._server.server_port}/player.html")
            orders = {"url": url, "until": until, "rate": rate, "patience": patience}
            result: dict[str, Any] = page.evaluate("orders => play(orders)", orders)
            colors: list[Color] = [
                tuple(page.evaluate("what => look(what)", {"time": look.time, "region": look.region}))
                for look in (() if result["errors"] else looks)
            ]
            texts = [page.evaluate("read", time) for time in (() if result["errors"] else reads)]
            seen = {"errors": result["errors"] + page_errors, "colors": colors, "texts": texts}
            return Playback(**result | seen)
        finally:
            page.close()


class _QuietFiles(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass
