"""Generation B's `utils.otel.generators`. Ids for what comes from elsewhere: spans of a program's own have theirs."""

from __future__ import annotations

from skilld_monitor.trace import new_span_id, new_trace_id

__all__ = ["generate_span_id", "generate_trace_context", "generate_trace_id"]


def generate_trace_id() -> str:
    """32 hexadecimal digits."""
    return new_trace_id()


def generate_span_id() -> str:
    """16 hexadecimal digits."""
    return new_span_id()


def generate_trace_context(parent_span_id: str | None = None) -> dict[str, str | None]:
    """`trace_id` and `span_id`, new ones, and the `parent_span_id`. Nothing is opened by it."""
    return {"trace_id": new_trace_id(), "span_id": new_span_id(), "parent_span_id": parent_span_id}
