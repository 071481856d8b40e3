"""Conversations made from others: forks, exports and imports.

A new session is stored with its whole history in one commit, after its files are in place. If the process dies
between the two, files are left that belong to no session; `sweep` removes those at the next start.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import trio

from skill_actors.errors import Refused
from skill_actors.sessions.account import LINEAGE
from skill_actors.sessions.events import Event, utc_now
from skill_actors.sessions.lineage import Branch, branch_of
from skill_actors.sessions.place_folders import folders_of_session, session_of_folder
from skill_actors.sessions.settings import SETTINGS
from skill_actors.sessions.surroundings import Surroundings
from skill_actors.sessions.table import not_found
from skill_actors.sessions.transcript import Transcript, end_line, event_line, head_line
from skill_actors.sessions.uploads import remove_workspace
from skill_actors.sessions.workspace_copy import CopyCount, copy_workspace
from skill_actors.store.base import SessionMissing, SessionRecord, StoreError

__all__ = ["Branching", "workspaces_in"]

_PAGE_EVENTS: Final = 1000
_COPIES_AT_ONCE: Final = 2
_MAX_TITLE: Final = 200


class Branching:
    """Makes sessions that have a history when they begin. Belongs to the trio thread."""

    def __init__(self, env: Surroundings) -> None:
        self._env = env
        self._copying = trio.CapacityLimiter(_COPIES_AT_ONCE)
        self._making: dict[str, trio.Event] = {}

    @asynccontextmanager
    async def alone(self, id: str) -> AsyncIterator[None]:
        """One at a time makes or deletes the session of an id: requests under one key stand for one, and one folder."""
        while (other := self._making.get(id)) is not None:
            await other.wait()
        done = self._making[id] = trio.Event()
        try:
            yield
        finally:
            del self._making[id]
            done.set()

    async def fork(
        self, source: SessionRecord, id: str, chosen: Mapping[str, Any], *, after: int | None, title: str | None
    ) -> SessionRecord:
        """Store a copy of a session, its files included, that goes on by itself; it belongs to the same owner.

        Args:
            id: of the new session.
            chosen: further settings.
            after: the last event to look at; a turn that had not ended by then is left out.

        Raises:
            Refused: bad_request if there is no such event, not_found, storage_full. Nothing is left then.
            ValueError: there is a session with this id.
            StoreError: the store did not take it.

        """
        if after is not None and not 0 <= after <= source.last_seq:
            raise Refused("bad_request", f"after: {after} is not an event of the session, which has {source.last_seq}")
        events = await self._read(source, source.last_seq if after is None else after)
        branch = await trio.to_thread.run_sync(branch_of, events, id)
        origin = {"session": source.id, "seq": branch.through}
        settings = {name: value for name, value in source.settings.items() if name in SETTINGS | LINEAGE}
        settings["title"] = title if title is not None else _fork_title(str(settings.get("title", "")))
        try:
            copied = await self._copy_files(source.id, id)
            noted = branch.with_note("session.forked", id, utc_now(), {**origin, "skipped_files": copied.skipped})
            record = self._record(id, source.owner_uid, {**settings, **chosen, "forked_from": origin}, noted)
            if await self._env.journal.get_session(source.id) is None:
                raise not_found("session", source.id)  # and so there may have been fewer events to read than there were
            await self._env.journal.create_session(record, events=noted.events, turns=noted.turns)
        except BaseException:
            await self._remove_unless_stored(id)
            raise
        return record

    async def take_in(
        self, transcript: Transcript, owner_uid: int, id: str, settings: Mapping[str, Any]
    ) -> SessionRecord:
        """Store a session read from a file. Raises as `fork` does, but for bad_request."""
        branch = await trio.to_thread.run_sync(branch_of, transcript.events, id)
        noted = branch.with_note("session.imported", id, utc_now(), {"session": transcript.session})
        record = self._record(id, owner_uid, settings, noted)
        record = replace(record, created=transcript.created, totals=transcript.totals)
        await self._env.journal.create_session(record, events=noted.events, turns=noted.turns)
        return record

    async def lines(self, record: SessionRecord) -> AsyncGenerator[str, None]:
        """The session as it is stored now, line by line; see `transcript`.

        Raises:
            SessionMissing: it was deleted meanwhile.

        """
        yield head_line(record)
        told, after = 0, 0
        while page := await self._env.journal.read_events(
            record.id, after=after, through=record.last_seq, limit=_PAGE_EVENTS
        ):
            for event in page:
                yield event_line(event)
            told, after = told + len(page), page[-1].seq
        if await self._env.journal.get_session(record.id) is None:
            raise SessionMissing(f"session {record.id} was deleted while it was read")  # a file without an end line
        yield end_line(told)

    async def sweep(self, names: Sequence[str]) -> int:
        """Remove workspaces that belong to no session; how many.

        Args:
            names: of the folders that were there before this process made any.

        """
        removed = 0
        for name in sorted({session for folder in names if (session := session_of_folder(folder)) is not None}):
            if name in self._making:  # its files come before it does
                continue
            with suppress(StoreError):  # a session that cannot be read is there
                async with self.alone(name):
                    if await self._env.journal.get_session(name) is None:
                        await remove_workspace(self._env.workspaces, name)
                        removed += 1
        return removed

    def _record(self, id: str, owner_uid: int, settings: Mapping[str, Any], branch: Branch) -> SessionRecord:
        now = utc_now()
        return SessionRecord(
            id=id, owner_uid=owner_uid, created=now, updated=now, last_seq=len(branch.events), settings=settings
        )

    async def _read(self, source: SessionRecord, through: int) -> Sequence[Event]:
        events: list[Event] = []
        after = 0
        while page := await self._env.journal.read_events(source.id, after=after, through=through, limit=_PAGE_EVENTS):
            events.extend(page)
            after = page[-1].seq
        return events

    async def _copy_files(self, source: str, target: str) -> CopyCount:
        root = self._env.workspaces
        try:
            return await trio.to_thread.run_sync(
                _copy_folders, root, source, target, trio.from_thread.check_cancelled, limiter=self._copying
            )
        except OSError as error:
            raise Refused("storage_full", f"the files cannot be copied: {error.strerror}", retry_after_s=10) from error

    async def _remove_unless_stored(self, id: str) -> None:
        """A cancelled commit may have gone through. Where the store cannot tell, the next start sweeps."""
        with trio.CancelScope(shield=True), suppress(StoreError):
            if await self._env.journal.get_session(id) is None:
                await remove_workspace(self._env.workspaces, id)


def _copy_folders(root: Path, source: str, target: str, go_on: Callable[[], object]) -> CopyCount:
    """The files of all places of a session. Blocks."""
    count = CopyCount()
    for folder in folders_of_session(root, source):
        copied = copy_workspace(folder, root / f"{target}{folder.name.removeprefix(source)}", go_on)
        count.files += copied.files
        count.skipped += copied.skipped
    return count


def _fork_title(title: str) -> str:
    """Of a fork that was given none."""
    return f"{title or 'untitled'} (fork)" if len(title) + len(" (fork)") <= _MAX_TITLE else title


def workspaces_in(root: Path) -> list[str]:
    """Names of the folders there, each of one place of a session; none if there is no such place. Blocks."""
    try:
        return sorted(entry.name for entry in root.iterdir())
    except FileNotFoundError:
        return []
