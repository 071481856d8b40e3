"""The actors of monitoring: one that keeps the store, and one that listens and writes what is reported."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import apsw
import trio

from skill_actors.errors import Refused
from skill_actors.runtime import ChildSpec, TrioActor
from skilld.http.listener import Listener, ListenerError, open_listener
from skilld.http.peer import Peer
from skilld.monitor.batch import Batch
from skilld.monitor.ingest import Ingest, IngestLimits
from skilld.monitor.questions import Wanted, find_events, totals
from skilld.monitor.rates import Rate
from skilld.monitor.store import EventStore, Origin, Written

if TYPE_CHECKING:
    from skilld.http.services import Viewer
    from skilld.parts import Parts

__all__ = ["Monitor", "MonitorKeeper", "monitor_children", "monitor_of"]

_log = logging.getLogger(__name__)

_PRUNE_EVERY_S: Final = 60.0
_PRUNE_PAUSE_S: Final = 0.05  # between chunks: who reports wants the file too
_LINE_S: Final = 10.0
_MOST_TOGETHER: Final = 16  # batches in one transaction


@dataclass(kw_only=True, eq=False)
class _Pending:
    """A batch that waits for the file, and what became of it."""

    batch: Batch
    origin: Origin
    outcome: Written | Exception | None = None


@dataclass(kw_only=True)
class Monitor:
    """What is reported on this host, as the socket offers it.

    Args:
        writing: one transaction at a time.
        asking: one question at a time, so that slow ones take one thread of the daemon's and not all.
        arrived: replaced, and the old one set, whenever something was stored.

    """

    store: EventStore
    writing: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(1))
    asking: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(1))
    arrived: trio.Event = field(default_factory=trio.Event)
    _waiting: list[_Pending] = field(default_factory=list)
    _turn: trio.Lock = field(default_factory=trio.Lock)

    async def write(self, batch: Batch, origin: Origin) -> Written:
        """Keep a batch, together with those that wait for the file as well. Raises what the store raises."""
        pending = _Pending(batch=batch, origin=origin)
        self._waiting.append(pending)
        while pending.outcome is None:
            async with self._turn:
                if pending.outcome is None:
                    await self._write_waiting()
        if isinstance(pending.outcome, Exception):
            raise pending.outcome
        return pending.outcome

    async def _write_waiting(self) -> None:
        group = self._waiting[:_MOST_TOGETHER]
        del self._waiting[:_MOST_TOGETHER]
        batches = [(pending.batch, pending.origin) for pending in group]
        with trio.CancelScope(shield=True):  # others wait for it: who is cancelled here sees to theirs first
            try:
                found: Sequence[Written | Exception] = await trio.to_thread.run_sync(
                    self.store.write, batches, limiter=self.writing
                )
            except Exception as error:  # each of them is told
                found = [error] * len(group)
        for pending, outcome in zip(group, found, strict=True):
            pending.outcome = outcome
        if any(isinstance(outcome, Written) and outcome.stored for outcome in found):
            self.arrived.set()
            self.arrived = trio.Event()

    async def events(self, wanted: Wanted, wait_s: float = 0.0) -> list[dict[str, Any]]:
        """A page of events; with `wait_s`, of the first that come, if there are none yet."""
        deadline = trio.current_time() + wait_s
        while True:
            arrived = self.arrived
            newest = await trio.to_thread.run_sync(self.store.newest_id, limiter=self.asking)
            found = await trio.to_thread.run_sync(
                self.store.ask, partial(find_events, wanted=wanted), limiter=self.asking
            )
            if found or not wait_s:
                return found
            wanted = replace(wanted, after=max(newest, wanted.after or 0))  # what did not fit need not be read again
            with trio.move_on_at(deadline) as waiting:
                await arrived.wait()
            if waiting.cancelled_caught:
                return []

    async def totals(self, viewer: Viewer) -> dict[str, Any]:
        """What is stored adds up to, as far as this viewer may see it."""
        uid = None if viewer.admin else viewer.uid
        found = await trio.to_thread.run_sync(self.store.ask, partial(totals, uid=uid), limiter=self.asking)
        return dict(found)


class MonitorKeeper(TrioActor):
    """Opens the store, serves the ingest socket, and removes what is too old or too much."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self._parts = parts

    async def setup(self) -> None:
        parts, config = self._parts, self._parts.config.monitor
        store = await trio.to_thread.run_sync(EventStore, parts.config.daemon.state_dir / "monitor" / "events.db")
        try:
            path = config.socket or parts.config.daemon.socket.with_name("monitor.sock")
            listener = open_listener(path, {}, shared=self._others)
        except ListenerError as error:
            store.close()
            _log.warning("programs cannot report: %s; see monitor.socket", error)
            raise
        monitor = Monitor(store=store)
        ingest = Ingest(
            IngestLimits(
                connections=parts.config.limits.connections_per_peer,
                max_line_bytes=config.max_batch_bytes,
                line_s=_LINE_S,
                rate=Rate(config.events_per_s, config.bytes_per_s),
            ),
            self._may_report,
            monitor.write,
            on_written=self._count,
            on_dropped=lambda why: parts.bus.emit("monitor.dropped", {}, {"reason": why}),
        )
        parts.monitor.put(monitor)
        self.spawn(self._serve, monitor, listener, ingest)
        _log.info("programs report at %s", path)

    async def _serve(self, monitor: Monitor, listener: Listener, ingest: Ingest) -> None:
        """Here rather than in `setup` and `teardown`, since what is killed comes by here too."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ingest.serve, trio.socket.from_stdlib_socket(listener.sock))
                nursery.start_soon(self._prune, monitor)
        finally:
            self._parts.monitor.clear()
            listener.close()
            with trio.CancelScope(shield=True):  # a file is not closed under who writes it
                await trio.to_thread.run_sync(monitor.store.close)

    @property
    def _others(self) -> bool:
        return self._parts.config.roles.report.names_anybody

    def _may_report(self, peer: Peer) -> bool:
        """Root, the daemon's own user, and whom the role names."""
        role, own = self._parts.config.roles.report, os.getuid()
        return peer.uid in (0, own, *role.uids) or not peer.groups.isdisjoint(role.gids)

    def _count(self, batch: Batch, written: Written) -> None:
        counted = {"stored": written.stored, "duplicate": written.duplicates, "refused": batch.refused}
        self._parts.bus.emit("monitor.batch", counted, {})

    async def _prune(self, monitor: Monitor) -> None:
        while True:
            config = self._parts.config.monitor
            keep_s, most = config.keep_days * 86_400, config.max_bytes
            try:
                removed = await trio.to_thread.run_sync(monitor.store.prune, keep_s, most, limiter=monitor.writing)
            except (apsw.FullError, apsw.IOError, apsw.BusyError) as error:  # to end over it would help nobody
                _log.error("old events cannot be removed now: %s", error)
                removed = 0
            await trio.sleep(_PRUNE_PAUSE_S if removed else _PRUNE_EVERY_S)


def monitor_children(parts: Parts) -> list[ChildSpec]:
    """The actor of monitoring, where it is switched on."""
    if not parts.config.monitor.enabled:
        return []
    return [ChildSpec(id="monitor", factory=lambda: MonitorKeeper(parts), isolated=True)]


def monitor_of(parts: Parts) -> Monitor:
    """Monitoring as it is now. Raises Refused while there is none."""
    monitor = parts.monitor.peek()
    if monitor is None:
        if not parts.config.monitor.enabled:
            raise Refused("not_found", "monitoring is switched off: monitor.enabled")
        raise Refused("draining", "monitoring is starting, or cannot: see the log; try again", retry_after_s=1)
    return monitor
