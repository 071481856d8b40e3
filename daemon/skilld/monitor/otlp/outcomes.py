"""How a request of OTLP may end, in one word."""

from __future__ import annotations

from typing import Final

__all__ = ["OUTCOMES"]

OUTCOMES: Final = ("ok", "partial", "bad", "failed", "forbidden", "overloaded", "too_large", "unknown")
