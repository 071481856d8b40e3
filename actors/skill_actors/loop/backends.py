"""The second level of contract: a backend that owns the turn, in three callbacks, and what finds one by name.

An Executor (`skill_actors.backends`) runs one tool call; a Backend takes a message and comes back with the answer. Each
executor makes one, which asks the model and runs its tools here; other packages bring their own, whole agents or hosted
ones, under the entry point group `skilld.turn_backends`. A session is a value: whoever keeps it goes on from it, and
it knows which backend it belongs to. A name that is unknown is an error; nothing else is ever tried instead.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from types import TracebackType
from typing import Any, Final, Protocol, Self

import trio

from skill_actors.backends import BackendUnavailable, factory
from skill_actors.loop.callers import CallModel, model_caller
from skill_actors.loop.context import ExecutionContext, create_context, unwrapped
from skill_actors.loop.conversation import LoopResult, run_loop
from skill_actors.models.base import Message, Model
from skill_actors.skills.base import Skill

__all__ = ["TURN_BACKENDS", "Backend", "BackendSession", "ToolBackend", "TurnFailed", "chat", "find_backend"]

TURN_BACKENDS: Final = "skilld.turn_backends"
_OF_THE_LOOP: Final = frozenset({"max_iterations", "max_pauses", "timeout_s", "on_tool_call", "on_tool_result"})


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSession:
    """A conversation between two turns.

    Args:
        backend: the `backend_type` of whose it is.
        skills: what it was made with.
        messages: so far, ready for the next one of the user.
        options: of the backend, for all turns.
        state: whatever else the backend has to remember.

    """

    backend: str
    skills: Sequence[Skill] = ()
    messages: Sequence[Message] = ()
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    state: Any = None


class TurnFailed(Exception):
    """A turn came to no answer. `session` has what was said and done until then, and can go on.

    Args:
        code: `model_...`, `max_iterations` and so on.
        message: in words.
        session: as it is now.
        details: JSON-ready facts for programs.
        retryable: whether the same may succeed later.

    """

    def __init__(
        self,
        code: str,
        message: str,
        session: BackendSession,
        *,
        details: Mapping[str, Any] | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.session = session
        self.details = dict(details or {})
        self.retryable = retryable


class Backend(Protocol):
    """Owns turns. The three callbacks."""

    def backend_type(self) -> str:
        """The name that its sessions carry, and by which it is found."""

    async def new_session(self, skills: Iterable[Skill], **options: Any) -> BackendSession:
        """A conversation that nothing was said in. Raises BackendUnavailable, and TypeError for unknown options."""

    async def chat(
        self, session: BackendSession, message: str, model: CallModel | Model, **options: Any
    ) -> tuple[Any, BackendSession]:
        """One turn: the answer, which has a `text`, and the session after it. Raises BackendUnavailable, TurnFailed."""


class ToolBackend:
    """The backend of an executor: asks the model, and runs the tools that it calls.

    `new_session` takes the arguments of `create_context` (`working_directory` is needed), `chat` those of `run_loop`,
    and `model_name`, for a Model. A function that is asked instead gets the messages alone.

    Inside of `async with` it keeps what a session works in open over all turns: a container, say, and what runs there.
    Without, each turn opens a context of its own, and only the files of the working directory last.

    Args:
        executor: its name.

    """

    def __init__(self, executor: str) -> None:
        self._executor = executor
        self._nursery: trio.Nursery | None = None
        self._open: dict[object, ExecutionContext] = {}  # by the state of a session

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(unwrapped())
            self._nursery = await stack.enter_async_context(trio.open_nursery())
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Close all sessions: what runs is killed."""
        nursery, self._nursery = self._nursery, None
        self._open.clear()
        if nursery is not None:
            nursery.cancel_scope.cancel()
        return await self._stack.__aexit__(kind, error, traceback)

    def backend_type(self) -> str:
        """The executor's name."""
        return self._executor

    async def new_session(self, skills: Iterable[Skill], **options: Any) -> BackendSession:
        """See whether a context can be opened with these options; inside of `async with` it stays open."""
        session = BackendSession(backend=self._executor, skills=tuple(skills), options=options, state=object())
        if self._nursery is not None:
            self._open[session.state] = await self._nursery.start(self._hold, session)
            return session
        async with self._context_of(session):
            return session

    async def chat(
        self, session: BackendSession, message: str, model: CallModel | Model, **options: Any
    ) -> tuple[LoopResult, BackendSession]:
        """One turn, in the session's context."""
        model_name = str(options.pop("model_name", ""))
        if unknown := options.keys() - _OF_THE_LOOP:
            raise TypeError(
                f"chat has no option {min(unknown)!r}; it has model_name, {', '.join(sorted(_OF_THE_LOOP))}"
            )
        said: Message = {"role": "user", "content": [{"type": "text", "text": message}]}
        async with self._context_of(session) as context:
            caller: CallModel
            if callable(model):
                caller = model
            else:
                caller = model_caller(model, name=model_name, system=context.system_prompt(), tools=context.tools)
            result = await run_loop([*session.messages, said], caller, context, **options)
        after = replace(session, messages=tuple(result.messages))
        if result.outcome == "failed":
            error = result.error or {}
            raise TurnFailed(result.stop_reason, error.get("message", ""), after) from result.cause
        return result, after

    @asynccontextmanager
    async def _context_of(self, session: BackendSession) -> AsyncIterator[ExecutionContext]:
        """The one that is open, else one for the block."""
        if (context := self._open.get(session.state)) is not None:
            yield context
            return
        async with create_context(session.skills, backend=self._executor, **session.options) as context:
            yield context

    async def _hold(
        self, session: BackendSession, *, task_status: trio.TaskStatus[ExecutionContext] = trio.TASK_STATUS_IGNORED
    ) -> None:
        async with create_context(session.skills, backend=self._executor, **session.options) as context:
            task_status.started(context)
            await trio.sleep_forever()


async def find_backend(name: str, *more: Backend) -> Backend:
    """The backend of this name: of those given, of packages installed, of the executors. Raises BackendUnavailable."""
    for backend in more:
        if backend.backend_type() == name:
            return backend
    found = _hosted(name) or await trio.to_thread.run_sync(_load, name)
    if found is None:
        await factory(name)  # raises, with the names that there are
        found = ToolBackend(name)
    return found


async def chat(
    session: BackendSession, message: str, model: Any, *more: Backend, **options: Any
) -> tuple[Any, BackendSession]:
    """One turn in the session's own backend, found by its name; `more` are backends beside those that are installed.

    `model` is what that backend asks: every one takes a function of the messages, and a Model.
    """
    return await (await find_backend(session.backend, *more)).chat(session, message, model, **options)


def _hosted(name: str) -> Backend | None:
    from skill_actors.loop.hosted import ANTHROPIC, HostedBackend  # which needs this module

    return HostedBackend() if name == ANTHROPIC else None


def _load(name: str) -> Backend | None:
    for point in entry_points(group=TURN_BACKENDS, name=name):
        try:
            backend: Backend = point.load()()
        except Exception as error:
            raise BackendUnavailable(
                f"the backend {name!r} ({point.value}) cannot be loaded: {error!r}; mend or remove its package"
            ) from error
        return backend
    return None
