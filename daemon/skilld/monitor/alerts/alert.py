"""An alert: what was found in what somebody reported, how often, and who has seen it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

__all__ = ["CATEGORIES", "SEVERITIES", "TOO_MANY", "Alert", "AlertRules", "Level", "Seen", "level_of"]

CATEGORIES: Final = ("sensitive_data", "dangerous_commands", "prompt_manipulation")
SEVERITIES: Final = ("low", "medium", "high")
TOO_MANY: Final = "too-many-alerts"
"""The rule of the alert that stands for all that are more than a user may cause in a minute."""

Level = Literal["suspicious", "dangerous"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRules:
    """Which findings become alerts.

    Args:
        min_severity: findings below it become none.
        dedup_s: for so long findings of one rule, agent and session are one alert.
        per_minute: how many alerts one user may cause in a minute; further ones are one together.
        keep_s: alerts older than this go.
        max_alerts: beyond it the oldest go, acknowledged ones first.
        sinks: who is told of alerts.

    """

    min_severity: str
    dedup_s: float
    per_minute: int
    keep_s: float
    max_alerts: int
    sinks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A finding, as whoever makes alerts of it needs it.

    Args:
        id: of the finding; they are seen in its order.
        action: what was done about it: allow, modify or block.
        told: whether sinks are to hear of it.

    """

    id: int
    event: int
    uid: int
    agent: str
    session: str
    rule: str
    category: str
    severity: str
    confidence: float
    direction: str
    sample: str
    trace: str | None
    span: str | None
    action: str = "allow"
    told: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert as it is stored.

    Args:
        sample: where it was found, with what was found masked.
        event: the first event that it was found in, while that is kept.
        action: the most that was done about one of them: allow, modify or block.
        count: how many findings it stands for.

    """

    id: int
    uid: int
    agent: str
    session: str
    rule: str
    category: str
    severity: str
    confidence: float
    direction: str
    sample: str
    event: int
    trace: str | None
    span: str | None
    action: str
    first_us: int
    last_us: int
    count: int
    state: str
    by_uid: int | None
    acknowledged_us: int | None
    note: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with the words of OpenTelemetry's proposal for guardrails beside ours."""
        found: dict[str, Any] = {name: getattr(self, name) for name in _AS_THEY_ARE}
        found["level"] = level_of(self.severity)
        found["verdict"] = _VERDICTS[found["level"]]
        found["first"], found["last"] = _time(self.first_us), _time(self.last_us)
        found["acknowledged"] = None
        if self.acknowledged_us is not None:
            found["acknowledged"] = {"by_uid": self.by_uid, "time": _time(self.acknowledged_us), "note": self.note}
        return found


_AS_THEY_ARE: Final = (
    *("id", "state", "rule", "category", "severity", "confidence", "direction", "action", "agent", "session", "uid"),
    *("count", "sample", "event", "trace", "span"),
)
_VERDICTS: Final[Mapping[str, str]] = {"suspicious": "warn", "dangerous": "deny"}


def level_of(severity: str) -> Level:
    """The alert level of a severity."""
    return "dangerous" if severity == "high" else "suspicious"


def _time(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1_000_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
