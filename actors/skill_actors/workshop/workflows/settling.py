"""What a turn that has ended means for the stage that it was made for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from skill_actors.workshop.workflows.room import MAX_ERROR_BYTES, kept, result_bytes
from skill_actors.workshop.workflows.run import Run, StageState
from skill_actors.workshop.workflows.steps import MAX_CUTS

__all__ = ["NOTHING_LEFT", "TurnEnd", "allowances", "judged", "performed"]

_WHOLE: Final = frozenset({None, "end_turn", "stop_sequence", "completed", "success"})  # as for items of the board

NOTHING_LEFT: Final = "budget_exceeded: nothing is left of what the stage, or the run, may cost"


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEnd:
    """How a turn has ended. `error` is None for one that came to a good end; `cut`: a restart ended it."""

    text: str
    error: str | None = None
    cost_usd: float | None = 0.0
    cut: bool = False

    @classmethod
    def of(cls, turn: Mapping[str, Any]) -> Self:
        """From a turn's JSON form. One that has finished without a whole answer has not done anything."""
        result = turn.get("result") or {}
        why = _fault(turn["status"], result)
        return cls(
            text=str(result.get("text") or ""),
            error=None if why is None else kept(why, MAX_ERROR_BYTES),
            cost_usd=result.get("cost_usd"),
            cut=turn["status"] == "interrupted",
        )


def performed(run: Run, name: str, end: TurnEnd) -> StageState:
    """The stage, once its performer's turn has ended: over, looked at by its judge, or to be performed again."""
    stage, state = run.definition[name], run.stages[name].spend(end.cost_usd)
    if end.cut:
        return _cut(state, end)
    if end.error is not None:
        return _failed(state, end.error, retries=stage.retries)
    if stage.until is None:
        return _done(run, state, end.text)
    if stage.until.judge is not None:
        if state.left_usd == 0:
            return replace(state, status="failed", error=NOTHING_LEFT)
        return replace(state, answer=_short(run, end.text))
    wanted = stage.until.holds("done", end.text)
    return _looked_at(run, state, end.text, wanted, "it is not as the workflow asks", rounds=stage.until.rounds)


def judged(run: Run, name: str, end: TurnEnd) -> StageState:
    """The stage, once its judge's turn has ended."""
    stage, state = run.definition[name], run.stages[name].spend(end.cost_usd)
    assert stage.until is not None
    if end.cut:
        return _cut(state, end)
    if end.error is not None:
        why = f"the judge {stage.until.judge} failed: {end.error}"
        return _failed(state, why, retries=stage.retries)
    wanted = stage.until.holds("done", end.text)
    return _looked_at(run, state, state.answer or "", wanted, _short(run, end.text, 3), rounds=stage.until.rounds)


def allowances(run: Run, begin: tuple[str, ...]) -> Mapping[str, float | None]:
    """What each stage that begins may cost; None: there is no bound. 0 or less: nothing is left for it."""
    whole = run.definition.usd
    asked = {name: run.definition[name].usd for name in begin}
    bound = [name for name in begin if run.definition[name].type is None]  # workers have limits of their own
    if whole is None:
        return asked
    spent = run.cost_usd
    if spent is None:  # what is left of the whole, nobody knows
        return {**asked, **dict.fromkeys(bound, 0.0)}
    promised = sum(state.left_usd or 0.0 for state in run.stages.values() if state.status == "running")
    share = round((whole - spent - promised) / max(len(bound), 1), 9)
    shares = {name: share if (usd := asked[name]) is None else min(usd, share) for name in bound}
    return {**asked, **shares}


def _fault(status: str, result: Mapping[str, Any]) -> str | None:
    """Why a turn is no good end; None if it is one."""
    error = result.get("error")
    if status != "finished" or error:
        error = error or {}
        return f"{error.get('code', status)}: {error.get('message', 'the turn did not finish')}"
    stop_reason = result.get("stop_reason")
    if stop_reason not in _WHOLE:
        return f"not_whole: the turn ended with {stop_reason}, and its answer is not whole"
    return None if str(result.get("text") or "").strip() else "no_answer: the turn ended without an answer"


def _short(run: Run, text: str, part: int = 1) -> str:
    """So much of it as is kept."""
    return kept(text, result_bytes(len(run.stages)) // part)


def _done(run: Run, state: StageState, text: str) -> StageState:
    return replace(state, status="done", result=_short(run, text), error=None, answer=None)


def _failed(state: StageState, why: str, *, retries: int) -> StageState:
    """Over, or the next attempt."""
    if state.attempt > retries or state.left_usd == 0:
        return replace(state, status="failed", error=why, answer=None)
    return replace(
        state, attempt=state.attempt + 1, round=1, cuts=0, turn=None, judging=None, answer=None, error=why
    )  # fmt: skip


def _cut(state: StageState, end: TurnEnd) -> StageState:
    """A restart ended the turn, which says nothing about the stage; but not for ever."""
    if state.cuts >= MAX_CUTS:
        return replace(state, status="failed", error=f"it was broken off {state.cuts + 1} times; {end.error}")
    if state.answer is not None:  # the judge's turn
        return replace(state, cuts=state.cuts + 1, judging=None)
    return replace(state, cuts=state.cuts + 1, turn=None)


def _looked_at(run: Run, state: StageState, text: str, wanted: bool, why: str, *, rounds: int) -> StageState:
    if wanted:
        return _done(run, state, text)
    if state.left_usd == 0:
        return replace(state, status="failed", answer=None, error=NOTHING_LEFT)
    if state.round >= rounds:
        return replace(state, status="failed", answer=None, error=f"not what is wanted after {rounds} rounds: {why}")
    return replace(state, round=state.round + 1, cuts=0, turn=None, judging=None, answer=None, error=why)
