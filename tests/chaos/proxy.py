"""A proxy between the functions and AWS (the emulator) by which calls fail as they do in bad weather."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections import Counter
from enum import StrEnum

from aiohttp import ClientError, ClientSession, ClientTimeout, web
from multidict import CIMultiDict

HOST = "127.0.0.1"
#: Bytes.
_PIECE = 1 << 18
_LARGEST_BODY = 2**30


class Fault(StrEnum):
    """What becomes of a call, by what it is called in the table."""

    SLOW = "made, answered late"
    ERROR = "not made, answered 500"
    THROTTLED = "not made, throttled"
    HUNG = "not made, never answered"
    FAILED = "made, answered 500"
    LOST = "made, connection closed"
    CUT = "made, cut in the body"


#: How often each occurs. What hangs takes a worker's patience: a minute.
_SHARES = {
    Fault.SLOW: 30,
    Fault.ERROR: 18,
    Fault.THROTTLED: 18,
    Fault.HUNG: 2,
    Fault.FAILED: 12,
    Fault.LOST: 10,
    Fault.CUT: 10,
}
#: Seconds: more than the calls of the API wait, and more than one heartbeat.
_SLOWEST = 7.0
_HANGS = 90.0

_ERRORS = {
    # Service: its name of an error of its own, and of too many calls.
    "dynamodb": (
        "com.amazonaws.dynamodb.v20120810#InternalServerError",
        "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
    ),
    "sqs": ("com.amazonaws.sqs#InternalFailure", "com.amazonaws.sqs#RequestThrottled"),
}
_OTHERS = ("InternalFailure", "ThrottlingException")
_S3_ERROR = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    "<Error><Code>{}</Code><Message>Bad weather.</Message><RequestId>0</RequestId></Error>"
)


class Proxy:
    """Listens on a port of its own; `rate` of all calls have a fault. The faults are counted by service."""

    def __init__(self, seed: int) -> None:
        self.rate = 0.0
        self.calls = 0
        self.faults: Counter[tuple[str, Fault]] = Counter()
        self.emulator = ""
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        threading.Thread(target=self._serve, args=(started,), daemon=True).start()
        started.wait(10)

    @property
    def url(self) -> str:
        """Where the functions are to find AWS."""
        return f"http://{HOST}:{self._port}"

    def _serve(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        started.set()
        self._loop.run_forever()

    async def _start(self) -> None:
        self._session = ClientSession(auto_decompress=False, timeout=ClientTimeout(total=None))
        application = web.Application(client_max_size=_LARGEST_BODY)
        application.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, HOST, 0).start()
        self._port = runner.addresses[0][1]

    def _fault(self, service: str) -> Fault | None:
        self.calls += 1
        if self._random.random() >= self.rate:
            return None
        (fault,) = self._random.choices(list(_SHARES), list(_SHARES.values()))
        self.faults[service, fault] += 1
        return fault

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        service = _service(request)
        fault = self._fault(service)
        if fault is Fault.HUNG:
            await asyncio.sleep(_HANGS)
            return _hung_up(request)
        if fault in {Fault.ERROR, Fault.THROTTLED}:
            return _error(service, throttled=fault is Fault.THROTTLED)
        if fault is None and service == "s3" and request.method == "GET":
            return await self._pass_on(request)
        return await self._changed(request, service, fault)

    async def _changed(self, request: web.Request, service: str, fault: Fault | None) -> web.StreamResponse:
        """Make a call, and let its answer suffer the fault."""
        try:
            answer = await self._forward(request)
        except (ClientError, ConnectionError):
            # Its caller was killed, or the emulator is being started again.
            fault = Fault.LOST
        if fault is Fault.LOST or (fault is Fault.CUT and request.method == "HEAD"):
            return _hung_up(request)
        if fault is Fault.FAILED:
            return _error(service)
        if fault is Fault.CUT:
            return await _cut(request, answer, self._random.random())
        if fault is Fault.SLOW:
            await asyncio.sleep(self._random.uniform(0.3, _SLOWEST))
        return answer

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        """Pass an object on piece by piece: of a source of hours, FFmpeg reads the beginning of a range."""
        url = self.emulator + request.raw_path
        try:
            async with self._session.get(url, headers=request.headers) as found:
                told = {k: v for k, v in found.headers.items() if k not in {"Transfer-Encoding", "Date"}}
                answer = web.StreamResponse(status=found.status, headers=told)
                await answer.prepare(request)
                async for piece in found.content.iter_chunked(_PIECE):
                    await answer.write(piece)
                return answer
        except (ClientError, ConnectionError):
            return _hung_up(request)

    async def _forward(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = CIMultiDict(request.headers)
        headers.popall("Expect", None)
        url = self.emulator + request.raw_path
        async with self._session.request(request.method, url, headers=headers, data=body) as found:
            told = {k: v for k, v in found.headers.items() if k not in {"Transfer-Encoding", "Date"}}
            return web.Response(status=found.status, headers=told, body=await found.read())


def _service(request: web.Request) -> str:
    target = request.headers.get("X-Amz-Target", "")
    named = {"DynamoDB": "dynamodb", "AmazonSQS": "sqs", "AmazonSSM": "ssm", "AWSEvents": "events"}
    return next((name for start, name in named.items() if target.startswith(start)), "s3")


def _error(service: str, *, throttled: bool = False) -> web.Response:
    if service == "s3":
        text = _S3_ERROR.format("SlowDown" if throttled else "InternalError")
        return web.Response(status=503 if throttled else 500, text=text, content_type="application/xml")
    own, too_many = _ERRORS.get(service, _OTHERS)
    text = json.dumps({"__type": too_many if throttled else own, "message": "Bad weather."})
    status = 400 if throttled else 500
    return web.Response(status=status, text=text, content_type="application/x-amz-json-1.0")


def _hung_up(request: web.Request) -> web.Response:
    if request.transport:
        request.transport.abort()
    return web.Response()


async def _cut(request: web.Request, answer: web.Response, share: float) -> web.StreamResponse:
    """Send a part of a body, after headers that tell of all of it."""
    body = answer.body if isinstance(answer.body, bytes) else b""
    cut = web.StreamResponse(status=answer.status, headers=answer.headers)
    cut.content_length = len(body)
    await cut.prepare(request)
    await cut.write(body[: int(len(body) * share)])
    return _hung_up(request)
