"""What the clients say about events that other programs reported."""

from __future__ import annotations

from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from skilld.client import wire
from skilld.client.wire import REQUEST_TIMEOUT_S, Call, Json

__all__ = ["AsyncMonitorCalls", "MonitorCalls"]

T = TypeVar("T")

_EVENTS: Final = "/v1/monitor/events"
_STATS: Final = "/v1/monitor/stats"


class MonitorCalls:
    """A part of `Client`, which brings the connection."""

    def _do(self, call: Call[T]) -> T:
        raise NotImplementedError

    def monitor_events(self, *, wait_s: float = 0.0, **wanted: Any) -> list[Json]:
        """A page of what programs reported, the newest first; the oldest first with `after`.

        Args:
            wait_s: with `after`, wait so long for the first one.
            wanted: agent, name, channel, level, trace, text, since, until, after, before, limit.

        """
        return list(self._do(_events(wait_s, wanted))["items"])

    def monitor_stats(self) -> Json:
        """What the reported events add up to, by source, channel and level."""
        return self._do(wire.get(_STATS))


class AsyncMonitorCalls:
    """A part of `AsyncClient`, which brings the connection. The same calls as `MonitorCalls`, to be awaited."""

    async def _do(self, call: Call[T]) -> T:
        raise NotImplementedError

    async def monitor_events(self, *, wait_s: float = 0.0, **wanted: Any) -> list[Json]:
        return list((await self._do(_events(wait_s, wanted)))["items"])

    async def monitor_stats(self) -> Json:
        return await self._do(wire.get(_STATS))


def _events(wait_s: float, wanted: dict[str, Any]) -> Call[Json]:
    asked = {name: value for name, value in {**wanted, "wait": wait_s or None}.items() if value is not None}
    return wire.get(f"{_EVENTS}?{urlencode(asked)}", timeout_s=REQUEST_TIMEOUT_S + wait_s)
