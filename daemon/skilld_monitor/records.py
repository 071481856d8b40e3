"""What is reported: one record per event, and one per span when it ends. How it looks on the wire."""

from __future__ import annotations

import json
import time

from skilld_monitor.context import Who, current_who
from skilld_monitor.trace import Place, current
from skilld_monitor.values import plain

__all__ = ["LEVELS", "MAX_RECORD_BYTES", "Record", "event", "level_of"]

LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
MAX_RECORD_BYTES = 64 << 10
_OVERHEAD_BYTES = 200

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def level_of(text: object) -> str:
    """A level's name, whatever the case; INFO for what is none. `warn` is a warning, `SECURITY_ALERT` critical."""
    name = str(text).upper()
    name = {"WARN": "WARNING", "FATAL": "CRITICAL", "SECURITY_ALERT": "CRITICAL"}.get(name, name)
    return name if name in LEVELS else "INFO"


class Record:
    """One event, or one span that has ended.

    Args:
        time_us: when it happened, or when the span began; microseconds since 1970.
        duration_ms: of a span; None for an event.
        status: of a span: ok, error or cancelled.
        data: plain values only. What the context adds (`skilld_monitor.context.facts`) is put in.
        who: whose it is; what holds here otherwise. It gives `session`, `user`, `tags` and `agent`.

    `masked` are the ids of rules by which something in it was made unreadable before it left the program.
    """

    __slots__ = (
        *("agent", "channel", "data", "duration_ms", "level", "masked", "name", "place", "seq", "session", "size"),
        *("status", "tags", "time_us", "user"),
    )

    def __init__(
        self,
        name: str,
        data: object,
        *,
        channel: str = "SYSTEM",
        level: str = "INFO",
        place: Place | None = None,
        time_us: int = 0,
        duration_ms: float | None = None,
        status: str | None = None,
        who: Who | None = None,
    ) -> None:
        who = current_who() if who is None else who
        self.seq = 0
        self.size = 0  # in the queue, bytes of memory, roughly
        self.name = name
        self.data = data if who.facts is None or not isinstance(data, dict) else {**who.facts, **data}
        self.session = who.session
        self.user = who.user
        self.tags = who.tags
        self.agent = who.agent
        self.masked: tuple[str, ...] = ()
        self.channel = channel
        self.level = level
        self.place = place
        self.time_us = time_us or time.time_ns() // 1000
        self.duration_ms = duration_ms
        self.status = status

    def to_wire(self) -> bytes:
        """As JSON in UTF-8, at most `MAX_RECORD_BYTES` long: what is larger goes without its data, and says so."""
        raw = self._encoded(self.data)
        if len(raw) > MAX_RECORD_BYTES:
            raw = self._encoded({"skilld.truncated_bytes": len(raw)})
        return raw

    def _encoded(self, data: object) -> bytes:
        found: dict[str, object] = {
            "seq": self.seq,
            "time_us": self.time_us,
            "name": self.name,
            "channel": self.channel,
            "level": self.level,
        }
        if self.place is not None:
            found["trace"] = self.place.trace
            if self.place.span:
                found["span"] = self.place.span
            if self.place.parent is not None:
                found["parent"] = self.place.parent
        if self.duration_ms is not None:
            found["duration_ms"] = round(self.duration_ms, 3)
            found["status"] = self.status
        for name, value in (("session", self.session), ("user", self.user), ("agent", self.agent)):
            if value is not None:
                found[name] = value
        if self.tags:
            found["tags"] = self.tags
        if self.masked:
            found["masked"] = self.masked
        found["data"] = data
        # A lone surrogate is text in Python and in no file: it becomes a question mark.
        return _encode(found).encode("utf-8", "replace")


def event(name: str, data: object, channel: str, level: str, place: Place | None = None) -> Record:
    """An event of now, with a copy of its data, in the span that is open here unless another is named."""
    return Record(
        str(name)[:200],
        plain({} if data is None else data),
        channel=str(channel)[:64] or "SYSTEM",
        level=level_of(level),
        place=current() if place is None else place,
    )
