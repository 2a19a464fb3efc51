"""GET /console: the files in `pages/`, which are the console. Its data come through the calls of the API."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aws_lambda_powertools.logging.correlation_paths import API_GATEWAY_REST
from aws_lambda_powertools.utilities.typing import LambdaContext

from transcoding.logs import create_logger
from transcoding.settings import ConsoleSettings

#: The kinds of files there are, by suffix; all are text.
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

settings = ConsoleSettings.read()
logger = create_logger()


@dataclass(frozen=True, slots=True)
class Page:
    """A file as it is answered, and its ETag."""

    body: str
    content_type: str
    etag: str


def _read(folder: Path) -> dict[str, Page]:
    """Return the pages of a folder by name. What is not there when the function starts is not served."""
    pages = {}
    for path in folder.iterdir():
        if path.suffix in TYPES:
            body = path.read_text(encoding="utf-8")
            etag = f'"{hashlib.sha256(body.encode()).hexdigest()[:32]}"'
            pages[path.name] = Page(body, TYPES[path.suffix], etag)
    return pages


def _policy(*urls: str) -> str:
    """Return the Content-Security-Policy: the pages, the calls, and media and uploads at the URLs."""
    origins = " ".join(sorted({f"{url.scheme}://{url.netloc}" for url in map(urlsplit, urls) if url.netloc}))
    return "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            f"img-src 'self' {origins}",
            f"media-src blob: {origins}",
            f"connect-src 'self' {origins}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


PAGES = _read(Path(__file__).parent / "pages")
HEADERS = {
    # A browser asks each time whether what it has is current: a new release is seen at once.
    "Cache-Control": ["no-cache"],
    "Content-Security-Policy": [_policy(settings.output_base_url, settings.upload_url)],
    "Cross-Origin-Opener-Policy": ["same-origin"],
    "Referrer-Policy": ["no-referrer"],
    "Strict-Transport-Security": ["max-age=31536000"],
    "X-Content-Type-Options": ["nosniff"],
}


@logger.inject_lambda_context(correlation_id_path=API_GATEWAY_REST)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer an API Gateway proxy event: a page, 304 where the browser has it, 404 where there is none."""
    name = (event.get("pathParameters") or {}).get("file", "index.html")
    page = PAGES.get(name)
    if page is None:
        body = json.dumps({"errcode": 1404, "msg": "There is no such page."})
        return _answer(404, body, {"Content-Type": ["application/json; charset=utf-8"]})
    headers = HEADERS | {"Content-Type": [page.content_type], "ETag": [page.etag]}
    given = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    # Proxies that compress make the tag a weak one.
    known = [tag.strip().removeprefix("W/") for tag in given.get("if-none-match", "").split(",")]
    return _answer(304, "", headers) if page.etag in known else _answer(200, page.body, headers)


def _answer(status: int, body: str, headers: dict[str, list[str]]) -> dict[str, Any]:
    return {"statusCode": status, "multiValueHeaders": headers, "body": body, "isBase64Encoded": False}
