"""What the ways to put monitoring into a program report, for their tests."""

from __future__ import annotations

from typing import Any

import skilld_monitor
from monitor_kit import Collector

__all__ = ["TRACE", "Reported", "traceparent"]

JSON = dict[str, Any]
TRACE = "0af7651916cd43dd8448eb211c80319c"
traceparent = f"00-{TRACE}-b7ad6b7169203331-01"


class Reported:
    """Monitoring that is on, and what came of it."""

    def __init__(self, collector: Collector, **settings: Any) -> None:
        self._collector = collector
        self.made = skilld_monitor.enable_monitoring("shop", **settings)

    def all(self, **wanted: Any) -> list[JSON]:
        """What was reported so far, but for the beginning of monitoring itself; the oldest first."""
        assert self.made.flush(10)
        assert self.made.problem == ""
        return [event for event in self._collector.events(**wanted) if event["name"] != "monitoring_enabled"]

    def spans(self, channel: str | None = None) -> list[JSON]:
        found = [event for event in self.all() if event["status"] is not None]
        return [span for span in found if channel in (None, span["channel"])]

    def span(self, channel: str | None = None) -> JSON:
        """The only span."""
        (found,) = self.spans(channel)
        return found

    def events(self, name: str) -> list[JSON]:
        return [event for event in self.all() if event["name"] == name]

    def exchange(self) -> tuple[JSON, JSON, JSON]:
        """Start, finish and span of the only request."""
        start, finish = self.events("http_request_start"), self.events("http_request_finish")
        span = self.span("API")
        assert (len(start), len(finish)) == (1, 1)
        assert start[0]["span"] == finish[0]["span"] == span["span"]
        assert finish[0]["data"]["method"] == start[0]["data"]["method"] == span["data"]["http.request.method"]
        return start[0], finish[0], span
