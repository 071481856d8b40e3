"""Generation A's `db`: questions about what was reported, which the daemon answers."""

from __future__ import annotations

from skilld_monitor.compat._places import HERE, found_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skilld_monitor.compat.db import utils

__all__ = ["utils"]

__getattr__ = found_in(__name__, {"utils": HERE})
