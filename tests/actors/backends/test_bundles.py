"""Folders in tar archives: what goes in comes out, and what was made to harm stays out."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from skill_actors.backends import bundles
from skill_actors.backends.bundles import BUNDLE_BYTES, Entry, Piece


def copied(source: Path, target: Path) -> dict[str, Entry]:
    """Everything of one folder in another, in bundles."""
    target.mkdir(exist_ok=True)
    found = bundles.listing(str(source))
    made: dict[str, Entry] = {}
    for portion in bundles.pieces(found, found):
        made |= bundles.unpack(str(target), bundles.pack(str(source), portion))
    return made


def test_files_folders_and_links_arrive_as_they_are(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "a" / "b").mkdir(parents=True)
    (source / "a" / "b" / "empty").touch()
    (source / "a" / "ünï\n").write_bytes(b"\0\xff" * 9)
    (source / os.fsdecode(b"\xff\xfe")).write_text("odd name")
    (source / "run").write_text("#!/bin/sh\n")
    (source / "run").chmod(0o755)
    (source / "link").symlink_to("/no/such/place")
    (source / ("n" * 255)).write_text("long")
    made = copied(source, tmp_path / "target")
    assert made.keys() == bundles.listing(str(source)).keys()
    for path, entry in bundles.listing(str(tmp_path / "target")).items():
        assert (entry.kind, entry.size) == (made[path].kind, made[path].size)
        if entry.kind == "file":
            assert (tmp_path / "target" / path).read_bytes() == (source / path).read_bytes()
    assert os.readlink(tmp_path / "target" / "link") == "/no/such/place"
    assert stat.S_IMODE((tmp_path / "target" / "run").stat().st_mode) == 0o755


@pytest.mark.parametrize("size", [BUNDLE_BYTES - 1, BUNDLE_BYTES, BUNDLE_BYTES + 1, 3 * BUNDLE_BYTES + 17])
def test_a_large_file_arrives_whole_and_only_when_it_is_whole(tmp_path: Path, size: int) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "small").write_text("x")
    (source / "big").write_bytes(os.urandom(size))
    found = bundles.listing(str(source))
    portions = list(bundles.pieces(found, found))
    for portion in portions:
        assert sum(piece.length for piece in portion) <= BUNDLE_BYTES
        bundles.unpack(str(target), bundles.pack(str(source), portion))
        whole = any(piece.path == "big" and piece.last for piece in portion) or portion is portions[-1]
        assert (target / "big").exists() is whole or size <= BUNDLE_BYTES
    assert (target / "big").read_bytes() == (source / "big").read_bytes()
    assert sorted(path.name for path in target.iterdir()) == ["big", "small"]


def test_a_file_that_shrinks_meanwhile_does_not_arrive_and_then_does(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "big").write_bytes(b"x" * (2 * BUNDLE_BYTES + 5))
    found = bundles.listing(str(source))
    first, *rest = bundles.pieces(found, found)
    bundles.unpack(str(target), bundles.pack(str(source), first))
    os.truncate(source / "big", BUNDLE_BYTES)
    for portion in rest:
        bundles.unpack(str(target), bundles.pack(str(source), portion))
    assert not (target / "big").exists()
    copied(source, target)
    assert [(path.name, path.stat().st_size) for path in target.iterdir()] == [("big", BUNDLE_BYTES)]


def test_a_part_without_the_ones_before_it_is_left_out(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "big").write_bytes(b"x" * 100)
    late = bundles.pack(str(source), [Piece("big", 50, 50)])
    assert bundles.unpack(str(target), late) == {}
    bundles.unpack(str(target), bundles.pack(str(source), [Piece("big", 0, 10, False)]))
    assert bundles.unpack(str(target), late) == {}
    assert not (target / "big").exists()


def archive(*members: tuple[str, bytes, str]) -> bytes:
    """(name, type, link target) of members; files hold b"evil"."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as made:
        for name, kind, link in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            member.size = 4 if kind == tarfile.REGTYPE else 0
            made.addfile(member, io.BytesIO(b"evil"))
    return target.getvalue()


@pytest.mark.parametrize(
    "members",
    [
        [("../outside/file", tarfile.REGTYPE, "")],
        [("a/../../outside/file", tarfile.REGTYPE, "")],
        [("/outside/file", tarfile.REGTYPE, "")],
        [("./file", tarfile.REGTYPE, "")],
        [("out", tarfile.SYMTYPE, "../outside"), ("out/file", tarfile.REGTYPE, "")],
        [
            ("a", tarfile.DIRTYPE, ""),
            ("a/out", tarfile.SYMTYPE, "../../outside"),
            ("a/out/x/file", tarfile.REGTYPE, ""),
        ],
        [("hard", tarfile.LNKTYPE, "../outside/mine"), ("hard", tarfile.LNKTYPE, "/etc/passwd")],
        [("fifo", tarfile.FIFOTYPE, "")],
        [("device", tarfile.CHRTYPE, "")],
        [("there/file", tarfile.REGTYPE, "")],
    ],
)
def test_an_archive_made_to_harm_writes_nothing_outside_and_nothing_special(
    tmp_path: Path, members: list[tuple[str, bytes, str]]
) -> None:
    outside, target = tmp_path / "outside", tmp_path / "target"
    outside.mkdir()
    (outside / "mine").write_text("mine")
    target.mkdir()
    (target / "there").symlink_to(outside)
    bundles.unpack(str(target), archive(*members))
    assert [path.name for path in outside.iterdir()] == ["mine"]
    assert (outside / "mine").stat().st_nlink == 1
    for path in target.rglob("*"):
        assert path.is_symlink() or path.is_dir() or (path.is_file() and path.read_bytes() != b"evil")


def test_an_offset_that_is_not_the_end_makes_no_sparse_file(tmp_path: Path) -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as made:
        for offset in ("0", "99999999999", "-5", "x", "9" * 40):
            member = tarfile.TarInfo("file")
            member.size = 4
            member.pax_headers = {"SKILLD.offset": offset, "SKILLD.last": "0"}
            made.addfile(member, io.BytesIO(b"evil"))
    assert bundles.unpack(str(tmp_path), target.getvalue()) == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"no archive at all", b"\0" * 1024, os.urandom(5000)])
def test_what_is_no_archive_is_nothing(tmp_path: Path, data: bytes) -> None:
    assert bundles.unpack(str(tmp_path), data) == {}
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_is_cut_off_delivers_what_is_whole(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("a", "b"):
        (source / name).write_bytes(b"x" * 2000)
    found = bundles.listing(str(source))
    data = bundles.pack(str(source), next(bundles.pieces(found, ["a", "b"])))
    made = bundles.unpack(str(tmp_path / "source"), data[:3000])
    assert list(made) == ["a"]


def test_a_folder_takes_the_place_of_a_file_and_the_other_way_round(tmp_path: Path) -> None:
    one, two, target = tmp_path / "one", tmp_path / "two", tmp_path / "target"
    (one / "x").mkdir(parents=True)
    two.mkdir()
    (two / "x").write_text("file")
    copied(two, target)
    bundles.remove(str(target), ["x"])
    copied(one, target)
    assert (target / "x").is_dir()
    copied(two, target)
    assert (target / "x").read_text() == "file"


def test_removing_follows_no_link_and_leaves_what_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").touch()
    target = tmp_path / "target"
    (target / "full").mkdir(parents=True)
    (target / "full" / "kept").touch()
    (target / "link").symlink_to(tmp_path / "outside")
    bundles.remove(str(target), ["link/file", "link", "full", "gone", "gone/too", "../outside/file"])
    assert (tmp_path / "outside" / "file").exists()
    assert sorted(path.name for path in target.rglob("*")) == ["full", "kept"]


def test_the_digest_tells_every_change(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    seen = {bundles.digest(bundles.listing(str(tmp_path)))}
    for change in (
        lambda: (tmp_path / "b").touch(),
        lambda: (tmp_path / "a").write_text("y"),
        lambda: (tmp_path / "a").chmod(0o600),
        lambda: (tmp_path / "d").mkdir(),
        lambda: (tmp_path / "b").rename(tmp_path / "c"),
        lambda: (tmp_path / "c").unlink(),
    ):
        change()
        now = bundles.digest(bundles.listing(str(tmp_path)))
        assert now not in seen
        seen.add(now)
        assert now == bundles.digest(bundles.listing(str(tmp_path)))


def test_what_cannot_be_listed_is_said_and_what_is_not_there_is_empty(tmp_path: Path) -> None:
    deep = tmp_path / "root"
    for _ in range(257):
        deep = deep / "d"
    deep.mkdir(parents=True)
    (deep / "f").touch()
    found = bundles.listing(str(tmp_path / "root"))
    assert [entry.size for entry in found.values()] == [0] * 256 + [bundles.CLOSED]
    assert bundles.listing(str(tmp_path / "none")) == {}
    (tmp_path / "file").touch()
    assert bundles.listing(str(tmp_path / "file")) == {"": Entry("dir", 0, bundles.CLOSED, ())}


def test_a_file_that_cannot_take_its_place_leaves_no_part(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept").touch()
    assert bundles.unpack(str(tmp_path), archive(("full", tarfile.REGTYPE, ""))) == {}
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
    cut = archive(("cut", tarfile.REGTYPE, ""))[:514]
    assert bundles.unpack(str(tmp_path), cut) == {}
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_only_what_was_asked_for_comes_and_no_more_of_it(tmp_path: Path) -> None:
    data = archive(*((name, tarfile.REGTYPE, "") for name in ("a", "other", "small", "b", "b")))
    asked = [Piece("a", 0, 4), Piece("small", 0, 3), Piece("b", 0, 9), Piece("late", 7, 9)]
    assert list(bundles.unpack(str(tmp_path), data, wanted=asked)) == ["a", "b"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    part = bundles.part_of("x")
    folder = archive((part, tarfile.DIRTYPE, ""), (f"{part}/hidden", tarfile.REGTYPE, ""))
    assert bundles.unpack(str(tmp_path), folder, wanted=[Piece(part, 0, 0), Piece(f"{part}/hidden", 0, 4)]) == {}
    assert not (tmp_path / part).exists()


@pytest.mark.parametrize(
    "headers",
    [
        {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 40)},
        {"GNU.sparse.map": "x,y", "GNU.sparse.size": "4"},
        {"size": "-1024"},
        {"mtime": "inf", "SKILLD.offset": "1"},
    ],
)
def test_a_member_that_lies_of_its_size_is_left_out(tmp_path: Path, headers: dict[str, str]) -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as made:
        member = tarfile.TarInfo("file")
        member.size, member.pax_headers = 4, headers
        made.addfile(member, io.BytesIO(b"evil"))
    assert bundles.unpack(str(tmp_path), target.getvalue(), wanted=[Piece("file", 0, 1 << 50)]) == {}
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_takes_the_place_of_a_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("mine")
    root = tmp_path / "root"
    root.mkdir()
    (root / "d").symlink_to(tmp_path / "outside")
    data = bundles.pack(str(root), [Piece("d/secret", 0, 4)])
    assert b"mine" not in data
    assert bundles.unpack(str(root), data) == {}


SWAP = """
import ctypes, os, sys
root, outside = map(os.fsencode, sys.argv[1:])
os.symlink(outside, root + b"/link")
os.symlink(outside + b"/secret", root + b"/to-secret")
os.mkfifo(root + b"/fifo")
libc, exchange = ctypes.CDLL(None), 2
print("ready", flush=True)
while True:
    for one, other in ((b"folder", b"link"), (b"file", b"to-secret"), (b"file", b"fifo"), (b"file", b"folder")):
        for _ in range(2):
            libc.renameat2(-100, root + b"/" + one, -100, root + b"/" + other, exchange)
"""


def test_whoever_swaps_files_folders_and_links_meanwhile_gets_nothing_out_and_nothing_elsewhere(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "folder").mkdir(parents=True)
    outside.mkdir()
    (root / "folder" / "secret").write_text("mine")
    (root / "file").write_text("mine")
    (outside / "secret").write_text("top-secret")
    places = [f"{folder}/{name}" for folder in ("folder", "file") for name in ("secret", "planted")]
    planted = archive(*((path, tarfile.REGTYPE, "") for path in places))
    swapper = subprocess.Popen([sys.executable, "-c", SWAP, str(root), str(outside)], stdout=subprocess.PIPE)
    try:
        assert swapper.stdout is not None
        swapper.stdout.readline()
        kinds = {("folder", "dir"), ("folder", "link"), ("file", "file"), ("file", "dir")}
        seen: set[tuple[str, str]] = set()
        began = time.monotonic()
        while (gone_s := time.monotonic() - began) < 1.0 or (gone_s < 30.0 and not kinds <= seen):
            found = bundles.listing(str(root))
            seen.update((path, entry.kind) for path, entry in found.items())
            wanted = [Piece(path, 0, 100) for path in ("folder", "folder/secret", "file", "file/secret")]
            assert b"top-secret" not in bundles.pack(str(root), wanted)
            bundles.unpack(str(root), planted)
            bundles.remove(str(root), ["folder/planted", "file/planted"])
            assert swapper.poll() is None
    finally:
        swapper.kill()
        swapper.communicate()
    assert kinds <= seen
    assert (outside / "secret").read_text() == "top-secret"
    assert [path.name for path in outside.iterdir()] == ["secret"]
