"""A request without tools for a conversation that has used some: the API takes it only if it defines one. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from skill_actors.models.base import Message

__all__ = ["tools_to_send"]

# Always the same, whatever was called before, so that it changes no prompt that the API has in its cache.
_NONE: Final[Mapping[str, Any]] = {
    "name": "no_tool",
    "description": "There are no tools in this turn: answer without.",
    "input_schema": {"type": "object", "properties": {}},
}


def tools_to_send(
    tools: Sequence[Mapping[str, Any]], messages: Sequence[Message]
) -> tuple[Sequence[Mapping[str, Any]], Mapping[str, Any]]:
    """The tools of a request, and further fields of it, given those that the model is offered."""
    if tools or not any(_holds_call(message) for message in messages):
        return tools, {}
    return (_NONE,), {"tool_choice": {"type": "none"}}


def _holds_call(message: Message) -> bool:
    content = message["content"]
    return not isinstance(content, str) and any(block.get("type") == "tool_use" for block in content)
