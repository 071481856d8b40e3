"""What a server may send without being asked, and what is known of a connection from outside of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from skill_actors.mcp.errors import ServerFailed

__all__ = ["Screen", "Signals"]

_BURST: Final = 2_000.0  # messages
_EACH_S: Final = 200.0  # messages a second that are always taken
_MAX_GARBAGE: Final = 100  # lines that are no message: programs print things, and floods are another matter


@dataclass(slots=True)
class Signals:
    """What the transport of a connection tells of it.

    Args:
        changed: the server says that its tools are others now.
        why: it cannot be used any more, since; set with `ended`.
        problem: the last answer over HTTP that was none, such as "HTTP 503".
        rest_s: for how many seconds the server has asked to be left alone, then.
        hidden: texts that nobody may be shown of what it says: the server's own secrets.

    """

    changed: bool = False
    why: str = ""
    ended: trio.Event = field(default_factory=trio.Event)
    problem: str = ""
    rest_s: float = 0.0
    hidden: Sequence[str] = ()

    def end(self, why: str) -> None:
        """It cannot be used any more. The first reason is kept; "" is that nobody needs it."""
        if not self.ended.is_set():
            self.why = why
            self.ended.set()


class Screen:
    """Counts what a server sends, so that one that floods us takes no time from others.

    Args:
        clock: in seconds.

    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left = _BURST
        self._at = clock()
        self._garbage = 0

    def count(self) -> None:
        """One more message. Raises ServerFailed if there are too many."""
        now = self._clock()
        self._left = min(_BURST, self._left + (now - self._at) * _EACH_S) - 1
        self._at = now
        if self._left < 0:
            raise ServerFailed(f"it sends more than {_EACH_S:g} messages a second")

    def count_garbage(self) -> None:
        """One more line that is no message. Raises ServerFailed if there are too many."""
        self.count()
        self._garbage += 1
        if self._garbage > _MAX_GARBAGE:
            raise ServerFailed(f"it has written {self._garbage} lines that are no messages of the protocol")
