"""Native skills as a backend: tools that are Python classes, each call in a worker process.

NativeRoom is a workspace of such tools only; a conversation has it beside its backend's, and calls are routed by name.
NativeExecutor offers the classes of a program of your own as an Executor.

What it protects: the event loop and other calls, from whatever the code does. What it does not: the code has the
rights of the daemon's user, so it has to be trusted.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from skill_actors.native import NativeCode, build_tool_map, code_of, complaint, describe
from skill_actors.runtime import Reject, WorkerEnded

from . import files
from .base import BackendUnavailable, Capabilities, OutputChunk, ToolCall, ToolContext, ToolResult, WorkspaceSpec
from .native_processes import NativeProcesses
from .output import NOTE_CHARS, clean, file_of_output
from .paths import PathRefused
from .redaction import Redactor
from .tools import CreateFile
from .workers import Host, failed_result

__all__ = ["NATIVE", "NativeExecutor", "NativeRoom", "NativeTools", "open_native"]

NATIVE: Final = "native"
"""What logs, events and metrics call this backend."""

_CAPABILITIES: Final = Capabilities(
    stream=True, cancel=True, sandbox="process", network="host", files=False, parallel=True
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeTools:
    """One native skill: its code, and by callback the tools that it offers."""

    code: NativeCode
    tools: Mapping[str, Mapping[str, Any]]


class NativeRoom:
    """One conversation's native tools, working in its folder. A Workspace.

    Args:
        skills: no two of which offer a tool of the same name.
        processes: where their code runs.
        spec: whose conversation it is, and its folder, which must be there.

    """

    def __init__(self, skills: Sequence[NativeTools], processes: NativeProcesses, spec: WorkspaceSpec) -> None:
        self._processes = processes
        self._spec = spec
        self._by_name = {
            str(tool["name"]): (skill.code, kind, tool) for skill in skills for kind, tool in skill.tools.items()
        }
        self._running: dict[trio.CancelScope, trio.Event] = {}  # set when it is over
        self._closed = False

    @property
    def root(self) -> Path:
        return self._spec.root

    @property
    def tools(self) -> Sequence[Mapping[str, Any]]:
        """Definitions for the model."""
        return [tool for _code, _kind, tool in self._by_name.values()]

    @property
    def owners(self) -> Mapping[str, str]:
        """By name of the tool: the skill whose it is."""
        return {tool: code.skill for tool, (code, _kind, _definition) in self._by_name.items()}

    def path_of_skill(self, copy: Path) -> str:
        """The copy itself: the code runs on the same host."""
        return str(copy)

    async def execute(self, call: ToolCall, context: ToolContext) -> ToolResult:
        """Run one call. Cancelling it kills every process it started before it returns."""
        started = trio.current_time()
        result = ToolResult(content="the workspace was closed", outcome="cancelled")
        if not self._closed:
            with trio.CancelScope() as scope:
                self._running[scope] = trio.Event()
                try:
                    result = await self._perform(call, context)
                finally:
                    self._running.pop(scope).set()
        return replace(result, duration_ms=round((trio.current_time() - started) * 1000))

    async def aclose(self) -> None:
        """Kill what still runs. May be called twice."""
        self._closed = True
        running = dict(self._running)
        for scope in running:
            scope.cancel()
        for over in running.values():
            await over.wait()

    async def _perform(self, call: ToolCall, context: ToolContext) -> ToolResult:
        found = self._by_name.get(call.name)
        if found is None or call.argv is not None:
            return _error(
                f"there is no native tool {call.name!r}; there are {', '.join(sorted(self._by_name))}", context
            )
        code, kind, tool = found
        wrong = complaint(tool["input_schema"], call.input)
        if wrong is not None:
            return _error(f"{call.name}: {wrong}", context)
        request = {
            "kind": kind,
            "input": dict(call.input),
            "session": self._spec.session,
            "workspace": str(self._spec.root),
            "readable": [str(folder) for folder in context.readable],
            "environment": dict(context.environment),
        }
        try:
            answer = await self._processes.call(
                code, request, timeout_s=context.timeout_s, emit=partial(_emit, context)
            )
        except (Reject, WorkerEnded) as error:
            failed = failed_result(error)
            told, _ = Redactor(context.hidden).cut(clean(failed.content), "")  # the message may have been cut already
            return replace(failed, content=told[: context.max_output_chars])
        text = Redactor(context.hidden).text(clean(answer.decode(errors="replace")))
        return await self._result(text, call, context)

    async def _result(self, text: str, call: ToolCall, context: ToolContext) -> ToolResult:
        """The answer, if it is not too long; else its begin and end, and the whole in a file."""
        if len(text) <= context.max_output_chars:
            return ToolResult(content=text or "(no output)", outcome="ok")
        if context.hidden and context.environment:
            return ToolResult(content=_cut(text, "no file is made of it", context), outcome="ok")
        file = file_of_output(call.id)
        write = partial(files.create_file, CreateFile(path=file, file_text=text), workspace=str(self._spec.root))
        try:
            await trio.to_thread.run_sync(write)
        except PathRefused as refused:
            return ToolResult(content=_cut(text, f"its file cannot be written: {refused}", context), outcome="ok")
        content = _cut(text, f"the whole is in {file}", context)
        return ToolResult(content=content, outcome="ok", output_file=file, files=(file,))


def _error(message: str, context: ToolContext) -> ToolResult:
    return ToolResult(content=clean(message)[: context.max_output_chars], outcome="error")


def _cut(text: str, where: str, context: ToolContext) -> str:
    room = max(0, context.max_output_chars - NOTE_CHARS)
    first = room // 2
    left_out = len(text) - room
    note = f"[... {left_out} characters are left out; {where[:300]}]"
    return f"{text[:first]}\n{note}\n{text[len(text) - (room - first) :]}"[: context.max_output_chars]


async def _emit(context: ToolContext, value: Any) -> None:
    if context.emit is not None and isinstance(value, bytes):
        await context.emit(OutputChunk("stdout", clean(value.decode(errors="replace"))))


class NativeExecutor:
    """The classes of a program, as tools. Made by `open_native`."""

    name = NATIVE
    capabilities = _CAPABILITIES

    def __init__(self, skills: Sequence[NativeTools], processes: NativeProcesses, host: Host) -> None:
        self._skills = skills
        self._processes = processes
        self._host = host
        self._rooms: list[NativeRoom] = []

    def tools(self) -> Sequence[Mapping[str, Any]]:
        return [tool for skill in self._skills for tool in skill.tools.values()]

    async def check(self) -> None:
        """Raise BackendUnavailable if there are no worker processes."""
        _ = self._host.workers

    async def open(self, spec: WorkspaceSpec) -> NativeRoom:
        """Open a conversation's workspace, making its folder. Raises BackendUnavailable."""
        try:
            root = await trio.to_thread.run_sync(_make_root, spec.root)
        except OSError as error:
            raise BackendUnavailable(f"the workspace {spec.root} cannot be made: {error.strerror}") from error
        room = NativeRoom(self._skills, self._processes, replace(spec, root=root))
        self._rooms = [other for other in self._rooms if not other._closed] + [room]
        return room

    async def aclose(self) -> None:
        """Kill what runs, and end all processes. May be called twice."""
        for room in self._rooms:
            await room.aclose()
        await self._processes.aclose()


@contextlib.asynccontextmanager
async def open_native(
    classes: Sequence[type], host: Host, *, per_skill: int = 4, idle_s: float = 300.0
) -> AsyncIterator[NativeExecutor]:
    """Offer native skills of this program as tools, while the block runs.

    Args:
        classes: as `skill_actors.native` has it. Worker processes import their modules anew.
        host: offers worker processes.
        per_skill: processes for each class at most.
        idle_s: seconds without a call after which a class's processes end.

    Raises:
        BadSkill: a class is no native skill, or two have the same tools.
        ValueError: a class cannot be imported by another process.

    """
    build_tool_map(classes)
    found = [(skill, describe(skill)) for skill in dict.fromkeys(classes)]
    skills = [NativeTools(code=code_of(skill, name=said.name), tools=said.tools) for skill, said in found]
    processes = NativeProcesses(host, per_skill=per_skill, idle_s=idle_s)
    executor = NativeExecutor(skills, processes, host)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(processes.keep)
        try:
            yield executor
        finally:
            with trio.CancelScope(shield=True):
                await executor.aclose()
            nursery.cancel_scope.cancel()


def _make_root(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    return root.resolve(strict=True)
