"""The console's function: its pages, and nothing else of the machine."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ENVIRONMENT, lambda_context

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "functions/pages"


@pytest.fixture
def get(environment: None) -> Any:
    console = importlib.import_module("console")

    def get(file: str | None = None, **headers: str) -> dict[str, Any]:
        event = {
            "path": "/console",
            "pathParameters": {"file": file} if file else None,
            "headers": headers or None,
            "requestContext": {"requestId": "0f2f6b5e-0000-4000-8000-000000000000"},
        }
        answer: dict[str, Any] = console.handler(event, lambda_context())
        return answer | {"headers": {name: value for name, (value,) in answer["multiValueHeaders"].items()}}

    return get


def test_every_file_is_answered_as_what_it_is(get: Any) -> None:
    types = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    assert get()["body"] == (PAGES / "index.html").read_text()
    for path in PAGES.iterdir():
        answer = get(path.name)
        assert answer["statusCode"] == 200
        assert answer["body"] == path.read_text()
        assert answer["headers"]["Content-Type"].partition(";")[0] == types[path.suffix]
        # Lambda's limit is 6 MB, in JSON.
        assert len(answer["body"]) < 2_000_000


@pytest.mark.parametrize(
    "name", ["console.py", "../console.py", "..%2fconsole.py", "/etc/passwd", ".", "", "a\0b", "x" * 9999]
)
def test_there_is_nothing_else(get: Any, name: str) -> None:
    answer = get(name) if name else get("nothing.html")
    assert answer["statusCode"] == 404
    assert answer["body"] == '{"errcode": 1404, "msg": "There is no such page."}'


def test_what_the_browser_has_is_not_sent_again(get: Any) -> None:
    tag = get("console.js")["headers"]["ETag"]
    for given in (tag, f"W/{tag}", f'"other", {tag}'):
        answer = get("console.js", **{"If-None-Match": given})
        assert (answer["statusCode"], answer["body"]) == (304, "")
        assert answer["headers"]["ETag"] == tag
    assert get("console.js", **{"If-None-Match": '"other"'})["statusCode"] == 200


def test_pages_load_from_nowhere_else(get: Any) -> None:
    policy = dict(
        directive.split(" ", 1) for directive in get()["headers"]["Content-Security-Policy"].split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["connect-src"].split() == [
        "'self'",
        ENVIRONMENT["UPLOAD_URL"],
        ENVIRONMENT["OUTPUT_BASE_URL"],
    ]
    for path in PAGES.iterdir():
        if path.name == "shaka-player.js":
            continue
        text = path.read_text()
        hosts = set(re.findall(r"https?://([\w.-]+)", text)) - {"www.w3.org"}
        assert not hosts, path.name
        # Nothing inline, which the policy would refuse.
        assert not re.search(r"\son\w+=|style=|innerHTML|insertAdjacentHTML|eval\(", text), path.name


def test_the_player_is_the_one_that_is_pinned() -> None:
    package = ROOT / "tests/browser/node_modules/shaka-player"
    if not package.exists():
        pytest.skip("the package is not installed")
    assert (PAGES / "shaka-player.js").read_bytes() == (
        package / "dist/shaka-player.compiled-es2021.js"
    ).read_bytes()


def test_both_languages_say_the_same() -> None:
    english, chinese = re.split(r"^  zh: \{", (PAGES / "words.js").read_text(), flags=re.MULTILINE)
    keys = [re.findall(r"^    (\w+):", text, re.MULTILINE) for text in (english, chinese)]
    assert keys[0] == keys[1]
    used = "".join(
        path.read_text() for path in PAGES.glob("*.js") if path.name not in {"words.js", "shaka-player.js"}
    )
    assert set(re.findall(r"\bwords\.(\w+)", used)) - {"js"} <= set(keys[0])
