"""Generation A's `db`: questions about what was reported, which the daemon answers."""

from __future__ import annotations

from skilld_monitor.compat.db import utils

__all__ = ["utils"]
