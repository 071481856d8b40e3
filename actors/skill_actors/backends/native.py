"""Native skills as a backend: tools that are Python classes, in worker processes or in this one.

NativeRoom is a workspace of such tools only; a conversation has it beside its backend's, and calls are routed by name.

What worker processes protect: the event loop and other calls, from whatever the code does. What nothing here does: the
code has the rights of this process's user, so it has to be trusted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import trio

from skill_actors.native import NativeCode, complaint
from skill_actors.runtime import Reject, WorkerEnded, WorkerError

from . import files
from .base import OutputChunk, ToolCall, ToolContext, ToolResult, WorkspaceSpec
from .native_inline import InlineLate
from .output import NOTE_CHARS, clean, file_of_output
from .paths import PathRefused
from .redaction import Redactor
from .tools import CreateFile
from .workers import failed_result

__all__ = ["NATIVE", "NativeCalls", "NativeRoom", "NativeTools"]


NATIVE: Final = "native"
"""What logs, events and metrics call this backend."""


class NativeCalls(Protocol):
    """Who runs the code of native skills: `NativeProcesses`, or `InlineNatives`."""

    async def call(
        self, code: NativeCode, request: Mapping[str, Any], *, timeout_s: float, emit: Callable[[Any], Awaitable[None]]
    ) -> bytes:
        """Answer one call. Raises Reject, WorkerEnded, BackendUnavailable or InlineLate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeTools:
    """One native skill.

    Args:
        code: its class.
        tools: by callback, the tools that it offers.
        parallel: whether calls of one conversation may run at the same time.

    """

    code: NativeCode
    tools: Mapping[str, Mapping[str, Any]]
    parallel: bool = False


class NativeRoom:
    """One conversation's native tools, working in its folder. A Workspace.

    Args:
        skills: no two of which offer a tool of the same name.
        calls: where their code runs.
        spec: whose conversation it is, and its folder, which must be there.

    """

    def __init__(self, skills: Sequence[NativeTools], calls: NativeCalls, spec: WorkspaceSpec) -> None:
        self._calls = calls
        self._spec = spec
        self._turns = {skill.code.skill: trio.Lock() for skill in skills if not skill.parallel}
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
            answer = await self._in_turn(code, request, context)
        except (Reject, WorkerEnded, InlineLate) as error:
            failed = _failed(error)
            shown = _without_places(clean(failed.content), self._spec.root, Path(code.root), context.readable)
            told, _ = Redactor(context.hidden).cut(shown, "")  # the message may have been cut already
            return replace(failed, content=told[: context.max_output_chars])
        text = Redactor(context.hidden).text(clean(answer.decode(errors="replace")))
        return await self._result(text, call, context)

    async def _in_turn(self, code: NativeCode, request: Mapping[str, Any], context: ToolContext) -> bytes:
        """Have the call answered, after those of its skill that came before it, where it may not run beside them."""
        emit = partial(_emit, context)
        turn = self._turns.get(code.skill)
        if turn is None:
            return await self._calls.call(code, request, timeout_s=context.timeout_s, emit=emit)
        deadline = trio.current_time() + context.timeout_s
        with trio.move_on_at(deadline) as waiting:
            await turn.acquire()
        if waiting.cancelled_caught:
            busy = f"skill {code.skill!r} was busy with other calls of this conversation for {context.timeout_s:g} s"
            raise InlineLate(busy)
        try:
            left_s = max(0.0, deadline - trio.current_time())
            return await self._calls.call(code, request, timeout_s=left_s, emit=emit)
        finally:
            turn.release()

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


def _failed(error: Exception) -> ToolResult:
    match error:
        case InlineLate():
            return ToolResult(content=str(error), outcome="timeout")
        case WorkerError():
            kind = error.kind.rpartition(".")[2]  # where it was defined is no affair of the model's
            return ToolResult(content=f"{kind}: {error.text}" if error.text else kind, outcome="error")
        case _:
            return failed_result(error)


def _without_places(text: str, workspace: Path, skill_dir: Path, readable: Sequence[Path]) -> str:
    """A message as one may read it who does not know this host: what lies in the known folders is named from there."""
    names = {str(folder): f"<{folder.name}>" for folder in readable}
    names |= {str(skill_dir): "<skill>", str(workspace): "<workspace>"}
    for folder in sorted(names, key=len, reverse=True):
        text = text.replace(folder, names[folder])
    return text.replace("<workspace>/", "")


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
