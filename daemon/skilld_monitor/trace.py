"""Where in a trace the program is: kept per thread and per task by contextvars, so that none sees another's."""

from __future__ import annotations

import os
from contextlib import suppress
from contextvars import ContextVar, Token

__all__ = ["Place", "TraceContext", "child", "current", "enter", "leave", "new_span_id", "new_trace_id"]


class Place:
    """One span of one trace: 32 and 16 hexadecimal digits, its parent's 16 or None."""

    __slots__ = ("parent", "span", "trace")

    def __init__(self, trace: str, span: str, parent: str | None = None) -> None:
        self.trace = trace
        self.span = span
        self.parent = parent


_current: ContextVar[Place | None] = ContextVar("skilld_monitor_place", default=None)


def new_trace_id() -> str:
    """32 hexadecimal digits, never all zero."""
    return os.urandom(16).hex()


def new_span_id() -> str:
    """16 hexadecimal digits."""
    return os.urandom(8).hex()


def current() -> Place | None:
    """The span that is open here, if any."""
    return _current.get()


def child() -> Place:
    """A new span below the one that is open here, or the first of a new trace."""
    above = _current.get()
    if above is None:
        return Place(new_trace_id(), new_span_id())
    return Place(above.trace, new_span_id(), above.span)


def enter(place: Place) -> Token[Place | None]:
    """Make it the open span of this context."""
    return _current.set(place)


def leave(token: Token[Place | None]) -> None:
    """Go back to what was open before. In another context than `enter` was called in, nothing is there to go back."""
    with suppress(ValueError):
        _current.reset(token)


class TraceContext:
    """The trace of this thread or task, for those who open and close spans by hand, and across processes."""

    @staticmethod
    def initialize_trace(agent_id: str | None = None) -> str:
        """Begin a new trace here; its id. The agent is the one that `enable_monitoring` named: the argument is kept
        for programs that pass it."""
        place = Place(new_trace_id(), new_span_id())
        _current.set(place)
        return place.trace

    @staticmethod
    def start_span(name: str) -> dict[str, str | None]:
        """Open a span below the open one; `end_span` closes it. For a span that is reported, use `Span`."""
        place = child()
        _current.set(_Opened(place, _current.get()))
        return {"trace_id": place.trace, "span_id": place.span, "parent_span_id": place.parent, "name": name}

    @staticmethod
    def end_span() -> str | None:
        """Close what `start_span` opened last; its id, None if there is none."""
        place = _current.get()
        if not isinstance(place, _Opened):
            return None
        _current.set(place.before)
        return place.span

    @staticmethod
    def get_current_context() -> dict[str, str | None]:
        """`trace_id`, `span_id` and `parent_span_id` of the open span; None each if none is open."""
        place = _current.get()
        if place is None:
            return {"trace_id": None, "span_id": None, "parent_span_id": None}
        return {"trace_id": place.trace, "span_id": place.span, "parent_span_id": place.parent}

    @staticmethod
    def traceparent() -> str | None:
        """The open span as a W3C `traceparent` header; None if none is open."""
        place = _current.get()
        return None if place is None else f"00-{place.trace}-{place.span}-01"

    @staticmethod
    def continue_from(traceparent: str) -> bool:
        """Go on in the trace of a `traceparent` header that came with a request. False if the header is none."""
        parts = traceparent.strip().lower().split("-")
        if (
            len(parts) < 4
            or len(parts[0]) != 2
            or parts[0] == "ff"
            or not (_is_id(parts[1], 32) and _is_id(parts[2], 16))
        ):
            return False
        _current.set(Place(parts[1], parts[2]))
        return True

    @staticmethod
    def reset() -> None:
        """Forget the trace of this context."""
        _current.set(None)


class _Opened(Place):
    """A span that was opened by hand, and what was open before it."""

    __slots__ = ("before",)

    def __init__(self, place: Place, before: Place | None) -> None:
        super().__init__(place.trace, place.span, place.parent)
        self.before = before


def _is_id(text: str, digits: int) -> bool:
    return len(text) == digits and set(text) <= set("0123456789abcdef") and set(text) != {"0"}
