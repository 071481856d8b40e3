"""Whether the Messages API would take a request: the rules that a client breaks by mistake. Pure.

Stricter than the API in one point, since other servers are: two messages of one role in a row are refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from skill_actors.testing.message_events import sign

__all__ = ["check_request"]

_MAX_OUTPUT_TOKENS: Final = 128_000
_NO_FORCED_TOOL: Final = ("claude-fable-5-1", "claude-opus-5-5")
_ID: Final = re.compile(r"[a-zA-Z0-9_-]+")
_TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")

_FIELDS: Final = frozenset(
    {"model", "messages", "max_tokens", "system", "tools", "tool_choice", "stream", "metadata", "stop_sequences"}
    | {"thinking", "container", "cache_control", "service_tier", "output_config", "inference_geo", "speed"}
    | {"mcp_servers", "context_management", "diagnostics"}
)
# kind of block -> fields it must have, fields it may have besides; kinds of server tools are not looked into
_BLOCKS: Final[Mapping[str, tuple[frozenset[str], frozenset[str]]]] = {
    "text": (frozenset({"text"}), frozenset({"citations", "cache_control"})),
    "image": (frozenset({"source"}), frozenset({"cache_control"})),
    "document": (frozenset({"source"}), frozenset({"title", "context", "citations", "cache_control"})),
    "thinking": (frozenset({"thinking", "signature"}), frozenset()),
    "redacted_thinking": (frozenset({"data"}), frozenset()),
    "tool_use": (frozenset({"id", "name", "input"}), frozenset({"cache_control", "caller"})),
    "tool_result": (frozenset({"tool_use_id"}), frozenset({"content", "is_error", "cache_control"})),
    "server_tool_use": (frozenset({"id", "name", "input"}), frozenset({"cache_control", "caller"})),
    "container_upload": (frozenset({"file_id"}), frozenset({"cache_control"})),
    "compaction": (frozenset({"content"}), frozenset({"cache_control"})),
}
_USER_KINDS: Final = frozenset({"text", "image", "document", "tool_result", "container_upload"})
_NOT_ASSISTANT: Final = frozenset({"image", "document", "tool_result", "container_upload"})


def check_request(body: object, paused: Collection[str] = ()) -> str | None:
    """Why the API would refuse this body with 400, in its words where we know them; None if it would not.

    Args:
        paused: ids of server tool calls in answers that ended with pause_turn; only after such an answer may the
            last message be the assistant's.

    """
    if not isinstance(body, dict):
        return "The request body is not a JSON object"
    return next(_problems(body, paused), None)


def _problems(body: Mapping[str, Any], paused: Collection[str]) -> Iterator[str]:
    """All that is wrong; only the first is meant, since later rules take for granted what earlier ones ask."""
    yield from _top_level(body)
    yield from _tools(body)
    messages = body["messages"]
    for number, message in enumerate(messages):
        yield from _message(f"messages.{number}", message)
    yield from _order(messages, paused)
    yield from _pairs(messages)


def _top_level(body: Mapping[str, Any]) -> Iterator[str]:
    for field in sorted(body.keys() - _FIELDS):
        yield f"{field}: Extra inputs are not permitted"
    for field in ("model", "messages", "max_tokens"):
        if field not in body:
            yield f"{field}: Field required"
    if not isinstance(body["model"], str) or not body["model"]:
        yield "model: Input should be a valid string"
    limit = body["max_tokens"]
    if type(limit) is not int or limit < 1:
        yield "max_tokens: Input should be a valid integer greater than or equal to 1"
    if limit > _MAX_OUTPUT_TOKENS:
        yield f"max_tokens: {limit} > {_MAX_OUTPUT_TOKENS}, which is the maximum allowed number of output tokens"
    if not isinstance(body["messages"], list) or not body["messages"]:
        yield "messages: at least one message is required"
    if not isinstance(body.get("stream", False), bool):
        yield "stream: Input should be a valid boolean"
    yield from _system(body.get("system", ""))


def _system(system: object) -> Iterator[str]:
    if isinstance(system, str):
        return
    if not isinstance(system, list):
        yield "system: Input should be a valid string or list"
        return
    for number, block in enumerate(system):
        if not isinstance(block, dict) or block.get("type") != "text" or not str(block.get("text", "")).strip():
            yield f"system.{number}: text content blocks must contain non-whitespace text"


def _tools(body: Mapping[str, Any]) -> Iterator[str]:
    tools = body.get("tools", [])
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        yield "tools: Input should be a valid list"
        return
    names = [str(tool["name"]) for tool in tools if "name" in tool]
    if len(set(names)) != len(names):
        yield "tools: Tool names must be unique."
    for number, tool in enumerate(tools):
        if tool.get("type", "custom") == "custom":
            yield from _custom_tool(f"tools.{number}.custom", tool)
    choice = body.get("tool_choice") or {}
    if choice.get("type") in ("any", "tool") and str(body["model"]).startswith(_NO_FORCED_TOOL):
        yield "tool_choice: this model does not support forcing the use of tools"


def _custom_tool(where: str, tool: Mapping[str, Any]) -> Iterator[str]:
    name = tool.get("name")
    if not isinstance(name, str) or not _TOOL_NAME.fullmatch(name):
        yield f"{where}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'"
    schema = tool.get("input_schema")
    if not isinstance(schema, dict) or schema.get("type") != "object":
        yield f"{where}.input_schema.type: Field required"


def _message(where: str, message: object) -> Iterator[str]:
    if not isinstance(message, dict):
        yield f"{where}: Input should be a valid dictionary"
        return
    role, content = message.get("role"), message.get("content")
    if role not in ("user", "assistant"):
        yield f"{where}.role: Input should be 'user' or 'assistant'"
    for field in sorted(message.keys() - {"role", "content"}):
        yield f"{where}.{field}: Extra inputs are not permitted"
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list):
        yield f"{where}.content: Input should be a valid list"
        return
    if not content:
        yield f"{where}: all messages must have non-empty content except for the optional final assistant message"
    for number, block in enumerate(content):
        yield from _block(f"{where}.content.{number}", block, str(role))
    results = [isinstance(block, dict) and block.get("type") == "tool_result" for block in content]
    if results != sorted(results, reverse=True):
        yield f"{where}: `tool_result` blocks must come before any other content"


def _block(where: str, block: object, role: str) -> Iterator[str]:
    if not isinstance(block, dict) or not isinstance(block.get("type"), str):
        yield f"{where}.type: Field required"
        return
    kind = block["type"]
    if (role == "user" and kind not in _USER_KINDS) or (role == "assistant" and kind in _NOT_ASSISTANT):
        yield f"{where}: Input tag '{kind}' does not match any of the expected tags of the role {role}"
    if kind not in _BLOCKS:
        if not kind.endswith("_tool_result") and not kind.startswith("mcp_"):
            yield f"{where}: Input tag '{kind}' found using 'type' does not match any of the expected tags"
        return
    needed, allowed = _BLOCKS[kind]
    for field in sorted(needed - block.keys()):
        yield f"{where}.{kind}.{field}: Field required"
    for field in sorted(block.keys() - needed - allowed - {"type"}):
        yield f"{where}.{kind}.{field}: Extra inputs are not permitted"
    yield from _content_of(where, kind, block)


def _content_of(where: str, kind: str, block: Mapping[str, Any]) -> Iterator[str]:
    match kind:
        case "text" if not isinstance(block["text"], str):
            yield f"{where}.text.text: Input should be a valid string"
        case "text" if not block["text"].strip():
            yield f"{where}: text content blocks must contain non-whitespace text"
        case "thinking" if str(block["signature"]).startswith("fake") and block["signature"] != sign(block["thinking"]):
            yield f"{where}: Invalid `signature` in `thinking` block"
        case "tool_use" | "server_tool_use":
            if not isinstance(block["input"], dict):
                yield f"{where}.{kind}.input: Input should be a valid dictionary"
            if not isinstance(block["id"], str) or not _ID.fullmatch(block["id"]):
                yield f"{where}.{kind}.id: String should match pattern '^[a-zA-Z0-9_-]+$'"
        case "tool_result":
            yield from _result(where, block)


def _result(where: str, block: Mapping[str, Any]) -> Iterator[str]:
    content = block.get("content", "")
    if not isinstance(content, str | list):
        yield f"{where}.tool_result.content: Input should be a valid string or list"
        return
    if block.get("is_error") and not content:
        yield f"{where}.tool_result: content cannot be empty if `is_error` is true"
    for number, inner in enumerate(content if isinstance(content, list) else ()):
        if not isinstance(inner, dict) or inner.get("type") not in ("text", "image", "document", "search_result"):
            yield f"{where}.tool_result.content.{number}: Input tag does not match any of the expected tags"


def _order(messages: Sequence[Mapping[str, Any]], paused: Collection[str]) -> Iterator[str]:
    if messages[0]["role"] != "user":
        yield "messages: first message must use the `user` role"
    for number in range(1, len(messages)):
        if messages[number]["role"] == messages[number - 1]["role"]:
            yield f"messages.{number}: roles must alternate between `user` and `assistant`"
    if messages[-1]["role"] == "assistant" and not _is_paused(messages[-1], paused):
        yield ("This model does not support assistant message prefill. The conversation must end with a user message.")


def _is_paused(message: Mapping[str, Any], paused: Collection[str]) -> bool:
    return any(block["id"] in paused for block in _kind(message, "server_tool_use"))


def _pairs(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Every call of a client tool has exactly one result, in the very next message; ids are unique."""
    seen: set[str] = set()
    called: list[str] = []
    for number, message in enumerate(messages):
        results = [str(block["tool_use_id"]) for block in _kind(message, "tool_result")]
        for position, id in enumerate(results):
            if id not in called:
                yield _uncalled(f"messages.{number}.content.{position}", id)
            if id in results[:position]:
                yield f"messages.{number}.content.{position}: each tool_use must have a single result. Found more: {id}"
        if missing := [id for id in called if id not in results]:
            yield _unanswered(number - 1, missing)
        called = [str(block["id"]) for block in _kind(message, "tool_use")]
        for id in called:
            if id in seen:
                yield f"messages.{number}: `tool_use` ids must be unique"
            seen.add(id)
    if called:
        yield _unanswered(len(messages) - 1, called)


def _uncalled(where: str, id: str) -> str:
    return (
        f"{where}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. "
        "Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
    )


def _unanswered(number: int, ids: Sequence[str]) -> str:
    return (
        f"messages.{number}: `tool_use` ids were found without `tool_result` blocks immediately after: "
        f"{', '.join(ids)}. Each `tool_use` block must have a corresponding `tool_result` block in the next message."
    )


def _kind(message: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    content = message["content"]
    return [] if isinstance(content, str) else [block for block in content if block["type"] == kind]
