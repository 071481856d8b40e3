"""Caps that come near: told to whoever reads the conversation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from skill_actors.sessions.ledger import CapUse
from skill_actors.sessions.log import Draft, SessionLog

__all__ = ["tell_warnings"]


async def tell_warnings(log: SessionLog, turn: str, warnings: Sequence[CapUse]) -> None:
    """Write an event for each threshold that was passed. Raises what `SessionLog.append` raises."""
    if warnings:
        await log.append([Draft("budget.warning", turn, asdict(use)) for use in warnings])
