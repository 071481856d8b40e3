"""What helps with streams in Anthropic's older SDKs: it reads the response anew, and not the stream that was watched.

The stream that `create` made is dropped without having been read; whoever looks at its pieces looks at the helper's.
"""

from __future__ import annotations

import functools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType
    from typing import Any

    from skilld_monitor.monitoring import Monitoring

__all__ = ["WATCHED"]

_HELPERS = (
    *("MessageStream", "AsyncMessageStream"),
    *("PromptCachingBetaMessageStream", "AsyncPromptCachingBetaMessageStream"),
)


def _watch(module: ModuleType, made: Monitoring) -> None:
    for name in _HELPERS:
        helper = getattr(module, name, None)
        code = getattr(getattr(helper, "__init__", None), "__code__", None)
        if code is not None and "raw_stream" not in code.co_varnames:
            made.patches.replace(helper, "__init__", _watched)


def _watched(original: Any) -> Any:
    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        call = vars(self.response).get("_skilld_monitor_call")
        pieces = None if call is None else call.pieces()
        if pieces is not None:
            read = getattr(self, "_raw_stream", self)
            read._iterator = pieces.moved_to(read._iterator)

    return init


WATCHED: Mapping[str, Callable[[ModuleType, Monitoring], None]] = {
    "anthropic.lib.streaming._messages": _watch,
    "anthropic.lib.streaming._prompt_caching_beta_messages": _watch,
}
