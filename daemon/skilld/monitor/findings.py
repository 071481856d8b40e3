"""What can be asked about what was found in reported events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import apsw

from skilld.monitor.questions import AGENT, MAX_PAGE, asked, time_text

__all__ = ["FindingsWanted", "find_findings"]

_COLUMNS: Final = (
    f"finding.id, finding.time_us, event.id, event.uid, {AGENT}, event.name, channel, trace,"
    " span, session, user, rule, category, severity, alert, confidence, direction, masked_sample"
)
_NAMES: Final = (
    *("id", "time", "event", "uid", "agent", "name", "channel", "trace", "span", "session", "user"),
    *("rule", "category", "severity", "alert", "confidence", "direction", "sample"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingsWanted:
    """Which findings.

    Args:
        uid: in whose events; None for everybody's.
        after: only those that came after this id, the oldest first; otherwise the newest come first.
        before: only those that came before this id.

    """

    uid: int | None
    agent: str | None = None
    category: str | None = None
    severity: str | None = None
    rule: str | None = None
    event: int | None = None
    trace: str | None = None
    after: int | None = None
    before: int | None = None
    limit: int = 100


def find_findings(db: apsw.Connection, wanted: FindingsWanted) -> list[dict[str, Any]]:
    """A page of findings, JSON-ready."""
    conditions = (
        ("event.uid = ?", wanted.uid),
        (f"{AGENT} = ?", wanted.agent),
        ("category = ?", wanted.category),
        ("severity = ?", wanted.severity),
        ("rule = ?", wanted.rule),
        ("event.id = ?", wanted.event),
        ("trace = ?", wanted.trace),
        ("finding.id > ?", wanted.after),
        ("finding.id < ?", wanted.before),
    )
    where, values = asked(conditions)
    order = "ASC" if wanted.after is not None else "DESC"
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM finding JOIN event ON event.id = finding.event JOIN run ON run.id = event.run"
        f" WHERE {' AND '.join(where)} ORDER BY finding.id {order} LIMIT ?",
        (*values, min(wanted.limit, MAX_PAGE)),
    )
    return [dict(zip(_NAMES, (id, time_text(time_us), *rest), strict=True)) for id, time_us, *rest in rows]
