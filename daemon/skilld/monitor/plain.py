"""Values of other makers' records as values that every store and every reader of JSON takes. Pure."""

from __future__ import annotations

import math
from typing import Any, Final

__all__ = ["MAX_DEPTH", "MAX_ITEMS", "MAX_TEXT_CHARS", "plain"]

MAX_TEXT_CHARS: Final = 32_768
MAX_ITEMS: Final = 1_024
MAX_DEPTH: Final = 16
_LARGEST: Final = 1 << 63


def plain(value: Any, depth: int = MAX_DEPTH) -> Any:
    """A copy that is JSON: text cut at `MAX_TEXT_CHARS`, lists and objects at `MAX_ITEMS`, nesting at `depth`.

    A number that JSON does not have, or that no reader takes exactly, is text.
    """
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT_CHARS else value[:MAX_TEXT_CHARS] + "..."
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -_LARGEST <= value < 2 * _LARGEST else str(value)[:100]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth <= 0:
        return "..."
    if isinstance(value, dict):
        pairs = list(value.items())[:MAX_ITEMS]
        return {str(key)[:MAX_TEXT_CHARS]: plain(item, depth - 1) for key, item in pairs}
    if isinstance(value, (list, tuple)):
        return [plain(item, depth - 1) for item in value[:MAX_ITEMS]]
    return str(value)[:MAX_TEXT_CHARS]
