"""What a reported span says of a call: which model it was, what it used, how it ended. Names are OpenTelemetry's.

Only calls of models count as such. Spans around them (of an agent, a workflow, a tool) may repeat what they used.

A request to an MCP server is a span of who asks and another of who is asked. Where a tool does its work by one, the
tool's span may say so in the place of the request's: it is both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from skilld.monitor.batch import MonitorEvent
from skilld_monitor.otel_names import kind_in_others_words

__all__ = ["AROUND", "CallUse", "call_use", "is_tool", "mcp_side", "operation_of", "request_s"]

AROUND: Final = frozenset(
    ("create_agent", "invoke_agent", "invoke_workflow", "execute_tool", "plan", "retrieval", "create_memory")
)
_LARGEST: Final = 1 << 53
_METHOD: Final = "mcp.method.name"
_KIND: Final = "otel.kind"


class CallUse(NamedTuple):
    """What one call of a model used. Input tokens are all of them, those of caches included.

    Args:
        model: that was asked for; `answered` the one that answered, as far as it said so.
        input_tokens: None where it did not say, as `output_tokens`.

    """

    model: str
    answered: str
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int
    cache_write_tokens: int


def operation_of(event: MonitorEvent) -> str:
    """The operation that a span is of; empty for what is no span, or says nothing of it."""
    data = event.data
    if event.duration_us is None or type(data) is not dict:
        return ""
    operation = data.get("gen_ai.operation.name")
    return operation if isinstance(operation, str) else ""


def mcp_side(event: MonitorEvent) -> Literal["client", "server"] | None:
    """Whose span of a request of MCP it is; None for what is none."""
    data = event.data
    if event.duration_us is None or type(data) is not dict or data.get(_METHOD) is None:
        return None
    return "server" if data.get(_KIND) == "server" else "client"


def is_tool(event: MonitorEvent) -> bool:
    """Whether it is a tool's span, and not that of a request for one, which is called by its method."""
    if operation_of(event) != "execute_tool":
        return False
    kind, method = event.data.get(_KIND), event.data.get(_METHOD)
    if method is None:
        return True
    if kind == "server" or (isinstance(method, str) and method and event.name.startswith(method)):
        return False
    return kind != "client" or event.name.startswith("execute_tool")


def request_s(event: MonitorEvent) -> float:
    """How long the request of MCP took that a span is of: of a tool's as much as it says, else all of it."""
    assert event.duration_us is not None
    said = event.data.get("skilld.mcp_request_s")
    took_s = event.duration_us / 1e6
    return said if isinstance(said, (int, float)) and 0 <= said <= took_s else took_s


def call_use(event: MonitorEvent) -> CallUse | None:
    """What a call of a model used; None for everything else."""
    data = event.data
    if event.duration_us is None or type(data) is not dict:
        return None
    operation = operation_of(event)
    if operation in AROUND or (not operation and kind_in_others_words(data) not in (None, "llm")):
        return None
    model, answered = data.get("gen_ai.request.model"), data.get("gen_ai.response.model")
    if not isinstance(model, str):
        model = answered
    if not isinstance(model, str) or not model:
        return None
    return CallUse(
        model,
        answered if isinstance(answered, str) and answered else model,
        _count(data.get("gen_ai.usage.input_tokens")),
        _count(data.get("gen_ai.usage.output_tokens")),
        _count(data.get("gen_ai.usage.cache_read.input_tokens")) or 0,
        _cache_writes(data),
    )


def _cache_writes(data: Mapping[str, Any]) -> int:
    """Under the name of today, or the one before."""
    written = _count(data.get("gen_ai.usage.cache_write.input_tokens"))
    return written or _count(data.get("gen_ai.usage.cache_creation.input_tokens")) or 0


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < _LARGEST else None
