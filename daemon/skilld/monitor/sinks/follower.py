"""The actor behind each place that events go to: it reads the store by a cursor and hands on what comes.

The cursor moves when events are delivered, and is kept in the store, so that one that is made again goes on where it
was. What the store had to remove before is counted as lost; what is of another channel than the place is for, is passed
over.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import apsw
import trio

from skill_actors.runtime import TrioActor
from skilld.monitor.questions import Wanted, lost_before
from skilld.monitor.sinks.status import SinkStatus

if TYPE_CHECKING:
    from skilld.monitor.monitor import Monitor
    from skilld.parts import Parts

__all__ = ["Sink", "SinkFollower"]

_log = logging.getLogger(__name__)

_WAIT_S: Final = 5.0  # then it looks whether the store is still the same
_AGAIN_S: Final = 1.0
_COUNTED: Final = ("sent", "failed", "retries")
_TELL_EVERY_S: Final = 5.0  # also while a receiver is away, which one delivery may wait for for hours

Events = Sequence[dict[str, Any]]


class Sink(Protocol):
    """Where events go. What it counts goes into its `SinkStatus`."""

    page: int
    """How many events it takes at once."""

    async def start(self, monitor: Monitor, cursor: int) -> int:
        """Make ready; up to which event it is through, which may be further than the cursor says."""
        ...

    async def deliver(self, events: Events) -> None:
        """Return when each of them is delivered, or never will be. Tries for ever; raises only what is a bug."""
        ...

    async def idle(self) -> None:
        """Called between deliveries, at least every few seconds."""
        ...

    async def close(self) -> None:
        """Let go of files and connections."""
        ...


class SinkFollower(TrioActor):
    """Follows the store for one sink.

    Args:
        make: the sink, over its status.
        channels: whose events it gets, by the names that the store has; with none, those of all.

    """

    def __init__(
        self, parts: Parts, status: SinkStatus, make: Callable[[], Sink], channels: Collection[str] = ()
    ) -> None:
        super().__init__()
        self._parts = parts
        self._status = status
        self._make = make
        self._channels = frozenset(channels)
        self._told = dict.fromkeys(_COUNTED, 0)

    async def setup(self) -> None:
        self.spawn(self._run)

    async def _run(self) -> None:
        sink = self._make()
        self._told = self._counts()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._tell_on)
                await self._follow_on(sink)
        finally:
            self._tell_counts()
            with trio.CancelScope(shield=True):
                await sink.close()

    async def _follow_on(self, sink: Sink) -> None:
        while True:
            monitor = await self._parts.monitor.wait()
            try:
                await self._follow(monitor, sink)
            except (apsw.ConnectionClosedError, apsw.BusyError, apsw.FullError, apsw.IOError) as error:
                self._status.state, self._status.problem = "waiting", f"the store: {error}"
                await trio.sleep(_AGAIN_S)  # it was made again, or its disk is full

    async def _follow(self, monitor: Monitor, sink: Sink) -> None:
        name, status = f"sink:{self._status.name}", self._status
        known = await monitor.cursor(name)
        cursor = await sink.start(monitor, known or 0)
        status.cursor, status.state, status.problem = cursor, "following", ""
        while self._parts.monitor.peek() is monitor:
            await sink.idle()
            self._tell(lag=max(0, await monitor.newest() - cursor))
            wanted = Wanted(uid=None, after=cursor, limit=sink.page)
            events = await monitor.events(wanted, wait_s=_WAIT_S, ours=True)
            if not events:
                continue
            lost = lost_before(events, cursor)
            if lost and known is not None:  # what went before it was there at all was not meant for it
                status.lost += lost
                self._tell(lost=lost)
                _log.warning("%s: %d events were removed before they could be delivered", status.name, lost)
            if chosen := self._chosen(events):
                await sink.deliver(chosen)
            self._tell_counts()
            cursor = status.cursor = int(events[-1]["id"])
            status.state, status.problem = "following", ""
            await monitor.set_cursor(name, cursor)
            known = cursor

    def _chosen(self, events: Events) -> Events:
        if not self._channels:
            return events
        return [event for event in events if event["channel"] in self._channels]

    async def _tell_on(self) -> None:
        while True:
            await trio.sleep(_TELL_EVERY_S)
            self._tell_counts()
            monitor = self._parts.monitor.peek()
            if monitor is not None:
                with contextlib.suppress(apsw.Error):  # it is told to whoever follows
                    self._tell(lag=max(0, await monitor.newest() - self._status.cursor))

    def _tell_counts(self) -> None:
        """What came since the last time."""
        before, self._told = self._told, self._counts()
        self._tell(**{name: count - before[name] for name, count in self._told.items()})

    def _counts(self) -> dict[str, int]:
        return {name: getattr(self._status, name) for name in _COUNTED}

    def _tell(self, **counted: float) -> None:
        self._parts.bus.emit("monitor.sink", counted, {"sink": self._status.name})
