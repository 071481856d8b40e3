"""Two folders kept the same, with the code of both ends and without a container between them."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import trio

from conftest import require
from skill_actors.backends import bundles
from skill_actors.backends.bundles import Entry, Piece
from skill_actors.backends.mirror import Mirror, changes
from support import run


class Inside:
    """What the runner does with operations, in a folder of the host."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.unreadable: set[str] = set()
        folder.mkdir()

    async def operate(self, name: str, arguments: Mapping[str, Any]) -> Any:
        self.asked.append(name)
        await trio.lowlevel.checkpoint()
        root = str(self.folder)
        if name == "listing":
            return rows(bundles.listing(root))
        if name == "pack":
            wanted = [Piece(*piece) for piece in arguments["pieces"] if piece[0] not in self.unreadable]
            return base64.b64encode(bundles.pack(root, wanted)).decode()
        bundles.remove(root, arguments["remove"])
        return rows(bundles.unpack(root, base64.b64decode(arguments["tar"]), file_bits=0o660, folder_bits=0o2770))

    def digest(self) -> str:
        return bundles.digest(bundles.listing(str(self.folder)))


def rows(found: Mapping[str, Entry]) -> list[list[Any]]:
    return [[path, entry.kind, entry.mode, entry.size, list(entry.stamp)] for path, entry in found.items()]


def pair(tmp_path: Path, quota_bytes: int = 1 << 20) -> tuple[Mirror, Path, Inside]:
    disk = tmp_path / "disk"
    disk.mkdir()
    return Mirror(disk, quota_bytes, trio.CapacityLimiter(1)), disk, Inside(tmp_path / "inside")


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_changes_are_found_by_kind_mode_size_and_stamp() -> None:
    file, folder = Entry("file", 0o644, 1, (1,)), Entry("dir", 0o755, 0, ())
    before = {"same": file, "gone": file, "kind": file, "touched": file}
    now = {"same": file, "kind": folder, "touched": Entry("file", 0o644, 1, (2,)), "new": file}
    assert changes(before, now) == (["kind", "touched", "new"], ["gone", "kind"])


def test_what_changes_on_either_side_comes_to_the_other_and_nothing_twice(tmp_path: Path) -> None:
    async def main() -> None:
        mirror, disk, inside = pair(tmp_path)
        (disk / "a").mkdir()
        (disk / "a" / "f").write_text("one")
        assert await mirror.push(inside.operate) == ""
        assert names(inside.folder) == ["a", "a/f"]
        (inside.folder / "a" / "g").write_text("two")
        (inside.folder / "a" / "f").unlink()
        assert await mirror.pull(inside.operate, inside.digest()) == ""
        assert names(disk) == ["a", "a/g"]
        asked = len(inside.asked)
        await mirror.push(inside.operate)
        await mirror.pull(inside.operate, inside.digest())
        assert len(inside.asked) == asked
        (disk / "a" / "g").unlink()
        (disk / "a").rmdir()
        (disk / "a").write_text("now a file")
        await mirror.push(inside.operate)
        assert names(inside.folder) == ["a"]
        await mirror.pull(inside.operate)
        assert (disk / "a").read_text() == "now a file"

    run(main)


def test_another_container_gets_everything(tmp_path: Path) -> None:
    async def main() -> None:
        mirror, disk, inside = pair(tmp_path)
        (inside.folder / "made").write_text("kept")
        await mirror.pull(inside.operate)
        other = Inside(tmp_path / "other")
        mirror.forget()
        await mirror.push(other.operate)
        assert (other.folder / "made").read_text() == "kept"
        assert (disk / "made").exists()

    run(main)


def test_what_cannot_be_read_yet_is_tried_again(tmp_path: Path) -> None:
    async def main() -> None:
        mirror, disk, inside = pair(tmp_path)
        (inside.folder / "private").write_text("x")
        (inside.folder / "open").write_text("x")
        inside.unreadable = {"private"}
        await mirror.pull(inside.operate, inside.digest())
        assert names(disk) == ["open"]
        inside.unreadable = set()
        await mirror.pull(inside.operate, inside.digest())
        assert names(disk) == ["open", "private"]

    run(main)


def test_more_than_the_quota_is_not_kept_and_said(tmp_path: Path) -> None:
    async def main() -> None:
        mirror, disk, inside = pair(tmp_path, quota_bytes=100)
        (inside.folder / "small").write_text("x")
        (inside.folder / "sparse").touch()
        os.truncate(inside.folder / "sparse", 1 << 40)
        assert "have 1099511627777 bytes, 100 are allowed" in await mirror.pull(inside.operate, inside.digest())
        assert names(disk) == []
        (inside.folder / "sparse").unlink()
        assert await mirror.pull(inside.operate, inside.digest()) == ""
        assert names(disk) == ["small"]

    run(main)


def test_what_does_not_fit_inside_is_said_once(tmp_path: Path) -> None:
    async def main() -> None:
        mirror, disk, inside = pair(tmp_path)
        (disk / "f").write_text("x")

        async def full(name: str, arguments: Mapping[str, Any]) -> Any:
            return []

        assert await mirror.push(full) == "[1 files of the workspace do not fit into the container]"
        assert await mirror.push(full) == ""
        assert names(inside.folder) == []

    run(main)


def test_a_folder_that_was_removed_on_disk_is_made_again(tmp_path: Path) -> None:
    async def main() -> None:
        mirror, disk, inside = pair(tmp_path)
        (disk / "f").write_text("x")
        await mirror.push(inside.operate)
        shutil.rmtree(disk)
        await mirror.push(inside.operate)
        assert names(inside.folder) == []
        (inside.folder / "g").write_text("y")
        await mirror.pull(inside.operate)
        assert names(disk) == ["g"]

    run(main)


def on_disk(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    require(done.returncode == 0, f"a small disk cannot be mounted here: {done.stderr}")


def test_a_full_disk_is_said_and_what_is_missing_comes_out_when_there_is_room(tmp_path: Path) -> None:
    async def main() -> None:
        mirror, disk, inside = pair(tmp_path)
        (inside.folder / "big").write_bytes(b"x" * 300_000)
        on_disk("mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk))
        try:
            note = await mirror.pull(inside.operate, inside.digest())
            assert note == "[not all that has changed in the workspace is kept: No space left on device on the host]"
            assert names(disk) == []
            on_disk("mount", "-o", "remount,size=1m", str(disk))
            assert await mirror.pull(inside.operate, inside.digest()) == ""
            assert (disk / "big").stat().st_size == 300_000
        finally:
            on_disk("umount", "-l", str(disk))

    run(main)
