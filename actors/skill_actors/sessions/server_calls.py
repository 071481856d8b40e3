"""Calls of the API's own tools in a history: one without its result cannot be sent again, nor a result alone. Pure.

The API goes on with a call of its own as long as nothing new was said: after a pause, or when it gets the results of
client tools that were called beside it. Once a user has spoken, the call is over, and a request that still holds it
would be refused. A result is without its call where the API has put a summary of what was before between the two.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from skill_actors.models.base import Message

__all__ = ["server_results", "without_lost_calls", "without_uploads"]


def without_lost_calls(messages: Sequence[Message]) -> Sequence[Message]:
    """The messages without calls of the API's tools that no later answer can bring a result for, and without results
    of calls that are not there.
    """
    calls = {
        str(block["id"])
        for message in messages
        if message["role"] == "assistant"
        for block in message["content"]
        if _is_call(block)
    }
    done = {
        str(block["tool_use_id"])
        for message in messages
        if message["role"] == "assistant"
        for block in message["content"]
        if _is_result(block)
    }
    kept: list[Message] = []
    for number, message in enumerate(messages):
        lost = message["role"] == "assistant" and not _goes_on(messages[number + 1 : number + 3])
        content = [
            block
            for block in message["content"]
            if not (lost and _is_call(block) and block["id"] not in done)
            and not (_is_result(block) and str(block["tool_use_id"]) not in calls)
        ]
        kept.append(message if len(content) == len(message["content"]) else {**message, "content": content})
    return kept


def without_uploads(messages: Sequence[Message], kept: Collection[str] = ()) -> Sequence[Message]:
    """The messages without files for a container, but for those of these ids: without one, the API refuses them."""
    return [
        {
            **message,
            "content": [
                block
                for block in message["content"]
                if block.get("type") != "container_upload" or block["file_id"] in kept
            ],
        }
        for message in messages
    ]


def server_results(content: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, bool]]:
    """Of each call of the API's tools that has a result here: its id, the tool, and whether it did what it should."""
    for block in filter(_is_result, content):
        tool = str(block["type"]).removesuffix("_tool_result")
        said = block.get("content")
        facts: Mapping[str, Any] = said if isinstance(said, Mapping) else {}
        failed = str(facts.get("type", "")).endswith("_error") or facts.get("return_code") not in (None, 0)
        yield str(block["tool_use_id"]), tool, not failed


def _goes_on(later: Sequence[Message]) -> bool:
    """Whether the answer before these messages is still being worked on."""
    if len(later) != 1:
        return not later
    kinds = {str(block.get("type")) for block in later[0]["content"]}
    return "tool_result" in kinds and kinds <= {"tool_result", "container_upload"}


def _is_call(block: Mapping[str, Any]) -> bool:
    return block.get("type") == "server_tool_use"


def _is_result(block: Mapping[str, Any]) -> bool:
    kind = str(block.get("type"))
    return kind.endswith("_tool_result") and kind != "tool_result" and "tool_use_id" in block
