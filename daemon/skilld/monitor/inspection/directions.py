"""Which way a text goes, by the name of the field it stands in. Pure."""

from __future__ import annotations

from typing import Any, Final

from skilld_monitor.scanning import Direction

__all__ = ["INPUT", "PART_LISTS", "direction_of", "direction_of_message", "direction_of_part"]

INPUT: Final = frozenset({"gen_ai.input.messages", "gen_ai.prompt", "llm.request.messages", "messages", "prompt"})
"""Fields with what a model is told: a list of messages, or a text."""

PART_LISTS: Final = ("parts", "content")
"""Fields of a message that may hold a list of its parts."""

_DIRECTIONS: Final[dict[str, Direction]] = {
    **dict.fromkeys(INPUT, "input"),
    "llm.request.data": "input",
    "gen_ai.system_instructions": "system",
    "system": "system",
    "system_prompt": "system",
    "gen_ai.tool.definitions": "system",
    "gen_ai.tool.call.arguments": "tool_arguments",
    "arguments": "tool_arguments",
    "args": "tool_arguments",
    "kwargs": "tool_arguments",
    "tool.arguments": "tool_arguments",
    "gen_ai.tool.call.result": "tool_result",
    "result": "tool_result",
    "tool.result": "tool_result",
    "gen_ai.output.messages": "output",
    "gen_ai.completion": "output",
    "completion": "output",
    "llm.response.content": "output",
    "output": "output",
    "response": "output",
    "error": "error",
    "error.message": "error",
    "error.stack": "error",
    "exception.message": "error",
    "exception.stacktrace": "error",
}
_ROLES: Final[dict[str, Direction]] = {
    "assistant": "output",
    "developer": "system",
    "function": "tool_result",
    "system": "system",
    "tool": "tool_result",
    "user": "input",
}
_PARTS: Final[dict[str, Direction]] = {
    "function_call": "tool_arguments",
    "function_call_output": "tool_result",
    "tool_call": "tool_arguments",
    "tool_call_response": "tool_result",
    "tool_result": "tool_result",
    "tool_use": "tool_arguments",
}


def direction_of(field: object) -> Direction:
    """Of the field of an event's data."""
    return _DIRECTIONS.get(field, "event") if isinstance(field, str) else "event"


def direction_of_message(message: Any) -> Direction:
    """Of a message of a conversation, by its role."""
    role = message.get("role") if isinstance(message, dict) else None
    return _ROLES.get(role, "input") if isinstance(role, str) else "input"


def direction_of_part(part: Any, message: Direction) -> Direction:
    """Of a part of a message that goes this way: calls of tools and their results go another."""
    kind = part.get("type") if isinstance(part, dict) else None
    return _PARTS.get(kind, message) if isinstance(kind, str) else message
