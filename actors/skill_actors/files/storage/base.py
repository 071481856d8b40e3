"""The contract of storages: where files of sessions are kept beside the workspace, so that another machine has them.

All methods are awaited on the trio thread and none blocks it. A session's files are apart from those of every other;
no path leads out of them. What is done for many files reports on each: one that fails keeps no other from its turn.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from skill_actors.files.names import check_name
from skill_actors.files.ref import FileRef
from skill_actors.files.snapshot import Snapshot

__all__ = ["OnSynced", "Storage", "StorageReport", "check_path", "check_session", "gone_from"]

_SESSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,127}")

OnSynced = Callable[[str, FileRef], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageReport:
    """What became of several files: names that were dealt with, those that were up to date, and why others failed.

    Args:
        retryable: whether any failure may pass by itself.
        stored: of a sync to the storage, the names of the folder's files that are there now.

    """

    done: Sequence[str] = ()
    unchanged: int = 0
    bytes: int = 0
    failed: Mapping[str, str] = field(default_factory=dict)
    retryable: bool = False
    stored: Collection[str] = ()

    @property
    def is_whole(self) -> bool:
        return not self.failed


class Storage(Protocol):
    """One place for files of many sessions. Every method raises StorageError."""

    @property
    def name(self) -> str:
        """ "local", "s3", "tigris"."""

    async def init(self, session: str) -> None:
        """Make sure that files of this session can be kept: storage_init_failed if not. May be called again."""

    async def write(self, session: str, path: str, content: bytes) -> FileRef:
        """Keep a file, in the place of an older one."""

    async def read(self, session: str, path: str, *, max_bytes: int = 50 << 20) -> bytes:
        """A file's content; file_not_found if there is none, storage_read_failed if it is larger."""

    async def exists(self, session: str, path: str) -> bool: ...

    async def delete(self, session: str, path: str) -> None:
        """Remove a file; it is no error if there is none."""

    async def list(self, session: str) -> Sequence[FileRef]:
        """All files of the session, by path."""

    def local_path(self, session: str) -> Path:
        """The folder on this machine in which the session's files are, or are cached."""

    def storage_url(self, session: str, path: str) -> str:
        """Where the file is kept, for people and logs; without a signature."""

    async def presigned_url(self, session: str, path: str, *, expires_s: int = 3600) -> str | None:
        """A URL with which anybody can fetch the file until it expires; None where the storage has none."""

    async def sync_to_remote(
        self,
        session: str,
        folder: Path,
        *,
        on_synced: OnSynced | None = None,
        remove: bool = True,
        known: Collection[str] | None = None,
    ) -> StorageReport:
        """Keep the folder's files as they are now; with `remove`, those that are gone from the folder go.

        A folder that is not there takes none with it.

        Args:
            on_synced: awaited for each file that was sent.
            known: names of which alone any may go; None is all.

        """

    async def sync_from_remote(self, session: str, folder: Path, *, max_bytes: int = 1 << 30) -> StorageReport:
        """Bring the session's files into the folder; what is there of the same content stays as it is."""

    async def cleanup(self, session: str) -> None:
        """Remove what is on this machine; what is kept elsewhere stays. May be called again."""

    async def delete_remote(self, session: str) -> StorageReport:
        """Remove what is kept of the session for good. May be called again."""

    async def aclose(self) -> None:
        """Let go of connections. May be called twice."""


def gone_from(here: Snapshot, there: Iterable[str], known: Collection[str] | None) -> list[str]:
    """Which of the stored files are gone from the folder: not there, though they would have been seen."""
    if not here.inode:
        return []
    return sorted(
        path for path in there if path not in here.marks and here.knows(path) and (known is None or path in known)
    )


def check_session(session: str) -> str:
    """The id, if it can be part of a path. Raises ValueError."""
    if not _SESSION.fullmatch(session):
        raise ValueError(f"{session[:60]!r} cannot be the id of a session: letters, digits, _ and - are allowed")
    return session


def check_path(path: str) -> str:
    """The path, if it leads nowhere else. Raises Refused("bad_request")."""
    check_name(path)
    return path
