"""Who pays for a turn, and what it is bound by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from skill_actors.errors import Refused
from skill_actors.sessions.ledger import Account, Ledger, Limits
from skill_actors.store.base import SessionRecord

__all__ = ["LINEAGE", "MAX_DEPTH", "NO_LINEAGE", "Lineage", "account_of", "check_budget", "keep_budget"]

MAX_DEPTH: Final = 8
"""So many sessions may one work for: each is charged with it."""

LINEAGE: Final = frozenset({"parents", "agent", "above", "workshop_tools"})
"""Settings that nobody chooses, since they say whose caps bind: an import has none, a fork those of its source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """For whom a session works, nearest first: whoever it is is charged with it, and their caps bind it.

    Args:
        parents: sessions.
        above: agents, by their names in the ledger.

    """

    parents: tuple[str, ...] = ()
    above: tuple[str, ...] = ()

    @classmethod
    def below(cls, record: SessionRecord) -> Self:
        """Of a session that works for this one."""
        settings = record.settings
        agents = (*(() if settings.get("agent") is None else (settings["agent"],)), *settings.get("above", ()))
        return cls(parents=(record.id, *settings.get("parents", ())), above=tuple(dict.fromkeys(agents)))

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """From what `settings` gave."""
        return cls(parents=tuple(settings.get("parents", ())), above=tuple(settings.get("above", ())))

    def joined(self, other: Lineage) -> Lineage:
        """For all of both."""
        return Lineage(
            parents=tuple(dict.fromkeys((*self.parents, *other.parents))),
            above=tuple(dict.fromkeys((*self.above, *other.above))),
        )

    def is_of_the_same(self, other: Lineage) -> bool:
        """Whether both work for the same agent, or for the same session, before all others."""
        mine, theirs = (self.above, other.above) if self.above else (self.parents, other.parents)
        return bool(mine) and mine[:1] == theirs[:1]

    def settings(self) -> dict[str, list[str]]:
        """As settings of a session, those that say something."""
        found = {"parents": list(self.parents), "above": list(self.above)}
        return {name: value for name, value in found.items() if value}


NO_LINEAGE: Final = Lineage()


def account_of(record: SessionRecord, turn: str, turn_budget: Mapping[str, Any] | None = None) -> Account:
    """The account of one turn of a session; what its parents may spend binds it as well.

    Args:
        turn_budget: what its message gives it, as a session's `budget` is written.

    """
    settings = record.settings
    return Account(
        session=record.id,
        turn=turn,
        owner_uid=record.owner_uid,
        parents=tuple(settings.get("parents", ())),
        agent=settings.get("agent"),
        above=tuple(settings.get("above", ())),
        budget=Limits.from_json(settings.get("budget") or {}),
        turn_budget=Limits.from_json(turn_budget or {}),
    )


def check_budget(ledger: Ledger | None, settings: Mapping[str, Any]) -> None:
    """Refuse a budget where nothing would hold it: Refused("bad_request")."""
    if ledger is None and settings.get("budget"):
        raise Refused("bad_request", "budget: nothing is counted here, so that nothing would hold it")


async def keep_budget(ledger: Ledger, record: SessionRecord) -> None:
    """Have a session's own budget bind those that work for it, also before it has used anything itself."""
    await ledger.keep_budget(record.id, record.owner_uid, Limits.from_json(record.settings.get("budget") or {}))
