"""How a session comes into being: by itself, as a fork of another, or from a file. Once for each key.

What it is made of is checked whole before anything is stored.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import trio

from skill_actors.errors import Refused
from skill_actors.ids import new_id
from skill_actors.sessions.account import MAX_DEPTH, NO_LINEAGE, Lineage, check_budget, keep_budget
from skill_actors.sessions.branching import Branching
from skill_actors.sessions.chosen_backends import check_backends, check_options_again
from skill_actors.sessions.events import utc_now
from skill_actors.sessions.intake import Intake, check_key, digest_of, refusal
from skill_actors.sessions.offered import check_project, check_skill_choice
from skill_actors.sessions.place_check import check_bridge, check_places, is_agents, known_backends
from skill_actors.sessions.session_artifacts import given_now, merged_artifacts
from skill_actors.sessions.session_files import check_quota
from skill_actors.sessions.settings import CHANGEABLE, check_settings
from skill_actors.sessions.sources import check_sources
from skill_actors.sessions.surroundings import Surroundings
from skill_actors.sessions.table import SessionTable, Viewer
from skill_actors.sessions.transcript import read_transcript
from skill_actors.store.base import JournalClosed, SessionExists, SessionRecord, StorageFull

__all__ = ["Making"]

_Make = Callable[[str, Mapping[str, Any]], Awaitable[SessionRecord]]


class Making:
    """Makes sessions. Belongs to the trio thread. Its methods give the new session, or that of the same key."""

    def __init__(self, branching: Branching, table: SessionTable, intake: Intake, env: Surroundings) -> None:
        self._branching = branching
        self._table = table
        self._intake = intake
        self._env = env

    async def create(
        self,
        owner_uid: int,
        settings: Mapping[str, Any],
        key: str | None,
        *,
        agent: str | None = None,
        lineage: Lineage = NO_LINEAGE,
        workshop_tools: bool | Sequence[str] = False,
    ) -> SessionRecord:
        """See `SessionManager.create`."""
        given = {name: value for name, value in settings.items() if name != "parent"}

        async def make(id: str, chosen: Mapping[str, Any]) -> SessionRecord:
            checked = await self._check_choices(given, owner_uid)
            now = utc_now()
            whole = lineage
            if settings.get("parent") is not None:
                whole = lineage.joined(await self.lineage_below(settings["parent"], owner_uid))
            as_agent: dict[str, Any] = {} if agent is None else {"agent": agent}
            if workshop_tools:
                check_bridge(self._env, checked)
                as_agent["workshop_tools"] = workshop_tools
            settled = {**chosen, **checked, **as_agent, **whole.settings()}
            record = SessionRecord(id=id, owner_uid=owner_uid, created=now, updated=now, settings=settled)
            await self._env.journal.create_session(record)
            return record

        return await self._make(owner_uid, key, digest_of(settings if agent is None else [settings, agent]), make)

    async def lineage_below(self, parent: Any, owner_uid: int) -> Lineage:
        """For whom a child of this session works; the budgets of all of them bind it from now on.

        Raises Refused: bad_request, not_found.
        """
        if not isinstance(parent, str):
            raise Refused("bad_request", f"parent: expected the id of a session, got {parent!r:.60}")
        record = await self._table.record(parent, Viewer(uid=owner_uid))
        below = Lineage.below(record)
        if len(below.parents) > MAX_DEPTH:
            raise Refused("bad_request", f"parent: {parent} works for {MAX_DEPTH} sessions already, and no more may be")
        if self._env.ledger is not None:
            await keep_budget(self._env.ledger, record)
        return below

    async def check(self, owner_uid: int, settings: Mapping[str, Any]) -> None:
        """See `SessionManager.check`."""
        await self._check_choices(settings, owner_uid)

    async def fork(
        self, session: str, viewer: Viewer, *, after: int | None, title: str | None, key: str | None
    ) -> SessionRecord:
        """See `SessionManager.fork`."""
        check_settings({"title": title}, allowed=CHANGEABLE)
        source = await self._table.record(session, viewer)

        async def make(id: str, chosen: Mapping[str, Any]) -> SessionRecord:
            check_options_again(self._env, source.settings.get("backends"))
            return await self._branching.fork(source, id, chosen, after=after, title=title)

        digest = digest_of(["fork", session, after, title])
        return await self._make(source.owner_uid, key, digest, make)

    async def take_in(self, owner_uid: int, raw: bytes, key: str | None) -> SessionRecord:
        """See `SessionManager.import_session`."""

        async def make(id: str, chosen: Mapping[str, Any]) -> SessionRecord:
            transcript = await trio.to_thread.run_sync(read_transcript, raw)
            elsewhere = {name: value for name, value in transcript.settings.items() if name != "cwd"}
            checked = await self._check_choices(elsewhere, owner_uid)
            return await self._branching.take_in(transcript, owner_uid, id, {**chosen, **checked})

        return await self._make(owner_uid, key, hashlib.sha256(raw).hexdigest(), make)

    async def _make(self, owner_uid: int, key: str | None, digest: str, make: _Make) -> SessionRecord:
        """Make a session, or give back the one that was made under the same key with the same content."""
        self._intake.refuse_if_draining()
        if key is not None:
            check_key(key)
        id = new_id("ses") if key is None else _keyed_session_id(owner_uid, key)
        async with self._branching.alone(id):
            existing = await self._env.journal.get_session(id) if key is not None else None
            if existing is not None:
                return _same_session(existing, digest, key or "")
            try:
                record = await make(id, {} if key is None else {"key_digest": digest})
            except (StorageFull, JournalClosed) as error:
                raise refusal(error) from error
            except SessionExists as error:  # the one that had the key was deleted, and goes chunk by chunk
                raise Refused("overloaded", f"{error}, or the same in a moment", retry_after_s=1) from error
        self._table.made(id)
        self._env.bus.emit("session.created", {"count": 1}, {"session": id})
        return record

    async def _check_choices(self, settings: Mapping[str, Any], owner_uid: int) -> dict[str, Any]:
        checked = check_settings(settings, backends=known_backends(self._env))
        chosen = check_backends(self._env, checked.get("backends"))
        if "backends" in checked:
            checked["backends"] = chosen
        check_budget(self._env.ledger, checked)
        check_quota(checked.get("limits", {}), self._env.defaults.workspace_bytes)
        if "artifacts" in checked:
            limits = self._env.artifacts
            checked["artifacts"] = merged_artifacts((), given_now(checked["artifacts"], limits), limits.lifetime_s)
        agents = is_agents(self._env, checked)  # whose models are their own
        model = None if agents else self._env.resolve_model(checked.get("model"))[0]
        check_places(self._env, checked, model)
        if "cwd" in checked:
            checked["cwd"] = await check_project(self._env, owner_uid, checked["cwd"])
        await check_skill_choice(self._env, owner_uid, checked)
        await check_sources(self._env, owner_uid, checked, of_agent=agents)
        return checked


def _same_session(record: SessionRecord, digest: str, key: str) -> SessionRecord:
    if record.settings.get("key_digest") != digest:
        raise Refused(
            "idempotency_conflict", f"key {key!r} made session {record.id} with other settings; use a new key"
        )
    return record


def _keyed_session_id(owner_uid: int, key: str) -> str:
    """The session a key stands for: the key is thereby remembered as long as the session, without an index."""
    digest = hashlib.sha256(f"{owner_uid}\0{key}".encode("utf-8", "surrogateescape")).digest()[:16]
    return f"ses_{base64.b32encode(digest).decode('ascii').rstrip('=').lower()}"
