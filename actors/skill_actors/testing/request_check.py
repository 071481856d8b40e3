"""Whether the Messages API would take a request: the rules that a client breaks by mistake. Pure.

Stricter than the API in one point, since other servers are: two messages of one role in a row are refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from skill_actors.testing.betas import BETAS
from skill_actors.testing.message_events import sign

__all__ = ["check_headers", "check_request"]

_OLD_VERSION: Final = "2023-06-01"
_VERSIONS: Final = (_OLD_VERSION, "2026-10-21")
_MAX_SKILLS: Final = 20
_MAX_BREAKPOINTS: Final = 4
_MARKS: Final = (("ephemeral", "5m"), ("ephemeral", "1h"))
_MAX_OUTPUT_TOKENS: Final = 128_000
_NO_FORCED_TOOL: Final = ("claude-fable-5-1", "claude-opus-5-5")
_ID: Final = re.compile(r"[a-zA-Z0-9_-]+")
_CODE_EXECUTION: Final = re.compile("code_execution_(20250522|20250825|20260120|20260521)")
_TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")

_FIELDS: Final = frozenset(
    {"model", "messages", "max_tokens", "system", "tools", "tool_choice", "stream", "metadata", "stop_sequences"}
    | {"thinking", "container", "cache_control", "service_tier", "output_config", "inference_geo", "speed"}
    | {"mcp_servers", "context_management", "diagnostics"}
)
_OUTPUT_FIELDS: Final = frozenset({"effort", "format", "task_budget"})
_EFFORTS: Final = ("low", "medium", "high", "xhigh", "max", None)
_OLD_FIELDS: Final = frozenset({"temperature", "top_p", "top_k"})  # gone with the version of October 2026
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
    "compaction": (
        frozenset({"content"}),
        frozenset({"cache_control", "encrypted_content", "signature", "tool_changes"}),
    ),
}
_USER_KINDS: Final = frozenset({"text", "image", "document", "tool_result", "container_upload"})
_NOT_ASSISTANT: Final = frozenset({"image", "document", "tool_result", "container_upload"})


def check_headers(headers: Mapping[str, str]) -> str | None:
    """Why the API would refuse a request with these headers (names in lower case), whatever its body; None if not."""
    version = headers.get("anthropic-version")
    if version is None:
        return "anthropic-version: header is required"
    if version not in _VERSIONS:
        return f"anthropic-version: {version} is not a valid version"
    asked = [name.strip() for name in headers.get("anthropic-beta", "").split(",") if name.strip()]
    if unknown := [name for name in asked if name not in BETAS]:
        values = ", ".join(f"`{name}`" for name in unknown)
        return f"Unexpected value(s) {values} for the `anthropic-beta` header."
    return None


def check_request(body: object, paused: Collection[str] = (), *, version: str = _VERSIONS[-1]) -> str | None:
    """Why the API would refuse this body with 400, in its words where we know them; None if it would not.

    Args:
        paused: ids of server tool calls in answers that ended with pause_turn; only after such an answer may the
            last message be the assistant's.
        version: of the API, as in the header.

    """
    if not isinstance(body, dict):
        return "The request body is not a JSON object"
    taken = body if version != _OLD_VERSION else {name: body[name] for name in body if name not in _OLD_FIELDS}
    return next(_problems(taken, paused), None)


def _problems(body: Mapping[str, Any], paused: Collection[str]) -> Iterator[str]:
    """All that is wrong; only the first is meant, since later rules take for granted what earlier ones ask."""
    yield from _top_level(body)
    yield from _tools(body)
    yield from _container(body)
    messages = body["messages"]
    for number, message in enumerate(messages):
        yield from _message(f"messages.{number}", message)
    yield from _order(messages, paused)
    yield from _last_blocks(messages)
    yield from _pairs(messages)
    yield from _server_pairs(messages)
    yield from _programmatic(messages)
    yield from _breakpoints(body)
    if not _runs_code(body) and any(_kind(message, "container_upload") for message in messages):
        yield "messages: `container_upload` blocks need the code execution tool"


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
    yield from _output_config(body.get("output_config", {}))


def _output_config(config: object) -> Iterator[str]:
    if not isinstance(config, Mapping):
        yield "output_config: Input should be a valid dictionary"
        return
    for field in sorted(config.keys() - _OUTPUT_FIELDS):
        yield f"output_config.{field}: Extra inputs are not permitted"
    if config.get("effort") not in _EFFORTS:
        yield f"output_config.effort: Input should be one of {', '.join(filter(None, _EFFORTS))}"
    form = config.get("format")
    if form is None:
        return
    if not isinstance(form, Mapping) or form.keys() != {"type", "schema"} or form["type"] != "json_schema":
        yield "output_config.format: Input should be an object with type `json_schema` and a schema"
    elif not isinstance(form["schema"], Mapping):
        yield "output_config.format.schema: Input should be a valid dictionary"
    else:
        yield from _answer_schema(form["schema"])


def _answer_schema(schema: object) -> Iterator[str]:
    """What the API asks of every object in the schema of an answer."""
    if isinstance(schema, list):
        for part in schema:
            yield from _answer_schema(part)
    if not isinstance(schema, Mapping):
        return
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        yield "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false"
    for name, part in schema.items():
        yield from _answer_schema(list(part.values()) if name == "properties" and isinstance(part, Mapping) else part)


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
        kind = str(tool.get("type", "custom"))
        if kind == "custom":
            yield from _custom_tool(f"tools.{number}.custom", tool)
        elif kind.startswith("code_execution_") and not _CODE_EXECUTION.fullmatch(kind):
            yield f"tools.{number}: Input tag '{kind}' found using 'type' does not match any of the expected tags"
        elif _CODE_EXECUTION.fullmatch(kind) and tool.get("name") != "code_execution":
            yield f"tools.{number}.{kind}.name: Input should be 'code_execution'"
    choice = body.get("tool_choice") or {}
    if choice.get("type") in ("any", "tool") and str(body["model"]).startswith(_NO_FORCED_TOOL):
        yield "tool_choice: this model does not support forcing the use of tools"


def _container(body: Mapping[str, Any]) -> Iterator[str]:
    container = body.get("container")
    if container is None or (isinstance(container, str) and container):
        return
    if not isinstance(container, dict):
        yield "container: Input should be a valid string or dictionary"
        return
    for field in sorted(container.keys() - {"id", "skills"}):
        yield f"container.{field}: Extra inputs are not permitted"
    if not isinstance(container.get("id"), str | None):
        yield "container.id: Input should be a valid string"
    skills = container.get("skills") or []
    if not isinstance(skills, list):
        yield "container.skills: Input should be a valid list"
        return
    if len(skills) > _MAX_SKILLS:
        yield f"container.skills: List should have at most {_MAX_SKILLS} items after validation, not {len(skills)}"
    for number, skill in enumerate(skills):
        yield from _hosted_skill(f"container.skills.{number}", skill)
    if len({(skill["type"], skill["skill_id"]) for skill in skills}) != len(skills):
        yield "container.skills: Skills must be unique"
    if skills and not _runs_code(body):
        yield "container.skills: Skills need the code execution tool"


def _hosted_skill(where: str, skill: object) -> Iterator[str]:
    if not isinstance(skill, dict):
        yield f"{where}: Input should be a valid dictionary"
        return
    for field in ("type", "skill_id"):
        if not isinstance(skill.get(field), str) or not skill[field]:
            yield f"{where}.{field}: Field required"
    if skill["type"] not in ("anthropic", "custom"):
        yield f"{where}.type: Input should be 'anthropic' or 'custom'"
    if not isinstance(skill.get("version", ""), str):
        yield f"{where}.version: Input should be a valid string"
    for field in sorted(skill.keys() - {"type", "skill_id", "version"}):
        yield f"{where}.{field}: Extra inputs are not permitted"


def _runs_code(body: Mapping[str, Any]) -> bool:
    return any(_CODE_EXECUTION.fullmatch(str(tool.get("type"))) for tool in body.get("tools", []))


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
        case "compaction" if block["content"] is not None and not _is_text(block["content"]):
            yield f"{where}.compaction.content: Input should be a valid string of at least 1 character, or null"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


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
    if messages[0]["role"] != "user" and not _begins_with_summary(messages[0]):
        yield "messages: first message must use the `user` role"
    for number in range(1, len(messages)):
        if messages[number]["role"] == messages[number - 1]["role"]:
            yield f"messages.{number}: roles must alternate between `user` and `assistant`"
    goes_on = _is_paused(messages[-1], paused) or _ends_with_summary(messages[-1])
    if messages[-1]["role"] == "assistant" and not goes_on:
        yield ("This model does not support assistant message prefill. The conversation must end with a user message.")


def _last_blocks(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for number, message in enumerate(messages):
        content = message["content"]
        last = "text" if isinstance(content, str) else content[-1]["type"]
        if message["role"] == "assistant" and last in ("thinking", "redacted_thinking"):
            yield f"messages.{number}: The final block in an assistant message cannot be `thinking`."


def _begins_with_summary(message: Mapping[str, Any]) -> bool:
    """Whether the messages that it replaced may be left out."""
    return bool(_listed(message["content"])) and message["content"][0]["type"] == "compaction"


def _ends_with_summary(message: Mapping[str, Any]) -> bool:
    """Whether the answer was one that paused after it."""
    return bool(_listed(message["content"])) and message["content"][-1]["type"] == "compaction"


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


def _server_pairs(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A call of the API's own tools has its result in the same answer, or in the next after tools of the client."""
    waiting: dict[str, str] = {}
    for number, message in enumerate(messages):
        if message["role"] == "user":
            continue
        calls = waiting | {str(block["id"]): str(block["name"]) for block in _kind(message, "server_tool_use")}
        done = [str(block.get("tool_use_id")) for block in _server_results(message)]
        if uncalled := [id for id in done if id not in calls]:
            yield f"messages.{number}: unexpected server tool result: {uncalled[0]} was not called"
        waiting = {id: name for id, name in calls.items() if id not in done}
        if number == len(messages) - 1 or _kind(message, "tool_use"):
            continue
        for id, name in waiting.items():
            yield (
                f"messages.{number}: `{name}` tool use with id `{id}` was found without a corresponding "
                f"`{name}_tool_result` block"
            )


def _programmatic(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Calls that code in the container made are answered by results alone."""
    for number, message in enumerate(messages[:-1]):
        callers = [str((block.get("caller") or {}).get("type")) for block in _kind(message, "tool_use")]
        answer = messages[number + 1]["content"]
        others = isinstance(answer, str) or any(block["type"] != "tool_result" for block in answer)
        if others and any(_CODE_EXECUTION.fullmatch(caller) for caller in callers):
            yield f"messages.{number + 1}: only `tool_result` blocks can answer calls made by code execution"


def _breakpoints(body: Mapping[str, Any]) -> Iterator[str]:
    blocks = [*body.get("tools", []), *_listed(body.get("system"))]
    for message in body["messages"]:
        blocks += _listed(message["content"])
    marks = [block["cache_control"] for block in blocks if block.get("cache_control")]
    marked = len(marks) + bool(body.get("cache_control"))
    if marked > _MAX_BREAKPOINTS:
        yield f"A maximum of {_MAX_BREAKPOINTS} blocks with cache_control may be provided. Found {marked}."
    for mark in [*marks, *filter(None, [body.get("cache_control")])]:
        if not isinstance(mark, Mapping) or (mark.get("type"), mark.get("ttl", "5m")) not in _MARKS:
            yield "cache_control: Input should be of type `ephemeral` with a ttl of `5m` or `1h`"
    if any(tool.get("cache_control") and tool.get("defer_loading") for tool in body.get("tools", [])):
        yield "tools: a tool with `defer_loading` cannot have `cache_control`"
    lifetimes = [mark.get("ttl", "5m") for mark in marks]
    if lifetimes != sorted(lifetimes):
        yield "cache_control: a block with ttl `1h` must not come after a block with ttl `5m`"


def _listed(content: object) -> list[Mapping[str, Any]]:
    return content if isinstance(content, list) else []


def _server_results(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    content = message["content"]
    blocks = [] if isinstance(content, str) else content
    return [block for block in blocks if block["type"].endswith("_tool_result") and block["type"] != "mcp_tool_result"]


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
