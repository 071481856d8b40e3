"""An agent backend behind a circuit breaker: an API that is overloaded is not asked by every agent all the time.

The programs ask their API again by themselves, with a growing pause; what arrives here as "overloaded" has failed all
of these times. After some of them in a row, of all conversations together, turns are refused before anything is begun,
with the seconds after which to come again; then one is let through to try. When the API has said until when it will
not answer, nobody asks before. A key that is not taken, and a program that crashes or does not come up in time, are no
load of the API. A try that has heard nothing for a while makes way for another one: nobody holds all others up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import trio

from skill_actors.models.breaker import Breaker, BreakerPolicy, CircuitState, Permit

from .base import (
    QUIET,
    AgentBackend,
    AgentCapabilities,
    AgentError,
    AgentEvent,
    AgentRequest,
    AgentResult,
    AgentSession,
    AgentSpec,
    PermissionAnswer,
    PermissionQuestion,
    Said,
    TextDelta,
    ToolBegan,
    Watch,
)

__all__ = ["AGENT_BREAKER", "GuardedAgents"]

AGENT_BREAKER: Final = BreakerPolicy(failures=3, open_s=10.0, max_open_s=120.0)
_MAX_REST_S: Final = 3600.0  # what an API says of its limits may be wrong, and they may be raised
_MAX_TRY_S: Final = 60.0  # for the one turn that tries, until something is heard of its model
_ILL: Final = frozenset({"overloaded"})


class GuardedAgents:
    """An AgentBackend that passes turns on while its circuit lets them, and watches how they end.

    Args:
        on_change: called with the new state when the circuit changes it.

    """

    def __init__(
        self,
        agents: AgentBackend,
        policy: BreakerPolicy = AGENT_BREAKER,
        *,
        on_change: Callable[[CircuitState], None] = lambda _state: None,
    ) -> None:
        self._agents = agents
        self._breaker = Breaker(policy)
        self._rests_until_s = 0.0
        self._tries: Permit | None = None  # given while the circuit was half open
        self._tries_until_s = 0.0
        self._seen = CircuitState.CLOSED
        self._on_change = on_change

    @property
    def name(self) -> str:
        return self._agents.name

    @property
    def capabilities(self) -> AgentCapabilities:
        return self._agents.capabilities

    async def check(self) -> None:
        """See `AgentBackend.check`: whether a turn could run, not whether its API is well."""
        await self._agents.check()

    def check_options(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `AgentBackend.check_options`."""
        return self._agents.check_options(options)

    async def facts(self) -> Mapping[str, Any]:
        """See `AgentBackend.facts`."""
        return await self._agents.facts()

    async def start_session(self, spec: AgentSpec) -> AgentSession:
        """See `AgentBackend.start_session`."""
        return _GuardedSession(await self._agents.start_session(spec), self)

    async def aclose(self) -> None:
        """See `AgentBackend.aclose`."""
        await self._agents.aclose()

    def circuit(self) -> dict[str, Any]:
        """JSON-ready: state, failures in a row, and for how many seconds turns are refused."""
        return {
            "state": self._state.value,
            "failures": self._breaker.failures,
            "retry_in_s": round(self._wait_s(trio.current_time()), 1),
        }

    def begin(self) -> Permit:
        """Leave for one turn. Raises AgentError "circuit_open"."""
        now_s = trio.current_time()
        rest_s = self._rests_until_s - now_s
        if self._tries is not None and now_s >= self._tries_until_s:
            self._breaker.abandoned(self._tries)
        permit = rest_s if rest_s > 0 else self._breaker.begin(now_s)
        if isinstance(permit, Permit) and self._breaker.state is CircuitState.HALF_OPEN:
            self._tries, self._tries_until_s = permit, now_s + _MAX_TRY_S
        self.tell()
        if isinstance(permit, Permit):
            return permit
        why = (
            "its API has said that it answers no more until then"
            if rest_s > 0
            else f"its API failed {self._breaker.failures} times in a row"
        )
        raise AgentError(
            "circuit_open",
            f"{self.name} is left alone, since {why}; the next turn may begin in {max(1, round(permit))} s",
            cost_usd=0.0,
            retry_after_s=permit,
        )

    def answered(self, permit: Permit) -> None:
        """Its API answers."""
        self._breaker.answered(permit)
        self.tell()

    def ended(self, permit: Permit, code: str | None, retry_after_s: float | None = None) -> None:
        """A turn has ended: with a code of an error, or well."""
        now_s = trio.current_time()
        if code in _ILL:
            if retry_after_s is not None:
                self._rests_until_s = max(self._rests_until_s, now_s + min(retry_after_s, _MAX_REST_S))
            self._breaker.failed(permit, now_s, retry_after_s)
        elif code is None:
            self._breaker.succeeded(permit)
        self._breaker.abandoned(permit)  # does nothing where something was learnt
        self.tell()

    def tell(self) -> None:
        """Tell of the circuit's state, if it is another one."""
        state = self._state
        if state is not self._seen:
            self._seen = state
            self._on_change(state)

    @property
    def _state(self) -> CircuitState:
        return CircuitState.OPEN if trio.current_time() < self._rests_until_s else self._breaker.state

    def _wait_s(self, now_s: float) -> float:
        return max(self._rests_until_s - now_s, self._breaker.retry_in_s(now_s), 0.0)


class _GuardedSession:
    """One session, whose turns begin only while the circuit lets them."""

    def __init__(self, session: AgentSession, guard: GuardedAgents) -> None:
        self._session = session
        self._guard = guard

    @property
    def session_id(self) -> str | None:
        return self._session.session_id

    @property
    def history(self) -> Sequence[AgentResult]:
        return self._session.history

    @property
    def last_result(self) -> AgentResult | None:
        return self._session.last_result

    @property
    def total_cost(self) -> float | None:
        return self._session.total_cost

    @property
    def turn_count(self) -> int:
        return self._session.turn_count

    @property
    def totals(self) -> Mapping[str, Any]:
        return self._session.totals

    async def send_message(self, request: AgentRequest, watch: Watch = QUIET) -> AgentResult:
        """See `AgentSession.send_message`. Raises AgentError "circuit_open" as well, before anything is begun."""
        permit = self._guard.begin()
        code: str | None = "interrupted"  # by whoever cancels this: nothing is learnt
        retry_after_s: float | None = None
        try:
            result = await self._session.send_message(request, _Watched(watch, permit, self._guard))
            code = (result.error or "failed") if result.is_error else None
        except AgentError as error:
            code, retry_after_s = error.code, error.retry_after_s
            raise
        finally:
            self._guard.ended(permit, code, retry_after_s)
        return result

    async def interrupt(self) -> None:
        """See `AgentSession.interrupt`."""
        await self._session.interrupt()

    async def stop_session(self) -> None:
        """See `AgentSession.stop_session`."""
        await self._session.stop_session()


class _Watched:
    """A watch that sees when the agent's model begins to answer: a long turn keeps nobody waiting that long."""

    def __init__(self, watch: Watch, permit: Permit, guard: GuardedAgents) -> None:
        self._watch = watch
        self._permit = permit
        self._guard = guard
        self._answered = False

    async def event(self, event: AgentEvent) -> None:
        if isinstance(event, Said | TextDelta | ToolBegan):
            self._hears()
        await self._watch.event(event)

    async def permit(self, question: PermissionQuestion) -> PermissionAnswer:
        self._hears()  # before somebody takes hours to answer
        return await self._watch.permit(question)

    def _hears(self) -> None:
        if not self._answered:
            self._answered = True
            self._guard.answered(self._permit)
