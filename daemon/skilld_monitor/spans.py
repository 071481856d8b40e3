"""Spans: what begins, ends, and may fail in between. One record each, when it has ended."""

from __future__ import annotations

import time

from skilld_monitor.context import Who, current_who
from skilld_monitor.monitoring import active
from skilld_monitor.records import Record
from skilld_monitor.trace import Place, child, enter, leave
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


class Running:
    """A span under way. `end` reports it, the first time that it is called.

    Args:
        data: what is known of it; changed by whoever runs it until it ends.
        place: where it is in its trace; below the span that is open here otherwise.

    `cost_ns` is what watching it has taken so far; see `begin`.
    """

    __slots__ = ("_began_ns", "_ended", "_wall_us", "channel", "cost_ns", "data", "name", "place", "who")

    def __init__(
        self, name: str, channel: str, data: dict[str, object] | None = None, place: Place | None = None
    ) -> None:
        entered_ns = time.perf_counter_ns()
        self.name = name
        self.channel = channel
        self.data: dict[str, object] = {} if data is None else data
        self.place: Place = child() if place is None else place
        self.who: Who = current_who()  # of where it begins: its end may be anywhere, such as where it is collected
        self._wall_us = time.time_ns() // 1000
        self._ended = False
        self.begin(entered_ns)

    def begin(self, entered_ns: int) -> None:
        """It begins now; what was done since then, by `perf_counter_ns`, was watching and not the call."""
        self._began_ns = time.perf_counter_ns()
        self.cost_ns = self._began_ns - entered_ns

    @property
    def elapsed_ms(self) -> float:
        return (time.perf_counter_ns() - self._began_ns) / 1_000_000

    def learn(self, facts: Mapping[str, object]) -> None:
        """Add what is not known of it yet; once it has ended, nothing any more."""
        if not self._ended:
            for name, value in facts.items():
                self.data.setdefault(name, value)

    def end(self, error: BaseException | None = None, status: str | None = None) -> None:
        """It has ended; with an error it failed, or was cancelled. An `error.type` that is known already is kept."""
        if self._ended:
            return
        self._ended = True
        ending_ns = time.perf_counter_ns()
        if error is not None:
            status = "cancelled" if is_cancellation(error) else "error"
            self.data.setdefault("error.type", type(error).__name__)
        level = "ERROR" if status == "error" else "INFO"
        on = active()
        if on is not None:
            on.report(
                Record(
                    self.name[:200],
                    self.data,
                    channel=self.channel,
                    level=level,
                    place=self.place,
                    time_us=self._wall_us,
                    duration_ms=(ending_ns - self._began_ns) / 1_000_000,
                    status=status or "ok",
                    who=self.who,
                )
            )
            on.costs.add(self.cost_ns + time.perf_counter_ns() - ending_ns)


class Span:
    """A part of the program, as a context manager for `with` and `async with`; spans and events inside are its own.

    Args:
        name: of the span.
        attributes: anything; more may be put into `attributes` until it ends.

    """

    def __init__(self, name: str, attributes: dict[str, object] | None = None, channel: str = "SYSTEM") -> None:
        self.name = str(plain(name))
        self.attributes: dict[str, object] = {**attributes} if isinstance(attributes, dict) else {}
        self._channel = channel
        self._running: Running | None = None
        self._token: Token[Place | None] | None = None

    @property
    def trace_id(self) -> str | None:
        return None if self._running is None else self._running.place.trace

    @property
    def span_id(self) -> str | None:
        return None if self._running is None else self._running.place.span

    def __enter__(self) -> Span:
        self._running = Running(self.name, self._channel)
        self._token = enter(self._running.place)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            leave(self._token, None if self._running is None else self._running.place)
        if self._running is not None:
            self._running.who = self._running.who.or_else(current_who())  # a request learns whose it is while it runs
            self._running.data = plain(self.attributes)  # type: ignore[assignment]  # a dict stays a dict
            on = active()
            if error is not None and on is not None and "result" in on.settings.capture and not is_cancellation(error):
                self._running.data["error.message"] = str(plain(error))
            self._running.end(error)

    async def __aenter__(self) -> Span:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)
