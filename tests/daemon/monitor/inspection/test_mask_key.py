"""The key that masks are made with is on the disk, name and all, before anything is masked with it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from skilld.monitor.inspection.mask_key import mask_key


def test_the_key_and_its_name_are_flushed_before_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[int, list[str]]] = []
    fsync = os.fsync

    def noted(fd: int) -> None:
        fsync(fd)
        synced.append((os.fstat(fd).st_ino, os.listdir(tmp_path)))

    monkeypatch.setattr(os, "fsync", noted)
    path = tmp_path / "mask.key"
    key = mask_key(path)
    assert (len(key), stat.S_IMODE(path.stat().st_mode)) == (32, 0o600)
    assert [inode for inode, _ in synced] == [path.stat().st_ino, tmp_path.stat().st_ino]
    assert synced[-1][1] == ["mask.key"], "the folder after the name was in it"
    assert mask_key(path) == key


def test_nothing_is_left_of_a_key_for_which_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            mask_key(tmp_path / "mask.key")
        assert list(tmp_path.iterdir()) == []
    assert len(mask_key(tmp_path / "mask.key")) == 32
