"""How long names may be in what is stored: cut when they have been looked into and masked, and not before. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from skilld.monitor.batch import Batch, MonitorEvent

__all__ = ["cut_agent", "with_cut_head", "with_cut_names"]

_OF_HEADS: Final = (("agent", 200), ("program", 200), ("environment", 64))
_OF_EVENTS: Final = (("name", 200), ("channel", 64), ("session", 200), ("user", 200), ("agent", 200))
_LISTS: Final = ("tags", "masked")
_MAX_LISTED_CHARS: Final = 64


def with_cut_names(batch: Batch) -> Batch:
    """The batch with all of its names as long as they may be at most; the same one where they are."""
    events = tuple(map(_cut, batch.events))
    if any(cut is not event for cut, event in zip(events, batch.events, strict=True)):
        batch = replace(batch, events=events)
    return with_cut_head(batch)


def with_cut_head(batch: Batch) -> Batch:
    """As `with_cut_names`, of what it says of its run alone."""
    changed = _too_long(batch, _OF_HEADS)
    return replace(batch, **changed) if changed else batch


def cut_agent(agent: str) -> str:
    """An agent's name as long as it may be at most."""
    return agent[: dict(_OF_HEADS)["agent"]]


def _cut(event: MonitorEvent) -> MonitorEvent:
    changed = _too_long(event, _OF_EVENTS)
    for field in _LISTS:
        names: tuple[str, ...] = getattr(event, field)
        if names and max(map(len, names)) > _MAX_LISTED_CHARS:
            changed[field] = tuple(name[:_MAX_LISTED_CHARS] for name in names)
    return event._replace(**changed) if changed else event


def _too_long(named: object, limits: tuple[tuple[str, int], ...]) -> dict[str, Any]:
    """The fields that are, cut."""
    return {
        field: name[:most] for field, most in limits if (name := getattr(named, field)) is not None and len(name) > most
    }
