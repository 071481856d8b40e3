"""Generation B's `utils.otel`: ids as OpenTelemetry has them."""

from __future__ import annotations

from skilld_monitor.compat.utils.otel.generators import generate_span_id, generate_trace_context, generate_trace_id

__all__ = ["generate_span_id", "generate_trace_context", "generate_trace_id"]
