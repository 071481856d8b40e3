"""How a method that calls a model is watched: what goes in, what comes out at once, and what comes out in pieces.

A stream stays the object that the SDK made, of its class, with every attribute. Only where it gets its pieces from is
looked at on the way, so that its span ends when it is exhausted, closed, fails or is dropped, whichever is first.
"""

from __future__ import annotations

import functools
import weakref

from skilld_monitor.adapters.answers import request_facts
from skilld_monitor.monitoring import active
from skilld_monitor.spans import Running

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from typing import Any

__all__ = ["Call", "WatchedAwaitable", "kind_of", "taken", "watched"]

_MAX_KINDS = 256
_kinds: dict[type, str] = {}


def kind_of(result: object) -> str:
    """What a method of an SDK returned: `stream`, `astream`, `response` (the HTTP one) or `answer`. By its class: to
    ask each object for attributes that it has not would take longer than the rest."""
    kind = _kinds.get(type(result))
    if kind is None:
        kind = "answer"
        if hasattr(result, "__stream__"):
            kind = "astream" if hasattr(result, "__anext__") else "stream"
        elif hasattr(result, "http_response"):
            kind = "response"
        if len(_kinds) < _MAX_KINDS:
            _kinds[type(result)] = kind
    return kind


class Call:
    """One call of a model under way. An SDK's adapter says what pieces and answers mean.

    Args:
        capture: which content may be reported.

    """

    provider = "unknown"
    operation = "chat"

    def __init__(self, owner: object, kwargs: dict[str, object], capture: frozenset[str]) -> None:
        self.capture = capture
        facts: dict[str, object] = {
            "gen_ai.operation.name": self.operation,
            "gen_ai.provider.name": self.provider,
        }
        try:
            facts["gen_ai.provider.name"] = self.provider_of(owner)
            facts.update(request_facts(kwargs, capture))
        except Exception as error:  # what the program passes may be of any class; the SDK may take it all the same
            facts["skilld.unread"] = type(error).__name__
        model = facts.get("gen_ai.request.model")
        self.running = Running(f"{self.operation} {model}" if model else self.operation, "LLM", facts)
        self._had_piece = False

    def provider_of(self, owner: object) -> str:
        """Who answers, in OpenTelemetry's words."""
        return self.provider

    def on_answer(self, answer: object) -> None:
        """The whole answer has come: note what it says."""

    def on_piece(self, piece: object) -> None:
        """A piece of a streamed answer has come: note what it says."""

    def on_end(self) -> None:
        """No more pieces come: note what they made together."""

    def answered(self, answer: object) -> None:
        self._guard(self.on_answer, answer)
        self.running.end()

    def failed(self, error: BaseException) -> None:
        self.running.end(error)

    def piece(self, piece: object) -> None:
        if not self._had_piece:
            self._had_piece = True
            self.running.data["gen_ai.response.time_to_first_chunk"] = round(self.running.elapsed_ms / 1000, 6)
        self._guard(self.on_piece, piece)

    def ended(self, error: BaseException | None = None, status: str | None = None) -> None:
        self._guard(lambda _none: self.on_end(), None)
        self.running.end(error, status)

    def stream(self, stream: Any, *, is_async: bool) -> None:
        """Look at the pieces of this stream from now on; without a place to look from, the span ends here."""
        inner = getattr(stream, "_iterator", None)
        if inner is None:
            self.ended()
            return
        stream._iterator = (_AsyncPieces if is_async else _Pieces)(inner, self)
        _end_when_closed(stream, self, is_async=is_async)

    def _guard(self, note: Callable[[Any], None], what: object) -> None:
        """An answer of a shape that we do not know is the program's all the same."""
        try:
            note(what)
        except Exception as error:
            self.running.data["skilld.unread"] = type(error).__name__


def watched(
    make_call: Callable[[object, dict[str, object], frozenset[str]], Call],
    take: Callable[[Call, Any], Any],
    *,
    is_async: bool,
) -> Callable[[Any], Any]:
    """What makes a watched method of a method.

    Args:
        take: gets what the method returned and gives what the program gets; ends the call, or sees to it.
        is_async: whether what it returns is to be awaited.

    """

    def make(original: Any) -> Any:
        if is_async:

            @functools.wraps(original)
            def awaited(self: Any, *args: Any, **kwargs: Any) -> Any:
                on = active()
                if on is None:
                    return original(self, *args, **kwargs)
                call = make_call(self, kwargs, on.settings.capture)
                try:
                    result = original(self, *args, **kwargs)
                except BaseException as error:
                    call.failed(error)
                    raise
                return _await(result, call, take)

            if not _is_coroutine_function(original):
                return awaited

            @functools.wraps(original)
            async def coroutine(self: Any, *args: Any, **kwargs: Any) -> Any:
                return await awaited(self, *args, **kwargs)

            return coroutine

        @functools.wraps(original)
        def called(self: Any, *args: Any, **kwargs: Any) -> Any:
            on = active()
            if on is None:
                return original(self, *args, **kwargs)
            call = make_call(self, kwargs, on.settings.capture)
            try:
                result = original(self, *args, **kwargs)
            except BaseException as error:
                call.failed(error)
                raise
            return taken(take, call, result)

        return called

    return make


def _is_coroutine_function(original: Any) -> bool:
    code = getattr(original, "__code__", None)
    return code is not None and bool(code.co_flags & 0x80)


async def _await(result: Awaitable[Any], call: Call, take: Callable[[Call, Any], Any]) -> Any:
    try:
        answer = await result
    except BaseException as error:
        call.failed(error)
        raise
    return taken(take, call, answer)


def taken(take: Callable[[Call, Any], Any], call: Call, result: Any) -> Any:
    """What the program gets. A result of a shape that we do not know is the program's all the same."""
    try:
        return take(call, result)
    except Exception as error:
        call.running.data["skilld.unread"] = type(error).__name__
        call.ended()
        return result


class _Pieces:
    """The iterator that a stream reads from, looked at."""

    def __init__(self, inner: Any, call: Call) -> None:
        self._inner = inner
        self._call = call

    def __iter__(self) -> _Pieces:
        return self

    def __next__(self) -> Any:
        try:
            piece = self._inner.__next__()
        except StopIteration:
            self._call.ended()
            raise
        except BaseException as error:
            self._call.ended(error)
            raise
        self._call.piece(piece)
        return piece

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __del__(self) -> None:
        self._call.ended(status="abandoned")


class _AsyncPieces:
    """The asynchronous iterator that a stream reads from, looked at."""

    def __init__(self, inner: Any, call: Call) -> None:
        self._inner = inner
        self._call = call

    def __aiter__(self) -> _AsyncPieces:
        return self

    async def __anext__(self) -> Any:
        try:
            piece = await self._inner.__anext__()
        except StopAsyncIteration:
            self._call.ended()
            raise
        except BaseException as error:
            self._call.ended(error)
            raise
        self._call.piece(piece)
        return piece

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __del__(self) -> None:
        self._call.ended(status="abandoned")


def _end_when_closed(stream: Any, call: Call, *, is_async: bool) -> None:
    """Close as before, and end the span. The stream is held weakly: it must not hold itself."""
    if not hasattr(type(stream), "close"):
        return
    weak = weakref.ref(stream)

    if is_async:

        async def aclose() -> None:
            there = weak()
            call.ended(status="closed")
            if there is not None:
                await type(there).close(there)

        stream.close = aclose
        return

    def close() -> None:
        there = weak()
        call.ended(status="closed")
        if there is not None:
            type(there).close(there)

    stream.close = close


class WatchedAwaitable:
    """Something to be awaited once, looked at; never awaited, it is as if it had not been wrapped."""

    def __init__(self, inner: Awaitable[Any], begin: Callable[[], Call], take: Callable[[Call, Any], Any]) -> None:
        self._inner = inner
        self._begin = begin
        self._take = take

    def __await__(self) -> Generator[Any, Any, Any]:
        call = self._begin()
        try:
            answer = yield from self._inner.__await__()
        except BaseException as error:
            call.failed(error)
            raise
        return taken(self._take, call, answer)
