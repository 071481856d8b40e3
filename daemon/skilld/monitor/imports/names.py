"""Names of Cylestio Monitor, and what they are called here. Pure.

Generation A has underscores, generation B has dots; both have two records for a call. What is not listed keeps its
name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from skilld.monitor.imports.record import Part

__all__ = ["ATTRIBUTES", "gen_ai_of", "split_name"]

_LEFT_OUT: Final = ("env.", "os.", "process.runtime.")  # the same in every record, half of its size
_WHOLE: Final[Mapping[str, str]] = {
    "monitoring.start": "monitoring_enabled",
    "monitoring.stop": "monitoring_disabled",
}
_PARTS_A: Final[Mapping[str, tuple[str, Part]]] = {
    "LLM_call_start": ("llm", "start"),
    "LLM_call_finish": ("llm", "finish"),
    "LLM_call_error": ("llm", "error"),
    "call_start": ("function", "start"),
    "call_finish": ("function", "finish"),
    "call_error": ("function", "error"),
    "anthropic_request": ("llm", "start"),
    "anthropic_response": ("llm", "finish"),
    "anthropic_error": ("llm", "error"),
    "mcp_request": ("tool", "start"),
    "mcp_response": ("tool", "finish"),
    "mcp_error": ("tool", "error"),
}
_ENDINGS: Final[Mapping[str, Part]] = {
    ".start": "start",
    ".request": "start",
    ".query": "start",
    ".execution": "start",
    ".call": "start",
    ".finish": "finish",
    ".end": "finish",
    ".response": "finish",
    ".result": "finish",
    ".error": "error",
}
_BASES: Final[Mapping[str, str]] = {"llm.call": "llm", "llm": "llm", "tool": "tool"}
_ALONE: Final = ("framework.", "monitoring.", "security.", "agent.startup", "agent.shutdown", "tool.inferred")

_ASKED: Final = {"system": "gen_ai.system_instructions", "stop_sequences": "gen_ai.request.stop_sequences"}

ATTRIBUTES: Final[Mapping[str, str]] = {
    "llm.vendor": "gen_ai.provider.name",
    "llm.model": "gen_ai.request.model",
    "llm.request.data": "gen_ai.input.messages",
    "llm.request.max_tokens": "gen_ai.request.max_tokens",
    "llm.request.temperature": "gen_ai.request.temperature",
    "llm.request.top_p": "gen_ai.request.top_p",
    "llm.request.top_k": "gen_ai.request.top_k",
    "llm.response.id": "gen_ai.response.id",
    "llm.response.content": "gen_ai.output.messages",
    "llm.usage.input_tokens": "gen_ai.usage.input_tokens",
    "llm.usage.output_tokens": "gen_ai.usage.output_tokens",
    "llm.response.usage.input_tokens": "gen_ai.usage.input_tokens",
    "llm.response.usage.output_tokens": "gen_ai.usage.output_tokens",
    "tool.name": "gen_ai.tool.name",
    "tool.id": "gen_ai.tool.call.id",
    "tool.params": "gen_ai.tool.call.arguments",
    "tool.result": "gen_ai.tool.call.result",
    "prompt": "gen_ai.input.messages",  # of generation A
    "response": "gen_ai.output.messages",
}
"""Attributes that have a name of OpenTelemetry's. The counts of tokens are as they were: where there were none in an
answer, generation B made them up."""


def split_name(name: str) -> tuple[str, str, Part]:
    """Our name of a record, what was called, and which part of the call it is."""
    if name in _WHOLE:
        return _WHOLE[name], "", "alone"
    if name in _PARTS_A:
        base, part = _PARTS_A[name]
        return base, base, part
    if not name.startswith(_ALONE):
        for ending, part in _ENDINGS.items():
            if name.endswith(ending) and len(name) > len(ending):
                base = name[: -len(ending)]
                return _BASES.get(base, base), _BASES.get(base, base), part
    return name, "", "alone"


def gen_ai_of(base: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """The data of a record under our names. What is the same in all of them is left out."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        if not key.startswith(_LEFT_OUT):
            found[ATTRIBUTES.get(key, key) if base in ("llm", "tool") else key] = value
    _open_request(found)
    if "llm.response.stop_reason" in found:
        found["gen_ai.response.finish_reasons"] = [found.pop("llm.response.stop_reason")]
    if base == "llm":
        found.setdefault("gen_ai.operation.name", "chat")
    elif base == "tool":
        found.setdefault("gen_ai.operation.name", "execute_tool")
    return found


def _open_request(found: dict[str, Any]) -> None:
    """Generation B has all that was asked under one name; what else it says of it has names of its own too."""
    asked = found.get("gen_ai.input.messages")
    if not isinstance(asked, Mapping) or "messages" not in asked:
        return
    found["gen_ai.input.messages"] = asked["messages"]
    for theirs, ours in _ASKED.items():
        if theirs in asked:
            found.setdefault(ours, asked[theirs])
