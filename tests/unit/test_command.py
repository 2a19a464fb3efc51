"""The command line: what it prints, where, and its exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import httpx
import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from tests.fake_service import API_KEY, API_URL, FakeService, refusal, task
from transcoding_client import Client
from transcoding_client.cli import main, memory

FILM = bytes(range(30))


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeService:
    """The service of the environment; waiting takes no time."""
    service = FakeService()
    monkeypatch.setattr(main, "Client", partial(Client, transport=service.transport))
    monkeypatch.setattr("transcoding_client.client.time.sleep", lambda _: None)
    monkeypatch.setattr("transcoding_client.uploads.seconds_before", lambda *_: 0)
    monkeypatch.setattr(memory, "user_state_path", lambda _: tmp_path / "state")
    monkeypatch.setenv("TRANSCODING_API_URL", API_URL)
    monkeypatch.setenv("TRANSCODING_API_KEY", API_KEY)
    return service


@pytest.fixture
def film(tmp_path: Path) -> str:
    path = tmp_path / "[bold]film.mov"
    path.write_bytes(FILM)
    return str(path)


class Done:
    """What came of a command."""

    def __init__(self, *arguments: str) -> None:
        result = CliRunner().invoke(main.app, arguments)
        self.code, self.out, self.err = result.exit_code, result.stdout, result.stderr
        assert "Traceback" not in self.out + self.err
        # Neither is a terminal.
        assert "\x1b" not in self.out + self.err


# What succeeds.


def test_put_uploads_creates_waits_and_prints_the_url(service: FakeService, film: str) -> None:
    service.states = [task(), task(status=1, progress=0.5), task(status=2)]
    done = Done("put", film, "--quality", "720p", "--format", "mp4", "--wait")
    assert (done.code, done.out) == (0, "https://media.test/outputs/17lok52y/1/master.m3u8\n")
    assert done.err.splitlines() == [
        "[bold]film.mov: uploading 30 bytes",
        "17lok52y: waiting",
        "17lok52y: running 50%",
        "17lok52y: succeeded",
    ]
    assert service.objects == [FILM]
    assert service.made("create-transcode") == [
        {"origin_url": "s3://uploads/film.mov", "task_config_temp_id": 3, "format": "mp4"}
    ]


def test_put_without_wait_prints_the_id(service: FakeService, film: str) -> None:
    assert Done("put", film).out == "17lok52y\n"
    assert json.loads(Done("put", film, "--json").out) == {"id": "17lok52y"}
    assert service.made("get-transcode") == []


def test_create_takes_all_parameters(service: FakeService) -> None:
    done = Done(
        *("create", "s3://films/holiday.mov", "-q", "adaptive", "-f", "mpd", "--codec", "h264,av1"),
        *("--no-thumbnails", "--callback-url", "https://example.com/done", "--idempotency-key", "again"),
    )
    assert (done.code, done.out) == (0, "17lok52y\n")
    assert service.made("create-transcode") == [
        {
            "origin_url": "s3://films/holiday.mov",
            "task_config_temp_id": 6,
            "format": "mpd",
            "codec": "h264,av1",
            "thumbnails": False,
            "callback_url": "https://example.com/done",
        }
    ]
    assert service.requests[0].headers["Idempotency-Key"] == "again"


def test_list_shows_every_task_whole(service: FakeService) -> None:
    long = "s3://films/" + "long name " * 40
    service.states = [task("17lok52y", 2), task("82md0xk1", 1, progress=0.42, origin_url=long)]
    done = Done("list", "--page", "2", "--limit", "2")
    assert done.code == 0
    heading, first, second = done.out.splitlines()
    assert heading.split() == ["ID", "STATUS", "QUALITY", "FORMAT", "CREATED", "SOURCE"]
    assert first.split()[:4] == ["17lok52y", "succeeded", "720p", "m3u8"]
    # Nothing of it is taken for markup.
    assert first.rstrip().endswith("s3://films/[bold]holiday.mov")
    assert "running 42%" in second
    assert long.strip() in second
    assert done.err == "3 to 4 of 33\n"
    listed = json.loads(Done("list", "--json").out)
    assert [found["id"] for found in listed["results"]] == ["17lok52y", "82md0xk1"]
    assert listed["count"] == 33


def test_a_narrow_terminal_shows_the_names_of_files(service: FakeService) -> None:
    service.states = [task(status=1, progress=1.0, origin_url=f"s3://films/{'folder/' * 20}{'电影' * 3}.mov")]
    terminal = {"FORCE_COLOR": "1", "TERM": "xterm-256color", "NO_COLOR": "1", "COLUMNS": "80"}
    result = CliRunner().invoke(main.app, ["list"], env=terminal)
    _, line = re.sub(r"\x1b\[\d*m", "", result.stdout).splitlines()
    assert line.split()[:5] == ["17lok52y", "running", "100%", "720p", "m3u8"]
    assert line.rstrip().endswith("/电影电影电影.mov")
    assert cell_len(line.rstrip()) <= 80


def test_show_tells_what_came_out_and_what_went_wrong(service: FakeService) -> None:
    service.states = [task(status=2)]
    shown = Done("show", "17lok52y").out
    for fact in ("succeeded", "59.96 s", "14.6 MB", "1280x720", "29.97", "avc1.64001f", "mp4a.40.2"):
        assert fact in shown
    assert json.loads(Done("show", "17lok52y", "--json").out) == service.states[0]
    service.states = [task(status=3)]
    failed = Done("show", "17lok52y")
    assert "There is no s3://films/holiday.mov. (1001)" in failed.out
    # It is shown, as asked for.
    assert failed.code == 0


def test_watch_follows_a_task(service: FakeService) -> None:
    service.states = [task(status=1), task(status=2)]
    assert Done("watch", "17lok52y").out == "https://media.test/outputs/17lok52y/1/master.m3u8\n"
    assert json.loads(Done("watch", "17lok52y", "--json").out)["output"]["bytes"] == 14600000


def test_rm_deletes_quietly(service: FakeService) -> None:
    done = Done("rm", "17lok52y", "82md0xk1")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert service.made("delete-transcodes") == [{"ids": "17lok52y,82md0xk1"}]


def test_open_opens_the_console_or_the_result(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(main.webbrowser, "open", opened.append)
    service.states = [task(status=1)]
    running = Done("open", "17lok52y")
    assert running.code == 0
    console, _, place = running.out.strip().partition("#")
    assert (console.endswith("/console"), place) == (True, "/tasks/17lok52y")
    # The key is for the browser alone.
    (url,) = opened
    assert url.startswith(f"{console}#key=")
    assert url.endswith("&/tasks/17lok52y")
    opened.clear()
    early = Done("open", "17lok52y", "--result")
    assert (early.code, early.out, opened) == (1, "", [])
    assert "not done" in early.err
    service.states = [task(status=2)]
    done = Done("open", "17lok52y", "--result")
    assert done.code == 0
    assert [f"{url}\n" for url in opened] == [done.out]


# What does not.


def test_a_task_that_fails_is_1_with_its_reason(service: FakeService) -> None:
    service.states = [task(status=3)]
    for command in (
        ("create", "s3://films/holiday.mov", "--wait"),
        ("watch", "17lok52y"),
        ("open", "17lok52y", "--result"),
    ):
        done = Done(*command)
        assert (done.code, done.out) == (1, "")
        assert "17lok52y failed (1001): There is no s3://films/holiday.mov." in done.err
    done = Done("watch", "17lok52y", "--json")
    assert (done.code, json.loads(done.out)["error_code"]) == (1, 1001)
    service.states = [task(status=4)]
    assert Done("watch", "17lok52y").code == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("put",),
        ("put", "/no/such/film.mov"),
        ("put", "/"),
        ("create", "s3://films/holiday.mov", "--quality", "240p"),
        ("list", "--limit", "1000"),
        ("list", "--page", "first"),
        ("convert", "film.mov"),
    ],
)
def test_wrong_usage_is_2(service: FakeService, arguments: tuple[str, ...]) -> None:
    done = Done(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err
    assert service.calls == []


def test_no_service_is_2(service: FakeService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TRANSCODING_API_URL")
    monkeypatch.delenv("TRANSCODING_API_KEY")
    monkeypatch.chdir(tmp_path)
    done = Done("list")
    assert done.code == 2
    assert "make up" in done.err
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "stack.json").write_text(json.dumps({"api_url": API_URL, "api_key": API_KEY}))
    assert Done("list").code == 0
    (tmp_path / ".local" / "stack.json").write_text(json.dumps({"api_url": API_URL, "api_key": "old"}))
    done = Done("list")
    assert done.code == 3
    assert "stack.json" in done.err


def test_a_refusal_is_3_and_says_why(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = Done("show", "nonesuch")
    assert (unknown.code, unknown.out) == (3, "")
    assert "1404" in unknown.err
    assert "no such task: nonesuch" in unknown.err
    monkeypatch.setenv("TRANSCODING_API_KEY", "wrong")
    wrong = Done("list", "--json")
    assert (wrong.code, wrong.out) == (3, "")
    assert "API key" in wrong.err
    assert "TRANSCODING_API_KEY" in wrong.err
    assert "wrong" not in wrong.err.replace("TRANSCODING_API_KEY", "")
    # What is given on the command line goes first.
    assert Done("list", "--api-key", API_KEY).code == 0


def test_a_service_that_is_away_is_4(service: FakeService) -> None:
    def refuse(_: httpx.Request) -> None:
        raise httpx.ConnectError("Connection refused")

    service.fault = refuse
    done = Done("list")
    assert (done.code, done.out) == (4, "")
    assert "https://api.test does not answer" in done.err
    service.fault = lambda _: refusal(503, "the database is not available")
    done = Done("list", "--json")
    assert (done.code, done.out) == (4, "")
    assert "the database is not available" in done.err


def test_an_end_of_patience_is_5_and_the_task_goes_on(service: FakeService) -> None:
    service.states = [task(status=1)]
    done = Done("create", "s3://films/holiday.mov", "--wait", "--timeout", "0")
    assert (done.code, done.out) == (5, "")
    assert "transcoding watch 17lok52y" in done.err


def test_a_fault_of_the_program_has_no_traceback(
    service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main.output, "show_page", lambda _: 1 / 0)
    done = Done("list")
    assert done.code == 70
    assert "ZeroDivisionError" in done.err


def test_ctrl_c_is_130_and_says_how_to_go_on(service: FakeService, film: str) -> None:
    def interrupt(request: httpx.Request) -> None:
        if request.url.path.endswith("get-transcode"):
            raise KeyboardInterrupt

    service.fault = interrupt
    done = Done("put", film, "--wait")
    assert (done.code, done.out) == (130, "")
    assert "transcoding watch 17lok52y" in done.err


# Broken off, and run again.


def test_an_upload_that_is_broken_off_goes_on_with_the_same_command(service: FakeService, film: str) -> None:
    def interrupt(request: httpx.Request) -> None:
        if request.url.params.get("partNumber") == "4":
            raise KeyboardInterrupt

    service.fault = interrupt
    broken = Done("put", film)
    assert (broken.code, broken.out) == (130, "")
    assert "the same command goes on" in broken.err
    there = {str(number) for number in service.parts}
    assert "4" not in there
    service.fault = lambda _: None
    service.requests.clear()
    assert Done("put", film).code == 0
    sent = {request.url.params["partNumber"] for request in service.requests if request.url.host == "s3.test"}
    assert (sent, service.objects, service.uploads) == ({"1", "2", "3", "4"} - there, [FILM], 1)
    # And a third time, it is another upload.
    assert Done("put", film).code == 0
    assert service.uploads == 2


def test_an_upload_that_is_gone_begins_anew(service: FakeService, film: str) -> None:
    service.fault = lambda request: (
        refusal(400, "no") if request.url.path.endswith("complete-upload") else None
    )
    assert Done("put", film).code == 3
    service.fault = lambda _: None
    service.uploads = 5  # the service has forgotten the first one
    assert Done("put", film).code == 0
    assert service.objects == [FILM]


def test_what_is_uploaded_is_not_uploaded_again_after_a_wrong_option(service: FakeService, film: str) -> None:
    service.fault = lambda request: (
        refusal(400, "format: must be one of …") if request.url.path.endswith("create-transcode") else None
    )
    assert Done("put", film, "--format", "avi").code == 3
    service.fault = lambda _: None
    assert Done("put", film, "--format", "mp4").code == 0
    assert service.uploads == 1
    # Of a file that has changed since, nothing is known.
    service.fault = lambda request: refusal(400, "no") if "create-transcode" in request.url.path else None
    assert Done("put", film).code == 3
    Path(film).write_bytes(b"other")
    service.fault = lambda _: None
    assert Done("put", film).code == 0
    assert service.objects[-1] == b"other"


def test_a_home_that_cannot_be_written_is_no_obstacle(
    service: FakeService, film: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(memory, "user_state_path", lambda _: tmp_path / "file")
    assert Done("put", film).code == 0


# The program itself.


def _run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "transcoding_client.cli", *arguments]
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **variables}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd="/")


def test_help_tells_of_all_commands_and_exit_codes() -> None:
    done = _run("--help")
    assert done.returncode == 0
    for word in ("put", "create", "list", "show", "watch", "rm", "open", "--install-completion"):
        assert word in done.stdout
    assert "4 the service is away" in " ".join(done.stdout.split())


def test_the_shell_completes_values() -> None:
    done = _run(
        _TRANSCODING_COMPLETE="complete_bash", COMP_WORDS="transcoding create x --format mp", COMP_CWORD="4"
    )
    assert done.stdout.split() == ["mpd", "mp4", "mp3"]


def test_a_pipe_that_closes_ends_it_quietly(service: FakeService, capfd: pytest.CaptureFixture[str]) -> None:
    service.states = [task(status=2)]
    for arguments in (["list"], ["show", "17lok52y", "--json"]):
        read, write = os.pipe()
        os.close(read)
        kept = os.dup(1)
        os.dup2(write, 1)
        try:
            with open(1, "w", closefd=False) as stdout, pytest.MonkeyPatch.context() as patch:
                patch.setattr(sys, "stdout", stdout)
                patch.setattr(sys, "argv", ["transcoding", *arguments])
                with pytest.raises(SystemExit) as end:
                    main.run()
        finally:
            os.dup2(kept, 1)
            for descriptor in (kept, write):
                os.close(descriptor)
        assert end.value.code == 141
        assert capfd.readouterr().err == ""


def test_colours_are_for_terminals_that_want_them(service: FakeService) -> None:
    def coloured(**variables: str) -> bool:
        result = CliRunner().invoke(main.app, ["list"], env={"TERM": "xterm-256color", **variables})
        return re.search(r"\x1b\[[\d;]*[39]\dm", result.stdout) is not None

    service.states = [task(status=2)]
    assert coloured(FORCE_COLOR="1")
    assert not coloured(FORCE_COLOR="1", NO_COLOR="1")
    assert not coloured()
