"""Uploads by their URLs, as browsers and programs send them, on the running stack."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from local.stack import Stack
from tests.integration.conftest import PART, Api


def _put(url: str, part: bytes, **headers: str) -> Any:
    request = urllib.request.Request(url, part, headers, method="PUT")
    with urllib.request.urlopen(request, timeout=60) as response:
        return response.headers


def test_a_film_is_uploaded_in_two_goes_and_transcoded(
    api: Api, transcode: Callable[..., dict[str, Any]], s3: Any, stack: Stack, three_parts: Path
) -> None:
    file = three_parts.read_bytes()
    status, begun = api("POST", "create-upload", {"name": "我的 film.mkv", "size": len(file)})
    assert status == 200, begun
    assert begun["origin_url"].startswith(f"s3://{stack['upload_bucket']}/")
    assert len(begun["urls"]) == 3
    parts = [file[n * PART : (n + 1) * PART] for n in range(3)]
    _put(begun["urls"][2], parts[2])
    # Broken off: another process has the id alone.
    _, resumed = api("POST", "create-upload", {"upload_id": begun["upload_id"]})
    assert [bool(etag) for etag in resumed["etags"]] == [False, False, True]
    etags = [
        etag or _put(url, part)["ETag"]
        for etag, url, part in zip(resumed["etags"], resumed["urls"], parts, strict=True)
    ]
    for _ in range(2):
        status, done = api("POST", "complete-upload", {"upload_id": begun["upload_id"], "etags": etags})
        assert (status, done.get("origin_url")) == (200, begun["origin_url"]), done
    key = done["origin_url"].removeprefix(f"s3://{stack['upload_bucket']}/")
    assert s3.get_object(Bucket=stack["upload_bucket"], Key=key)["Body"].read() == file
    task = transcode(done["origin_url"], task_config_temp_id=1, format="mp4")
    assert (task["status"], task["error_info"]) == (2, "")


def test_a_page_of_the_api_may_send_parts_and_read_their_etags(api: Api, stack: Stack, s3: Any) -> None:
    (rule, others) = s3.get_bucket_cors(Bucket=stack["upload_bucket"])["CORSRules"]
    own = urlsplit(stack["api_url"])
    assert others["AllowedOrigins"] == [f"{own.scheme}://{own.netloc}"]
    assert rule["AllowedOrigins"] != ["*"]
    _, begun = api("POST", "create-upload", {"name": "clip.mp4", "size": 4})
    origin = others["AllowedOrigins"][0]
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "content-type",
    }
    preflight = urllib.request.Request(begun["urls"][0], headers=asked, method="OPTIONS")
    with urllib.request.urlopen(preflight, timeout=60) as response:
        assert response.headers["Access-Control-Allow-Origin"] in {"*", origin}
        assert "PUT" in response.headers["Access-Control-Allow-Methods"]
        assert response.headers["Access-Control-Allow-Headers"] in {"*", "content-type"}
    headers = _put(begun["urls"][0], b"clip", Origin=origin)
    assert headers["Access-Control-Allow-Origin"] in {"*", origin}
    assert headers["Access-Control-Expose-Headers"] in {"*", "ETag"}
    assert headers["ETag"]
