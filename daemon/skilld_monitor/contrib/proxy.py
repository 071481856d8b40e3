"""A client in front of a client: each of its calls is reported, however deep in it the method is.

    client = monitored(Anthropic())
    client.messages.create(...)  # the events proxy_call_start and proxy_call_finish, of the method messages.create

Parts of the client are followed: objects of classes of the same package. What its methods return is the program's own
object, but for streams and their managers, which are stood for as well until they end, and for further clients.
"""

from __future__ import annotations

from functools import partial
from types import AsyncGeneratorType, CoroutineType, GeneratorType, ModuleType
from weakref import WeakValueDictionary

from skilld_monitor.contrib.service import watch_as
from skilld_monitor.contrib.stand_in import StandIn, class_for, has_special, real_of
from skilld_monitor.contrib.work import Work, around, drive, drive_async, failure
from skilld_monitor.monitoring import active
from skilld_monitor.records import event
from skilld_monitor.spans import Running
from skilld_monitor.values import plain
from skilld_monitor.waiting import Waiting, named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from typing import Any

__all__ = ["LLMClientProxy", "monitored"]

_PLAIN = frozenset((str, bytes, int, float, bool, type(None), list, tuple, dict, set, frozenset))
_RUNS = ("__next__", "__anext__", "__enter__", "__aenter__", "__await__")  # what is not over when it is returned


def monitored(client: Any, *, channel: str = "PROXY", agent_id: str | None = None) -> Any:
    """A client that does what this one does, and reports its calls; the same again for one that is that already.

    Args:
        channel: of the events and spans.
        agent_id: whose they are, if not the whole program's.

    """
    if issubclass(type(client), StandIn):
        return client
    return _Part.of(client, _Way(client, channel, agent_id), "")


def LLMClientProxy(  # stands where programs have a class of this name
    agent_id: str, real_client: Any = None, *, llm_method_path: str = "messages.create", **settings: Any
) -> Any:
    """`monitored` of this client, with monitoring switched on for the agent. Without a client, Anthropic's."""
    if real_client is None:
        from importlib import import_module

        real_client = import_module("anthropic").Anthropic()
    watch_as(agent_id, real_client, llm_method_path, settings)
    return monitored(real_client, agent_id=agent_id)


class _Way:
    """What is the same for all parts of one client."""

    def __init__(self, client: Any, channel: str, agent_id: str | None) -> None:
        self.kind: type = type(client)
        self.package = self.kind.__module__.partition(".")[0]
        self.channel = channel
        self.agent_id = agent_id
        self.parts: WeakValueDictionary[tuple[int, str], _Part] = WeakValueDictionary()

    def is_own(self, value: Any) -> bool:
        """Whether it is of the client's package, and no class, module or exception."""
        if isinstance(value, (type, ModuleType, BaseException)):
            return False
        return type(value).__module__.partition(".")[0] == self.package and type(value).__module__ != "builtins"


class _Part(StandIn):
    """A client, or a part of one."""

    __slots__ = ("_skilld_path", "_skilld_way")

    @classmethod
    def of(cls, real: Any, way: _Way, path: str) -> Any:
        """The one for this place in the client: whoever asks twice for a part gets the same."""
        made = way.parts.get((id(real), path))  # while there is one, it keeps its real one and so the number
        if made is None:
            made = class_for(cls, type(real))(real)
            object.__setattr__(made, "_skilld_way", way)
            object.__setattr__(made, "_skilld_path", path)
            way.parts[id(real), path] = made
        return made

    def _skilld_followed(self, name: str, value: Any) -> Any:
        if type(value) in _PLAIN or name.startswith("_"):  # what begins so is the client's own business
            return value
        way: _Way = self._skilld_way
        path = f"{self._skilld_path}.{name}" if self._skilld_path else name
        kind = type(value).__name__
        if kind in ("method", "function", "builtin_function_or_method", "partial", "method-wrapper"):
            return _reported(value, way, path, self)
        return _Part.of(value, way, path) if way.is_own(value) else value

    def _skilld_again(self, real: Any) -> Any:
        return _Part.of(real, self._skilld_way, self._skilld_path)

    def _skilld_call(self, *args: Any, **kwargs: Any) -> Any:
        called = real_of(self)
        return _reported(called.__call__, self._skilld_way, self._skilld_path or "__call__", self)(*args, **kwargs)

    def _skilld_enter(self) -> Any:
        return self._skilld_same(type(real_of(self)).__enter__(real_of(self)))

    async def _skilld_aenter(self) -> Any:
        return self._skilld_same(await type(real_of(self)).__aenter__(real_of(self)))

    def _skilld_same(self, entered: Any) -> Any:
        return self if entered is real_of(self) else entered


class _Call(Work):
    def __init__(self, way: _Way, path: str, data: dict[str, object]) -> None:
        super().__init__(Running("proxy_call_finish", way.channel, {"method": path}), way.agent_id)
        on = active()
        if on is not None:
            with self.frame:
                on.report(event("proxy_call_start", data, way.channel, "INFO"))

    def at_end(self, error: BaseException | None) -> None:
        running = self.running
        running.data["duration_ms"] = round(running.elapsed_ms, 3)
        if error is not None:
            running.name = "proxy_call_error"
            running.data["error"] = failure(error)


def _reported(func: Any, way: _Way, path: str, part: Any) -> Any:
    """The method, whose calls are reported."""

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Work | None:
        on = active()
        if on is None:
            return None
        data: dict[str, object] = {"method": path}
        if "arguments" in on.settings.capture:
            data.update(args=plain(args), kwargs=plain(kwargs))
        return _Call(way, path, data)

    return around(func, begin, lambda result, work: _settled(result, work, way, path, part))


def _settled(result: Any, work: Work | None, way: _Way, path: str, part: Any) -> Any:
    """What the program gets for what a method returned, and when the call has ended."""
    kind = type(result)
    if kind is CoroutineType:
        put_away = (lambda: None) if work is None else partial(work.end, status="cancelled")
        return named(_awaited(Waiting(result, put_away), work, way, path, part), result)
    if work is not None and kind is GeneratorType:
        return drive(result, work)
    if work is not None and kind is AsyncGeneratorType:
        return drive_async(result, work)
    is_own = kind not in _PLAIN and way.is_own(result)
    if is_own and (kind is way.kind or result is real_of(part)):  # a client again
        if work is not None:
            work.end()
        return part if result is real_of(part) else _Part.of(result, way, "")
    if is_own and work is not None and any(has_special(kind, name) for name in _RUNS):
        return _Run.of(result, work)
    if work is not None:
        work.end()
    return result


async def _awaited(waiting: Waiting, work: Work | None, way: _Way, path: str, part: Any) -> Any:
    if work is None:
        return _settled(await waiting.begin(), None, way, path, part)
    try:
        with work.frame:
            result = await waiting.begin()
    except BaseException as error:
        work.end(error)
        raise
    return _settled(result, work, way, path, part)


class _Run(StandIn):
    """A stream, or what opens one: its call has ended when it has, is closed, or nobody has it any more."""

    __slots__ = ("_skilld_owner", "_skilld_work")

    @classmethod
    def of(cls, real: Any, work: Work, owner: Any = None) -> Any:
        """`owner` is what opened it, if that ends the call: it lives as long as this does."""
        made = class_for(cls, type(real))(real)
        object.__setattr__(made, "_skilld_work", work)
        object.__setattr__(made, "_skilld_owner", owner)
        return made

    def _skilld_followed(self, name: str, value: Any) -> Any:
        if name not in ("close", "aclose") or not callable(value):
            return value
        work: Work = self._skilld_work

        def closed(*args: Any, **kwargs: Any) -> Any:
            work.end(status="closed")
            return value(*args, **kwargs)

        return closed

    def _skilld_inner(self, entered: Any) -> Any:
        """What a manager opened; it ends with the manager at the latest."""
        if entered is real_of(self):
            return self
        is_stream = has_special(type(entered), "__next__") or has_special(type(entered), "__anext__")
        is_own = type(entered).__module__.partition(".")[0] == type(real_of(self)).__module__.partition(".")[0]
        return _Run.of(entered, self._skilld_work, self) if is_stream and is_own else entered

    def _skilld_next(self) -> Any:
        real, work = real_of(self), self._skilld_work
        try:
            with work.frame:
                return type(real).__next__(real)
        except StopIteration:
            work.end()
            raise
        except BaseException as error:
            work.end(error)
            raise

    async def _skilld_anext(self) -> Any:
        real, work = real_of(self), self._skilld_work
        try:
            with work.frame:
                return await type(real).__anext__(real)
        except StopAsyncIteration:
            work.end()
            raise
        except BaseException as error:
            work.end(error)
            raise

    def _skilld_iter(self) -> Any:
        real = real_of(self)
        return self if has_special(type(real), "__next__") else _items(iter(real), self._skilld_work)

    def _skilld_aiter(self) -> Any:
        real = real_of(self)
        return (
            self
            if has_special(type(real), "__anext__")
            else _items_async(type(real).__aiter__(real), self._skilld_work)
        )

    def _skilld_enter(self) -> Any:
        real, work = real_of(self), self._skilld_work
        try:
            with work.frame:
                entered = type(real).__enter__(real)
        except BaseException as error:
            work.end(error)
            raise
        return self._skilld_inner(entered)

    def _skilld_exit(self, kind: Any, error: Any, trace: Any) -> Any:
        real, work = real_of(self), self._skilld_work
        try:
            return type(real).__exit__(real, kind, error, trace)
        finally:
            work.end(error)

    async def _skilld_aenter(self) -> Any:
        real, work = real_of(self), self._skilld_work
        try:
            with work.frame:
                entered = await type(real).__aenter__(real)
        except BaseException as error:
            work.end(error)
            raise
        return self._skilld_inner(entered)

    async def _skilld_aexit(self, kind: Any, error: Any, trace: Any) -> Any:
        real, work = real_of(self), self._skilld_work
        try:
            return await type(real).__aexit__(real, kind, error, trace)
        finally:
            work.end(error)

    def _skilld_await(self) -> Generator[Any, Any, Any]:
        real, work = real_of(self), self._skilld_work
        try:
            result = yield from type(real).__await__(real)
        except BaseException as error:
            work.end(error)
            raise
        work.end()
        return result

    def __del__(self) -> None:
        if self._skilld_owner is None:
            self._skilld_work.end(status="abandoned")


def _items(inner: Any, work: Work) -> Generator[Any, Any, None]:
    """An iterator's items, which may be none of a generator's."""
    while True:
        try:
            with work.frame:
                item = next(inner)
        except StopIteration:
            return work.end()
        except BaseException as error:
            work.end(error)
            raise
        yield item


async def _items_async(inner: Any, work: Work) -> AsyncGenerator[Any, None]:
    while True:
        try:
            with work.frame:
                item = await inner.__anext__()
        except StopAsyncIteration:
            work.end()
            return
        except BaseException as error:
            work.end(error)
            raise
        yield item
