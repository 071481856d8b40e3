"""When a conversation is made shorter, and by whom. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from skill_actors.models.facts import ModelFacts

__all__ = [
    "CompactionMode",
    "CompactionSettings",
    "compact_at_tokens",
    "compacts_there",
    "compacts_when_full",
    "needs_compaction",
]

# auto: by the API where it offers that, else by us. server: by the API or not at all. own: by us. off: by nobody,
# unless somebody asks for it.
CompactionMode = Literal["auto", "server", "own", "off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionSettings:
    """What the operator has chosen.

    Args:
        compact_at: share of the model's window from which on a conversation is made shorter; 0 for never.
        mode: by whom.

    """

    compact_at: float = 0.8
    mode: CompactionMode = "auto"


def compact_at_tokens(facts: ModelFacts, settings: CompactionSettings) -> int | None:
    """From how many tokens on a conversation with this model is made shorter; None for never."""
    if settings.mode == "off" or settings.compact_at <= 0:
        return None
    return max(1, int(facts.context_tokens * settings.compact_at))


def compacts_there(facts: ModelFacts, settings: CompactionSettings) -> bool:
    """Whether the API is asked to do it."""
    return settings.mode in ("auto", "server") and facts.compaction and compact_at_tokens(facts, settings) is not None


def compacts_when_full(settings: CompactionSettings) -> bool:
    """Whether we are to do it where the model has no room left, whatever the share is."""
    return settings.mode in ("auto", "own")


def needs_compaction(used_tokens: int, facts: ModelFacts, settings: CompactionSettings) -> bool:
    """Whether we are to do it before the model is called again.

    Args:
        used_tokens: how much of the window the last call has left taken.

    """
    at_tokens = compact_at_tokens(facts, settings)
    if at_tokens is None or settings.mode == "server" or compacts_there(facts, settings):
        return False
    return used_tokens >= at_tokens
