"""What `make build` does around `sam build`."""

from __future__ import annotations

import json
import re
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from local import build
from local.engine import Engine, EngineError
from local.package import ROOT, load_template

PINNED = build.base_image()
STAND_IN = "public.ecr.aws/lambda/python:3.13"


def test_the_base_image_is_pinned_and_has_the_python_of_the_functions() -> None:
    runtime = load_template(ROOT / "template.yaml")["Globals"]["Function"]["Runtime"]
    version = re.fullmatch(r"public\.ecr\.aws/lambda/python:(3\.\d+)\.\d{4}\.\d\d\.\d\d\.\d\d", PINNED)
    assert version
    assert runtime == f"python{version[1]}"


class Daemon(socketserver.UnixStreamServer):
    """A container engine that knows images by name; `registry` are those that it can fetch."""

    def __init__(self, path: Path) -> None:
        self.images: dict[str, str] = {}
        self.registry: dict[str, str] = {}
        self.architecture = "amd64"
        super().__init__(str(path), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Daemon

    def do_GET(self) -> None:
        if self.path == "/_ping":
            self.answer(200, "OK")
        elif self.path == "/networks":
            self.answer(200, [{"Name": "podman", "IPAM": {"Config": [{"Gateway": "10.88.0.1"}]}}])
        else:
            name = self.path.removeprefix("/images/").removesuffix("/json")
            known = name in self.server.images
            found = {"Id": self.server.images.get(name), "Architecture": self.server.architecture}
            self.answer(200 if known else 404, found)

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        given = {key: value for key, (value,) in parse_qs(url.query).items()}
        if url.path == "/images/create":
            name = f"{given['fromImage']}:{given['tag']}"
            if name in self.server.registry:
                self.server.images[name] = self.server.registry[name]
            self.answer(200 if name in self.server.registry else 500, {})
        else:
            name = url.path.removeprefix("/images/").removesuffix("/tag")
            self.server.images[f"{given['repo']}:{given['tag']}"] = self.server.images[name]
            self.answer(201, {})

    def answer(self, status: int, body: Any) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def address_string(self) -> str:
        return "local"

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    path = tmp_path / "engine.sock"
    with Daemon(path) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        yield server
        server.shutdown()


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """Make a folder as `sam build` leaves it: the template in long form, with the worker's image."""
    template = load_template(ROOT / "template.yaml")
    template["Resources"]["WorkerFunction"]["Properties"]["ImageUri"] = "workerfunction:worker"
    (tmp_path / "template.yaml").write_text(yaml.safe_dump(template, sort_keys=False))
    return tmp_path


@pytest.mark.parametrize(("image", "processor"), [("amd64", "x86_64"), ("arm64", "arm64")])
def test_what_is_built_for_one_processor_is_deployed_for_no_other(
    built: Path, daemon: Daemon, image: str, processor: str
) -> None:
    before = yaml.safe_load((built / "template.yaml").read_text())
    daemon.images["workerfunction:worker"] = "worker"
    daemon.architecture = image
    assert build.seal(built, Engine.find()) == processor
    after = yaml.safe_load((built / "template.yaml").read_text())
    architecture = after["Parameters"]["Architecture"]
    assert (architecture["Default"], architecture["AllowedValues"]) == (processor, [processor])
    # Nothing else changes, and sealing again does no harm.
    after["Parameters"]["Architecture"] = before["Parameters"]["Architecture"]
    assert after == before
    assert build.seal(built, Engine.find()) == processor


@pytest.mark.parametrize("image", ["", "riscv64"])
def test_what_is_built_for_no_known_processor_is_not_sealed(built: Path, daemon: Daemon, image: str) -> None:
    if image:
        daemon.images["workerfunction:worker"] = "worker"
        daemon.architecture = image
    with pytest.raises(ValueError, match="no known processor"):
        build.seal(built, Engine.find())


@pytest.mark.parametrize(
    ("images", "registry", "expected"),
    [
        # With a registry, the pinned image is the base, whatever else is there.
        ({}, {PINNED: "pinned"}, {PINNED: "pinned"}),
        ({STAND_IN: "other"}, {PINNED: "pinned"}, {STAND_IN: "other", PINNED: "pinned"}),
        ({STAND_IN: "other", PINNED: "other"}, {PINNED: "pinned"}, {STAND_IN: "other", PINNED: "pinned"}),
        # It is not fetched twice.
        ({STAND_IN: "other", PINNED: "pinned"}, {PINNED: "new"}, {STAND_IN: "other", PINNED: "pinned"}),
        # Without one, what the machine has stands in for it.
        ({STAND_IN: "other"}, {}, {STAND_IN: "other", PINNED: "other"}),
        ({}, {}, {}),
    ],
)
def test_the_base_image_is_fetched_or_stood_in_for(
    daemon: Daemon,
    images: dict[str, str],
    registry: dict[str, str],
    expected: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    daemon.images, daemon.registry = dict(images), registry
    build.prepare(Engine.find())
    assert daemon.images == expected
    # What stands in for it is told.
    assert (STAND_IN in capsys.readouterr().err) == (expected.get(PINNED) == "other")


def test_the_engine_is_found_at_docker_host(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Engine.find().gateway() == "10.88.0.1"
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.1:2375")
    with pytest.raises(EngineError, match="must be on this machine"):
        Engine.find()


def test_the_engine_is_found_without_docker_host(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST")
    monkeypatch.setattr("local.engine.SOCKETS", ("/nowhere.sock", daemon.server_address))
    assert Engine.find().host == f"unix://{daemon.server_address}"
    monkeypatch.setattr("local.engine.SOCKETS", ("/nowhere.sock",))
    with pytest.raises(EngineError, match=r"/nowhere\.sock"):
        Engine.find()
