"""How full the model's window is with a conversation, and how much of it was read from the cache, in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["cache_share", "context_text"]

_CELLS: Final = 20
_INPUTS: Final = ("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")


def context_text(session: Mapping[str, Any]) -> str | None:
    """Such as "context: [####................] 21 %, 210,000 of 1,000,000 tokens · cache hits 84 %"; None if unknown.

    Args:
        session: as the API shows it.

    """
    context = session.get("context")
    if not isinstance(context, Mapping) or not context.get("window"):
        return None
    tokens, window = int(context.get("tokens") or 0), int(context["window"])
    share = min(1.0, tokens / window)
    filled = min(_CELLS, round(share * _CELLS) or bool(tokens))
    bar = "#" * filled + "." * (_CELLS - filled)
    text = f"context: [{bar}] {share:.0%}, {tokens:,} of {window:,} tokens".replace("%", " %")
    hits = cache_share(session.get("usage") or {})
    return text if hits is None else f"{text} · cache hits {round(hits * 100)} %"


def cache_share(usage: Mapping[str, Any]) -> float | None:
    """The share of all input that was read from the cache; None where there was no input."""
    read = sum(int(usage.get(name) or 0) for name in _INPUTS)
    return int(usage.get("cache_read_tokens") or 0) / read if read else None
