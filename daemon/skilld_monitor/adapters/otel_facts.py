"""What a span of OpenTelemetry says, in the names that we report: which kind it is, and what may be told of it."""

from __future__ import annotations

from skilld_monitor.otel_names import in_our_names, kind_in_others_words
from skilld_monitor.values import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping
    from typing import Any

__all__ = ["facts_of", "is_of_server", "kind_of_span"]

_OPERATIONS = {
    "execute_tool": "tool",
    "invoke_agent": "agent",
    "create_agent": "agent",
    "invoke_workflow": "agent",
    "plan": "agent",
}
_CONTENT = {
    "gen_ai.input.messages": "input",
    "gen_ai.prompt": "input",
    "gen_ai.output.messages": "output",
    "gen_ai.completion": "output",
    "gen_ai.system_instructions": "system",
    "gen_ai.tool.definitions": "tools",
    "gen_ai.tool.call.arguments": "arguments",
    "gen_ai.tool.call.result": "result",
    "anthropic.tool_result.content": "result",
}
_PREFIXES = ("gen_ai.", "mcp.", "anthropic.", "openai.")
_EXACT = (
    *("error.type", "server.address", "server.port", "http.response.status_code", "http.request.resend_count"),
    *("jsonrpc.request.id", "jsonrpc.protocol.version", "rpc.response.status_code", "network.transport"),
)
_MAX_FACT_CHARS = 256  # longer text under a name that we do not know may be what somebody said


def kind_of_span(span: Any) -> str | None:
    """`llm`, `mcp`, `mcp server`, `tool` or `agent`, as far as it says so by now; None for a span of anything else."""
    attributes: Mapping[str, object] = span.attributes or {}
    if "mcp.method.name" in attributes and is_of_server(span):
        return "mcp server"
    operation = attributes.get("gen_ai.operation.name")
    if type(operation) is str:
        return _OPERATIONS.get(operation, "llm")
    kind = kind_in_others_words(attributes)
    if kind is not None:
        return None if kind == "other" else kind
    name = span.name
    if name.startswith("anthropic.") and "tool_use" in name:
        return "tool"
    return _kind_by_names(attributes)


def is_of_server(span: Any) -> bool:
    """Whether it is what was asked, not who asks."""
    return bool(span.kind.name == "SERVER")


def _kind_by_names(names: Iterable[str]) -> str | None:
    kind = None
    for name in names:
        if name.startswith("mcp."):
            return "mcp"
        if name.startswith("gen_ai."):
            kind = "tool" if name.startswith("gen_ai.tool.") else kind or "llm"
    return kind


def facts_of(
    attributes: Mapping[str, object], capture: frozenset[str], said: Container[str] = frozenset()
) -> dict[str, object]:
    """What is reported of it. Content only as far as `capture` allows: whoever made the span may have been told to
    take more. What nobody here knows the name of is left out.

    Args:
        said: what is known already, by its names.

    """
    found: dict[str, object] = {}
    for name, value in in_our_names(attributes).items():
        if name in said:
            continue
        field = _field_of(name)
        if field is not None:
            if field in capture:
                found[name] = plain(value)
        elif _is_known(name) and not (isinstance(value, str) and len(value) > _MAX_FACT_CHARS):
            found[name] = plain(value)
    return found


def _is_known(name: str) -> bool:
    return name in _EXACT or name.startswith(_PREFIXES)


def _field_of(name: str) -> str | None:
    """Which content it is: `gen_ai.prompt.0.content` is input, as `gen_ai.prompt` is."""
    field = _CONTENT.get(name)
    if field is None and name.startswith(("gen_ai.prompt.", "gen_ai.completion.")):
        field = "input" if name.startswith("gen_ai.prompt.") else "output"
    return field
