"""A workspace copied: what tools may have left there, and what must not get out of it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from skill_actors.sessions.workspace_copy import copy_workspace


def test_files_folders_links_modes_and_times_are_copied(tmp_path: Path) -> None:
    source = tmp_path / "a"
    (source / "d/empty").mkdir(parents=True)
    (source / "d/x").write_bytes(os.urandom(3 << 20))
    (source / "d/x").chmod(0o4751)
    os.utime(source / "d/x", ns=(1, 10**18))
    (source / "up").symlink_to("../../secret")
    os.link(source / "d/x", source / "same")
    count = copy_workspace(source, tmp_path / "b")
    assert (count.files, count.skipped) == (2, 0)
    copied = tmp_path / "b"
    assert (copied / "d/x").read_bytes() == (source / "d/x").read_bytes()
    assert (copied / "d/x").stat().st_mode & 0o7777 == 0o751  # set-user-id stays behind
    assert (copied / "d/x").stat().st_mtime_ns == 10**18
    assert (copied / "d/empty").is_dir()
    assert os.readlink(copied / "up") == "../../secret"
    (copied / "same").write_text("other")
    assert (copied / "d/x").stat().st_size == 3 << 20


def test_a_session_that_never_ran_a_tool_has_nothing_to_copy(tmp_path: Path) -> None:
    assert copy_workspace(tmp_path / "none", tmp_path / "b").files == 0
    assert not (tmp_path / "b").exists()


def test_what_is_no_file_is_left_out(tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.mkdir()
    os.mkfifo(source / "fifo")  # opening it for reading would wait for a writer for ever
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(source / "s"))
    (source / "f").write_text("x")
    count = copy_workspace(source, tmp_path / "b")
    assert (count.files, count.skipped) == (1, 2)
    assert os.listdir(tmp_path / "b") == ["f"]


def test_a_link_in_the_place_of_the_workspace_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "a").symlink_to("secret")
    with pytest.raises(OSError, match="a"):
        copy_workspace(tmp_path / "a", tmp_path / "b")


def test_a_folder_that_becomes_a_link_while_it_is_copied_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tool that still runs swaps a folder for a link between the look at it and its opening."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("hidden")
    source = tmp_path / "a"
    (source / "d").mkdir(parents=True)
    look = os.stat

    def swap(*args: object, **options: object) -> os.stat_result:
        facts = look(*args, **options)  # type: ignore[arg-type]
        if args[0] == "d":
            (source / "d").rmdir()
            (source / "d").symlink_to(secret)
        return facts

    monkeypatch.setattr("skill_actors.sessions.workspace_copy.os.stat", swap)
    assert copy_workspace(source, tmp_path / "b").skipped == 1
    assert list((tmp_path / "b").rglob("*")) == []


def test_a_hole_stays_a_hole(tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.mkdir()
    with (source / "sparse").open("wb") as file:
        file.seek(1 << 40)
        file.write(b"end")
        file.seek(1 << 30)
        file.write(b"middle")
    copy_workspace(source, tmp_path / "b")
    copied = tmp_path / "b/sparse"
    assert copied.stat().st_size == (1 << 40) + 3
    assert copied.stat().st_blocks * 512 < 1 << 20
    with copied.open("rb") as file:
        file.seek(1 << 30)
        assert file.read(6) == b"middle"


def test_folders_nested_too_deeply_are_left_out(tmp_path: Path) -> None:
    source = tmp_path / "a"
    (source / "/".join("d" * 150)).mkdir(parents=True)
    count = copy_workspace(source, tmp_path / "b")
    assert count.skipped == 1
    assert (tmp_path / "b" / "/".join("d" * 100)).is_dir()


def test_a_copy_can_be_stopped_between_and_within_files(tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.mkdir()
    (source / "large").write_bytes(b"x" * (20 << 20))
    (source / "small").write_bytes(b"x")
    asked = 0

    def count() -> None:
        nonlocal asked
        asked += 1

    copy_workspace(source, tmp_path / "b", count)
    assert asked >= 2

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_workspace(source, tmp_path / "c", stop)
    assert list((tmp_path / "c").iterdir()) == []


def test_a_copy_that_is_removed_meanwhile_is_an_error_and_no_empty_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    (source / "d").mkdir(parents=True)
    (source / "d" / "f").write_text("x")
    look = os.stat

    def remove(*args: object, **options: object) -> os.stat_result:
        if args[0] == "f":
            (target / "d").rmdir()
        return look(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("skill_actors.sessions.workspace_copy.os.stat", remove)
    with pytest.raises(FileNotFoundError):
        copy_workspace(source, target)
