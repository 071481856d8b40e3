"""The Executor's contract: one tool call in one conversation's workspace.

A failing tool is a result, not an exception: whatever the model asked for, it gets an answer it can read.
Exceptions are for what the operator must mend (`BackendUnavailable`) and for bugs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

__all__ = [
    "BackendUnavailable",
    "Capabilities",
    "Claim",
    "Executor",
    "Image",
    "ImageKind",
    "OptionRefused",
    "OutputChunk",
    "TakesOptions",
    "TellsVariables",
    "ToolCall",
    "ToolContext",
    "ToolResult",
    "Workspace",
    "WorkspaceSpec",
    "options_for",
]


ImageKind = Literal["image/png", "image/jpeg", "image/gif", "image/webp"]


class BackendUnavailable(Exception):
    """The backend cannot run here and now. The message names the remedy; nothing weaker is tried instead."""


class OptionRefused(ValueError):
    """An option of a session is none of its backend's, makes no sense, or is beyond what the operator permits.

    Args:
        backend: by name.
        option: likewise.
        value: what was asked for.
        allowed: in words: what may be asked for instead, and the operator's key that says so, if there is one.

    """

    def __init__(self, backend: str, option: str, value: object, allowed: str) -> None:
        super().__init__(f"the {backend} backend's option {option} is {value!r:.100}, but {allowed}")
        self.option = option


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One capability: what it is, how far it goes, and what is missing where that is not all the way."""

    value: bool | str
    fidelity: Literal["full", "partial", "none"]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend claims; `skill_actors.testing.backends` measures it.

    Args:
        stream: output arrives while a call runs.
        cancel: a call that is cancelled, or out of time, ends with all it has started.
        sandbox: what keeps commands from the rest of the host.
        network: what of it commands have.
        files: a workspace keeps files between calls.
        parallel: calls of one workspace run at the same time.
        images: `view` shows pictures.
        resume: a workspace that was closed can be opened again with its files, also by another process.
        cost: results say what a call cost.
        partial: by the name of a capability, what is missing of it.

    """

    stream: bool
    cancel: bool
    sandbox: Literal["none", "process", "landlock", "namespace", "container", "cloud"]
    network: Literal["host", "none", "configurable"]
    files: bool
    parallel: bool
    images: bool = False
    resume: bool = False
    cost: bool = False
    partial: Mapping[str, str] = field(default_factory=dict)

    def claims(self) -> dict[str, Claim]:
        """Each capability by name. A sandbox of none is the lack of one; networks are what they are."""
        return {entry.name: self._claim(entry.name) for entry in fields(self) if entry.name != "partial"}

    def facts(self) -> dict[str, dict[str, Any]]:
        """The claims as JSON has them: the value of each, its fidelity, and what is missing of those in part."""
        claims = self.claims()
        return {
            "capabilities": {name: claim.value for name, claim in claims.items()},
            "fidelity": {name: claim.fidelity for name, claim in claims.items()},
            "notes": {name: claim.note for name, claim in claims.items() if claim.note},
        }

    def _claim(self, name: str) -> Claim:
        value = getattr(self, name)
        if value is False or (name, value) == ("sandbox", "none"):
            return Claim(value=value, fidelity="none")
        missing = self.partial.get(name, "")
        return Claim(value=value, fidelity="partial" if missing else "full", note=missing)


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
class Image:
    """A picture for the model: whole, and of a kind and size that the API takes (`images`)."""

    media_type: ImageKind
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """The answer to a call.

    Args:
        content: text for the model, capped, always valid UTF-8.
        outcome: "ok"; "error" (the tool failed or refused); "timeout"; "cancelled".
        exit_code: of the process, negative for a signal; None where no process ran.
        output_file: workspace-relative path of the whole output, where it was cut.
        files: workspace-relative paths that the call is known to have written.
        images: shown to the model after the text.
        cost_usd: what the call cost, where the backend claims to tell that; None: nobody knows.

    """

    content: str
    outcome: Literal["ok", "error", "timeout", "cancelled"]
    exit_code: int | None = None
    duration_ms: int = 0
    output_file: str | None = None
    files: Sequence[str] = ()
    images: Sequence[Image] = ()
    cost_usd: float | None = None

    @property
    def is_error(self) -> bool:
        return self.outcome != "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceSpec:
    """Where a conversation works.

    Args:
        session: whose it is.
        root: made by `open` if it is missing; it outlives the workspace object.
        options: of this session, checked by `options_for`.

    """

    session: str
    root: Path
    options: Mapping[str, Any] = field(default_factory=dict)


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


@runtime_checkable
class TellsVariables(Protocol):
    """What a workspace has besides, if it can say what its commands find in their environment."""

    @property
    def variables(self) -> Sequence[str]:
        """Names of what every command gets, in no order; what a call's context adds is not among them."""


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


@runtime_checkable
class TakesOptions(Protocol):
    """What an executor has besides, if sessions may choose something of it, within the operator's limits."""

    def check_options(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """The same choices, JSON-ready and written in one way only: checking them again changes nothing.

        Nothing is filled in and nothing is cut down to a limit.

        Raises:
            OptionRefused: naming option, value, the operator's limit and the key that raises it.

        """


def options_for(executor: Executor, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """A session's options, checked by the executor that is to apply them. One that takes none refuses any.

    Raises OptionRefused.
    """
    if not options:
        return {}
    if isinstance(executor, TakesOptions):
        return executor.check_options(options)
    option, value = next(iter(options.items()))
    raise OptionRefused(executor.name, option, value, "this backend takes no options from sessions")
