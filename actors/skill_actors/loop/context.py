"""Where and how the calls of one conversation run: an open workspace, the skills it may read, and what is permitted.

A context is open inside of `async with`, and however that is left, every process is gone and the backend is closed.
The files in the working directory stay. Contexts share nothing; there is no working directory by default.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import trio

from skill_actors.backends import Capabilities, Executor, Host, ToolCall, Workspace, WorkspaceSpec, factory
from skill_actors.loop.definitions import tool_definitions
from skill_actors.sessions.policy import ActiveSkill, Decision, Policy
from skill_actors.skills.base import Skill
from skill_actors.skills.copies import SkillCopies
from skill_actors.skills.inventory import SKILL_FILE
from skill_actors.skills.lookup import index
from skill_actors.skills.prompting import build_system_prompt

__all__ = ["ExecutionContext", "Judge", "create_context", "unwrapped"]


class Judge(Protocol):
    """What says whether a call may run; a `Policy` is one."""

    def decide(self, call: ToolCall) -> Decision: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionContext:
    """Made by `create_context`.

    Args:
        skills: by name; their files may be read, and nothing beside them.
        folders: where each of them is, by name: its live folder, or a copy.
        workspace: runs the calls.
        tools: definitions of the tools that may be called; no other call runs.
        policy: judges each call.
        timeout_s: of one call; after it all that it started is killed.
        max_output_chars: of one result.
        environment: added to that of commands, which is clean: nothing of this process's own is in it.
        capabilities: what the backend claims.

    """

    skills: Mapping[str, Skill]
    folders: Mapping[str, Path]
    workspace: Workspace
    tools: Sequence[Mapping[str, Any]]
    policy: Judge
    timeout_s: float
    max_output_chars: int
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    capabilities: Capabilities | None = None

    @property
    def working_directory(self) -> Path:
        """Where relative paths begin, for every tool."""
        return self.workspace.root

    def location_of(self, skill: Skill) -> str:
        """The SKILL.md of a skill of this context, as its tools see it. Raises KeyError if it is not among them."""
        return f"{self.workspace.path_of_skill(self.folders[skill.name])}/{SKILL_FILE}"

    def system_prompt(
        self, base: str = "", *, include_instructions: bool = True, budget_tokens: int | None = None
    ) -> str:
        """As `build_system_prompt` for the skills of this context, with locations that its tools can read."""
        return build_system_prompt(
            base,
            self.skills.values(),
            include_instructions=include_instructions,
            location_of=self.location_of,
            budget_tokens=budget_tokens,
        )


@asynccontextmanager
async def create_context(
    skills: Iterable[Skill],
    *,
    working_directory: Path,
    backend: str | Executor = "local",
    options: Mapping[str, Any] | None = None,
    host: Host | None = None,
    copies: SkillCopies | None = None,
    only: Collection[str] | None = None,
    except_: Collection[str] = (),
    restrict_to_allowed_tools: bool = False,
    timeout_s: float = 120.0,
    max_output_chars: int = 30_000,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[ExecutionContext]:
    """Open a backend and a workspace in it; close both at the end of the block.

    Args:
        skills: all of them can be read by the tools.
        working_directory: of this conversation alone; made if it is missing.
        backend: its name, or an executor of yours, which then stays open. What cannot be used is an error, and
            nothing else is tried instead.
        options: of the backend that is named.
        host: what it finds around it; worker processes, for one that needs them.
        copies: where the skills are copied to, so that editing them changes nothing here; by default the live folders
            are read.
        only: names of the tools that may be called; None for all of the backend's.
        except_: names of those that may not.
        restrict_to_allowed_tools: run only what `allowed-tools` of one of the skills lists, if any of them has it.
        timeout_s: of one call.
        max_output_chars: of one result.
        environment: added to that of commands.

    Raises:
        BackendUnavailable: there is no such backend, or it cannot run here.
        ValueError: a tool that is named does not exist, or a number is out of range.
        CopyError: a skill was changed since it was loaded.

    """
    if not timeout_s > 0:
        raise ValueError(f"timeout_s must be more than 0, got {timeout_s!r}")
    if max_output_chars < 1:
        raise ValueError(f"max_output_chars must be at least 1, got {max_output_chars!r}")
    chosen = index(skills)
    async with unwrapped(), AsyncExitStack() as stack:
        executor = await _executor(stack, backend, options or {}, host or Host())
        tools = tool_definitions(only=only, except_=except_, tools=executor.tools())
        folders = {name: await copies.ensure(skill) if copies else skill.root for name, skill in chosen.items()}
        workspace = await executor.open(WorkspaceSpec(session=secrets.token_hex(8), root=working_directory))
        stack.push_async_callback(_close, workspace)
        policy = Policy(
            tools=frozenset(str(tool["name"]) for tool in tools),
            active=[ActiveSkill(skill, workspace.path_of_skill(folders[name])) for name, skill in chosen.items()],
            skill_roots=[workspace.path_of_skill(folder) for folder in folders.values()],
            restrict=restrict_to_allowed_tools,
        )
        yield ExecutionContext(
            skills=chosen,
            folders=folders,
            workspace=workspace,
            tools=tools,
            policy=policy,
            timeout_s=timeout_s,
            max_output_chars=max_output_chars,
            environment=dict(environment or {}),
            capabilities=executor.capabilities,
        )


async def _executor(stack: AsyncExitStack, backend: str | Executor, options: Mapping[str, Any], host: Host) -> Executor:
    if not isinstance(backend, str):
        if options:
            raise ValueError("options belong to a backend that is named; give yours to the executor itself")
        executor = backend
    else:
        executor = await stack.enter_async_context((await factory(backend))(options, host))
    await executor.check()
    return executor


@asynccontextmanager
async def unwrapped() -> AsyncIterator[None]:
    """An error of the block comes out as it is, and not in a group because a nursery is around it.

    So does what ends the program (SystemExit, KeyboardInterrupt): nobody catches these in groups, and Python itself
    would print a traceback in the place of the exit code.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if isinstance(error, BaseExceptionGroup | trio.Cancelled):
            raise
        context = error.__context__
        try:
            raise error
        finally:  # else the group would be its context, and what it came of would be lost
            error.__context__ = context
            del error, group, context


async def _close(workspace: Workspace) -> None:
    """Also when the block is cancelled: what runs has to be killed."""
    with trio.CancelScope(shield=True):
        await workspace.aclose()
