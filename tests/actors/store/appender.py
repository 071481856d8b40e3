"""A process to be killed: appends from eight tasks without end and prints what was acknowledged, a line each."""

import os
import signal
import sys
from pathlib import Path

import apsw
import trio

from skill_actors.ids import new_id
from skill_actors.sessions.events import Event, utc_now
from skill_actors.store import Append, SessionRecord, SqliteJournal


class FailingFile(apsw.VFSFile):
    """Fails every fsync once the file named by FAIL_SYNC exists, as a dying disk does."""

    def xSync(self, flags: int) -> None:
        if os.path.exists(os.environ["FAIL_SYNC"]):
            error = apsw.IOError("injected")
            error.extendedresult = apsw.SQLITE_IOERR_FSYNC  # type: ignore[attr-defined]
            raise error
        super().xSync(flags)


class FailingVFS(apsw.VFS):
    def __init__(self) -> None:
        super().__init__("failing", "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return FailingFile("", name, flags)


class DyingFile(apsw.VFSFile):
    """Kills the process before the operation that KILL_AT names, such as "sync 3"."""

    def _perhaps_die(self, kind: str) -> None:
        wanted, number = os.environ["KILL_AT"].split()
        if kind == wanted:
            DyingVFS.done += 1
            if DyingVFS.done == int(number):
                os.kill(os.getpid(), signal.SIGKILL)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._perhaps_die("write")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self._perhaps_die("sync")
        super().xSync(flags)


class DyingVFS(apsw.VFS):
    done = 0

    def __init__(self) -> None:
        super().__init__("dying", "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return DyingFile("", name, flags)


async def append_for_ever(journal: SqliteJournal) -> None:
    session = new_id("ses")
    await journal.create_session(SessionRecord(id=session, owner_uid=0, created=utc_now(), updated=utc_now()))
    seq = 0
    while True:
        seq += 1
        event = Event(seq=seq, type="tool.output", time=utc_now(), session=session, turn=None, data={"n": seq * 7})
        await journal.append(Append(session=session, expected_last_seq=seq - 1, last_seq=seq, events=(event,)))
        os.write(1, f"{session} {seq}\n".encode())


async def main(path: Path, vfs: str | None) -> None:
    journal = await SqliteJournal.open(path, reserve_bytes=0, vfs=vfs)
    os.write(1, b"open\n")
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(append_for_ever, journal)


if __name__ == "__main__":
    kinds = {"failing": ("FAIL_SYNC", FailingVFS), "dying": ("KILL_AT", DyingVFS)}
    vfs = {name: kind() for name, (variable, kind) in kinds.items() if variable in os.environ}
    trio.run(main, Path(sys.argv[1]), next(iter(vfs), None))
