"""A turn by the first of a conversation's agents that can begin it: its own, else those that stand in for it.

Another one is asked only where nothing was begun: the backend is away, takes no credential, is overloaded after all of
its own retries, is left alone by its circuit breaker, or a cap has no room for a turn of it. As soon as an agent has
said a word or begun a call the turn is its own, however it ends: nothing is done twice. Each turn begins with the first
again, so that it is used as soon as it is well. Who has missed turns is told what was said in them.

Where the last of them is left alone for a moment the turn waits for it, as a call of a model does: a queue of messages
is not emptied into failures.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import trio

from skill_actors.backends.base import BackendUnavailable
from skill_actors.errors import Refused
from skill_actors.models.base import ModelError
from skill_actors.models.retry import CIRCUIT_OPEN, patience
from skill_actors.sessions.agents.place import AgentPlace
from skill_actors.sessions.agents.turn import AgentDone, AgentTurn
from skill_actors.sessions.ledger import BudgetExceeded
from skill_actors.sessions.log import Draft, SessionLog
from skill_actors.telemetry import Bus

__all__ = ["AgentChain"]

_MAX_WHY: Final = 500  # of a reason, in an event


@dataclass(frozen=True, slots=True)
class _Passed:
    """Who did not perform the turn, and why."""

    place: AgentPlace
    done: AgentDone


class AgentChain:
    """Performs one turn. Not for reuse.

    Args:
        place: the conversation's own.
        begin: makes the turn by one place.
        rng: so that those who wait do not come back at the same instant.

    """

    def __init__(
        self,
        log: SessionLog,
        turn: str,
        place: AgentPlace,
        begin: Callable[[AgentPlace], AgentTurn],
        *,
        bus: Bus,
        rng: random.Random,
    ) -> None:
        self._log = log
        self._turn = turn
        self._places = (place, *place.others)
        self._begin = begin
        self._bus = bus
        self._rng = rng
        self._agent: AgentTurn | None = None

    async def run(self) -> AgentDone:
        """Have one of them perform the turn.

        Raises: as `AgentTurn.run`, where the conversation has one agent alone.
        """
        passed: list[_Passed] = []
        for place in self._places:
            await self._rest_others(place)
            if place.others or passed:
                await self._tell(place, passed)
            done = await self._patiently(place) if place is self._places[-1] else await self._asked(place)
            if not done.passed_on:
                return done
            passed.append(_Passed(place, done))
        return _failed(passed)

    async def rescue(self, stop_reason: str, *, cut: bool) -> str:
        """See `AgentTurn.rescue`."""
        return "" if self._agent is None else await self._agent.rescue(stop_reason, cut=cut)

    async def _patiently(self, place: AgentPlace) -> AgentDone:
        """Of the last one: wait a while for what is left alone."""
        waited_s = 0.0
        while True:
            done = await self._asked(place)
            wait_s = self._wait_s(done, waited_s)
            if wait_s is None:
                return done
            waited_s += wait_s
            await trio.sleep(wait_s)

    def _wait_s(self, done: AgentDone, waited_s: float) -> float | None:
        """Seconds until it may be asked again; None where that is no use, or too long."""
        if not done.passed_on or done.code != "backend_unavailable" or done.retry_after_s is None:
            return None
        return patience(waited_s, ModelError(done.why, code=CIRCUIT_OPEN, retry_after_s=done.retry_after_s), self._rng)

    async def _asked(self, place: AgentPlace) -> AgentDone:
        """How one of them does; that it cannot begin is an end that is passed on, where there are others."""
        agent = self._agent = self._begin(place)
        if len(self._places) == 1:
            return await agent.run()
        try:
            return await agent.run()
        except BackendUnavailable as error:
            return AgentDone(code="backend_unavailable", why=str(error), passed_on=not agent.begun)
        except BudgetExceeded as error:
            return AgentDone(code="budget_exceeded", why=str(error), passed_on=not agent.begun)
        except Refused as refused:
            if refused.code not in ("backend_unavailable", "budget_exceeded"):
                raise
            return AgentDone(code=refused.code, why=refused.message, passed_on=not agent.begun)

    async def _rest_others(self, place: AgentPlace) -> None:
        """Two programs must not go on with one session: of one backend, both go on with the same."""
        for other in self._places:
            if other is not place:
                await other.rest()

    async def _tell(self, place: AgentPlace, passed: Sequence[_Passed]) -> None:
        data = {
            "backend": place.backend,
            "place": place.name,
            "model": place.model_of(self._log.record.settings.get("model")),
            "passed": [
                {"backend": each.place.backend, "code": each.done.code, "why": each.done.why[:_MAX_WHY]}
                for each in passed
            ],
        }
        await self._log.append([Draft("agent.chosen", self._turn, data)])
        if passed:
            last = passed[-1]
            meta = {"backend": last.place.backend, "instead": place.backend, "code": last.done.code}
            self._bus.emit("agent.fallback", {"count": 1}, {**meta, "session": self._log.record.id, "turn": self._turn})


def _failed(passed: Sequence[_Passed]) -> AgentDone:
    """How the turn ends that nobody could begin: as the first one says, with the words of all."""
    if len(passed) == 1:
        return passed[0].done
    words = "; ".join(f"{each.place.backend}: {each.done.why}" for each in passed)
    return replace(passed[0].done, why=f"none of its agents could begin the turn: {words}", passed_on=False)
