"""The things a thread consists of, in the words of a turn. Pure.

The program writes them in two spellings (`agent_message` in the lines of `codex exec`, `agentMessage` from its server);
here they have the first. Kinds without a word of ours are kept as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from skill_actors.backends.agents.base import AgentEvent, Notice, Raw, Said, ToolBegan, ToolEnded

__all__ = ["Item", "began", "change_tool", "ended", "spelled"]

Item = Mapping[str, Any]

_CAPITAL: Final = re.compile(r"(?<=[a-z0-9])[A-Z]")
_MAX_RESULT_CHARS: Final = 100_000


def spelled(item: Mapping[str, Any]) -> Item:
    """With names and kind in small letters and underscores."""
    made = {_small(name): value for name, value in item.items()}
    made["type"] = _small(str(item.get("type") or ""))
    return made


def began(item: Item) -> Sequence[AgentEvent]:
    """What is to be told when the item begins: the call, for one that is a tool's."""
    call = _call(item)
    if call is None:
        return ()
    name, given = call
    id_ = str(item.get("id") or "")
    return (Said([{"type": "tool_use", "id": id_, "name": name, "input": given}]), ToolBegan(id_, name, given))


def ended(item: Item) -> Sequence[AgentEvent]:
    """What is to be told when the item is complete; of a call its result only."""
    if _call(item) is not None:
        return (ToolEnded(str(item.get("id") or ""), _result(item), _is_error(item)),)
    match item.get("type"):
        case "agent_message":
            return (Said([{"type": "text", "text": text_of(item)}]),)
        case "reasoning":
            return (Said([{"type": "thinking", "thinking": text_of(item), "signature": ""}]),) if text_of(item) else ()
        case "error":
            return (Notice(str(item.get("message") or "")),)
        case "user_message":
            return ()
        case _:
            return (Raw(item),)


def text_of(item: Item) -> str:
    """What a message says, or a piece of reasoning."""
    text = item.get("text")
    if isinstance(text, str):
        return text
    parts = [*_texts(item.get("summary")), *_texts(item.get("content"))]
    return "\n\n".join(parts)


def change_tool(change: Any) -> tuple[str, dict[str, Any]]:
    """The tool that one change of a file amounts to, and its input: who permits knows these."""
    entry = change if isinstance(change, Mapping) else {}
    kind = entry.get("kind")
    word = kind.get("type") if isinstance(kind, Mapping) else kind
    name = "Write" if word == "add" else "Edit"
    return name, {"file_path": str(entry.get("path") or ""), "change": str(word), "diff": str(entry.get("diff") or "")}


def _call(item: Item) -> tuple[str, dict[str, Any]] | None:
    """The tool and its input, for an item that is a call."""
    match item.get("type"):
        case "command_execution":
            folder = {"cwd": item["cwd"]} if item.get("cwd") else {}
            return "Bash", {"command": str(item.get("command") or ""), **folder}
        case "file_change":
            return "apply_patch", {"changes": item.get("changes") or []}
        case "mcp_tool_call":
            arguments = item.get("arguments")
            given = dict(arguments) if isinstance(arguments, Mapping) else {"arguments": arguments}
            return f"mcp__{item.get('server')}__{item.get('tool')}", given
        case "web_search":
            return "WebSearch", {"query": str(item.get("query") or "")}
        case _:
            return None


def _result(item: Item) -> str:
    match item.get("type"):
        case "command_execution":
            output = str(item.get("aggregated_output") or "")
            code = item.get("exit_code")
            text = f"{output}\n(exit code {code})" if code else output
        case "mcp_tool_call":
            text = _mcp_result(item)
        case _:
            text = ""
    if not text and _is_error(item):
        text = str(item.get("status") or "failed")
    return text if len(text) <= _MAX_RESULT_CHARS else f"{text[:_MAX_RESULT_CHARS]}\n(cut)"


def _mcp_result(item: Item) -> str:
    error, result = item.get("error"), item.get("result")
    if error:
        return str(error.get("message") if isinstance(error, Mapping) else error)
    return "\n".join(_texts(result.get("content"))) if isinstance(result, Mapping) else ""


def _is_error(item: Item) -> bool:
    if item.get("status") in ("failed", "declined"):
        return True
    return bool(item.get("exit_code")) or bool(item.get("error"))


def _texts(parts: Any) -> list[str]:
    if not isinstance(parts, Sequence) or isinstance(parts, str):
        return []
    found = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    return [part for part in found if isinstance(part, str)]


def _small(name: str) -> str:
    return _CAPITAL.sub(lambda found: f"_{found[0].lower()}", name)
