"""The container engine of this machine (Docker, or Podman under Docker's API)."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
from dataclasses import dataclass
from urllib.parse import quote

#: The default sockets of Docker and of Podman.
SOCKETS = ("/var/run/docker.sock", "/run/podman/podman.sock")
#: The default networks of Docker and of Podman.
NETWORKS = ("bridge", "podman")
#: Seconds to wait for the answer to a small request.
_TIMEOUT = 5


class EngineError(Exception):
    """There is no container engine to build or to run functions with. The message has what was tried."""


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass(frozen=True, slots=True)
class Engine:
    """The engine that answers at a Unix socket."""

    path: str

    @classmethod
    def find(cls) -> Engine:
        """Return the engine at DOCKER_HOST, or at a default socket. Raises EngineError."""
        named = os.environ.get("DOCKER_HOST", "")
        if named and not named.startswith("unix://"):
            raise EngineError(f"DOCKER_HOST is {named}, but the engine must be on this machine (unix://…)")
        tried = [named.removeprefix("unix://")] if named else SOCKETS
        for path in tried:
            with contextlib.suppress(OSError, http.client.HTTPException):
                cls(path)._ask("GET", "/_ping")
                return cls(path)
        raise EngineError(f"no container engine answers at {' or '.join(tried)}")

    @property
    def host(self) -> str:
        """The value of DOCKER_HOST for it."""
        return f"unix://{self.path}"

    def gateway(self) -> str:
        """Return this machine's address in the engine's default network. Raises EngineError."""
        _, body = self._ask("GET", "/networks")
        networks = {network["Name"]: network for network in json.loads(body)}
        for name in NETWORKS:
            for config in networks.get(name, {}).get("IPAM", {}).get("Config") or []:
                if config.get("Gateway"):
                    return str(config["Gateway"])
        raise EngineError(f"the container engine at {self.path} has no network {' or '.join(NETWORKS)}")

    def image_id(self, name: str) -> str:
        """Return the id of a local image; empty if there is none of this name."""
        status, body = self._ask("GET", f"/images/{name}/json")
        return str(json.loads(body)["Id"]) if status == http.client.OK else ""

    def architecture(self, name: str) -> str:
        """Return the processor of a local image (amd64, arm64, …); empty if there is none of this name."""
        status, body = self._ask("GET", f"/images/{name}/json")
        return str(json.loads(body)["Architecture"]) if status == http.client.OK else ""

    def pull(self, name: str) -> None:
        """Fetch an image from its registry, if that can be reached."""
        repository, _, tag = name.rpartition(":")
        self._ask("POST", f"/images/create?fromImage={quote(repository)}&tag={quote(tag)}", timeout=None)

    def tag(self, name: str, alias: str) -> None:
        """Give a local image another name."""
        repository, _, tag = alias.rpartition(":")
        self._ask("POST", f"/images/{name}/tag?repo={quote(repository)}&tag={quote(tag)}")

    def _ask(self, method: str, request: str, timeout: float | None = _TIMEOUT) -> tuple[int, bytes]:
        connection = _SocketConnection(self.path, timeout)
        try:
            connection.request(method, request)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()
