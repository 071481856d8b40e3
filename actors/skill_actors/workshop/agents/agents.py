"""Agents: conversations under names, made, looked at, begun anew and let go of.

An agent is a document, and a conversation of its owner that performs its turns: so its messages, its queue, its turns
and what they cost are durable as those of any conversation. A reset or a replacement gives it another conversation and
cancels what goes on in the one before, which can still be read. What an agent spends is counted under its name for
ever: no reset, dismissal or restart makes it less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from skill_actors.errors import Refused
from skill_actors.sessions.ledger import Limits
from skill_actors.sessions.table import Viewer
from skill_actors.skills.names import normal_name
from skill_actors.store.base import TurnRecord
from skill_actors.store.documents import NewEvent
from skill_actors.store.ledger import Sums
from skill_actors.workshop.agents.composing import cap_of, lineage_of, session_settings, system_prompt
from skill_actors.workshop.agents.crashes import CrashRecord
from skill_actors.workshop.agents.folders import AgentFolders
from skill_actors.workshop.agents.profiles import Profiles
from skill_actors.workshop.agents.record import AgentRecord
from skill_actors.workshop.agents.roster import Roster
from skill_actors.workshop.agents.settings import AgentSettings, checked_fields, laid_over
from skill_actors.workshop.agents.setup import Setup, Setups
from skill_actors.workshop.agents.surroundings import AgentSurroundings
from skill_actors.workshop.agents.views import agent_view, cost_view, sum_of

__all__ = ["Agents", "agent_event", "ended_turns"]

_NOTHING: Final = Sums()


class Agents:
    """The agents of all owners. Belongs to the trio thread. Results are JSON-ready."""

    def __init__(
        self, env: AgentSurroundings, roster: Roster, profiles: Profiles, setups: Setups, folders: AgentFolders
    ) -> None:
        self._env = env
        self._folders = folders
        self._roster = roster
        self._profiles = profiles
        self._setups = setups

    # -- made and let go of ---------------------------------------------------------------------------------------

    async def define(
        self, owner_uid: int, name: str, settings: Mapping[str, Any], *, replace_it: bool = True
    ) -> dict[str, Any]:
        """Make an agent, or with `replace_it` put another one in the place of the one of this name; its JSON form.

        Its settings are laid over those of its profile, and these over the owner's defaults.

        Raises:
            Refused: bad_request, not_found (no such profile), conflict (there is one), forbidden (its cap was set by
                somebody else), backend_unavailable and what else a session refuses, storage_full, draining.

        """
        given = checked_fields(settings)
        async with self._roster.alone(owner_uid, name):
            before = await self._roster.find(owner_uid, name)
            if before is not None and before.state != "dismissed" and not replace_it:
                raise Refused("conflict", f"there is an agent {name!r} already; replace it, or take another name")
            setup = await self._setups.funded(owner_uid)
            profile = given.get("profile")
            under = {} if profile is None else await self._profiles.settings_of(owner_uid, profile)
            fields = laid_over({"context": setup.context} if setup.context else {}, setup.defaults, under, given)
            await self._check_cap(owner_uid, name, fields.get("max_cost_usd"))
            session = await self._conversation(owner_uid, name, AgentSettings.of(fields), setup)
            if before is None:
                record = AgentRecord(owner_uid=owner_uid, name=name, fields=fields, session=session)
            else:
                record = replace(before.begun_anew(session), fields=fields)
            try:
                record = replace(record, capped=await self._set_cap(record))
                event = "created" if before is None or before.state == "dismissed" else "changed"
                record = await self._roster.save(record, [agent_event(record, event)])
            except BaseException:
                await self._drop(session, owner_uid)
                raise
            if before is not None:
                await self._end_all(before)
        return await self._view(record)

    async def reset(self, owner_uid: int, name: str) -> dict[str, Any]:
        """Give the agent a conversation anew: every option of it is kept, what it spent too, and its queue is not.

        Raises:
            Refused: not_found, what a session refuses by now, storage_full, draining.

        """
        async with self._roster.alone(owner_uid, name):
            record = await self.renewed(await self._roster.get(owner_uid, name), "reset")
        return await self._view(record)

    async def renewed(self, before: AgentRecord, event: str) -> AgentRecord:
        """The agent with another conversation; for whoever has it alone."""
        setup = await self._setups.funded(before.owner_uid)
        session = await self._conversation(before.owner_uid, before.name, before.settings, setup)
        try:
            record = await self._roster.save(before.begun_anew(session), [agent_event(before, event)])
        except BaseException:
            await self._drop(session, before.owner_uid)
            raise
        await self._end_all(before)
        return record

    async def dismiss(self, owner_uid: int, name: str) -> None:
        """Let an agent go: what it does is cancelled, its conversations can still be read, what it spent stays known.

        Raises:
            Refused: not_found, storage_full, draining.

        """
        async with self._roster.alone(owner_uid, name):
            record = await self._roster.get(owner_uid, name)
            gone = replace(record, state="dismissed")
            await self._roster.save(gone, [agent_event(record, "dismissed")])
            await self._end_all(record)

    async def forget(self, owner_uid: int, name: str) -> None:
        """Let an agent go that was made for one task: its name and its cap are free, and its conversation is kept.

        Raises:
            Refused: not_found, storage_full, draining.

        """
        async with self._roster.alone(owner_uid, name):
            record = await self._roster.find(owner_uid, name) or await self._roster.get(owner_uid, name)
            await self._end_all(record)
            if record.capped and self._env.ledger is not None:
                await self._env.ledger.set_cap(cap_of(owner_uid, name), None, owner_uid)
            await self._roster.remove(record, [agent_event(record, "dismissed")])

    async def revive(self, owner_uid: int, name: str) -> dict[str, Any]:
        """Let an agent that was given up go on with its conversation and its queue.

        Raises:
            Refused: not_found, conflict (it is not crashed), storage_full, draining.

        """
        async with self._roster.alone(owner_uid, name):
            record = await self._roster.get(owner_uid, name)
            if record.state != "crashed":
                raise Refused("conflict", f"agent {name!r} is not crashed")
            record = replace(record, state="live", crashes=CrashRecord(prompts=record.crashes.prompts))
            record = await self._roster.save(record, [agent_event(record, "revived")])
            with suppress(Refused):  # its conversation is gone: the next message gives it another one
                await self._env.sessions.resume(record.session, Viewer(uid=owner_uid))
        return await self._view(record)

    # -- looked at ------------------------------------------------------------------------------------------------

    async def get(self, owner_uid: int, name: str) -> dict[str, Any]:
        """Everything about one agent, also of a dismissed one. Raises Refused("not_found")."""
        record = await self._roster.find(owner_uid, name)
        if record is None:
            record = await self._roster.get(owner_uid, name)
        text = await self._system(owner_uid, record.settings)
        return {**await self._view(record), "settings": dict(record.fields), "system_prompt": text}

    async def list(self, owner_uid: int, *, dismissed: bool = False) -> Sequence[dict[str, Any]]:
        """All of one owner by name; those that were dismissed only if they are asked for."""
        found = await self._roster.of_owner(owner_uid)
        records = [record for record in found if dismissed or record.state != "dismissed"]
        spent = await self._spent(records)
        return [await self._view(record, spent) for record in records]

    async def history(self, owner_uid: int, name: str, *, last: int) -> Sequence[dict[str, Any]]:
        """The latest turns of the agent's conversation that have ended, oldest first. Raises Refused("not_found")."""
        record = await self._roster.find(owner_uid, name) or await self._roster.get(owner_uid, name)
        ended = ended_turns(await self._env.journal.list_turns(record.session))
        viewer = Viewer(uid=owner_uid)
        return [{**await self._env.sessions.get_turn(turn.id, viewer), "agent": name} for turn in ended[-last:]]

    async def cost(self, owner_uid: int) -> dict[str, Any]:
        """What each agent has spent, those that are gone too, and all of them together."""
        records = await self._roster.of_owner(owner_uid)
        spent = await self._spent(records)
        items = [{"name": record.name, "state": record.state, **cost_view(spent[record.name])} for record in records]
        return {"items": items, "total": cost_view(sum_of(spent.values()))}

    # -- helpers --------------------------------------------------------------------------------------------------

    async def _view(self, record: AgentRecord, spent: Mapping[str, Sums] | None = None) -> dict[str, Any]:
        spent = await self._spent([record]) if spent is None else spent
        try:
            session = await self._env.sessions.get(record.session, Viewer(uid=record.owner_uid))
        except Refused:  # deleted meanwhile
            session = None
        waiting = len(self._env.sessions.open_turns(record.session))
        return agent_view(record, session, waiting, cost_view(spent[record.name]))

    async def _conversation(self, owner_uid: int, name: str, settings: AgentSettings, setup: Setup) -> str:
        """Make a conversation for the agent; its id. Raises Refused."""
        folder = await self._folders.prepared(owner_uid, name, settings)
        wanted = session_settings(name, settings, await self._system(owner_uid, settings), folder)
        if setup.max_cost_usd is not None:
            wanted["parent"] = setup.purse
        made = await self._env.sessions.create(owner_uid, wanted, agent=lineage_of(owner_uid, name))
        return str(made["id"])

    async def _system(self, owner_uid: int, settings: AgentSettings) -> str:
        text = None if settings.skill is None else await self._skill_text(owner_uid, settings)
        return system_prompt(text, settings.context, settings.role)

    async def _skill_text(self, owner_uid: int, settings: AgentSettings) -> str:
        wanted = {"cwd": settings.cwd} if settings.cwd is not None else {}
        offered = (await self._env.sessions.offered(owner_uid, wanted)).skills
        skill = offered.get(normal_name(settings.skill or ""))
        if skill is None:
            raise Refused("invalid_skill_spec", f"skill: there is no skill {settings.skill!r}")
        return skill.body

    async def _check_cap(self, owner_uid: int, name: str, most_usd: float | None) -> None:
        """Raise Refused unless this owner may set the agent's cap."""
        if most_usd is None:
            return
        if self._env.ledger is None or self._env.spent is None:
            raise Refused("bad_request", "max_cost_usd: nothing is counted here, so that nothing would hold it")
        for cap in await self._env.spent.caps([cap_of(owner_uid, name)]):
            if cap.by_uid != owner_uid:
                raise Refused(
                    "forbidden",
                    f"max_cost_usd: the cap {cap.name} was set by uid {cap.by_uid}: only an admin changes it",
                )

    async def _set_cap(self, record: AgentRecord) -> bool:
        """Set the cap of the settings, or take away the one of those before; whether there is one of the settings."""
        most_usd, ledger = record.settings.max_cost_usd, self._env.ledger
        cap = cap_of(record.owner_uid, record.name)
        if ledger is None:
            return False
        if most_usd is not None:
            await ledger.set_cap(cap, Limits.from_json({"usd": most_usd}), record.owner_uid)
        elif record.capped:
            await ledger.set_cap(cap, None, record.owner_uid)
        return most_usd is not None

    async def _spent(self, records: Sequence[AgentRecord]) -> Mapping[str, Sums]:
        """By name."""
        keys = {record.name: cap_of(record.owner_uid, record.name) for record in records}
        sums = {} if self._env.spent is None else await self._env.spent.sums(list(keys.values()))
        return {name: sums.get(key, _NOTHING) for name, key in keys.items()}

    async def _end_all(self, record: AgentRecord) -> None:
        with suppress(Refused):  # it is gone
            viewer = Viewer(uid=record.owner_uid)
            await self._env.sessions.cancel(record.session, viewer, queued=True)
            self._env.sessions.rest_until(record.session, 0.0)

    async def _drop(self, session: str, owner_uid: int) -> None:
        with suppress(Refused):
            await self._env.sessions.delete(session, Viewer(uid=owner_uid))


def ended_turns(turns: Sequence[TurnRecord]) -> Sequence[TurnRecord]:
    """Those that have ended, in the order in which they did."""
    return sorted((turn for turn in turns if turn.result is not None), key=lambda turn: (turn.updated, turn.seq))


def agent_event(record: AgentRecord, name: str, **data: Any) -> NewEvent:
    """Something that happened to an agent."""
    return NewEvent(owner_uid=record.owner_uid, topic="agent", name=name, data={"agent": record.name, **data})
