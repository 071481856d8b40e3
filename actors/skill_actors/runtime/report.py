"""Supervision reports: one `report(event, supervisor, child_template, reason)` feeds ring, log and subscribers.

Labels are bounded: `supervisor` is a path of spec ids, `child` a spec id or the template id of a dynamic
supervisor, never the id of one of its children. A report holds text, never an exception or a frame.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from skill_actors.runtime.exit import ExitKind, ExitReason, format_error

__all__ = ["Report", "ReportEvent", "Reports"]

_log = logging.getLogger("skill_actors.runtime")


class ReportEvent(Enum):
    """What a supervisor saw or did."""

    STARTED = "started"
    START_FAILED = "start_failed"
    EXITED = "exited"
    RESTARTED = "restarted"
    KILLED = "killed"  # did not stop within its time
    UNKILLABLE = "unkillable"  # ignores cancellation
    ESCALATED = "escalated"  # the supervisor itself gave up


_LEVELS: Final = {
    ReportEvent.STARTED: logging.DEBUG,
    ReportEvent.START_FAILED: logging.ERROR,
    ReportEvent.EXITED: logging.DEBUG,
    ReportEvent.RESTARTED: logging.WARNING,
    ReportEvent.KILLED: logging.WARNING,
    ReportEvent.UNKILLABLE: logging.CRITICAL,
    ReportEvent.ESCALATED: logging.ERROR,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One thing that happened under a supervisor.

    Args:
        actor_class: class name of the actor that ended; empty where none did.
        trace: a traceback as text, or empty.
        time: Unix seconds.

    """

    event: ReportEvent
    supervisor: str
    child: str
    kind: ExitKind | None
    message: str
    trace: str
    time: float
    actor_class: str = ""


Subscriber = Callable[[Report], None]


class Reports:
    """The last noteworthy reports, and who is told of all of them.

    Starts and orderly exits go to subscribers only: ten thousand conversations would flush the ring.

    Args:
        keep: how many reports the ring holds.
        clock: Unix time in seconds.

    """

    def __init__(self, keep: int = 256, clock: Callable[[], float] = time.time) -> None:
        self._ring: deque[Report] = deque(maxlen=keep)
        self._subscribers: dict[str, Subscriber] = {}
        self._clock = clock

    def subscribe(self, id: str, subscriber: Subscriber) -> None:
        """Call `subscriber(report)` for every report. It must not wait; one that raises is logged and dropped.

        Raises:
            ValueError: if `id` is subscribed already.

        """
        if id in self._subscribers:
            raise ValueError(f"report subscriber {id!r} exists already; unsubscribe it first")
        self._subscribers[id] = subscriber

    def unsubscribe(self, id: str) -> bool:
        """Forget a subscriber; False if there is none of this id."""
        return self._subscribers.pop(id, None) is not None

    def recent(self) -> Sequence[Report]:
        """The ring, oldest first."""
        return tuple(self._ring)

    def report(
        self,
        event: ReportEvent,
        supervisor: str,
        child: str,
        reason: ExitReason | None = None,
        actor_class: str = "",
    ) -> None:
        """Record one event."""
        level = _level(event, reason)
        noteworthy = level > logging.DEBUG
        if not (noteworthy or self._subscribers or _log.isEnabledFor(level)):
            return  # ten thousand orderly exits at once should cost nothing
        report = Report(
            event=event,
            supervisor=supervisor,
            child=child,
            kind=reason.kind if reason else None,
            message=str(reason) if reason else "",
            trace=format_error(reason.error) if reason and reason.error and reason.abnormal else "",
            time=self._clock(),
            actor_class=actor_class,
        )
        if noteworthy:
            self._ring.append(report)
        _write_log(report, level)
        for id, subscriber in list(self._subscribers.items()):
            try:
                subscriber(report)
            except Exception:
                _log.exception("report subscriber %r failed and is dropped", id)
                self.unsubscribe(id)


def _level(event: ReportEvent, reason: ExitReason | None) -> int:
    if event is ReportEvent.EXITED and reason is not None and reason.abnormal and reason.error is not None:
        return logging.ERROR
    return _LEVELS[event]


def _write_log(report: Report, level: int) -> None:
    if not _log.isEnabledFor(level):
        return
    text = "%s: child %s %s%s%s"
    reason = f" ({report.message})" if report.message else ""
    trace = f"\n{report.trace}" if report.trace else ""
    _log.log(level, text, report.supervisor, report.child, report.event.value.replace("_", " "), reason, trace)
