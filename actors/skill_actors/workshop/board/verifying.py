"""Runs the command of an item's verification where the agent has worked, under the policy and the place's own limits.

The command is what whoever added the item has written, as words that no shell reads; what it runs on, the agent has
written. So it runs in a place like the conversation's: in the folder of its first place, by the executor that this has,
with the options of it. Where whole programs are the agents there is no executor: then the local one, as whose user
they have run. A policy that would ask somebody denies it: nobody is asked about what belongs to no turn.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from skill_actors.backends.base import (
    BackendUnavailable,
    Executor,
    OptionRefused,
    ToolCall,
    ToolContext,
    WorkspaceSpec,
    options_for,
)
from skill_actors.errors import Refused
from skill_actors.ids import new_id
from skill_actors.sessions.backend_choice import BackendChoice, choices_of
from skill_actors.sessions.place_folders import folder_of_place
from skill_actors.sessions.places import is_executor
from skill_actors.sessions.policy import Policy, RuleSet, parse_policy
from skill_actors.sessions.table import Viewer
from skill_actors.workshop.board.hand import CommandResult, RunsCommands

__all__ = ["Verifier"]

_TOOL: Final = "bash_tool"
_LOCAL: Final = "local"
_MOST_CHARS: Final = 4_000


class KnowsSessions(Protocol):
    """Where conversations work."""

    async def get(self, session: str, viewer: Viewer) -> Mapping[str, Any]: ...


class Verifier(RunsCommands):
    """Runs commands in the places of conversations.

    Args:
        executors: by the names of backends, as they are at each call.
        programs: names of the backends whose agents are whole programs.
        workspaces: the folder of all workspaces.
        rules: the operator's policy, as it is at each call.

    """

    def __init__(
        self,
        sessions: KnowsSessions,
        executors: Mapping[str, Executor],
        workspaces: Path,
        rules: Callable[[], RuleSet],
        programs: Container[str] = (),
    ) -> None:
        self._sessions = sessions
        self._programs = programs
        self._executors = executors
        self._workspaces = workspaces
        self._rules = rules

    async def run(self, owner_uid: int, session: str, argv: Sequence[str], timeout_s: float) -> CommandResult:
        view = await self._sessions.get(session, Viewer(uid=owner_uid))
        folder = folder_of_place(self._workspaces, session, None)
        choice = next((choice for choice in choices_of(view["backends"]) if is_executor(choice.backend)), None)
        if choice is None:
            return CommandResult(passed=False, told="it was not run: the agent has no place where commands run")
        if choice.backend in self._programs:
            choice = BackendChoice(_LOCAL, _LOCAL)
            folder = Path(view["cwd"]) if view.get("cwd") else folder
        call = ToolCall(
            id="verify", name=_TOOL, input={"command": shlex.join(argv), "description": "verify"}, argv=tuple(argv)
        )
        executor = self._executor(choice)
        refusal = self._refusal(call, view, owner_uid, choice, executor, folder)
        if refusal is not None:
            return CommandResult(passed=False, told=refusal)
        return await self._execute(executor, choice, folder, call, timeout_s)

    async def _execute(
        self, executor: Executor, choice: BackendChoice, folder: Path, call: ToolCall, timeout_s: float
    ) -> CommandResult:
        try:
            spec = WorkspaceSpec(session=new_id("ses"), root=folder, options=options_for(executor, choice.options))
            workspace = await executor.open(spec)
        except (BackendUnavailable, OptionRefused) as error:
            raise Refused("backend_unavailable", f"the verification cannot be run: {error}") from error
        try:
            context = ToolContext(timeout_s=timeout_s, max_output_chars=_MOST_CHARS)
            result = await workspace.execute(call, context)
        except BackendUnavailable as error:
            raise Refused("backend_unavailable", f"the verification cannot be run: {error}") from error
        finally:
            await workspace.aclose()
        passed = result.outcome == "ok" and result.exit_code == 0
        return CommandResult(passed=passed, told=result.content[-_MOST_CHARS:] or result.outcome)

    def _executor(self, choice: BackendChoice) -> Executor:
        try:
            return self._executors[choice.backend]
        except KeyError:
            raise Refused(
                "backend_unavailable", f"the verification needs the backend {choice.backend!r}, which is not configured"
            ) from None

    def _refusal(
        self,
        call: ToolCall,
        view: Mapping[str, Any],
        owner_uid: int,
        choice: BackendChoice,
        executor: Executor,
        folder: Path,
    ) -> str | None:
        """Why the policy does not let it run; None if it does."""
        policy = Policy(
            tools={_TOOL},
            rules=(self._rules(), parse_policy(view.get("policy")).rule_set),
            place=choice.name,
            backend=choice.backend,
            backends={choice.name: choice.backend},
            confined=executor.capabilities.sandbox not in ("none", "process"),
            owner_uid=owner_uid,
            workspace=str(folder),
        )
        decision = policy.decide(call)
        if decision.verdict == "allow":
            return None
        why = decision.reason or "it would need an approval, and nobody can give one here"
        return f"it was not run: {why}"
