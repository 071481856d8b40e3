"""What watches the daemon itself: the event loop, the garbage collector, the watchdog and its canary.

They are a branch of their own, the first of the tree: up before the journal and down after it, so that a start or a
stop that hangs is seen as well. All are isolated: none of them is worth the daemon.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import trio

from skill_actors.runtime import (
    ActorDeadError,
    Backoff,
    ChildSpec,
    NameNotRegistered,
    Ping,
    Supervisor,
    Timeout,
    TrioActor,
)
from skilld.audit import AuditWriter
from skilld.garbage import GarbageKeeper
from skilld.metrics import Metrics, sample_loop_lag
from skilld.metrics_page import MetricsPage
from skilld.notify import watchdog_interval_s
from skilld.parts import Parts
from skilld.watchdog import Watchdog

__all__ = ["Canary", "Loop", "observability"]

_CANARY: Final = "canary"
_ROUND_TRIP_S: Final = 1.0
_CALL_S: Final = 5.0
_STATUS_S: Final = 15.0
_SOON: Final = Backoff(initial_s=0.1, max_s=2.0)  # well below the patience of the service manager


def observability(parts: Parts, metrics: Metrics) -> Supervisor:
    """The branch."""
    children = [
        ChildSpec(id="loop", factory=lambda: Loop(parts), isolated=True, backoff=_SOON),
        ChildSpec(id="gc", factory=lambda: GarbageKeeper(parts), isolated=True),
        ChildSpec(id="canary", factory=Canary, name=_CANARY, isolated=True, backoff=_SOON),
        ChildSpec(id="watchdog", factory=lambda: Watchdog(parts), isolated=True, backoff=_SOON),
    ]
    rules = parts.config.audit
    folder = parts.config.daemon.state_dir / "audit"
    writer = partial(AuditWriter, parts.audit, folder, max_bytes=rules.max_bytes, keep=rules.keep)
    children.append(ChildSpec(id="audit", factory=writer, isolated=True, shutdown_s=10.0))
    if listen := parts.config.metrics.listen:
        page = partial(MetricsPage, listen, metrics.render, parts.version)
        children.append(ChildSpec(id="metrics", factory=page, isolated=True))
    return Supervisor(children)


class Canary(TrioActor):
    """Answers Ping, as every healthy actor could: where it does not, the loop turns but actors are not served."""

    async def on_receive(self, message: Any) -> None:
        """Answer."""


class Loop(TrioActor):
    """Measures the event loop, sends the watchdog's round trips, and tells the service manager what goes on."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self._parts = parts

    async def setup(self) -> None:
        """Begin all three."""
        self.spawn(sample_loop_lag, self._parts.bus)
        self.spawn(self._make_round_trips)
        if self._parts.notifier.active:
            self.spawn(self._tell_status)

    async def _make_round_trips(self) -> None:
        parts = self._parts
        interval_s = watchdog_interval_s(parts.environ)
        every_s = _ROUND_TRIP_S if interval_s is None else min(_ROUND_TRIP_S, interval_s / 10)
        root = (await parts.system.wait()).root
        canary = self.directory.named(_CANARY)
        while True:
            try:
                await root.call(Ping(), timeout=_CALL_S)
                await canary.call(Ping(), timeout=_CALL_S)
            except (Timeout, ActorDeadError, NameNotRegistered):
                pass  # the watchdog misses it
            else:
                parts.pulse.round_trips += 1
            await trio.sleep(every_s)

    async def _tell_status(self) -> None:
        told = ""
        await self._parts.ready.wait()
        while True:
            await trio.sleep(_STATUS_S)
            text = status_line(self._parts)
            if text not in ("", told):
                self._parts.notifier.status(text)
                told = text


def status_line(parts: Parts) -> str:
    """One line for `systemctl status`; empty while it is better left as it is."""
    sessions = parts.sessions.peek()
    if sessions is None or parts.stopping:
        return ""
    counts = sessions.status()
    return (
        f"{counts['sessions_live']} conversations in memory, {counts['turns_running']} turns running, "
        f"{counts['turns_queued']} waiting"
    )
