"""What has changed in a workspace: told once, whatever the times say, and never of what is outside."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from skill_actors.errors import Refused
from skill_actors.files import FileChange, Quota, Usage, WorkspaceWatch, known_files
from skill_actors.files.changes import Known, differences, hosted_files, is_settled, nanoseconds_of, time_text
from skill_actors.files.content import NewFile, OpenFile, checksum_of, delete_file, open_file, remove_uploads
from skill_actors.files.names import CONTENT_TYPES, check_name, content_type_of, is_own
from skill_actors.files.snapshot import Mark, ScanLimits, Snapshot, scan
from support import run


def told(changes: Sequence[FileChange]) -> list[tuple[str, str]]:
    return [(change.kind, change.name) for change in changes]


def test_created_changed_and_deleted_are_told_once(tmp_path: Path) -> None:
    async def main() -> None:
        watch = WorkspaceWatch(tmp_path / "w", "local")
        assert await watch.changes() == []
        (tmp_path / "w/sub").mkdir(parents=True)
        (tmp_path / "w/a.txt").write_text("1")
        (tmp_path / "w/sub/b").write_text("2")
        assert told(await watch.changes()) == [("created", "a.txt"), ("created", "sub/b")]
        assert await watch.changes() == []
        (tmp_path / "w/a.txt").write_text("11")
        (tmp_path / "w/sub/b").unlink()
        assert told(await watch.changes()) == [("deleted", "sub/b"), ("changed", "a.txt")]
        assert await watch.changes() == []
        assert (watch.usage.files, watch.usage.bytes) == (1, 2)

    run(main)


def test_a_change_within_one_tick_of_the_clock_and_of_the_same_size_is_seen(tmp_path: Path) -> None:
    async def main() -> None:
        watch = WorkspaceWatch(tmp_path, "local")
        path = tmp_path / "a"
        for number in range(30):
            path.write_text(f"{number:02}")
            assert len(await watch.changes()) == 1, number

    run(main)


def test_times_put_back_hide_no_change_and_a_touch_is_none(tmp_path: Path) -> None:
    async def main() -> None:
        watch = WorkspaceWatch(tmp_path, "local")
        path = tmp_path / "a"
        path.write_text("one")
        os.utime(path, (1, 1))
        await watch.changes()
        path.write_text("two")
        os.utime(path, (1, 1))
        assert told(await watch.changes()) == [("changed", "a")]
        path.touch()
        path.chmod(0o600)
        assert await watch.changes() == []
        path.write_text("two")
        assert await watch.changes() == []

    run(main)


def test_what_could_not_be_written_down_is_told_again(tmp_path: Path) -> None:
    async def main() -> None:
        watch = WorkspaceWatch(tmp_path, "local")
        (tmp_path / "a").write_text("1")

        async def fails(changes: Sequence[FileChange]) -> None:
            raise OSError("the disk is full")

        with pytest.raises(OSError, match="full"):
            await watch.report(fails)
        assert told(await watch.changes()) == [("created", "a")]

    run(main)


def test_another_life_knows_from_the_events_what_was_told(tmp_path: Path) -> None:
    async def main() -> None:
        before = WorkspaceWatch(tmp_path, "local")
        for name in ("same", "changes", "goes"):
            (tmp_path / name).write_text(name)
        events = [(*change.to_event(),) for change in await before.changes()]
        (tmp_path / "changes").write_text("changed!")
        (tmp_path / "goes").unlink()
        (tmp_path / "new").write_text("n")
        known = known_files((type, "2026-01-01T00:00:00.000Z", data) for type, data in events)
        after = WorkspaceWatch(tmp_path, "local", known=known)
        assert told(await after.changes()) == [("deleted", "goes"), ("changed", "changes"), ("created", "new")]
        assert await after.changes() == []
        assert after.known["same"].created == "2026-01-01T00:00:00.000Z"

    run(main)


def test_a_reset_of_the_workspace_is_no_list_of_deletions() -> None:
    data: dict[str, Any] = {"name": "a", "size": 1, "source": "local"}
    events: list[tuple[str, str, dict[str, Any]]] = [
        ("file.created", "t", data),
        ("session.reset", "t", {"workspace": True}),
        ("file.created", "t", data),
    ]
    assert list(known_files(events)) == ["a"]
    assert known_files(events[:2]) == {}
    assert list(known_files([events[0], ("session.reset", "t", {"workspace": False})])) == ["a"]


def test_hosted_files_are_told_apart() -> None:
    data = {"name": "r.xlsx", "size": 9, "source": "anthropic", "file_id": "file_1"}
    assert known_files([("file.created", "t", data)]) == {}
    assert hosted_files([("file.created", data)])["anthropic", "r.xlsx"].file_id == "file_1"
    assert hosted_files([("file.created", data), ("file.deleted", data)]) == {}


def test_links_pipes_and_the_daemons_own_files_are_not_files_of_the_user(tmp_path: Path) -> None:
    async def main() -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "secret").write_text("s")
        root = tmp_path / "w"
        (root / ".skilld/outputs").mkdir(parents=True)
        (root / ".skilld/outputs/1").write_text("x")
        (root / ".upload-1").write_text("x")
        (root / f".{'0' * 16}.part").write_text("x")
        (root / "link").symlink_to(outside / "secret")
        (root / "folder").symlink_to(outside)
        (root / "loop").symlink_to(root)
        os.mkfifo(root / "pipe")
        (root / ".hidden").write_text("mine")
        assert told(await WorkspaceWatch(root, "local").changes()) == [("created", ".hidden")]

    run(main)


def test_what_cannot_be_looked_at_is_not_gone(tmp_path: Path) -> None:
    everything = scan(tmp_path)
    assert everything.complete
    mark = Mark(1, 1)
    known = {name: Known(mark, None, "t") for name in ("open/a", "closed/b", "c")}
    now = Snapshot(marks={}, used_bytes=0, closed=("closed",), unnamed=0, taken_ns=0, ended_ns=0)
    assert differences(known, now).deleted == ("c", "open/a")
    nothing = Snapshot(marks={}, used_bytes=0, closed=("",), unnamed=0, taken_ns=0, ended_ns=0)
    assert not differences(known, nothing)


def test_times_in_the_future_do_not_have_a_file_read_at_every_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def counted(file: OpenFile) -> str:
        read.append("once")
        return checksum_of(file)

    async def main() -> None:
        monkeypatch.setattr("skill_actors.files.watch.checksum_of", counted)
        watch = WorkspaceWatch(tmp_path, "local")
        (tmp_path / "a").write_text("one")
        os.utime(tmp_path / "a", (1 << 33, 1 << 33))
        while time.time_ns() - (tmp_path / "a").stat().st_ctime_ns < 50_000_000:
            pass  # a moment has to lie between its times and the look
        for _ in range(3):
            await watch.changes()
        assert read == ["once"]
        (tmp_path / "a").write_text("two")
        os.utime(tmp_path / "a", (1 << 33, 1 << 33))
        assert told(await watch.changes()) == [("changed", "a")]

    run(main)


@pytest.mark.parametrize(
    ("ctime_ns", "settled"),
    [(900_000_000, True), (990_000_000, False), (1_500_000_000, False), (2_010_000_000, False), (2_100_000_000, True)],
)
def test_a_file_is_settled_unless_it_was_written_about_when_it_was_looked_at(ctime_ns: int, settled: bool) -> None:
    mark = Mark(1, 5_000_000_000, 1, ctime_ns)
    assert is_settled(mark, 1_000_000_000, 2_000_000_000) is settled


def test_the_look_is_bounded_in_number_and_depth(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"f{number}").write_text("")
    assert not scan(tmp_path, ScanLimits(entries=10)).complete
    deep = tmp_path / "a/b/c"
    deep.mkdir(parents=True)
    (deep / "x").write_text("")
    found = scan(tmp_path, ScanLimits(depth=2))
    assert found.closed == ("a/b/c",)
    assert not found.knows("a/b/c/x")
    assert found.knows("a/b/y")


def test_names_that_are_no_text_count_and_are_not_shown(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff\xfe")).write_text("12345")
    found = scan(tmp_path)
    assert (dict(found.marks), found.unnamed, found.used_bytes) == ({}, 1, 5)


def test_holes_and_second_names_take_no_room(tmp_path: Path) -> None:
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(1 << 30)
    (tmp_path / "a").write_bytes(b"x" * 10_000)
    os.link(tmp_path / "a", tmp_path / "b")
    assert scan(tmp_path).used_bytes <= 10_000 + 8192


def test_a_thousand_changes_are_told_at_once_and_the_rest_next(tmp_path: Path) -> None:
    async def main() -> None:
        for number in range(1500):
            (tmp_path / f"f{number:04}").write_text("")
        watch = WorkspaceWatch(tmp_path, "local")
        assert len(await watch.changes()) == 1000
        assert len(await watch.changes()) == 500
        assert await watch.changes() == []

    run(main)


def test_looks_wait_for_each_other_and_tell_nothing_twice(tmp_path: Path) -> None:
    async def main() -> None:
        watch = WorkspaceWatch(tmp_path, "local")
        (tmp_path / "a").write_text("1")
        seen: list[FileChange] = []

        async def one() -> None:
            seen.extend(await watch.changes())

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(one)
        assert told(seen) == [("created", "a")]

    run(main)


def test_an_event_says_what_a_client_needs() -> None:
    change = FileChange(
        kind="changed", name="a/b.CSV", size=3, checksum="sha256:x", source="docker", modified="2026-01-01T00:00:00Z"
    )
    assert change.to_event() == (
        "file.changed",
        {
            "name": "a/b.CSV",
            "size": 3,
            "checksum": "sha256:x",
            "content_type": "text/csv",
            "source": "docker",
            "modified": "2026-01-01T00:00:00Z",
        },
    )


@pytest.mark.parametrize("ns", [0, 1, 1_700_000_000_123_456_789, -5_000_000_001, 1 << 62])
def test_times_keep_their_nanoseconds(ns: int) -> None:
    assert nanoseconds_of(time_text(ns)) == ns


@pytest.mark.parametrize("text", [None, "", "yesterday", "@x", 5])
def test_what_is_no_time_is_none(text: object) -> None:
    assert nanoseconds_of(text) == 0


def test_content_types_do_not_depend_on_the_machine() -> None:
    assert len(CONTENT_TYPES) >= 15
    assert content_type_of("A.XLSX").endswith("spreadsheetml.sheet")
    assert content_type_of("none") == content_type_of("x.unknown") == "application/octet-stream"


@pytest.mark.parametrize(
    "name", ["", "/a", "../a", "a/..", "a/./b", "a//b", "a/", "a\0", "\ud800", "x" * 256, ".skilld"]
)
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(Refused) as found:
        check_name(name)
    assert found.value.code == "bad_request"


def test_odd_names_are_names() -> None:
    assert check_name("a b/ü\n") == ("a b", "ü\n")
    assert not is_own("notes.skilld")
    assert not is_own("sub/.skilld")


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    root = tmp_path / "w"
    with NewFile(root, "a/b") as new:
        new.write(b"12")
        assert not (root / "a/b").exists()
    assert list(root.iterdir()) == []
    with NewFile(root, "a/b") as new:
        new.write(b"12")
        mark, created = new.commit()
    assert (mark.size, created, (root / "a/b").read_bytes()) == (2, True, b"12")
    with NewFile(root, "a/b") as new, pytest.raises(Refused) as found:
        new.commit(replace=False)
    assert found.value.code == "conflict"
    with NewFile(root, "a") as new, pytest.raises(Refused, match="folder"):
        new.commit()
    assert sorted(path.name for path in root.iterdir()) == ["a"]


def test_only_regular_files_are_opened_and_only_files_deleted(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/passwd")
    for name in ("folder", "pipe", "link", "folder/none/x", "pipe/x"):
        with pytest.raises(Refused):
            open_file(tmp_path, name)
    with pytest.raises(Refused, match="folder"):
        delete_file(tmp_path, "folder")
    delete_file(tmp_path, "link")
    assert Path("/etc/passwd").exists()


def test_what_a_crash_left_of_uploads_is_removed(tmp_path: Path) -> None:
    cut_off = NewFile(tmp_path, "a")
    (tmp_path / ".upload-old").write_text("x")
    os.utime(tmp_path / ".upload-old", (1, 1))
    (tmp_path / ".upload-of-a-message").write_text("x")
    (tmp_path / "kept").write_text("x")
    remove_uploads(tmp_path)
    remove_uploads(tmp_path / "none")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".upload-of-a-message", "kept"]
    cut_off.close()


@pytest.mark.parametrize(
    ("used", "size", "replaced", "code"),
    [(0, 100, 0, None), (50, 50, 0, None), (51, 50, 0, "storage_full"), (90, 60, 60, None), (0, 101, 0, "too_large")],
)
def test_an_upload_fits_or_is_refused(used: int, size: int, replaced: int, code: str | None) -> None:
    quota = Quota(limit_bytes=100)
    if code is None:
        quota.check_upload(Usage(bytes=used), size, replaced=replaced)
        return
    with pytest.raises(Refused) as found:
        quota.check_upload(Usage(bytes=used), size, replaced=replaced)
    assert found.value.code == code


def test_what_cannot_be_seen_whole_has_too_much_in_it() -> None:
    quota, hidden = Quota(limit_bytes=100), Usage(bytes=1, complete=False)
    assert quota.is_exceeded(hidden)
    assert "cannot be looked at" in quota.refusal(hidden)
    assert "cannot be looked at" in quota.note(hidden)
    with pytest.raises(Refused, match="cannot be looked at") as found:
        quota.check_upload(hidden, 1)
    assert found.value.code == "storage_full"
