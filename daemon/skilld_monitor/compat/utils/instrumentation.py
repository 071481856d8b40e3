"""Generation B's `utils.instrumentation`."""

from __future__ import annotations

from skilld_monitor import spans
from skilld_monitor.calls import instrument_function, instrument_method
from skilld_monitor.trace import own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Span", "instrument_function", "instrument_method"]


class Span(spans.Span):
    """A part of the program; what `with` gives are its ids as a dictionary, as there."""

    def __enter__(self) -> Any:
        """`trace_id`, `span_id`, `parent_span_id` (None for none) and `name`."""
        super().__enter__()
        place = own()  # and not `self.span_id`, which may be another thread's by now
        assert place is not None
        return {"trace_id": place.trace, "span_id": place.span, "parent_span_id": place.parent, "name": self.name}
