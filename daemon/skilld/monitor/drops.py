"""Why the connection of a program that reports is closed on it."""

from __future__ import annotations

from typing import Final

__all__ = ["DROPS"]

DROPS: Final = ("bad", "crowded", "failed", "forbidden", "overloaded", "slow", "too_large")
