"""Keeps a storage up to date with workspaces while turns go on: nobody waits for it, and it waits for nobody.

A workspace that has changed is *due*. A due one is synced as it is then, a few at a time; one whose sync failed is
due again after a pause that doubles. What a process before this one did not store, or was not there to see change, is
found by comparing each workspace with what is remembered of the last time that all of it was stored.
"""

from __future__ import annotations

import contextlib
import logging
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trio

from skill_actors.files.ref import FileRef
from skill_actors.files.snapshot import scan
from skill_actors.files.storage.base import OnSynced, Storage, check_session
from skill_actors.files.storage.errors import StorageError
from skill_actors.files.storage.stored_names import StoredNames, state_of
from skill_actors.telemetry import Bus

__all__ = ["BackgroundSync", "storage_id"]

_log = logging.getLogger(__name__)
_AT_ONCE: Final = 2
_QUIET_S: Final = 0.5  # a workspace that is just being changed is left alone so long
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 300.0


def storage_id(folder: str) -> str:
    """What a storage knows a workspace by: the session's id, and for a further place its name behind it."""
    return folder.replace(".", "--")


@dataclass(slots=True)
class _Due:
    """Since when it waits, when it may be tried, and what was tried."""

    since: float
    at: float
    attempts: int = 0
    why: str = ""


class BackgroundSync:
    """Syncs the workspaces below one folder to one storage.

    Args:
        storage: where to.
        workspaces: a folder for each session, and for each further place of one.
        names: the folder in which is kept what was stored of each; made if it is missing.
        bus: is told of each file ("file.synced") and of each round that failed ("files.sync_failed").
        on_synced: awaited for each file that was sent; one that raises is logged.
        dice: where pauses get their scatter from.

    """

    def __init__(
        self,
        storage: Storage,
        workspaces: Path,
        names: Path,
        bus: Bus,
        *,
        on_synced: OnSynced | None = None,
        dice: random.Random | None = None,
    ) -> None:
        self.storage = storage
        self._workspaces = workspaces
        self._names = StoredNames(names)
        self._bus = bus
        self._on_synced = on_synced
        self._dice = dice or random.Random()
        self._due: dict[str, _Due] = {}
        self._locks: dict[str, trio.Lock] = {}
        self._rounds: dict[str, trio.CancelScope] = {}  # that are under way
        self._news = trio.Event()
        self._compared = False
        self._files = 0
        self._bytes = 0

    def note(self, folder: str) -> None:
        """The workspace has changed. Returns at once."""
        now = trio.current_time()
        due = self._due.setdefault(folder, _Due(now, now))
        if not due.attempts:
            due.at = min(now, due.since + 10 * _QUIET_S) + _QUIET_S
        self._news.set()

    def forget(self, session: str) -> None:
        """The session's workspaces are going, or gone: what the storage has of them stays.

        A round that is under way is ended, lest it takes for deleted what is just being removed.
        """
        for folder in {session, *self._due, *self._rounds}:
            if folder.partition(".")[0] == session:
                self.leave(folder)

    def leave(self, folder: str) -> None:
        """One workspace is going, as in `forget`."""
        self._due.pop(folder, None)
        if folder in self._rounds:
            self._rounds[folder].cancel()
        self._names.forget(folder)

    async def emptied(self, folder: str) -> None:
        """The workspace's files were removed on purpose: they go from the storage too."""
        with contextlib.suppress(OSError):  # then they stay there
            await trio.to_thread.run_sync(self._names.follow, self._workspaces / folder)
        self.note(folder)

    def is_due(self, folder: str) -> bool:
        """Whether the workspace may have something that is not stored."""
        return folder in self._due or not self._compared

    def status(self) -> dict[str, Any]:
        """JSON-ready: workspaces that wait, for how long the oldest, and why those fail that do."""
        now = trio.current_time()
        return {
            "storage": self.storage.name,
            "waiting": len(self._due),
            "lag_s": round(max((now - due.since for due in self._due.values()), default=0.0), 3),
            "failing": {folder: due.why for folder, due in sorted(self._due.items()) if due.why},
            "synced_files": self._files,
            "synced_bytes": self._bytes,
        }

    async def run(self) -> None:
        """Sync what is due, until it is cancelled."""
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            nursery.start_soon(self._compare)
            limiter = trio.CapacityLimiter(_AT_ONCE)
            while True:
                self._news = trio.Event()
                now, running = trio.current_time(), set(self._locks)
                ready = [folder for folder, due in self._due.items() if due.at <= now and folder not in running]
                for folder in ready:
                    self._locks[folder] = trio.Lock()
                    nursery.start_soon(self._one, folder, limiter)
                later = [due.at for folder, due in self._due.items() if folder not in self._locks]
                with trio.move_on_at(min(later, default=float("inf"))):
                    await self._news.wait()

    async def flush(self, folder: str, timeout_s: float = 30.0) -> bool:
        """Sync one workspace now, if it is due; whether it is up to date."""
        if folder not in self._due and folder not in self._locks:
            return True
        with trio.move_on_after(timeout_s):
            lock = self._locks.setdefault(folder, trio.Lock())
            try:
                async with lock:
                    if folder in self._due:
                        await self._sync(folder)
            finally:
                self._release(folder, lock)
                self._news.set()  # if it was cut off, it is due
        return folder not in self._due

    async def _one(self, folder: str, limiter: trio.CapacityLimiter) -> None:
        lock = self._locks[folder]
        try:
            async with limiter, lock:
                if folder in self._due:
                    await self._sync(folder)
        finally:
            self._release(folder, lock)
            self._news.set()

    def _release(self, folder: str, lock: trio.Lock) -> None:
        if not lock.locked() and self._locks.get(folder) is lock:
            del self._locks[folder]

    async def _sync(self, folder: str) -> None:
        with trio.CancelScope() as self._rounds[folder]:
            try:
                await self._round(folder)
            finally:
                del self._rounds[folder]

    async def _round(self, folder: str) -> None:
        due = self._due[folder]
        began = _Due(due.since, due.at, due.attempts, due.why)
        workspace = self._workspaces / folder
        known, state = await trio.to_thread.run_sync(self._begin, workspace)
        due.since = trio.current_time()  # what changes from here on is not in this round
        due.at = due.since
        try:
            report = await self.storage.sync_to_remote(
                storage_id(folder), workspace, on_synced=self._synced, known=known
            )
            stored = known.intersection(report.failed).union(report.stored)
            whole = state if report.is_whole else ""
            await trio.to_thread.run_sync(self._names.write, workspace, stored, whole)
            why = next((f"{path}: {reason}" for path, reason in report.failed.items()), "")
            retryable = report.retryable
        except StorageError as error:
            why, retryable = error.message, error.retryable
        if why:
            self._failed(folder, began, why, retryable)
            return
        if self._due.get(folder) is due and due.at <= due.since:
            del self._due[folder]
        elif folder in self._due:
            due.attempts, due.why = 0, ""

    def _begin(self, workspace: Path) -> tuple[frozenset[str], str]:
        """What was stored of it before, and how it is now. Blocks."""
        return self._names.read(workspace), state_of(scan(workspace))

    async def _compare(self) -> None:
        """Find what was not stored when the process before this one ended, or changed while nobody listened."""
        for folder in await trio.to_thread.run_sync(self._folders):
            if await trio.to_thread.run_sync(self._names.lags, self._workspaces / folder):
                self.note(folder)
        self._compared = True

    def _failed(self, folder: str, began: _Due, why: str, retryable: bool) -> None:
        if folder not in self._due:
            return
        attempts = began.attempts + 1
        pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(attempts - 1, 20))
        if not retryable:
            pause_s = _LONGEST_PAUSE_S  # an operator has to mend it
        pause_s *= 0.8 + 0.4 * self._dice.random()
        self._due[folder] = _Due(began.since, trio.current_time() + pause_s, attempts, why)
        _log.warning("files of %s cannot be stored, again in %.0f s: %s", folder, pause_s, why)
        self._bus.emit("files.sync_failed", {"attempts": attempts}, {"session": folder.partition(".")[0]})

    async def _synced(self, stored: str, ref: FileRef) -> None:
        self._files += 1
        self._bytes += ref.size or 0
        self._bus.emit("file.synced", {"size": ref.size or 0}, {"session": stored.partition("--")[0]})
        if self._on_synced is None:
            return
        try:
            await self._on_synced(stored, ref)
        except Exception:
            _log.exception("a callback failed on the synced file %s", ref.path)

    def _folders(self) -> list[str]:
        """The workspaces there are. Blocks."""
        self._names.forget_missing(self._workspaces)
        try:
            return sorted(entry.name for entry in self._workspaces.iterdir() if _is_workspace(entry))
        except FileNotFoundError:
            return []


def _is_workspace(entry: Path) -> bool:
    try:
        check_session(storage_id(entry.name))
    except ValueError:
        return False
    return entry.is_dir() and not entry.is_symlink()
