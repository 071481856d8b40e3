"""Spans: what begins, ends, and may fail in between. One record each, when it has ended."""

from __future__ import annotations

import time

from skilld_monitor.context import MAX_NAME_CHARS, WithBlock, current_who
from skilld_monitor.monitoring import active
from skilld_monitor.records import Record
from skilld_monitor.trace import Place, child, enter, leave, own
from skilld_monitor.values import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextvars import Token
    from types import TracebackType

__all__ = ["Running", "Span", "is_cancellation"]

_CANCELLATIONS = ("CancelledError", "Cancelled", "GeneratorExit")


def is_cancellation(error: BaseException) -> bool:
    """Whether it only says that nobody wants the result any more, in asyncio's, trio's or a generator's words."""
    return type(error).__name__ in _CANCELLATIONS and not isinstance(error, Exception)


class Running(Record):
    """A span under way. `end` reports it, the first time that it is called.

    Args:
        data: what is known of it; changed by whoever runs it until it ends.
        place: where it is in its trace; below the span that is open here otherwise.
        entered_ns: by `perf_counter_ns`; what was done since then was watching and not what is watched. Now otherwise.

    It is whose it is where it begins: its end may be anywhere, such as where it is collected. `cost_ns` is what
    watching it has taken so far.
    """

    __slots__ = ("_began_ns", "cost_ns")
    data: dict[str, object]
    place: Place

    def __init__(
        self,
        name: str,
        channel: str,
        data: dict[str, object] | None = None,
        place: Place | None = None,
        entered_ns: int = 0,
    ) -> None:
        entered_ns = entered_ns or time.perf_counter_ns()
        super().__init__(name, {} if data is None else data, channel=channel, place=child() if place is None else place)
        self._began_ns = began_ns = time.perf_counter_ns()
        self.cost_ns = began_ns - entered_ns

    @property
    def elapsed_ms(self) -> float:
        return (time.perf_counter_ns() - self._began_ns) / 1_000_000

    def learn(self, facts: Mapping[str, object]) -> None:
        """Add what is not known of it yet; once it has ended, nothing any more."""
        if self.duration_ms is None:
            for name, value in facts.items():
                self.data.setdefault(name, value)

    def end(self, error: BaseException | None = None, status: str | None = None) -> None:
        """It has ended; with an error it failed, or was cancelled. An `error.type` that is known already is kept."""
        if self.duration_ms is not None:
            return
        ending_ns = time.perf_counter_ns()
        self.duration_ms = (ending_ns - self._began_ns) / 1_000_000
        if error is not None:
            status = "cancelled" if is_cancellation(error) else "error"
            self.data.setdefault("error.type", type(error).__name__)
        if status == "error":
            self.level = "ERROR"
        self.status = status or "ok"
        if len(self.name) > MAX_NAME_CHARS:
            self.name = self.name[:MAX_NAME_CHARS]
        on = active()
        if on is not None:
            on.report(self)
            on.costs.add(self.cost_ns + time.perf_counter_ns() - ending_ns)


class Span(WithBlock):
    """A part of the program, as a context manager for `with` and `async with`; spans and events inside are its own.

    It may be entered again before it is left, inside of itself and in other threads and tasks: each time is a span of
    its own. `trace_id` and `span_id` are those of the latest.

    Args:
        name: of the span.
        attributes: anything; more may be put into `attributes` until it ends.

    """

    def __init__(self, name: str, attributes: dict[str, object] | None = None, channel: str = "SYSTEM") -> None:
        self.name = str(plain(name))
        self.attributes: dict[str, object] = {**attributes} if isinstance(attributes, dict) else {}
        self._channel = channel
        self._running: Running | None = None
        self._open: list[tuple[Running, Token[Place | None]]] = []

    @property
    def trace_id(self) -> str | None:
        return None if self._running is None else self._running.place.trace

    @property
    def span_id(self) -> str | None:
        return None if self._running is None else self._running.place.span

    def __enter__(self) -> Span:
        running = self._running = Running(self.name, self._channel)
        self._open.append((running, enter(running.place)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        found = self._take()
        if found is not None:
            running, token = found
            leave(token, running.place)
            running.who = running.who.or_else(current_who())  # a request learns whose it is while it runs
            said = plain(self.attributes)
            running.data = said if type(said) is dict else {}  # the program may have put anything there
            on = active()
            if error is not None and on is not None and "result" in on.settings.capture and not is_cancellation(error):
                running.data["error.message"] = str(plain(error))
            running.end(error)

    def _take(self) -> tuple[Running, Token[Place | None]] | None:
        """The one that is left now: the only one, else the innermost that is open here, else the latest."""
        entered = self._open
        try:
            if len(entered) == 1:  # no other can come before it, in whichever thread
                return entered.pop(0)
            place = own()
            while place is not None:
                for one in entered[::-1]:
                    if one[0].place is place:
                        entered.remove(one)
                        return one
                place = place.above
            return entered.pop()
        except (IndexError, ValueError):  # it was never entered
            return None
