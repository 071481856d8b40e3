"""What is done to a batch before it is stored: it is looked into, masked, its names cut, and priced. Runs in a thread.

A batch over which the inspection fails is looked into event by event, and only what it fails over is put into
quarantine: without its content, since nobody can say what is in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from skill_actors.models.prices import PriceTable
from skilld.monitor.batch import Batch, MonitorEvent
from skilld.monitor.inspected import Found, Inspected, Inspection, Origin
from skilld.monitor.naming import with_cut_names
from skilld.monitor.prices import priced

__all__ = ["Prepared", "Spoiled", "prepare"]


class Spoiled(NamedTuple):
    """An event that cannot be kept, and why."""

    event: MonitorEvent
    why: str


class Prepared(NamedTuple):
    """What of a batch may be stored, and what cannot be."""

    inspected: Inspected
    spoiled: tuple[Spoiled, ...] = ()


def prepare(inspection: Inspection, prices: Callable[[], PriceTable] | None, batch: Batch, origin: Origin) -> Prepared:
    """Look into a batch, mask it, and price it. Raises nothing for what is in it."""

    def look(part: Batch) -> Inspected:
        found = inspection.inspect(part, origin)
        cut = with_cut_names(found.batch)
        return Inspected(cut if prices is None else priced(cut, prices), found.findings)

    try:
        return Prepared(look(batch))
    except Exception as error:
        return _one_by_one(look, batch, error)


def _one_by_one(look: Callable[[Batch], Inspected], batch: Batch, error: Exception) -> Prepared:
    if len(batch.events) == 1:
        return Prepared(Inspected(_without_names(batch)), (_spoiled(batch.events[0], error),))
    head = _without_names(batch)
    events, findings, spoiled = list[MonitorEvent](), list[Found](), list[Spoiled]()
    for event in batch.events:
        try:
            one = look(replace(batch, events=(event,)))
        except Exception as failed:
            spoiled.append(_spoiled(event, failed))
            continue
        head = one.batch
        findings += [Found(len(events) + found.index, found.finding, found.sample) for found in one.findings]
        events += one.batch.events
    return Prepared(Inspected(replace(head, events=tuple(events)), tuple(findings)), tuple(spoiled))


def _without_names(batch: Batch) -> Batch:
    """The batch without events, and without what was not looked at either."""
    return replace(batch, agent="unnamed", program="", environment="", events=())


def _spoiled(event: MonitorEvent, error: Exception) -> Spoiled:
    return Spoiled(event._replace(channel=""), _words(error))


def _words(error: Exception) -> str:
    """Of the error only what cannot have come out of the event."""
    return f"it could not be looked into: {type(error).__name__}"
