"""Alerts as the socket and the sinks have them: the store, and who waits for something new in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import trio

from skill_actors.errors import Refused
from skilld.monitor.alerts.alert import Alert, AlertRules, Seen
from skilld.monitor.alerts.store import AlertStore, NoSuchAlert, Pruned, Taken, WantedAlerts

__all__ = ["Alerts"]

T = TypeVar("T")


class Alerts:
    """What was found, one thread at a time. Belongs to the trio thread.

    Args:
        masked: a note as it may be shown. Called in a thread.

    """

    def __init__(self, store: AlertStore, masked: Callable[[str], str] = lambda note: note) -> None:
        self.store = store
        self._masked = masked
        self._arrived = trio.Event()
        self._has_ended = False
        self._limiter = trio.CapacityLimiter(1)

    async def take_in(self, seen: Sequence[Seen], rules: AlertRules) -> Taken:
        """Make alerts of findings. Raises what the store raises."""
        taken = await self.run(partial(self.store.take_in, seen, rules, _now_us()))
        if taken.new or taken.folded or taken.suppressed:
            self._arrived.set()
            self._arrived = trio.Event()
        return taken

    async def find(self, wanted: WantedAlerts, wait_s: float = 0.0) -> list[dict[str, Any]]:
        """A page of alerts; with `wait_s`, of the first that come, if there are none yet."""
        deadline = trio.current_time() + wait_s
        while True:
            arrived = self._arrived
            found = [] if self._has_ended else await self.run(partial(self.store.find, wanted))
            if found or not wait_s or self._has_ended:
                return [alert.to_dict() for alert in found]
            with trio.move_on_at(deadline) as waiting:
                await arrived.wait()
            if waiting.cancelled_caught:
                return []

    async def get(self, id: int, uid: int | None) -> dict[str, Any]:
        """One alert. Raises Refused: not_found, also for one of somebody else."""
        try:
            return (await self.run(partial(self.store.get, id, uid))).to_dict()
        except NoSuchAlert as error:
            raise _missing(id) from error

    async def acknowledge(self, id: int, uid: int | None, by_uid: int, note: str) -> dict[str, Any]:
        """Note who has seen it. Raises Refused: not_found; conflict, if somebody was before."""

        def note_it() -> tuple[Alert, bool]:
            return self.store.acknowledge(id, uid, by_uid, self._masked(note), _now_us())

        try:
            found, done = await self.run(note_it)
        except NoSuchAlert as error:
            raise _missing(id) from error
        shown = found.to_dict()
        if not done:
            seen = shown["acknowledged"]
            raise Refused("conflict", f"alert {id} was acknowledged by uid {seen['by_uid']} at {seen['time']}")
        return shown

    async def next_untold(self, sink: str, after: int = 0) -> Alert | None:
        """The oldest alert after this one that this sink was not told of, or the oldest of all, as soon as there is
        one; None after `end`.
        """
        while True:
            arrived = self._arrived
            if self._has_ended:
                return None
            found = await self.run(partial(self.store.untold, sink, after))
            if found is not None:
                return found
            await arrived.wait()

    async def told(self, sink: str, alert: Alert) -> None:
        """It was told as it was then, or is given up."""
        with trio.CancelScope(shield=True):  # what was told is not told again because the daemon stops
            await self.run(partial(self.store.tell_done, sink, alert.id, alert.severity))

    async def prune(self, rules: AlertRules) -> Pruned:
        """Remove some of what is too old or too many."""
        return await self.run(partial(self.store.prune, rules, _now_us()))

    async def end(self) -> None:
        """Close the store, when who uses it is done; who waits for something new waits for nothing more."""
        self._has_ended = True
        self._arrived.set()
        await self.run(self.store.close)

    async def run(self, work: Callable[[], T]) -> T:
        """Do something with the store in a thread; at most one thing at a time."""
        return await trio.to_thread.run_sync(work, limiter=self._limiter)


def _missing(id: int) -> Refused:
    return Refused("not_found", f"there is no alert {id}")


def _now_us() -> int:
    return time.time_ns() // 1000
