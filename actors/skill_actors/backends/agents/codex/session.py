"""One conversation's agent: turns over a program that stays, or one program a turn where there is no such thing.

The task that sends a message reads what the program says, tells it, and asks; the program itself is kept by a task of
the backend. After an interrupted turn the program is ended: it leaves commands running that nobody waits for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import trio

from skill_actors.backends.agents.base import AgentError, AgentRequest, AgentResult, AgentSpec, Notice, Watch
from skill_actors.backends.agents.codex.configuration import approval_of
from skill_actors.backends.agents.codex.options import SessionChoice
from skill_actors.backends.agents.codex.shop import Shop
from skill_actors.backends.agents.codex.single import SingleTurn
from skill_actors.backends.agents.codex.turns import Turn
from skill_actors.backends.agents.codex.usage import Meter, Totals
from skill_actors.backends.agents.codex.warm import Warm, WarmTurn
from skill_actors.backends.agents.turns_kept import KeepsTurns

__all__ = ["CodexSession"]

_INTERRUPT_S: Final = 2.0  # for a turn to end when it is asked to
_NO_SERVER: Final = frozenset({"protocol", "timeout", "version_mismatch"})


class CodexSession(KeepsTurns):
    """`AgentSession` of the codex backend."""

    def __init__(
        self, shop: Shop, spec: AgentSpec, choice: SessionChoice, *, forget: Callable[[CodexSession], None]
    ) -> None:
        super().__init__(spec.session_id)
        self._shop = shop
        self._forget = forget
        self._spec = spec
        self._choice = choice
        self._totals = _totals_of(spec)
        self._turn: Turn | None = None
        self._role = _name_of(spec.system)
        self._new_role = _new_role(spec)
        # A thread is on disk only some time after it was begun: one that has had no whole turn may have got lost.
        self._kept = spec.session_id is not None and spec.totals.get("kept") is not False
        self._warm = Warm(shop, spec, choice, self._new_role, kept=self._kept) if shop.options.warm else None

    @property
    def totals(self) -> Mapping[str, Any]:
        known = {} if self._totals is None else self._totals.to_dict()
        return {**known, "role": self._role, "kept": self._kept}

    async def interrupt(self) -> None:
        turn = self._turn
        if turn is None:
            return
        await turn.interrupt()
        with trio.move_on_after(_INTERRUPT_S):
            await turn.over.wait()
            return
        await turn.end()

    async def stop_session(self) -> None:
        self.stopped = True
        self._forget(self)
        turn = self._turn
        if turn is not None:
            turn.closed = True
            await turn.end()
        if self._warm is not None:
            await self._warm.stop()

    async def _turn_of(self, request: AgentRequest, watch: Watch) -> AgentResult:
        result = await self._perform(request, watch)
        self._kept = True
        return result

    async def _perform(self, request: AgentRequest, watch: Watch) -> AgentResult:
        """A turn in the form that can be had."""
        if self._warm is not None:
            try:
                return await self._run(WarmTurn(self._warm, self.session_id, self._meter(request), request, watch))
            except AgentError as error:
                if error.code not in _NO_SERVER or self._warm.has_begun or self._asks:
                    raise
                await watch.event(Notice(f"codex has no server here, so that each turn starts anew: {error.message}"))
                self._warm = None
        try:
            return await self._single(request, watch)
        except AgentError as error:
            if error.code != "session_lost" or self._kept:
                raise
        self._go_on_with(None)
        self._totals = Totals()
        return await self._single(request, watch)

    async def _single(self, request: AgentRequest, watch: Watch) -> AgentResult:
        prompt = request.prompt if self._new_role is None else f"{self._new_role}\n\n{request.prompt}"
        changed = replace(request, prompt=prompt)
        turn = SingleTurn(self._shop, self._spec, self._choice, self._meter(request), changed, watch)
        result = await self._run(turn)
        self._new_role = None
        return result

    async def _run(self, turn: Turn) -> AgentResult:
        self._turn = turn
        try:
            return await turn.perform()
        finally:
            self._turn = None
            turn.over.set()
            if turn.reading.thread is not None and turn.reading.thread != self.session_id:
                self._go_on_with(turn.reading.thread)
            self._totals = turn.reading.meter.totals if turn.reading.meter.totals is not None else self._totals

    def _go_on_with(self, thread: str | None) -> None:
        self.session_id = thread
        self._spec = replace(self._spec, session_id=thread, fork=False)

    @property
    def _asks(self) -> bool:
        return approval_of(self._choice, self._shop.options) != "never"

    def _meter(self, request: AgentRequest) -> Meter:
        meter = Meter(self._totals, self._shop.prices)
        meter.model = request.model or self._choice.model or self._spec.model or self._shop.options.model or None
        return meter


def _totals_of(spec: AgentSpec) -> Totals | None:
    """What the thread has taken as far as is remembered; None where nobody does."""
    if spec.session_id is None:
        return Totals()
    return Totals.of(spec.totals) if "input" in spec.totals else None


def _name_of(role: str) -> str:
    return hashlib.sha256(role.encode("utf-8", "replace")).hexdigest()[:16]


def _new_role(spec: AgentSpec) -> str | None:
    """What a thread is to be told that remembers another role: it keeps to the one it was begun with."""
    known = spec.totals.get("role")
    if spec.session_id is None or known is None or known == _name_of(spec.system):
        return None
    return f"These instructions replace the earlier ones:\n\n{spec.system or '(none)'}"
