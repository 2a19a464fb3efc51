"""The key that callbacks are signed with: a SecureString of Parameter Store, which costs nothing."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from botocore.exceptions import ClientError

from transcoding.data import clients

#: How long, in seconds, a process goes on with the key that it has read: a new one is in use after that.
PERIOD = 300
_KEY_BYTES = 32
_SERVICE = "the parameter store"


class CallbackKey:
    """The key of this name, made by the first who needs it unless the operator has stored one."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._ssm = clients.ssm()
        self._key = b""
        self._read_at = 0.0

    def get(self) -> bytes:
        """Return the key: the bytes of the parameter's text. Raises UnavailableError."""
        if not self._key or self._clock() - self._read_at >= PERIOD:
            self._key, self._read_at = self._read(), self._clock()
        return self._key

    def _read(self) -> bytes:
        with clients.availability(_SERVICE):
            try:
                return self._value()
            except ClientError as error:
                if not _is(error, "ParameterNotFound"):
                    raise
            try:
                self._ssm.put_parameter(
                    Name=self._name,
                    Description="The key that callbacks are signed with",
                    Type="SecureString",
                    Value=secrets.token_hex(_KEY_BYTES),
                )
            except ClientError as error:
                # Another one was faster.
                if not _is(error, "ParameterAlreadyExists"):
                    raise
            return self._value()

    def _value(self) -> bytes:
        value: str = self._ssm.get_parameter(Name=self._name, WithDecryption=True)["Parameter"]["Value"]
        return value.encode()


def _is(error: ClientError, code: str) -> bool:
    return error.response.get("Error", {}).get("Code") == code
