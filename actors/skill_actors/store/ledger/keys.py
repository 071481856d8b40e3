"""Which sums an entry counts in."""

from __future__ import annotations

from skill_actors.store.ledger.base import Entry

__all__ = ["GLOBAL", "TURN_PREFIX", "keys_of"]

GLOBAL = "global"
TURN_PREFIX = "turn/"


def keys_of(entry: Entry) -> tuple[str, ...]:
    """Keys of sums: `turn/ID`, `session/ID` (the parents' too), `agent/NAME`, `user/UID`, `global`; the last two also
    followed by the UTC day (`user/UID/2026-01-31`) and month (`user/UID/2026-01`)."""
    month, user = entry.day[:7], f"user/{entry.owner_uid}"
    sessions = dict.fromkeys((entry.session, *entry.parents))
    agent = () if entry.agent is None else (f"agent/{entry.agent}",)
    windows = (f"{whose}{window}" for whose in (user, GLOBAL) for window in ("", f"/{entry.day}", f"/{month}"))
    return (f"{TURN_PREFIX}{entry.turn}", *(f"session/{session}" for session in sessions), *agent, *windows)
