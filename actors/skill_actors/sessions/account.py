"""Who pays for a turn."""

from __future__ import annotations

from skill_actors.sessions.ledger import Account, Limits
from skill_actors.store.base import SessionRecord

__all__ = ["account_of"]


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
