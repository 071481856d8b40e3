"""One span for each call, however many layers see it: an inner one puts what it knows onto the outer one's span.

A framework that calls a model begins its span first and knows least of the call; the SDK beneath, which knows most,
joins it (`await_chat`, `begin_chat`). A tool that does its work by a call of an MCP server is one span with the facts
of both (`ToolPlace`, `open_tool`).
"""

from __future__ import annotations

from contextlib import suppress
from contextvars import ContextVar, Token

from skilld_monitor.adapters.covering import current_cover
from skilld_monitor.spans import Running
from skilld_monitor.trace import Place, current

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Joined", "ToolPlace", "WaitingChat", "await_chat", "begin_chat", "leave_chat", "open_tool", "stand_by"]

_CHATS = ("chat", "text_completion", "generate_content")


class WaitingChat:
    """A framework's call of a model that no SDK has made yet; `over` once one has, or there is nothing to wait for."""

    __slots__ = ("over", "running")

    def __init__(self, running: Running) -> None:
        self.running = running
        self.over = False


_waiting: ContextVar[tuple[WaitingChat, ...]] = ContextVar("skilld_monitor_chats", default=())


def await_chat(running: Running, *, with_others: bool) -> WaitingChat:
    """The next call of a model in this context belongs to this span.

    Args:
        with_others: after those that wait here already (several calls that are made in turn), not in their place.

    """
    made = WaitingChat(running)
    kept: Iterable[WaitingChat] = [chat for chat in _waiting.get() if not chat.over] if with_others else ()
    _waiting.set((*kept, made))
    return made


def stand_by(chat: WaitingChat) -> Token[tuple[WaitingChat, ...]]:
    """As `await_chat`, until `leave_chat`."""
    return _waiting.set((chat,))


def leave_chat(token: Token[tuple[WaitingChat, ...]]) -> None:
    """In another context than `stand_by` was called in nothing is there to go back to."""
    with suppress(ValueError):
        _waiting.reset(token)


def begin_chat(name: str, channel: str, facts: dict[str, object], owner: object, entered_ns: int) -> Running:
    """The span of a call of a model: one of its own, or part of that of the framework that makes the call, or of the
    same call of the same object further out, as where a program's own method calls that which it replaced.

    Args:
        entered_ns: as of `Running`.

    """
    around = current_cover()
    if around is not None and owner is not None and around.owner is owner:
        return Joined(around.running, facts, entered_ns)
    waiting = _waiting.get()
    if waiting and facts.get("gen_ai.operation.name") in _CHATS:
        for chat in waiting:
            if not chat.over:
                chat.over = True
                return Joined(chat.running, facts, entered_ns)
    return Running(name, channel, facts, entered_ns=entered_ns)


class Joined(Running):
    """A call that is part of another's span: its facts are that one's, and its end is not."""

    __slots__ = ("_outer",)

    def __init__(self, outer: Running, facts: dict[str, object], entered_ns: int = 0) -> None:
        super().__init__(outer.name, outer.channel, outer.data, outer.place, entered_ns)
        self._outer = outer
        self.data.update(facts)

    def end(self, error: BaseException | None = None, status: str | None = None) -> None:
        """Nothing is reported: the outer one may yet succeed, by another try."""
        self._outer.cost_ns += self.cost_ns
        self.cost_ns = 0


class ToolPlace(Place):
    """The place of a tool's span, with the span, until it ends."""

    __slots__ = ("running",)

    def __init__(self, place: Place) -> None:
        super().__init__(place.trace, place.span, place.parent, above=place.above, flags=place.flags, state=place.state)
        self.running: Running | None = None


def open_tool() -> Running | None:
    """The tool whose span is the innermost here."""
    place = current()
    return place.running if isinstance(place, ToolPlace) else None
