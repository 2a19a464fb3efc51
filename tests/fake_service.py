"""A transcoding service and its S3, behind an httpx transport: for tests of what calls them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import httpx

API_URL = "https://api.test/v1"
API_KEY = "right"
PART = 8


def task(id: str = "17lok52y", status: int = 0, **fields: Any) -> dict[str, Any]:
    """A task as get-transcode shows it."""
    done = status == 2
    return {
        "id": id,
        "created_at": "2010-11-22T15:16:17+08:00",
        "updated_at": "2010-11-22T15:16:17+08:00",
        "task_config_temp_id": 3,
        "origin_url": "s3://films/[bold]holiday.mov",
        "target_url": f"https://media.test/outputs/{id}/1/master.m3u8" if done else "",
        "format": "m3u8",
        "status": status,
        "progress": 1.0 if done else 0.0,
        "error_code": 1001 if status == 3 else 0,
        "error_info": "There is no s3://films/holiday.mov." if status == 3 else "",
        "output": OUTPUT if done else None,
    } | fields


OUTPUT = {
    "duration": 59.96,
    "bytes": 14600000,
    "renditions": [
        {
            "width": 1280,
            "height": 720,
            "frame_rate": 29.97,
            "codec": "avc1.64001f",
            "bit_rate": 1800000,
            "peak_bit_rate": 2900000,
        },
        {"codec": "mp4a.40.2", "bit_rate": 128000, "peak_bit_rate": 130000},
    ],
    "poster_url": "",
    "thumbnails_url": "",
}


class FakeService:
    """Answers as the service does. `fault`, where it returns a response or raises, is in its place."""

    def __init__(self) -> None:
        #: What get-transcode answers, one after the other; the last one again and again.
        self.states = [task()]
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.requests: list[httpx.Request] = []
        self.parts: dict[int, bytes] = {}
        self.size = 0
        self.uploads = 0
        self.objects: list[bytes] = []
        #: The most URLs of one call.
        self.page = 1000
        self.fault: Callable[[httpx.Request], httpx.Response | None] = lambda _: None
        self.transport = httpx.MockTransport(self._handle)

    def made(self, name: str) -> list[dict[str, Any]]:
        """The parameters of each call of this name."""
        return [parameters for call, parameters in self.calls if call == name]

    def _handle(self, request: httpx.Request) -> httpx.Response:
        body = request.read()
        self.requests.append(request)
        faulty = self.fault(request)
        if faulty is not None:
            return faulty
        if request.url.host == "s3.test":
            return self._store(request, body)
        if request.headers.get("x-api-key") != API_KEY:
            return refusal(403, "The API key in the header x-api-key is missing or wrong.")
        assert request.url.path.startswith("/v1/transcoding/api/")
        name = request.url.path.rpartition("/")[2]
        parameters = json.loads(body) if body else dict(request.url.params)
        self.calls.append((name, parameters))
        answer = getattr(self, f"_{name.replace('-', '_')}")(parameters)
        if isinstance(answer, httpx.Response):
            return answer
        return httpx.Response(200, json={"errcode": 1000, "msg": "OK"} | answer)

    def _store(self, request: httpx.Request, body: bytes) -> httpx.Response:
        # What the signature of a part's URL covers.
        number = int(request.url.params["partNumber"])
        expected = min(PART, self.size - (number - 1) * PART)
        if request.headers["Content-Length"] != str(expected) or len(body) != expected:
            return httpx.Response(403, text="<Error><Code>SignatureDoesNotMatch</Code></Error>")
        self.parts[number] = body
        return httpx.Response(200, headers={"ETag": f'"{self._etag(number)}"'})

    def _etag(self, number: int) -> str:
        return hashlib.md5(self.parts[number]).hexdigest() if number in self.parts else ""

    def _create_transcode(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"id": self.states[-1]["id"]}

    def _get_transcode(self, parameters: dict[str, Any]) -> Any:
        if parameters["id"] != self.states[-1]["id"]:
            return refusal(404, f"no such task: {parameters['id']}")
        return {"transcoding": self.states.pop(0) if len(self.states) > 1 else self.states[0]}

    def _get_transcodes(self, _: dict[str, Any]) -> dict[str, Any]:
        shown = [{name: value for name, value in state.items() if name != "output"} for state in self.states]
        return {"results": shown, "count": 33}

    def _delete_transcode(self, _: dict[str, Any]) -> dict[str, Any]:
        return {}

    def _delete_transcodes(self, parameters: dict[str, Any]) -> Any:
        unknown = [name for name in parameters["ids"].split(",") if name.startswith("never")]
        return refusal(404, f"no such task: {', '.join(unknown)}") if unknown else {}

    def _create_upload(self, parameters: dict[str, Any]) -> Any:
        if "upload_id" not in parameters:
            self.parts, self.size = {}, parameters["size"]
            self.uploads += 1
        elif parameters["upload_id"] != f"upload-{self.uploads}":
            return refusal(404, "no such upload")
        count = -(-self.size // PART)
        first = parameters.get("first_part", 1)
        numbers = range(first, min(first + self.page, count + 1))
        return {
            "upload_id": f"upload-{self.uploads}",
            "origin_url": "s3://uploads/film.mov",
            "part_size": PART,
            "urls": [f"https://s3.test/film.mov?partNumber={n}&signed={len(self.calls)}" for n in numbers],
            "etags": [self._etag(number) for number in numbers],
        }

    def _complete_upload(self, parameters: dict[str, Any]) -> Any:
        count = -(-self.size // PART)
        if parameters["etags"] != [self._etag(number) for number in range(1, count + 1)]:
            return refusal(400, "etags: part 1 has another ETag")
        self.objects.append(b"".join(self.parts[number] for number in range(1, count + 1)))
        return {"origin_url": "s3://uploads/film.mov"}


def refusal(status: int, msg: str, **headers: str) -> httpx.Response:
    """An answer of the service that is not OK."""
    return httpx.Response(status, json={"errcode": 1000 + status, "msg": msg}, headers=headers)
