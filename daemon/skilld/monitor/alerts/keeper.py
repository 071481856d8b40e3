"""The actors of alerts: one that follows what was found and keeps the alerts, and one for each sink."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import apsw
import trio

from skill_actors.errors import Refused
from skill_actors.runtime import ChildSpec, TrioActor
from skilld.monitor.alerts.alert import AlertRules, Seen
from skilld.monitor.alerts.alerts import Alerts
from skilld.monitor.alerts.sinks import AlertSender, sinks_of, tell_of
from skilld.monitor.alerts.store import AlertStore
from skilld.monitor.findings import FindingsWanted
from skilld.monitor.inspection.acting import Acting

if TYPE_CHECKING:
    from skilld.monitor.monitor import Monitor
    from skilld.parts import Parts

__all__ = ["AlertKeeper", "alert_children", "alert_rules", "alerts_of"]

_log = logging.getLogger(__name__)

_PAGE: Final = 1_000
_WAIT_S: Final = 30.0
_AGAIN_S: Final = 1.0
_PRUNE_EVERY_S: Final = 60.0
_PRUNE_PAUSE_S: Final = 0.05
_UNSEEN_NOTE: Final = "[not looked at]"


class AlertKeeper(TrioActor):
    """Opens the store of alerts, follows what is found from where it was left, and removes what is too old."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self._parts = parts

    async def setup(self) -> None:
        path = self._parts.config.daemon.state_dir / "monitor" / "alerts.db"
        alerts = Alerts(await trio.to_thread.run_sync(AlertStore, path), self._masked)
        self._parts.alerts.put(alerts)
        self.spawn(self._serve, alerts)

    def _masked(self, note: str) -> str:
        """What somebody says of an alert, as it may be shown: others see it. Blocks."""
        if not self._parts.config.monitor.scan.enabled:
            return note
        try:
            return self._parts.rule_book.rules.mask_text(note)[0]
        except Exception as error:  # of a rule that fails on it: who has seen the alert is noted all the same
            _log.error("a note cannot be looked into, and is not kept: %s", type(error).__name__)
            return _UNSEEN_NOTE

    async def _serve(self, alerts: Alerts) -> None:
        """Here rather than in `setup` and `teardown`, since what is killed comes by here too."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follow, alerts)
                nursery.start_soon(self._prune, alerts)
        finally:
            self._parts.alerts.clear()
            with trio.CancelScope(shield=True):  # a file is not closed under who writes it
                await alerts.end()

    async def _follow(self, alerts: Alerts) -> None:
        while True:
            monitor = await self._parts.monitor.wait()
            try:
                await self._follow_one(alerts, monitor)
            except (apsw.Error, OSError) as error:  # a disk that is full; a store that is closed and made again
                _log.warning("what was found cannot be followed now: %s", error)
            await trio.sleep(_AGAIN_S)

    async def _follow_one(self, alerts: Alerts, monitor: Monitor) -> None:
        """Take in what this store of events has, until there is another one."""
        after = await alerts.run(partial(alerts.store.place, "findings"))
        if after > await monitor.newest("finding"):  # the file was damaged and begun anew
            after = 0
            await alerts.run(partial(alerts.store.set_place, "findings", after))
        while self._parts.monitor.peek() is monitor:
            wanted = FindingsWanted(uid=None, after=after, limit=_PAGE)
            page = await monitor.findings(wanted, wait_s=_WAIT_S, ours=True)
            if page:
                after = page[-1]["id"]
                await self._take_in(alerts, page)

    async def _take_in(self, alerts: Alerts, page: Sequence[Mapping[str, Any]]) -> None:
        await self._parts.rule_book.wait()
        acting = Acting(self._parts.config.monitor.policy, self._parts.rule_book.rules)
        seen = [_seen(finding, acting) for finding in page]
        taken = await alerts.take_in(seen, alert_rules(self._parts))
        facts = {"new": len(taken.new), "folded": taken.folded, "suppressed": taken.suppressed}
        self._parts.bus.emit("monitor.findings", {**facts, "ignored": taken.ignored}, {})
        for alert in taken.new:
            told = {"id": alert.id, "rule": alert.rule, "session": alert.session}
            labels = {"category": alert.category, "severity": alert.severity}
            self._parts.bus.emit("monitor.alert", {"count": 1}, {**told, **labels})

    async def _prune(self, alerts: Alerts) -> None:
        while True:
            try:
                pruned = await alerts.prune(alert_rules(self._parts))
                self._give_up(pruned.given_up)
                removed = pruned.removed
            except (apsw.FullError, apsw.IOError, apsw.BusyError) as error:
                _log.error("old alerts cannot be removed now: %s", error)
                removed = 0
            await trio.sleep(_PRUNE_PAUSE_S if removed else _PRUNE_EVERY_S)

    def _give_up(self, by_sink: Mapping[str, int]) -> None:
        """Count what no sink will be told of any more."""
        for sink, count in by_sink.items():
            if count:
                _log.warning("alerts: %s was not told of %d alerts, which are removed", sink, count)
                self._parts.bus.emit("monitor.alert.told", {"count": count}, {"sink": sink, "outcome": "given_up"})


def _seen(finding: Mapping[str, Any], acting: Acting) -> Seen:
    action, told = acting.on(str(finding["agent"]), str(finding["rule"]), str(finding["channel"]))
    return Seen(
        id=finding["id"],
        event=finding["event"],
        uid=finding["uid"],
        agent=finding["agent"],
        session=finding["session"] or "",
        rule=finding["rule"],
        category=finding["category"],
        severity=finding["severity"],
        confidence=finding["confidence"],
        direction=finding["direction"],
        sample=finding["sample"],
        trace=finding["trace"],
        span=finding.get("span"),
        action=action,
        told=told,
    )


def alert_rules(parts: Parts) -> AlertRules:
    """Which findings become alerts, by the configuration of now. The sinks are those of the start."""
    config = parts.config.monitor.alerts
    return AlertRules(
        min_severity=config.min_severity,
        dedup_s=config.dedup_s,
        per_minute=config.per_minute,
        keep_s=config.keep_days * 86_400,
        max_alerts=config.max_alerts,
        sinks=sinks_of(config),
    )


def alert_children(parts: Parts) -> list[ChildSpec]:
    """The actors of alerts, where monitoring is switched on."""
    if not parts.config.monitor.enabled:
        return []
    return [
        ChildSpec(id="monitor-alerts", factory=lambda: AlertKeeper(parts), isolated=True),
        *(
            ChildSpec(id=f"alert-{sink}", factory=partial(_sender, parts, sink), isolated=True)
            for sink in sinks_of(parts.config.monitor.alerts)
        ),
    ]


def _sender(parts: Parts, sink: str) -> AlertSender:
    return AlertSender(sink, parts.alerts.wait, tell_of(parts, sink), parts.bus)


def alerts_of(parts: Parts) -> Alerts:
    """Alerts as they are now. Raises Refused while there are none."""
    alerts = parts.alerts.peek()
    if alerts is None:
        if not parts.config.monitor.enabled:
            raise Refused("not_found", "monitoring is switched off: monitor.enabled")
        raise Refused("draining", "alerts are starting, or cannot: see the log; try again", retry_after_s=1)
    return alerts
