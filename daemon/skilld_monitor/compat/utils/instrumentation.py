"""Generation B's `utils.instrumentation`."""

from __future__ import annotations

from skilld_monitor.calls import instrument_function, instrument_method
from skilld_monitor.spans import Span

__all__ = ["Span", "instrument_function", "instrument_method"]
