"""One turn, performed: the engine decides, this asks the model, runs the tools and writes every step down.

Whatever stops a turn, it gets exactly one ending, but for one that waits for nothing but approvals when the daemon
stops: the next start goes on with it. The writes that end a turn are shielded from cancellation and wait for the disk,
however long that takes: who cannot wait has to kill the process, and the next start ends the turn.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final, Literal

import trio

from skill_actors.backends.base import BackendUnavailable, ToolCall
from skill_actors.errors import Refused
from skill_actors.models.base import ModelError
from skill_actors.models.retry import CIRCUIT_OPEN
from skill_actors.runtime.exit import split_cancelled
from skill_actors.sessions.account import account_of
from skill_actors.sessions.agents.chain import AgentChain
from skill_actors.sessions.agents.place import AgentPlace
from skill_actors.sessions.agents.turn import AgentTurn
from skill_actors.sessions.answer_schema import schema_fault
from skill_actors.sessions.asking import Asking, message_data
from skill_actors.sessions.bill import Bill
from skill_actors.sessions.budget_warnings import tell_warnings
from skill_actors.sessions.commands import SlashCommand
from skill_actors.sessions.engine import CallModel, Ending, RunTools, Step, TurnEngine, TurnLimits
from skill_actors.sessions.events import Event, utc_now
from skill_actors.sessions.history import History
from skill_actors.sessions.ledger import Account, BudgetExceeded
from skill_actors.sessions.log import Draft, SessionLog
from skill_actors.sessions.places import Places
from skill_actors.sessions.poison import forget_attempts
from skill_actors.sessions.recovery import asked_calls, events_of
from skill_actors.sessions.rest import Rest
from skill_actors.sessions.session_files import SessionFiles
from skill_actors.sessions.sources import SessionSources
from skill_actors.sessions.surroundings import Surroundings
from skill_actors.sessions.toolbox import Toolbox
from skill_actors.sessions.toolrun import cost_of
from skill_actors.sessions.turn_options import NO_OPTIONS, TurnOptions
from skill_actors.sessions.turn_time import counted_time
from skill_actors.sessions.views import ending_view, sum_totals, tell_turn_stop
from skill_actors.skills.base import SkillSnapshot
from skill_actors.store.base import TurnRecord, TurnStatus

__all__ = ["Turn"]

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
        sources: of the session's further tools.
        schema: what the answer has to keep to; None for text.
        options: what differs from the rest of the session.
        compact: make the conversation shorter, and nothing else.
        resumed: it was started before the daemon was, and waits for nothing but approvals.

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
        sources: SessionSources | None = None,
        schema: Mapping[str, Any] | None = None,
        options: TurnOptions = NO_OPTIONS,
        compact: bool = False,
        resumed: bool = False,
    ) -> None:
        self._log = log
        self._record = record
        self._text = text
        self._env = env
        self._places = places
        self._options = options
        self._compact = compact
        self._resumed = resumed
        self._asked: frozenset[str] = frozenset()  # calls that waited, and are paid, when the daemon was stopped
        settings = self._settings = log.record.settings
        limits = settings.get("limits", {})
        self._engine = TurnEngine(
            TurnLimits(iterations=int(limits.get("iterations", env.defaults.iterations)), pauses=env.defaults.pauses),
            fault_of=None if schema is None else partial(schema_fault, schema),
        )
        self._timeout_s = float(limits.get("turn_timeout_s", env.defaults.turn_timeout_s))
        if options.timeout_s is not None:
            self._timeout_s = min(self._timeout_s, float(options.timeout_s))
        self._tool_timeout_s = float(limits.get("tool_timeout_s", env.defaults.tool_timeout_s))
        self._toolbox = Toolbox(
            log,
            record.id,
            env=env,
            places=places,
            files=files,
            ranks=ranks,
            sources=sources,
            model=options.model or settings.get("model"),
            only=options.tools,
        )
        self._command: SlashCommand | None = None
        self._agent: AgentChain | None = None  # performs it, where the session's place is a whole agent
        self._began = time.monotonic()
        self._scope = trio.CancelScope()
        self._clock = trio.CancelScope()
        self._rest = Rest(self._clock, env.slots, log.record.owner_uid)
        self._gate: trio.Event | None = None  # there while the session is paused
        self._suspended = resumed  # it waits for nothing but approvals, or did as it was cancelled
        self._cancel_reason: str | None = None
        self._over: BudgetExceeded | None = None  # its time is, by a cap
        self._room = trio.Semaphore(env.defaults.parallel_tools)
        self.bill = Bill(env.price_usd)
        self._files, self._schema = files, schema
        self._began_seq = 0  # the number of its first event
        # Knows the log and not the turn: parts that held their turn would leave it to the garbage collector, and what
        # is let go of late leaves holes in the memory of the conversations that stay.
        self._account = partial(_account_now, log, record.id, options)
        self.started = resumed
        self._asking = Asking(
            log,
            record.id,
            env=env,
            toolbox=self._toolbox,
            bill=self.bill,
            account=self._account,
            options=options,
            schema=schema,
        )

    @property
    def id(self) -> str:
        return self._record.id

    @property
    def cancelled(self) -> bool:
        """Whether somebody was told that it is: then it must not begin any more."""
        return self._cancel_reason is not None

    @property
    def open(self) -> bool:
        """Whether what the user says now can still reach the model in this turn."""
        asks = self._command is None and not self._compact and self._places.agent is None
        goes_on = self._engine.ending is None and self._engine.may_call
        return self.started and asks and not self.cancelled and goes_on

    @property
    def takes_files(self) -> bool:
        """Whether files that come now are where its tools run; containers at the API are given theirs at the start."""
        return bool(self._places.executors)

    @property
    def waits(self) -> bool:
        """Whether it does nothing but wait for somebody."""
        return self._rest.resting

    def cancel(self, reason: str) -> None:
        """End the turn as cancelled, as soon as its processes are gone."""
        self._cancel_reason = self._cancel_reason or reason
        self._scope.cancel()

    def pause(self) -> None:
        """Hold before the next step, until `unpause`."""
        self._gate = trio.Event() if self._gate is None else self._gate

    def unpause(self) -> None:
        """Go on."""
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.set()

    async def run(self) -> Event:
        """Perform the turn and return its ending event.

        If the surrounding task is cancelled the turn is written as interrupted and Cancelled goes on; one that waits
        for nothing but approvals gets no ending then.

        Raises:
            StoreError: the log could not be written: the turn has no ending yet.

        """
        try:
            ending = await self._bounded()
        except BaseException as error:
            cancelled, _rest = split_cancelled(error)  # out of the tools' nursery it comes in a group
            if cancelled is None:
                raise
            if not self._suspended or self.cancelled:  # a cancel that somebody was told of is no wait any more
                with trio.CancelScope(shield=True):
                    await self._end(await self._stopped())
            raise
        with trio.CancelScope(shield=True):
            event = await self._end(ending)
        return event

    async def _bounded(self) -> Ending:
        """The turn within its time, and cancellable; what stopped it becomes an ending."""
        try:
            with self._scope:
                self._clock.deadline = trio.current_time() + self._timeout_s
                with self._clock:
                    async with self._counted():
                        return await self._perform()
                why = f"the turn took longer than {self._timeout_s:g} s; raise limits.turn_timeout_s or ask for less"
                return await self._aborted("turn.failed", "turn_timeout", why)
        except Refused as refused:
            return await self._aborted("turn.failed", refused.code, refused.message)
        except BudgetExceeded as error:
            return await self._aborted("turn.failed", "budget_exceeded", str(error))
        except BackendUnavailable as error:
            return await self._aborted("turn.failed", "backend_unavailable", str(error))
        if self._over is not None and self._cancel_reason is None:
            return await self._aborted("turn.failed", "budget_exceeded", str(self._over))
        return await self._aborted("turn.cancelled", "cancelled", self._cancel_reason or "cancelled")

    async def _stopped(self) -> Ending:
        """The ending of a turn that the daemon's stop ends, unless somebody was told before that it is cancelled."""
        if self._cancel_reason is not None:
            return await self._aborted("turn.cancelled", "cancelled", self._cancel_reason)
        return await self._aborted("turn.interrupted", "shutdown", "the daemon is stopping")

    @asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        """The turn's time is on its account."""

        def over(error: BudgetExceeded) -> None:
            self._over = error
            self._scope.cancel()

        if self._env.ledger is None:
            yield
            return
        async with counted_time(self._env.ledger, self._account, self._rest, over):
            yield

    async def _perform(self) -> Ending:
        step = await self._start()
        while not isinstance(step.do, Ending):
            await self._hold()
            step = await self._do(step.do)
        with trio.CancelScope(shield=True):  # the engine has ended: a cancel comes too late
            await self._write_last(step, step.do)
        return step.do

    async def _hold(self) -> None:
        """Wait while the session is paused."""
        while self._gate is not None:
            with self._rest.working():
                async with self._rest.waiting():
                    await self._unpaused()

    async def _unpaused(self) -> None:
        while self._gate is not None:
            await self._gate.wait()

    async def _start(self) -> Step:
        self._began = time.monotonic()
        history = self._asking.history = await self._log.load_history()
        snapshot, self._command = await self._toolbox.choose(self._text)
        if not self._resumed:
            await self._write_started(snapshot)
        if self._places.agent is not None:
            return await self._have_performed(self._places.agent, history)
        if self._compact:
            return self._engine.conclude(await self._asking.compact("request"))
        await self._toolbox.open(history, hosted=self._command is None)
        if self._resumed:
            return await self._resume(history)
        if self._command is None:
            return self._engine.begin()
        return await self._begin_command(self._command)

    async def _resume(self, history: History) -> Step:
        """Go on with the calls that waited when the daemon was stopped."""
        events = await events_of(self._env.journal, self._record)
        self.bill.recount(events, self.id)
        asked = sum(event.type == "model.message" and event.turn == self.id for event in events)
        calls = history.open_calls()
        self._asked = await asked_calls(self._log, self._record, self._env)
        if self._command is not None:
            calls = [replace(self._toolbox.entry_call(self._command), id=call.id) for call in calls]
        await forget_attempts(self._log, self.id)  # so far it came: waiting is nothing that ends a daemon
        return self._engine.resume(calls, iterations=0 if self._command else asked, command=self._command is not None)

    async def _write_started(self, snapshot: SkillSnapshot) -> None:
        data = {
            "model": self._options.model or self._settings.get("model"),
            "backend": self._places.shown,
            "skills": len(snapshot.skills),
            "skills_generation": snapshot.generation,
            "skills_digest": snapshot.digest,
        }
        running = replace(self._record, status="running", updated=utc_now())
        (event,) = await self._log.append([Draft("turn.started", self.id, data)], turns=[running])
        self._began_seq = event.seq
        self._record = running
        self.started = True
        self._env.bus.emit("turn.started", {"system_time": time.time()}, self._whose())

    async def _have_performed(self, place: AgentPlace, history: History) -> Step:
        """The whole turn, by the agent of the session's place."""
        if self._compact:
            return self._engine.conclude("Nothing was changed: an agent keeps its own conversation, and shortens it.")
        if self._command is not None:
            self._toolbox.entry_call(self._command)  # refuses: there is no place where it could run
        catalogue = await self._toolbox.catalogue_on_host()
        self._engine.begin()
        self._engine.iterations = 0  # no model has answered yet

        def begin(place: AgentPlace) -> AgentTurn:
            return AgentTurn(
                self._log,
                self.id,
                env=self._env,
                place=place,
                files=self._files,
                history=history,
                began_seq=self._began_seq,
                catalogue=catalogue,
                bill=self.bill,
                account=self._account,
                options=self._options,
                schema=self._schema,
                resting=self._people_asked,
            )

        env = self._env
        agent = self._agent = AgentChain(self._log, self.id, place, begin, bus=env.bus, rng=env.random)
        await self._hold()
        with self._rest.working():
            done = await agent.run()
        self._engine.iterations = done.answers
        self._asking.model_name = done.model
        if done.message is None:
            return self._engine.model_failed(done.code, done.why, done.said)
        return self._engine.model_answered(done.message)

    @asynccontextmanager
    async def _people_asked(self) -> AsyncIterator[None]:
        """For an agent that waits for an approval: the turn's clock may stand still, and others may have its slot."""
        async with self._rest.waiting():
            yield
            await self._unpaused()  # what was allowed does not begin in a paused session

    async def _begin_command(self, command: SlashCommand) -> Step:
        call = self._toolbox.entry_call(command)
        block = {"type": "tool_use", "id": call.id, "name": call.name, "input": dict(call.input)}
        self._asking.model_name = "skill"
        await self._log.append([Draft("model.message", self.id, message_data([block], "tool_use", "skill"))])
        return self._engine.begin_command(call)

    async def _do(self, what: CallModel | RunTools) -> Step:
        match what:
            case CallModel(iteration):
                self._env.bus.emit("conversation.iteration", {"iteration": iteration}, self._whose())
                return await self._ask_model()
            case RunTools(calls):
                return await self._run_tools(calls)

    async def _ask_model(self) -> Step:
        try:
            answer = await self._asking.ask()
        except ModelError as error:
            said = await self._asking.rescue("failed", cut=False)
            code = "backend_unavailable" if error.code == CIRCUIT_OPEN else f"model_{error.code}"
            return self._engine.model_failed(code, str(error), said)
        await self._log.settle()  # what the user says just now is in the history, or is told that it comes too late
        step = self._engine.model_answered(answer, more=self._asking.more, before=self._asking.said_before)
        await self._toolbox.name_hosted_files()
        return step

    async def _run_tools(self, calls: Sequence[ToolCall]) -> Step:
        """All at once, as the model asked for them together; those that the budget has no room for never run."""
        self._suspended = False
        # Of one id the first: it has one result.
        calls = list({call.id: call for call in reversed(calls)}.values())[::-1]
        asked, self._asked = self._asked, frozenset()
        paid, spent = await self._charge(calls, asked)
        tools = await self._toolbox.runner(paid, self._tool_timeout_s, self._waiting, asked)
        outputs: dict[str, str] = {}

        async def one(call: ToolCall) -> None:
            with self._rest.working():  # also before there is room: while a call has still to run, nothing rests
                async with self._room:
                    result = await tools.run(call)
                    cost_usd = cost_of(result)
                    self.bill.spend(cost_usd)
                    await self._record_cost(cost_usd)
                    outputs[call.id] = result.content

        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            for call in paid:
                nursery.start_soon(one, call)
        if spent is not None:
            raise spent
        return self._engine.tools_finished(outputs, denied=tools.denied)

    async def _charge(
        self, calls: Sequence[ToolCall], paid_before: Collection[str]
    ) -> tuple[Sequence[ToolCall], BudgetExceeded | None]:
        """Those of the calls that may be made, and what keeps the others from it."""
        ledger = self._env.ledger
        if ledger is None:
            return calls, None
        paid: list[ToolCall] = []
        spent: BudgetExceeded | None = None
        for call in calls:
            if call.id not in paid_before:
                if spent is not None:
                    continue
                try:
                    warnings = await ledger.charge_tool(self._account())
                except BudgetExceeded as error:
                    spent = error
                    continue
                await tell_warnings(self._log, self.id, warnings)
            paid.append(call)
        return paid, spent

    async def _record_cost(self, cost_usd: float | None) -> None:
        if cost_usd and self._env.ledger is not None:
            with trio.CancelScope(shield=True):  # it is spent
                warnings = await self._env.ledger.add_cost(self._account(), cost_usd)
                await tell_warnings(self._log, self.id, warnings)

    @asynccontextmanager
    async def _waiting(self) -> AsyncIterator[None]:
        """For a call that waits for an approval: another may run in its place, and the turn's clock may stand still."""
        try:
            async with self._rest.waiting():
                self._room.release()
                try:
                    yield
                    await self._unpaused()  # what was allowed does not begin in a paused session
                finally:
                    with trio.CancelScope(shield=True):  # a call that runs ends within its time
                        await self._room.acquire()
        except trio.Cancelled:  # also of one that has its answer and waits for a slot
            self._suspended = self._suspended or self._rest.broken_off
            raise

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
        if self._command is not None and ending.text:
            data = message_data([{"type": "text", "text": ending.text}], "end_turn", "skill")
            drafts.append(Draft("model.message", self.id, data))
        if drafts:
            await self._log.append(drafts)

    async def _aborted(
        self, type: Literal["turn.failed", "turn.cancelled", "turn.interrupted"], code: str, why: str
    ) -> Ending:
        """The ending of a turn that was stopped; what the model had said stays in the history."""
        if self._engine.ending is not None:
            return self._engine.ending
        said = await (self._asking if self._agent is None else self._agent).rescue(code, cut=True)
        ending = self._engine.abort(type, code, why)
        return replace(ending, text=ending.text + said)

    async def _end(self, ending: Ending) -> Event:
        data = ending_view(
            text=ending.text,
            stop_reason=ending.stop_reason,
            usage=self.bill.usage,
            cost_usd=self.bill.cost_usd,
            duration_ms=int((time.monotonic() - self._began) * 1000),
            model=self._asking.model_name or None,
            iterations=self._engine.iterations,
            error=ending.error,
        )
        ended = replace(self._record, status=_STATUS[ending.type], updated=utc_now(), result=data)
        totals = sum_totals(self._log.record.totals, self.bill.usage, self.bill.known_usd, context=self._asking.context)
        (event,) = await self._log.append([Draft(ending.type, self.id, data)], turns=[ended], totals=totals)
        tell_turn_stop(self._env.bus, ended, data)
        self._agent = None  # which knows this turn
        return event

    def _whose(self) -> dict[str, str]:
        return {"session": self._log.record.id, "turn": self.id}


def _account_now(log: SessionLog, turn: str, options: TurnOptions) -> Account:
    """Who pays, by the budget that the session has now: it may be changed while the turn runs."""
    return account_of(log.record, turn, options.budget)
