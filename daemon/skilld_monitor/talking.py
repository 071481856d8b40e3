"""Events that a program reports itself."""

from __future__ import annotations

from skilld_monitor.monitoring import active
from skilld_monitor.records import LEVELS, event, level_of
from skilld_monitor.trace import Place, current, new_span_id, new_trace_id
from skilld_monitor.values import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["log_error", "log_event", "log_info", "log_warning", "time_us_of"]

_LAST_S = 253_402_300_800  # the year 10,000
_EXTRAS = ("event_category", "model", "performance", "security")


def log_event(
    event_type: str | None = None,
    data: object = None,
    channel: str | None = None,
    level: str = "info",
    *,
    name: str | None = None,
    attributes: Mapping[str, object] | None = None,
    span_id: str | None = None,
    trace_id: str | None = None,
    parent_span_id: str | None = None,
    timestamp: object = None,
    **more: object,
) -> dict[str, object]:
    """Report an event; what was reported. Does nothing while monitoring is off.

    Both forms of Cylestio Monitor are understood: `log_event("name", {...}, "CHANNEL", "level")`, and
    `log_event(name=..., attributes={...}, level=..., trace_id=..., ...)`.

    Args:
        event_type: the event's name.
        data: anything; see `skilld_monitor.values.plain` for what is kept of it.
        channel: SYSTEM if none is given.
        level: debug, info, warning, error or critical.
        name: stands for `event_type`.
        attributes: stands for `data`.
        span_id: the span that it belongs to; otherwise the one that is open here.
        trace_id: that span's trace.
        parent_span_id: that span's parent.
        timestamp: when it happened, a datetime (local unless it has a zone), ISO 8601, or seconds since 1970; now.
        more: `event_category`, `model`, `performance` and `security` go into the data; others are ignored.

    """
    try:
        return _log(
            event_type if name is None else name,
            data if attributes is None else dict(attributes),
            channel,
            level,
            (span_id, trace_id, parent_span_id),
            time_us_of(timestamp),
            more,
        )
    except Exception as error:  # of what was handed over: its text, its truth, its length may be anything
        on = active()
        if on is not None:
            if on.settings.strict:
                raise
            on.problem = f"an event could not be reported: {type(error).__name__}"
        return {}


def _log(
    name: object,
    content: object,
    channel: str | None,
    level: str,
    ids: tuple[object, object, object],
    time_us: int,
    more: dict[str, object],
) -> dict[str, object]:
    called = str(name)
    if channel is not None and level == "info" and channel in LEVELS:
        level, channel = channel, None  # the third argument is a level in the other form
    extras: dict[str, object] = {key: more[key] for key in _EXTRAS if more.get(key) is not None}
    place, foreign = _place(*ids)
    extras.update(foreign)
    if extras:
        content = {**(content if isinstance(content, dict) else {} if content is None else {"data": content}), **extras}
    on = active()
    if on is not None:
        record = event(called, content, channel or "SYSTEM", level, place)
        record.time_us = time_us or record.time_us
        on.report(record)
    kept = {} if content is None else content
    shown = {"name": called, "attributes": kept, "level": level_of(level), "channel": channel or "SYSTEM"}
    if place is not None:
        shown.update(trace_id=place.trace, span_id=place.span, parent_span_id=place.parent)
    return shown


def log_error(
    name: str,
    error: BaseException,
    attributes: Mapping[str, object] | None = None,
    trace_id: str | None = None,
    **more: object,
) -> dict[str, object]:
    """Report an exception, as `error.type` and `error.message`, at level ERROR. More arguments as in `log_event`."""
    facts = {"error.type": type(error).__name__, "error.message": plain(error)}
    given = more.pop("data", None) if attributes is None else attributes
    more["trace_id"] = trace_id
    return _at("ERROR", name, {**facts, **given} if isinstance(given, dict) else facts, more)


def log_info(name: str, attributes: Mapping[str, object] | None = None, **more: object) -> dict[str, object]:
    """Report an event at level INFO. More arguments as in `log_event`."""
    return _at("INFO", name, attributes, more)


def log_warning(name: str, attributes: Mapping[str, object] | None = None, **more: object) -> dict[str, object]:
    """Report an event at level WARNING. More arguments as in `log_event`."""
    return _at("WARNING", name, attributes, more)


def _at(level: str, name: str, attributes: Mapping[str, object] | None, more: dict[str, object]) -> dict[str, object]:
    given: dict[str, Any] = {"data": attributes, **more, "level": level}
    given.pop("event_type", None)  # which is what the name stands for
    return log_event(name, **given)


def time_us_of(value: object) -> int:
    """A time that a program names, in microseconds since 1970; 0 for none, or none that a calendar has."""
    if value is None:
        return 0
    try:
        if hasattr(value, "timestamp"):
            seconds = float(value.timestamp())
        elif isinstance(value, str):
            from datetime import datetime

            seconds = datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
        else:
            seconds = float(str(value))
        return int(seconds * 1_000_000) if 0 < seconds < _LAST_S else 0
    except Exception:  # of somebody's class; the event counts more than its time
        return 0


def _place(span_id: object, trace_id: object, parent_span_id: object) -> tuple[Place | None, dict[str, str]]:
    """The span that is meant; and those ids that are none for us, to go with the data."""
    here = current()
    if span_id is None and trace_id is None and parent_span_id is None:
        return here, {}
    given = {"span_id": span_id, "trace_id": trace_id, "parent_span_id": parent_span_id}
    known = {name: found for name, value in given.items() if (found := _hex_id(value)) is not None}
    foreign = {name: str(value)[:200] for name, value in given.items() if value is not None and name not in known}
    if not known:
        return here, foreign
    trace = known.get("trace_id") or (here.trace if here is not None else new_trace_id())
    return Place(trace, known.get("span_id") or new_span_id(), known.get("parent_span_id")), foreign


def _hex_id(value: object) -> str | None:
    """An id as we write it, also from a UUID with its dashes; None if it is none."""
    if value is None:
        return None
    text = str(value).replace("-", "").lower()
    return text if 0 < len(text) <= 32 and set(text) <= set("0123456789abcdef") else None
