"""A backup is made while the journal is written to, is whole or none, and comes back as it was."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import apsw
import pytest
import trio

from skill_actors.store import (
    Append,
    JournalClosed,
    SessionRecord,
    SqliteJournal,
    StateLock,
    StateLocked,
    StateTooNew,
    StoreError,
)
from skill_actors.store.archive import ArchiveError, Entry, Manifest, read_archive, write_archive
from skill_actors.store.copying import JournalCopy, check_copy
from skill_actors.store.restore import StateNotEmpty, restore
from skill_actors.store.schema import SCHEMA_VERSION
from support import run

New = Callable[..., SessionRecord]
Step = Callable[..., Append]
NOW = "2026-01-02T03:04:05.000Z"


async def fill(journal: SqliteJournal, new_session: New, step: Step, sessions: int = 3, events: int = 20) -> list[str]:
    records = [new_session() for _ in range(sessions)]
    for record in records:
        await journal.create_session(record)
        for seq in range(1, events + 1):
            await journal.append(step(record.id, seq, "x" * 2_000))
    return [record.id for record in records]


def make_archive(state: Path, journal: Path, archive: Path) -> Manifest:
    manifest = Manifest(version="1", schema=SCHEMA_VERSION, created=NOW)
    with archive.open("wb") as file:
        for part in write_archive(state, journal, manifest):
            file.write(part)
    return manifest


@pytest.fixture
def backup(db_path: Path, tmp_path: Path, new_session: New, step: Step) -> Path:
    """A whole backup of a small state with all kinds of files."""
    state = db_path.parent

    async def main() -> None:
        async with await SqliteJournal.open(db_path) as journal:
            (session, *_) = await fill(journal, new_session, step)
            work = state / "workspaces" / session
            furnish(work)
            await journal.copy_to(tmp_path / "copy.db")

    run(main)
    make_archive(state, tmp_path / "copy.db", tmp_path / "backup.tar")
    return tmp_path / "backup.tar"


def furnish(work: Path) -> None:
    (work / "deep" / "er").mkdir(parents=True)
    (work / "empty").mkdir()
    (work / "deep" / "er" / "Grüße\u2028.txt").write_text("hello")
    Path(os.fsdecode(os.fsencode(work) + b"/not-\xff-utf8")).write_bytes(b"\0\1")
    (work / ("n" * 200)).write_text("a long name")
    (work / "run.sh").write_text("#!/bin/sh\n")
    (work / "run.sh").chmod(0o755)
    (work / "big").write_bytes(os.urandom(3_000_000))
    (work / "inside").symlink_to("deep/er")
    (work / "outside").symlink_to("/etc/passwd")
    (work / "climbs").symlink_to("deep/../../../..")
    os.mkfifo(work / "pipe")
    (work / "locked").mkdir(mode=0o500)


def test_a_copy_is_made_while_appends_go_on_and_holds_all_that_was_acknowledged_before(
    db_path: Path, tmp_path: Path, new_session: New, step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    appended, steps, copy_step = 300, 0, JournalCopy.step
    deadline = time.monotonic() + 20

    def behind_some_appends(copy: JournalCopy, source: apsw.Connection) -> bool:
        """The step after the first, not before three appends: a copy this small may end while they are scheduled."""
        nonlocal steps
        if steps and appended < 303 and time.monotonic() < deadline:
            time.sleep(0.001)
            return False
        steps += 1
        return copy_step(copy, source)

    async def main() -> None:
        nonlocal appended
        async with await SqliteJournal.open(db_path) as journal:
            first, *_ = await fill(journal, new_session, step, events=300)
            monkeypatch.setattr(JournalCopy, "step", behind_some_appends)
            ended = False

            async def append() -> None:
                nonlocal appended
                while not ended:
                    await journal.append(step(first, appended + 1, "y" * 3_000))
                    appended += 1

            async with trio.open_nursery() as nursery:
                nursery.start_soon(append)
                await journal.copy_to(tmp_path / "copy.db")
                ended = True
            assert steps > 1, "one step was the whole copy: nothing can come between"
            assert appended > 301, "appends waited for the copy"
        assert check_copy(tmp_path / "copy.db") == (SCHEMA_VERSION, [])
        assert not Path(f"{tmp_path}/copy.db-wal").exists()  # noqa: ASYNC240  # nothing else runs
        async with await SqliteJournal.open(tmp_path / "copy.db", reserve_bytes=0) as copy:
            events = await copy.read_events(first, limit=10_000)
            assert 300 <= len(events) <= appended

    run(main)


def test_a_copy_ends_with_the_journal_and_with_whoever_waits_for_it(
    db_path: Path, tmp_path: Path, new_session: New, step: Step
) -> None:
    async def main() -> None:
        async with await SqliteJournal.open(db_path) as journal:
            ids = await fill(journal, new_session, step, events=200)
            with trio.CancelScope() as scope:
                scope.cancel()
                await journal.copy_to(tmp_path / "cancelled.db")
            await journal.append(step(ids[0], 201))
            (tmp_path / "there.db").write_text("mine")
            with pytest.raises(StoreError, match=r"there\.db"):
                await journal.copy_to(tmp_path / "there.db")
            assert (tmp_path / "there.db").read_text() == "mine"
        with pytest.raises(JournalClosed):
            await journal.copy_to(tmp_path / "late.db")

    run(main)


def test_a_damaged_session_is_named_in_a_check_of_the_copy(
    db_path: Path, tmp_path: Path, new_session: New, step: Step
) -> None:
    async def main() -> None:
        async with await SqliteJournal.open(db_path) as journal:
            ids = await fill(journal, new_session, step)
        db = apsw.Connection(str(db_path))
        db.execute("UPDATE event SET data = '{}' WHERE session = ? AND seq = 2", (ids[1],))
        db.close()
        async with await SqliteJournal.open(db_path) as journal:
            await journal.copy_to(tmp_path / "copy.db")
        assert check_copy(tmp_path / "copy.db") == (SCHEMA_VERSION, [ids[1]])

    run(main)


def test_what_is_restored_is_what_was_there(backup: Path, db_path: Path, tmp_path: Path) -> None:
    state, target = db_path.parent, tmp_path / "new"
    steps: list[int] = []
    done = restore(backup, target, force=False, now=NOW, progress=steps.append)
    assert done.aside is None
    assert steps == sorted(steps)
    assert steps[-1] >= 3_000_000
    (work,) = (target / "workspaces").iterdir()
    old = state / "workspaces" / work.name
    for path in old.rglob("*"):
        new = work / path.relative_to(old)
        if path.name in ("outside", "climbs", "pipe"):
            assert not os.path.lexists(new)
        elif path.is_symlink():
            assert os.readlink(new) == os.readlink(path)
        elif path.is_file():
            assert (new.read_bytes(), new.stat().st_mode) == (path.read_bytes(), path.stat().st_mode)
        else:
            assert (new.is_dir(), new.stat().st_mode) == (path.is_dir(), path.stat().st_mode)
    assert sorted(done.left_out) == [f"workspaces/{work.name}/climbs", f"workspaces/{work.name}/outside"]
    assert list(done.manifest.skipped) == [f"workspaces/{work.name}/pipe"]
    assert sorted(entry.name for entry in target.iterdir()) == ["journal.db", "lock", "workspaces"]

    async def main() -> None:
        async with await SqliteJournal.open(target / "journal.db") as journal:
            assert await journal.count_sessions() == 3
            for session in await journal.session_ids():
                await journal.verify_session(session)
                assert len(await journal.read_events(session)) == 20

    run(main)


def test_a_state_that_is_in_use_or_holds_something_is_not_touched(backup: Path, tmp_path: Path) -> None:
    target = tmp_path / "new"
    with StateLock.take(target), pytest.raises(StateLocked):
        restore(backup, target, force=True, now=NOW)
    (target / "mine").write_text("dear")
    with pytest.raises(StateNotEmpty, match=r"mine.*--force"):
        restore(backup, target, force=False, now=NOW)
    assert sorted(entry.name for entry in target.iterdir()) == ["lock", "mine"]
    done = restore(backup, target, force=True, now=NOW)
    assert done.aside is not None
    assert (done.aside / "mine").read_text() == "dear"
    again = restore(backup, target, force=True, now="2026-01-02T03:04:06.000Z")
    assert again.aside is not None
    assert (again.aside / "journal.db").exists()
    assert (done.aside / "mine").exists()


def test_a_backup_that_is_cut_or_changed_anywhere_is_refused_and_the_state_is_as_it_was(
    backup: Path, tmp_path: Path
) -> None:
    data, target, bad = backup.read_bytes(), tmp_path / "new", tmp_path / "bad.tar"
    target.mkdir()
    (target / "mine").write_text("dear")
    for number in range(24):
        place = len(data) * number // 24 + 7
        changed = data[:place] if number % 2 else data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]
        bad.write_bytes(changed)
        try:
            restore(bad, tmp_path / f"other{number}", force=False, now=NOW)
        except ArchiveError:
            with pytest.raises(ArchiveError):
                restore(bad, target, force=True, now=NOW)
            assert sorted(entry.name for entry in target.iterdir()) == ["lock", "mine"]
            assert sorted(entry.name for entry in (tmp_path / f"other{number}").iterdir()) == ["lock"]
        else:  # a bit that says nothing, such as a time in a header or the filling behind a file
            assert not number % 2
            assert read_archive(bad).entries == read_archive(backup).entries


def hostile(tmp_path: Path, members: list[tarfile.TarInfo], manifest: dict[str, object] | None = None) -> Path:
    """A tar of these members, each file holding "x", and a manifest behind them."""
    path = tmp_path / "hostile.tar"
    with tarfile.open(path, "w") as tar:
        for member in members:
            member.size = 1 if member.isreg() else 0
            tar.addfile(member, io.BytesIO(b"x") if member.isreg() else None)
        text = json.dumps(manifest or asdict(Manifest(version="1", schema=1, created=NOW))).encode()
        info = tarfile.TarInfo("manifest.json")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    return path


def member(name: str, type: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = type, link
    return info


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([member("../out")], "path"),
        ([member("/etc/out")], "path"),
        ([member("a/../../out")], "path"),
        ([member("a//b")], "path"),
        ([member("./a")], "path"),
        ([member("a", tarfile.SYMTYPE, "/etc")], "regular"),
        ([member("a", tarfile.LNKTYPE, "b")], "regular"),
        ([member("a", tarfile.CHRTYPE)], "regular"),
        ([member("a", tarfile.FIFOTYPE)], "regular"),
        ([member("a", tarfile.DIRTYPE)], "regular"),
        ([member("a"), member("a")], "twice"),
        ([member("a")], "not in its"),
    ],
)
def test_an_archive_with_tricks_is_refused(tmp_path: Path, members: list[tarfile.TarInfo], why: str) -> None:
    with pytest.raises(ArchiveError, match=why):
        restore(hostile(tmp_path, members), tmp_path / "new", force=False, now=NOW)
    assert [entry.name for entry in (tmp_path / "new").iterdir()] == ["lock"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["hostile.tar", "new"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format": 2}, "format 2"),
        ({"format": "x"}, "cannot be read"),
        ({"entries": [{"path": "../a", "type": "link", "target": "b"}]}, "path"),
        ({"entries": [{"path": "a", "type": "device"}]}, "cannot be read"),
        ({"entries": [{"path": "a", "type": "file", "extra": 1}]}, "cannot be read"),
        ({"entries": [{"path": "a", "type": "file", "size": 1, "sha256": "0"}]}, "missing"),
        ({}, "no journal"),
    ],
)
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, change: dict[str, object], why: str) -> None:
    manifest = asdict(Manifest(version="1", schema=1, created=NOW)) | change
    with pytest.raises(ArchiveError, match=why):
        restore(hostile(tmp_path, [], manifest), tmp_path / "new", force=False, now=NOW)


@pytest.mark.parametrize("content", [b"", b"hello", bytes(20_000)])
def test_a_file_that_is_no_backup_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(ArchiveError):
        restore(tmp_path / "x.tar", tmp_path / "new", force=False, now=NOW)


def test_a_link_below_a_link_is_never_written_through(tmp_path: Path, backup: Path) -> None:
    """A manifest that was tampered with names a link, and a second one inside of where the first leads."""
    parts = list(_rewritten(backup, [Entry(path="workspaces/s/a", type="link", target="b"),
                                     Entry(path="workspaces/s/a/c", type="link", target="d")]))  # fmt: skip
    (tmp_path / "bad.tar").write_bytes(b"".join(parts))
    with pytest.raises((ArchiveError, OSError)):
        restore(tmp_path / "bad.tar", tmp_path / "new", force=False, now=NOW)
    assert [entry.name for entry in (tmp_path / "new").iterdir()] == ["lock"]


def _rewritten(backup: Path, more: list[Entry]) -> list[bytes]:
    out = io.BytesIO()
    with tarfile.open(backup) as tar, tarfile.open(fileobj=out, mode="w") as new:
        for info in tar:
            data = tar.extractfile(info)
            assert data is not None
            text = data.read()
            if info.name == "manifest.json":
                value = json.loads(text)
                value["entries"] += [asdict(entry) for entry in more]
                text = json.dumps(value).encode()
            info.size = len(text)
            new.addfile(info, io.BytesIO(text))
    return [out.getvalue()]


def test_a_backup_of_a_newer_program_is_refused(backup: Path, tmp_path: Path, db_path: Path) -> None:
    db = apsw.Connection(str(tmp_path / "copy.db"))
    db.pragma("user_version", SCHEMA_VERSION + 1)
    db.close()
    make_archive(db_path.parent, tmp_path / "copy.db", backup)
    with pytest.raises(StateTooNew, match="newer program"):
        restore(backup, tmp_path / "new", force=False, now=NOW)


def test_an_interrupted_restore_is_no_empty_state(tmp_path: Path) -> None:
    """Killed between moving the old journal away and the new one in."""
    (tmp_path / "state" / "restoring").mkdir(parents=True)

    async def main() -> None:
        with pytest.raises(StoreError, match=r"restore .* again"):
            await SqliteJournal.open(tmp_path / "state" / "journal.db", reserve_bytes=0)

    run(main)


def test_a_file_that_changes_while_it_is_copied_is_marked_and_does_not_spoil_the_rest(
    tmp_path: Path, db_path: Path, backup: Path
) -> None:
    state = db_path.parent
    (work,) = (state / "workspaces").iterdir()
    growing, shrinking = work / "a-growing", work / "b-shrinking"
    growing.write_bytes(b"x" * 3_000_000)
    shrinking.write_bytes(b"x" * 3_000_000)
    manifest = Manifest(version="1", schema=SCHEMA_VERSION, created=NOW)
    with (tmp_path / "second.tar").open("wb") as file:
        for part in write_archive(state, tmp_path / "copy.db", manifest):
            file.write(part)
            if growing.stat().st_size == 3_000_000 and b"a-growing" in part:
                with growing.open("ab") as more:
                    more.write(b"more")
            if b"b-shrinking" in part and len(part) < 10_000:
                os.truncate(shrinking, 10)
    found = {entry.path.rpartition("/")[2]: entry for entry in read_archive(tmp_path / "second.tar").entries}
    assert found["a-growing"].changed
    assert found["b-shrinking"].changed
    assert not found["big"].changed
