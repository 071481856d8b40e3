"""A workspace under test, a check of it, and what became of that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from skill_actors.backends.base import (
    Capabilities,
    Executor,
    ToolCall,
    ToolContext,
    ToolResult,
    Workspace,
    WorkspaceSpec,
)

__all__ = ["STANDARD", "Check", "Finding", "Names", "Trial", "Unmeasurable", "always", "expect"]

_CALL_S: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What a backend calls the four tools and their inputs, by what they are called where nobody says otherwise.

    Args:
        tools: name of the tool.
        inputs: by tool, name of an input; one that is left out is not given.

    """

    tools: Mapping[str, str]
    inputs: Mapping[str, Mapping[str, str]]

    @classmethod
    def of_skill(cls, skill: str) -> Names:
        """Those of a native skill that has all four callbacks."""
        prefix = skill.replace("-", "_")
        return cls(
            tools={
                "bash_tool": f"{prefix}_execute",
                "view": f"{prefix}_read",
                "create_file": f"{prefix}_write",
                "str_replace": f"{prefix}_modify",
            },
            inputs={
                "bash_tool": {"command": "command"},
                "view": {"path": "path"},
                "create_file": {"path": "path", "file_text": "content"},
                "str_replace": {"path": "path", "old_str": "old_content", "new_str": "new_content"},
            },
        )

    def call(self, tool: str, input: Mapping[str, Any]) -> ToolCall:
        """The call, in this backend's words."""
        names = self.inputs.get(tool)
        given = input if names is None else {names[name]: value for name, value in input.items() if name in names}
        return ToolCall(id="call-1", name=self.tools.get(tool, tool), input=given)


_ALL: Final = {
    "bash_tool": ("command", "description"),
    "view": ("path", "view_range"),
    "create_file": ("path", "file_text", "description"),
    "str_replace": ("path", "old_str", "new_str", "description"),
}
STANDARD: Final = Names(
    tools={name: name for name in _ALL}, inputs={tool: {name: name for name in names} for tool, names in _ALL.items()}
)
"""The tools as the local and the docker backend have them."""


class Unmeasurable(Exception):
    """Raised by a check that cannot tell anything here; the message says why."""


class Trial:
    """A workspace of the backend under test, with the tools as methods. `folder` is around the workspace's own."""

    def __init__(self, executor: Executor, workspace: Workspace, folder: Path, names: Names = STANDARD) -> None:
        self.executor = executor
        self.workspace = workspace
        self.folder = folder
        self.names = names

    async def tool(self, name: str, input: Mapping[str, Any], **context: Any) -> ToolResult:
        """Call a tool; `context` is for its ToolContext."""
        call = self.names.call(name, {"description": "a check", **input} if name != "view" else input)
        return await self.workspace.execute(call, ToolContext(**{"timeout_s": _CALL_S, **context}))

    async def bash(self, command: str, **context: Any) -> ToolResult:
        """Run a command."""
        return await self.tool("bash_tool", {"command": command}, **context)

    async def again(self) -> Trial:
        """The same workspace, closed and opened again. Close it."""
        await self.workspace.aclose()
        spec = WorkspaceSpec(session=self.folder.name, root=self.folder / "workspace")
        return Trial(self.executor, await self.executor.open(spec), self.folder, self.names)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to measure.

    Args:
        capability: what it measures, by its name in Capabilities, or "contract" for what every backend owes.
        title: in words.
        applies: whether something is claimed that can be measured by it.
        run: raises AssertionError, with what is wrong, where it does not hold; Unmeasurable where it cannot tell.

    """

    capability: str
    title: str
    applies: Callable[[Capabilities], bool]
    run: Callable[[Trial], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What became of a check: "skipped" is what is not claimed, or cannot be measured."""

    capability: str
    title: str
    outcome: Literal["passed", "failed", "skipped"]
    detail: str = ""


def always(_: Capabilities) -> bool:
    """For what every backend owes."""
    return True


def expect(holds: bool, what: str, result: ToolResult | None = None) -> None:
    """Raise AssertionError, with what is wrong and what was seen, if it does not hold."""
    if not holds:
        seen = "" if result is None else f"; the result was {result.outcome}: {result.content[:300]!r}"
        raise AssertionError(what + seen)
