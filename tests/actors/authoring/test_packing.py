"""Packages: the same bytes for the same files, and nothing that skilld would not take."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from skill_actors.authoring.folder import open_skill
from skill_actors.authoring.packing import CannotPack, pack, write_package
from skill_actors.skills.base import Skill
from skill_actors.skills.loader import load_skill
from skill_actors.skills.package import unpack

Author = Callable[..., Path]
FILES = {"+scripts/a.py": "print()\n", "references/z.md": "z", "evals/a.json": "{}", "scripts/__pycache__/a.pyc": b"\0"}


def entries(data: bytes) -> list[zipfile.ZipInfo]:
    return zipfile.ZipFile(io.BytesIO(data)).infolist()


def test_same_files_give_the_same_bytes_wherever_and_whenever_they_lie(tmp_path: Path, author: Author) -> None:
    one = author(tmp_path / "x" / "tides", FILES)
    two = author(tmp_path / "y" / "tides", dict(reversed(FILES.items())))
    for path in two.rglob("*"):
        os.utime(path, (1, 1))
    (two / "references/z.md").chmod(0o600)
    assert pack(open_skill(one)) == pack(open_skill(two))


def test_package_holds_the_skill_below_its_name_and_no_leftovers(tmp_path: Path, author: Author) -> None:
    infos = entries(pack(open_skill(author(tmp_path / "tides", FILES))))
    assert {info.filename: stat.S_IMODE(info.external_attr >> 16) for info in infos} == {
        "tides/SKILL.md": 0o644,
        "tides/references/z.md": 0o644,
        "tides/scripts/a.py": 0o755,
    }


def test_what_is_unpacked_is_the_skill(tmp_path: Path, author: Author) -> None:
    root = author(tmp_path / "tides", {"+scripts/a.py": "print()\n", "a/b/c.txt": "c" * 100_000})
    loaded = load_skill(unpack(pack(open_skill(root)), tmp_path / "out"))
    original = load_skill(root)
    assert isinstance(loaded, Skill)
    assert isinstance(original, Skill)
    assert loaded.digest == original.digest


def test_skill_that_is_not_valid_is_not_packed(tmp_path: Path, author: Author) -> None:
    with pytest.raises(CannotPack, match=r"must be lowercase.*\[name_case\]"):
        pack(open_skill(author(tmp_path / "Tides")))
    with pytest.raises(CannotPack, match="unknown_field"):
        pack(open_skill(author(tmp_path / "tides", extra="version: 1")))


def test_what_would_silently_be_missing_is_a_reason_not_to_pack(tmp_path: Path, author: Author) -> None:
    root = author(tmp_path / "tides")
    (root / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(CannotPack, match="link out of the skill"):
        pack(open_skill(root))


def test_dependencies_that_the_loader_leaves_out_are_no_reason(tmp_path: Path, author: Author) -> None:
    root = author(tmp_path / "tides", {"node_modules/x/index.js": "x"})
    assert [info.filename for info in entries(pack(open_skill(root)))] == ["tides/SKILL.md"]


def test_skill_that_skilld_would_not_take_back_is_not_packed(tmp_path: Path, author: Author) -> None:
    root = author(tmp_path / "tides", {"zeros.bin": b"\0" * (64 << 20)})  # unpacks to far more than its size
    with pytest.raises(CannotPack, match="would not be taken"):
        pack(open_skill(root))


def test_edit_after_the_look_is_noticed(tmp_path: Path, author: Author) -> None:
    root = author(tmp_path / "tides", {"a.txt": "one"})
    folder = open_skill(root)
    (root / "a.txt").write_text("two")
    with pytest.raises(CannotPack, match="changed while it was read"):
        pack(folder)


def test_target_is_replaced_whole_and_never_lies_in_the_skill(tmp_path: Path, author: Author) -> None:
    folder = open_skill(author(tmp_path / "tides"))
    target = tmp_path / "t.skill"
    target.write_text("old")
    write_package(b"new", target, folder)
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    (tmp_path / "link").symlink_to(folder.root)
    for inside in (folder.root / "t.skill", tmp_path / "link" / "t.skill"):
        with pytest.raises(CannotPack, match="own folder"):
            write_package(b"new", inside, folder)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for other in ("folder", "pipe"):
        with pytest.raises(CannotPack, match="is no file"):
            write_package(b"new", tmp_path / other, folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link", "pipe", "t.skill", "tides"]
