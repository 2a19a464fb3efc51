"""Sends callbacks: a signed POST each, again with growing waits while the receiver does not take it."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import timedelta
from functools import partial

from aws_lambda_powertools import Logger
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError

from transcoding.data.callback_key import CallbackKey
from transcoding.data.queue import CallbackQueue
from transcoding.service.outcomes import Outcome
from transcoding.web import RefusedUrlError, Url, connect

#: How long a receiver may take to answer, from the connection on, in seconds.
SECONDS = 10.0
#: How long a callback is tried.
PATIENCE = timedelta(days=1)
#: Seconds between the first two tries; twice as long after each, up to the longest.
FIRST_WAIT = 10
LONGEST_WAIT = 3600
SIGNATURE_HEADER = "x-transcoding-signature"
USER_AGENT = "transcoding/1.0"

logger = Logger(child=True)

Connect = Callable[..., HTTPConnection]


class NotTakenError(Exception):
    """The receiver has not taken a callback; the message says why."""


class Callbacks:
    """Sends the callbacks of a queue.

    `connect` opens the connection to a URL, and refuses those that are not on the public Internet: at each
    try, as names lead elsewhere at any time.
    """

    def __init__(
        self,
        queue: CallbackQueue,
        dead_letter_queue_url: str,
        key: CallbackKey,
        *,
        connect: Connect = connect,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._queue = queue
        self._dead_letter_queue_url = dead_letter_queue_url
        self._key = key
        self._connect = connect
        self._clock = clock

    def send(self, message: str, receipt_handle: str, receives: int, sent_at: float) -> Outcome:
        """Try the callback of a message that was received `receives` times and sent at `sent_at`.

        Raises NotTakenError where it is to come again: it is hidden until then. After PATIENCE it goes to the
        dead-letter queue. `sent_at` is in seconds since the epoch.
        """
        callback = json.loads(message)
        url, body = callback["callback_url"], callback["body"].encode()
        task_id = json.loads(body)["transcoding"]["id"]
        try:
            self._post(url, body)
        except NotTakenError as error:
            logger.warning(
                "A callback was not taken", task_id=task_id, url=url, reason=str(error), tries=receives
            )
            wait = min(FIRST_WAIT * 2 ** min(receives - 1, 16), LONGEST_WAIT)
            if self._clock() + wait - sent_at > PATIENCE.total_seconds():
                self._queue.give_up(self._dead_letter_queue_url, message)
                return Outcome.CALLBACK_GIVEN_UP
            self._queue.postpone(receipt_handle, wait)
            raise
        logger.info("A callback was taken", task_id=task_id, url=url, tries=receives)
        return Outcome.CALLBACK_DELIVERED

    def _post(self, text: str, body: bytes) -> None:
        """POST a body to a URL, and follow no redirect. Raises NotTakenError unless the answer is a 2xx."""
        headers = {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            SIGNATURE_HEADER: signature(self._key.get(), int(self._clock()), body),
            "Connection": "close",
        }
        deadline = time.monotonic() + SECONDS
        try:
            url = Url.parse(text)
            connection = self._connect(url, seconds=lambda: _time_left(deadline))
            with closing(connection):
                # A receiver that sends a byte now and then is never idle: only hanging up ends that in time.
                watchdog = threading.Timer(deadline - time.monotonic(), partial(_hang_up, connection.sock))
                watchdog.daemon = True
                watchdog.start()
                try:
                    headers["Host"] = url.authority
                    connection.request("POST", url.target, body, headers, preload_content=False)
                    status = connection.getresponse().status
                finally:
                    watchdog.cancel()
        except RefusedUrlError as error:
            raise NotTakenError(str(error)) from error
        except (HTTPError, http.client.HTTPException, OSError) as error:
            raise NotTakenError(f"no answer ({type(error).__name__})") from error
        # Of headers that were cut off by hanging up, http.client takes those that came.
        if time.monotonic() >= deadline:
            raise NotTakenError(f"no answer within {SECONDS:g} s")
        if not 200 <= status < 300:
            raise NotTakenError(f"HTTP status {status}")


def signature(key: bytes, time: int, body: bytes) -> str:
    """Return the value of SIGNATURE_HEADER: the time, in seconds since the epoch, and what it is signed with.

    HMAC (RFC 2104) with SHA-256 over the time in digits, a full stop, and the body.
    """
    signed = hmac.new(key, b"%d.%b" % (time, body), hashlib.sha256).hexdigest()
    return f"t={time},v1={signed}"


def _time_left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise NotTakenError(f"no answer within {SECONDS:g} s")
    return left


def _hang_up(connected: socket.socket) -> None:
    with suppress(OSError):
        # Not SSLSocket.shutdown, which would have the reader take ciphertext for data.
        socket.socket.shutdown(connected, socket.SHUT_RDWR)
