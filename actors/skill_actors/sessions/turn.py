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
from typing import Any, Final, Literal

import trio

from skill_actors.backends.base import BackendUnavailable, Executor, ToolCall, Workspace, WorkspaceSpec
from skill_actors.backends.native import NativeRoom
from skill_actors.errors import Refused
from skill_actors.models.base import MessageDone, Model, ModelError, ModelRequest, Usage
from skill_actors.models.retry import CIRCUIT_OPEN
from skill_actors.runtime.exit import split_cancelled
from skill_actors.sessions.active_skills import ActiveSkills
from skill_actors.sessions.bill import Bill
from skill_actors.sessions.commands import SlashCommand, parse_command
from skill_actors.sessions.engine import CallModel, Ending, RunTools, Step, TurnEngine, TurnLimits
from skill_actors.sessions.events import Event, utc_now
from skill_actors.sessions.grants import Grants
from skill_actors.sessions.history import History
from skill_actors.sessions.log import Draft, SessionLog
from skill_actors.sessions.natives import native_room
from skill_actors.sessions.offered import offered_skills
from skill_actors.sessions.place import Place
from skill_actors.sessions.policy import Policy
from skill_actors.sessions.prompt import command_of, hints_of, skills_of, system_prompt
from skill_actors.sessions.stream import ModelCall
from skill_actors.sessions.surroundings import PinnedSkill, Surroundings
from skill_actors.sessions.toolrun import ToolRun
from skill_actors.sessions.views import ending_view, sum_totals, tell_turn_stop
from skill_actors.skills.activation import LOAD_SKILL, load_skill_tool
from skill_actors.skills.base import SkillSnapshot
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
        place: where its tools run.
        ranks: how much each skill is used: of those used least the model is told less.

    """

    def __init__(
        self,
        log: SessionLog,
        record: TurnRecord,
        text: str,
        *,
        env: Surroundings,
        place: Place,
        ranks: Mapping[str, int],
    ) -> None:
        self._log = log
        self._record = record
        self._text = text
        self._env = env
        self._place = place
        self._ranks = ranks
        self._settings = log.record.settings
        limits = self._settings.get("limits", {})
        self._engine = TurnEngine(
            TurnLimits(iterations=int(limits.get("iterations", env.defaults.iterations)), pauses=env.defaults.pauses)
        )
        self._timeout_s = float(limits.get("turn_timeout_s", env.defaults.turn_timeout_s))
        self._tool_timeout_s = float(limits.get("tool_timeout_s", env.defaults.tool_timeout_s))
        self._model_call: ModelCall | None = None
        self._model_name = ""
        self._history = History()
        self._executor: Executor
        self._workspace: Workspace
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
        self._executor = self._place.executor()
        self._workspace = await self._place.open()
        skills = list(allowed.values())
        copies = await self._env.pin(skills)
        self._pinned = [PinnedSkill(skill, copy) for skill, copy in zip(skills, copies, strict=True)]
        await self._offer_skills()
        if command is not None:
            return await self._begin_command(command)
        return self._engine.begin()

    async def _write_started(self, snapshot: SkillSnapshot, skills: int) -> None:
        data = {
            "model": self._settings.get("model"),
            "backend": self._place.backend,
            "skills": skills,
            "skills_generation": snapshot.generation,
            "skills_digest": snapshot.digest,
        }
        running = replace(self._record, status="running", updated=utc_now())
        await self._write([Draft("turn.started", self.id, data)], [running])
        self._record = running
        self.started = True
        self._env.bus.emit("turn.started", {"system_time": time.time()}, {"session": self._log.record.id})

    async def _offer_skills(self) -> None:
        """What the model is told of the skills, and how it gets at them."""
        limits = self._env.defaults
        spec = WorkspaceSpec(session=self._log.record.id, root=self._workspace.root)
        own_tools = self._executor.tools()
        taken = {LOAD_SKILL, *(str(tool["name"]) for tool in own_tools)}
        self._natives = native_room(self._env, self._pinned, spec, taken)
        self._skills = ActiveSkills(
            self._pinned,
            self._workspace,
            self._history,
            self._env.skill_uses,
            max_chars=limits.tool_output_chars,
            owners={} if self._natives is None else self._natives.owners,
        )
        changes = [Draft("skill.changed", self.id, change) for change in self._skills.changes()]
        if changes:
            await self._write(changes)
        write = partial(
            skills_of, self._pinned, self._workspace, budget_tokens=limits.catalogue_tokens, uses=self._ranks
        )
        told = write() if len(self._pinned) <= _FEW_SKILLS else await trio.to_thread.run_sync(write)
        self._catalogue = told.text
        if told.shortened or told.left_out:
            cut = {"shortened": len(told.shortened), "left_out": len(told.left_out)}
            self._env.bus.emit("skill.catalogue_cut", cut, {"session": self._log.record.id})
        load = load_skill_tool(pin.skill for pin in self._pinned)
        native = () if self._natives is None else self._natives.tools
        self._tools = [*own_tools, *([load] if load is not None else []), *native]

    async def _begin_command(self, command: SlashCommand) -> Step:
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
                self._env.bus.emit("conversation.iteration", {"iteration": iteration}, {})
                return await self._ask_model()
            case RunTools(calls):
                return await self._run_tools(calls)

    async def _ask_model(self) -> Step:
        model, name = self._env.resolve_model(self._settings.get("model"))
        self._model_name = name
        call = self._model_call = ModelCall(self._log, self.id, self._env)
        began = time.monotonic()
        try:
            answer = await call.run(model, self._request(model, name))
        except ModelError as error:
            said = await self._rescue("failed", cut=False)
            code = "backend_unavailable" if error.code == CIRCUIT_OPEN else f"model_{error.code}"
            return self._engine.model_failed(code, str(error), said)
        self._model_call = None
        self._model_name = answer.model
        self.bill.lose(name, call.lost_usage, cut=False)
        self.bill.charge(answer.model, answer.usage)
        self._emit_call(answer, time.monotonic() - began)
        content = [block for block in answer.content if block.get("type") != "text" or str(block.get("text")).strip()]
        data = self._message_data(content, answer.stop_reason, answer.model, answer.usage)
        await self._write([Draft("model.message", self.id, data)])
        return self._engine.model_answered(answer)

    def _request(self, model: Model, name: str) -> ModelRequest:
        return ModelRequest(
            model=name,
            messages=self._history.messages(),
            system=system_prompt(
                self._settings.get("system"), self._workspace, self._catalogue, self._settings.get("cwd")
            ),
            tools=[tool for tool in self._tools if tool["name"] not in self._env.defaults.denied_tools],
            max_tokens=self._env.defaults.max_tokens,
            skills=hints_of(self._pinned, self._workspace) if model.provider == "offline" else (),
        )

    async def _run_tools(self, calls: Sequence[ToolCall]) -> Step:
        """All at once, as the model asked for them together."""
        tools = ToolRun(
            self._log,
            self.id,
            workspace=self._workspace,
            backend=self._executor.name,
            policy=self._policy(),
            pinned=self._pinned,
            skills=self._skills,
            grants=Grants(
                self._env.secrets,
                self._pinned,
                self._workspace,
                entry=self._entry,
                tools={} if self._natives is None else self._natives.owners,
            ),
            natives=self._natives,
            timeout_s=self._tool_timeout_s,
            output_chars=self._env.defaults.tool_output_chars,
            bus=self._env.bus,
        )
        outputs: dict[str, str] = {}
        limiter = trio.CapacityLimiter(self._env.defaults.parallel_tools)

        async def one(call: ToolCall) -> None:
            async with limiter:
                outputs[call.id] = (await tools.run(call)).content

        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            for call in calls:
                nursery.start_soon(one, call)
        return self._engine.tools_finished(outputs)

    def _policy(self) -> Policy:
        """For calls that were made with the skills that are active now."""
        limits = self._env.defaults
        return Policy(
            tools=frozenset(str(tool["name"]) for tool in self._tools),
            deny=limits.denied_tools,
            ask=limits.asked_tools,
            active=self._skills.active,
            skill_roots=self._skills.roots,
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
        return "".join(str(block["text"]) for block in content)

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
        tell_turn_stop(self._env.bus, self._log.record.id, ended.status, data)
        return event

    def _emit_call(self, answer: MessageDone, seconds: float) -> None:
        tokens = answer.usage.to_dict()
        self._env.bus.emit("model.stop", {"duration": seconds, **tokens}, {"model": answer.model})
