"""The real programs, started by a real worker: what they see of it, and what ends them."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.media.conftest import CREDENTIALS, TOOLS
from transcoding.errors import Failure, TaskFailedError
from transcoding.media.ffmpeg import process
from transcoding.model import Status

H264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"


@pytest.fixture
def noted(tmp_path: Path) -> Path:
    """Make a folder of the programs, and of what Python reads first, that note what environment they get."""
    for program in (TOOLS.ffmpeg, TOOLS.ffprobe):
        script = tmp_path / program.name
        script.write_text(f'#!/bin/sh\ncat /proc/$$/environ > {script}.environ\nexec {program} "$@"\n')
        script.chmod(0o755)
    (tmp_path / "sitecustomize.py").write_text(
        "from pathlib import Path\n"
        "if 'inspection.index' in Path('/proc/self/cmdline').read_text():\n"
        f"    Path('{tmp_path}/index.environ').write_bytes(Path('/proc/self/environ').read_bytes())\n"
    )
    return tmp_path


def test_no_program_sees_anything_of_the_role(clips, s3, worker, noted):
    # To be copied into segments, so that its keyframes are asked for.
    clip = clips("film.mp4", f"-f lavfi -i testsrc2=s=320x180:r=25:d=20 {H264} -g 25 {{0}}")
    s3.put_object(Bucket="source", Key=clip.name, Body=clip.read_bytes())
    folders = f"{noted}:{worker.environment['PYTHONPATH']}"
    worker = replace(
        worker, environment=worker.environment | {"FFMPEG_DIR": str(noted), "PYTHONPATH": folders}
    )
    id_ = worker.create(f"s3://source/{clip.name}", "m3u8")
    logged = worker.run()
    assert worker.table.get(id_).status is Status.SUCCEEDED, logged
    for program, own in (("ffmpeg", {"SVT_LOG"}), ("ffprobe", set()), ("index", {"PYTHONPATH"})):
        environment = (noted / f"{program}.environ").read_text()
        names = {line.partition("=")[0] for line in environment.split("\0") if line}
        assert names == {"PATH", "TMPDIR"} | own
        assert not [secret for secret in CREDENTIALS if secret in environment]


#: Answers that each name is this machine, serves a folder, and has the programs read a file of it by a name.
NAMED = """
import http.server, math, os, socket, struct, sys, threading
from functools import partial
from pathlib import Path
from transcoding.media.ffmpeg.tools import Tools
from transcoding.media.inspection.probe import probe, with_keyframes

def answer(server):
    while True:
        asked, sender = server.recvfrom(512)
        end = asked.index(bytes(1), 12) + 5
        address = struct.pack(">HHHIH", 0xC00C, 1, 1, 60, 4) + bytes([127, 0, 0, 1])
        found = address if asked[end - 4 : end - 2] == b"\\0\\1" else b""
        head = asked[:2] + struct.pack(">HHHHH", 0x8180, 1, bool(found), 0, 0)
        server.sendto(head + asked[12:end] + found, sender)

names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
names.bind(("127.0.0.1", 53))
threading.Thread(target=answer, args=[names], daemon=True).start()
handler = partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://media.example.test:{server.server_address[1]}/film.mp4"
facts = probe(Tools.within(Path(sys.argv[2])), url, 1, math.inf)
print(facts.duration)
with_keyframes(facts, url)
"""


def test_the_programs_look_names_up(clips: Any, tmp_path: Path) -> None:
    """The sandbox must not keep a resolver from its work: on AWS, each source has a name."""
    clip = clips("film.mp4", f"-f lavfi -i testsrc2=s=320x180:r=25:d=20 {H264} -g 25 {{0}}")
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\n")
    # A view of the machine with another file of name servers, which takes root.
    begin = f"mount --bind {resolver} /etc/resolv.conf && exec "
    command = ["unshare", "--mount", "sh", "-c", begin + '"$@"', "sh"]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("the file of name servers cannot be replaced without root")
    done = subprocess.run(
        [*command, sys.executable, "-c", NAMED, str(clip.parent), str(TOOLS.ffprobe.parent)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(process.__file__).parents[3])},
        timeout=60,
    )
    assert done.stdout == "20.0\n", done.stderr
    # ffprobe and the reader of indexes.
    assert done.stderr.count('"GET /film.mp4') == 2


@pytest.mark.parametrize("format", ["mp4", "m3u8"])
@pytest.mark.parametrize("attempt", [1, 2])
def test_a_source_that_takes_more_memory_than_there_is(clips, transcode, monkeypatch, format, attempt):
    clip = clips("large.mkv", f"-f lavfi -i testsrc2=s=3840x2160:r=25:d=0.4 {H264} {{0}}")
    monkeypatch.setattr(process, "_free_memory", lambda: 300 << 20)
    with pytest.raises(TaskFailedError) as failure:
        transcode(clip, format, 4, attempt=attempt)
    assert failure.value.code is Failure.MEMORY_FULL
    assert "WorkerMemory" in failure.value.info
