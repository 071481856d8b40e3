"""How many models and tools an agent called, out of the spans that are reported: those below its own came before it.

Each call counts for the innermost agent that it is below, in the process that the agent is in. Pure.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from skilld.monitor.batch import MonitorEvent
from skilld.monitor.usage import call_use, is_tool, mcp_side, operation_of

__all__ = ["Calls", "CallsBelow"]

_MOST: Final = 10_000
_INFERENCE: Final = ("", "chat", "text_completion", "generate_content")


class Calls(NamedTuple):
    """What was called.

    Args:
        requests: to MCP servers, for tools that nothing else was reported of.

    """

    models: int = 0
    tools: int = 0
    requests: int = 0


class CallsBelow:
    """Calls below spans that have not ended yet; of so many spans at most, the oldest are forgotten."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._below: dict[tuple[str, str], Calls] = {}

    def __len__(self) -> int:
        return len(self._below)

    def ended(self, event: MonitorEvent) -> Calls:
        """What was called below this span; it counts for the one above from now on, unless this is an agent's."""
        if event.trace is None or event.span is None or type(event.data) is not dict:
            return Calls()
        below = self._below.pop((event.trace, event.span), Calls())
        if event.parent is None or event.parent == event.span or _is_border(event):
            return below
        passed = _with_itself(event, below)
        if any(passed):
            self._add((event.trace, event.parent), passed)
        return below

    def _add(self, place: tuple[str, str], calls: Calls) -> None:
        known = self._below.get(place, Calls())
        self._below[place] = Calls(*(one + other for one, other in zip(known, calls, strict=True)))
        if len(self._below) > self._most:
            del self._below[next(iter(self._below))]


def _is_border(event: MonitorEvent) -> bool:
    """Whether what is below it is no call of who is above it: of another agent, or of a server that was asked."""
    return operation_of(event) == "invoke_agent" or event.data.get("otel.kind") == "server"


def _with_itself(event: MonitorEvent, below: Calls) -> Calls:
    """A call that several layers report one inside the other is one call; so is a tool with its requests."""
    if is_tool(event):
        return Calls(below.models, below.tools + 1)
    if mcp_side(event) == "client":
        return below._replace(requests=1) if operation_of(event) == "execute_tool" else below
    if operation_of(event) in _INFERENCE and call_use(event) is not None:
        return below._replace(models=1)
    return below
