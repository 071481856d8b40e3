"""Watches an agent's turn for a conversation: writes down what it does, answers what it asks, ends it at a bound."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import trio

from skill_actors.backends.agents.base import (
    AgentEvent,
    Notice,
    PermissionAnswer,
    PermissionQuestion,
    Permitted,
    Raw,
    Refusal,
    Retrying,
    Said,
    SessionKnown,
    Spent,
    TextDelta,
    ToolBegan,
    ToolEnded,
)
from skill_actors.models.base import Usage
from skill_actors.sessions.agents.permission import Permissions
from skill_actors.sessions.agents.writing import AgentLog

__all__ = ["AgentWatch", "Stopped"]

_NO_USAGE = Usage()


class Stopped(Exception):
    """The turn is ended at a bound. `code`: of its error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class AgentWatch:
    """A `Watch` of one turn.

    Args:
        charge_tool: counts a call that is about to run; raises Stopped if it must not.
        known: told of the backend's id of the session.
        passed: what bound the turn has passed by what it has taken, if any.
        max_answers: of the agent's model; None for no bound.

    """

    def __init__(
        self,
        log: AgentLog,
        permissions: Permissions,
        *,
        charge_tool: Callable[[], Awaitable[None]],
        known: Callable[[str], Awaitable[None]],
        passed: Callable[[Usage, float | None], Stopped | None],
        max_answers: int | None,
    ) -> None:
        self._log = log
        self._permissions = permissions
        self._charge_tool = charge_tool
        self._known = known
        self._passed = passed
        self._max_answers = max_answers
        self._charged: set[str] = set()
        self._approvals: dict[str, str] = {}
        self._writing = trio.Lock()  # questions may come while events do
        self.asked = False  # about a call: its model has answered
        self.stopped: Stopped | None = None
        self.stopping = trio.Event()
        self.spent: Usage = _NO_USAGE
        self.spent_by_model: Mapping[str, Usage] = {}
        self.spent_usd: float | None = None
        self.told_spending = False

    async def event(self, event: AgentEvent) -> None:
        """Write it down. Raises what the store raises."""
        async with self._writing:
            await self._take(event)

    async def permit(self, question: PermissionQuestion) -> PermissionAnswer:
        """Ask the policy, and people where it says so; a call that a cap leaves no room for ends the turn."""
        self.asked = True
        if self.stopped is not None:
            return Refusal(str(self.stopped), stop=True)
        async with self._writing:
            await self._log.pause()
        ruling = await self._permissions.rule(question)
        if not isinstance(ruling.answer, Permitted):
            return ruling.answer
        if ruling.approval is not None:
            self._approvals[question.id] = ruling.approval
        if not await self._charge(question.id):
            return Refusal(str(self.stopped), stop=True)
        return ruling.answer

    async def _take(self, event: AgentEvent) -> None:
        match event:
            case TextDelta(text):
                await self._log.delta(text)
            case Said(content):
                await self._log.message(content)
                self._count()
            case ToolBegan(id, name, input):
                await self._charge(id)
                await self._log.began(id, name, input, approval=self._approvals.get(id))
            case ToolEnded(id, content, is_error):
                await self._log.ended(id, content, is_error=is_error)
            case Spent(usage, by_model, cost_usd):
                self._spend(usage, by_model, cost_usd)
            case SessionKnown(id):
                await self._known(id)
            case Retrying(attempt, delay_s, reason):
                await self._log.note({"kind": "retrying", "attempt": attempt, "delay_s": delay_s, "text": reason})
            case Notice(text):
                await self._log.note({"kind": "notice", "text": text})
            case Raw():
                pass  # the agent's own words have no meaning here, and may hold anything

    def stop(self, why: Stopped) -> None:
        """Have the turn ended; the first reason is the one."""
        if self.stopped is None:
            self.stopped = why
            self.stopping.set()

    def _count(self) -> None:
        if self._max_answers is not None and self._log.answers > self._max_answers:
            why = f"the agent's model answered more than {self._max_answers} times; raise limits.iterations"
            self.stop(Stopped("iteration_limit", why))

    def _spend(self, usage: Usage, by_model: Mapping[str, Usage], cost_usd: float | None) -> None:
        self.spent, self.spent_by_model, self.spent_usd, self.told_spending = usage, by_model, cost_usd, True
        passed = self._passed(usage, cost_usd)
        if passed is not None:
            self.stop(passed)

    async def _charge(self, id: str) -> bool:
        """Whether the call is paid. Once for each."""
        if id in self._charged:
            return True
        self._charged.add(id)
        try:
            await self._charge_tool()
        except Stopped as error:
            self.stop(error)
            return False
        return True
