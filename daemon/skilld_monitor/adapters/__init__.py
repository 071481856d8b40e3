"""Whose calls are understood without a word of the program: each module knows one SDK."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    from skilld_monitor.monitoring import Monitoring

__all__ = ["watch_all"]

# By the module that is looked at once it is loaded, which of ours knows it.
_FRAMEWORKS = {"langchain_core.tracers.context": "langchain", "mcp.client.session": "mcp"}
_SDKS = {
    "anthropic.resources.messages.messages": "anthropic",
    "anthropic.resources.messages": "anthropic",
    "anthropic.resources.messages.batches": "anthropic",
    "anthropic.resources.beta.messages.messages": "anthropic",
    "anthropic.resources.beta.messages": "anthropic",
    "anthropic.resources.beta.messages.batches": "anthropic",
    "anthropic.resources.beta.prompt_caching.messages": "anthropic",
    "anthropic.resources.completions": "anthropic",
    "anthropic.lib.bedrock._beta_messages": "anthropic",
    "anthropic.lib.vertex._beta_messages": "anthropic",
    "anthropic.lib.streaming._messages": "anthropic",
    "anthropic.lib.streaming._prompt_caching_beta_messages": "anthropic",
    "anthropic._response": "anthropic",
    "anthropic._legacy_response": "anthropic",
    "openai.resources.chat.completions.completions": "openai",
    "openai.resources.chat.completions": "openai",
    "openai.resources.beta.chat.completions": "openai",
    "openai.resources.responses.responses": "openai",
    "openai.resources.embeddings": "openai",
    "openai.resources.completions": "openai",
    "openai._response": "openai",
    "openai._legacy_response": "openai",
    "opentelemetry.sdk.trace": "otel",
}


def watch_all(made: Monitoring) -> None:
    """Watch the SDKs that are loaded, and each other one as soon as the program loads it. Imports none of them."""
    from skilld_monitor.adapters.arrival import when_loaded

    for module in (*_SDKS, *(_FRAMEWORKS if made.settings.frameworks else ())):
        made.patches.on_restore(when_loaded(module, _watch, made))


def _watch(module: ModuleType, made: Monitoring) -> None:
    """What knows an SDK is loaded when that is: few programs have them all."""
    from importlib import import_module

    name = module.__name__
    import_module(f"{__name__}.{_SDKS.get(name) or _FRAMEWORKS[name]}").WATCHED[name](module, made)
