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

import trio

from skill_actors.errors import Refused
from skill_actors.sessions.account import NO_LINEAGE, Lineage
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
from skill_actors.workshop.guides import guide, role_rules

__all__ = ["LIVE", "Agents", "agent_event", "ended_turns"]

LIVE: Final = frozenset({"effort", "git_context", "labels", "max_cost_usd", "policy", "profile", "queue"})
"""Settings that can change while an agent keeps its conversation."""

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
        self,
        owner_uid: int,
        name: str,
        settings: Mapping[str, Any],
        *,
        replace_it: bool = True,
        maker: str | None = None,
        exact: bool = False,
    ) -> dict[str, Any]:
        """Make an agent, or with `replace_it` put another one in the place of the one of this name; its JSON form.

        Its settings are laid over those of its profile, and these over the owner's defaults.

        Args:
            maker: conversation of the agent that makes it: the new one works for that one for good, under its policy
                where it is given none. It takes the place only of one that the same has made.
            exact: these are all its settings: nothing is laid under them.

        Raises:
            Refused: bad_request, not_found (no such profile), conflict (there is one), forbidden (its cap was set by
                somebody else; its place is another's), backend_unavailable and what else a session refuses,
                storage_full, draining.

        """
        given = checked_fields(settings)
        async with self._roster.alone(owner_uid, name):
            before = await self._roster.find(owner_uid, name)
            if before is not None and before.state != "dismissed" and not replace_it:
                raise Refused("conflict", f"there is an agent {name!r} already; replace it, or take another name")
            setup = await self._setups.funded(owner_uid)
            profile = given.get("profile")
            under = {} if profile is None or exact else await self._profiles.settings_of(owner_uid, profile)
            made = NO_LINEAGE if maker is None else await self._made_by(owner_uid, maker, before)
            lineage = made if before is None else before.lineage.joined(made)
            bound = {} if maker is None else await self._bound_by(owner_uid, maker)
            base = {"context": setup.context} if setup.context else {}
            fields = given if exact else laid_over(bound, base, setup.defaults, under, given)
            await self._check_cap(owner_uid, name, fields.get("max_cost_usd"))
            self._env.check_tools(fields.get("workshop_tools", False))
            session = await self._conversation(owner_uid, name, AgentSettings.of(fields), setup, lineage)
            if before is None:
                record = AgentRecord(owner_uid=owner_uid, name=name, fields=fields, session=session, lineage=lineage)
            else:
                record = replace(before.begun_anew(session), fields=fields, lineage=lineage, folder=None)
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

    async def adjust(self, owner_uid: int, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Give an agent other settings, these are all, while it keeps its conversation; the next turn goes by them.

        Raises:
            Refused: not_found; conflict, where another setting than those of LIVE differs; and as `define`.

        """
        fields = checked_fields(settings)
        async with self._roster.alone(owner_uid, name):
            record = await self._roster.get(owner_uid, name)
            changed = {key for key in {*record.fields, *fields} if record.fields.get(key) != fields.get(key)}
            if fixed := sorted(changed - LIVE):
                raise Refused("conflict", f"agent {name!r} begins anew with another {fixed[0]}: define it again")
            await self._check_cap(owner_uid, name, fields.get("max_cost_usd"))
            wanted = session_settings(name, AgentSettings.of(fields), "", None)
            of_session: dict[str, Any] = {key: wanted.get(key) for key in ("labels", "policy") if key in changed}
            if of_session:
                await self._env.sessions.update(record.session, Viewer(uid=owner_uid), of_session)
            record = replace(record, fields=fields)
            record = replace(record, capped=await self._set_cap(record))
            record = await self._roster.save(record, [agent_event(record, "changed")])
        return await self._view(record)

    async def check(self, owner_uid: int, name: str, settings: Mapping[str, Any]) -> None:
        """Make nothing, and raise as `define` where an agent with exactly these settings would be refused."""
        checked = AgentSettings.of(checked_fields(settings))
        await self._check_cap(owner_uid, name, checked.max_cost_usd)
        self._env.check_tools(checked.workshop_tools)
        if checked.worktree and checked.cwd is None:
            raise Refused("bad_request", "worktree: name the project by cwd")
        system = await self._system(owner_uid, checked)
        await self._env.sessions.check(owner_uid, session_settings(name, checked, system, checked.cwd))

    async def reset(self, owner_uid: int, name: str, *, folder: str | None = None) -> dict[str, Any]:
        """Give the agent a conversation anew: every option of it is kept, what it spent too, and its queue is not.

        Args:
            folder: where it works in this conversation; None for its own.

        Raises:
            Refused: not_found, what a session refuses by now, storage_full, draining.

        """
        async with self._roster.alone(owner_uid, name):
            record = await self._roster.get(owner_uid, name)
            record = await self.renewed(replace(record, folder=folder), "reset")
        return await self._view(record)

    async def renewed(self, before: AgentRecord, event: str) -> AgentRecord:
        """The agent with another conversation; for whoever has it alone."""
        setup = await self._setups.funded(before.owner_uid)
        session = await self._conversation(
            before.owner_uid, before.name, before.settings, setup, before.lineage, before.folder
        )
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

    def owners(self) -> Sequence[int]:
        """Everybody who has agents, or had some."""
        return self._roster.owners()

    async def records(self, owner_uid: int) -> Sequence[AgentRecord]:
        """All of one owner as they are stored, by name; those that were dismissed too."""
        return await self._roster.of_owner(owner_uid)

    async def history(self, owner_uid: int, name: str, *, last: int) -> Sequence[dict[str, Any]]:
        """The latest turns of the agent's conversation that have ended, oldest first. Raises Refused("not_found")."""
        record = await self._roster.find(owner_uid, name) or await self._roster.get(owner_uid, name)
        ended = ended_turns(await self._env.journal.list_turns(record.session))
        viewer = Viewer(uid=owner_uid)
        return [{**await self._env.sessions.get_turn(turn.id, viewer), "agent": name} for turn in ended[-last:]]

    async def cost(self, owner_uid: int) -> dict[str, Any]:
        """What each agent has spent with those that it has made, the ones that are gone too, and all of them."""
        records = await self._roster.of_owner(owner_uid)
        spent = await self._spent(records)
        items = [{"name": record.name, "state": record.state, **cost_view(spent[record.name])} for record in records]
        # What an agent has made is in what it has spent itself.
        names = {lineage_of(owner_uid, record.name) for record in records}
        roots = [spent[record.name] for record in records if names.isdisjoint(record.lineage.above)]
        return {"items": items, "total": cost_view(sum_of(roots))}

    # -- helpers --------------------------------------------------------------------------------------------------

    async def _view(self, record: AgentRecord, spent: Mapping[str, Sums] | None = None) -> dict[str, Any]:
        spent = await self._spent([record]) if spent is None else spent
        try:
            session = await self._env.sessions.get(record.session, Viewer(uid=record.owner_uid))
        except Refused:  # deleted meanwhile
            session = None
        waiting = len(self._env.sessions.open_turns(record.session))
        return agent_view(record, session, waiting, cost_view(spent[record.name]))

    async def _made_by(self, owner_uid: int, maker: str, before: AgentRecord | None) -> Lineage:
        """For whom an agent works that is made by that of this conversation. Raises Refused."""
        lineage = await self._env.sessions.lineage_below(maker, owner_uid)
        if before is not None and not lineage.is_of_the_same(before.lineage):
            raise Refused(
                "forbidden", f"there is an agent {before.name!r} that your agent has not made: take another name"
            )
        return lineage

    async def _bound_by(self, owner_uid: int, maker: str) -> Mapping[str, Any]:
        """What holds for the agent that makes another, where nothing else is said for that."""
        policy = (await self._env.sessions.get(maker, Viewer(uid=owner_uid)))["policy"]
        return {} if policy is None else {"policy": policy}

    async def _conversation(
        self,
        owner_uid: int,
        name: str,
        settings: AgentSettings,
        setup: Setup,
        lineage: Lineage,
        folder: str | None = None,
    ) -> str:
        """Make a conversation for the agent; its id. Raises Refused."""
        folder = folder or await self._folders.prepared(owner_uid, name, settings)
        wanted = session_settings(name, settings, await self._system(owner_uid, settings), folder)
        if setup.max_cost_usd is not None:
            wanted["parent"] = setup.purse
        made = await self._env.sessions.create(
            owner_uid,
            wanted,
            agent=lineage_of(owner_uid, name),
            lineage=lineage,
            workshop_tools=settings.workshop_tools,
        )
        return str(made["id"])

    async def _system(self, owner_uid: int, settings: AgentSettings) -> str:
        text = None if settings.skill is None else await self._skill_text(owner_uid, settings)
        rules = await trio.to_thread.run_sync(role_rules) if settings.workshop_tools else None
        return system_prompt(text, rules, settings.context, settings.role)

    async def _skill_text(self, owner_uid: int, settings: AgentSettings) -> str:
        wanted = {"cwd": settings.cwd} if settings.cwd is not None else {}
        offered = (await self._env.sessions.offered(owner_uid, wanted)).skills
        name = normal_name(settings.skill or "")
        skill = offered.get(name) or await trio.to_thread.run_sync(guide, name)
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
