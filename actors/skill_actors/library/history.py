"""Whether messages may stand in a conversation: each call of a tool has its result, and the user begins. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skill_actors.models.base import Message

__all__ = ["check_history", "said_blocks"]

_ROLES = ("user", "assistant")
_OF_TOOLS = {"tool_use": "assistant", "tool_result": "user"}  # and whose message it is in


def said_blocks(said: object) -> list[dict[str, Any]]:
    """What a user says, as blocks.

    Raises:
        ValueError: that is nothing, or no text and no blocks, or it has a tool call or a result, which come of turns.

    """
    blocks = _content_blocks(said)
    if odd := [block["type"] for block in blocks if block["type"] in _OF_TOOLS]:
        raise ValueError(f"what a user says has no {odd[0]}; add_messages takes a call together with its result")
    return blocks


def _content_blocks(said: object) -> list[dict[str, Any]]:
    """The content of a message, as blocks. Raises ValueError if that is nothing, or no text and no blocks."""
    if isinstance(said, str):
        said = [{"type": "text", "text": said}]
    if not isinstance(said, Sequence) or isinstance(said, bytes):
        raise ValueError(f"a message is text, or a list of blocks, not {type(said).__name__}")
    blocks = [dict(block) if isinstance(block, Mapping) else {} for block in said]
    if not all(isinstance(block.get("type"), str) for block in blocks):
        raise ValueError("each block of a message is an object with a type")
    if not all(isinstance(block.get("text"), str) for block in blocks if block["type"] == "text"):
        raise ValueError("a text block has a text")
    if not any(block["type"] != "text" or block["text"].strip() for block in blocks):
        raise ValueError("the message is empty")
    return blocks


def check_history(messages: Sequence[Message]) -> list[Message]:
    """The messages, as blocks; what the API would refuse is refused now.

    Raises:
        ValueError: naming the message.

    """
    checked: list[Message] = []
    open_calls: set[str] = set()
    used: set[str] = set()
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise ValueError(f"message {number} is no object with role and content")
        role = message.get("role")
        if role not in _ROLES:
            raise ValueError(f"message {number}: its role is {role!r:.40}, not user or assistant")
        if number == 0 and role != "user":
            raise ValueError("the first message has to be the user's")
        try:
            content = _content_blocks(message.get("content"))
        except ValueError as error:
            raise ValueError(f"message {number}: {error}") from None
        _check_sides(number, role, content)
        open_calls = _paired(number, content, open_calls)
        if again := used & open_calls:
            raise ValueError(f"message {number}: the call {min(again)!r:.80} has the id of an earlier one")
        used |= open_calls
        checked.append({"role": role, "content": content})
    if open_calls:
        raise ValueError(f"the call {min(open_calls)!r:.80} has no result")
    return checked


def _check_sides(number: int, role: str, content: Sequence[Mapping[str, Any]]) -> None:
    """Raises ValueError."""
    for type, whose in _OF_TOOLS.items():
        if role != whose and any(block["type"] == type for block in content):
            raise ValueError(f"message {number}: a {type} is in a message of the {whose}, not of the {role}")


def _paired(number: int, content: Sequence[Mapping[str, Any]], open_calls: set[str]) -> set[str]:
    """The calls that this message leaves open. Raises ValueError."""
    results = [str(block.get("tool_use_id")) for block in content if block["type"] == "tool_result"]
    if set(results) != open_calls or len(results) != len(open_calls):
        odd = (set(results) ^ open_calls or set(results)).pop()
        raise ValueError(f"message {number}: calls and results before it do not match: {odd!r:.80}")
    calls = [block.get("id") for block in content if block["type"] == "tool_use"]
    ids = {each for each in calls if isinstance(each, str) and each}
    if len(ids) != len(calls):
        raise ValueError(f"message {number}: each call of a tool has an id of its own")
    return ids
