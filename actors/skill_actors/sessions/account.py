"""Who pays for a turn, and what it is bound by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from skill_actors.errors import Refused
from skill_actors.sessions.ledger import Account, Ledger, Limits
from skill_actors.store.base import SessionRecord

__all__ = ["LINEAGE", "MAX_DEPTH", "account_of", "check_budget", "keep_budget"]

MAX_DEPTH: Final = 8
"""So many sessions may one work for: each is charged with it."""

LINEAGE: Final = frozenset({"parents", "agent"})
"""Settings that nobody chooses, since they say whose caps bind: an import has none, a fork those of its source."""


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
