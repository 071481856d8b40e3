"""Which paths may be used, and that a change in between leads to a refusal."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skill_actors.backends.paths import PathRefused, locate, opened, opened_parent, readable_file


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    root = tmp_path.resolve() / "workspace"
    root.mkdir()
    (root / "folder").mkdir()
    (root / "folder" / "file").write_text("inside")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("outside")
    return root


def read(path: str, workspace: Path, *readable: Path) -> str:
    where = locate(path, workspace=str(workspace), readable=readable)
    with opened(where) as fd, open(readable_file(fd, where)) as file:
        return file.read()


@pytest.mark.parametrize("path", ["folder/file", "./folder/../folder//file", "folder/./file", "near", "to/file"])
def test_a_path_that_ends_up_inside_may_be_used(workspace: Path, path: str) -> None:
    (workspace / "near").symlink_to("folder/file")
    (workspace / "to").symlink_to(workspace / "folder")
    assert read(path, workspace) == "inside"
    assert read(str(workspace / path), workspace) == "inside"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "empty"),
        ("..", "outside"),
        ("../outside/file", "outside"),
        ("folder/../../outside/file", "outside"),
        ("link/file", "outside"),
        ("link/../outside/file", "outside"),
        ("two/file", "outside"),
        ("proc/etc/hostname", "outside"),
        ("/etc/hostname", "outside"),
        ("~/file", "not expanded"),
        ("~root/file", "not expanded"),
        ("a\0b", "NUL"),
        ("\ud800", "not valid Unicode"),
        ("a/" * 3000, "bytes; the system allows 4095"),
        ("x" * 256, "256 bytes; the system allows 255"),
        ("folder/none", "does not exist"),
        ("folder/file/deeper", "not a folder"),
        ("loop", "symbolic link"),
    ],
)
def test_a_path_that_ends_up_elsewhere_is_refused(workspace: Path, path: str, words: str) -> None:
    (workspace / "link").symlink_to("../outside")
    (workspace / "two").symlink_to("link")
    (workspace / "proc").symlink_to("/proc/self/root")
    (workspace / "loop").symlink_to("loop")
    with pytest.raises(PathRefused, match=words):
        read(path, workspace)


def test_a_neighbour_whose_name_begins_like_the_workspace_is_outside(workspace: Path) -> None:
    (workspace.parent / "workspace-2").mkdir()
    (workspace.parent / "workspace-2" / "file").write_text("x")
    with pytest.raises(PathRefused, match="outside"):
        read("../workspace-2/file", workspace)


def test_readable_folders_are_allowed_by_their_real_path(workspace: Path) -> None:
    outside = workspace.parent / "outside"
    alias = workspace.parent / "alias"
    alias.symlink_to(outside)
    assert read(str(alias / "file"), workspace, outside) == "outside"
    assert read(str(outside / "file"), workspace, alias) == "outside"


def test_a_refusal_is_as_short_for_very_many_skills(workspace: Path) -> None:
    with pytest.raises(PathRefused, match="and the folders of its skills") as refused:
        read("/etc/hostname", workspace, *(workspace / str(number) for number in range(1_000)))
    assert str(workspace) in str(refused.value)
    assert len(str(refused.value)) < 300 + len(str(workspace))


def test_a_folder_swapped_for_a_link_after_the_check_is_refused(workspace: Path) -> None:
    where = locate("folder/file", workspace=str(workspace))
    (workspace / "folder").rename(workspace / "moved")
    (workspace / "folder").symlink_to(workspace.parent / "outside")
    with pytest.raises(PathRefused, match="became a symbolic link"), opened(where):
        pass
    with pytest.raises(PathRefused, match="became a symbolic link"), opened_parent(where, make=True):
        pass


def test_a_file_swapped_for_a_link_after_the_check_is_refused(workspace: Path) -> None:
    where = locate("folder/file", workspace=str(workspace))
    (workspace / "folder" / "file").unlink()
    (workspace / "folder" / "file").symlink_to(workspace.parent / "outside" / "file")
    with pytest.raises(PathRefused, match="became a symbolic link"), opened(where):
        pass


def test_a_workspace_swapped_for_a_link_is_refused(workspace: Path) -> None:
    workspace.rename(workspace.parent / "elsewhere")
    workspace.symlink_to("/")
    with pytest.raises(PathRefused):
        read("folder/file", workspace)
    with pytest.raises(PathRefused):
        read("etc/hostname", workspace)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_only_regular_files_are_opened_for_reading(workspace: Path, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(workspace / "x")
    elif kind == "folder":
        (workspace / "x").mkdir()
    else:
        try:
            os.mknod(workspace / "x", 0o20666, os.makedev(1, 5))
        except PermissionError:
            pytest.skip("devices are made by root only")
    with pytest.raises(PathRefused, match="not a regular file"):
        read("x", workspace)


def test_no_descriptor_stays_open(workspace: Path) -> None:
    before = os.listdir("/proc/self/fd")
    for path in ("folder/file", "folder/none", "folder/file/deeper"):
        try:
            read(path, workspace)
        except PathRefused:
            continue
    assert os.listdir("/proc/self/fd") == before
