"""A proxy in front of the emulator's S3 that serves ranges of objects from the emulator's files.

For each range the emulator reads the whole object. For the film that takes a second, on the processors that
are measured. S3 does not do that.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiohttp import ClientSession, web
from multidict import CIMultiDict

from local.emulator import ACCOUNT_ID, HOST
from local.package import ROOT

_LARGEST_BODY = 2**30


@contextmanager
def in_front_of(emulator: str, state: Path) -> Iterator[str]:
    """Run the proxy beside the emulator, whose files are in `state`, and yield its URL."""
    command = [sys.executable, "-m", "benchmarks.s3", emulator, str(state)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


async def _serve(emulator: str, folder: Path) -> None:
    async with ClientSession(auto_decompress=False) as session:

        async def answer(request: web.Request) -> web.StreamResponse:
            path = folder / request.path.lstrip("/")
            if request.method == "GET" and "Range" in request.headers and path.is_file():
                return web.FileResponse(path)
            headers = CIMultiDict(request.headers)
            headers.popall("Expect", None)
            body = await request.read()
            url = emulator + request.raw_path
            async with session.request(request.method, url, headers=headers, data=body) as found:
                told = {k: v for k, v in found.headers.items() if k not in {"Transfer-Encoding", "Date"}}
                return web.Response(status=found.status, headers=told, body=await found.read())

        application = web.Application(client_max_size=_LARGEST_BODY)
        application.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, HOST, 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        print(f"http://{host}:{port}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], Path(sys.argv[2]) / ACCOUNT_ID))
