"""Generation B's `utils`."""

from __future__ import annotations

__all__ = ()
