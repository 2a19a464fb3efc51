"""Run the emulator of AWS: one process group that listens on the loopback only, its data in one folder."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from local.package import ROOT

HOST = "127.0.0.1"
PREFERRED_PORT = 4580
REGION = "us-east-1"
#: Also the access key: the emulator takes an access key of 12 digits as the account's number.
ACCOUNT_ID = "000000000000"
SECRET = "local"

_COMMAND = ROOT / ".local" / "envs" / "ministack" / "bin" / "ministack"
_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 30.0


class EmulatorError(Exception):
    """The emulator did not start or stop. The message has the reason and the name of its log."""


class Emulator:
    """The emulator that keeps its data, log and temporary files in `home`.

    Its process holds a lock on `home/emulator.lock` as long as it lives. So a process that now has the number
    of an earlier run is never taken for it.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.log = home / "log" / "emulator.log"
        self._lock = home / "emulator.lock"
        self._state = home / "state"
        self._port = self._state / "port"
        self._services = self._state / "services"

    @property
    def port(self) -> int:
        """The port it listens on, or listened on when it last ran; 0 before its first start."""
        return int(self._port.read_text()) if self._port.exists() else 0

    @property
    def url(self) -> str:
        """The endpoint of all services."""
        return f"http://{HOST}:{self.port}"

    def running_pid(self) -> int | None:
        """Return the process number, or None while it does not run."""
        if not self._lock.exists():
            return None
        with self._lock.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(lock.read())
        return None

    def start(self, port: int = PREFERRED_PORT, functions_endpoint_url: str | None = None) -> None:
        """Start the emulator unless it runs, and wait until it answers.

        The first start uses `port` or the next free one (0: any); later starts use the same. Functions find
        AWS at `functions_endpoint_url`, or in the emulator itself. Raises EmulatorError if it does not answer
        within a minute.
        """
        if self._becomes_ready():
            return
        if self.running_pid() is None:
            self._launch(port, functions_endpoint_url)
        if not self._becomes_ready():
            last_lines = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise EmulatorError(
                f"no answer from the emulator at {self.url}; {self.log} ends with:\n{last_lines}"
            )

    def stop(self) -> None:
        """Stop the emulator with all its functions and their FFmpeg processes. It saves its data first.

        Raises EmulatorError if it did not end within 30 s and was killed. Unsaved data is lost then.
        """
        pid = self.running_pid()
        if pid is None:
            return
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_TIMEOUT
        while self.running_pid() is not None and time.monotonic() < deadline:
            time.sleep(0.05)
        stuck = self.running_pid() is not None
        _kill_group(pid)
        if stuck:
            raise EmulatorError(
                f"the emulator did not end in {_STOP_TIMEOUT:.0f} s and was killed: {self.log}"
            )

    def _launch(self, port: int, functions_endpoint_url: str | None) -> None:
        if not _COMMAND.exists():
            raise EmulatorError(f"{_COMMAND.relative_to(ROOT)} is missing: run `make up`, which installs it")
        for folder in (self._services, self.log.parent):
            folder.mkdir(parents=True, exist_ok=True)
        scratch = self.home / "tmp"
        shutil.rmtree(scratch, ignore_errors=True)
        # It stays where it is a disk of its own.
        scratch.mkdir(exist_ok=True)
        self._choose_port(port)
        self._rewind_streams()
        if self.log.exists():
            self.log.rename(self.log.with_suffix(".previous.log"))
        functions = {"AWS_ENDPOINT_URL": functions_endpoint_url} if functions_endpoint_url else {}
        with self._lock.open("a") as lock, self.log.open("wb") as log:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            process = subprocess.Popen(
                [_COMMAND],
                cwd=self.home,
                env=self._environment(scratch) | functions,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[lock.fileno()],
                start_new_session=True,
            )
            lock.truncate(0)
            lock.write(str(process.pid))

    def _becomes_ready(self) -> bool:
        """Wait until it answers and return True; return False if it does not run, ends, or takes too long."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + _START_TIMEOUT
        while self.running_pid() is not None and time.monotonic() < deadline:
            try:
                with opener.open(f"{self.url}/_ministack/health", timeout=2):
                    return True
            except OSError:
                time.sleep(0.05)
        return False

    def _environment(self, scratch: Path) -> dict[str, str]:
        """Return an environment without the user's own settings of AWS, Docker and proxies."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LC_ALL") if name in os.environ}
        return kept | {
            "BIND_HOST": HOST,
            "MINISTACK_HOST": HOST,
            "GATEWAY_PORT": str(self.port),
            "MINISTACK_REGION": REGION,
            "AWS_ACCESS_KEY_ID": ACCOUNT_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "PERSIST_STATE": "1",
            "STATE_DIR": str(self._services),
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(self._state / "s3"),
            "TMPDIR": str(scratch),
            # Listeners that this service does not need.
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            # Functions run as processes, also where there is a container engine.
            "LAMBDA_EXECUTOR": "local",
            "DOCKER_HOST": "unix:///nonexistent",
            "PYTHONUNBUFFERED": "1",
        }

    def _choose_port(self, preferred: int) -> None:
        """Choose the last port, which stored URLs contain; if it is taken, the next free one."""
        last = self.port
        port = _free_port(last or preferred)
        if last and port != last:
            print(f"Port {last} is taken by another program; moving to {port}.", file=sys.stderr)
            for path in self._services.glob("*.json"):
                path.write_text(path.read_text().replace(f"{HOST}:{last}/", f"{HOST}:{port}/"))
        self._port.write_text(str(port))

    def _rewind_streams(self) -> None:
        """Have streams of tables be read from their beginning.

        The emulator keeps how far they were read, and forgets the records: it would pass over new ones.
        """
        path = self._services / "lambda.json"
        if path.exists():
            saved = json.loads(path.read_text())
            saved["payload"]["dynamodb_stream_positions"]["data"] = {}
            path.write_text(json.dumps(saved))


def _kill_group(group: int) -> None:
    """Kill all processes of a group and wait until they have ended, at most a second."""
    with contextlib.suppress(ProcessLookupError):
        for _ in range(20):
            os.killpg(group, signal.SIGKILL)
            # The leader may be a child of this process: it stays in the group until it is waited for.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(group, os.WNOHANG)
            time.sleep(0.05)


def _free_port(first: int) -> int:
    for port in range(first, 65536):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise EmulatorError(f"no free port from {first} up")
