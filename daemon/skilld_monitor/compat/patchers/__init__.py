"""Generation B's `patchers`: what of it is used by hand. Everything else is watched by switching monitoring on."""

from __future__ import annotations

from skilld_monitor.adapters.langchain import get_callback_handler
from skilld_monitor.compat._places import HERE, found_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skilld_monitor.compat.patchers import langchain_callbacks

    ToolMonitorCallbackHandler: Any

__all__ = ["ToolMonitorCallbackHandler", "get_callback_handler", "langchain_callbacks"]


_found = found_in(__name__, {"langchain_callbacks": HERE})


def __getattr__(name: str) -> object:
    """The handler's class, which is made of LangChain's when it is asked for."""
    return type(get_callback_handler()) if name == "ToolMonitorCallbackHandler" else _found(name)
