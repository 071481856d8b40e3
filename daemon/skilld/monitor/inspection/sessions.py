"""The daemon's own conversations, looked into like everything else: off the path of their turns, behind the journal.

Who is told of something new in a conversation only notes its id. The follower reads what the journal has of it since
the last time, looks into that in a thread, and writes what it found, and nothing else that was said, into the store of
events. An event is known by its conversation and number, so that nothing is told twice after a crash; how far each
conversation was read is kept with the alerts.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import apsw
import trio

from skill_actors.runtime import ChildSpec, TrioActor
from skill_actors.sessions.events import Event
from skill_actors.store.base import SessionRecord, StoreError
from skill_actors.store.faults import DamagedRow
from skill_actors.telemetry import Measurements, Metadata
from skilld.monitor.batch import Batch, MonitorEvent
from skilld.monitor.inspected import Found, Inspected, Origin
from skilld.monitor.inspection.attached import texts_in
from skilld.monitor.inspection.inspector import NOT_SCANNED
from skilld.monitor.inspection.saying import files_of, said_in
from skilld.monitor.inspection.screen import OWN_AGENT, Stopped
from skilld.monitor.wire import run_of
from skilld_monitor.scanning import Finding, RuleSet

if TYPE_CHECKING:
    from skilld.monitor.alerts.alerts import Alerts
    from skilld.monitor.monitor import Monitor
    from skilld.parts import Parts

__all__ = ["SessionFollower", "SessionNews", "session_children"]

_log = logging.getLogger(__name__)

_HEARD: Final = ("agent.*", "model.stop", "execute.stop", "session.created", "session.deleted", "turn.*")
_MOST_WAITING: Final = 100_000  # ids
_MOST_STOPPED: Final = 1_000
_PAGE: Final = 200
_NEWEST: Final = 200  # conversations that are looked at when the daemon has started
_AGAIN_S: Final = 1.0
_GATHER_S: Final = 0.25  # a short turn says several times that there is something new, and is looked into once
_CHANNEL: Final = "SECURITY"
_PASSING: Final = (apsw.Error, StoreError, OSError)  # a full disk; stores that are closed and made again
_LEVELS: Final = {"low": "INFO", "medium": "WARNING", "high": "ERROR"}


class SessionNews:
    """Which conversations have something new, and what was stopped before it came into one. Noting never waits."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, None] = OrderedDict()
        self._stopped: deque[Stopped] = deque()
        self._lost = 0
        self._something = trio.Event()

    def __len__(self) -> int:
        return len(self._sessions) + len(self._stopped)

    def note(self, session: str) -> None:
        """There is something new. Beyond a bound those are forgotten that waited longest; they are noted again."""
        self._sessions[session] = None
        if len(self._sessions) > _MOST_WAITING:
            self._sessions.popitem(last=False)
        self._something.set()

    def note_stopped(self, stopped: Stopped) -> None:
        """Something was found before it was said or done. Beyond a bound the oldest are lost, and counted."""
        if len(self._stopped) >= _MOST_STOPPED:
            self._stopped.popleft()
            self._lost += 1
        self._stopped.append(stopped)
        self._something.set()

    async def wait(self) -> None:
        """Return as soon as there is something."""
        while not self._sessions and not self._stopped:
            self._something = trio.Event()
            await self._something.wait()

    async def gather(self, most_s: float) -> None:
        """Return after this time, or as soon as there is something that was stopped: that is nowhere else."""
        with trio.move_on_after(most_s):
            while not self._stopped:
                self._something = trio.Event()
                await self._something.wait()

    @contextmanager
    def take(self) -> Iterator[Stopped | str]:
        """The next one, what was stopped first; there has to be one.

        It waits again if the block is left by an error that passes, or is cancelled: what was stopped is nowhere else.
        """
        one = self._stopped.popleft() if self._stopped else self._sessions.popitem(last=False)[0]
        try:
            yield one
        except (*_PASSING, trio.Cancelled):
            if isinstance(one, str):
                self.note(one)  # behind the others: it may be its own fault
            elif len(self._stopped) < _MOST_STOPPED:
                self._stopped.appendleft(one)
            else:
                self._lost += 1
            raise

    def take_lost(self) -> int:
        """How many of what was stopped there was no room for since this was last asked."""
        lost, self._lost = self._lost, 0
        return lost


class SessionFollower(TrioActor):
    """Looks into what the journal has of conversations, after it is there."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self._parts = parts
        self._news = parts.session_news
        self._limiter = trio.CapacityLimiter(1)
        self._workspaces = parts.config.daemon.state_dir / "workspaces"
        self._noted_for: tuple[Alerts, Monitor] | None = None
        self._damaged: set[str] = set()  # conversations of which that was told

    async def setup(self) -> None:
        self.spawn(self._follow)

    async def _follow(self) -> None:
        bus = self._parts.bus
        bus.detach("monitor-sessions")  # of one that was here before and was killed
        bus.attach("monitor-sessions", _HEARD, self._hear)
        while True:
            alerts, monitor = await self._parts.alerts.wait(), await self._parts.monitor.wait()
            try:
                await self._follow_with(alerts, monitor)
            except _PASSING as error:
                _log.warning("conversations cannot be looked into now: %s", error)
            await trio.sleep(_AGAIN_S)

    async def _follow_with(self, alerts: Alerts, monitor: Monitor) -> None:
        if self._noted_for != (alerts, monitor):
            await self._note_newest()
            self._noted_for = (alerts, monitor)
        while True:
            await self._news.wait()
            await self._news.gather(_GATHER_S)
            for _ in range(len(self._news)):  # not until there is none: what comes meanwhile is gathered too
                with self._news.take() as one:
                    await self._take_up(one, alerts, monitor)

    async def _take_up(self, one: Stopped | str, alerts: Alerts, monitor: Monitor) -> None:
        scan = self._parts.config.monitor.scan
        if isinstance(one, Stopped):
            await self._write_stopped(one, alerts, monitor)
            self._tell_lost()
        elif scan.enabled and scan.sessions:
            await self._look_into_sound(one, alerts, monitor)

    def _hear(self, _name: str, _facts: Measurements, meta: Metadata) -> None:
        session = meta.get("session")
        if isinstance(session, str) and session:
            self._news.note(session)

    async def _note_newest(self) -> None:
        """Those that may have something that was journalled and not looked into when the daemon ended."""
        page = await self._parts.journal.get().list_sessions(limit=_NEWEST)
        for record in page.items:
            self._news.note(record.id)

    def _tell_lost(self) -> None:
        lost = self._news.take_lost()
        if lost:
            _log.warning("there was no room to tell of %d more that were stopped: the audit log alone has them", lost)

    async def _look_into_sound(self, session: str, alerts: Alerts, monitor: Monitor) -> None:
        """As `_look_into`; damage does not pass by waiting, so it is told once, and the conversation let be."""
        try:
            await self._look_into(session, alerts, monitor)
        except DamagedRow as error:
            if session not in self._damaged:
                self._damaged.add(session)
                _log.warning("a conversation is not looked into: %s", error)
        else:
            self._damaged.discard(session)

    async def _look_into(self, session: str, alerts: Alerts, monitor: Monitor) -> None:
        journal = self._parts.journal.get()
        record = await journal.get_session(session)
        name = f"session:{session}"
        if record is None:  # it was deleted
            await alerts.run(partial(alerts.store.forget_place, name))
            return
        secret = await alerts.run(alerts.store.secret)
        after = await alerts.run(partial(alerts.store.place, name))
        while True:
            events = await journal.read_events(session, after=after, limit=_PAGE)
            if not events:
                return
            await self._parts.rule_book.wait()
            rules = self._parts.rule_book.rules
            run = run_of(secret, session, str(after))
            look = partial(_inspected, rules, run, record, events, self._workspaces / session, first=not after)
            inspected = await trio.to_thread.run_sync(look, limiter=self._limiter)
            if inspected is not None:
                origin = Origin(record.owner_uid, os.getpid())
                await monitor.write(inspected.batch, origin, inspected=inspected)
            after = events[-1].seq
            await alerts.run(partial(alerts.store.set_place, name, after))
            if len(events) < _PAGE:  # what has come since is told of
                return

    async def _write_stopped(self, one: Stopped, alerts: Alerts, monitor: Monitor) -> None:
        """What was stopped is in no journal: here it is told that it was, and by which rule."""
        secret = await alerts.run(alerts.store.secret)
        inspected = _of_stopped(one, run_of(secret, one.session, "stopped", str(one.time_us)))
        await monitor.write(inspected.batch, Origin(one.uid, os.getpid()), inspected=inspected)


def _inspected(
    rules: RuleSet, run: str, record: SessionRecord, events: Sequence[Event], workspace: Path, *, first: bool
) -> Inspected | None:
    """What was found in these events, and in files that came with them, as events of monitoring; None for nothing.

    Blocks.
    """
    made: list[MonitorEvent] = []
    found: list[Found] = []
    for event in events:
        findings: list[Finding] = []
        said = [*said_in(event)]
        if first and event is events[0]:
            said.append(("system", record.settings.get("system")))
        try:
            for way, value in chain(said, texts_in(workspace, files_of(event))):
                findings += rules.mask(value, way)[1]
        except Exception as error:  # of a rule that fails on a text: it is told, and the rest is looked into
            why = f"it could not be looked at: {type(error).__name__}"
            findings.append(Finding(NOT_SCANNED, "sensitive_data", "medium", 1.0, "event", 0, 0, why))
        if findings:
            found += [Found(len(made), finding, finding.sample) for finding in _once(findings)]
            data = {"type": event.type, "seq": event.seq, "turn": event.turn}
            made.append(_event(event.seq, _time_us(event.time), "session.finding", record.id, findings, data))
    if not made:
        return None
    return Inspected(_batch(run, made), tuple(found))


def _of_stopped(one: Stopped, run: str) -> Inspected:
    name = {"block": "session.blocked", "redact": "session.redacted"}[one.action]
    data = {"what": one.what, "dry_run": one.dry_run, "rules": sorted({finding.rule for finding in one.findings})}
    now_us = one.time_us
    event = _event(now_us, now_us, name, one.session, one.findings, data)
    found = tuple(Found(0, finding, finding.sample) for finding in one.findings)
    return Inspected(_batch(run, [event]), found)


def _once(findings: Sequence[Finding]) -> list[Finding]:
    """One for each rule and direction."""
    return list({(finding.rule, finding.direction): finding for finding in reversed(findings)}.values())


def _event(
    seq: int, time_us: int, name: str, session: str, findings: Sequence[Finding], data: dict[str, Any]
) -> MonitorEvent:
    worst = max((finding.severity for finding in findings), key=list(_LEVELS).index)
    return MonitorEvent(seq, time_us, name, _CHANNEL, _LEVELS[worst], data=data, session=session, agent=OWN_AGENT)


def _batch(run: str, events: Sequence[MonitorEvent]) -> Batch:
    """Events of a run that is always the same for the same events, so that each is kept once, and that nobody knows
    before: whoever could report it first would have what was found taken for told."""
    return Batch(
        number=0,
        run=run,
        agent=OWN_AGENT,
        pid=os.getpid(),
        program=OWN_AGENT,
        environment="",
        events=tuple(events),
        refused=0,
    )


def _time_us(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1_000_000)


def session_children(parts: Parts) -> list[ChildSpec]:
    """Whoever looks into conversations, where monitoring is switched on."""
    if not parts.config.monitor.enabled:
        return []
    return [ChildSpec(id="monitor-sessions", factory=lambda: SessionFollower(parts), isolated=True)]
