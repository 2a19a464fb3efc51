"""Plays what the service has made in Chromium, as a viewer's page would: from another origin."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
PAGES = Path(__file__).parents[1] / "browser"
PACKAGES = ("hls.js", "dashjs", "shaka-player")
#: What plays a target by default, by the extension of its path; else Chromium by itself.
USUAL = {"m3u8": "hls.js", "mpd": "dash.js"}

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
class Choose:
    """From `at` (seconds of media) on, load the rendition of this height; None: as the player sees fit."""

    at: float
    height: int | None


@dataclass(frozen=True)
class Throttle:
    """From `at` (seconds of media) on, the network carries so many bits a second; None: all it can."""

    at: float
    bit_rate: float | None


@dataclass(frozen=True)
class Play:
    """What to play, from the start to the end or to `until`; frames and subtitles are looked at afterwards.

    `rate` is the speed, up to 16; `patience` the seconds after which playing is given up with an error;
    `buffer` the seconds of media that the player loads ahead, None as it likes. `changes` are in order; a
    `Throttle` at 0 that is the first holds before anything is loaded.
    """

    url: str
    #: "hls.js", "dash.js", "shaka" or "chromium"; empty: what plays such a file as a rule.
    player: str = ""
    until: float | None = None
    rate: float = 1.0
    patience: float = 60.0
    buffer: float | None = None
    changes: Sequence[Choose | Throttle] = ()
    looks: Sequence[Look] = ()
    reads: Sequence[float] = ()


@dataclass(frozen=True)
class Shown:
    """A frame that was shown: its time in seconds, its height, and the number in its picture (`numbered`)."""

    time: float
    height: int
    number: int


def numbered(width: int) -> str:
    """Return FFmpeg's filters that write each frame's number into its picture, of this width in pixels."""
    side = width // 10
    boxes = [f"drawbox=x=0:y=0:w=iw:h={side}:color=black:t=fill"]
    boxes += [
        f"drawbox=x={side * bit}:y=0:w={side}:h={side}:color=white:t=fill:enable='bitand(n,{1 << bit})'"
        for bit in range(10)
    ]
    return ",".join(boxes)


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
    #: When the page gave the decoder another codec (its media type), or began anew ("emptied").
    resets: list[tuple[float, str]]
    #: Fatal and other errors of the player, of the media element and of the page.
    errors: list[str]
    width: int
    height: int
    frames: int
    dropped: int
    #: Bytes of sound that were decoded.
    sound_bytes: int
    #: The frames that were shown while it played; a busy machine drops others.
    shown: list[Shown]
    #: Mean red, green and blue (0 to 255) of each look; empty after errors.
    colors: list[Color] = field(default_factory=list)
    #: The subtitles shown at each of the times to be read; empty after errors.
    texts: list[str] = field(default_factory=list)
    #: The URLs of all that was loaded, in order.
    loaded: list[str] = field(default_factory=list)

    @property
    def heights(self) -> list[tuple[float, int]]:
        """When the picture had another height than before, and which."""
        before = [0, *(frame.height for frame in self.shown)]
        return [
            (f.time, f.height) for f, height in zip(self.shown, before, strict=False) if f.height != height
        ]


@contextmanager
def chromium(*packages: str) -> Iterator[Browser]:
    """Run a Chromium. Where it, or one of these packages of npm, is not installed, the tests are skipped."""
    for needed in (CHROMIUM, *(PAGES / "node_modules" / name for name in packages)):
        if not needed.exists():
            pytest.skip(f"tests in Chromium: {needed} is missing")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
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
        yield browser
        browser.close()


class Player:
    """A Chromium that plays URLs, each in a page of its own.

    with Player() as player:
        playback = player.play(task["target_url"], looks=[Look(0.5), Look(1.5)])

    Where Chromium or a player library is not installed, the tests that want it are skipped.
    """

    def __enter__(self) -> Self:
        self._running = ExitStack()
        self._browser = self._running.enter_context(chromium(*PACKAGES))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietFiles, directory=str(PAGES)))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()
        self._server.shutdown()
        self._server.server_close()

    def play(self, url: str, **how: Any) -> Playback:
        """Play a URL as a `Play` of these fields says."""
        return self.play_together([Play(url, **how)])[0]

    def play_together(self, plays: Sequence[Play]) -> list[Playback]:
        """Play side by side, each in a page and with a network of its own; return how each went, in order."""
        pages = [_Page(self._browser.new_page(), play, self._server.server_port) for play in plays]
        try:
            for page in pages:
                page.start()
            return [page.finish() for page in pages]
        finally:
            for page in pages:
                page.close()


class _Page:
    """A page that plays one URL."""

    def __init__(self, page: Page, play: Play, port: int) -> None:
        self._page = page
        self._play = play
        self._errors: list[str] = []
        self._loaded: list[str] = []
        page.on("request", lambda request: self._loaded.append(request.url))
        page.on("pageerror", lambda error: self._errors.append(f"page: {error}"))
        page.goto(f"http://127.0.0.1:{port}/player.html")
        self._network = page.context.new_cdp_session(page)
        self._network.send("Network.enable")
        page.expose_function("throttle", self._throttle)

    def start(self) -> None:
        changes = list(self._play.changes)
        if changes and isinstance(changes[0], Throttle) and not changes[0].at:
            self._throttle(changes[0].bit_rate)
        usual = USUAL.get(urlsplit(self._play.url).path.rpartition(".")[2], "chromium")
        orders = asdict(self._play) | {"player": self._play.player or usual}
        self._page.evaluate("orders => { window.playing = play(orders); }", orders)

    def finish(self) -> Playback:
        result: dict[str, Any] = self._page.evaluate("playing")
        self._throttle(None)
        colors: list[Color] = []
        texts: list[str] = []
        if not result["errors"]:
            for look in self._play.looks:
                what = {"time": look.time, "region": look.region}
                colors.append(tuple(self._page.evaluate("what => look(what)", what)))
            texts = [self._page.evaluate("read", time) for time in self._play.reads]
        seen = {"errors": result["errors"] + self._errors, "colors": colors, "texts": texts}
        seen["loaded"] = self._loaded
        seen["shown"] = [Shown(*frame) for frame in result["shown"]]
        return Playback(**result | seen)

    def close(self) -> None:
        self._page.close()

    def _throttle(self, bit_rate: float | None) -> None:
        conditions = {"offline": False, "latency": 0, "uploadThroughput": -1}
        conditions["downloadThroughput"] = -1 if bit_rate is None else bit_rate / 8
        self._network.send("Network.emulateNetworkConditions", conditions)


class _QuietFiles(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass
