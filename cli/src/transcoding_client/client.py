"""The calls of the service."""

from __future__ import annotations

import math
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from transcoding_client.errors import (
    ApiKeyError,
    NotFoundError,
    RefusedError,
    TaskDeletedError,
    TaskFailedError,
    UnavailableError,
    WaitTimeoutError,
)
from transcoding_client.models import Created, Quality, Status, Task, TaskPage, Uploaded, UploadParts
from transcoding_client.retries import TRIES, is_worth_repeating, seconds_before
from transcoding_client.service import find_service
from transcoding_client.uploads import FileUpload, UploadProgress

_Model = TypeVar("_Model", bound=BaseModel)

_PREFIX = "/transcoding/api"
_OK = 1000
_ENVELOPE = frozenset({"errcode", "msg"})
_REFUSALS: dict[int, type[RefusedError]] = {1403: ApiKeyError, 1404: NotFoundError}
#: Seconds. API Gateway answers within 29.
_TIMEOUT = httpx.Timeout(35, connect=10)
#: Seconds between two looks at a task.
_FIRST_POLL, _LAST_POLL, _GROWTH = 0.5, 5.0, 1.2
#: The most that one call deletes.
_BATCH = 100
#: No proxy leads to this machine.
_LOCAL = {f"all://{host}": None for host in ("127.0.0.1", "localhost", "[::1]")}


class Client:
    """A service and its API key.

    `api_url` is the stack's output `ApiUrl`. Calls that get no answer, or 429 or 5xx, are repeated with
    growing waits; create-transcode carries an `Idempotency-Key`, so that it makes no second task. Every
    method raises RefusedError where the service refuses, and UnavailableError where it stays away. It may be
    used by several threads.
    """

    def __init__(self, api_url: str, api_key: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self.api_url = api_url.rstrip("/").removesuffix(_PREFIX)
        mounts = None if transport else _LOCAL
        self._http = httpx.Client(
            base_url=self.api_url,
            headers={"x-api-key": api_key},
            timeout=_TIMEOUT,
            transport=transport,
            mounts=mounts,
        )
        # S3 is not told the key.
        self._storage = httpx.Client(timeout=_TIMEOUT, transport=transport, mounts=mounts)
        self._has_answered = False

    @classmethod
    def find(cls) -> Self:
        """Return a client of the environment's service, or of the one of this machine: see `find_service`."""
        service = find_service()
        return cls(service.api_url, service.api_key)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
        self._storage.close()

    # Tasks.

    def create(
        self,
        origin_url: str,
        *,
        quality: Quality | int | None = None,
        format: str | None = None,
        codec: str | None = None,
        thumbnails: bool | None = None,
        callback_url: str | None = None,
        idempotency_key: str | None = None,
    ) -> str:
        """Create a task and return its id. What is None is as the service has it by default.

        Within 24 hours, the same `idempotency_key` gives the same task; without one, each call has its own.
        """
        body = {
            "origin_url": origin_url,
            "task_config_temp_id": None if quality is None else int(quality),
            "format": format,
            "codec": codec,
            "thumbnails": thumbnails,
            "callback_url": callback_url,
        }
        key = idempotency_key or uuid.uuid4().hex
        answer = self._post("create-transcode", body, headers={"Idempotency-Key": key})
        return _read(Created, answer).id

    def get(self, task_id: str) -> Task:
        """Return a task. Raises NotFoundError."""
        return _read(Task, self._get("get-transcode", {"id": task_id}).get("transcoding"))

    def tasks(self, page: int = 1, limit: int = 15) -> TaskPage:
        """Return a page of the tasks that are not deleted, newest first; `limit` is at most 100."""
        answer = self._get("get-transcodes", {"page": str(page), "limit": str(limit)})
        return _read(TaskPage, answer)

    def delete(self, task_id: str) -> None:
        """Delete a task, in whatever status. Raises NotFoundError where it never was."""
        self._post("delete-transcode", {"id": task_id})

    def delete_all(self, task_ids: Iterable[str]) -> None:
        """Delete tasks. Raises NotFoundError, after the others are deleted, where some never were."""
        ids = list(task_ids)
        unknown = []
        for first in range(0, len(ids), _BATCH):
            try:
                self._post("delete-transcodes", {"ids": ",".join(ids[first : first + _BATCH])})
            except NotFoundError as error:
                unknown.append(error)
        if unknown:
            raise NotFoundError(unknown[0].errcode, "; ".join(error.msg for error in unknown))

    def watch(self, task_id: str, *, timeout: float | None = None) -> Iterator[Task]:
        """Yield a task as it is now, and whenever it has changed, until its status is final.

        It is looked at every half a second at first, then less often, every 5 s at last. Raises
        WaitTimeoutError after `timeout` seconds.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        seconds, seen = _FIRST_POLL, None
        while True:
            task = self.get(task_id)
            if task != seen:
                yield task
            if task.status.is_final:
                return
            seen, left = task, deadline - time.monotonic()
            if timeout is not None and left <= 0:
                raise WaitTimeoutError(task, timeout)
            time.sleep(min(seconds, left))
            seconds = min(seconds * _GROWTH, _LAST_POLL)

    def wait_for(
        self,
        task_id: str,
        *,
        timeout: float | None = None,
        report: Callable[[Task], object] | None = None,
    ) -> Task:
        """Return a task that has succeeded, when it has. `report` is called with it at each change.

        Raises TaskFailedError, TaskDeletedError, and WaitTimeoutError after `timeout` seconds; the task then
        goes on.
        """
        for task in self.watch(task_id, timeout=timeout):
            if report:
                report(task)
        check_end(task)
        return task

    # Uploads.

    def upload(
        self,
        path: str | os.PathLike[str],
        *,
        upload_id: str | None = None,
        report: Callable[[UploadProgress], object] | None = None,
    ) -> str:
        """Send a file to S3 and return the `origin_url` of it for `create`.

        Its parts are sent several at once, and again where a connection breaks. `report` is called with how
        far it is, from several threads, but one at a time; the first time before anything is sent.
        `upload_id` is of an upload of the same file that was broken off: what S3 has of it is not sent again.
        Raises UploadError, NotFoundError where there is no such upload any more, and OSError.
        """
        return FileUpload(self, self._storage, Path(path), report).send(upload_id)

    def create_upload(self, name: str, size: int) -> UploadParts:
        """Begin an upload of `size` bytes, and return its first parts, at most 1,000."""
        return _read(UploadParts, self._post("create-upload", {"name": name, "size": size}))

    def continue_upload(self, upload_id: str, first_part: int = 1) -> UploadParts:
        """Return parts of an upload, at most 1,000, from number `first_part` on. Raises NotFoundError."""
        body = {"upload_id": upload_id, "first_part": first_part}
        return _read(UploadParts, self._post("create-upload", body))

    def complete_upload(self, upload_id: str, etags: list[str]) -> str:
        """Make a source of the parts, whose ETags are in order, and return its `origin_url`."""
        answer = self._post("complete-upload", {"upload_id": upload_id, "etags": etags})
        return _read(Uploaded, answer).origin_url

    # Requests.

    def _get(self, call: str, parameters: dict[str, str]) -> dict[str, Any]:
        return self._send(self._http.build_request("GET", f"{_PREFIX}/{call}", params=parameters))

    def _post(self, call: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
        given = {name: value for name, value in body.items() if value is not None}
        return self._send(self._http.build_request("POST", f"{_PREFIX}/{call}", json=given, headers=headers))

    def _send(self, request: httpx.Request) -> dict[str, Any]:
        """Return what a response with errcode 1000 has beside `errcode` and `msg`."""
        for retry in range(1, TRIES + 1):
            response = None
            try:
                response = self._http.send(request)
            except httpx.TransportError as error:
                failure = UnavailableError(f"{_host(request)} does not answer ({_words(error)}).")
                failure.__cause__ = error
                if isinstance(error, httpx.ConnectError) and not self._has_answered:
                    # Probably there is nothing.
                    break
            else:
                answer = _envelope(response)
                self._has_answered = self._has_answered or answer is not None
                if answer and answer["errcode"] == _OK:
                    return {name: value for name, value in answer.items() if name not in _ENVELOPE}
                if not is_worth_repeating(response):
                    raise _refusal(request, response, answer)
                failure = _unavailable(request, response, answer)
            if retry < TRIES:
                time.sleep(seconds_before(retry, response))
        raise failure


def check_end(task: Task) -> None:
    """Raise TaskFailedError of a task that has failed, TaskDeletedError of one that was deleted."""
    if task.status is Status.FAILED:
        raise TaskFailedError(task)
    if task.status is Status.DELETED:
        raise TaskDeletedError(task)


def _envelope(response: httpx.Response) -> dict[str, Any] | None:
    """Return the answer of the service; None where something else answered, such as a proxy."""
    try:
        answer = response.json()
    except ValueError:
        return None
    is_one = isinstance(answer, dict) and isinstance(answer.get("errcode"), int)
    return answer if is_one else None


def _refusal(request: httpx.Request, response: httpx.Response, answer: dict[str, Any] | None) -> Exception:
    if answer is None or response.is_success:
        return _unavailable(request, response, answer)
    return _REFUSALS.get(answer["errcode"], RefusedError)(answer["errcode"], str(answer.get("msg", "")))


def _unavailable(
    request: httpx.Request, response: httpx.Response, answer: dict[str, Any] | None
) -> UnavailableError:
    if answer is None:
        return UnavailableError(
            f"{_host(request)} answers HTTP {response.status_code}, but not as the service does. Is its "
            "address right?"
        )
    return UnavailableError(str(answer.get("msg", "")), answer["errcode"])


def _host(request: httpx.Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc.decode()}"


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


def _read(model: type[_Model], value: object) -> _Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise UnavailableError(f"The service's answer is not as it should be: {error}") from error
