"""A turn that a whole agent performs, within the frame of any turn: paid, watched, ended, written down."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import trio

from skill_actors.backends.agents.base import (
    NO_USAGE,
    AgentBackend,
    AgentError,
    AgentRequest,
    AgentResult,
    AgentSession,
    AgentSpec,
)
from skill_actors.models.base import MessageDone, Usage
from skill_actors.sessions.agents.briefing import agent_system, images_of, prompt_of, record_of
from skill_actors.sessions.agents.permission import Permissions
from skill_actors.sessions.agents.place import AgentPlace, StoredAgent
from skill_actors.sessions.agents.watch import AgentWatch, Stopped
from skill_actors.sessions.agents.writing import AgentLog
from skill_actors.sessions.bill import Bill
from skill_actors.sessions.budget_warnings import tell_warnings
from skill_actors.sessions.history import History
from skill_actors.sessions.ledger import Account, AgentHold, AgentTerms, BudgetExceeded
from skill_actors.sessions.ledger.beside import recorded_beside
from skill_actors.sessions.log import Draft, SessionLog
from skill_actors.sessions.session_files import SessionFiles
from skill_actors.sessions.surroundings import Surroundings
from skill_actors.sessions.turn_options import TurnOptions

__all__ = ["AgentDone", "AgentTurn"]

_INTERRUPT_S: Final = 2.0  # an agent that is asked to end has so long before it is killed
_MAX_DENIALS: Final = 20

# What a turn of a model calls the same, where it has a word for it.
_CODES: Final[Mapping[str, str]] = {
    "binary_not_found": "backend_unavailable",
    "circuit_open": "backend_unavailable",
    "version_mismatch": "backend_unavailable",
    "max_budget_exceeded": "budget_exceeded",
    "max_turns_exceeded": "iteration_limit",
}
_NEVER_BEGAN: Final = frozenset(
    {"auth", "binary_not_found", "circuit_open", "version_mismatch", "session_lost", "turn_in_flight"}
)
# Says nothing of the message: another backend may take it, where nothing was done yet.
_PASSED_ON: Final = frozenset(
    {"auth", "binary_not_found", "circuit_open", "io", "overloaded", "timeout", "version_mismatch"}
)
_LOST: Final = "the agent's own session is not there any more: it was begun anew, and told what was said before"
_NO_RESULT: Final = "The agent told no result of this call before its turn ended."


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentDone:
    """How the agent's part of a turn ended.

    Args:
        message: its answer; None if it failed: then `code` and `why` say how, and `said` what it had said.
        answers: how often its model answered.
        model: by name, as far as it is known.
        passed_on: the backend is not well, and nothing was said or done: another one may perform the turn.
        retry_after_s: where it is known when the backend may be asked again.

    """

    message: MessageDone | None = None
    code: str = ""
    why: str = ""
    said: str = ""
    answers: int = 1
    model: str = ""
    passed_on: bool = False
    retry_after_s: float | None = None


class AgentTurn:
    """Performs one turn by an agent. Not for reuse.

    Args:
        turn: its id; `began_seq` the number of its first event.
        history: of the session, which follows the log.
        catalogue: of the skills, for the agent's system prompt.
        account: who pays, asked for each entry.
        options: what differs in this turn from the rest of the session.
        schema: what the answer has to keep to; None for text.
        resting: what a question is in for as long as it waits for somebody.

    """

    def __init__(
        self,
        log: SessionLog,
        turn: str,
        *,
        env: Surroundings,
        place: AgentPlace,
        files: SessionFiles,
        history: History,
        began_seq: int,
        catalogue: str,
        bill: Bill,
        account: Callable[[], Account],
        options: TurnOptions,
        schema: Mapping[str, Any] | None,
        resting: Callable[[], AbstractAsyncContextManager[None]],
    ) -> None:
        self._log = log
        self._turn = turn
        self._env = env
        self._place = place
        self._history = history
        self._began_seq = began_seq
        self._catalogue = catalogue
        self._bill = bill
        self._account = account
        self._options = options
        self._schema = schema
        settings = self._settings = log.record.settings
        self._folder = Path(settings["cwd"]) if settings.get("cwd") else place.folder
        self._writer = AgentLog(
            log,
            turn,
            files,
            backend=place.backend,
            place=place.name,
            max_chars=env.defaults.tool_output_chars,
        )
        self._bridge = env.bridge(log.record)
        permissions = Permissions(
            log,
            turn,
            env,
            place=place.name,
            backend=place.backend,
            folder=self._folder,
            resting=resting,
            reads=self._bridge.reads,
        )
        self._watch = AgentWatch(
            self._writer,
            permissions,
            charge_tool=self._charge_tool,
            known=self._note_session,
            passed=self._passed,
            max_answers=settings.get("limits", {}).get("iterations"),
        )
        self._held: AgentHold | None = None
        self._settled = False
        self._session: AgentSession | None = None

    @property
    def begun(self) -> bool:
        """Whether the agent may have taken the message."""
        return self._session is not None

    async def run(self) -> AgentDone:
        """Have the agent perform the turn.

        Raises:
            BudgetExceeded: a cap leaves no room, or left none in the middle of it.
            BackendUnavailable, Refused: nothing was begun.
            StoreError: something could not be written down.

        """
        backend = self._place.agents()
        await trio.to_thread.run_sync(_made, self._place.folder)
        if self._env.ledger is not None:
            self._held = await self._env.ledger.reserve_agent(self._account(), self._terms(backend))
        try:
            return await self._perform(backend)
        except BaseException:
            with trio.CancelScope(shield=True):
                begun = self._session is not None
                await self._settle(
                    self._watch.spent, self._watch.spent_by_model, self._told_usd, begun=begun, cut=begun
                )
            raise

    async def rescue(self, stop_reason: str, *, cut: bool) -> str:
        """Keep what the agent had said when its turn was stopped; the text."""
        with trio.CancelScope(shield=True):
            said = await self._finish(_NO_RESULT, stop_reason)
        return said

    # -- the agent -----------------------------------------------------------------------------------------------

    async def _perform(self, backend: AgentBackend) -> AgentDone:
        stored = StoredAgent.of(self._history.agents, self._place.backend)
        try:
            try:
                result = await self._ask(backend, stored)
            except AgentError as error:
                if error.code != "session_lost" or error.acted or stored.session_id is None or self._writer.answers:
                    raise
                await self._place.rest()
                await self._writer.note({"kind": "notice", "text": _LOST})
                result = await self._ask(backend, StoredAgent(backend=self._place.backend))
        except AgentError as error:
            return await self._failed(error)
        return await self._answered(result)

    async def _ask(self, backend: AgentBackend, stored: StoredAgent) -> AgentResult:
        """Raises AgentError."""
        request = self._request(backend, stored)
        session = self._session = await self._place.open(self._spec(), stored)
        result: AgentResult | None = None

        async def end_when_stopped() -> None:
            await self._watch.stopping.wait()
            with trio.move_on_after(_INTERRUPT_S):
                await session.interrupt()
                await trio.sleep_forever()
            scope.cancel()

        scope = trio.CancelScope()
        async with recorded_beside(end_when_stopped):
            with scope:
                result = await session.send_message(request, self._watch)
        if result is None:
            raise AgentError("interrupted", "the agent did not end when it was asked to, and was killed", acted=True)
        return result

    def _spec(self) -> AgentSpec:
        return AgentSpec(
            agent=self._log.record.id,
            folder=self._folder,
            system=agent_system(self._settings.get("system"), self._catalogue, self._place.folder),
            model=self._place.model_of(self._settings.get("model")),
            mcp=self._bridge.servers,
        )

    def _request(self, backend: AgentBackend, stored: StoredAgent) -> AgentRequest:
        can, pieces = backend.capabilities, self._history.pieces
        asked = None if can.structured_output else self._schema
        through = self._through(stored)
        record = "" if through is None else record_of(pieces, self._began_seq, after_seq=through)
        money = self._held is not None and can.budget == "money"
        return AgentRequest(
            prompt=prompt_of(pieces, self._began_seq, record=record, schema=asked),
            model=self._place.model_of(self._options.model),
            effort=self._options.effort,
            max_tokens=self._options.max_tokens,
            max_cost_usd=self._held.usd if money and self._held is not None else None,
            schema=self._schema if can.structured_output else None,
            images=images_of(pieces, self._began_seq) if can.images else (),
        )

    def _through(self, stored: StoredAgent) -> int | None:
        """Up to which event the agent knows the conversation; None for all of it."""
        memory = self._history.agents
        if stored.session_id is None:
            return 0
        return None if memory is None else memory.knows_through(stored.backend)

    # -- its end -------------------------------------------------------------------------------------------------

    async def _answered(self, result: AgentResult) -> AgentDone:
        stopped = self._watch.stopped
        with trio.CancelScope(shield=True):  # it is over: a cancel comes too late
            cut = result.is_error and stopped is not None
            await self._settle(result.usage, result.by_model, result.cost_usd, model=result.model, cut=cut)
            if stopped is not None:
                return await self._ended_at(stopped)
            text = self._text_of(result)
            said = await self._finish(_NO_RESULT, result.error or "end_turn")
            if text.strip() and not result.is_error and not any(text in earlier for earlier in self._writer.said):
                await self._writer.message([{"type": "text", "text": text}])
            await self._tell_denials(result)
        answers, model = max(result.num_turns or 0, self._writer.answers, 1), result.model or ""
        if result.is_error:
            code = _code_of(result.error or "failed")
            return AgentDone(
                code=code,
                why=text or f"the agent failed: {code}",
                said=said,
                answers=answers,
                model=model,
                passed_on=self._is_passed_on(result.error) and result.usage == NO_USAGE and not result.denials,
            )
        message = MessageDone(
            content=[{"type": "text", "text": text}],
            stop_reason=result.stop_reason if result.stop_reason in ("max_tokens", "refusal") else "end_turn",
            model=model,
            usage=result.usage,
        )
        return AgentDone(message=message, answers=answers, model=model)

    async def _failed(self, error: AgentError) -> AgentDone:
        stopped = self._watch.stopped
        told_nothing = error.usage == NO_USAGE
        passed_on = self._is_passed_on(error.code) and told_nothing and not error.acted and not error.partial
        # Else an answer may have been under way that nobody has told of.
        begun = error.code not in _NEVER_BEGAN and not (passed_on and error.code == "overloaded")
        with trio.CancelScope(shield=True):
            told = error.usage if error.usage != NO_USAGE else self._watch.spent
            cost = error.cost_usd if error.cost_usd is not None else self._told_usd
            await self._settle(told, error.by_model or self._watch.spent_by_model, cost, begun=begun, cut=True)
            if stopped is not None:
                return await self._ended_at(stopped)
            if error.partial and not (self._writer.said or self._writer.is_writing):
                await self._writer.delta(error.partial)
            said = await self._finish(f"The agent failed: {error.message}", error.code)
        return AgentDone(
            code=_code_of(error.code),
            why=error.message,
            said=said,
            answers=self._writer.answers,
            passed_on=passed_on,
            retry_after_s=error.retry_after_s,
        )

    def _is_passed_on(self, code: str | None) -> bool:
        """Whether another one may take the turn: nothing was told, not even tokens of a model that has answered."""
        writer, watch = self._writer, self._watch
        begun = writer.answers or writer.acted or writer.said or writer.is_writing or watch.asked
        return code in _PASSED_ON and watch.spent == NO_USAGE and not begun

    async def _ended_at(self, stopped: Stopped) -> AgentDone:
        """A turn that was ended at a bound has failed, whatever the agent says of it."""
        said = await self._finish(_NO_RESULT, stopped.code)
        return AgentDone(code=stopped.code, why=str(stopped), said=said, answers=self._writer.answers)

    async def _finish(self, why: str, stop_reason: str) -> str:
        """Results for calls that have none, and what is known of the agent's session; the text that was being said."""
        said = await self._writer.rest(why, stop_reason=stop_reason)
        if self._session is not None and self._session.session_id is not None:
            await self._store(StoredAgent(
                backend=self._place.backend, session_id=self._session.session_id, totals=self._session.totals
            ))  # fmt: skip
        return said or (self._writer.said[-1] if self._writer.said else "")

    def _text_of(self, result: AgentResult) -> str:
        if result.structured_output is not None and self._schema is not None:
            return json.dumps(result.structured_output, ensure_ascii=False)
        return result.result

    async def _tell_denials(self, result: AgentResult) -> None:
        if result.denials:
            denials = [{"tool": each.tool, "id": each.id, "input": dict(each.input)} for each in result.denials]
            tools = ", ".join(dict.fromkeys(each.tool for each in result.denials))
            text = f"calls that were not permitted: {tools}"
            await self._writer.note({"kind": "denied", "text": text, "denials": denials[:_MAX_DENIALS]})

    async def _note_session(self, session_id: str) -> None:
        """Stored at once: the turn may never come to its end."""
        stored = StoredAgent.of(self._history.agents, self._place.backend)
        await self._store(replace(stored, session_id=session_id))

    async def _store(self, known: StoredAgent) -> None:
        if self._known(known.backend) != known.to_dict():
            await self._log.append([Draft("agent.session", self._turn, known.to_dict())])

    def _known(self, backend: str) -> Mapping[str, Any]:
        memory = self._history.agents
        return {} if memory is None else dict(memory.session(backend) or {})

    # -- what it costs -------------------------------------------------------------------------------------------

    def _terms(self, backend: AgentBackend) -> AgentTerms:
        allowance = self._env.agent_allowance(self._place.backend)
        model = self._place.model_of(self._options.model or self._settings.get("model")) or allowance.model
        return AgentTerms(
            backend=self._place.backend,
            budget=backend.capabilities.budget,
            model=str(model),
            turn_usd=allowance.turn_usd,
            turn_tokens=allowance.turn_tokens,
            answer_usd=allowance.answer_usd,
        )

    @property
    def _told_usd(self) -> float | None:
        """What the turn has cost as far as was told."""
        return self._watch.spent_usd if self._watch.told_spending else 0.0

    def _passed(self, usage: Usage, cost_usd: float | None) -> Stopped | None:
        """What bound the turn has passed."""
        if self._held is None:
            return None
        known = cost_usd if cost_usd is not None else self._priced(self._watch.spent_by_model)
        unit = self._held.is_passed(usage, known)
        if unit is None:
            return None
        why = (
            f"the agent used what its turn was given, {self._held.usd:.4f} USD" if unit == "usd"
            else f"the agent used what its turn was given, {self._held.tokens} tokens"
        )  # fmt: skip
        return Stopped("budget_exceeded", f"{why}, of what the caps that bind it leave; see skillctl budget show")

    async def _charge_tool(self) -> None:
        """Raises Stopped."""
        if self._env.ledger is None:
            return
        try:
            warnings = await self._env.ledger.charge_tool(self._account())
        except BudgetExceeded as error:
            raise Stopped("budget_exceeded", str(error)) from error
        await tell_warnings(self._log, self._turn, warnings)

    def _priced(self, by_model: Mapping[str, Usage]) -> float | None:
        """What this costs by our own prices; None where one is not known, or nothing was told."""
        prices = [self._env.price_usd(model, usage) for model, usage in by_model.items()]
        return None if not prices else _sum(prices)

    async def _settle(
        self,
        usage: Usage,
        by_model: Mapping[str, Usage],
        cost_usd: float | None,
        *,
        model: str | None = None,
        begun: bool = True,
        cut: bool,
    ) -> None:
        """Charge the turn, once. `begun`: the agent may have used something."""
        if self._settled:
            return
        self._settled = True
        ledger, held = self._env.ledger, self._held
        if not begun:
            if ledger is not None and held is not None:
                await ledger.release(held.hold)
            return
        cost_usd = cost_usd if cost_usd is not None else self._priced(by_model)
        self._bill.add(usage, cost_usd, whole=not cut)
        if ledger is not None and held is not None:
            name = model or next(iter(by_model), "")
            warnings = await ledger.settle_agent(held, model=name, usage=usage, cost_usd=cost_usd, cut=cut)
            await tell_warnings(self._log, self._turn, warnings)


def _code_of(code: str) -> str:
    return _CODES.get(code, f"agent_{code}")


def _sum(prices: list[float | None]) -> float | None:
    known = [price for price in prices if price is not None]
    return sum(known) if len(known) == len(prices) else None


def _made(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
