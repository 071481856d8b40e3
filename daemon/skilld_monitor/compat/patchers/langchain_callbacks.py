"""Generation B's `patchers.langchain_callbacks`."""

from __future__ import annotations

from skilld_monitor.compat import patchers
from skilld_monitor.compat.patchers import get_callback_handler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    ToolMonitorCallbackHandler: Any

__all__ = ["ToolMonitorCallbackHandler", "get_callback_handler"]


def __getattr__(name: str) -> object:
    """As the package's."""
    found: object = patchers.__getattr__(name)
    return found
