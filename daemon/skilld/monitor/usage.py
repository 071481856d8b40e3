"""What a reported span says of a call: which model it was, what it used, how it ended. Names are OpenTelemetry's.

Only calls of models count as such. Spans around them (of an agent, a workflow, a tool) may repeat what they used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from skilld.monitor.batch import MonitorEvent

__all__ = ["AROUND", "CallUse", "call_use", "operation_of"]

AROUND: Final = frozenset(
    ("create_agent", "invoke_agent", "invoke_workflow", "execute_tool", "plan", "retrieval", "create_memory")
)
_LARGEST: Final = 1 << 53


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


def call_use(event: MonitorEvent) -> CallUse | None:
    """What a call of a model used; None for everything else."""
    data = event.data
    if event.duration_us is None or type(data) is not dict or operation_of(event) in AROUND:
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
