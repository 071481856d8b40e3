"""Whether a conversation stands still until somebody lets it go on: kept among its settings, over every restart."""

from __future__ import annotations

from typing import Final

from skill_actors.store.base import SessionRecord

__all__ = ["PAUSED", "is_paused"]

PAUSED: Final = "paused"  # among the settings, but none that anybody may choose


def is_paused(record: SessionRecord) -> bool:
    """Whether it was paused, and has not been resumed since."""
    return record.settings.get(PAUSED) is True
