"""The agents that there are: read and stored one at a time by each name, and found by their conversations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from skill_actors.errors import Refused
from skill_actors.store.documents import MAX_DOCUMENT_BYTES, Applied, Change, DocumentStore, NewEvent, Room
from skill_actors.workshop.agents.record import AGENT_KIND, AgentRecord
from skill_actors.workshop.names import check_name, document_id
from skill_actors.workshop.refusals import refusing

__all__ = ["Roster", "room_for", "stored"]

_PAGE = 500


async def stored(
    documents: DocumentStore,
    changes: Sequence[Change],
    events: Sequence[NewEvent] = (),
    *,
    room: Sequence[Room] = (),
) -> Applied:
    """Store these, all or nothing.

    Raises:
        Refused: conflict, too_large, storage_full, draining. Nothing was stored then.

    """
    with refusing():
        return await documents.apply(changes, events, room=room)


def room_for(kind: str, owner_uid: int, documents: int) -> Room:
    """So many of a kind, of any size."""
    return Room(kind=kind, owner_uid=owner_uid, documents=documents, size_bytes=documents * MAX_DOCUMENT_BYTES)


class Roster:
    """Agents by owner and name, and by conversation. Belongs to the trio thread.

    Args:
        documents: where they are kept.
        max_agents: that one owner may have.

    """

    def __init__(self, documents: DocumentStore, max_agents: int) -> None:
        self._documents = documents
        self._max_agents = max_agents
        self._by_session: dict[str, tuple[int, str]] = {}
        self._locks: dict[tuple[int, str], tuple[trio.Lock, int]] = {}

    async def load(self) -> Sequence[AgentRecord]:
        """Learn which conversations are agents', at a start; all agents, the dismissed ones too."""
        found = await self._all(None)
        for record in found:
            self._remember(record)
        return found

    def agent_of(self, session: str) -> tuple[int, str] | None:
        """Whose conversation it is, or was: owner and name; None if no agent's."""
        return self._by_session.get(session)

    def owners(self) -> Sequence[int]:
        """Everybody who has agents, or had some."""
        return sorted({owner_uid for owner_uid, _ in self._by_session.values()})

    async def find(self, owner_uid: int, name: str) -> AgentRecord | None:
        """The agent, a dismissed one too; None if there never was one. Raises Refused("bad_request")."""
        document = await self._documents.get(AGENT_KIND, document_id(owner_uid, check_name(name)))
        return None if document is None else AgentRecord.of(document)

    async def get(self, owner_uid: int, name: str) -> AgentRecord:
        """The agent. Raises Refused("not_found") where there is none, or it was dismissed."""
        record = await self.find(owner_uid, name)
        if record is None or record.state == "dismissed":
            raise Refused(
                "not_found", f"there is no agent {name!r}; 'skillctl workshop agent list' shows those there are"
            )
        return record

    async def of_owner(self, owner_uid: int) -> Sequence[AgentRecord]:
        """All agents of one owner by name, the dismissed ones too."""
        return await self._all(owner_uid)

    async def _all(self, owner_uid: int | None) -> Sequence[AgentRecord]:
        found: list[AgentRecord] = []
        after = ""
        while page := await self._documents.list(AGENT_KIND, owner_uid=owner_uid, after=after, limit=_PAGE):
            found.extend(map(AgentRecord.of, page))
            after = page[-1].id
        return found

    async def save(
        self, record: AgentRecord, events: Sequence[NewEvent] = (), changes: Sequence[Change] = ()
    ) -> AgentRecord:
        """Store the agent, and with it what tells of it; the agent as it is then. Raises Refused as `stored`."""
        room = room_for(AGENT_KIND, record.owner_uid, self._max_agents)
        applied = await stored(self._documents, [record.change(), *changes], events, room=[room])
        document = applied.documents[0]
        record = replace(record, version=document.version, created=document.created, updated=document.updated)
        self._remember(record)
        return record

    async def remove(self, record: AgentRecord, events: Sequence[NewEvent]) -> None:
        """Forget the agent. Raises Refused as `stored`."""
        await stored(self._documents, [replace(record.change(), data=None)], events)
        for session in (record.session, *record.before):
            self._by_session.pop(session, None)

    def _remember(self, record: AgentRecord) -> None:
        for session in (record.session, *record.before):
            self._by_session[session] = record.owner_uid, record.name

    @asynccontextmanager
    async def alone(self, owner_uid: int, name: str) -> AsyncIterator[None]:
        """One at a time changes an agent or gives it a message. The lock exists only while somebody needs it."""
        key = owner_uid, name
        lock, users = self._locks.get(key, (trio.Lock(), 0))
        self._locks[key] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            _, users = self._locks[key]
            if users == 1:
                del self._locks[key]
            else:
                self._locks[key] = lock, users - 1
