"""Which items a client wants to see, and pages of them in the order in which they are taken. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from skill_actors.errors import Refused
from skill_actors.workshop.board.item import ENDED, STATUSES, Item

__all__ = ["ItemChoice", "is_overdue", "page_of"]

_CURSOR: Final = re.compile(r"([1-5])_([0-9TZ:.-]{1,40})_([a-z0-9._-]{1,64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemChoice:
    """What an item has to be; what is empty or None is not asked.

    Args:
        claimed_by: who has it.
        agent: who alone takes it.
        labels: that it has, with these values.
        depends_on: what it waits for directly.
        overdue: whether its time is over and it has not ended.

    """

    statuses: Collection[str] = ()
    types: Collection[str] = ()
    claimed_by: str | None = None
    agent: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    depends_on: str | None = None
    overdue: bool | None = None

    def __post_init__(self) -> None:
        for status in self.statuses:
            if status not in STATUSES:
                raise Refused("bad_request", f"status={status[:40]!a}: expected some of {', '.join(STATUSES)}")

    def wants(self, item: Item, now: datetime) -> bool:
        """Whether it is one of them. `now`: in UTC."""
        holder = None if item.lease is None else item.lease.holder
        return (
            (not self.statuses or item.status in self.statuses)
            and (not self.types or item.type in self.types)
            and self.claimed_by in (None, holder)
            and self.agent in (None, item.agent)
            and all(item.labels.get(name) == value for name, value in self.labels.items())
            and (self.depends_on is None or self.depends_on in item.depends_on)
            and self.overdue in (None, is_overdue(item, now))
        )


def is_overdue(item: Item, now: datetime) -> bool:
    """Whether it should be done by now and is not."""
    if item.due is None or item.status in ENDED:
        return False
    due = datetime.fromisoformat(item.due)
    return (due if due.tzinfo is not None else due.replace(tzinfo=UTC)) < now


def page_of(items: Sequence[Item], cursor: str | None, limit: int) -> tuple[Sequence[Item], str | None]:
    """At most so many of sorted items behind a cursor, and the cursor of the next page, if there is one.

    Raises Refused("bad_request") for what is no cursor.
    """
    if cursor is not None:
        found = _CURSOR.fullmatch(cursor)
        if found is None:
            raise Refused("bad_request", f"cursor={cursor[:60]!a}: not one that a page had as `next`")
        after = int(found[1]), found[2], found[3]
        items = [item for item in items if item.rank > after]
    page = items[:limit]
    if len(items) <= limit:
        return page, None
    priority, created, id = page[-1].rank
    return page, f"{priority}_{created}_{id}"
