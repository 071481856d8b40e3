"""An event as a line of JSON, as the interface shows it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["EVENT_KEYS", "compact", "one_line"]

EVENT_KEYS: Final = ("skilld.event_id", "skilld.run", "skilld.seq")  # what says in other formats which event it was


def compact(value: Any) -> bytes:
    """As JSON in UTF-8, without blanks; what no file can hold is a question mark."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8", "replace")


def one_line(event: Mapping[str, Any]) -> bytes:
    """The event with its end of line. What is not known is left out."""
    return compact({key: value for key, value in event.items() if value not in (None, [], ())}) + b"\n"
