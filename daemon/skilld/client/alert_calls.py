"""What the clients say about alerts, and the rules that they come of."""

from __future__ import annotations

from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from skilld.client import wire
from skilld.client.wire import REQUEST_TIMEOUT_S, Call, Json

__all__ = ["AlertCalls", "AsyncAlertCalls"]

T = TypeVar("T")

_ALERTS: Final = "/v1/monitor/alerts"
_RULES: Final = "/v1/monitor/rules"


class AlertCalls:
    """A part of `Client`, which brings the connection."""

    def _do(self, call: Call[T]) -> T:
        raise NotImplementedError

    def alerts(self, *, wait_s: float = 0.0, **wanted: Any) -> list[Json]:
        """A page of alerts, the newest first; the oldest first with `after`.

        Args:
            wait_s: with `after`, wait so long for the first one.
            wanted: state, severity, category, rule, agent, session, after, before, limit.

        """
        return list(self._do(_alerts(wait_s, wanted))["items"])

    def alert(self, id: int) -> Json:
        """One alert."""
        return self._do(wire.get(f"{_ALERTS}/{int(id)}"))

    def acknowledge_alert(self, id: int, note: str = "") -> Json:
        """Say that one has seen it; the alert as it is then."""
        return self._do(_acknowledge(id, note))

    def monitor_rules(self) -> Json:
        """The rules in force: `version`, `rules`, and `fault` where files of rules are not in force."""
        return self._do(wire.get(_RULES))


class AsyncAlertCalls:
    """A part of `AsyncClient`, which brings the connection. The same calls as `AlertCalls`, to be awaited."""

    async def _do(self, call: Call[T]) -> T:
        raise NotImplementedError

    async def alerts(self, *, wait_s: float = 0.0, **wanted: Any) -> list[Json]:
        return list((await self._do(_alerts(wait_s, wanted)))["items"])

    async def alert(self, id: int) -> Json:
        return await self._do(wire.get(f"{_ALERTS}/{int(id)}"))

    async def acknowledge_alert(self, id: int, note: str = "") -> Json:
        return await self._do(_acknowledge(id, note))

    async def monitor_rules(self) -> Json:
        return await self._do(wire.get(_RULES))


def _alerts(wait_s: float, wanted: dict[str, Any]) -> Call[Json]:
    asked = {name: value for name, value in {**wanted, "wait": wait_s or None}.items() if value is not None}
    return wire.get(f"{_ALERTS}?{urlencode(asked)}", timeout_s=REQUEST_TIMEOUT_S + wait_s)


def _acknowledge(id: int, note: str) -> Call[Json]:
    return wire.write("POST", f"{_ALERTS}/{int(id)}/ack", {"note": note})
