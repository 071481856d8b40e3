"""Any client by the path of a method, such as `messages.create` or `chat.completions.create`.

The program gets what it would have got: the very object, or for coroutines and generators, which end later, one of the
same kind that hands on all that goes in and out. Where the method asks an SDK that is watched itself, that is one call.
"""

from __future__ import annotations

import functools
from types import (
    AsyncGeneratorType,
    BuiltinFunctionType,
    CoroutineType,
    FunctionType,
    GeneratorType,
    MethodType,
)

from skilld_monitor.adapters.answers import answer_facts, get
from skilld_monitor.adapters.outer import Joined, WaitingChat
from skilld_monitor.adapters.watching import Call, Under, awaited, begin, is_coroutine_function, taken
from skilld_monitor.monitoring import active
from skilld_monitor.policy.guard import every_field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from types import TracebackType
    from typing import Any

    from skilld_monitor.monitoring import Monitoring

__all__ = ["watch_client"]


class GenericCall(Call):
    """A call of a client that no adapter knows: what its answer has in common with others' is read. What an SDK beneath
    says of the same call counts for more."""

    def __init__(self, owner: object, kwargs: dict[str, object], capture: frozenset[str]) -> None:
        super().__init__(owner, kwargs, capture)
        if not isinstance(self.running, Joined):
            self.chat = WaitingChat(self.running)

    def on_answer(self, answer: object) -> None:
        self.running.learn(answer_facts(answer, self.capture, lambda found: get(found, "content") or found))

    def noted(self, note: Callable[[Any], None], what: object) -> None:
        if self.chat is not None:
            self.chat.over = True
        super().noted(note, what)
        model = self.running.data.get("gen_ai.request.model")
        if self.running.name == self.operation and model:
            self.running.name = f"{self.operation} {model}"


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
    made.patches.replace(owner, method, _watched_object if _is_object(getattr(owner, method)) else _watched)
    again: Any = client
    for name in owners:
        again = getattr(again, name)
    if again is not owner:
        raise AttributeError(f"{'.'.join(owners)} is another object each time that it is asked for")


def _is_object(called: object) -> bool:
    """Whether it is something with a call and more, such as the calls of gRPC, and no function."""
    return not isinstance(called, (FunctionType, MethodType, BuiltinFunctionType, type))


def _watched_object(original: Any) -> Any:
    from skilld_monitor.adapters.called_object import watched_object

    return watched_object(original, _watched(original))


def _watched(original: Any) -> Any:
    owner = getattr(original, "__self__", None)

    @functools.wraps(original)
    def method(*args: Any, **kwargs: Any) -> Any:
        on = active()
        if on is None:
            return original(*args, **kwargs)
        placed = {f"#{number}": value for number, value in enumerate(args)}
        given = {**kwargs, **placed}
        call, passed = begin(GenericCall, owner, given, on, every_field(given) if on.policy.is_active else None)
        args = tuple(passed.pop(name) for name in placed)
        with Under(call):
            result = original(*args, **passed)
        return awaited(call, result, _take) if isinstance(result, CoroutineType) else taken(_take, call, result)

    if not is_coroutine_function(getattr(original, "__func__", original)):
        return method

    @functools.wraps(original)
    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        return await method(*args, **kwargs)

    return coroutine


def _take(call: Call, result: Any) -> Any:
    if isinstance(result, GeneratorType):
        return _named(_looked(result, call), result)
    if isinstance(result, AsyncGeneratorType):
        return _named(_alooked(result, call), result)
    if _is_stream(result):
        call.stream(result, is_async=hasattr(type(result), "__anext__"))
    elif callable(getattr(type(result), "add_done_callback", None)):
        result.add_done_callback(functools.partial(_take_future, call))
    elif hasattr(result, "__await__"):
        call.running.data["skilld.unread"] = type(result).__name__  # what it comes to is not seen without changing it
        call.ended()
    else:
        call.answered(result)
    return result


def _is_stream(result: Any) -> bool:
    """Whether it is one as SDKs make them; not whatever answers to any name."""
    kind = type(result)
    is_iterator = hasattr(kind, "__next__") or hasattr(kind, "__anext__")
    return is_iterator and getattr(result, "__dict__", {}).get("_iterator") is not None


def _take_future(call: Call, future: Any) -> None:
    """Asked by no method of its own for its error: whose error nobody asked for says so when it is dropped."""
    error = None if future.cancelled() else getattr(future, "_exception", None)
    if future.cancelled():
        call.ended(status="cancelled")
    elif error is not None:
        call.failed(error)
    else:
        call.answered(future.result())


def _named(made: Any, inner: Any) -> Any:
    made.__name__, made.__qualname__ = inner.__name__, inner.__qualname__
    return made


def _looked(inner: Any, call: Call) -> Generator[Any, Any, Any]:
    step = functools.partial(next, inner)
    while True:
        try:
            with _Reading(call):
                piece = step()
        except StopIteration as last:
            call.ended()
            return last.value
        call.piece(piece)
        try:
            step = functools.partial(inner.send, (yield piece))
        except GeneratorExit:
            call.ended(status="closed")
            inner.close()
            raise
        except BaseException as error:
            step = functools.partial(inner.throw, error)


async def _alooked(inner: Any, call: Call) -> AsyncGenerator[Any, Any]:
    step = inner.__anext__
    while True:
        try:
            with _Reading(call):
                piece = await step()
        except StopAsyncIteration:
            call.ended()
            return
        call.piece(piece)
        try:
            step = functools.partial(inner.asend, (yield piece))
        except GeneratorExit:
            call.ended(status="closed")
            await inner.aclose()
            raise
        except BaseException as error:
            step = functools.partial(inner.athrow, error)


class _Reading(Under):
    """Around each step to the next piece: its end is none of the call's errors."""

    __slots__ = ()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(None, None, None)
        if error is not None and not isinstance(error, (StopIteration, StopAsyncIteration)):
            self._call.ended(error)
