"""What the clients say about events that other programs reported."""

from __future__ import annotations

from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

from skilld.client import wire
from skilld.client.wire import REQUEST_TIMEOUT_S, Call, Json

__all__ = ["AsyncMonitorCalls", "MonitorCalls"]

T = TypeVar("T")

_EVENTS: Final = "/v1/monitor/events"
_QUARANTINE: Final = "/v1/monitor/quarantine"
_SESSIONS: Final = "/v1/monitor/sessions"
_SINKS: Final = "/v1/monitor/sinks"
_SOURCES: Final = "/v1/monitor/sources"
_STATS: Final = "/v1/monitor/stats"
_STORE: Final = "/v1/monitor/store"
_LONG_S: Final = 600.0  # to rewrite a large file


class MonitorCalls:
    """A part of `Client`, which brings the connection."""

    def _do(self, call: Call[T]) -> T:
        raise NotImplementedError

    def monitor_events(self, *, wait_s: float = 0.0, **wanted: Any) -> list[Json]:
        """A page of what programs reported, the newest first; the oldest first with `after`.

        Args:
            wait_s: with `after`, wait so long for the first one.
            wanted: agent, name, channel, level, level_is, trace, session, user, tag, model, run, pid, status,
                min_duration_ms, text, since, until, after, before, limit.

        """
        return list(self._do(_events(wait_s, wanted))["items"])

    def monitor_stats(self, **wanted: Any) -> Json:
        """What the reported events add up to, and what models used.

        Args:
            wanted: agent, session, since, until.

        """
        return self._do(_asked(_STATS, wanted))

    def monitor_sessions(self, **wanted: Any) -> list[Json]:
        """The conversations that programs named, the latest first.

        Args:
            wanted: agent, session, since, until, limit.

        """
        return list(self._do(_asked(_SESSIONS, wanted))["items"])

    def monitor_trace(self, id: str) -> Json:
        """The events of a trace, by its id, the beginning of it, or the number of one of its events."""
        return self._do(_trace(id))

    def monitor_sinks(self) -> list[Json]:
        """Where events go besides the store, and how far each place is behind."""
        return list(self._do(wire.get(_SINKS))["items"])

    def monitor_sources(self) -> list[Json]:
        """The programs that report now: agent and user, what came of each, what waits."""
        return list(self._do(wire.get(_SOURCES))["items"])

    def monitor_quarantine(self) -> list[Json]:
        """Which events could not be kept, and why, the newest first."""
        return list(self._do(wire.get(_QUARANTINE))["items"])

    def monitor_store(self) -> Json:
        """Where events are kept, how large that is, and how many there are."""
        return self._do(wire.get(_STORE))

    def monitor_cleanup(self, older_than_days: float) -> int:
        """Remove events that are older; how many."""
        return int(self._do(_cleanup(older_than_days))["removed"])

    def monitor_optimize(self) -> Json:
        """Make the file of events as small and quick as it can be: its bytes before and after."""
        return self._do(_optimize())


class AsyncMonitorCalls:
    """A part of `AsyncClient`, which brings the connection. The same calls as `MonitorCalls`, to be awaited."""

    async def _do(self, call: Call[T]) -> T:
        raise NotImplementedError

    async def monitor_events(self, *, wait_s: float = 0.0, **wanted: Any) -> list[Json]:
        return list((await self._do(_events(wait_s, wanted)))["items"])

    async def monitor_stats(self, **wanted: Any) -> Json:
        return await self._do(_asked(_STATS, wanted))

    async def monitor_sessions(self, **wanted: Any) -> list[Json]:
        return list((await self._do(_asked(_SESSIONS, wanted)))["items"])

    async def monitor_trace(self, id: str) -> Json:
        return await self._do(_trace(id))

    async def monitor_sinks(self) -> list[Json]:
        return list((await self._do(wire.get(_SINKS)))["items"])

    async def monitor_sources(self) -> list[Json]:
        return list((await self._do(wire.get(_SOURCES)))["items"])

    async def monitor_quarantine(self) -> list[Json]:
        return list((await self._do(wire.get(_QUARANTINE)))["items"])

    async def monitor_store(self) -> Json:
        return await self._do(wire.get(_STORE))

    async def monitor_cleanup(self, older_than_days: float) -> int:
        return int((await self._do(_cleanup(older_than_days)))["removed"])

    async def monitor_optimize(self) -> Json:
        return await self._do(_optimize())


def _events(wait_s: float, wanted: dict[str, Any]) -> Call[Json]:
    return _asked(_EVENTS, {**wanted, "wait": wait_s or None}, wait_s)


def _asked(path: str, wanted: dict[str, Any], wait_s: float = 0.0) -> Call[Json]:
    asked = {name: value for name, value in wanted.items() if value is not None}
    return wire.get(f"{path}?{urlencode(asked)}", timeout_s=REQUEST_TIMEOUT_S + wait_s)


def _trace(id: str) -> Call[Json]:
    return wire.get(f"/v1/monitor/traces/{quote(id, safe='')}")


def _cleanup(older_than_days: float) -> Call[Json]:
    return wire.write("POST", "/v1/monitor/cleanup", {"older_than_days": older_than_days}).within(_LONG_S)


def _optimize() -> Call[Json]:
    return wire.write("POST", "/v1/monitor/optimize").within(_LONG_S)
