"""What is open in one piece of work that runs in steps, such as a streamed answer: entered for each, left in between.

Between its steps other work runs in the same thread; nothing of this one's may be open then, and what this one opened
itself must be open again at its next step. A copied context would do that too, but would hide from the program the
variables of its own.
"""

from __future__ import annotations

from skilld_monitor.context import Scope, Who, current_who
from skilld_monitor.trace import Place, current, enter, leave

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from contextvars import Token
    from types import TracebackType
    from typing import Any

__all__ = ["Frame", "stepped"]


class Frame:
    """A place in a trace, and whose the events there are. A context manager for each step, one at a time."""

    __slots__ = ("_scope", "_token", "place", "who")

    def __init__(self, place: Place) -> None:
        self.place: Place | None = place
        self.who: Who = current_who()
        self._token: Token[Place | None] | None = None
        self._scope: Scope | None = None

    def __enter__(self) -> Frame:
        self._scope = Scope(lambda _who: self.who)
        self._scope.__enter__()
        self._token = None if self.place is None else enter(self.place)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.place, self.who = current(), current_who()
        if self._token is not None:
            leave(self._token)
        if self._scope is not None:
            self._scope.__exit__(kind, error, trace)


def stepped(inner: Generator[Any, Any, Any], frame: Frame) -> Generator[Any, Any, Any]:
    """The generator, in the frame at each of its steps: what it is sent, what is thrown into it, its end."""
    step, given = inner.send, None
    while True:
        try:
            with frame:
                item = step(given)
        except StopIteration as stop:
            return stop.value
        try:
            given, step = (yield item), inner.send
        except GeneratorExit:
            with frame:
                inner.close()
            raise
        except BaseException as error:
            given, step = error, inner.throw
