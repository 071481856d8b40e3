"""What an error of SQLite means for the writer: one table, so that no call site decides for itself."""

from __future__ import annotations

import errno
from enum import Enum
from typing import Final

import apsw

from skill_actors.store.base import StoreError

__all__ = ["NO_ROOM", "DamagedRow", "Fault", "fault_of"]

NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_LOST_SYNC: Final = frozenset({apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC})


class DamagedRow(StoreError):
    """What is stored of a session does not match its checksum, or cannot be read at all.

    Args:
        session: whose row it is.
        what: "session", "turn" or "event".
        seq: number of the turn or event, if one is known.
        cause: what is wrong with it.

    """

    def __init__(self, session: str, what: str, seq: int | None, cause: str) -> None:
        place = f"{what} {seq}" if seq is not None else what
        super().__init__(
            f"{place} of session {session} is damaged on disk ({cause}); other sessions are not concerned. "
            "Restore it from a backup, or delete the session"
        )
        self.session = session
        self.what = what
        self.seq = seq
        self.cause = cause


class Fault(Enum):
    """What a failed statement says about the store."""

    FULL = "full"  # no room: nothing is lost, try again later
    MEDIA = "media"  # the disk did not do what it said: only a new process may trust the file again
    DAMAGE = "damage"  # a page does not hold what it should: those who need the page are refused
    OTHER = "other"


def fault_of(error: Exception, os_errno: int) -> Fault:
    """Classify `error`; `os_errno` is the connection's system_errno.

    A failed fsync is MEDIA whatever its errno says: the kernel may have dropped the pages it could not write, and a
    second fsync would report success.
    """
    match error:
        case apsw.FullError():
            return Fault.FULL
        case apsw.IOError() if getattr(error, "extendedresult", 0) in _LOST_SYNC:
            return Fault.MEDIA
        case apsw.IOError():
            return Fault.FULL if os_errno in NO_ROOM else Fault.MEDIA
        case apsw.CorruptError() | apsw.NotADBError():
            return Fault.DAMAGE
        case _:
            return Fault.OTHER
