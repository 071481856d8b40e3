"""Two folders kept the same, with the code of both ends and without a container between them."""

from __future__ import annotations

import base64
import io
import os
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
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
        self.closed: set[str] = set()
        folder.mkdir()

    async def operate(self, name: str, arguments: Mapping[str, Any]) -> Any:
        self.asked.append(name)
        await trio.lowlevel.checkpoint()
        root = str(self.folder)
        if name == "listing":
            return self.listing()
        if name == "pack":
            wanted = [Piece(*piece) for piece in arguments["pieces"] if piece[0] not in self.unreadable]
            return base64.b64encode(bundles.pack(root, wanted)).decode()
        bundles.remove(root, arguments["remove"])
        return bundles.unpack(root, base64.b64decode(arguments["tar"]), file_bits=0o660, folder_bits=0o2770)

    def listing(self) -> dict[str, Entry]:
        """What a user sees to whom some folders are closed."""
        found = {}
        for path, entry in bundles.listing(str(self.folder)).items():
            if path in self.closed:
                found[path] = replace(entry, size=bundles.CLOSED)
            elif not any(path.startswith(f"{folder}/") for folder in self.closed):
                found[path] = entry
        return found

    def digest(self) -> str:
        return bundles.digest(self.listing())


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


def test_of_a_closed_folder_nothing_below_is_gone() -> None:
    file, folder = Entry("file", 0o644, 1, (1,)), Entry("dir", 0o755, 0, ())
    closed = replace(folder, size=bundles.CLOSED)
    before = {"a": folder, "a/b": folder, "a/b/f": file, "ab": file}
    assert changes(before, {"a": closed}) == (["a"], ["ab"])
    assert changes(before, {"": closed}) == ([""], [])


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
            return {}

        assert await mirror.push(full) == "[1 files of the workspace do not fit into the container]"
        assert await mirror.push(full) == ""
        assert names(inside.folder) == []

    run(main)


def test_what_does_not_fit_any_more_leaves_no_earlier_version_inside_and_stays_on_disk(tmp_path: Path) -> None:
    async def main() -> None:
        mirror, disk, inside = pair(tmp_path, quota_bytes=4 << 20)
        (disk / "f").write_text("old")
        await mirror.push(inside.operate)
        os.truncate(disk / "f", 1 << 40)
        (disk / "small").write_text("x")
        asked = len(inside.asked)
        assert await mirror.push(inside.operate) == "[1 files of the workspace do not fit into the container]"
        assert len(inside.asked) < asked + 5
        assert names(inside.folder) == ["small"]
        assert await mirror.pull(inside.operate, inside.digest()) == ""
        assert (disk / "f").stat().st_size == 1 << 40
        (disk / "f").write_text("new")
        assert await mirror.push(inside.operate) == ""
        assert (inside.folder / "f").read_text() == "new"

    run(main)


STRANGE = [b"\xff\xfe", b"new\nline", b"back\\slash", b" ", b"...", "\u2028é".encode(), b"-rf", b"\x1b[31m", b"x" * 255]


def strange(side: Path, place: bytes) -> dict[bytes, bytes]:
    """A folder with strange names in it: what each of its files holds."""
    root = os.fsencode(side) + b"/" + place
    found = {}
    for name in os.listdir(root):
        with open(os.path.join(root, name, b"file"), "rb") as file:
            found[os.readlink(os.path.join(root, name, name))] = file.read()
    return found


def make_strange(side: Path, place: bytes) -> None:
    for name in STRANGE:
        folder = os.path.join(os.fsencode(side), place, name)
        os.makedirs(folder)
        os.symlink(name, os.path.join(folder, name))
        with open(os.path.join(folder, b"file"), "wb") as file:
            file.write(name)


def test_strange_names_go_both_ways(tmp_path: Path) -> None:
    async def main() -> None:
        mirror, disk, inside = pair(tmp_path)
        make_strange(disk, b"in")
        make_strange(inside.folder, b"out")
        assert await mirror.push(inside.operate) == ""
        assert await mirror.pull(inside.operate, inside.digest()) == ""
        for side in (disk, inside.folder):
            for place in (b"in", b"out"):
                assert strange(side, place) == {name: name for name in STRANGE}

    run(main)


def test_special_files_stay_where_they_are_and_hard_links_become_files(tmp_path: Path) -> None:
    async def main() -> None:
        mirror, disk, inside = pair(tmp_path)
        for side in (disk, inside.folder):
            os.mkfifo(side / "fifo")
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(side / "socket"))
            (side / f"one-of-{side.name}").write_text("x")
            os.link(side / f"one-of-{side.name}", side / f"two-of-{side.name}")
            os.setxattr(side / f"one-of-{side.name}", "user.large", b"x" * 2_000)
        assert await mirror.push(inside.operate) == ""
        assert await mirror.pull(inside.operate, inside.digest()) == ""
        for side, other in ((disk, "inside"), (inside.folder, "disk")):
            assert {"fifo", "socket", f"one-of-{other}", f"two-of-{other}"} < set(names(side))
            assert (side / f"one-of-{other}").stat().st_nlink == 1
            assert os.listxattr(side / f"one-of-{other}") == []

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


def test_what_was_moved_is_on_disk_all_the_time(tmp_path: Path) -> None:
    async def main() -> None:
        mirror, disk, inside = pair(tmp_path)
        (disk / "a").write_text("precious")
        await mirror.push(inside.operate)
        (inside.folder / "a").rename(inside.folder / "b")

        async def lost(name: str, arguments: Mapping[str, Any]) -> Any:
            if name == "pack":
                raise LookupError
            return await inside.operate(name, arguments)

        with pytest.raises(LookupError):
            await mirror.pull(lost)
        assert names(disk) == ["a"]
        inside.unreadable = {"b"}
        await mirror.pull(inside.operate)
        assert names(disk) == ["a"]
        inside.unreadable = set()
        await mirror.pull(inside.operate)
        assert names(disk) == ["b"]
        assert (disk / "b").read_text() == "precious"

    run(main)


@pytest.mark.parametrize("ends", ["call", "meanwhile"])
def test_every_kind_takes_the_place_of_every_other(tmp_path: Path, ends: str) -> None:
    async def main() -> None:
        mirror, disk, inside = pair(tmp_path)

        def make(kind: str, path: Path) -> None:
            if kind == "dir":
                path.mkdir()
                (path / "in").write_text("x")
            elif kind == "link":
                path.symlink_to("nowhere")
            else:
                path.write_text("y")

        kinds = ["dir", "file", "link"]
        for old in kinds:
            for new in kinds:
                make(old, inside.folder / f"{old}-{new}")
        await mirror.pull(inside.operate)
        for old in kinds:
            for new in kinds:
                path = inside.folder / f"{old}-{new}"
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
                make(new, path)
        assert await mirror.pull(inside.operate, inside.digest() if ends == "call" else None) == ""
        seen, kept = bundles.listing(str(inside.folder)), bundles.listing(str(disk))
        assert {path: entry.kind for path, entry in kept.items()} == {path: entry.kind for path, entry in seen.items()}

    run(main)


def test_a_folder_that_is_closed_keeps_its_files_on_disk_and_is_said_once(tmp_path: Path) -> None:
    async def main() -> None:
        mirror, disk, inside = pair(tmp_path)
        (disk / "a").mkdir()
        (disk / "a" / "f").write_text("kept")
        await mirror.push(inside.operate)
        inside.closed = {"a"}
        (inside.folder / "g").write_text("new")
        note = "[1 folders of the workspace cannot be read: what is in them is not kept]"
        assert await mirror.pull(inside.operate, inside.digest()) == note
        assert names(disk) == ["a", "a/f", "g"]
        (inside.folder / "h").write_text("new")
        assert await mirror.pull(inside.operate, inside.digest()) == ""
        inside.closed = set()
        (inside.folder / "a" / "f").unlink()
        assert await mirror.pull(inside.operate, inside.digest()) == ""
        assert names(disk) == ["a", "g", "h"]

    run(main)


def test_a_workspace_that_cannot_be_listed_removes_nothing_on_either_side(tmp_path: Path) -> None:
    async def main() -> None:
        mirror, disk, inside = pair(tmp_path)
        (disk / "f").write_text("kept")
        await mirror.push(inside.operate)

        async def closed(name: str, arguments: Mapping[str, Any]) -> Any:
            return {"": Entry("dir", 0, bundles.CLOSED, ())}

        assert "1 folders of the workspace cannot be read" in await mirror.pull(closed, "other")
        assert names(disk) == ["f"]
        disk.rename(tmp_path / "away")
        disk.write_text("no folder")
        assert "cannot be read on the host" in await mirror.push(inside.operate)
        assert names(inside.folder) == ["f"]

    run(main)


@pytest.mark.parametrize("change", ["moved", "shrunk"])
def test_a_large_file_that_changes_meanwhile_leaves_no_part(tmp_path: Path, change: str) -> None:
    async def main() -> None:
        mirror, disk, inside = pair(tmp_path, quota_bytes=1 << 24)
        big = inside.folder / "big"
        big.write_bytes(b"x" * (3 << 20))

        async def changing(name: str, arguments: Mapping[str, Any]) -> Any:
            answer = await inside.operate(name, arguments)
            if name == "pack" and big.exists() and big.stat().st_size > 5:
                big.rename(inside.folder / "other") if change == "moved" else os.truncate(big, 5)
            return answer

        await mirror.pull(changing)
        assert list(disk.iterdir()) == []

    run(main)


def test_a_part_of_an_earlier_daemon_goes_and_files_named_alike_are_kept(tmp_path: Path) -> None:
    async def main() -> None:
        mirror, disk, inside = pair(tmp_path)
        for part in (bundles.part_of("big"), bundles.new_part()):
            (disk / part).write_bytes(b"x")
            os.utime(disk / part, (0, 0))
        being_written = bundles.new_part()
        (disk / being_written).write_bytes(b"x")
        (disk / ".skilld-part-mine").write_bytes(b"x")
        await mirror.push(inside.operate)
        assert names(disk) == sorted([being_written, ".skilld-part-mine"])
        assert names(inside.folder) == [".skilld-part-mine"]

    run(main)


def test_a_file_with_an_impossible_time_comes_out_and_so_do_those_after_it(tmp_path: Path) -> None:
    async def main() -> None:
        mirror, disk, inside = pair(tmp_path)
        for name in ("a", "b"):
            (inside.folder / name).write_text(name)

        async def operate(name: str, arguments: Mapping[str, Any]) -> Any:
            if name != "pack":
                return await inside.operate(name, arguments)
            target = io.BytesIO()
            with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
                for path, mtime in (("a", "nan"), ("b", str(2**63 - 1))):
                    member = tarfile.TarInfo(path)
                    member.size, member.pax_headers = 1, {"mtime": mtime}
                    archive.addfile(member, io.BytesIO(b"x"))
            return base64.b64encode(target.getvalue()).decode()

        note = await mirror.pull(operate, inside.digest())
        assert note == "[1 changes in the workspace cannot be kept: they cannot be read or have no place]"
        assert names(disk) == ["b"]

    run(main)
