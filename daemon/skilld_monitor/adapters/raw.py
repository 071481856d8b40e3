"""The HTTP responses that an SDK hands over in place of an answer.

A body that has been read belongs to nobody alone: it is looked into. One that has not is the program's to read, whole,
in pieces or by the SDK's parser; only what the parser makes of it is looked at. Its span ends with that, else when the
response is closed or dropped.
"""

from __future__ import annotations

import functools
import sys
import weakref
from itertools import compress
from types import MethodType

from skilld_monitor.adapters.watching import is_coroutine_function, kind_of, taken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from skilld_monitor.adapters.watching import Call
    from skilld_monitor.monitoring import Monitoring

__all__ = ["take", "watch_responses"]

_WAITING = "_skilld_monitor_waiting"
_KEPT = ("WithRawResponse", "WithStreamingResponse")


def take(call: Call, result: Any) -> Any:
    """What a watched method returned: an answer, a stream of one, or the response itself. The same object again."""
    kind = kind_of(result)
    if kind == "answer":
        call.answered(result)
    elif kind == "response":
        _take_response(call, result)
    else:
        call.stream(result, is_async=kind == "astream")
    return result


def watch_responses(module: ModuleType, made: Monitoring) -> None:
    """Watch the classes of an SDK that hold a response: by them, since their methods are bound when they are asked."""
    for name in ("APIResponse", "AsyncAPIResponse", "LegacyAPIResponse"):
        owner = getattr(module, name, None)
        for method, make in (("parse", _watched_parse), ("close", _watched_close)):
            if hasattr(owner, method):
                made.patches.replace(owner, method, make)
    package, _, rest = module.__name__.partition(".")
    if rest == "_response" and made.policy.is_active:  # to find them takes longer than all else that is done here
        _watch_kept(package, made)


def _watch_kept(package: str, made: Monitoring) -> None:
    """Watch what clients made of their methods before those were watched: a resource keeps its `with_raw_response`, and
    that the methods as they were. Of an SDK that is loaded already its resources are watched by now."""
    import gc

    resources = [module for name, module in [*sys.modules.items()] if name.startswith(f"{package}.resources.")]
    named = [found for module in resources for name, found in [*vars(module).items()] if name.endswith(_KEPT)]
    kinds = {found for found in named if isinstance(found, type)}
    known = {id(kind) for kind in kinds}  # not all that are classes to somebody can be asked for their hash
    everything = gc.get_objects() if kinds else []  # nobody else knows them
    for kept in compress(everything, map(known.__contains__, map(id, map(type, everything)))):
        for wrapper in [*vars(kept).values()]:
            _watch_wrapper(wrapper, made)


def _watch_wrapper(wrapper: Any, made: Monitoring) -> None:
    """Have it call the method as it is watched, and as it was when all is put back."""
    bound = getattr(wrapper, "__wrapped__", None)
    names = getattr(getattr(wrapper, "__code__", None), "co_freevars", ())
    if not isinstance(bound, MethodType) or "func" not in names:
        return
    cell = wrapper.__closure__[names.index("func")]
    watched: Any = getattr(type(bound.__self__), bound.__name__, None)
    if cell.cell_contents is not bound or not getattr(watched, "__skilld_monitor__", False):
        return
    if getattr(bound, "__skilld_monitor__", False):
        return
    cell.cell_contents = MethodType(watched, bound.__self__)
    known = weakref.ref(wrapper)

    def put_back() -> None:
        kept = known()
        if kept is not None:
            kept.__closure__[names.index("func")].cell_contents = kept.__wrapped__

    made.patches.on_restore(put_back)


def _take_response(call: Call, result: Any) -> None:
    response = result.http_response
    call.running.data["http.response.status_code"] = response.status_code
    retries = getattr(result, "retries_taken", 0)
    if type(retries) is int and retries > 0:
        call.running.data["http.request.resend_count"] = retries
    if _is_read(response) and "event-stream" not in response.headers.get("content-type", ""):
        call.answered(_body(response))
    else:
        setattr(result, _WAITING, _Waiting(call))


class _Waiting:
    """A call whose response is not read yet; it ends when it is dropped together with the response."""

    def __init__(self, call: Call) -> None:
        self.call: Call | None = call

    def __del__(self) -> None:
        if self.call is not None:
            self.call.ended(status="abandoned")


def _waiting_call(result: Any) -> Call | None:
    """Take the call that waits for this response."""
    waiting = getattr(result, _WAITING, None)
    if waiting is None:
        return None
    delattr(result, _WAITING)
    call: Call = waiting.call
    waiting.call = None
    return call


def _is_read(response: Any) -> bool:
    return bool(getattr(response, "is_stream_consumed", False))


def _body(response: Any) -> object:
    """As JSON; None of one that the program took away piece by piece, or that is none."""
    from json import loads

    content = getattr(response, "_content", None)
    try:
        return loads(content) if content else None
    except ValueError:
        return None


def _parsed(result: Any, answer: Any) -> None:
    call = _waiting_call(result)
    if call is None:
        return
    if kind_of(answer) == "answer":
        body = _body(result.http_response)
        call.answered(answer if body is None else body)
    else:
        taken(take, call, answer)


def _watched_parse(original: Any) -> Any:
    if is_coroutine_function(original):

        @functools.wraps(original)
        async def aparse(self: Any, *args: Any, **kwargs: Any) -> Any:
            answer = await original(self, *args, **kwargs)
            _parsed(self, answer)
            return answer

        return aparse

    @functools.wraps(original)
    def parse(self: Any, *args: Any, **kwargs: Any) -> Any:
        answer = original(self, *args, **kwargs)
        _parsed(self, answer)
        return answer

    return parse


def _watched_close(original: Any) -> Any:
    @functools.wraps(original)
    def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = _waiting_call(self)
        if call is not None:
            call.ended(status="ok" if _is_read(self.http_response) else "closed")
        return original(self, *args, **kwargs)

    if not is_coroutine_function(original):
        return close

    @functools.wraps(original)
    async def aclose(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await close(self, *args, **kwargs)

    return aclose
