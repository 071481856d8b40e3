"""Generation A's `events_listener`: functions that report their calls."""

from __future__ import annotations

from skilld_monitor.calls import monitor_call, monitor_llm_call

__all__ = ["monitor_call", "monitor_llm_call"]
