"""Removing objects, and who has to load what."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import BUCKET, Aws
from transcoding.data import object_store
from transcoding.data.object_store import ObjectStore
from transcoding.errors import UnavailableError


def test_more_objects_than_a_request_takes_are_removed(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(7):
        aws.put_object(f"outputs/aaaaaaaa/1/{n}")
    store = ObjectStore(BUCKET)
    paginator = store._s3.get_paginator("list_objects_v2")
    paginate = paginator.paginate
    monkeypatch.setattr(store._s3, "get_paginator", lambda _: paginator)
    monkeypatch.setattr(
        paginator, "paginate", lambda **wanted: paginate(**wanted, PaginationConfig={"PageSize": 3})
    )
    store.remove_task("aaaaaaaa")
    assert aws.keys() == []


def test_an_object_that_stays_is_told(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    aws.put_object("outputs/aaaaaaaa/1/0")
    store = ObjectStore(BUCKET)
    errors = {"Errors": [{"Key": "outputs/aaaaaaaa/1/0", "Code": "InternalError"}]}
    monkeypatch.setattr(store._s3, "delete_objects", lambda **_: errors)
    with pytest.raises(UnavailableError):
        store.remove_task("aaaaaaaa")


def test_a_task_removes_nothing_of_another(aws: Aws) -> None:
    aws.put_object("outputs/aaaaaaaa/1/0")
    aws.put_object("outputs/aaaaaaab/1/0")
    ObjectStore(BUCKET).remove_task("aaaaaaaa")
    assert aws.keys() == ["outputs/aaaaaaab/1/0"]


def test_who_only_removes_does_not_load_what_uploads() -> None:
    loaded = "import sys, transcoding.service.tasks; sys.exit('s3transfer' in sys.modules)"
    folder = Path(object_store.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", loaded], cwd=folder, check=False).returncode == 0
