"""What is open in one piece of work that runs in steps, such as a streamed answer: entered for each, left in between.

Between its steps other work runs in the same thread; nothing of this one's may be open then, and what this one opened
itself must be open again at its next step. A copied context would do that too, but would hide from the program the
variables of its own.
"""

from __future__ import annotations

from contextlib import suppress

from skilld_monitor.context import Who, held, hold, let_go
from skilld_monitor.trace import Place, enter, leave, own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from contextvars import Token
    from types import TracebackType
    from typing import Any

__all__ = ["Frame", "stepped"]


class Frame:
    """A place in a trace, and whose the events there are. A context manager for each step.

    It may be entered where it is entered already, in the same task or another, as where a stream is closed by whoever
    watches over its reader.
    """

    __slots__ = ("_entered", "place", "who")

    def __init__(self, place: Place) -> None:
        self.place: Place | None = place
        self.who: Who = held()
        self._entered: list[tuple[Token[Who], Token[Place | None] | None]] = []

    def __enter__(self) -> Frame:
        self._entered.append((hold(self.who), None if self.place is None else enter(self.place)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not what others have open inside it: that may be over by the next step.
        self.place, self.who = own(), held()
        let_go(self._left())

    def _left(self) -> Token[Who]:
        """Leave what was entered here; the latest that was entered anywhere, if none was."""
        entered = self._entered[::-1]
        found = next((one for one in entered if one[1] is None or leave(one[1])), entered[0])
        with suppress(ValueError):  # another thread that found none of its own has taken it
            self._entered.remove(found)
        return found[0]


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
