"""Generation B's `patchers`: what of it is used by hand. Everything else is watched by switching monitoring on."""

from __future__ import annotations

from skilld_monitor.adapters.langchain import get_callback_handler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    ToolMonitorCallbackHandler: Any

__all__ = ["ToolMonitorCallbackHandler", "get_callback_handler"]


def __getattr__(name: str) -> object:
    """The handler's class, which is made of LangChain's when it is asked for."""
    if name != "ToolMonitorCallbackHandler":
        raise AttributeError(f"{name!r} is not in {__name__}; docs/cylestio.md says what is in its place")
    return type(get_callback_handler())
