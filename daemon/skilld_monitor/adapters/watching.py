"""How a method that calls a model is watched: what goes in, what comes out at once, and what comes out in pieces.

A stream stays the object that the SDK made, of its class, with every attribute. Only where it gets its pieces from is
looked at on the way, and where its connection is closed, so that its span ends when it is exhausted, closed, fails or
is dropped, whichever is first.
"""

from __future__ import annotations

import functools
import weakref
from time import perf_counter_ns

from skilld_monitor.adapters.answers import request_facts
from skilld_monitor.adapters.chunk_times import ATTRIBUTE, ChunkTimes
from skilld_monitor.adapters.covering import Cover, cover, uncover
from skilld_monitor.adapters.outer import begin_chat, leave_chat, stand_by
from skilld_monitor.adapters.servers import known_facts, server_facts
from skilld_monitor.monitoring import active
from skilld_monitor.policy.guard import before_call
from skilld_monitor.waiting import Waiting, named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Mapping
    from contextvars import Token
    from types import TracebackType
    from typing import Any

    from skilld_monitor.adapters.outer import WaitingChat
    from skilld_monitor.monitoring import Monitoring
    from skilld_monitor.scanning import Direction

    MakeCall = Callable[[object, dict[str, object], frozenset[str]], "Call"]
    Take = Callable[["Call", Any], Any]

__all__ = [
    "AsyncPieces",
    "Call",
    "Pieces",
    "Under",
    "WatchedAwaitable",
    "awaited",
    "begin",
    "called",
    "guarded",
    "is_coroutine_function",
    "kind_of",
    "taken",
    "watched",
]

_MAX_KINDS = 256
_kinds: dict[type, str] = {}


def kind_of(result: object) -> str:
    """What a method of an SDK returned: `stream`, `astream`, `response` (the HTTP one) or `answer`. By its class: to
    ask each object for attributes that it has not would take longer than the rest."""
    kind = _kinds.get(type(result))
    if kind is None:
        kind = "answer"
        if hasattr(result, "__stream__") or hasattr(result, "__decode__"):  # events, or lines of JSON
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
    chat: WaitingChat | None = None  # for what may ask an SDK that is watched itself: then it is one call
    is_reading = False  # whether the SDK is getting the next piece just now
    # Weakly, as the response has the call, and they have the response.
    pieces: Callable[[], _Looked | None] = staticmethod(lambda: None)
    _chunks: ChunkTimes | None = None
    _is_over = False

    def __init__(self, owner: object, kwargs: dict[str, object], capture: frozenset[str]) -> None:
        entered_ns = perf_counter_ns()
        self.capture = capture
        facts: dict[str, object] = {}
        try:
            facts = known_facts(owner, type(self), self.answering)
            facts.update(self.asked(kwargs))
        except Exception as error:  # what the program passes may be of any class; the SDK may take it all the same
            facts.setdefault("gen_ai.operation.name", self.operation)
            facts.setdefault("gen_ai.provider.name", self.provider)
            facts["skilld.unread"] = type(error).__name__
        model = facts.get("gen_ai.request.model")
        name = f"{self.operation} {model}" if model else self.operation
        self.running = begin_chat(name, "LLM", facts, owner, entered_ns)
        self.cover = Cover(self.running, "llm", owner)

    def __reduce__(self) -> Any:
        """Nothing of it goes along where a response is pickled."""
        return type(None), ()

    def answering(self, owner: object) -> dict[str, object]:
        """What is asked, and who answers; kept for the calls to come."""
        return {
            "gen_ai.operation.name": self.operation,
            "gen_ai.provider.name": self.provider_of(owner),
            **server_facts(owner),
        }

    def provider_of(self, owner: object) -> str:
        """Who answers, in OpenTelemetry's words."""
        return self.provider

    def asked(self, kwargs: dict[str, object]) -> dict[str, object]:
        """What the arguments say."""
        return request_facts(kwargs, self.capture)

    def on_answer(self, answer: object) -> None:
        """The whole answer has come: note what it says."""

    def on_piece(self, piece: object) -> None:
        """A piece of a streamed answer has come: note what it says."""

    def on_end(self) -> None:
        """No more pieces come: note what they made together."""

    def answered(self, answer: object) -> None:
        self.noted(self.on_answer, answer)
        self.running.end()

    def failed(self, error: BaseException) -> None:
        self.running.end(error)

    def piece(self, piece: object) -> None:
        if self._is_over:
            return
        chunks = self._chunks
        if chunks is not None:
            chunks.came(perf_counter_ns())
        else:
            self._chunks = ChunkTimes(perf_counter_ns())
            self.running.data["gen_ai.response.time_to_first_chunk"] = round(self.running.elapsed_ms / 1000, 6)
        self.noted(self.on_piece, piece)

    def ended(self, error: BaseException | None = None, status: str | None = None) -> None:
        """No more pieces come. The first word on it holds: what is closed may be dropped after that."""
        if not self._is_over:
            self._is_over = True
            self.noted(lambda _none: self.on_end(), None)
            said = None if self._chunks is None else self._chunks.said()
            if said is not None:
                self.running.data.setdefault(ATTRIBUTE, said)
            self.running.end(error, status)

    def stream(self, stream: Any, *, is_async: bool) -> None:
        """Look at the pieces of this stream from now on; without a place to look from, the span ends here."""
        inner = getattr(stream, "_iterator", None)
        if inner is None:
            self.ended()
            return
        pieces = (AsyncPieces if is_async else Pieces)(inner, self)
        stream._iterator = pieces
        self.pieces = weakref.ref(pieces)
        _end_when_closed(stream, self, is_async=is_async)

    def noted(self, note: Callable[[Any], None], what: object) -> None:
        """An answer of a shape that we do not know is the program's all the same."""
        began_ns = perf_counter_ns()
        try:
            note(what)
        except Exception as error:
            self.running.data["skilld.unread"] = type(error).__name__
        self.running.cost_ns += perf_counter_ns() - began_ns


class Under:
    """Around what makes the call: other instrumentation inside knows whose call it is, and what it raises ends it."""

    __slots__ = ("_call", "_chat", "_token")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._token: Token[Cover | None] | None = None
        self._chat: Token[tuple[WaitingChat, ...]] | None = None

    def __enter__(self) -> None:
        self._token = cover(self._call.cover)
        if self._call.chat is not None:
            self._chat = stand_by(self._call.chat)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._chat is not None:
            leave_chat(self._chat)
        if self._token is not None:
            uncover(self._token)
        if error is not None:
            self._call.failed(error)


def begin(
    make_call: MakeCall,
    owner: object,
    kwargs: dict[str, object],
    on: Monitoring,
    fields: Mapping[str, Direction] | None = None,
) -> tuple[Call, dict[str, object]]:
    """A call, with the arguments that it is to be made with.

    Args:
        fields: which arguments a policy looks at; those that SDKs have otherwise.

    Raises:
        BlockedError: if a policy forbids it. That is reported, without its content.

    """
    passed = guarded(make_call, owner, kwargs, on, fields) if on.policy.is_active else kwargs
    return make_call(owner, passed, on.settings.capture), passed


def guarded(
    make_call: MakeCall,
    owner: object,
    kwargs: dict[str, object],
    on: Monitoring,
    fields: Mapping[str, Direction] | None = None,
) -> dict[str, object]:
    """The arguments that a call is to be made with; as `begin`, for a call that begins later."""
    try:
        return before_call(on, kwargs, fields)
    except BaseException as error:
        make_call(owner, kwargs, frozenset()).failed(error)
        raise


def watched(make_call: MakeCall, take: Take, *, is_async: bool) -> Callable[[Any], Any]:
    """What makes a watched method of a method.

    Args:
        take: gets what the method returned and gives what the program gets; ends the call, or sees to it.
        is_async: whether what it returns is to be awaited.

    """

    def make(original: Any) -> Any:
        @functools.wraps(original)
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            on = active()
            if on is None:
                return original(self, *args, **kwargs)
            call, passed = begin(make_call, self, kwargs, on)
            token = cover(call.cover)
            try:
                result = original(self, *args, **passed)
            except BaseException as error:
                call.failed(error)
                raise
            finally:
                uncover(token)
            return awaited(call, result, take) if is_async else taken(take, call, result)

        if not is_coroutine_function(original):
            return method

        @functools.wraps(original)
        async def coroutine(self: Any, *args: Any, **kwargs: Any) -> Any:
            return await method(self, *args, **kwargs)

        return coroutine

    return make


def called(call: Call, make: Callable[[], Any], take: Take) -> Any:
    """Make the call."""
    with Under(call):
        result = make()
    return taken(take, call, result)


def awaited(call: Call, result: Awaitable[Any], take: Take) -> Any:
    """A coroutine that waits for the call's result."""
    waiting = Waiting(result, functools.partial(call.ended, status="cancelled"))
    return named(_awaited(call, waiting, take), result)


async def _awaited(call: Call, waiting: Waiting, take: Take) -> Any:
    with Under(call):
        answer = await waiting.begin()
    return taken(take, call, answer)


def is_coroutine_function(original: Any) -> bool:
    """Whether it is an `async def` itself; not a function that returns what one returned."""
    code = getattr(original, "__code__", None)
    return code is not None and bool(code.co_flags & 0x80)


def taken(take: Take, call: Call, result: Any) -> Any:
    """What the program gets. A result of a shape that we do not know is the program's all the same."""
    try:
        return take(call, result)
    except Exception as error:
        call.running.data["skilld.unread"] = type(error).__name__
        call.ended()
        return result


class _Looked:
    """What a stream reads from, looked at."""

    def __init__(self, inner: Any, call: Call | None) -> None:
        self._inner = inner
        self._call = call

    def moved_to(self, inner: Any) -> _Looked:
        """The same, for what reads from somewhere else instead; this one looks at nothing any more."""
        moved = type(self)(inner, self._call)
        if self._call is not None:
            self._call.pieces = weakref.ref(moved)
            self._call = None
        return moved

    def is_dropped(self) -> bool:
        """Whether it is being thrown away: nobody asks for a piece, and yet it runs."""
        return bool(getattr(self._inner, "gi_running", False) or getattr(self._inner, "ag_running", False))

    def over(self, status: str) -> None:
        """Nobody reads any more. A call that is part of this one says first what it knows."""
        inner = self._inner
        if isinstance(inner, _Looked):
            inner.over(status)
        if self._call is not None:
            self._call.ended(status=status)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __del__(self) -> None:
        if self._call is not None:
            self.over("abandoned")


class Pieces(_Looked):
    """An iterator that is looked at."""

    def __iter__(self) -> Pieces:
        return self

    def __next__(self) -> Any:
        call = self._call
        if call is None:
            return self._inner.__next__()
        call.is_reading = True
        try:
            piece = self._inner.__next__()
        except StopIteration:
            call.ended()
            raise
        except BaseException as error:
            call.ended(error)
            raise
        finally:
            call.is_reading = False
        call.piece(piece)
        return piece


class AsyncPieces(_Looked):
    """An asynchronous iterator that is looked at."""

    def __aiter__(self) -> AsyncPieces:
        return self

    async def __anext__(self) -> Any:
        call = self._call
        if call is None:
            return await self._inner.__anext__()
        call.is_reading = True
        try:
            piece = await self._inner.__anext__()
        except StopAsyncIteration:
            call.ended()
            raise
        except BaseException as error:
            call.ended(error)
            raise
        finally:
            call.is_reading = False
        call.piece(piece)
        return piece


def _end_when_closed(stream: Any, call: Call, *, is_async: bool) -> None:
    """Close as before, and end the span. By the HTTP response, which all ways to close a stream close in the end, and
    which the SDK closes too once it has read the last piece, or finds that nobody wants another."""
    made = active()
    response = getattr(stream, "response", None) or getattr(stream, "http_response", None)
    name = "aclose" if is_async else "close"
    closed: Any = response if hasattr(type(response), name) else stream
    name = "close" if closed is stream else name
    if made is None or not hasattr(type(closed), name):
        return
    # Of its class: a method of its own would hold it, and one that is dropped would wait for the collector; one that
    # holds it weakly would close nothing for who keeps the method and drops the rest.
    if not getattr(getattr(type(closed), name), "__skilld_monitor__", False):
        made.patches.replace(type(closed), name, _closing)
    closed._skilld_monitor_call = call


def _closing(original: Any) -> Any:
    """A method that closes, which says so to the call whose answer it ends."""

    @functools.wraps(original)
    def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        _say_closed(self)
        return original(self, *args, **kwargs)

    @functools.wraps(original)
    async def aclose(self: Any, *args: Any, **kwargs: Any) -> Any:
        _say_closed(self)
        return await original(self, *args, **kwargs)

    return aclose if is_coroutine_function(original) else close


def _say_closed(closed: Any) -> None:
    call: Call | None = getattr(closed, "__dict__", {}).pop("_skilld_monitor_call", None)
    if call is None:
        return
    pieces = call.pieces()
    if pieces is None:
        call.ended(status="abandoned")
    elif not call.is_reading:
        pieces.over("abandoned" if pieces.is_dropped() else "closed")


class WatchedAwaitable:
    """Something to be awaited once, looked at; never awaited, it is as if it had not been wrapped."""

    def __init__(self, inner: Awaitable[Any], make_call: Callable[[], Call], take: Take) -> None:
        self._inner = inner
        self._make_call = make_call
        self._take = take

    def __await__(self) -> Generator[Any, Any, Any]:
        call = self._make_call()
        with Under(call):
            answer = yield from self._inner.__await__()
        return taken(self._take, call, answer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)  # a coroutine that is not awaited is closed by whoever made it
