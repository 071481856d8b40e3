"""What is reported: one record per event, and one per span when it ends. How it looks on the wire."""

from __future__ import annotations

import json
import time

from skilld_monitor.context import MAX_NAME_CHARS, MAX_TAG_CHARS, NOBODY, Who, current_who
from skilld_monitor.trace import Place, current
from skilld_monitor.values import plain

__all__ = ["LEVELS", "MAX_RECORD_BYTES", "Record", "event", "level_of"]

LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
MAX_RECORD_BYTES = 64 << 10
_OVERHEAD_BYTES = 200

# Plain values have no circles. One that somebody makes all the same is a RecursionError.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False).encode


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
        *("channel", "data", "duration_ms", "level", "masked", "name", "place", "seq", "size", "status"),
        *("time_us", "who"),
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
        self.seq = 0
        self.size = 0  # in the queue, bytes of memory, roughly
        self.name = name
        self.data = data
        self.who: Who = current_who() if who is None else who
        self.masked: tuple[str, ...] = ()
        self.channel = channel
        self.level = level
        self.place = place
        self.time_us = time_us or time.time_ns() // 1000
        self.duration_ms = duration_ms
        self.status = status

    @property
    def session(self) -> str | None:
        return self.who.session

    @property
    def user(self) -> str | None:
        return self.who.user

    @property
    def tags(self) -> tuple[str, ...]:
        return self.who.tags

    @property
    def agent(self) -> str | None:
        return self.who.agent

    def complete(self) -> None:
        """Put what the context adds into the data. Called once, by who sends it."""
        if self.who.facts is not None and isinstance(self.data, dict):
            self.data = {**self.who.facts, **self.data}

    def to_wire(self) -> bytes:
        """As JSON in UTF-8, at most `MAX_RECORD_BYTES` long: what is larger goes without the longest of its data, which
        is content, and says so."""
        raw = self._encoded(self.data)
        if len(raw) > MAX_RECORD_BYTES:
            raw = self._cut(len(raw))
        return raw

    def _cut(self, size: int) -> bytes:
        note: dict[str, object] = {"skilld.truncated_bytes": size}
        if isinstance(self.data, dict):
            lengths = {name: len(_encode(value).encode("utf-8", "replace")) for name, value in self.data.items()}
            for longest in sorted(lengths, key=lambda name: lengths[name], reverse=True):
                size -= lengths.pop(longest)
                if size > MAX_RECORD_BYTES - _OVERHEAD_BYTES:
                    continue
                raw = self._encoded({name: self.data[name] for name in lengths} | note)
                if len(raw) <= MAX_RECORD_BYTES:
                    return raw
        return self._encoded(note)

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
        if self.who is not NOBODY:
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
        str(name)[:MAX_NAME_CHARS],
        plain({} if data is None else data),
        channel=str(channel)[:MAX_TAG_CHARS] or "SYSTEM",
        level=level_of(level),
        place=current() if place is None else place,
    )
