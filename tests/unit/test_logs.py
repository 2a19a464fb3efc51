"""No secret of a URL gets into the log, whoever logs it and however."""

from __future__ import annotations

import importlib
import io
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aws_lambda_powertools import Logger

from transcoding import logs
from transcoding.logs import redacted

FUNCTIONS = (
    *("create_transcode", "get_transcodes", "get_transcode", "delete_transcode", "delete_transcodes"),
    *("create_upload", "complete_upload", "dead_letter", "sweep", "worker"),
)

#: What must never be read in a log, and a URL that holds all of it.
SECRETS = ("anna", "hunter2", "s3cret", "t0ken")
URL = "https://anna:hunter2@media.example:8443/a%20film.mp4?X-Signature=s3cret&n=1#t0ken"
SHOWN = "https://…@media.example:8443/a%20film.mp4?…"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (URL, SHOWN),
        (f"could not open '{URL}': 403", f"could not open '{SHOWN} 403"),
        (f"{URL}\n{URL}", f"{SHOWN}\n{SHOWN}"),
        (f"https://proxy.example/{URL}", f"https://proxy.example/{SHOWN}"),
        ("https://host?s3cret", "https://host?…"),
        ("https://host/#s3cret", "https://host/?…"),
        ('https://host/?a="s3cret', "https://host/?…"),
        ("https://host/?a=\u3000s3cret", "https://host/?…"),
        ("GET /film.mp4?X-Signature=s3cret&a=b HTTP/1.1", "GET /film.mp4?… HTTP/1.1"),
        ("GET /a&X-Amz-Signature=s3cret HTTP/1.1", "GET /a&X-Amz-Signature=… HTTP/1.1"),
        ("X-Amz-Credential=AKIA%2Fs3cret&X-Amz-Date=1", "X-Amz-Credential=…&X-Amz-Date=1"),
        ("a%3FX-Amz-Security-Token%3Ds3cret", "a%3FX-Amz-Security-Token%3D…"),
        (r"https:\/\/user:s3cret@host\/film", r"https:\/\/…@host\/film"),
        ("//user:s3cret@host/film", "//…@host/film"),
        ("{'x-api-key': 's3cret', 'a': 'b'}", "{'x-api-key': '…', 'a': 'b'}"),
        ("x-api-key: s3cret", "x-api-key: …"),
        ("X-API-Key:s3cret,t0ken; a", "X-API-Key:… a"),
        ("{'x-api-key': ['s3cret'], 'a': 'b'}", "{'x-api-key': ['…'], 'a': 'b'}"),
        ("(b'x-api-key', b's3cret')", "(b'x-api-key', b'…')"),
        ('headers["x-api-key"] = "s3cret"', 'headers["x-api-key"] = "…"'),
        (r"{\"x-api-key\":\"s3cret\",\"a\":1}", r"{\"x-api-key\":\"…\",\"a\":1}"),
        ("a%253FX-Amz-Signature%253ds3cret", "a%253FX-Amz-Signature%253d…"),
        ("x-api-key%3A%20s3cret", "x-api-key%3A%20…"),
        ('{"name": "x-api-key", "value": "s3cret"}', '{"name": "x-api-key", "value": "…"}'),
        ('["x-api-key","s3cret"]', '["x-api-key","…"]'),
        ('{"Name":"x-api-key","Value":"s3cret"}', '{"Name":"x-api-key","Value":"…"}'),
        ('{"missing":"x-api-key"}', '{"missing":"x-api-key"}'),
        ("Authorization: AWS4-HMAC-SHA256 Credential=s3cret", "Authorization: AWS4-HMAC-SHA256 …"),
        ("s3://bucket/a film.mp4", "s3://bucket/a film.mp4"),
        ("Is it a complete file? See example.com/a=b.", "Is it a complete file? See example.com/a=b."),
        ("-map 0:s? -vf select='gt(a,1)'", "-map 0:s? -vf select='gt(a,1)'"),
        ("", ""),
    ],
)
def test_the_secrets_of_urls_are_left_out(text, shown):
    assert redacted(text) == shown


def test_a_long_text_takes_no_longer_than_its_length_asks_for():
    assert redacted("://" * 100_000) == "://" * 100_000
    assert redacted("?a" * 100_000) == "?a" * 100_000
    assert redacted("x-api-key" + " :" * 50_000) == "x-api-key" + " :" * 49_999 + " …"


def time_out() -> None:
    raise subprocess.TimeoutExpired(["ffprobe", URL], 90)


def chained() -> None:
    try:
        time_out()
    except subprocess.TimeoutExpired as error:
        error.add_note(f"It was {URL}.")
        raise OSError(f"{URL} could not be read") from error


def test_every_field_of_a_record_is_stripped(monkeypatch, capsys):
    # A logger is made once for a service.
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "of-this-test")
    logger = logs.create_logger()
    child = Logger(child=True)
    logger.append_keys(source=URL)
    child.info("taken up", origin_url=URL, count=3, ok=True, nothing=None, ratio=0.5, more={URL: [(URL,)]})
    pairs = [("x-api-key", "s3cret"), (b"x-api-key", b"s3cret"), {"Name": "x-api-key", "Value": "s3cret"}]
    child.info("called", headers={"X-Api-Key": "s3cret", "Host": "api.example"}, pairs=pairs)
    child.info(f"reading {URL}")
    child.info("reading %s", URL)
    child.info({"url": URL})
    child.info(json.dumps({"url": URL}))
    child.info(OSError(URL))
    child.warning("failed", stderr=f"[https @ 0x5] {URL}: HTTP error 403 Forbidden", path=Path("/tmp/x"))
    try:
        chained()
    except OSError:
        child.exception("attempt failed")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 9
    text = json.dumps([[value for key, value in line.items() if key != "more"] for line in lines])
    text += json.dumps(list(lines[0]["more"].values()))
    assert not [secret for secret in SECRETS if secret in text]
    first = lines[0]
    assert (first["message"], first["origin_url"], first["source"]) == ("taken up", SHOWN, SHOWN)
    assert (first["count"], first["ok"], first["ratio"], first["level"]) == (3, True, 0.5, "INFO")
    assert lines[1]["pairs"][0] == ["x-api-key", "…"]
    assert lines[1]["pairs"][2] == {"Name": "x-api-key", "Value": "…"}
    assert lines[1]["headers"] == {"X-Api-Key": "…", "Host": "api.example"}
    assert lines[7]["path"] == "/tmp/x"
    assert "TimeoutExpired" in lines[-1]["exception"]
    assert "chained" in lines[-1]["exception"]
    assert lines[-1]["stack_trace"]["type"] == "OSError"


def test_what_libraries_log_is_stripped():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("[%(levelname)s] %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        logs.create_logger()
        logs.create_logger()
        try:
            chained()
        except OSError:
            logging.getLogger("urllib3").warning("Failed to parse headers (url=%s)", URL, exc_info=True)
    finally:
        logging.getLogger().removeHandler(handler)
    written = stream.getvalue()
    assert written.startswith(f"[WARNING] Failed to parse headers (url={SHOWN}")
    assert "TimeoutExpired" in written
    assert not [secret for secret in SECRETS if secret in written]


def test_a_process_without_a_handler_logs_stripped_as_well():
    script = (
        "import logging; from transcoding import logs; logs.create_logger(); "
        f"logging.getLogger('urllib3').warning('Retrying %s', {URL!r})"
    )
    folder = Path(logs.__file__).parents[1]
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert done.stderr == f"Retrying {SHOWN}\n"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_each_function_logs_through_it(environment, monkeypatch, function):
    worker: dict[str, Any] = {"OUTPUT_BASE_URL": "https://cdn.example", "PART_SECONDS": "7"}
    worker |= {"FAN_OUT_SECONDS": "60", "MAX_SOURCE_BYTES": "1000"}
    for name, value in worker.items():
        monkeypatch.setenv(name, value)
    logger = importlib.import_module(function).logger
    assert logger.registered_formatter.json_serializer is logs._serialize
