"""Who did what, when, and with which outcome: a file apart from the conversations, without anything that was said.

Every request that changes something, and every one that was refused for want of a right, is a line of JSON in
`STATE/audit/audit.log`: the peer as the kernel names it, the route, ids, the outcome, and a hash of the body, so that
somebody who has the message can show that it was this one. Entries are taken without waiting and written by a thread,
many at a time. While the disk takes nothing, the latest are kept, and how many were lost is itself an entry.
"""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import trio

from skill_actors.runtime import ExitReason, TrioActor

__all__ = ["AuditTrail", "AuditWriter", "append_lines"]

_log = logging.getLogger(__name__)

_MAX_WAITING: Final = 10_000
_RETRY_S: Final = 5.0
_NAME: Final = "audit.log"


class AuditTrail:
    """Takes entries from whoever has one, and holds them until they are written."""

    def __init__(self) -> None:
        self._waiting: deque[str] = deque()
        self._lost = 0
        self._something = trio.Event()

    def add(self, what: str, facts: Mapping[str, Any]) -> None:
        """Note one thing that happened. Never waits, never fails; values that JSON does not have become texts."""
        entry = {"time": _now(), "what": what, **facts}
        if len(self._waiting) >= _MAX_WAITING:
            self._waiting.popleft()
            self._lost += 1
        self._waiting.append(json.dumps(entry, default=str))
        self._something.set()

    async def wait(self) -> None:
        """Return as soon as there is something to write."""
        while not self._waiting and not self._lost:
            self._something = trio.Event()
            await self._something.wait()

    def take(self) -> tuple[list[str], int]:
        """All lines that wait, oldest first, and how many before them were lost; they are the caller's now."""
        taken = list(self._waiting), self._lost
        self._waiting.clear()
        self._lost = 0
        return taken

    def give_back(self, lines: Sequence[str], lost: int) -> None:
        """These could not be written after all."""
        room = max(0, _MAX_WAITING - len(self._waiting))
        kept = lines[max(0, len(lines) - room) :]
        self._lost += lost + len(lines) - len(kept)
        self._waiting.extendleft(reversed(kept))


class AuditWriter(TrioActor):
    """Writes the trail into its folder.

    Args:
        max_bytes: of one file; then it is renamed to audit.log.1, that to audit.log.2 and so on.
        keep: how many renamed files stay.

    """

    def __init__(self, trail: AuditTrail, folder: Path, *, max_bytes: int, keep: int) -> None:
        super().__init__()
        self._trail = trail
        self._folder = folder
        self._max_bytes = max_bytes
        self._keep = keep
        self._failing = False

    async def setup(self) -> None:
        self.spawn(self._write_on)

    async def teardown(self, reason: ExitReason) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _RETRY_S):
            await self._write()

    async def _write_on(self) -> None:
        while True:
            await self._trail.wait()
            if not await self._write():
                await trio.sleep(_RETRY_S)

    async def _write(self) -> bool:
        """Whether the disk took everything."""
        lines, lost = self._trail.take()
        if not lines and not lost:
            return True
        before = [json.dumps({"time": _now(), "what": "audit.lost", "entries": lost})] if lost else []
        try:
            await trio.to_thread.run_sync(append_lines, self._folder, [*before, *lines], self._max_bytes, self._keep)
        except OSError as error:
            self._trail.give_back(lines, lost)
            if not self._failing:
                _log.error("the audit log %s cannot be written (%s); trying on", self._folder / _NAME, error.strerror)
            self._failing = True
            return False
        except trio.Cancelled:
            self._trail.give_back(lines, lost)  # a thread is not cancelled: it had not begun
            raise
        self._failing = False
        return True


def append_lines(folder: Path, lines: Sequence[str], max_bytes: int, keep: int) -> None:
    """Put the lines at the end of the file, which is readable by its owner alone; a full one is renamed before.

    Raises:
        OSError: nothing was written. (A line that a crash has cut is ended first, the next time.)

    """
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / _NAME
    data = "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")
    if path.is_symlink() or (path.exists() and path.stat().st_size + len(data) > max_bytes):
        _rotate(path, keep)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            data = b"\n" + data
        try:
            while data:
                data = data[os.write(fd, data) :]
        except OSError:
            os.ftruncate(fd, size)  # they come again, and not twice
            raise
    finally:
        os.close(fd)


def _rotate(path: Path, keep: int) -> None:
    path.with_name(f"{_NAME}.{keep}").unlink(missing_ok=True)
    for number in range(keep - 1, 0, -1):
        older = path.with_name(f"{_NAME}.{number}")
        if older.exists():
            older.rename(path.with_name(f"{_NAME}.{number + 1}"))
    if keep:
        path.rename(path.with_name(f"{_NAME}.1"))
    else:
        path.unlink()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
