"""The console as its user sees it, in Chromium."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from local.package import FFMPEG_DIR
from local.stack import Stack
from tests.integration.playback import PAGES, chromium

AXE = PAGES / "node_modules/axe-core/axe.min.js"
SECONDS = 20
#: What the service makes of the name of the clip.
STORED = "film____b_fun.mp4"
#: Milliseconds: for a task, on a busy machine.
PATIENCE = 90_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium("axe-core") as browser:
        yield browser


@pytest.fixture
def open_console(browser: Browser, stack: Stack) -> Iterator[Callable[..., Page]]:
    """Open the console, at a place of it; without a key where `key` is empty."""
    contexts: list[BrowserContext] = []

    def open_(place: str = "/", key: str | None = None, **options: Any) -> Page:
        context = browser.new_context(
            **({"locale": "en-US", "viewport": {"width": 1200, "height": 800}} | options)
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        # An error of a script, or what the policy refuses, is none of the user's business.
        page.on("pageerror", lambda error: pytest.fail(f"the page fails: {error}"))
        key = stack["api_key"] if key is None else key
        page.goto(f"{stack['console_url']}#{f'key={quote(key)}&' if key else ''}{place}")
        return page

    yield open_
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip whose picture is first red, then blue, with subtitles and sound."""
    folder: Path = tmp_path_factory.mktemp("console")
    (folder / "words.srt").write_text("1\n00:00:00,500 --> 00:00:19,500\nGood evening\n")
    halves = "".join(f"color={c}:s=854x480:r=25:d={SECONDS // 2}[{c}];" for c in ("red", "blue"))
    command = [str(FFMPEG_DIR / "ffmpeg"), "-nostdin", "-v", "error", "-f", "lavfi"]
    command += [
        "-i",
        # Of one colour alone, all qualities but one are left out.
        f"{halves}[red][blue]concat[colour];testsrc2=s=300x160:r=25[corner];[colour][corner]overlay=554:320",
        "-f",
        "lavfi",
        "-i",
        f"sine=d={SECONDS}",
        "-i",
        "words.srt",
    ]
    command += ["-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-c:a", "aac", "-c:s", "mov_text"]
    command += ["-t", str(SECONDS)]
    subprocess.run([*command, "film & <b>fun.mp4"], check=True, cwd=folder)
    return folder / "film & <b>fun.mp4"


def obstacles(page: Page) -> list[str]:
    """What axe finds serious, on the page as it is."""
    # The page's own policy does not let it in; what evaluates is the browser.
    page.evaluate(AXE.read_text() + "; 0")
    found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    return [f"{v['id']}: {v['nodes'][0]['html']}" for v in found if v["impact"] in {"serious", "critical"}]


def until(page: Page, expression: str, seconds: float = 30) -> None:
    """Wait until an expression is true; what Playwright has for that, the page's policy refuses."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(100)


def colour(page: Page, selector: str) -> tuple[int, int, int]:
    """The mean colour of the middle of an element, as it is seen."""
    box = page.locator(selector).bounding_box()
    assert box
    clip = {
        "x": box["x"] + box["width"] / 2 - 8,
        "y": box["y"] + box["height"] / 3,
        "width": 16,
        "height": 16,
    }
    command = [str(FFMPEG_DIR / "ffmpeg"), "-v", "error", "-f", "png_pipe", "-i", "-", "-vf", "scale=1:1"]
    done = subprocess.run(
        [*command, "-pix_fmt", "rgb24", "-f", "rawvideo", "-"],
        input=page.screenshot(clip=clip),
        capture_output=True,
        check=True,
    )
    return tuple(done.stdout[:3])


def test_it_asks_for_the_key_and_keeps_it_for_the_session_alone(open_console: Any, stack: Stack) -> None:
    page = open_console(key="")
    page.get_by_label("API key").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("does not accept this key")
    assert obstacles(page) == []
    page.get_by_label("API key").fill(stack["api_key"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Tasks", exact=True)).to_be_visible()
    assert page.evaluate("Object.values(sessionStorage)") == [stack["api_key"]]
    assert stack["api_key"] not in page.evaluate(
        "JSON.stringify(localStorage) + document.cookie + location.href"
    )
    page.get_by_role("button", name="Forget the key").click()
    expect(page.get_by_label("API key")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_a_file_is_uploaded_transcoded_played_and_deleted(open_console: Any, film: Path) -> None:
    page = open_console("/new")
    assert "key=" not in page.url
    page.get_by_label("Quality").select_option(label="Adaptive")
    page.locator("#files").set_input_files(film)
    upload = page.get_by_role("listitem").filter(has_text=film.name)
    expect(upload).to_contain_text("Task created", timeout=PATIENCE)
    upload.get_by_role("link", name="Open").click()
    expect(page.get_by_role("heading", name=STORED)).to_be_visible(timeout=PATIENCE)
    # What is done covers nothing of the task's page.
    expect(upload).to_have_count(0)
    expect(page.locator(".lead .badge")).to_have_text("Succeeded", timeout=PATIENCE)

    # Its facts.
    rows = page.get_by_role("region", name="Renditions").get_by_role("row")
    expect(rows).to_have_count(3)
    expect(rows.nth(1)).to_contain_text(re.compile("854 . 480"))
    expect(rows.nth(1)).to_contain_text("H.264")
    expect(page.locator("dl")).to_contain_text("0:20")
    # Its thumbnails.
    bar = page.get_by_role("slider", name="Position")
    expect(bar).to_have_attribute("aria-valuetext", re.compile("0:00 / 0:(19|20)"))
    box = bar.bounding_box()
    for share, red in ((0.2, True), (0.9, False)):
        bar.hover(position={"x": share * box["width"], "y": box["height"] / 2})
        expect(page.locator(".preview")).to_be_visible()
        page.wait_for_timeout(300)
        seen = colour(page, ".preview .tile")
        assert (seen[0] > seen[2] + 80) == red, seen
    # Its qualities and subtitles.
    qualities = page.get_by_role("combobox", name="Quality")
    assert qualities.locator("option").all_text_contents() == ["Automatic", "480p", "360p"]
    page.evaluate("document.querySelector('video').playbackRate = 0.5")
    page.get_by_role("button", name="Play", exact=True).click()
    page.get_by_role("combobox", name="Subtitles").select_option(index=1)
    expect(page.locator(".picture").get_by_text("Good evening")).to_be_visible(timeout=20_000)
    qualities.select_option(label="360p")
    until(page, "document.querySelector('video').videoHeight === 360")
    page.evaluate("document.querySelector('video').playbackRate = 4")
    until(page, "document.querySelector('video').ended")
    assert page.evaluate("document.querySelector('video').webkitAudioDecodedByteCount") > 0
    assert page.locator("[role=alert]:visible").count() == 0
    assert obstacles(page) == []

    page.get_by_role("button", name="Delete").click()
    question = page.get_by_role("dialog")
    expect(question).to_contain_text(STORED)
    question.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Delete").click()
    question.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="Tasks", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name=STORED)).to_have_count(0)


def test_subtitles_of_a_short_film_come_when_they_are_switched_on_late(
    open_console: Any, transcode: Any, upload: Any, tmp_path: Path
) -> None:
    """All of it is loaded by then, and nothing else comes."""
    (tmp_path / "words.srt").write_text("1\n00:00:00,000 --> 00:00:04,000\nGood morning\n")
    film = tmp_path / "short.mkv"
    command = [str(FFMPEG_DIR / "ffmpeg"), "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=d=4"]
    codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:s", "srt"]
    subprocess.run([*command, "-i", str(tmp_path / "words.srt"), *codecs, str(film)], check=True)
    task = transcode(upload(film), format="m3u8", task_config_temp_id=1)
    page = open_console(f"/tasks/{task['id']}")
    choice = page.get_by_role("combobox", name="Subtitles")
    choice.wait_for()
    whole = "(video => video.buffered.length && video.buffered.end(0) >= video.duration - 0.1)"
    until(page, f"{whole}(document.querySelector('video'))")
    words = page.locator(".picture").get_by_text("Good morning")
    expect(words).not_to_be_visible()
    choice.select_option(index=1)
    expect(words).to_be_visible()
    choice.select_option(label="Off")
    expect(words).not_to_be_visible()


def test_an_upload_that_was_broken_off_goes_on_where_it_was(open_console: Any, three_parts: Path) -> None:
    page = open_console("/new")
    arrived: set[str] = set()
    gate = {"break": "23", "hold": ""}

    def pass_on(route: Any, request: Any) -> None:
        (part,) = re.findall("partNumber=([0-9]+)", request.url)
        if part in gate["break"]:
            route.abort()
        elif part not in gate["hold"]:
            route.continue_()

    def note(response: Any) -> None:
        # A busy stack has the page send a part again.
        if response.ok:
            arrived.update(re.findall("partNumber=([0-9]+)", response.url))

    page.route(re.compile("partNumber="), pass_on)
    page.on("response", note)
    page.locator("#files").set_input_files(three_parts)
    upload = page.get_by_role("listitem").filter(has_text=three_parts.name)
    again = upload.get_by_role("button", name="Go on")
    again.wait_for(timeout=PATIENCE)
    expect(upload).to_contain_text("does not answer")
    assert arrived == {"1"}
    assert obstacles(page) == []

    # It goes on, and the page is left before the last part has been sent.
    arrived.clear()
    gate |= {"break": "", "hold": "3"}
    again.click()
    deadline = time.monotonic() + PATIENCE / 1000
    while arrived != {"2"}:
        assert time.monotonic() < deadline, arrived
        page.wait_for_timeout(100)
    page.on("dialog", lambda dialog: dialog.accept())
    arrived.clear()
    gate["hold"] = ""
    page.reload()
    upload = page.get_by_role("listitem").filter(has_text=three_parts.name)
    upload.locator("input[type=file]").set_input_files(three_parts)
    expect(upload).to_contain_text("Task created", timeout=PATIENCE)
    assert arrived == {"3"}
    upload.get_by_role("link", name="Open").click()
    expect(page.locator(".lead .badge")).to_have_text("Succeeded", timeout=PATIENCE)


def test_an_upload_can_be_stopped_and_outlives_the_key(
    open_console: Any, three_parts: Path, stack: Stack
) -> None:
    page = open_console("/new")
    open_gate: list[bool] = []

    def hold(route: Any) -> None:
        if open_gate:
            route.continue_()

    page.route(re.compile("partNumber="), hold)
    page.get_by_label("Format").select_option("mp4")
    page.get_by_label("Quality").select_option(label="360p")
    page.locator("#files").set_input_files(three_parts)
    upload = page.get_by_role("listitem").filter(has_text=three_parts.name)
    upload.get_by_role("button", name="Stop").click()
    expect(upload).to_contain_text("MP4 · 360p")
    upload.get_by_role("button", name="Go on").click()
    expect(upload).to_contain_text("Sending")
    page.get_by_role("button", name="Forget the key").click()
    expect(upload).to_contain_text("Broken off")
    page.get_by_label("API key").fill(stack["api_key"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="New task")).to_be_visible()
    page.get_by_role("button", name="Hide").click()
    expect(upload).to_be_hidden()
    page.get_by_role("button", name="Show").click()
    assert obstacles(page) == []
    open_gate.append(True)
    upload.get_by_role("button", name="Go on").click()
    expect(upload).to_contain_text("Task created", timeout=PATIENCE)


def test_what_is_stopped_as_it_begins_is_begun_once_and_may_be_ordered_anew(
    open_console: Any, film: Path
) -> None:
    page = open_console("/new")
    begun: list[Any] = []
    known: list[dict[str, Any]] = []

    def hold(route: Any) -> None:
        known.append(route.request.post_data_json)
        if len(known) == 1:
            begun.append(route)
        else:
            route.continue_()

    page.route("**/create-upload", hold)
    page.locator("#files").set_input_files(film)
    upload = page.get_by_role("listitem").filter(has_text=film.name)
    for _ in range(2):
        upload.get_by_role("button", name="Stop").click()
        upload.get_by_role("button", name="Go on").click()
    upload.get_by_role("button", name="Stop").click()
    upload.get_by_role("button", name="Go on").wait_for()
    with page.expect_response("**/create-upload") as answer:
        begun[0].continue_()
    page.get_by_label("Format").select_option("mp4")
    page.get_by_label("Quality").select_option(label="360p")
    page.locator("#files").set_input_files(film)
    expect(upload).to_contain_text("Task created", timeout=PATIENCE)
    assert known[1] == {"upload_id": answer.value.json()["upload_id"]}
    with page.expect_response("**/get-transcode?*") as opened:
        upload.get_by_role("link", name="Open").click()
    assert opened.value.json()["transcoding"]["format"] == "mp4"


def tab_to(page: Page, name: str) -> None:
    """Press Tab until what has this name has the focus; that is to be seen, each time."""
    for _ in range(60):
        page.keyboard.press("Tab")
        here = page.evaluate(
            """() => {
              const one = document.activeElement, style = getComputedStyle(one);
              const names = [one.getAttribute("aria-label"), one.labels?.[0]?.textContent, one.textContent];
              const drop = one.closest("label");
              const marked = (s) =>
                (s.outlineStyle !== "none" && parseFloat(s.outlineWidth) > 0) || s.boxShadow !== "none";
              const seen = marked(style) || (drop && marked(getComputedStyle(drop)));
              return {name: names.find(Boolean)?.trim() ?? "", seen, body: one === document.body};
            }"""
        )
        if here["body"]:
            continue
        assert here["seen"], f"it is not to be seen that {here['name']!r} has the focus"
        if here["name"] == name:
            return
    pytest.fail(f"Tab does not lead to {name!r}")


def test_all_can_be_done_by_keyboard(open_console: Any, stack: Stack, film: Path, upload: Any) -> None:
    page = open_console(key="")
    expect(page.get_by_label("API key")).to_be_focused()
    page.keyboard.type(stack["api_key"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Tasks", exact=True)).to_be_visible()
    tab_to(page, "New task")
    page.keyboard.press("Enter")
    tab_to(page, "Format")
    page.keyboard.type("DASH")
    tab_to(page, "Quality")
    page.keyboard.type("Adaptive")
    tab_to(page, "Address")
    page.keyboard.type(upload(film))
    page.keyboard.press("Enter")
    expect(page.locator(".lead .badge")).to_have_text("Succeeded", timeout=PATIENCE)
    expect(page.locator("dl")).to_contain_text("DASH · Adaptive")

    video = "document.querySelector('video')"
    tab_to(page, "Play")
    page.keyboard.press("Enter")
    until(page, f"!{video}.paused && {video}.currentTime > 0")
    page.keyboard.press("Enter")
    until(page, f"{video}.paused")
    tab_to(page, "Position")
    before = page.evaluate(f"{video}.currentTime")
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    until(page, f"{video}.currentTime > {before} + 1 && !{video}.seeking")
    tab_to(page, "Quality")
    page.keyboard.press("ArrowDown")
    tab_to(page, "Subtitles")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".picture").get_by_text("Good evening")).to_be_visible()

    tab_to(page, "Delete")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name="Delete")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Tasks", exact=True)).to_be_visible()


def test_what_failed_says_why_and_what_to_do(open_console: Any, stack: Stack) -> None:
    page = open_console("/new")
    page.get_by_label("Address").fill("not an address")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("alert")).to_contain_text("An address looks like")
    page.get_by_label("Address").fill("https://user:password@example.com/film.mp4")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("alert")).to_contain_text("user name or password")
    page.get_by_label("Address").fill(f"s3://{stack['source_bucket']}/missing.mp4")
    page.get_by_label("Format").select_option("mp4")
    page.get_by_role("button", name="Start").click()
    expect(page.locator(".lead .badge")).to_have_text("Failed", timeout=PATIENCE)
    failed = page.locator(".failed")
    expect(failed).to_contain_text("error_code 1001")
    expect(failed).to_contain_text("Check the address")
    assert obstacles(page) == []
    page.get_by_role("link", name="Transcode again").click()
    expect(page.get_by_label("Address")).to_have_value(f"s3://{stack['source_bucket']}/missing.mp4")
    expect(page.get_by_label("Format")).to_have_value("mp4")


def test_many_are_listed_by_pages_and_deleted_by_keyboard(open_console: Any, api: Any) -> None:
    ids = [
        api("POST", "create-transcode", {"origin_url": "s3://no-such-bucket/clip.mp4", "format": "mp4"})[1][
            "id"
        ]
        for _ in range(17)
    ]
    page = open_console()
    expect(page.locator(".rows .row")).to_have_count(15)
    here = page.get_by_role("spinbutton", name="Go to page")
    page.get_by_role("link", name="Older").click()
    expect(here).to_have_value("2")
    page.get_by_role("link", name="Newer").click()
    expect(here).to_have_value("1")
    here.fill("99")
    here.press("Enter")
    expect(page.get_by_role("link", name="Newer")).to_be_visible()
    expect(here).not_to_have_value("99")
    here.fill("1")
    here.press("Enter")
    expect(page.locator(".rows .row")).to_have_count(15)
    assert obstacles(page) == []
    page.get_by_label("Select all of this page").focus()
    page.keyboard.press("Space")
    remove = page.get_by_role("button", name="Delete (15 selected)")
    remove.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("15 tasks were deleted")
    left = {task["id"] for task in api("GET", "get-transcodes", {"limit": 100})[1]["results"]}
    assert len(left & set(ids)) <= 2


@pytest.mark.parametrize("width", [800, 1280])
def test_in_the_list_no_text_covers_another(open_console: Any, api: Any, width: int) -> None:
    assert api("POST", "create-transcode", {"origin_url": "s3://no-such-bucket/clip.mp4", "format": "mp4"})
    page = open_console()

    def in_all_states(route: Any) -> None:
        answer = route.fetch()
        told = answer.json()
        first = told["results"][0]
        told["results"] = [first | {"id": f"task{n}", "status": n, "progress": 0.998} for n in range(4)]
        route.fulfill(response=answer, json=told)

    page.route(re.compile("get-transcodes"), in_all_states)
    page.set_viewport_size({"width": width, "height": 800})
    page.reload()
    expect(page.locator(".rows .row .badge")).to_have_text(["Waiting", "Running", "Succeeded", "Failed"])
    cells = "[...document.querySelectorAll('.row > *')].filter(one => one.scrollWidth > one.clientWidth + 1)"
    assert page.evaluate(f"{cells}.map(one => one.textContent)") == []


def test_it_speaks_chinese_on_a_telephone_in_the_dark(open_console: Any, api: Any, wait: Any) -> None:
    failed = api("POST", "create-transcode", {"origin_url": "s3://no-such-bucket/clip.mp4"})[1]["id"]
    assert wait(failed)["status"] == 3
    phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
    page = open_console(locale="zh-CN", color_scheme="dark", **phone)
    expect(page.get_by_role("heading", name="任务", exact=True)).to_be_visible()
    expect(page.locator(".rows .row").first).to_be_visible()
    assert page.evaluate("document.documentElement.lang") == "zh"
    for place in ("#/", f"#/tasks/{failed}", "#/new"):
        page.evaluate(f"location.hash = '{place}'")
        page.wait_for_timeout(300)
        # Nothing is wider than the screen.
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert obstacles(page) == []
        # The service tells in English why a task failed, and the page says so to who has it read out.
        page.evaluate("document.querySelectorAll('main [lang=en]').forEach((one) => one.remove())")
        assert not re.search(r"[A-Za-z]{3,} [a-z]{3,}", page.locator("main").inner_text())


def test_what_nobody_looks_at_is_not_asked_for(open_console: Any) -> None:
    page = open_console()
    expect(page.locator(".rows .row, .empty").first).to_be_visible()
    calls: list[str] = []
    page.on("request", lambda request: calls.append(request.url))
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true})")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for_timeout(17_000)
    assert len(calls) <= 1
