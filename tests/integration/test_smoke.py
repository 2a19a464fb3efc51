"""`make smoke`, on the emulator."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local import smoke
from local.emulator import ACCOUNT_ID, SECRET
from local.package import ROOT
from local.smoke import Service, Smoke
from local.stack import Stack


def _run(home: Path) -> tuple[int, list[str]]:
    command = [sys.executable, "-m", "local.smoke", "--home", str(home)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, (done.stdout or done.stderr).splitlines()


def test_all_is_well(stack: Stack, stack_home: Path, s3: Any) -> None:
    before = s3.list_objects_v2(Bucket=stack["source_bucket"])["KeyCount"]
    code, (_, *rows) = _run(stack_home)
    assert code == 0, "\n".join(rows)
    assert {row.split()[0] for row in rows} == {"OK"}
    assert len(rows) == 15
    assert s3.list_objects_v2(Bucket=stack["source_bucket"])["KeyCount"] == before


def test_a_difference_is_an_error(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text(json.dumps(stack | {"api_key": "wrong"}))
    code, (_, *rows) = _run(tmp_path)
    assert code == 1
    assert len(rows) == 15
    assert all(row.startswith("!!") for row in rows if "create" in row)
    assert any("1403" in row for row in rows)


def test_a_service_that_does_not_run_is_an_error(tmp_path: Path) -> None:
    code, (told,) = _run(tmp_path)
    assert code == 1
    assert "make up" in told


@pytest.mark.slow
def test_a_result_that_is_not_the_clips_is_told(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(smoke._CODECS, smoke._FILM, "mpeg4 -q:v 4 -frames:v 100")
    report = Smoke(Service.running(stack)).run()
    assert not report.good
    wrong = {step: got for step, expected, got, _ in report.rows if got != expected}
    assert wrong == {
        "from S3: HLS": "100 frames, sound",
        "from S3: what is told of it": "4 s, 640x360 at 25 frames a second",
    }


def test_a_stack_on_aws_is_reached_by_its_name(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    # Where only the host name of the API is another.
    for name, value in {
        "AWS_ENDPOINT_URL": stack["aws_endpoint_url"],
        "AWS_DEFAULT_REGION": stack["region"],
        "AWS_ACCESS_KEY_ID": ACCOUNT_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }.items():
        monkeypatch.setenv(name, value)
    service = Service.on_aws(stack["stack_name"])
    assert service.api_url.startswith("https://")
    assert not service.here
    assert replace(service, api_url=stack["api_url"], s3=None, here=True) == replace(
        Service.running(stack), s3=None
    )
