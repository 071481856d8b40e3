"""Who may open a state directory: one program at a time, and none older than what wrote it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from skill_actors.store import SessionRecord, SqliteJournal, StateLock, StateLocked, StateTooNew, StoreError
from skill_actors.store.schema import SCHEMA_VERSION
from support import run


def test_a_second_opener_is_told_who_holds_the_directory(db_path: Path) -> None:
    async def main() -> None:
        async with await SqliteJournal.open(db_path, reserve_bytes=0):
            with pytest.raises(StateLocked, match=f"process {os.getpid()}") as caught:
                await SqliteJournal.open(db_path, reserve_bytes=0)
            assert caught.value.pid == os.getpid()
        async with await SqliteJournal.open(db_path, reserve_bytes=0):
            pass

    run(main)


def test_a_journal_under_a_lock_of_its_caller_leaves_it_held(db_path: Path) -> None:
    async def main() -> None:
        with StateLock.take(db_path.parent) as lock:
            for _ in range(2):
                async with await SqliteJournal.open(db_path, lock=lock, reserve_bytes=0):
                    pass
            with pytest.raises(StateLocked):
                StateLock.take(db_path.parent)

    run(main)


def test_the_lock_goes_with_the_process(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from skill_actors.store.lock import StateLock\n"
        "lock = StateLock.take(pathlib.Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StateLocked) as caught:
            StateLock.take(tmp_path)
        assert caught.value.pid == holder.pid
        holder.kill()
        holder.wait()
    lock = StateLock.take(tmp_path)
    lock.release()
    lock.release()


def test_a_lock_whose_pid_cannot_be_read_is_still_a_lock(tmp_path: Path) -> None:
    with StateLock.take(tmp_path):
        (tmp_path / "lock").write_text("garbage")
        with pytest.raises(StateLocked, match="another process") as caught:
            StateLock.take(tmp_path)
        assert caught.value.pid is None


def _sql(path: Path, statement: str) -> bytes:
    """Run it on the file, which is made if need be; what the file holds afterwards."""
    path.parent.mkdir(exist_ok=True)
    db = apsw.Connection(str(path))
    db.execute(statement)
    db.close()
    return path.read_bytes()


def test_a_state_of_a_newer_program_is_refused_and_not_touched(
    db_path: Path, new_session: Callable[..., SessionRecord]
) -> None:
    async def main() -> None:
        async with await SqliteJournal.open(db_path, reserve_bytes=0) as journal:
            await journal.create_session(new_session())
        before = _sql(db_path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        with pytest.raises(StateTooNew, match=f"schema version {SCHEMA_VERSION + 1}.*up to {SCHEMA_VERSION}"):
            await SqliteJournal.open(db_path, reserve_bytes=0)
        assert _sql(db_path, "PRAGMA user_version") == before
        StateLock.take(db_path.parent).release()  # the refused opener has let go

    run(main)


def test_a_database_of_another_program_is_refused(db_path: Path) -> None:
    async def main() -> None:
        _sql(db_path, "CREATE TABLE bookmarks (url TEXT)")
        with pytest.raises(StoreError, match="another program"):
            await SqliteJournal.open(db_path, reserve_bytes=0)

    run(main)


def test_a_directory_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match="file"):
            await SqliteJournal.open(tmp_path / "file" / "journal.db")

    run(main)


def test_an_interrupted_first_start_is_taken_up(db_path: Path, new_session: Callable[..., SessionRecord]) -> None:
    """The file was created, and the process died before its first commit."""
    db_path.parent.mkdir()
    db_path.touch()

    async def main() -> None:
        async with await SqliteJournal.open(db_path, reserve_bytes=0) as journal:
            await journal.create_session(new_session())
            assert await journal.count_sessions() == 1

    run(main)
