"""Performs the runs of workflows: one task for each, one more for each stage that is under way.

Whatever it learns is stored before it is used, and every message to an agent has a key made of run, stage, attempt and
round. So after a kill -9 the next runner finds each stage where it was: a turn that went on is waited for, one that
ended meanwhile is read, and a message that nobody noted is not given twice. Likewise a run that is to be broken off is
stored as one that is, before anything of it is: so it never goes on by itself after a restart.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeVar

import trio

from skill_actors.errors import Refused
from skill_actors.workshop.agents.asking import Sent
from skill_actors.workshop.workflows.definition import Stage
from skill_actors.workshop.workflows.on_board import WorksBoard, item_of, perform_on_board, take_back
from skill_actors.workshop.workflows.room import MAX_ERROR_BYTES, kept
from skill_actors.workshop.workflows.run import Run, RunStatus, StageState
from skill_actors.workshop.workflows.runs import Changed, Runs, stamp_now
from skill_actors.workshop.workflows.settling import NOTHING_LEFT, TurnEnd, allowances, judged, performed
from skill_actors.workshop.workflows.steps import decide, judge_text, stage_text

__all__ = ["PerformsStages", "Runner"]

_WAIT_S: Final = 3600.0  # for a turn, before it is looked at again
_AGAIN_S: Final = 2.0  # after a refusal that passes
_END_WAIT_S: Final = 10.0  # for a run that was cancelled: its agents' processes may be slow to die
_SEND_S: Final = 10.0  # for a message to be stored, and its turn to be noted, whoever is in a hurry
_PASSING: Final = frozenset({"draining", "storage_full", "overloaded"})
_MAX_FAULTS: Final = 30  # of the daemon itself, one after the other: these do not pass for ever
_OPEN: Final = frozenset({"queued", "running"})

T = TypeVar("T")

_log = logging.getLogger(__name__)


class PerformsStages(Protocol):
    """The agents, as a run needs them. All raise Refused."""

    async def cast(
        self,
        owner_uid: int,
        name: str,
        text: str,
        *,
        key: str | None = None,
        timeout_s: float | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Sent: ...

    async def await_turn(self, owner_uid: int, turn: str, wait_s: float) -> Mapping[str, Any]: ...

    async def cancel_turn(self, owner_uid: int, turn: str) -> object: ...

    async def define(
        self, owner_uid: int, name: str, settings: Mapping[str, Any], *, replace_it: bool = True
    ) -> object: ...

    async def forget(self, owner_uid: int, name: str) -> None: ...


class Runner:
    """The one that performs runs."""

    def __init__(self, runs: Runs, agents: PerformsStages, board: WorksBoard) -> None:
        self._runs = runs
        self._agents = agents
        self._board = board
        self._scopes: dict[str, trio.CancelScope] = {}

    async def run(self) -> None:
        """Perform all runs, those that are begun later too; for ever."""
        self._scopes.clear()  # of a life before this one
        async with trio.open_nursery() as nursery:
            while True:
                for run in self._runs.going_on():
                    if run.key not in self._scopes:
                        self._scopes[run.key] = trio.CancelScope()
                        nursery.start_soon(self._perform, run.key)
                await self._runs.wait_begun()

    async def cancel(self, owner_uid: int, id: str, reason: str = "cancelled") -> Run:
        """End a run and what its agents do for it; one that has ended, or is about to, stays as it is.

        Once this returns it never goes on; where its agents are slow to stop it may still have the status "running".

        Raises:
            Refused: not_found, storage_full.

        """
        run = await self._runs.get(owner_uid, id)
        await self._runs.change(run.key, lambda run: _closed(run, "cancelled", reason))
        if run.key in self._scopes:
            self._scopes[run.key].cancel()
        return await self._runs.wait_ended(owner_uid, id, _END_WAIT_S)

    async def reset(self, owner_uid: int, workflow: str) -> Mapping[str, int]:
        """End the runs of a workflow that go on, and forget those that have ended: {"cancelled", "forgotten"}.

        The workflow stays, and so do the conversations of its agents and what they have cost.

        Raises:
            Refused: not_found (no such workflow); overloaded, where agents are slow to stop: nothing is forgotten then.

        """
        await self._runs.workflow_view(owner_uid, workflow)
        going = [run for run in self._runs.going_on() if (run.owner_uid, run.workflow) == (owner_uid, workflow)]
        for run in going:
            await self._runs.change(run.key, lambda run: _closed(run, "cancelled", "the workflow is reset"))
            if run.key in self._scopes:
                self._scopes[run.key].cancel()
        ended = [await self._runs.wait_ended(owner_uid, run.id, _END_WAIT_S) for run in going]
        if any(run.status == "running" for run in ended):
            raise Refused(
                "overloaded", "its runs are ended, and some agent is slow to stop: try again", retry_after_s=5
            )
        return {"cancelled": len(going), "forgotten": await self._runs.forget_ended(owner_uid, workflow)}

    async def _perform(self, key: str) -> None:
        """Perform a run to its end. What keeps one from it keeps no other from theirs."""
        scope = self._scopes[key]
        try:
            with scope:
                await self._in_time(key)
            await self._end(key)
        except Exception as error:
            _log.exception("the run %s was given up", key)
            await self._give_up(key, error)
        finally:
            if self._scopes.get(key) is scope:
                del self._scopes[key]

    async def _in_time(self, key: str) -> None:
        run = self._runs.now(key)
        if run is None or run.closing is not None:
            return
        with trio.move_on_after(_left_s(run)) as time:
            await self._stages(key)
        if time.cancelled_caught:
            why = f"timeout: it took longer than {run.definition.timeout_s:g} s"
            await self._change(key, lambda run: _closed(run, "failed", why))

    async def _give_up(self, key: str, error: Exception) -> None:
        """Break off a run that this program cannot perform."""
        why = "internal: it cannot be performed; the daemon's log says why"
        found = error
        while isinstance(found, ExceptionGroup):
            found = found.exceptions[0]
        if isinstance(found, Refused):
            why = f"{found.code}: {found.message}"
        try:
            await self._change(key, lambda run: _closed(run, "failed", why))
            await self._end(key)
        except Exception:  # it stays as it is until the next start; the others go on
            _log.exception("the run %s cannot even be ended", key)

    async def _stages(self, key: str) -> None:
        """Everything that is to be done, until the run has ended."""
        performing: set[str] = set()
        async with trio.open_nursery() as nursery:
            while (run := await self._change(key, _advanced)) is not None and run.status == "running":
                if run.closing is not None:
                    break
                for name, state in run.stages.items():
                    if state.status == "running" and name not in performing:
                        performing.add(name)
                        nursery.start_soon(self._stage, key, name)
                if self._runs.now(key) is run:
                    await self._runs.wait_changed(key)

    async def _change(self, key: str, how: Callable[[Run], Changed | None]) -> Run | None:
        """Store a change of the run, as soon as the store takes it."""
        return await _as_soon(f"the run {key}", lambda: self._runs.change(key, how))

    async def _note(self, key: str, name: str, how: Callable[[Run], StageState]) -> None:
        """Store what became of a stage; what was made for it alone is let go of before it is over."""
        run = self._runs.now(key)
        if run is None:
            return
        state = how(run)  # nobody else changes this stage
        if state.is_over:
            state = replace(state, ended=stamp_now())
            await self._let_go(run, run.definition[name])
        data = {"stage": name, "status": state.status, "attempt": state.attempt, "round": state.round}
        await self._change(key, lambda run: Changed(run.with_stage(name, state), "stage", data))

    async def _stage(self, key: str, name: str) -> None:
        """Perform one stage, attempt after attempt and round after round, until it is over."""
        run = self._runs.now(key)
        while run is not None and not run.stages[name].is_over:
            stage = run.definition[name]
            if stage.type is not None:
                await self._on_board(key, run, stage)
            elif run.stages[name].answer is None:
                await self._attempt(key, run, stage)
            else:
                await self._judge(key, run, stage)
            run = self._runs.now(key)

    async def _on_board(self, key: str, run: Run, stage: Stage) -> None:
        state = run.stages[stage.name]
        try:
            ended = await _as_soon(
                f"stage {stage.name} of the run {key}",
                lambda: perform_on_board(self._board, self._agents, run, stage),
            )
        except Refused as error:
            why = kept(f"{error.code}: {error.message}", MAX_ERROR_BYTES)
            ended = replace(state, status="failed", error=why)
        await self._note(key, stage.name, lambda _: ended)

    async def _attempt(self, key: str, run: Run, stage: Stage) -> None:
        state = run.stages[stage.name]
        try:
            turn = state.turn or await self._send(key, run, stage, state)
            end = TurnEnd.of(await self._ended(run, stage, turn))
        except Refused as error:
            end = TurnEnd(text="", error=kept(f"{error.code}: {error.message}", MAX_ERROR_BYTES))
        await self._note(key, stage.name, lambda run: performed(run, stage.name, end))

    async def _judge(self, key: str, run: Run, stage: Stage) -> None:
        state = run.stages[stage.name]
        try:
            turn = state.judging or await self._send_to_judge(key, run, stage, state)
            end = TurnEnd.of(await self._ended(run, stage, turn))
        except Refused as error:
            end = TurnEnd(text="", error=kept(f"{error.code}: {error.message}", MAX_ERROR_BYTES))
        await self._note(key, stage.name, lambda run: judged(run, stage.name, end))

    async def _send(self, key: str, run: Run, stage: Stage, state: StageState) -> str:
        """Give the performer its message; the turn."""
        agent = stage.agent or _own_agent(run, stage)
        if stage.profile is not None:
            try:
                await self._agents.define(run.owner_uid, agent, {"profile": stage.profile}, replace_it=False)
            except Refused as error:
                if error.code != "conflict":  # it was made before a restart
                    raise
        text = stage_text(run, stage.name)
        return await self._cast(key, run, stage, agent, text, "do", lambda turn: replace(state, turn=turn))

    async def _send_to_judge(self, key: str, run: Run, stage: Stage, state: StageState) -> str:
        until = stage.until
        assert until is not None
        assert until.judge is not None
        text = judge_text(run, stage.name)
        return await self._cast(key, run, stage, until.judge, text, "judge", lambda turn: replace(state, judging=turn))

    async def _cast(
        self,
        key: str,
        run: Run,
        stage: Stage,
        agent: str,
        text: str,
        what: str,
        noted: Callable[[str], StageState],
    ) -> str:
        """Send a message as soon as it is taken, and note its turn with the stage.

        Raises:
            Refused: what the agent refuses; overloaded, if it was not taken in the time that the turn would have had.

        """

        async def send() -> str:
            # Not cancelled in between: a turn that nobody has noted would go on when the run is cancelled. But not
            # for ever either. One that is sent again has the same key, and is the same turn.
            with trio.move_on_after(_SEND_S, shield=True):
                sent = await self._agents.cast(
                    run.owner_uid,
                    agent,
                    text,
                    key=_key(run, stage, what),
                    timeout_s=stage.timeout_s,
                    options=_options(run.stages[stage.name]),
                )
                await self._note(key, stage.name, lambda _: noted(sent.turn))
                return sent.turn
            raise Refused("overloaded", f"agent {agent!r} did not take the message within {_SEND_S:g} s")

        wait_s = float("inf") if stage.timeout_s is None else stage.timeout_s
        with trio.move_on_after(wait_s):
            return await _as_soon(f"stage {stage.name} of the run {key}", send)
        raise Refused("overloaded", f"agent {agent!r} took no message within {wait_s:g} s")

    async def _ended(self, run: Run, stage: Stage, turn: str) -> Mapping[str, Any]:
        """The turn, once it has ended. One that waits in a queue for longer than it may take is taken back."""

        async def look(wait_s: float) -> Mapping[str, Any]:
            return await _as_soon(
                f"the turn {turn} of the run {run.id}",
                lambda: self._agents.await_turn(run.owner_uid, turn, wait_s),
            )

        wait_s = _WAIT_S if stage.timeout_s is None else stage.timeout_s
        while True:
            found = await look(wait_s)
            if found["status"] not in _OPEN:
                return found
            if found["status"] == "queued" and stage.timeout_s is not None:
                await _as_soon(f"the turn {turn}", lambda: self._agents.cancel_turn(run.owner_uid, turn))
            wait_s = _WAIT_S

    async def _let_go(self, run: Run, stage: Stage) -> None:
        """Remove the agent that was made for a stage, if there is one."""
        if stage.profile is None:
            return
        agent = _own_agent(run, stage)
        try:
            await _as_soon(f"the agent {agent}", lambda: self._agents.forget(run.owner_uid, agent))
        except Refused as error:
            if error.code != "not_found":
                _log.warning("the agent of stage %s of run %s stays: %s", stage.name, run.id, error)

    async def _end(self, key: str) -> None:
        """Break off what goes on in a run that is closing, and store how it has ended."""
        run = self._runs.now(key)
        if run is None or run.closing is None:
            return
        async with trio.open_nursery() as nursery:
            for name, state in run.stages.items():
                if state.status == "running":
                    nursery.start_soon(self._break_off, run, run.definition[name], state)
        await self._change(key, _ended)

    async def _break_off(self, run: Run, stage: Stage, state: StageState) -> None:
        turn = state.turn if state.answer is None else state.judging

        async def stop() -> None:
            if stage.type is not None:
                await take_back(self._board, run.owner_uid, item_of(run, stage), "its workflow has ended")
            elif turn is not None:
                await self._agents.cancel_turn(run.owner_uid, turn)

        try:
            await _as_soon(f"stage {stage.name} of the run {run.key}", stop)
        except Refused as error:
            if error.code != "not_found":
                _log.warning("stage %s of run %s could not be broken off: %s", stage.name, run.id, error)
        await self._let_go(run, stage)


async def _as_soon(who: str, do: Callable[[], Awaitable[T]]) -> T:
    """Do it once nothing that passes is in the way. Raises Refused for anything else, and for faults that stay."""
    faults, told = 0, None
    while True:
        try:
            return await do()
        except Refused as error:
            faults += error.code == "internal"
            if error.code not in _PASSING and (error.code != "internal" or faults > _MAX_FAULTS):
                raise
            if str(error) != told:
                _log.warning("%s waits: %s", who, error)
                told = str(error)
        await trio.sleep(_AGAIN_S)


def _closed(run: Run, how: RunStatus, why: str) -> Changed | None:
    """The run as one that is to be broken off; None if it is already."""
    if run.closing is not None:
        return None
    return Changed(replace(run, closing=how, error=why), "stage", {"closing": how})


def _ended(run: Run) -> Changed:
    """A run that was closing, with everything over."""
    how = run.closing
    assert how is not None
    for name, state in run.stages.items():
        if not state.is_over:
            run = run.with_stage(name, replace(state, status="cancelled", error=run.error, ended=stamp_now()))
    return Changed(replace(run, status=how, closing=None, ended=stamp_now()), how, {"error": run.error})


def _advanced(run: Run) -> Changed | None:
    """The run with everything done that needs nobody to be asked; None if there is nothing of that."""
    before = run
    while True:
        decision = decide(run)
        begun = _begun(decision.run, tuple(decision.begin))
        if begun == run:
            break
        run = begun  # a stage that was skipped, or failed at once, may let others begin
    if run == before:
        return None
    if run.status != "running":
        ended = replace(run, ended=stamp_now())
        return Changed(ended, run.status, {} if run.error is None else {"error": run.error})
    changed = {name: state.status for name, state in run.stages.items() if state.status != before.stages[name].status}
    return Changed(run, "stage", {"stages": changed})


def _begun(run: Run, begin: tuple[str, ...]) -> Run:
    """The run with these stages under way; those that nothing is left for have failed."""
    left = allowances(run, begin)
    now = stamp_now()
    for name in begin:
        allowed = left[name]
        if allowed is not None and allowed <= 0:
            state = replace(run.stages[name], status="failed", error=NOTHING_LEFT, started=now, ended=now)
        else:
            item = None if run.definition[name].type is None else item_of(run, run.definition[name])
            state = replace(
                run.stages[name], status="running", attempt=1, round=1, started=now, allowed_usd=allowed, item=item
            )
        run = run.with_stage(name, state)
    return run


def _key(run: Run, stage: Stage, what: str) -> str:
    state = run.stages[stage.name]
    return f"{run.id}/{stage.name}/{state.attempt}.{state.round}.{state.cuts}/{what}"


def _options(state: StageState) -> dict[str, Any] | None:
    return None if state.left_usd is None else {"budget": {"usd": state.left_usd}}


def _own_agent(run: Run, stage: Stage) -> str:
    """The name of the agent that is made for a stage."""
    digest = hashlib.sha256(run.id.encode()).hexdigest()[:12]
    return f"wf-{digest}-{stage.name}"


def _left_s(run: Run) -> float:
    """Until its deadline; never more than a whole run may take, should the clock have been set back meanwhile."""
    if run.deadline is None or run.definition.timeout_s is None:
        return float("inf")
    left_s = (datetime.fromisoformat(run.deadline) - datetime.now(UTC)).total_seconds()
    return min(max(left_s, 0.0), run.definition.timeout_s)
