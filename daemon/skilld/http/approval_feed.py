"""What waits for an approval, as it changes: over all sessions, or those of one user.

A reader is first told everything that is pending, and then the state of each approval that the bus names, as it is when
the reader takes it. So nobody has to be told what was missed: whoever comes again begins with what waits by then. Of
what a slow reader has not taken there are ids only, each once.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import trio

from skill_actors.errors import Refused
from skill_actors.ids import new_id
from skill_actors.sessions.events import Event
from skill_actors.telemetry import Bus, Measurements, Metadata
from skilld.http.services import Approvals

__all__ = ["follow_approvals"]

_PAGE: Final = 500
_CHANGES: Final = ("approval.requested", "approval.resolved")


@asynccontextmanager
async def follow_approvals(
    approvals: Approvals, bus: Bus, viewer_uid: int | None, *, session: str | None, live: bool
) -> AsyncIterator[AsyncIterator[Event]]:
    """Events whose data are approvals: `approval.requested` while it waits, else `approval.resolved`.

    Args:
        viewer_uid: whose; None for everybody's.
        session: of this one only.
        live: whether to go on behind those that wait now.

    """
    news = _News()
    watcher = new_id("apr")
    bus.attach(watcher, _CHANGES, news.hear)
    try:
        async with aclosing(_events(approvals, news if live else None, viewer_uid, session)) as events:
            yield events
    finally:
        bus.detach(watcher)


class _News:
    """Ids of approvals that have changed, in that order and each once."""

    def __init__(self) -> None:
        self._ids: dict[str, None] = {}
        self._something = trio.Event()

    def hear(self, name: str, facts: Measurements, meta: Metadata) -> None:
        """Called by the bus."""
        self._ids.setdefault(str(meta["id"]))
        self._something.set()

    async def take(self) -> str:
        """The one that has waited for longest; waits for one."""
        while not self._ids:
            self._something = trio.Event()
            await self._something.wait()
        id = next(iter(self._ids))
        del self._ids[id]
        return id


async def _events(
    approvals: Approvals, news: _News | None, viewer_uid: int | None, session: str | None
) -> AsyncGenerator[Event, None]:
    numbers = itertools.count(1)
    for view in await _pending(approvals, viewer_uid, session):
        yield _event(next(numbers), view)
    while news is not None:
        changed = await _look(approvals, await news.take(), viewer_uid)
        if changed is not None and session in (None, changed["session"]):
            yield _event(next(numbers), changed)


async def _pending(approvals: Approvals, viewer_uid: int | None, session: str | None) -> list[dict[str, Any]]:
    """All that wait, the oldest first."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = await approvals.list(viewer_uid, status="pending", session=session, limit=_PAGE, cursor=cursor)
        found += page["items"]
        cursor = page["next"]
        if cursor is None:
            return found[::-1]


async def _look(approvals: Approvals, id: str, viewer_uid: int | None) -> dict[str, Any] | None:
    """The approval as it is; None if it is not for this viewer, or went with its session."""
    try:
        return await approvals.get(id, viewer_uid)
    except Refused as refused:
        if refused.code != "not_found":
            raise
        return None


def _event(number: int, view: dict[str, Any]) -> Event:
    """As the events of sessions are on the wire, numbered within the stream."""
    waits = view["status"] == "pending"
    time = view["created"] if waits else view.get("updated") or view["created"]
    type = "approval.requested" if waits else "approval.resolved"
    return Event(seq=number, type=type, time=time, session=view["session"], turn=view["turn"], data=view)
