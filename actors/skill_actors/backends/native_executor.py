"""The native skills of a program as an Executor: `open_native` takes classes, and needs no folder for them."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

import trio

from skill_actors.native import Description, NativeCode, code_of, describe, refuse_collisions

from .base import BackendUnavailable, Capabilities, WorkspaceSpec
from .native import NATIVE, NativeCalls, NativeRoom, NativeTools
from .native_inline import InlineNatives
from .native_processes import NativeProcesses
from .workers import Host

__all__ = ["Isolation", "NativeExecutor", "native_capabilities", "open_native"]

Isolation = Literal["inline", "process"]

_PARALLEL: Final = "skills that declare it; calls of another wait for each other"
_CAPABILITIES: Final[Mapping[Isolation, Capabilities]] = {
    "process": Capabilities(
        stream=True,
        cancel=True,
        sandbox="process",
        network="host",
        files=True,
        parallel=True,
        resume=True,
        partial={
            "cancel": "a call that ends by itself may leave programs running, which end with its process",
            "parallel": _PARALLEL,
        },
    ),
    "inline": Capabilities(
        stream=True,
        cancel=False,  # a thread cannot be killed
        sandbox="none",
        network="host",
        files=True,
        parallel=True,
        resume=True,
        partial={"parallel": _PARALLEL},
    ),
}


def native_capabilities(isolation: Isolation) -> Capabilities:
    """What native skills claim, where their code runs in this way."""
    return _CAPABILITIES[isolation]


class NativeExecutor:
    """The classes of a program, as tools. Made by `open_native`."""

    name = NATIVE

    def __init__(self, skills: Sequence[NativeTools], calls: NativeCalls, isolation: Isolation, host: Host) -> None:
        self._skills = skills
        self._calls = calls
        self._isolation: Isolation = isolation
        self._host = host
        self._rooms: list[NativeRoom] = []
        self._closed = False

    @property
    def capabilities(self) -> Capabilities:
        return native_capabilities(self._isolation)

    def tools(self) -> Sequence[Mapping[str, Any]]:
        return [tool for skill in self._skills for tool in skill.tools.values()]

    async def check(self) -> None:
        """Raise BackendUnavailable if there are no worker processes, and they are needed."""
        if self._isolation == "process":
            _ = self._host.workers

    async def open(self, spec: WorkspaceSpec) -> NativeRoom:
        """Open a conversation's workspace, making its folder. Raises BackendUnavailable."""
        if self._closed:
            raise BackendUnavailable("the native backend is closed")
        try:
            root = await trio.to_thread.run_sync(_make_root, spec.root)
        except OSError as error:
            raise BackendUnavailable(f"the workspace {spec.root} cannot be made: {error.strerror}") from error
        room = NativeRoom(self._skills, self._calls, replace(spec, root=root))
        self._rooms = [other for other in self._rooms if not other._closed] + [room]
        return room

    async def aclose(self) -> None:
        """Kill what runs, and end all processes. Threads of this process are left alone. May be called twice."""
        self._closed = True
        for room in self._rooms:
            await room.aclose()
        if isinstance(self._calls, NativeProcesses):
            await self._calls.aclose()


@contextlib.asynccontextmanager
async def open_native(
    classes: Sequence[Any],
    host: Host | None = None,
    *,
    isolation: Isolation = "inline",
    per_skill: int = 4,
    threads: int = 32,
    idle_s: float = 300.0,
) -> AsyncIterator[NativeExecutor]:
    """Offer native skills of this program as tools, while the block runs.

    Args:
        classes: as `skill_actors.native` has it; none needs a folder. In this process, objects of such classes too.
        host: has the actors that the skills may ask, and offers worker processes.
        isolation: "inline": in this process, where the skills share everything with the program: closures, connections,
            what they were made with. A class is made once, in a thread. "process": in worker processes that import
            the classes' modules anew.
        per_skill: worker processes for each class at most.
        threads: plain functions that run in this process at the same time at most.
        idle_s: seconds without a call after which a class's worker processes end.

    Raises:
        BadSkill: a class is no native skill, or two have the same tools.
        ValueError: a class cannot be imported by a worker process.
        Exception: whatever the constructor of a class raises, in this process.

    """
    host = Host() if host is None else host
    found = [(skill, _describe(skill, isolation)) for skill in {id(skill): skill for skill in classes}.values()]
    refuse_collisions(said for _skill, said in found)
    if isolation == "inline":
        inline = InlineNatives(host, threads=threads, per_skill=threads)  # all of them are the program's own
        skills = [await _offered(skill, said, inline) for skill, said in found]
        executor = NativeExecutor(skills, inline, isolation, host)
        try:
            yield executor
        finally:
            with trio.CancelScope(shield=True):
                await executor.aclose()
        return
    skills = [
        NativeTools(code=code_of(skill, name=said.name), tools=said.tools, parallel=said.parallel)
        for skill, said in found
    ]
    processes = NativeProcesses(host, per_skill=per_skill, idle_s=idle_s)
    executor = NativeExecutor(skills, processes, isolation, host)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(processes.keep)
        try:
            yield executor
        finally:
            with trio.CancelScope(shield=True):
                await executor.aclose()
            nursery.cancel_scope.cancel()


def _describe(skill: Any, isolation: Isolation) -> Description:
    inline = isolation == "inline"
    if isinstance(skill, type):
        return describe(skill, inline=inline)
    if not inline:
        raise ValueError(f"{type(skill).__qualname__}: an object cannot be used by another process; pass its class")
    return describe(type(skill), inline=True, made=True)


async def _offered(skill: Any, said: Description, inline: InlineNatives) -> NativeTools:
    """Have the calls of a class, or of an object of it, answered in this process."""
    kind = skill if isinstance(skill, type) else type(skill)
    instance = await trio.to_thread.run_sync(skill) if isinstance(skill, type) else skill
    code = NativeCode(
        skill=said.name, version="1", class_name=kind.__qualname__, root=str(_folder_of(kind)), module=kind.__module__
    )
    inline.offer(code, instance)
    return NativeTools(code=code, tools=said.tools, parallel=True)  # whose turn it is, InlineNatives knows


def _folder_of(kind: type) -> Path:
    """Where its module is; where there is none, such as in an interpreter, the working directory."""
    try:
        return Path(inspect.getfile(kind)).resolve().parent
    except (OSError, TypeError):
        return Path.cwd()


def _make_root(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    return root.resolve(strict=True)
