"""One turn, performed: the engine decides, this asks the model, runs the tools and writes every step down.

Whatever stops a turn, it gets exactly one ending. The writes that end it are shielded from cancellation and wait for
the disk, however long that takes: who cannot wait has to kill the process, and the next start ends the turn.
"""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import trio

from skill_actors.backends.base import BackendUnavailable, ToolCall, Workspace, WorkspaceSpec
from skill_actors.backends.native import NativeRoom
from skill_actors.backends.routing import HOSTED_NAMES, Routing
from skill_actors.errors import Refused
from skill_actors.models.base import MessageDone, Model, ModelError, ModelRequest, Usage
from skill_actors.models.retry import CIRCUIT_OPEN
from skill_actors.runtime.exit import split_cancelled
from skill_actors.sessions.active_skills import ActiveSkills
from skill_actors.sessions.answer_schema import output_config, schema_fault
from skill_actors.sessions.bill import Bill
from skill_actors.sessions.commands import SlashCommand, parse_command
from skill_actors.sessions.engine import CallModel, Ending, RunTools, Step, TurnEngine, TurnLimits, text_of
from skill_actors.sessions.events import Event, utc_now
from skill_actors.sessions.grants import Grants
from skill_actors.sessions.hand_over import HandOverRoom, HandOvers
from skill_actors.sessions.history import History
from skill_actors.sessions.hosted import CODE_EXECUTION_TOOL, HostedTurn, code_executions
from skill_actors.sessions.hosted_files import name_hosted_files
from skill_actors.sessions.hosted_loss import hosted_loss
from skill_actors.sessions.hosted_start import NotHosted, prepare_hosted, send_message_files
from skill_actors.sessions.log import Draft, SessionLog
from skill_actors.sessions.natives import native_room
from skill_actors.sessions.offered import offered_skills
from skill_actors.sessions.places import HOSTED, Places
from skill_actors.sessions.policy import Policy
from skill_actors.sessions.prompt import HostFolder, command_of, hints_of, places_prompt, skills_of, system_prompt
from skill_actors.sessions.server_calls import server_results
from skill_actors.sessions.session_files import SessionFiles
from skill_actors.sessions.stream import ModelCall
from skill_actors.sessions.surroundings import PinnedSkill, Surroundings
from skill_actors.sessions.toolrun import Site, ToolRun, cost_of
from skill_actors.sessions.views import ending_view, sum_totals, tell_turn_stop
from skill_actors.skills.activation import LOAD_SKILL, load_skill_tool
from skill_actors.skills.base import Skill, SkillSnapshot
from skill_actors.store.base import TurnRecord, TurnStatus

__all__ = ["Turn"]

_FEW_SKILLS: Final = 200  # the catalogue of more is written in a thread: it takes 16 ms for a thousand

_STATUS: Final[Mapping[str, TurnStatus]] = {
    "turn.finished": "finished",
    "turn.failed": "failed",
    "turn.cancelled": "cancelled",
    "turn.interrupted": "interrupted",
}


class Turn:
    """A turn of one session, from turn.started to exactly one ending.

    Args:
        record: the queued turn.
        text: the user's message.
        places: where its tools run.
        files: of these places.
        ranks: how much each skill is used: of those used least the model is told less.
        schema: what the answer has to keep to; None for text.

    """

    def __init__(
        self,
        log: SessionLog,
        record: TurnRecord,
        text: str,
        *,
        env: Surroundings,
        places: Places,
        files: SessionFiles,
        ranks: Mapping[str, int],
        schema: Mapping[str, Any] | None = None,
    ) -> None:
        self._log = log
        self._record = record
        self._text = text
        self._env = env
        self._places = places
        self._files = files
        self._ranks = ranks
        self._schema = schema
        self._settings = log.record.settings
        limits = self._settings.get("limits", {})
        self._engine = TurnEngine(
            TurnLimits(iterations=int(limits.get("iterations", env.defaults.iterations)), pauses=env.defaults.pauses),
            fault_of=None if schema is None else partial(schema_fault, schema),
        )
        self._timeout_s = float(limits.get("turn_timeout_s", env.defaults.turn_timeout_s))
        self._tool_timeout_s = float(limits.get("tool_timeout_s", env.defaults.tool_timeout_s))
        self._model_call: ModelCall | None = None
        self._model_name = ""
        self._history = History()
        self._workspace: Workspace  # of the main place, or what stands for it
        self._routing = Routing((), {})
        self._hosted: HostedTurn | None = None
        self._pinned: Sequence[PinnedSkill] = ()
        self._skills: ActiveSkills
        self._natives: NativeRoom | None = None
        self._entry: PinnedSkill | None = None  # whose entry command this turn runs
        self._catalogue = ""  # the same for every model call of the turn
        self._tools: Sequence[Mapping[str, Any]] = ()
        self._began = time.monotonic()
        self._scope = trio.CancelScope()
        self._cancel_reason: str | None = None
        self.bill = Bill(env.price_usd)
        self.started = False

    @property
    def id(self) -> str:
        return self._record.id

    @property
    def cancelled(self) -> bool:
        """Whether somebody was told that it is: then it must not begin any more."""
        return self._cancel_reason is not None

    def cancel(self, reason: str) -> None:
        """End the turn as cancelled, as soon as its processes are gone."""
        self._cancel_reason = self._cancel_reason or reason
        self._scope.cancel()

    async def run(self) -> Event:
        """Perform the turn and return its ending event.

        If the surrounding task is cancelled the turn is written as interrupted and Cancelled goes on.

        Raises:
            StoreError: the log could not be written: the turn has no ending yet.

        """
        try:
            ending = await self._bounded()
        except BaseException as error:
            cancelled, _rest = split_cancelled(error)  # out of the tools' nursery it comes in a group
            if cancelled is None:
                raise
            with trio.CancelScope(shield=True):
                await self._end(await self._aborted("turn.interrupted", "shutdown", "the daemon is stopping"))
            raise
        with trio.CancelScope(shield=True):
            event = await self._end(ending)
        return event

    async def _bounded(self) -> Ending:
        """The turn within its time, and cancellable; what stopped it becomes an ending."""
        try:
            with self._scope:
                with trio.move_on_after(self._timeout_s):
                    return await self._perform()
                why = f"the turn took longer than {self._timeout_s:g} s; raise limits.turn_timeout_s or ask for less"
                return await self._aborted("turn.failed", "turn_timeout", why)
        except Refused as refused:
            return await self._aborted("turn.failed", refused.code, refused.message)
        except BackendUnavailable as error:
            return await self._aborted("turn.failed", "backend_unavailable", str(error))
        return await self._aborted("turn.cancelled", "cancelled", self._cancel_reason or "cancelled")

    async def _perform(self) -> Ending:
        step = await self._start()
        while not isinstance(step.do, Ending):
            step = await self._do(step.do)
        with trio.CancelScope(shield=True):  # the engine has ended: a cancel comes too late
            await self._write_last(step, step.do)
        return step.do

    async def _start(self) -> Step:
        self._began = time.monotonic()
        self._history = await self._log.load_history()
        snapshot = await offered_skills(self._env, self._log.record.owner_uid, self._settings)
        allowed = snapshot.skills
        await self._write_started(snapshot, len(allowed))
        command = parse_command(self._text, allowed)
        await self._places.open_all()
        self._workspace = self._main_workspace()
        self._routing = self._places.routing()
        skills = self._usable(list(allowed.values()))
        copies = await self._env.pin(skills)
        self._pinned = [PinnedSkill(skill, copy) for skill, copy in zip(skills, copies, strict=True)]
        if command is None:
            await self._prepare_hosted(allowed)
        await self._offer_skills()
        if command is not None:
            return await self._begin_command(command)
        return self._engine.begin()

    def _main_workspace(self) -> Workspace:
        main = self._places.main
        opened = None if main is None else self._places.open.get(main.name)
        return HostFolder(self._places.folder) if opened is None else opened

    def _usable(self, skills: Sequence[Skill]) -> Sequence[Skill]:
        """Without any place of ours, only those that bring tools of their own can be used; others are uploaded."""
        return skills if self._places.executors else [skill for skill in skills if skill.native is not None]

    async def _prepare_hosted(self, allowed: Mapping[str, Skill]) -> None:
        """Have ready what the hosted place needs. Where it is not the only place, the turn goes on without it."""
        places = self._places
        if places.hosted is None:
            return
        model, _ = self._env.resolve_model(self._settings.get("model"))
        try:
            self._hosted = await prepare_hosted(self._env, self._log.record, places, allowed, model)
            if not places.executors:
                await send_message_files(self._hand_overs(), self._history.message_files, places, self.id)
            await self._name_files(self._hosted)
        except NotHosted as error:
            self._hosted = None
            places.why[places.hosted.name] = str(error)
            if not places.executors:
                raise Refused("backend_unavailable", f"the place {places.hosted.name}: {error}") from error

    async def _name_files(self, hosted: HostedTurn) -> None:
        folder = self._places.folders[hosted.place]
        await name_hosted_files(self._log, hosted.services, hosted.place, folder, self.id)

    def _hand_overs(self) -> HandOvers:
        hosted = self._places.hosted
        return HandOvers(
            self._log,
            self._places.folders,
            hosted=None if hosted is None else hosted.name,
            services=None if self._hosted is None else self._hosted.services,
            max_bytes=self._env.defaults.hand_over_bytes,
            check_room=partial(self._files.check_upload, replaced=0),
        )

    async def _write_started(self, snapshot: SkillSnapshot, skills: int) -> None:
        data = {
            "model": self._settings.get("model"),
            "backend": self._places.shown,
            "skills": skills,
            "skills_generation": snapshot.generation,
            "skills_digest": snapshot.digest,
        }
        running = replace(self._record, status="running", updated=utc_now())
        await self._write([Draft("turn.started", self.id, data)], [running])
        self._record = running
        self.started = True
        self._env.bus.emit("turn.started", {"system_time": time.time()}, self._whose())

    async def _offer_skills(self) -> None:
        """What the model is told of the skills, and how it gets at them."""
        limits = self._env.defaults
        root = await trio.to_thread.run_sync(_made, self._places.folder)
        spec = WorkspaceSpec(session=self._log.record.id, root=root)
        own_tools = self._routing.tools
        taken = {LOAD_SKILL, *HOSTED_NAMES, *(str(tool["name"]) for tool in own_tools)}
        self._natives = native_room(self._env, self._pinned, spec, taken)
        self._skills = ActiveSkills(
            self._pinned,
            self._workspace,
            self._history,
            self._env.skill_uses,
            max_chars=limits.tool_output_chars,
            owners={} if self._natives is None else self._natives.owners,
            further=self._further(),
        )
        changes = [Draft("skill.changed", self.id, change) for change in self._skills.changes()]
        if changes:
            await self._write(changes)
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
        hosted = () if self._hosted is None else (self._hosted.tool,)
        self._tools = [*own_tools, *([load] if load is not None else []), *native, *hosted]

    def _further(self) -> Mapping[str, Workspace]:
        main = self._places.main
        return {name: there for name, there in self._places.open.items() if main is None or name != main.name}

    async def _begin_command(self, command: SlashCommand) -> Step:
        if self._places.main is None:
            raise Refused("no_entry_command", "this conversation has no place where an entry command can run")
        pin = next(pin for pin in self._pinned if pin.skill.name == command.skill)
        argv = command_of(pin, self._workspace, command.arguments)
        self._skills.activate(command.skill)
        self._entry = pin
        call = ToolCall(
            id=f"toolu_{secrets.token_hex(12)}",
            name="bash_tool",
            input={"command": shlex.join(argv), "description": f"Run the {command.skill} skill"},
            argv=argv,
        )
        self._model_name = "skill"
        block = {"type": "tool_use", "id": call.id, "name": call.name, "input": dict(call.input)}
        await self._write([Draft("model.message", self.id, self._message_data([block], "tool_use", "skill"))])
        return self._engine.begin_command(call)

    async def _do(self, what: CallModel | RunTools) -> Step:
        match what:
            case CallModel(iteration):
                self._env.bus.emit("conversation.iteration", {"iteration": iteration}, self._whose())
                return await self._ask_model()
            case RunTools(calls):
                return await self._run_tools(calls)

    async def _ask_model(self) -> Step:
        model, name = self._env.resolve_model(self._settings.get("model"))
        self._model_name = name
        call = self._model_call = ModelCall(self._log, self.id, self._env)
        began = time.monotonic()
        try:
            answer = await self._answer(call, model, name)
        except ModelError as error:
            said = await self._rescue("failed", cut=False)
            code = "backend_unavailable" if error.code == CIRCUIT_OPEN else f"model_{error.code}"
            return self._engine.model_failed(code, str(error), said)
        self._model_call = None
        if self._hosted is not None:
            answer = replace(answer, usage=_with_executions(answer))
        self._model_name = answer.model
        self.bill.lose(name, call.lost_usage, cut=False)
        self.bill.charge(answer.model, answer.usage)
        self._emit_call(answer, time.monotonic() - began)
        content = [block for block in answer.content if block.get("type") != "text" or str(block.get("text")).strip()]
        data = self._message_data(content, answer.stop_reason, answer.model, answer.usage)
        if answer.container is not None:
            data["container"] = answer.container
        await self._write([Draft("model.message", self.id, data)])
        step = self._engine.model_answered(answer)
        if self._hosted is not None:
            await self._name_files(self._hosted)
        return step

    async def _answer(self, call: ModelCall, model: Model, name: str) -> MessageDone:
        """The model's answer; asked anew without the container, or without files, that the API has lost.

        Each can be lost once, so that this ends. Raises ModelError.
        """
        while True:
            try:
                return await call.run(model, self._request(model, name))
            except ModelError as error:
                loss = None if self._hosted is None else hosted_loss(error, self._history, self.id)
                if loss is None:
                    raise
            await self._write([loss])

    def _request(self, model: Model, name: str) -> ModelRequest:
        hosted = self._hosted_now()
        return ModelRequest(
            model=name,
            messages=self._history.messages(hosted=hosted is not None),
            system=system_prompt(
                self._settings.get("system"),
                places_prompt(self._places, self._workspace),
                self._catalogue,
                self._settings.get("cwd"),
            ),
            tools=[tool for tool in self._tools if not self._is_denied(str(tool["name"]), hosted)],
            max_tokens=self._env.defaults.max_tokens,
            skills=hints_of(self._pinned, self._workspace) if model.provider == "offline" else (),
            extra={
                **output_config(self._schema),
                **({} if hosted is None else hosted.extra(self._history.container)),
            },
        )

    def _hosted_now(self) -> HostedTurn | None:
        """The hosted place, unless the limits of an active skill keep it away: no call of it could be judged later.

        While an answer pauses, its request stays as it is.
        """
        if self._hosted is None or self._history.paused:
            return self._hosted
        asked = ToolCall(id="", name=CODE_EXECUTION_TOOL, input={})
        return self._hosted if self._policy(None).decide(asked).verdict == "allow" else None

    def _is_denied(self, name: str, hosted: HostedTurn | None) -> bool:
        """Whether a rule keeps the tool from running at all, by the name it is offered under or that of its place."""
        if name == CODE_EXECUTION_TOOL and self._hosted is not None:
            return hosted is None
        route = self._routing.by_name.get(name)
        return not self._env.defaults.denied_tools.isdisjoint({name, name if route is None else route.tool})

    async def _run_tools(self, calls: Sequence[ToolCall]) -> Step:
        """All at once, as the model asked for them together."""
        await self._open_for(calls)
        await self._files.settle(self.id)  # what came otherwise than by a call is not told as the call's
        tools = ToolRun(
            self._log,
            self.id,
            main=self._site(None),
            sites={name: self._site(name) for name in self._places.executors},
            by_name=self._routing.by_name,
            hand_over=HandOverRoom(self._hand_overs(), self._places.folders, self.id),
            pinned=self._pinned,
            skills=self._skills,
            natives=self._natives,
            timeout_s=self._tool_timeout_s,
            output_chars=self._env.defaults.tool_output_chars,
            bus=self._env.bus,
            files=self._files,
        )
        outputs: dict[str, str] = {}
        limiter = trio.CapacityLimiter(self._env.defaults.parallel_tools)

        async def one(call: ToolCall) -> None:
            async with limiter:
                result = await tools.run(call)
                self.bill.spend(cost_of(result))
                outputs[call.id] = result.content

        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            for call in calls:
                nursery.start_soon(one, call)
        return self._engine.tools_finished(outputs)

    async def _open_for(self, calls: Sequence[ToolCall]) -> None:
        """Open the places of these calls that could not be opened before; what cannot be now has its reason."""
        routes = [self._routing.by_name.get(call.name) for call in calls]
        wanted = {route.place for route in routes if route is not None} - self._places.open.keys()
        for name in sorted(wanted & self._places.executors.keys()):
            opened = await self._places.open_one(name, self._tool_timeout_s)
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
        return Site(
            place=name or "",
            backend=places.backends.get(name or "", places.shown),
            workspace=opened,
            policy=self._policy(further),
            grants=Grants(
                self._env.secrets,
                self._pinned,
                self._workspace if opened is None else opened,
                entry=self._entry,
                tools={} if self._natives is None else self._natives.owners,
            ),
            why=why,
            further=further,
            alone=places.alone,
        )

    def _policy(self, further: str | None) -> Policy:
        """For calls in a place that were made with the skills that are active now."""
        limits = self._env.defaults
        return Policy(
            tools=frozenset(str(tool["name"]) for tool in self._tools),
            deny=limits.denied_tools,
            ask=limits.asked_tools,
            active=self._skills.active_in(further),
            skill_roots=self._skills.roots_in(further),
            restrict=limits.restrict_to_allowed_tools,
        )

    async def _write_last(self, step: Step, ending: Ending) -> None:
        """Results for calls that will never run, and what an entry command printed as the answer."""
        drafts = [
            Draft(
                "tool.finished",
                self.id,
                {"id": call.call_id, "outcome": "not_run", "is_error": True, "content": call.reason},
            )
            for call in step.unrun
        ]
        if self._engine.iterations == 0 and ending.text:
            data = self._message_data([{"type": "text", "text": ending.text}], "end_turn", "skill")
            drafts.append(Draft("model.message", self.id, data))
        if drafts:
            await self._write(drafts)

    async def _aborted(
        self, type: Literal["turn.failed", "turn.cancelled", "turn.interrupted"], code: str, why: str
    ) -> Ending:
        """The ending of a turn that was stopped; what the model had said stays in the history."""
        if self._engine.ending is not None:
            return self._engine.ending
        said = await self._rescue(code, cut=True)
        ending = self._engine.abort(type, code, why)
        return replace(ending, text=ending.text + said)

    async def _rescue(self, stop_reason: str, *, cut: bool) -> str:
        """Keep what a model call had said and cost when it gave no message; the text."""
        if self._model_call is None:
            return ""
        call, self._model_call = self._model_call, None
        self.bill.lose(self._model_name, call.lost_usage, cut=cut)
        with trio.CancelScope(shield=True):
            content = await call.rescue()
            if content:
                data = {**self._message_data(content, stop_reason, self._model_name), "partial": True}
                await self._write([Draft("model.message", self.id, data)])
        return text_of(content)

    def _message_data(
        self, content: Sequence[Mapping[str, Any]], stop_reason: str, model: str, usage: Usage | None = None
    ) -> dict[str, Any]:
        return {
            "model": model,
            "content": list(content),
            "stop_reason": stop_reason,
            "usage": None if usage is None else usage.to_dict(),
        }

    async def _write(self, drafts: Sequence[Draft], turns: Sequence[TurnRecord] = ()) -> None:
        await self._log.append(drafts, turns=turns)

    async def _end(self, ending: Ending) -> Event:
        data = ending_view(
            text=ending.text,
            stop_reason=ending.stop_reason,
            usage=self.bill.usage,
            cost_usd=self.bill.cost_usd,
            duration_ms=int((time.monotonic() - self._began) * 1000),
            model=self._model_name or None,
            iterations=self._engine.iterations,
            error=ending.error,
        )
        ended = replace(self._record, status=_STATUS[ending.type], updated=utc_now(), result=data)
        totals = sum_totals(self._log.record.totals, self.bill.usage, self.bill.known_usd)
        (event,) = await self._log.append([Draft(ending.type, self.id, data)], turns=[ended], totals=totals)
        tell_turn_stop(self._env.bus, ended, data)
        return event

    def _emit_call(self, answer: MessageDone, seconds: float) -> None:
        tokens = answer.usage.to_dict()
        self._env.bus.emit("model.stop", {"duration": seconds, **tokens}, {**self._whose(), "model": answer.model})
        for call, tool, success in server_results(answer.content):  # how long each took, the API does not say
            told = {**self._whose(), "call": call, "tool": tool, "success": success}
            self._env.bus.emit(f"backend.{HOSTED}.tool_call", {"count": 1}, told)

    def _whose(self) -> dict[str, str]:
        return {"session": self._log.record.id, "turn": self.id}


def _with_executions(answer: MessageDone) -> Usage:
    """The usage, with the runs of code that the answer shows where the API did not count them."""
    shown = code_executions(answer.content)
    return replace(answer.usage, code_execution_requests=max(shown, answer.usage.code_execution_requests))


def _made(folder: Path) -> Path:
    """The folder itself, without links. Blocks. Raises BackendUnavailable."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder.resolve(strict=True)
    except OSError as error:
        raise BackendUnavailable(f"the workspace {folder} cannot be used: {error.strerror}") from error
