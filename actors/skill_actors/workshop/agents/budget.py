"""What an owner's agents may cost and have cost: each by itself, and all together.

What was spent is in the ledger, and nothing takes it out: caps hold over all of it. Only what is shown can begin anew:
a marker says what had been spent by then, and since then is what came behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from skill_actors.store.documents import Change, NewEvent
from skill_actors.store.ledger import Sums
from skill_actors.workshop.agents.agents import Agents
from skill_actors.workshop.agents.composing import cap_of, lineage_of
from skill_actors.workshop.agents.record import AgentRecord
from skill_actors.workshop.agents.roster import stored
from skill_actors.workshop.agents.setup import Setups
from skill_actors.workshop.agents.surroundings import AgentSurroundings
from skill_actors.workshop.names import document_id

__all__ = ["AgentBudgets"]

_KIND: Final = "setup"
_NAME: Final = "budget"
_NANO: Final = 10**9
_NOTHING: Final = Sums()


class AgentBudgets:
    """The budgets of all owners' agents. Belongs to the trio thread. Results are JSON-ready."""

    def __init__(self, env: AgentSurroundings, agents: Agents, setups: Setups) -> None:
        self._env = env
        self._agents = agents
        self._setups = setups

    async def show(self, owner_uid: int) -> dict[str, Any]:
        """What may be spent, was spent, and is left: {"since", "total", "agents"}.

        Each has `limit_usd`, `known_usd`, `cost_usd` (null where some of it has no price), `held_usd`, `left_usd` and
        `since_usd`, what was spent since `since`, the last reset. The limit of the total binds agents that were made
        while there was one, and `left_usd` is of that.
        """
        records = await self._agents.records(owner_uid)
        setup = await self._setups.get(owner_uid)
        caps = {record.name: cap_of(owner_uid, record.name) for record in records}
        purse = f"session/{setup.purse}" if setup.purse else ""
        sums = await self._sums([*caps.values(), *([purse] if purse else [])])
        limits = await self._limits(list(caps.values()))
        marker = await self._marker(owner_uid)
        agents = [
            {
                "name": each.name,
                "state": each.state,
                **_line(sums.get(caps[each.name], _NOTHING), limits.get(caps[each.name]), marker.get(each.name, 0)),
            }
            for each in records
        ]
        roots = _roots(owner_uid, records)
        whole = Sums()
        for name in roots:
            found = sums.get(caps[name], _NOTHING)
            whole = Sums(
                used=whole.used + found.used, held=whole.held + found.held, unpriced=whole.unpriced + found.unpriced
            )
        before = sum(marker.get(name, 0) for name in roots)
        total = _line(whole, None, before)
        total["limit_usd"] = setup.max_cost_usd
        total["left_usd"] = _left(sums.get(purse, _NOTHING), setup.max_cost_usd)
        return {"since": marker.get(""), "total": total, "agents": agents}

    async def set_limit(self, owner_uid: int, agent: str | None, usd: float | None) -> dict[str, Any]:
        """Cap one agent, or with None all together, or take the cap away; what `show` says then.

        The cap over all binds agents that are made while there is one; the amount can be changed at any time.

        Raises:
            Refused: bad_request, not_found, forbidden (the agent's cap was set by somebody else), storage_full.

        """
        if agent is None:
            await self._setups.configure(owner_uid, {"max_cost_usd": usd})
        else:
            fields = dict((await self._agents.get(owner_uid, agent))["settings"])
            fields.pop("max_cost_usd", None)
            await self._agents.adjust(owner_uid, agent, fields if usd is None else {**fields, "max_cost_usd": usd})
        return await self.show(owner_uid)

    async def reset(self, owner_uid: int, now: str) -> dict[str, Any]:
        """Let what is shown as spent begin anew; no cap is changed by that, nor what it counts. What `show` says then.

        Args:
            now: the time, as it is shown.

        Raises:
            Refused: conflict (somebody else does the same), storage_full, draining.

        """
        records = await self._agents.records(owner_uid)
        sums = await self._sums([cap_of(owner_uid, record.name) for record in records])
        spent = {each.name: sums.get(cap_of(owner_uid, each.name), _NOTHING).used.nanousd for each in records}
        id = document_id(owner_uid, _NAME)
        document = await self._env.documents.get(_KIND, id)
        expected = 0 if document is None else document.version
        data = {"since": now, "spent": {name: amount for name, amount in spent.items() if amount}}
        change = Change(kind=_KIND, id=id, owner_uid=owner_uid, data=data, expected=expected)
        event = NewEvent(owner_uid=owner_uid, topic="agent", name="budget_reset", data={"since": now})
        await stored(self._env.documents, [change], [event])
        return await self.show(owner_uid)

    async def _marker(self, owner_uid: int) -> dict[str, Any]:
        """Nanodollars by agent at the last reset, and under "" its time."""
        document = await self._env.documents.get(_KIND, document_id(owner_uid, _NAME))
        return {} if document is None else {**document.data["spent"], "": document.data["since"]}

    async def _sums(self, keys: list[str]) -> Mapping[str, Sums]:
        return {} if self._env.spent is None else await self._env.spent.sums(keys)

    async def _limits(self, names: list[str]) -> dict[str, float]:
        """In dollars, of those that have one; an admin may have set others than the settings say."""
        if self._env.spent is None:
            return {}
        caps = await self._env.spent.caps(names)
        return {cap.name: float(cap.limits["usd"]) for cap in caps if cap.limits.get("usd") is not None}


def _roots(owner_uid: int, records: Sequence[AgentRecord]) -> list[str]:
    """Those whose spending is in no other's: what an agent has made is in what it has spent itself."""
    names = {lineage_of(owner_uid, record.name) for record in records}
    return [record.name for record in records if names.isdisjoint(record.lineage.above)]


def _line(sums: Sums, limit_usd: float | None, before: int) -> dict[str, Any]:
    known_usd = sums.used.nanousd / _NANO
    return {
        "limit_usd": limit_usd,
        "known_usd": known_usd,
        "cost_usd": None if sums.unpriced else known_usd,
        "held_usd": sums.held.nanousd / _NANO,
        "left_usd": _left(sums, limit_usd),
        "since_usd": (sums.used.nanousd - before) / _NANO,
    }


def _left(sums: Sums, limit_usd: float | None) -> float | None:
    if limit_usd is None:
        return None
    return max(limit_usd - (sums.used.nanousd + sums.held.nanousd) / _NANO, 0.0)
