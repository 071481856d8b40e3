"""What a call would run as, here and now: asked for when it is shown, and again right before it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from skill_actors.backends.base import BackendUnavailable, TellsVariables, ToolCall, Workspace
from skill_actors.backends.native import NATIVE
from skill_actors.backends.routing import HAND_OVER
from skill_actors.errors import Refused
from skill_actors.files.artifacts import ArtifactError
from skill_actors.sessions.active_skills import ActiveSkills
from skill_actors.sessions.approvals.named_files import FileLimits, NotBound, Roots, named_files, words_of
from skill_actors.sessions.approvals.request import ApprovalRequest, NamedFile
from skill_actors.sessions.grants import Granted
from skill_actors.sessions.policy import Decision
from skill_actors.sessions.session_files import SessionFiles
from skill_actors.sessions.site import Site
from skill_actors.sessions.sources import SourceRoom
from skill_actors.sessions.surroundings import PinnedSkill
from skill_actors.skills.secrets import SecretUnavailable

__all__ = ["Binding", "Bound", "CannotBind"]

SECRET_MISSING: Final = "The call was not run, since a secret of its skill cannot be had: see skillctl skills status."


class CannotBind(Exception):
    """Nobody can be asked about the call, since it cannot be said what would run. The message is for the model."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A call as it would run now: what people are shown of it, and what its backend is given.

    Args:
        granted: what the call gets besides, and its own form, with paths for references; None where no backend is
            asked, as for the instructions of a skill.

    """

    request: ApprovalRequest
    granted: Granted | None


class Binding:
    """Looks at calls of one turn as they would run.

    Args:
        session, turn: whose calls they are.
        files: of the session's places.
        pinned: the skills of the turn; their copies may be read.

    """

    def __init__(
        self,
        session: str,
        turn: str,
        *,
        files: SessionFiles,
        pinned: Sequence[PinnedSkill],
        skills: ActiveSkills,
        limits: FileLimits | None = None,
    ) -> None:
        self._session = session
        self._turn = turn
        self._files = files
        self._pinned = pinned
        self._skills = skills
        self._limits = limits or FileLimits()

    async def look(self, call: ToolCall, site: Site, decision: Decision) -> Bound:
        """The call as it would run at this moment.

        Args:
            call: by the name that its tool has in the place.
            decision: why it is not simply allowed.

        Raises:
            CannotBind: it could not run, or names more than can be looked at.

        """
        if self._skills.answers(call, site.further):
            return Bound(self._request(call, site, decision, granted=Granted(call), files=(), cwd=None), None)
        granted, workspace = await self._granted(call, site)
        roots = self._roots(call, site, workspace)
        words = words_of(granted.call.input, granted.call.argv)
        try:
            files = await trio.to_thread.run_sync(named_files, words, roots, self._limits)
        except NotBound as error:
            why = f"Not run: it needs an approval, and cannot be shown to anybody as it is: {error}."
            raise CannotBind(why) from error
        except OSError as error:
            raise CannotBind(f"Not run: a file that it names cannot be read: {error.strerror}.") from error
        cwd = None if site.place == HAND_OVER else str(workspace.root)
        return Bound(self._request(call, site, decision, granted=granted, files=files, cwd=cwd), granted)

    async def _granted(self, call: ToolCall, site: Site) -> tuple[Granted, Workspace]:
        """The call with what it gets, and with paths for references to artifacts."""
        if site.workspace is None:
            raise CannotBind(f"{site.shown} cannot run this: {site.why}")
        try:
            granted = await site.grants.judge(call)
            placed = await self._files.placed(granted.call, site.workspace, site.place)
        except SecretUnavailable as error:
            raise CannotBind(SECRET_MISSING) from error
        except BackendUnavailable as error:
            raise CannotBind(f"{site.shown} cannot run this: {error}") from error
        except (ArtifactError, Refused) as error:
            raise CannotBind(f"Not run: {error.code}: {error.message}") from error
        return Granted(placed, granted.environment, granted.hidden, granted.redactor), site.workspace

    def _roots(self, call: ToolCall, site: Site, workspace: Workspace) -> Roots:
        folders = self._files.folders
        if site.place == HAND_OVER:
            source = folders.get(str(call.input.get("from")), folders[self._files.main])
            return Roots(str(source), source)
        folder = workspace.root if site.backend == NATIVE else folders.get(site.place, folders[self._files.main])
        skills = {workspace.path_of_skill(pin.copy): pin.copy for pin in self._pinned}
        return Roots(str(workspace.root), folder, skills)

    def _request(
        self,
        call: ToolCall,
        site: Site,
        decision: Decision,
        *,
        granted: Granted,
        files: tuple[NamedFile, ...],
        cwd: str | None,
    ) -> ApprovalRequest:
        return ApprovalRequest(
            session=self._session,
            turn=self._turn,
            call=call.id,
            tool=call.name,
            place=site.place,
            backend=site.backend,
            input=granted.call.input,
            argv=granted.call.argv,
            cwd=cwd,
            environment=tuple(sorted({*granted.environment, *_variables(granted.call, site.workspace)})),
            files=files,
            skill=self._skill(call, site),
            reason=decision.why,
            rule=decision.rule,
        )

    def _skill(self, call: ToolCall, site: Site) -> Mapping[str, str] | None:
        if isinstance(site.workspace, SourceRoom):
            return site.workspace.version_of(call.name)
        pin = self._skills.concerned(call, site.further)
        return None if pin is None else {"name": pin.skill.name, "digest": pin.skill.digest}


def _variables(call: ToolCall, workspace: object) -> Sequence[str]:
    """Names of what a command finds in its environment wherever it runs there; nothing for what is no command."""
    is_command = call.argv is not None or call.name == "bash_tool"
    return workspace.variables if is_command and isinstance(workspace, TellsVariables) else ()
