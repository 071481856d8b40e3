"""What of a conversation's events is looked into, and which way it goes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from skill_actors.sessions.events import Event
from skilld_monitor.scanning import Direction

__all__ = ["files_of", "said_in"]

_MESSAGES: Final = ("turn.queued", "turn.steered")
_ENDINGS: Final = ("turn.failed", "turn.cancelled", "turn.interrupted")


def said_in(event: Event) -> Iterator[tuple[Direction, Any]]:
    """The texts, or JSON values, of an event, and which way each goes.

    What stands in two events is looked into where it stands first: deltas are in their message, a tool's start and
    output in the message that calls it and in its end, the text of a turn's end in its last message.
    """
    data: Mapping[str, Any] = event.data
    if event.type in _MESSAGES:
        yield "input", data.get("text")
        yield "input", files_of(event)
    elif event.type == "model.message":
        for block in data.get("content") or ():
            yield from _of_block(block)
    elif event.type == "tool.finished":
        yield "tool_result", data.get("content")
    elif event.type in _ENDINGS:
        yield "error", data.get("error")
    elif event.type == "session.compacted":
        yield "output", data.get("summary")


def files_of(event: Event) -> list[Any]:
    """Names of the files that came with a message."""
    if event.type not in _MESSAGES:
        return []
    return [file.get("name") for file in event.data.get("files", ()) if isinstance(file, Mapping)]


def _of_block(block: Any) -> Iterator[tuple[Direction, Any]]:
    if not isinstance(block, Mapping):
        return
    kind = str(block.get("type"))
    if kind.endswith("tool_use"):
        yield "tool_arguments", block.get("input")
    elif kind.endswith("tool_result"):
        yield "tool_result", block.get("content")
    else:
        for field in ("text", "thinking"):
            if field in block:
                yield "output", block[field]
