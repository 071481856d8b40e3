"""Which storage of files a configuration means, and where its keys come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from skill_actors.files.storage import LocalStorage, S3Storage, StorageError
from skilld.config import FilesConfig
from skilld.file_storage import open_storage

KEYS = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "hush"}
TEXT = "AWS_ACCESS_KEY_ID=k\nAWS_SECRET_ACCESS_KEY=hush\n"


def test_nothing_is_kept_elsewhere_unless_somebody_says_so() -> None:
    assert not FilesConfig().is_kept_elsewhere
    assert FilesConfig(folder=Path("/x")).is_kept_elsewhere
    assert FilesConfig(storage="s3", bucket="b").is_kept_elsewhere
    assert FilesConfig(storage="tigris").is_kept_elsewhere


@pytest.mark.parametrize(
    "wrong",
    [
        {"storage": "s3"},
        {"storage": "s3", "bucket": "b", "folder": "/x"},
        {"endpoint": "ftp://x"},
        {"prefix": "/x/"},
        {"prefix": "x"},
        {"style": "host"},
    ],
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FilesConfig.model_validate(wrong)


def test_each_kind_of_storage_is_opened(tmp_path: Path) -> None:
    local = open_storage(FilesConfig(folder=tmp_path / "there"), tmp_path, {})
    assert isinstance(local, LocalStorage)
    assert local.local_path("ses") == tmp_path / "there/ses"
    s3 = open_storage(FilesConfig(storage="s3", bucket="b", prefix="p/"), tmp_path, KEYS)
    assert isinstance(s3, S3Storage)
    assert s3.storage_url("ses", "a") == "s3://b/p/ses/a"
    fly = open_storage(FilesConfig(storage="tigris"), tmp_path, {**KEYS, "BUCKET_NAME": "mine"})
    assert (fly.name, fly.storage_url("ses", "a")) == ("tigris", "s3://mine/sessions/ses/a")


def test_keys_come_from_the_file_then_the_credential_then_the_environment(tmp_path: Path) -> None:
    config = FilesConfig(storage="tigris", bucket="b")
    with pytest.raises(StorageError, match="no keys"):
        open_storage(config, tmp_path, {})
    passed = tmp_path / "credentials"
    passed.mkdir()
    (passed / "storage_keys").write_text(TEXT)
    assert open_storage(config, tmp_path, {"CREDENTIALS_DIRECTORY": str(passed)}).name == "tigris"
    file = tmp_path / "keys"
    file.write_text("AWS_SECRET_ACCESS_KEY=hush")
    named = FilesConfig(storage="tigris", bucket="b", credentials_file=file)
    with pytest.raises(StorageError) as found:  # it wins over what would do, and its fault is told
        open_storage(named, tmp_path, {**KEYS, "CREDENTIALS_DIRECTORY": str(passed)})
    assert (found.value.code, str(file) in str(found.value)) == ("storage_init_failed", True)
    assert "hush" not in str(found.value)
