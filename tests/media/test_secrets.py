"""What a worker logs lets nobody in: neither to a source behind a signed URL nor to the service's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import ClassVar

import pytest

from tests.media.conftest import CREDENTIALS
from transcoding.model import Status

H264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"
QUERY = "X-Signature=s3cretSignatur3OfTh3Us3r&n=1"
#: A signature of the service's own is made anew for each URL.
SECRETS = ("s3cretSignatur3OfTh3Us3r", "X-Amz-Signature", *CREDENTIALS)


class Signed(BaseHTTPRequestHandler):
    """Serves films to those who have signed, with a header that is none: HTTP libraries complain."""

    films: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        film = self.films.get(path) if query == QUERY else None
        self.send_response(403 if film is None else 200)
        self.wfile.write(b"".join([*self._headers_buffer, b"No header\r\n\r\n"]))
        self.wfile.write(film or b"")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Signed) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_source_behind_a_signed_url(clips, worker, web):
    clip = clips("film.mkv", f"-f lavfi -i testsrc2=s=640x480:r=25:d=1 {H264} {{0}}")
    Signed.films = {"/film.mkv": clip.read_bytes(), "/letter.mkv": b"Dear all,\n" * 100}
    logged = ""
    for name, kind, status in [
        ("film", "mp4", Status.SUCCEEDED),
        ("film", "m3u8", Status.SUCCEEDED),
        ("letter", "mp4", Status.FAILED),
        ("none", "mp4", Status.FAILED),
    ]:
        id_ = worker.create(f"{web}/{name}.mkv?{QUERY}#s3cretSignatur3OfTh3Us3r", kind)
        logged += worker.run()
        task = worker.table.get(id_)
        assert task.status is status
        assert not [secret for secret in SECRETS if secret in task.error_info]
    # The origin, FFmpeg's command, and what urllib3 has to say of the header.
    assert f'"origin_url":"{web}/film.mkv?…"' in logged
    assert "/source?… -map" in logged
    assert f"Failed to parse headers (url={web}/film.mkv?…" in logged
    assert not [secret for secret in SECRETS if secret in logged]


@pytest.mark.parametrize("format", ["mp4", "m3u8"])
def test_a_source_that_ffmpeg_complains_of(clips, s3, worker, format):
    clip = clips("film.mkv", f"-f lavfi -i testsrc2=s=640x480:r=25:d=1 {H264} {{0}}")
    s3.put_object(Bucket="source", Key="film.mkv", Body=clip.read_bytes())
    id_ = worker.create("s3://source/film.mkv", format)
    logged = worker.run("--remove-source")
    assert worker.table.get(id_).error_code == 1001
    (complaint,) = [line for line in logged.splitlines() if "FFmpeg has complained" in line]
    assert "/source/film.mkv?…" in json.loads(complaint)["stderr"]
    assert not [secret for secret in SECRETS if secret in logged]
