"""Where in a trace the program is: kept per thread and per task by contextvars, so that none sees another's.

Between processes it goes in the headers of W3C's Trace Context: `traceparent` says where, `tracestate` is what others
want handed on, and is.
"""

from __future__ import annotations

import os
from _random import Random  # what `random` is made of, without the rest of it
from contextlib import suppress
from contextvars import ContextVar, Token

from skilld_monitor.values import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, MutableMapping
    from typing import Any, Optional, Union

    from skilld_monitor.spans import Running

    Ask = Callable[[Optional["Place"]], Optional["Place"]]
    Headers = Union[Mapping[Any, Any], Iterable[tuple[Any, Any]]]

__all__ = [
    "Place",
    "TraceContext",
    "child",
    "current",
    "enter",
    "follow",
    "leave",
    "new_span_id",
    "new_trace_id",
    "own",
    "place_from",
]

_HEX = frozenset("0123456789abcdef")
_REMEMBERED = 64  # spans above one that are known; more would grow where each task begins the next one
_MAX_STATE_CHARS = 512  # as much as has to be handed on


class Place:
    """One span of one trace.

    Args:
        trace: 32 hexadecimal digits.
        span: 16 of them; "" where a trace has begun and none of its spans has.
        parent: as `span`; None for none.
        above: the place that it was made in, as far as it is remembered.
        flags: two digits, of `traceparent`; handed on as they came.
        state: the `tracestate` that came; "" for none.

    """

    __slots__ = ("_depth", "above", "flags", "is_left", "parent", "span", "state", "trace")

    def __init__(
        self,
        trace: str,
        span: str,
        parent: str | None = None,
        *,
        above: Place | None = None,
        flags: str = "01",
        state: str = "",
    ) -> None:
        self.trace = trace
        self.span = span
        self.parent = parent
        self.flags = flags
        self.state = state
        self.is_left = False  # it ended while something else was open
        self._depth: int = 0 if above is None else above._depth + 1
        self.above = above if self._depth % _REMEMBERED else None


_current: ContextVar[Place | None] = ContextVar("skilld_monitor_place", default=None)
_followed: tuple[Ask, ...] = ()  # replaced as a whole


# Ids have to differ, and need not be secret. The system's own random bytes would let another thread run for each of
# them: beside one that is busy a span would begin 0.3 ms late. Many are made at once: what makes them is in none of the
# processor's caches where a span begins, and takes four times as long there.
_random = Random()
_MADE_AT_ONCE = 64
_span_ids: list[str] = []


def _seed() -> None:
    _random.seed(int.from_bytes(os.urandom(32), "big"))
    _span_ids.clear()


_seed()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_seed)  # else it would go on with the parent's


def new_trace_id() -> str:
    """32 hexadecimal digits, never all zero."""
    return new_span_id() + new_span_id()


def new_span_id() -> str:
    """16 hexadecimal digits, never all zero."""
    try:
        return _span_ids.pop()
    except IndexError:  # also where another thread took the last
        _span_ids.extend([f"{_random.getrandbits(64) or 1:016x}" for _ in range(_MADE_AT_ONCE)])
        return f"{_random.getrandbits(64) or 1:016x}"


def own() -> Place | None:
    """The span of ours that is open here, if any, whatever others have open inside it."""
    return _current.get()


def current() -> Place | None:
    """The span that is open here, if any: ours, or one inside it of somebody who is followed."""
    place = _current.get()
    for ask in _followed:
        try:
            place = ask(place)
        except Exception:  # of somebody else's library: without it the place is ours
            continue
    return place


def follow(ask: Ask) -> Callable[[], None]:
    """Let somebody else's spans be the open one too; call what is returned to end it.

    Args:
        ask: gets what is open as far as is known, and gives that back or what is open inside it.

    """
    global _followed
    _followed = (*_followed, ask)

    def end() -> None:
        global _followed
        _followed = tuple(each for each in _followed if each is not ask)

    return end


def child(above: Place | None = None) -> Place:
    """A new span below this one, else below the one that is open here, or the first of a new trace."""
    if above is None:
        above = current() if _followed else _current.get()
    if above is None:
        return Place(new_trace_id(), new_span_id())
    return Place(above.trace, new_span_id(), above.span or None, above=above, flags=above.flags, state=above.state)


def enter(place: Place) -> Token[Place | None]:
    """Make it the open span of this context."""
    return _current.set(place)


def leave(token: Token[Place | None], place: Place | None = None) -> bool:
    """Go back to what was open before; whether that was here. In another context than `enter` was called in, nothing is
    there to go back.

    Args:
        place: what was entered, if something else may be open by now, as where a generator is closed inside another
            span than it began in: that stays open, and does not go back to this place when it ends.

    """
    if place is not None and _current.get() is not place:
        place.is_left = True
        return True
    with suppress(ValueError, RuntimeError):  # the second if it was left already
        _current.reset(token)
        before = now = _current.get()
        while now is not None and now.is_left:
            now = now.above
        if now is not before:
            _current.set(now)
        return True
    return False


def place_from(headers: Headers) -> Place | None:
    """The place that the headers of a request name; None if they name none.

    Args:
        headers: a mapping or pairs, of text or bytes, in any case; also the environment of WSGI.

    """
    traceparent: str | None = None
    states: list[str] = []
    try:
        pairs = list(headers.items() if hasattr(headers, "items") else headers)
        is_environ = any(_text(key) == "REQUEST_METHOD" for key, _value in pairs)
        for key, value in pairs:
            name = _text(key).lower().replace("_", "-")
            if name.startswith("http-"):
                name = name[5:]
            elif is_environ:  # what has not come with the request is the process's own
                continue
            if name == "traceparent":
                if traceparent is not None:
                    return None  # two of them are none
                traceparent = _text(value)
            elif name == "tracestate":
                states.append(_text(value).strip())
    except Exception:  # no headers at all, or of a class that does as it likes
        return None
    return None if traceparent is None else _read(traceparent, ",".join(filter(None, states)))


class TraceContext:
    """The trace of this thread or task, for those who open and close spans by hand, and across processes."""

    @staticmethod
    def initialize_trace(agent_id: str | None = None) -> str:
        """Begin a new trace here; its id. With an agent, what is reported from here on is that one's."""
        place = Place(new_trace_id(), "")
        _current.set(place)
        if agent_id is not None:
            from skilld_monitor.context import set_agent

            set_agent(agent_id)
        return place.trace

    @staticmethod
    def start_span(name: str) -> dict[str, str | None]:
        """Open a span below the open one; `end_span` closes and reports it. `Span` cannot be left open."""
        from skilld_monitor.spans import Running

        named = str(plain(name))
        place = _Opened(Running(named, "SYSTEM"))
        _current.set(place)
        return {"trace_id": place.trace, "span_id": place.span, "parent_span_id": place.parent, "name": named}

    @staticmethod
    def end_span() -> str | None:
        """Close what `start_span` opened last; its id, None if there is none."""
        place = _current.get()
        if not isinstance(place, _Opened):
            return None
        _current.set(place.above)
        place.running.end()
        return place.span

    @staticmethod
    def get_current_context() -> dict[str, str | None]:
        """`trace_id`, `span_id` and `parent_span_id` of the open span, None each if none is open; and `agent_id`."""
        place = current() or Place("", "")
        return {
            "trace_id": place.trace or None,
            "span_id": place.span or None,
            "parent_span_id": place.parent,
            "agent_id": _agent(),
        }

    @staticmethod
    def get_parent_span_id(span_id: str | None = None) -> str | None:
        """The parent of the open span, or of one that it is in; None if it has none, or is none of these."""
        place = current()
        span_id = None if span_id is None else str(plain(span_id))
        while place is not None and span_id is not None and place.span != span_id:
            place = place.above
        return None if place is None else place.parent

    @staticmethod
    def traceparent() -> str | None:
        """The open span as a W3C `traceparent` header; None if none is open."""
        place = current()
        if place is None:
            return None
        return f"00-{place.trace}-{place.span or new_span_id()}-{place.flags}"

    @staticmethod
    def continue_from(traceparent: str, tracestate: str = "") -> bool:
        """Go on in the trace of a `traceparent` header that came with a request. False if the header is none."""
        place = _read(str(plain(traceparent)), str(plain(tracestate)))
        if place is not None:
            _current.set(place)
        return place is not None

    @staticmethod
    def extract(headers: Headers) -> bool:
        """As `continue_from`, with all headers of a request: see `place_from`. False if none of them is one."""
        place = place_from(headers)
        if place is not None:
            _current.set(place)
        return place is not None

    @staticmethod
    def inject(headers: MutableMapping[str, str] | None = None) -> MutableMapping[str, str]:
        """Put the open span into the headers of a request that is about to be sent; the headers, which stay as they
        are if none is open."""
        headers = {} if headers is None else headers
        place, traceparent = current(), TraceContext.traceparent()
        if place is not None and traceparent is not None:
            try:
                headers["traceparent"] = traceparent
                if place.state:
                    headers["tracestate"] = place.state
            except Exception as error:  # they cannot be added to
                _tell(f"a request goes without its trace: {type(error).__name__}: {error}")
        return headers

    @staticmethod
    def reset() -> None:
        """Forget the trace of this context."""
        _current.set(None)


class _Opened(Place):
    """A span that was opened by hand."""

    __slots__ = ("running",)

    def __init__(self, running: Running) -> None:
        place = running.place
        super().__init__(place.trace, place.span, place.parent, above=own(), flags=place.flags, state=place.state)
        self.running = running


def _tell(problem: str) -> None:
    from skilld_monitor.monitoring import active

    on = active()
    if on is not None:
        on.problem = problem


def _agent() -> str | None:
    """Whose events of here are."""
    from skilld_monitor.context import current_who
    from skilld_monitor.monitoring import active

    on = active()
    return current_who().agent or (None if on is None else on.settings.agent_id)


def _read(traceparent: str, tracestate: str) -> Place | None:
    """What the two headers say; None if the first is none. A state that nobody has to hand on is left out."""
    parts = traceparent.strip().split("-")
    if len(parts) < 4 or not _is_hex(parts[0], 2) or parts[0] == "ff" or (parts[0] == "00" and len(parts) > 4):
        return None
    trace, span, flags = parts[1:4]
    if not (_is_hex(trace, 32) and trace.strip("0") and _is_hex(span, 16) and span.strip("0") and _is_hex(flags, 2)):
        return None
    fits = len(tracestate) <= _MAX_STATE_CHARS and tracestate.isascii() and tracestate.isprintable()
    return Place(trace, span, flags=flags if parts[0] == "00" else "01", state=tracestate if fits else "")


def _is_hex(text: str, digits: int) -> bool:
    return len(text) == digits and set(text) <= _HEX


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
