"""The environment of the functions."""

from __future__ import annotations

from datetime import timedelta

import pytest

from transcoding.settings import CreateSettings, DeleteSettings, Settings, SettingsError, WorkerSettings

pytestmark = pytest.mark.usefixtures("environment")


def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUEUE_URL")
    with pytest.raises(SettingsError, match="QUEUE_URL"):
        CreateSettings.read()


@pytest.mark.parametrize(
    ("name", "value"), [("TABLE_NAME", ""), ("TIMEZONE", "Mars/Olympus"), ("RETENTION_DAYS", "0")]
)
def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        DeleteSettings.read()


def test_defaults() -> None:
    assert Settings.read().timezone.key == "Asia/Shanghai"
    assert DeleteSettings.read().retention == timedelta(days=30)


def test_the_worker_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_SOURCE_BYTES", "1000")
    monkeypatch.setenv("LEASE_SECONDS", "20")
    monkeypatch.setenv("PART_SECONDS", "15")
    monkeypatch.setenv("FAN_OUT_SECONDS", "60")
    assert WorkerSettings.read().lease == timedelta(seconds=20)
    assert WorkerSettings.read().source_buckets == ("*",)
    arns = "arn:aws:s3:::films,arn:aws:s3:::films/*,arn:aws-cn:s3:::new-*/*"
    monkeypatch.setenv("SOURCE_BUCKETS", f"sources,uploads-1,{arns}")
    assert WorkerSettings.read().source_buckets == ("sources", "uploads-1", "films", "new-*")
    monkeypatch.setenv("SOURCE_BUCKETS", "sources,uploads-1,")
    assert WorkerSettings.read().source_buckets == ("sources", "uploads-1")
