"""The Executor's contract: one tool call in one conversation's workspace.

A failing tool is a result, not an exception: whatever the model asked for, it gets an answer it can read.
Exceptions are for what the operator must mend (`BackendUnavailable`) and for bugs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

__all__ = [
    "BackendUnavailable",
    "Capabilities",
    "Executor",
    "OutputChunk",
    "ToolCall",
    "ToolContext",
    "ToolResult",
    "Workspace",
    "WorkspaceSpec",
]


class BackendUnavailable(Exception):
    """The backend cannot run here and now. The message names the remedy; nothing weaker is tried instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend claims; the conformance suite holds it to that."""

    stream: bool
    cancel: bool
    sandbox: Literal["none", "process", "landlock", "namespace", "container", "cloud"]
    network: Literal["host", "none", "configurable"]
    files: bool
    parallel: bool
    images: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call as the model made it. `input` is unchecked: the executor validates it against the tool's schema.

    `argv`, where set, is run as it is, without a shell, whatever `name` and `input` say (skill entry commands).
    """

    id: str
    name: str
    input: Mapping[str, Any]
    argv: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class OutputChunk:
    """Output of a running tool, decoded; bytes that are not UTF-8 appear as U+FFFD."""

    stream: Literal["stdout", "stderr"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext:
    """What holds for one call.

    Args:
        readable: folders outside the workspace that `view` may read (the pinned copies of the session's skills).
        timeout_s: after it the call's whole process tree is killed and the result says so.
        max_output_chars: what the model gets; the rest goes to a file in the workspace, which the result names.
        environment: added to that of the call's processes, and of nothing else.
        hidden: texts that the result must not hold, such as secrets in `environment`: they appear as `***`, also
            where the output is cut; with an `environment` no file is made of the whole. What is emitted is as it came.
        emit: awaited with output as it comes; a slow consumer slows the tool.

    """

    readable: Sequence[Path] = ()
    timeout_s: float = 120.0
    max_output_chars: int = 30_000
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    hidden: Sequence[str] = field(default=(), repr=False)
    emit: Callable[[OutputChunk], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """The answer to a call.

    Args:
        content: text for the model, capped, always valid UTF-8.
        outcome: "ok"; "error" (the tool failed or refused); "timeout"; "cancelled".
        exit_code: of the process, negative for a signal; None where no process ran.
        output_file: workspace-relative path of the whole output, where it was cut.
        files: workspace-relative paths that the call is known to have written.

    """

    content: str
    outcome: Literal["ok", "error", "timeout", "cancelled"]
    exit_code: int | None = None
    duration_ms: int = 0
    output_file: str | None = None
    files: Sequence[str] = ()

    @property
    def is_error(self) -> bool:
        return self.outcome != "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceSpec:
    """Where a conversation works. `root` is made by `open` if it is missing; it outlives the workspace object."""

    session: str
    root: Path


class Workspace(Protocol):
    """An open workspace. Calls may run at the same time."""

    @property
    def root(self) -> Path: ...

    def path_of_skill(self, copy: Path) -> str:
        """Where tools see the pinned copy of a skill's folder."""

    async def execute(self, call: ToolCall, context: ToolContext) -> ToolResult:
        """Run one call. Cancelling it kills every process it started before it returns."""

    async def aclose(self) -> None:
        """Kill what still runs and let go. The files stay. May be called twice."""


class Executor(Protocol):
    """A backend that runs tool calls. One instance serves all conversations of the daemon."""

    @property
    def name(self) -> str: ...

    @property
    def capabilities(self) -> Capabilities: ...

    def tools(self) -> Sequence[Mapping[str, Any]]:
        """Definitions for the model: name, description, input_schema."""

    async def check(self) -> None:
        """Raise BackendUnavailable if it cannot run here."""

    async def open(self, spec: WorkspaceSpec) -> Workspace:
        """Open a conversation's workspace. Raises BackendUnavailable."""

    async def aclose(self) -> None:
        """Close everything that is open. May be called twice."""
