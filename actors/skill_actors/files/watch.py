"""Notices which files of a workspace were created, changed or deleted since it was last asked.

It holds what was last reported. A report counts only once whoever asked for it has written it down: what cannot be
written is found again at the next look, so that nothing is lost and nothing is told twice. One look at a time.

A look reads names and times; content is read only of files that are new or whose times are others, and only so much
of it at once: a larger file has no checksum, and its times alone decide.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from skill_actors.errors import Refused
from skill_actors.files.changes import Differences, FileChange, Known, differences, is_settled, time_text
from skill_actors.files.content import checksum_of, open_file
from skill_actors.files.snapshot import Mark, ScanLimits, Snapshot, scan

__all__ = ["Usage", "WorkspaceWatch"]

_MAX_CHANGES: Final = 1_000  # in one report; the rest comes with the next
_HASH_BYTES: Final = 256 << 20  # of content in one look

_LOOKS: Final = trio.lowlevel.RunVar[trio.CapacityLimiter]("looks at workspaces")
_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a workspace held at the last look: bytes on the disk, files, and whether all of it was seen.

    Args:
        uploads: what of the bytes is in files that are being uploaded, by name.

    """

    bytes: int = 0
    files: int = 0
    complete: bool = True
    uploads: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Found:
    changes: list[FileChange]
    known: dict[str, Known]  # what becomes known with the report
    gone: list[str]
    snapshot: Snapshot


class WorkspaceWatch:
    """One workspace's files.

    Args:
        root: the workspace; it may be missing.
        source: the name of the place, for the changes.
        known: what was reported before, as `known_files` reads it from events.
        limits: of a look.

    """

    def __init__(
        self,
        root: Path,
        source: str,
        *,
        known: Mapping[str, Known] | None = None,
        limits: ScanLimits | None = None,
    ) -> None:
        self.root = root
        self.source = source
        self.usage = Usage()
        self._known = dict(known or {})
        self._limits = limits or ScanLimits()
        self._lock = trio.Lock()

    @property
    def known(self) -> Mapping[str, Known]:
        """What was reported, by name."""
        return self._known

    async def changes(self) -> Sequence[FileChange]:
        """What has changed since it was last asked, at most 1,000 files: those that are gone, then by name."""
        told: list[FileChange] = []

        async def keep(changes: Sequence[FileChange]) -> None:
            told.extend(changes)

        await self.report(keep)
        return told

    async def report(
        self, write: Callable[[Sequence[FileChange]], Awaitable[None]], *, only: Collection[str] | None = None
    ) -> Snapshot:
        """Look, and have what has changed written down; what raises leaves everything as it was. What was seen.

        Args:
            write: called in any case, with no changes if there are none.
            only: tell of these files alone, as the one who changed them does.

        """
        async with self._lock:
            found = await trio.to_thread.run_sync(self._look, only, limiter=_limiter())
            self._note_usage(found.snapshot)
            await write(found.changes)
            self._known.update(found.known)
            for name in found.gone:
                self._known.pop(name, None)
            return found.snapshot

    async def look(self) -> Snapshot:
        """What is there now. Tells nobody."""
        snapshot = await trio.to_thread.run_sync(scan, self.root, self._limits, limiter=_limiter())
        self._note_usage(snapshot)
        return snapshot

    def forget(self) -> None:
        """The workspace was removed, and everybody knows."""
        self._known.clear()
        self.usage = Usage()

    def _note_usage(self, snapshot: Snapshot) -> None:
        self.usage = Usage(
            bytes=snapshot.used_bytes,
            files=len(snapshot.marks) + snapshot.unnamed,
            complete=snapshot.complete,
            uploads=snapshot.uploads,
        )

    def _look(self, only: Collection[str] | None) -> _Found:
        """Blocks."""
        snapshot = scan(self.root, self._limits)
        differs = differences(self._known, snapshot)
        found = _Found([], {}, [], snapshot)
        if differs:
            self._judge(differs, found, only)
        return found

    def _judge(self, differs: Differences, found: _Found, only: Collection[str] | None) -> None:
        budget = _HASH_BYTES
        for name in differs.deleted:
            if _wanted(name, only) and len(found.changes) < _MAX_CHANGES:
                found.gone.append(name)
                found.changes.append(
                    FileChange(kind="deleted", name=name, size=None, checksum=None, source=self.source)
                )
        for name in sorted((*differs.created, *differs.suspect)):
            if not _wanted(name, only) or len(found.changes) >= _MAX_CHANGES:
                continue
            mark = found.snapshot.marks[name]
            checksum = self._checksum(name, mark) if mark.size <= budget else None
            budget -= mark.size if checksum else 0
            self._take(name, mark, checksum, found)

    def _take(self, name: str, mark: Mark, checksum: str | None, found: _Found) -> None:
        before = self._known.get(name)
        settled = is_settled(mark, found.snapshot.taken_ns, found.snapshot.ended_ns)
        created = time_text(time.time_ns())[:23] + "Z" if before is None else before.created
        found.known[name] = Known(mark, checksum, created, settled)
        if before is not None and _same_content(before, mark, checksum):
            return
        found.changes.append(
            FileChange(
                kind="created" if before is None else "changed",
                name=name,
                size=mark.size,
                checksum=checksum,
                source=self.source,
                modified=time_text(mark.mtime_ns),
            )
        )

    def _checksum(self, name: str, mark: Mark) -> str | None:
        """Of the file as it was seen; None if it is being written, or cannot be read."""
        try:
            with open_file(self.root, name) as file:
                if file.mark.size > max(mark.size, 1 << 20):
                    return None
                return checksum_of(file)
        except (Refused, OSError):
            return None


def _wanted(name: str, only: Collection[str] | None) -> bool:
    return only is None or name in only


def _same_content(before: Known, mark: Mark, checksum: str | None) -> bool:
    if checksum is None or before.checksum is None:
        return before.mark[:2] == mark[:2]
    return checksum == before.checksum


def _limiter() -> trio.CapacityLimiter:
    """Looks wait for each other, and not for other threads, nor these for them."""
    try:
        return _LOOKS.get()
    except LookupError:
        limiter = trio.CapacityLimiter(_AT_ONCE)
        _LOOKS.set(limiter)
        return limiter
