"""Any client by the path of a method, such as `messages.create` or `chat.completions.create`."""

from __future__ import annotations

import functools

from skilld_monitor.adapters.answers import answer_facts, get
from skilld_monitor.adapters.watching import Call, taken
from skilld_monitor.monitoring import active

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skilld_monitor.monitoring import Monitoring

__all__ = ["watch_client"]


class GenericCall(Call):
    """A call of a client that no adapter knows: what its answer has in common with others' is read."""

    def on_answer(self, answer: object) -> None:
        self.running.data.update(answer_facts(answer, self.capture, lambda found: get(found, "content") or found))


def watch_client(made: Monitoring, client: object, path: str) -> None:
    """Watch the method at the end of the path, on this object alone unless its class is watched already.

    Raises:
        AttributeError: if there is no such method.

    """
    *owners, method = path.split(".")
    owner = client
    for name in owners:
        owner = getattr(owner, name)
    if getattr(getattr(type(owner), method, None), "__skilld_monitor__", False):
        return
    made.patches.replace(owner, method, _watched)


def _watched(original: Any) -> Any:
    @functools.wraps(original)
    def called(*args: Any, **kwargs: Any) -> Any:
        on = active()
        if on is None:
            return original(*args, **kwargs)
        call = GenericCall(getattr(original, "__self__", None), kwargs, on.settings.capture)
        try:
            result = original(*args, **kwargs)
        except BaseException as error:
            call.failed(error)
            raise
        if hasattr(result, "__await__"):
            return _await(result, call)
        return taken(_take, call, result)

    return called


async def _await(result: Any, call: Call) -> Any:
    try:
        answer = await result
    except BaseException as error:
        call.failed(error)
        raise
    return taken(_take, call, answer)


def _take(call: Call, result: Any) -> Any:
    if getattr(result, "_iterator", None) is not None:
        call.stream(result, is_async=hasattr(result, "__anext__"))
    else:
        call.answered(result)
    return result
