"""What one turn works with: its places, the skills it is pinned to, and the tools that its model is offered."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from skill_actors.backends.base import BackendUnavailable, ToolCall, Workspace, WorkspaceSpec
from skill_actors.backends.native import NativeRoom
from skill_actors.backends.routing import HOSTED_NAMES, Routing
from skill_actors.errors import Refused
from skill_actors.sessions.active_skills import ActiveSkills
from skill_actors.sessions.commands import SlashCommand, parse_command
from skill_actors.sessions.grants import Grants
from skill_actors.sessions.hand_over import HandOverRoom, HandOvers
from skill_actors.sessions.history import History
from skill_actors.sessions.hosted import CODE_EXECUTION_TOOL, HostedTurn
from skill_actors.sessions.hosted_files import name_hosted_files
from skill_actors.sessions.hosted_start import NotHosted, prepare_hosted, send_message_files
from skill_actors.sessions.log import Draft, SessionLog
from skill_actors.sessions.natives import native_room
from skill_actors.sessions.offered import offered_skills
from skill_actors.sessions.places import Places
from skill_actors.sessions.policy import Policy, RuleSet, parse_policy
from skill_actors.sessions.prompt import HostFolder, command_of, hints_of, places_prompt, skills_of, system_prompt
from skill_actors.sessions.session_files import SessionFiles
from skill_actors.sessions.sources import SessionSources, SourceRoom
from skill_actors.sessions.surroundings import PinnedSkill, Surroundings
from skill_actors.sessions.toolrun import Site, ToolRun
from skill_actors.skills.activation import LOAD_SKILL, load_skill_tool
from skill_actors.skills.base import Skill, SkillSnapshot

__all__ = ["Toolbox"]

_FEW_SKILLS: Final = 200  # the catalogue of more is written in a thread: it takes 16 ms for a thousand


class Toolbox:
    """The tools of one turn. `choose` finds its skills, `open` makes the rest ready; the other methods come after.

    Args:
        turn: its id.
        places: where its tools run.
        files: of these places.
        ranks: how much each skill is used: of those used least the model is told less.
        sources: of the session's further tools, if it has any.
        model: the name of the model that the turn calls; None for the default one.
        only: names of the tools that the model is offered; None for all.

    """

    def __init__(
        self,
        log: SessionLog,
        turn: str,
        *,
        env: Surroundings,
        places: Places,
        files: SessionFiles,
        ranks: Mapping[str, int],
        sources: SessionSources | None = None,
        model: str | None,
        only: Collection[str] | None = None,
    ) -> None:
        self._log = log
        self._turn = turn
        self._env = env
        self._places = places
        self._files = files
        self._ranks = ranks
        self._sources = sources
        self._model = model
        self._only = only
        self._settings = log.record.settings
        self._session_policy = parse_policy(self._settings.get("policy"))
        self._history = History()
        self._allowed: Mapping[str, Skill] = {}
        self._workspace: Workspace  # of the main place, or what stands for it
        self._routing = Routing((), {})
        self._pinned: Sequence[PinnedSkill] = ()
        self._skills: ActiveSkills
        self._natives: NativeRoom | None = None
        self._further_tools: SourceRoom | None = None  # of the sources
        self._entry: PinnedSkill | None = None  # whose entry command this turn runs
        self._catalogue = ""  # the same for every model call of the turn
        self._tools: Sequence[Mapping[str, Any]] = ()
        self.hosted: HostedTurn | None = None

    async def choose(self, text: str) -> tuple[SkillSnapshot, SlashCommand | None]:
        """The skills that this turn may use, and the command that its message is, if it is one."""
        snapshot = await offered_skills(self._env, self._log.record.owner_uid, self._settings)
        self._allowed = snapshot.skills
        return snapshot, parse_command(text, self._allowed)

    async def open(self, history: History, *, hosted: bool) -> None:
        """Open the places, pin the skills, and write what changed of those that the history holds.

        Args:
            hosted: whether the hosted place is wanted, if there is one.

        Raises: Refused, BackendUnavailable, and what appends raise.
        """
        self._history = history
        await self._places.open_all()
        self._workspace = self._main_workspace()
        self._routing = self._places.routing()
        skills = self._usable(list(self._allowed.values()))
        copies = await self._env.pin(skills)
        self._pinned = [PinnedSkill(skill, copy) for skill, copy in zip(skills, copies, strict=True)]
        if hosted:
            await self._prepare_hosted()
        await self._offer_skills()

    def _main_workspace(self) -> Workspace:
        main = self._places.main
        opened = None if main is None else self._places.open.get(main.name)
        return HostFolder(self._places.folder) if opened is None else opened

    def _usable(self, skills: Sequence[Skill]) -> Sequence[Skill]:
        """Without any place of ours, only those that bring tools of their own can be used; others are uploaded."""
        return skills if self._places.executors else [skill for skill in skills if skill.native is not None]

    # -- the hosted place ----------------------------------------------------------------------------------------

    async def _prepare_hosted(self) -> None:
        """Have ready what the hosted place needs. Where it is not the only place, the turn goes on without it."""
        places = self._places
        if places.hosted is None:
            return
        model, _ = self._env.resolve_model(self._model)
        try:
            self.hosted = await prepare_hosted(self._env, self._log.record, places, self._allowed, model)
            if not places.executors:
                await send_message_files(self._hand_overs(), self._history.message_files, places, self._turn)
            await self.name_hosted_files()
        except NotHosted as error:
            self.hosted = None
            places.why[places.hosted.name] = str(error)
            if not places.executors:
                raise Refused("backend_unavailable", f"the place {places.hosted.name}: {error}") from error

    async def name_hosted_files(self) -> None:
        """Tell of the files that code at the API has made by now."""
        if self.hosted is not None:
            folder = self._places.folders[self.hosted.place]
            await name_hosted_files(self._log, self.hosted.services, self.hosted.place, folder, self._turn)

    def _hand_overs(self) -> HandOvers:
        hosted = self._places.hosted
        return HandOvers(
            self._log,
            self._places.folders,
            hosted=None if hosted is None else hosted.name,
            services=None if self.hosted is None else self.hosted.services,
            max_bytes=self._env.defaults.hand_over_bytes,
            check_room=partial(self._files.check_upload, replaced=0),
        )

    def hosted_now(self) -> HostedTurn | None:
        """The hosted place, unless the limits of an active skill keep it away: no call of it could be judged later.

        While an answer pauses, its request stays as it is.
        """
        if self.hosted is None or self._history.paused:
            return self.hosted
        asked = ToolCall(id="", name=CODE_EXECUTION_TOOL, input={})
        return self.hosted if self._policy(None).decide(asked).verdict == "allow" else None

    # -- what the model is told ----------------------------------------------------------------------------------

    async def _offer_skills(self) -> None:
        """What the model is told of the skills, and how it gets at them."""
        limits = self._env.defaults
        root = await trio.to_thread.run_sync(_made, self._places.folder)
        spec = WorkspaceSpec(session=self._log.record.id, root=root)
        own_tools = self._routing.tools
        taken = {LOAD_SKILL, *HOSTED_NAMES, *(str(tool["name"]) for tool in own_tools)}
        self._natives = native_room(self._env, self._pinned, spec, taken)
        await self._ask_sources(root, {*taken, *self._owners})
        self._skills = ActiveSkills(
            self._pinned,
            self._workspace,
            self._history,
            self._env.skill_uses,
            max_chars=limits.tool_output_chars,
            owners={} if self._natives is None else self._natives.owners,
            further=self._further(),
        )
        changes = [Draft("skill.changed", self._turn, change) for change in self._skills.changes()]
        if changes:
            await self._log.append(changes)
        write = partial(
            skills_of, self._pinned, self._workspace, budget_tokens=limits.catalogue_tokens, uses=self._ranks
        )
        told = write() if len(self._pinned) <= _FEW_SKILLS else await trio.to_thread.run_sync(write)
        artifacts = self._files.artifacts.begin(self._settings.get("artifacts", ()), self._pinned)
        self._catalogue = "\n\n".join(filter(None, (told.text, artifacts)))
        if told.shortened or told.left_out:
            cut = {"shortened": len(told.shortened), "left_out": len(told.left_out)}
            self._env.bus.emit("skill.catalogue_cut", cut, {"session": self._log.record.id})
        load = load_skill_tool(pin.skill for pin in self._pinned)
        native = () if self._natives is None else self._natives.tools
        hosted = () if self.hosted is None else (self.hosted.tool,)
        further = () if self._further_tools is None else self._further_tools.tools
        tools = [*own_tools, *([load] if load is not None else []), *native, *further, *hosted]
        self._tools = [tool for tool in tools if self._only is None or tool["name"] in self._only]

    async def _ask_sources(self, root: Path, taken: Collection[str]) -> None:
        """Have the session's sources tell their tools, which stay as they are until the turn ends."""
        if self._sources is None or self._sources.is_empty:
            return
        offered, news = await self._sources.offered(taken)
        if news:
            await self._log.append([Draft("tools.changed", self._turn, data) for data in news])
        self._further_tools = SourceRoom(offered, self._history.tool_digests, root) if offered else None

    async def catalogue_on_host(self) -> str:
        """What an agent that reads files of this host is told of the skills; tools of native ones it cannot call."""
        skills = [skill for skill in self._allowed.values() if skill.native is None]
        copies = await self._env.pin(skills)
        pinned = [PinnedSkill(skill, copy) for skill, copy in zip(skills, copies, strict=True)]
        folder, budget = HostFolder(self._places.folder), self._env.defaults.catalogue_tokens
        told = await trio.to_thread.run_sync(partial(skills_of, pinned, folder, budget_tokens=budget, uses=self._ranks))
        return told.text

    def _further(self) -> Mapping[str, Workspace]:
        main = self._places.main
        return {name: there for name, there in self._places.open.items() if main is None or name != main.name}

    def system(self) -> str:
        """The system prompt."""
        return system_prompt(
            self._settings.get("system"),
            places_prompt(self._places, self._workspace),
            self._catalogue,
            self._settings.get("cwd"),
        )

    def tools(self) -> Sequence[Mapping[str, Any]]:
        """The tools that the model is offered now."""
        hosted = self.hosted_now()
        return [tool for tool in self._tools if not self._is_denied(str(tool["name"]), hosted)]

    def hints(self) -> Sequence[Any]:
        """The skills, for a model that does not read."""
        return hints_of(self._pinned, self._workspace)

    def _is_denied(self, name: str, hosted: HostedTurn | None) -> bool:
        """Whether a rule keeps the tool from running at all, by the name it is offered under or that of its place."""
        if name == CODE_EXECUTION_TOOL and self.hosted is not None:
            return hosted is None
        route = self._routing.by_name.get(name)
        further = None if route is None or route.place == self._main_name else route.place
        return self._policy(further).denies_tool(name if route is None else route.tool, offered=name)

    # -- what runs -----------------------------------------------------------------------------------------------

    def entry_call(self, command: SlashCommand) -> ToolCall:
        """The call that runs a skill's entry command. Raises Refused("no_entry_command")."""
        if self._places.main is None:
            raise Refused("no_entry_command", "this conversation has no place where an entry command can run")
        pin = next(pin for pin in self._pinned if pin.skill.name == command.skill)
        argv = command_of(pin, self._workspace, command.arguments)
        self._skills.activate(command.skill)
        self._entry = pin
        return ToolCall(
            id=f"toolu_{secrets.token_hex(12)}",
            name="bash_tool",
            input={"command": shlex.join(argv), "description": f"Run the {command.skill} skill"},
            argv=argv,
        )

    async def runner(
        self,
        calls: Sequence[ToolCall],
        timeout_s: float,
        resting: Callable[[], AbstractAsyncContextManager[None]],
        asked: Collection[str] = (),
    ) -> ToolRun:
        """What runs these calls of one message; the places that they need are opened first if they could not be before.

        Args:
            timeout_s: of one call.
            resting: what a call is in for as long as it waits for somebody.
            asked: ids of those that somebody was asked about before a restart.

        """
        await self._open_for(calls, timeout_s)
        await self._files.settle(self._turn)  # what came otherwise than by a call is not told as the call's
        return ToolRun(
            self._log,
            self._turn,
            main=self._site(None),
            sites={name: self._site(name) for name in self._places.executors},
            by_name=self._routing.by_name,
            hand_over=HandOverRoom(self._hand_overs(), self._places.folders, self._turn),
            pinned=self._pinned,
            skills=self._skills,
            natives=self._natives,
            further=self._further_tools,
            timeout_s=timeout_s,
            output_chars=self._env.defaults.tool_output_chars,
            bus=self._env.bus,
            files=self._files,
            resting=resting,
            approvals=self._env.approvals,
            approval_timeout_s=self._env.defaults.approval_timeout_s,
            schemas={str(tool["name"]): tool.get("input_schema", {}) for tool in self._tools},
            asked=asked,
            screen=self._env.screen,
        )

    async def _open_for(self, calls: Sequence[ToolCall], timeout_s: float) -> None:
        """Open the places of these calls that could not be opened before; what cannot be now has its reason."""
        routes = [self._routing.by_name.get(call.name) for call in calls]
        wanted = {route.place for route in routes if route is not None} - self._places.open.keys()
        for name in sorted(wanted & self._places.executors.keys()):
            opened = await self._places.open_one(name, timeout_s)
            if opened is not None and name != self._main_name:
                self._skills.add_place(name, opened)

    @property
    def _main_name(self) -> str | None:
        main = self._places.main
        return None if main is None else main.name

    def _site(self, name: str | None) -> Site:
        """A place for the calls that the model has just made; None for the main one."""
        places, main = self._places, self._main_name
        name = main if name is None else name
        further = None if name == main else name
        opened = None if name is None else places.open.get(name)
        why = places.why.get(name or "", "this conversation has no place where commands run")
        grants = Grants(
            self._env.secrets,
            self._pinned,
            self._workspace if opened is None else opened,
            entry=self._entry,
            tools=self._owners,
        )
        return Site(
            place=name or "",
            backend=places.backends.get(name or "", places.shown),
            workspace=opened,
            policy=self._policy(further, grants),
            rules_now=self._rules,
            grants=grants,
            why=why,
            further=further,
            alone=places.alone,
        )

    def _rules(self) -> Sequence[RuleSet]:
        """The operator's, as they are now, and the session's."""
        return self._env.defaults.policy, self._session_policy.rule_set

    @property
    def _owners(self) -> Mapping[str, str]:
        """Names of native tools, and whose skill each is."""
        return {} if self._natives is None else self._natives.owners

    def _policy(self, further: str | None, grants: Grants | None = None) -> Policy:
        """For calls in a place that were made with the skills that are active now."""
        limits, places = self._env.defaults, self._places
        place = (self._main_name if further is None else further) or ""
        return Policy(
            tools=frozenset(str(tool["name"]) for tool in self._tools),
            rules=self._rules(),
            active=self._skills.active_in(further),
            skill_roots=self._skills.names_in(further),
            restrict=limits.restrict_to_allowed_tools,
            place=place,
            backend=places.backends.get(place, places.shown),
            backends=places.backends,
            confined=places.is_confined(place),
            owner_uid=self._log.record.owner_uid,
            workspace=str(places.open.get(place, self._workspace).root),
            natives=self._owners,
            sources={} if self._further_tools is None else self._further_tools.owners,
            changed=frozenset() if self._further_tools is None else self._further_tools.changed,
            entry=None if self._entry is None else self._entry.skill.name,
            gets_secret=None if grants is None else grants.gets_secrets,
        )


def _made(folder: Path) -> Path:
    """The folder itself, without links. Blocks. Raises BackendUnavailable."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder.resolve(strict=True)
    except OSError as error:
        raise BackendUnavailable(f"the workspace {folder} cannot be used: {error.strerror}") from error
