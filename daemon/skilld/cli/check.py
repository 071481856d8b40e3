"""One thing that was looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Check"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One finding. `remedy` is empty where there is nothing to do; `fix` does it, where that can hurt nothing."""

    name: str
    level: Literal["ok", "warn", "fail"]
    message: str
    remedy: str = ""
    fix: Callable[[], object] | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        shown = {"name": self.name, "level": self.level, "message": self.message, "remedy": self.remedy}
        return {**shown, "fixable": self.fix is not None}
