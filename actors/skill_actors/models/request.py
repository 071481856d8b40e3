"""The body of a Messages API request. Pure.

A history may hold what the API refuses: blank texts (models do write them), answers that end in thinking since they
were cut there, messages left without content, two messages of one role in a row after a turn that was cancelled. They
are mended here, on the way out, so that the stored history stays what was really said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from skill_actors.models.base import Block, Message, ModelRequest
from skill_actors.models.caching import with_breakpoints
from skill_actors.models.facts import facts_of

__all__ = ["count_body", "request_body", "sendable_messages"]

_THINKING: Final = ("thinking", "redacted_thinking")
# What the endpoint that counts tokens takes besides; the rest has nothing to do with the prompt.
_COUNTED: Final = frozenset(
    {"model", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "speed"}
    | {"cache_control", "context_management", "mcp_servers"}
)


def request_body(request: ModelRequest) -> dict[str, Any]:
    """The request as JSON-ready fields, without `stream`. `extra` wins over nothing: it may not repeat a field.

    Raises:
        ValueError: if `extra` names a field that has its own place in the request.

    """
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_tokens,
        "messages": sendable_messages(request.messages),
    }
    if request.system.strip():
        body["system"] = request.system
    if request.tools:
        body["tools"] = [dict(tool) for tool in request.tools]
    if repeated := sorted({"model", "max_tokens", "messages", "system", "tools", "stream"} & request.extra.keys()):
        raise ValueError(f"extra field {repeated[0]!r} of the model request has its own place: set it there")
    body |= request.extra
    return with_breakpoints(body, facts_of(request.model).min_cache_tokens) if request.cache else body


def count_body(request: ModelRequest) -> dict[str, Any]:
    """The same prompt as JSON-ready fields for the endpoint that counts its tokens.

    Raises:
        ValueError: as for `request_body`.

    """
    return {name: value for name, value in request_body(request).items() if name in _COUNTED}


def sendable_messages(messages: Sequence[Message]) -> list[Message]:
    """The messages without blank texts, last thoughts and empty messages, neighbours of one role joined.

    The last message is one that the API goes on with where it is the assistant's: its thinking stays.
    """
    sendable: list[Message] = []
    for number, message in enumerate(messages, 1):
        content = [block for block in _blocks(message["content"]) if not _is_blank(block)]
        if message["role"] == "assistant" and number < len(messages):
            while content and content[-1].get("type") in _THINKING:
                content.pop()
        if not content:
            continue
        if sendable and sendable[-1]["role"] == message["role"]:
            sendable[-1]["content"].extend(content)
        else:
            sendable.append({"role": message["role"], "content": content})
    for message in sendable:
        if message["role"] == "user":
            message["content"].sort(key=_results_first)
    return sendable


def _blocks(content: str | Iterable[Block]) -> Iterable[Block]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _is_blank(block: Mapping[str, Any]) -> bool:
    if block.get("type") == "compaction":
        return block.get("content") == ""  # the API takes null and what says something
    return block.get("type") == "text" and not str(block.get("text", "")).strip()


def _results_first(block: Mapping[str, Any]) -> bool:
    """Sort key: the API wants the results of tools before anything else in their message."""
    return block.get("type") != "tool_result"
