"""Which sums an entry counts in."""

from __future__ import annotations

from skill_actors.store.ledger.base import Entry

__all__ = ["AGENT_PREFIX", "GLOBAL", "TURN_PREFIX", "keys_of"]

GLOBAL = "global"
TURN_PREFIX = "turn/"
AGENT_PREFIX = "agent/"


def keys_of(entry: Entry) -> tuple[str, ...]:
    """Keys of sums: `turn/ID`, `session/ID` and `agent/NAME` (the parents' too), `user/UID`, `global`; the last two
    also followed by the UTC day (`user/UID/2026-01-31`) and month (`user/UID/2026-01`)."""
    month, user = entry.day[:7], f"user/{entry.owner_uid}"
    own = () if entry.agent is None else (f"{AGENT_PREFIX}{entry.agent}",)
    parents = (name if name.startswith(AGENT_PREFIX) else f"session/{name}" for name in entry.parents)
    above = dict.fromkeys((f"session/{entry.session}", *parents, *own))
    windows = (f"{whose}{window}" for whose in (user, GLOBAL) for window in ("", f"/{entry.day}", f"/{month}"))
    return (f"{TURN_PREFIX}{entry.turn}", *above, *windows)
