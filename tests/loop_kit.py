"""For tests of the tool loop: an executor in memory, and answers of a model as the JSON of the Messages API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import trio

from skill_actors.backends import Capabilities, ToolCall, ToolContext, ToolResult, WorkspaceSpec
from skill_actors.backends.tools import TOOLS
from skill_actors.models.base import Message

__all__ = ["MemoryExecutor", "Script", "call", "message", "ok", "says", "user", "uses"]

Handler = Callable[[ToolCall, ToolContext], Awaitable[Any]]


async def _echo(call: ToolCall, context: ToolContext) -> ToolResult:
    await trio.lowlevel.checkpoint()
    return ok(f"did {call.id}")


def ok(content: str) -> ToolResult:
    return ToolResult(content=content, outcome="ok")


class MemoryExecutor:
    """Runs no process: `handler` answers every call. It is its own workspace."""

    name = "memory"
    capabilities = Capabilities(stream=False, cancel=True, sandbox="none", network="none", files=False, parallel=True)

    def __init__(self, handler: Handler = _echo, tools: Sequence[Mapping[str, Any]] = TOOLS) -> None:
        self.calls: list[ToolCall] = []
        self.contexts: list[ToolContext] = []
        self.closed = 0
        self.root = Path("nowhere")
        self._handler = handler
        self._tools = tools

    def __repr__(self) -> str:
        return "MemoryExecutor()"  # part of a test's name, which is the same in each process only without an address

    def tools(self) -> Sequence[Mapping[str, Any]]:
        return self._tools

    async def check(self) -> None:
        await trio.lowlevel.checkpoint()

    async def open(self, spec: WorkspaceSpec) -> MemoryExecutor:
        self.root = spec.root
        return self

    def path_of_skill(self, copy: Path) -> str:
        return f"/mnt/skills/{copy.name}"

    async def execute(self, call: ToolCall, context: ToolContext) -> ToolResult:
        self.calls.append(call)
        self.contexts.append(context)
        result: ToolResult = await self._handler(call, context)
        return result

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self.closed += 1


def call(id: str = "toolu_1", name: str = "bash_tool", **input: Any) -> ToolCall:
    return ToolCall(id=id, name=name, input=input)


def says(text: str, **fields: Any) -> dict[str, Any]:
    """An answer without a tool call."""
    return message([{"type": "text", "text": text}], "end_turn", **fields)


def uses(*calls: ToolCall, text: str = "", **fields: Any) -> dict[str, Any]:
    """An answer that calls tools."""
    blocks: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    blocks += [{"type": "tool_use", "id": each.id, "name": each.name, "input": dict(each.input)} for each in calls]
    return message(blocks, "tool_use", **fields)


def message(content: object, stop_reason: object, **fields: Any) -> dict[str, Any]:
    """An answer, whatever is in it."""
    return {"type": "message", "role": "assistant", "content": content, "stop_reason": stop_reason, **fields}


def user(text: str = "Do it.") -> list[Message]:
    """A conversation of one message."""
    return [{"role": "user", "content": text}]


class Script:
    """A function that answers for the model, in order; an exception is raised. `seen` has the messages of each call."""

    def __init__(self, *answers: object) -> None:
        self.seen: list[Sequence[Message]] = []
        self._answers = list(answers)

    async def __call__(self, messages: Sequence[Message]) -> object:
        await trio.lowlevel.checkpoint()
        self.seen.append(messages)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer
