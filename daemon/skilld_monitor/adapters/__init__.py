"""Whose calls are understood without a word of the program: each module knows one SDK."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skilld_monitor.monitoring import Monitoring

__all__ = ["watch_all"]


def watch_all(made: Monitoring) -> None:
    """Watch the SDKs that are loaded, and each other one as soon as the program loads it. Imports none of them."""
    from skilld_monitor.adapters import anthropic, openai
    from skilld_monitor.adapters.arrival import when_loaded

    for module, watch in {**anthropic.WATCHED, **openai.WATCHED}.items():
        made.patches.on_restore(when_loaded(module, watch, made))
