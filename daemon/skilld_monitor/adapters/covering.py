"""Which watched call is under way here, for what else reports calls: it is one span, whoever looks at it.

An SDK's own tracing and other instrumentation begin their spans inside our call. Those of the same kind are this very
call once more; the first lends it its ids, so that what is below it in either trace is below it in both.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar, Token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from skilld_monitor.spans import Running

__all__ = ["Cover", "cover", "covering", "current_cover", "on_covering", "uncover"]


class Cover:
    """A call under way.

    Args:
        running: its span.
        kind: what it is: `llm`, `mcp`, `tool` or `agent`.
        owner: the object whose method makes it; None where nobody asks.

    """

    __slots__ = ("adopted", "is_shown", "kind", "owner", "running")

    def __init__(self, running: Running, kind: str, owner: object = None) -> None:
        self.running = running
        self.kind = kind
        self.owner = owner
        self.adopted = False  # whether its ids are those of somebody else's span
        self.is_shown = False  # to those who ask


_cover: ContextVar[Cover | None] = ContextVar("skilld_monitor_cover", default=None)
_asked: tuple[Callable[[Cover], None], ...] = ()


def on_covering(ask: Callable[[Cover], None]) -> Callable[[], None]:
    """Show each call that begins to `ask`, which never raises; what is returned takes that back."""
    global _asked
    _asked = (*_asked, ask)

    def forget() -> None:
        global _asked
        _asked = tuple(other for other in _asked if other is not ask)

    return forget


def current_cover() -> Cover | None:
    """The call that is under way in this thread or task."""
    return _cover.get()


def cover(made: Cover) -> Token[Cover | None]:
    """This call is under way from here on, until `uncover`. It may be covered more than once, as where it is made in
    one place and awaited in another."""
    if not made.is_shown:
        made.is_shown = True
        for ask in _asked:
            ask(made)
    return _cover.set(made)


def uncover(token: Token[Cover | None]) -> None:
    """In another context than `cover` was called in nothing is there to go back to."""
    try:
        _cover.reset(token)
    except ValueError:  # `suppress` would take several times as long as all of this
        return


@contextmanager
def covering(running: Running, kind: str) -> Iterator[None]:
    """Around what calls the SDK, `await` included."""
    token = cover(Cover(running, kind))
    try:
        yield
    finally:
        uncover(token)
