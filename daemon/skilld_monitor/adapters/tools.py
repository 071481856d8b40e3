"""Tools and agents of a program's own: one span `execute_tool NAME` for each call, one `invoke_agent NAME` around what
an agent does. What a tool does is untouched, as with `monitor_call`.

    @monitor_tool
    def search(query: str) -> list[str]: ...

    with agent_span("researcher"):
        with tool_span("search", call_id=block.id, arguments=block.input) as span:
            span.result = search_the_web(**span.arguments)
"""

from __future__ import annotations

import functools
from contextvars import ContextVar

from skilld_monitor.adapters.outer import Joined, ToolPlace, open_tool
from skilld_monitor.calls import Opener, like, said_of, wrapped
from skilld_monitor.context import WithBlock, agent, current_who
from skilld_monitor.monitoring import active
from skilld_monitor.policy.errors import BlockedError
from skilld_monitor.policy.guard import before_function, before_tool
from skilld_monitor.spans import Running, is_cancellation
from skilld_monitor.trace import child, enter, leave
from skilld_monitor.values import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextvars import Token
    from types import TracebackType
    from typing import Any, TypeVar, overload

    from skilld_monitor.context import Scope
    from skilld_monitor.trace import Place

    Function = TypeVar("Function", bound=Callable[..., Any])
else:

    def overload(form: object) -> object:  # that of `typing` costs more than all of this
        return form


__all__ = ["AgentSpan", "ToolRun", "ToolSpan", "agent_span", "begin_tool", "monitor_tool", "tool", "tool_span"]

CHANNEL = "TOOL"
_ARGUMENTS = "gen_ai.tool.call.arguments"

# The call that begins here, until the policies have judged its arguments: before that they are not noted.
_beginning: ContextVar[Running | None] = ContextVar("skilld_monitor_tool", default=None)


class ToolRun(Running):
    """A call of a tool under way. What is called beneath may add to its facts until it ends."""

    __slots__ = ()

    def __init__(self, name: str, facts: dict[str, object], place: Place | None = None, channel: str = CHANNEL) -> None:
        found = ToolPlace(child() if place is None else place)
        super().__init__(f"execute_tool {name}", channel, facts, found)
        found.running = self

    def end(self, error: BaseException | None = None, status: str | None = None) -> None:
        if isinstance(self.place, ToolPlace):
            self.place.running = None
        self.data = dict(self.data)  # what has joined it and goes on may still write into the other
        super().end(error, status)


def begin_tool(name: str, call_id: object = None, kind: str = "function") -> Running:
    """A call of a tool begins here: a span of its own, unless a framework has one for this very call."""
    facts: dict[str, object] = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": name,
        "gen_ai.tool.type": kind,
    }
    if call_id is not None:
        facts["gen_ai.tool.call.id"] = str(plain(call_id))[:200]
    outer = open_tool()
    if outer is not None and outer.channel != CHANNEL and outer.data.get("gen_ai.tool.name") == name:
        return Joined(outer, facts)
    return ToolRun(name, facts)


@overload
def monitor_tool(
    func: Function, name: str | None = None, *, call_id_from: str = "tool_call_id", kind: str = "function"
) -> Function: ...


@overload
def monitor_tool(  # noqa: F811 - another form
    func: str | None = None, name: str | None = None, *, call_id_from: str = "tool_call_id", kind: str = "function"
) -> Callable[[Function], Function]: ...


def monitor_tool(  # noqa: F811 - of the forms above
    func: Any = None, name: str | None = None, *, call_id_from: str = "tool_call_id", kind: str = "function"
) -> Any:
    """The function, reporting each call as a span `execute_tool NAME`. Also as a decorator, with and without arguments.

    Args:
        func: None for the decorator with arguments, `@monitor_tool(name="search")`.
        name: of the tool; the function's own otherwise.
        call_id_from: the keyword argument that holds the id by which the model called, where there is one.
        kind: function, extension or datastore.

    """
    if func is None or isinstance(func, str):
        called = func if func is not None else name
        return functools.partial(monitor_tool, name=called, call_id_from=call_id_from, kind=kind)
    called = name or said_of(func, "__name__") or type(func).__name__
    return wrapped(func, _ToolOpener(called, call_id_from, kind), _guarded(func, called))


tool = monitor_tool


class _ToolOpener(Opener):
    """Begins the spans of one tool."""

    def __init__(self, name: str, call_id_from: str, kind: str) -> None:
        super().__init__(name, CHANNEL, {})
        self._tool = name
        self._call_id_from = call_id_from
        self._kind = kind

    def open(self, args: tuple[object, ...], kwargs: dict[str, object]) -> Running:
        running = begin_tool(self._tool, kwargs.get(self._call_id_from), self._kind)
        on = active()
        if on is not None and on.policy.is_active:
            _beginning.set(running)
        elif on is not None and "arguments" in on.settings.capture:
            _note_arguments(running, args, kwargs)
        return running

    def close(self, running: Running, result: object) -> None:
        _note(running, "result", "gen_ai.tool.call.result", result)
        running.end()


def _guarded(func: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The function, called with what the policies leave of its arguments."""

    @like(func)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        on = active()
        if on is None or not on.policy.is_active:
            return func(*args, **kwargs)
        running = _beginning.get()
        _beginning.set(None)
        kept = 1 if _is_method(func, args) else 0
        names = _names(func, len(args), kwargs)[kept:]
        given = {**dict(zip(names, args[kept:])), **kwargs}
        shown = before_function(on, name, given)
        if shown is not given:
            args = (*args[:kept], *(shown.pop(place) for place in names))
            kwargs = shown
        if running is not None:
            _note_arguments(running, args, kwargs)
        return func(*args, **kwargs)

    return guarded


def _is_method(func: object, args: tuple[object, ...]) -> bool:
    """Whether the first argument is the object whose method is called: that is nothing that a model asked with."""
    module, owner = said_of(func, "__module__"), said_of(func, "__qualname__").rpartition(".")[0]
    kinds = type(args[0]).__mro__ if args and owner and not owner.endswith("<locals>") else ()
    return any((kind.__module__, kind.__qualname__) == (module, owner) for kind in kinds)


def _names(func: object, count: int, others: Mapping[str, object]) -> list[str]:
    """Of arguments by position, by the function's own names where it says them; none is among the others."""
    code = getattr(func, "__code__", None)
    known = code.co_varnames[: code.co_argcount] if code is not None else ()
    names = [known[place] if place < len(known) else str(place) for place in range(count)]
    return [f"#{place}" if name in others else name for place, name in enumerate(names)]


def _as_mapping(found: object, otherwise: Mapping[str, object]) -> Mapping[str, object]:
    return found if isinstance(found, dict) else otherwise


def _note(running: Running, field: str, attribute: str, value: object) -> None:
    on = active()
    if on is not None and field in on.settings.capture:
        running.data[attribute] = plain(value)


def _note_arguments(running: Running, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
    _note(running, "arguments", _ARGUMENTS, {"args": args, **kwargs} if args else kwargs)


class ToolSpan(WithBlock):
    """A call of a tool, for `with` and `async with`.

    `arguments` are those that were given, as far as the policies leave them. What is put into `result` is reported
    where results are.
    """

    def __init__(self, name: str, call_id: object, arguments: Mapping[str, object] | None, kind: str) -> None:
        self.arguments: Mapping[str, object] = {} if arguments is None else arguments
        self.result: object = None
        self._name = name
        self._call_id = call_id
        self._kind = kind
        self._running: Running | None = None
        self._token: Token[Place | None] | None = None

    def __enter__(self) -> ToolSpan:
        running = begin_tool(self._name, self._call_id, self._kind)
        on = active()
        if on is not None:
            try:
                self.arguments = _as_mapping(before_tool(on, self._name, self.arguments), self.arguments)
            except BlockedError as error:
                running.end(error)
                raise
        _note(running, "arguments", _ARGUMENTS, self.arguments)
        self._running = running
        self._token = enter(running.place)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            leave(self._token, None if self._running is None else self._running.place)
        if self._running is not None:
            if self.result is not None:
                _note(self._running, "result", "gen_ai.tool.call.result", self.result)
            if error is not None and not is_cancellation(error):
                _note(self._running, "result", "error.message", str(plain(error)))
            self._running.end(error)


def tool_span(
    name: str, *, call_id: object = None, arguments: Mapping[str, object] | None = None, kind: str = "function"
) -> ToolSpan:
    """A call of a tool that is no function of its own, such as one arm of an agent's loop.

    Args:
        name: of the tool.
        call_id: the id by which the model called it.
        arguments: reported where arguments are.
        kind: function, extension or datastore.

    Entering it raises BlockedError where a policy forbids the call.
    """
    return ToolSpan(str(plain(name)), call_id, arguments, kind)


class AgentSpan(WithBlock):
    """What one agent does, for `with` and `async with`: a span, and all that is reported inside is that agent's."""

    def __init__(self, name: str, facts: dict[str, object]) -> None:
        self._name = name
        self._facts = facts
        self._scope: Scope | None = None
        self._running: Running | None = None
        self._token: Token[Place | None] | None = None

    def __enter__(self) -> AgentSpan:
        self._scope = agent(self._name).__enter__()
        session = current_who().session
        facts = {**self._facts, "gen_ai.conversation.id": session} if session is not None else dict(self._facts)
        self._running = Running(f"invoke_agent {self._name}", "AGENT", facts)
        self._token = enter(self._running.place)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            leave(self._token, None if self._running is None else self._running.place)
        if self._scope is not None:
            self._scope.__exit__(kind, error, trace)
        if self._running is not None:
            self._running.end(error)


def agent_span(name: str, *, id: object = None, version: object = None) -> AgentSpan:
    """One invocation of an agent. Inside another's it is a sub-agent: its span is below, and its events are its own.

    Args:
        name: of the agent.
        id: of the agent, where it has one of its own.
        version: of the agent.

    """
    called = str(plain(name))[:200]
    facts: dict[str, object] = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": called}
    for attribute, value in (("gen_ai.agent.id", id), ("gen_ai.agent.version", version)):
        if value is not None:
            facts[attribute] = str(plain(value))[:200]
    return AgentSpan(called, facts)
