"""Generation B's `utils.trace_context`."""

from __future__ import annotations

from skilld_monitor.trace import TraceContext

__all__ = ["TraceContext"]
