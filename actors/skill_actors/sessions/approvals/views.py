"""Approvals as people and programs are shown them: JSON of a stored one, and what its events say. Pure."""

from __future__ import annotations

from typing import Any

from skill_actors.store.base import ApprovalRecord

__all__ = ["resolved_data", "view_of"]


def view_of(record: ApprovalRecord) -> dict[str, Any]:
    """The whole approval: what would run, how it stands, and how it was decided."""
    return {
        **{name: value for name, value in record.request.items() if name != "seq"},  # which tells the latest
        "id": record.id,
        "session": record.session,
        "turn": record.turn,
        "call": record.call,
        "owner_uid": record.owner_uid,
        "status": record.status,
        "created": record.created,
        "expires": record.expires,
        "updated": record.updated,
        "decision": None if record.decision is None else dict(record.decision),
    }


def resolved_data(record: ApprovalRecord) -> dict[str, Any]:
    """Data of an approval.resolved event."""
    decision = record.decision or {}
    return {
        "id": record.id,
        "call": record.call,
        "status": record.status,
        "by_uid": decision.get("by_uid"),
        "scope": decision.get("scope"),
        "reason": decision.get("reason", ""),
        "edited": decision.get("decision") == "edit",
    }
