"""The library for scripts: the same names, blocking, with `with`.

    from skill_actors.library import sync

    with sync.new_local(skills) as session:
        response, session = session.chat("hello", ask)

One trio loop runs in a thread of its own, from the first conversation to the end of the program. It may be used from
several threads, also in a program that runs asyncio or trio itself: whoever calls is blocked, and nobody else. Models
and callbacks that are plain functions run in further threads, and may use the conversation's files. Ctrl-C while a call
blocks cancels it, waits until all that it started is dead, and then is a KeyboardInterrupt as ever. What a program
leaves open when it ends is closed then.
"""

from __future__ import annotations

import atexit
import functools
import inspect
import os
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import trio

from skill_actors.backends import ToolResult
from skill_actors.backends.anthropic import HostedSkill
from skill_actors.backends.routing import Merged
from skill_actors.library import registry as _registry
from skill_actors.library import starting
from skill_actors.library.asking import AskModel, in_thread, is_async
from skill_actors.library.callbacks import CALLBACKS
from skill_actors.library.errors import SkillError
from skill_actors.library.files import SessionFile
from skill_actors.library.session import Session as _Session
from skill_actors.library.starting import default_executor
from skill_actors.models.base import Block, Message
from skill_actors.skills import Source
from skill_actors.skills.base import Skill, SkillFailure, SkillSnapshot
from skill_actors.skills.changes import SkillChange
from skill_actors.skills.library import ReloadSummary

__all__ = [
    "Registry",
    "Session",
    "call",
    "default_executor",
    "new_anthropic",
    "new_docker",
    "new_hybrid",
    "new_local",
    "new_native",
    "start_session",
]

_T = TypeVar("_T")
_END_S: Final = 60.0  # for what is open when the program ends: containers, and files that are not kept yet


class _Job:
    """Something that runs in the loop while its thread waits. But for `done`, only the loop's thread touches it."""

    def __init__(self, main: Callable[[], Any]) -> None:
        self.done = threading.Event()
        self._main = main
        self._scope = trio.CancelScope()
        self._is_started = False
        self._value: Any = None
        self._error: BaseException | None = None

    def start(self) -> None:
        if not self._is_started:
            self._is_started = True
            trio.lowlevel.spawn_system_task(self._run)

    def cancel(self) -> None:
        if self._is_started:
            self._scope.cancel()
        else:
            self._is_started = True
            self.done.set()

    def answer(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value

    async def _run(self) -> None:
        try:
            with self._scope:
                self._value = await self._main()
        except trio.Cancelled:  # the loop itself ends
            self._error = _LoopEnded()
            raise
        except BaseException as error:
            self._error = error
        finally:
            self.done.set()


class _LoopEnded(RuntimeError):
    """The program ends, and with it the loop."""

    def __init__(self) -> None:
        super().__init__("the program ends: conversations are closed, and no new ones are opened")


class _Loop:
    """A trio loop in a thread of its own, started when it is first needed, ended with the program."""

    def __init__(self) -> None:
        self.forget()
        os.register_at_fork(after_in_child=self.forget)
        atexit.register(self.end)

    def forget(self) -> None:
        """There is no loop yet. Or this process was forked: the loop is the other one's."""
        self._starting = threading.Lock()
        self._token: trio.lowlevel.TrioToken | None = None
        self._thread: threading.Thread | None = None
        self._over = trio.Event()
        self._is_over = False

    def end(self) -> None:
        """Close what is open still, and end the loop: after this its thread stands still, and callers would wait."""
        with self._starting:
            self._is_over = True
        if self._token is not None and self._thread is not None:
            self._token.run_sync_soon(self._over.set)
            self._thread.join(_END_S)

    def call(self, main: Callable[[], Any]) -> Any:
        """Run an async function to its end; what it gives and raises is given and raised here.

        Raises:
            RuntimeError: in the loop's own thread, which cannot wait for itself; or the program ends.

        """
        token = self._running()
        if threading.current_thread() is self._thread:
            raise RuntimeError("an async function of the program cannot block its own loop: write it as a plain one")
        job = _Job(main)
        try:
            token.run_sync_soon(job.start)
            job.done.wait()
        except BaseException:  # Ctrl-C; what runs is ended first
            token.run_sync_soon(job.cancel)
            job.done.wait()
            raise
        return job.answer()

    def _running(self) -> trio.lowlevel.TrioToken:
        with self._starting:
            if self._is_over:
                raise _LoopEnded
            if self._token is None:
                ready = threading.Event()
                self._thread = threading.Thread(
                    target=trio.run, args=(self._serve, ready), name="skill-sessions", daemon=True
                )
                self._thread.start()
                ready.wait()
            assert self._token is not None
            return self._token

    async def _serve(self, ready: threading.Event) -> None:
        self._token = trio.lowlevel.current_trio_token()
        ready.set()
        await self._over.wait()


_loop = _Loop()


def call(function: Callable[..., Awaitable[_T]], *args: Any) -> _T:
    """Run an async function in the loop, and wait: for what belongs to it, as `call(model.aclose)`."""
    value: _T = _loop.call(functools.partial(function, *args))
    return value


class _Held:
    """An async context that is open in the loop: entered and left by one task there, as trio wants it."""

    def __init__(self, manager: AbstractAsyncContextManager[Any]) -> None:
        self._manager = manager
        self._over: trio.Event | None = None
        self._ended: trio.Event | None = None
        self._error: BaseException | None = None

    def open(self) -> Any:
        """Enter it."""
        return _loop.call(self._open)

    def close(self) -> None:
        """Leave it, and raise what that raises."""
        with suppress(_LoopEnded):  # which has left it
            _loop.call(self._close)

    async def _open(self) -> Any:
        self._over, self._ended = trio.Event(), trio.Event()
        entered = trio.Event()
        value: list[Any] = []
        scope = trio.CancelScope()

        async def hold() -> None:
            assert self._over is not None
            assert self._ended is not None
            try:
                with scope:
                    async with self._manager as opened:
                        value.append(opened)
                        entered.set()
                        await self._over.wait()
            except trio.Cancelled:  # the loop itself ends
                raise
            except BaseException as error:
                self._error = error
            finally:
                entered.set()
                self._ended.set()

        trio.lowlevel.spawn_system_task(hold)
        try:
            await entered.wait()
        except trio.Cancelled:
            scope.cancel()
            with trio.CancelScope(shield=True):
                await self._ended.wait()
            raise
        self._raise()
        return value[0]

    async def _close(self) -> None:
        assert self._over is not None
        assert self._ended is not None
        self._over.set()
        with trio.CancelScope(shield=True):
            await self._ended.wait()
        self._raise()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error


class Session:
    """A conversation. As `skill_actors.library.Session`, but every method blocks, and any thread may call it."""

    def __init__(self, session: _Session) -> None:
        self._session = session

    def __repr__(self) -> str:
        return repr(self._session)

    def chat(self, message: str | Sequence[Block], model: AskModel, **options: Any) -> tuple[Any, Session]:
        """Say something, and have it answered."""
        response, _ = self._call(self._session.chat, message, model, **_in_threads(options))
        return response, self

    def files(self) -> Sequence[SessionFile]:
        """All files of all places."""
        found: Sequence[SessionFile] = self._call(self._session.files)
        return found

    def read_file(self, name: str, place: str | None = None) -> bytes:
        """The content of a file."""
        content: bytes = self._call(self._session.read_file, name, place)
        return content

    def put_file(self, name: str, data: bytes, place: str | None = None) -> SessionFile:
        """Write a file where tools see it."""
        file: SessionFile = self._call(self._session.put_file, name, data, place)
        return file

    def hand_over(self, name: str, source: str, target: str) -> None:
        """Copy a file from one place to another."""
        self._call(self._session.hand_over, name, source, target)

    def run(self, tool: str, **given: Any) -> ToolResult:
        """Run a tool without a model."""
        result: ToolResult = self._call(self._session.run, tool, **given)
        return result

    def sync(self) -> None:
        """Have all files kept in the storage now."""
        self._call(self._session.sync)

    def cleanup(self) -> None:
        """Let go of workspaces and containers."""
        self._call(self._session.cleanup)

    def delete_remote(self) -> Sequence[str]:
        """Delete what was uploaded to a provider."""
        deleted: Sequence[str] = self._call(self._session.delete_remote)
        return deleted

    def reset(self) -> None:
        """Forget what was said."""
        self._call(_awaited(self._session.reset))

    def add_message(self, role: str, content: str | Sequence[Block]) -> None:
        """Put a message at the end."""
        self._call(_awaited(self._session.add_message), role, content)

    def add_messages(self, messages: Sequence[Message]) -> None:
        """Put messages at the end."""
        self._call(_awaited(self._session.add_messages), messages)

    @property
    def session_id(self) -> str:
        return self._session.session_id

    @property
    def execution_mode(self) -> str:
        return self._session.execution_mode

    @property
    def messages(self) -> Sequence[Message]:
        return self._session.messages

    @property
    def skills(self) -> Sequence[Skill]:
        return self._session.skills

    @property
    def hosted_skills(self) -> Sequence[HostedSkill]:
        return self._session.hosted_skills

    @property
    def system_prompt(self) -> str:
        return self._session.system_prompt

    @property
    def capabilities(self) -> Merged | None:
        return self._session.capabilities

    @property
    def tools(self) -> Sequence[Mapping[str, Any]]:
        return self._session.tools

    @property
    def container_id(self) -> str | None:
        return self._session.container_id

    @property
    def created_files(self) -> Sequence[SessionFile]:
        return self._session.created_files

    @property
    def callback_failures(self) -> Mapping[str, int]:
        return self._session.callback_failures

    def _call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        try:
            return _loop.call(functools.partial(function, *args, **options))
        except SkillError as error:
            error.session = self if error.session is self._session else error.session
            raise


_Constructor = Callable[..., AbstractAsyncContextManager[_Session]]


def _blocking(constructor: _Constructor) -> Callable[..., AbstractContextManager[Session]]:
    """The same for `with`: under the constructor's name, and with what it says of itself."""

    @contextmanager
    @functools.wraps(constructor)
    def opened(*args: Any, **options: Any) -> Iterator[Session]:
        held = _Held(constructor(*args, **_in_threads(options)))
        session = Session(held.open())
        try:
            yield session
        finally:
            held.close()

    return opened


new_local = _blocking(starting.new_local)
new_docker = _blocking(starting.new_docker)
new_native = _blocking(starting.new_native)
new_anthropic = _blocking(starting.new_anthropic)
new_hybrid = _blocking(starting.new_hybrid)
start_session = _blocking(starting.start_session)


class Registry:
    """Skills by name, kept up to date inside of a `with` block. As `skill_actors.library.Registry`, but blocking."""

    def __init__(self, name: str, paths: Sequence[Path | str | Source], **options: Any) -> None:
        self._registry = _registry.Registry(name, paths, **options)
        self._held = _Held(self._registry)

    def __enter__(self) -> Self:
        self._held.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._held.close()

    @property
    def snapshot(self) -> SkillSnapshot:
        return self._registry.snapshot

    @property
    def failures(self) -> Sequence[SkillFailure]:
        return self._registry.failures

    def list(self) -> Sequence[Skill]:
        """All skills, by name."""
        return self._registry.list()

    def get(self, name: str) -> Skill:
        """The skill of this name."""
        return self._registry.get(name)

    def find(self, pattern: str) -> Sequence[Skill]:
        """The skills whose whole name fits."""
        return self._registry.find(pattern)

    def count(self) -> int:
        """How many there are."""
        return self._registry.count()

    def reload(self, name: str | None = None) -> ReloadSummary:
        """Look again."""
        summary: ReloadSummary = _loop.call(functools.partial(self._registry.reload, name))
        return summary

    def register(self, skills: Sequence[Skill]) -> ReloadSummary:
        """Have these skills as well."""
        summary: ReloadSummary = _loop.call(functools.partial(self._registry.register, skills))
        return summary

    def unregister(self, name: str) -> ReloadSummary:
        """Do without a skill that was registered."""
        summary: ReloadSummary = _loop.call(functools.partial(self._registry.unregister, name))
        return summary

    def subscribe(self, listener: Callable[[SkillChange], object]) -> Callable[[], None]:
        """Have a function told of each change, in a thread; call what this gives to end it."""
        end = _loop.call(_awaited(functools.partial(self._registry.subscribe, _in_thread(listener))))

        def stop() -> None:
            _loop.call(_awaited(end))

        return stop


def _awaited(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same, to be run in the loop."""

    async def run(*args: Any) -> Any:
        return function(*args)

    return run


def _in_threads(options: Mapping[str, Any]) -> dict[str, Any]:
    """The callbacks among these so that they may block."""
    return {name: _in_thread(value) if name in CALLBACKS else value for name, value in options.items()}


def _in_thread(function: Any) -> Any:
    if not callable(function) or is_async(function):
        return function

    async def run(*args: Any) -> Any:
        answer = await in_thread(function, *args)
        return await answer if inspect.isawaitable(answer) else answer

    return run
