"""The actor that keeps the store and the ingest socket, and how what is reported comes to its source and metrics."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final

import apsw
import trio

from skill_actors.errors import Refused
from skill_actors.runtime import ChildSpec, TrioActor
from skilld.http.listener import Listener, ListenerError, open_listener
from skilld.http.peer import Peer
from skilld.monitor.batch import Batch
from skilld.monitor.ingest import Ingest, IngestLimits
from skilld.monitor.inspected import Inspected, Inspection, Origin
from skilld.monitor.inspection.inspector import Inspector, with_names
from skilld.monitor.monitor import Monitor
from skilld.monitor.naming import with_cut_head
from skilld.monitor.rates import Rate, RateTable
from skilld.monitor.sources import Sources
from skilld.monitor.store import EventStore, Written

if TYPE_CHECKING:
    from skilld.parts import Parts

__all__ = [
    "Monitor",
    "MonitorKeeper",
    "count_batch",
    "may_report",
    "monitor_children",
    "monitor_of",
    "open_inspection",
    "report",
]

_log = logging.getLogger(__name__)

_PRUNE_EVERY_S: Final = 60.0
_PRUNE_PAUSE_S: Final = 0.05  # between chunks: who reports wants the file too
_LINE_S: Final = 10.0
_START_S: Final = 10.0  # that reports wait for the rest of the daemon, which may be in trouble
_OBSERVED_TOGETHER: Final = 100
_LONGEST_LAG_S: Final = 86_400.0  # what is older was imported: one year of it would be the mean for ever


class MonitorKeeper(TrioActor):
    """Opens the store, serves the ingest socket, and removes what is too old or too much."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self._parts = parts

    async def setup(self) -> None:
        parts, config = self._parts, self._parts.config.monitor
        with contextlib.ExitStack() as undo:  # what was opened is closed if what follows fails: this is tried again
            store = await trio.to_thread.run_sync(EventStore, parts.config.daemon.state_dir / "monitor" / "events.db")
            undo.callback(store.close)
            path = config.socket or parts.config.daemon.socket.with_name("monitor.sock")
            try:
                listener = open_listener(path, {}, shared=parts.config.roles.report.names_anybody)
            except ListenerError as error:
                _log.warning("programs cannot report: %s; see monitor.socket", error)
                raise
            undo.callback(listener.close)
            monitor = Monitor(
                store=store,
                inspection=open_inspection(parts),
                prices=lambda: parts.prices,
                on_stored=self._observe,
                sources=self._sources,
                rates=RateTable(Rate(config.events_per_s, config.bytes_per_s)),
                question_s=config.question_timeout_s,
            )
            self.spawn(self._serve, monitor, listener, self._ingest(monitor))
            undo.pop_all()
        parts.monitor.put(monitor)
        _log.info("programs report at %s", path)

    def _ingest(self, monitor: Monitor) -> Ingest:
        parts, config = self._parts, self._parts.config.monitor
        return Ingest(
            IngestLimits(
                connections=parts.config.limits.connections_per_peer,
                max_line_bytes=config.max_batch_bytes,
                line_s=_LINE_S,
                rate=Rate(config.events_per_s, config.bytes_per_s),
            ),
            self._may_report,
            self._report,
            rates=monitor.rates,
            policy_for=monitor.inspection.policy_for,
            policy_line=monitor.inspection.policy_line,
            on_written=self._count,
            on_dropped=lambda why: parts.bus.emit("monitor.dropped", {}, {"reason": why}),
        )

    async def _serve(self, monitor: Monitor, listener: Listener, ingest: Ingest) -> None:
        """Here rather than in `setup` and `teardown`, since what is killed comes by here too."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen, listener, ingest)
                nursery.start_soon(self._prune, monitor)
        finally:
            self._parts.monitor.clear()
            monitor.arrived.set()  # who follows it looks for the next one
            listener.close()
            with trio.CancelScope(shield=True):  # a file is not closed under who writes it
                await trio.to_thread.run_sync(monitor.store.close)

    async def _listen(self, listener: Listener, ingest: Ingest) -> None:
        """Who connects while the daemon starts waits until it is ready: what rules cost is none of its start."""
        with trio.move_on_after(_START_S):
            await self._parts.ready.wait()
        await self._parts.rule_book.wait()
        await ingest.serve(trio.socket.from_stdlib_socket(listener.sock))

    def _may_report(self, peer: Peer) -> bool:
        return may_report(self._parts, peer)

    async def _report(self, batch: Batch, origin: Origin) -> Written:
        """Have a batch kept by its source."""
        return await report(self._parts, batch, origin)

    def _sources(self, uid: int | None) -> list[dict[str, Any]]:
        sources = self._parts.sources.peek()
        return [] if sources is None else sources.facts(uid)

    def _count(self, batch: Batch, written: Written) -> None:
        count_batch(self._parts, batch, written)

    async def _observe(self, inspected: Inspected, written: Written) -> None:
        """Tell metrics what was stored, a few spans at a time: there may be thousands in a batch."""
        bus = self._parts.bus
        kept, findings = written.kept, inspected.findings
        new = [event for index, event in enumerate(inspected.batch.events) if kept is None or index in kept]
        found = [one for one in findings if kept is None or one.index in kept]
        newest_us = max((event.time_us + (event.duration_us or 0) for event in new), default=0)
        facts: dict[str, float] = {}
        lag_s = max(0.0, time.time() - newest_us / 1e6)
        if lag_s <= _LONGEST_LAG_S:
            facts["lag"] = lag_s
        bus.emit("monitor.stored", facts, {"findings": found})
        spans = [event for event in new if event.duration_us is not None]
        for start in range(0, len(spans), _OBSERVED_TOGETHER):
            bus.emit("monitor.spans", {}, {"spans": spans[start : start + _OBSERVED_TOGETHER]})
            await trio.lowlevel.checkpoint()

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


def open_inspection(parts: Parts) -> Inspection:
    """Who looks into what programs report, and says what they have to look at themselves."""
    return Inspector(parts.rule_book, lambda: parts.config.monitor)


def monitor_children(parts: Parts) -> list[ChildSpec]:
    """The actors of monitoring, where it is switched on."""
    if not parts.config.monitor.enabled:
        return []
    return [
        ChildSpec(id="sources", factory=lambda: _sources(parts), isolated=True),
        ChildSpec(id="monitor", factory=lambda: MonitorKeeper(parts), isolated=True),
    ]


def may_report(parts: Parts, peer: Peer, *others: int | None) -> bool:
    """Root, the daemon's own user, whom the role names, and these."""
    role, own = parts.config.roles.report, os.getuid()
    return peer.uid in (0, own, *others, *role.uids) or not peer.groups.isdisjoint(role.gids)


def count_batch(parts: Parts, batch: Batch, written: Written) -> None:
    """Have metrics told what became of a batch, whichever way it came."""
    counted = {
        "stored": written.stored,
        "duplicate": written.duplicates,
        "refused": batch.refused,
        "quarantined": written.quarantined,
    }
    parts.bus.emit("monitor.batch", counted, {})


async def report(parts: Parts, batch: Batch, origin: Origin) -> Written:
    """Have a batch kept by its source, whose name has no secret in it: it is shown, and stands in logs.

    Raises as `SourcesRef.write`.
    """
    await parts.rule_book.wait()
    if parts.config.monitor.scan.enabled:
        batch = with_names(parts.rule_book.rules, batch)
    return await parts.sources.get().write(with_cut_head(batch), origin)


def _sources(parts: Parts) -> Sources:
    def write(batch: Batch, origin: Origin) -> Awaitable[Written]:
        return monitor_of(parts).write(batch, origin)

    return Sources(
        write,
        max_sources=parts.config.monitor.max_sources,
        publish=parts.sources.put,
        on_told=lambda grown: parts.bus.emit("monitor.health", grown, {}),
    )


def monitor_of(parts: Parts) -> Monitor:
    """Monitoring as it is now. Raises Refused while there is none."""
    monitor = parts.monitor.peek()
    if monitor is None:
        if not parts.config.monitor.enabled:
            raise Refused("not_found", "monitoring is switched off: monitor.enabled")
        raise Refused("draining", "monitoring is starting, or cannot: see the log; try again", retry_after_s=1)
    return monitor
