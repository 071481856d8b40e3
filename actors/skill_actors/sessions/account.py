"""Who pays for a turn, and what it is bound by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from skill_actors.errors import Refused
from skill_actors.sessions.ledger import Account, Ledger, Limits
from skill_actors.store.base import SessionRecord

__all__ = ["LINEAGE", "account_of", "check_budget"]

LINEAGE: Final = frozenset({"parents", "agent"})
"""Settings that nobody chooses, since they say whose caps bind: an import has none, a fork those of its source."""


def account_of(record: SessionRecord, turn: str) -> Account:
    """The account of one turn of a session; what its parents may spend binds it as well."""
    settings = record.settings
    return Account(
        session=record.id,
        turn=turn,
        owner_uid=record.owner_uid,
        parents=tuple(settings.get("parents", ())),
        agent=settings.get("agent"),
        budget=Limits.from_json(settings.get("budget") or {}),
    )


def check_budget(ledger: Ledger | None, settings: Mapping[str, Any]) -> None:
    """Refuse a budget where nothing would hold it: Refused("bad_request")."""
    if ledger is None and settings.get("budget"):
        raise Refused("bad_request", "budget: nothing is counted here, so that nothing would hold it")
