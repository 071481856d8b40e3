"""What is to be done next in a run. Pure: it decides, `runner` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from skill_actors.workshop.agents.templates import filled, places_in
from skill_actors.workshop.workflows.definition import Stage
from skill_actors.workshop.workflows.run import Run, RunStatus, StageState

__all__ = ["MAX_CUTS", "Decision", "decide", "judge_text", "outcome_of", "stage_text"]

MAX_CUTS: Final = 3
"""An attempt that a restart has cut is made again; one that was cut so often may be what ends the daemon."""

_CUT: Final = (
    "You were working on what follows when the daemon was restarted. Part of it may be done: look first at what is "
    "there, and do not do it twice."
)


@dataclass(frozen=True, slots=True)
class Decision:
    """The run as it is after what needs nobody to be asked, and the stages that begin now."""

    run: Run
    begin: Sequence[str]


def decide(run: Run) -> Decision:
    """Skip what cannot or must not be performed, begin what can be, and end the run when nothing is left."""
    if run.status != "running" or run.closing is not None:
        return Decision(run, ())
    begin: list[str] = []
    for stage in run.definition.ordered:
        state = run.stages[stage.name]
        if state.status != "waiting" or not all(run.stages[name].is_over for name in stage.waits_for):
            continue
        why = _why_not(run, stage)
        if why is None:
            begin.append(stage.name)
        else:
            run = run.with_stage(stage.name, replace(state, status="skipped", error=why))
    if begin or any(not state.is_over for state in run.stages.values()):
        return Decision(run, begin)
    status, error = outcome_of(run)
    return Decision(replace(run, status=status, error=error), ())


def outcome_of(run: Run) -> tuple[RunStatus, str | None]:
    """How a run has ended whose stages are all over."""
    failed = [name for name, state in run.stages.items() if state.status == "failed" and not run.definition[name].go_on]
    if failed:
        return "failed", f"stage {failed[0]}: {run.stages[failed[0]].error}"
    if any(state.status == "cancelled" for state in run.stages.values()):
        return "cancelled", None
    return "completed", None


def _why_not(run: Run, stage: Stage) -> str | None:
    """Why a stage is skipped whose time has come; None if it is performed."""
    if stage.when is not None:
        other = run.stages[stage.when.stage]
        if not stage.when.holds(other.status, other.result):
            return f"stage {stage.when.stage} is not as its condition asks"
    for name in stage.after:
        state = run.stages[name]
        expected = stage.when is not None and stage.when.stage == name  # it was asked about, and is as it was to be
        if state.status != "done" and not expected and not (state.status == "failed" and run.definition[name].go_on):
            return f"stage {name} was not done"
    return None


def stage_text(run: Run, name: str) -> str:
    """What the performer of a stage is told. The same for the same attempt and round, also after a restart.

    Raises:
        Refused: too_large, where the results that go into it make it so.

    """
    stage, state = run.definition[name], run.stages[name]
    text = filled(stage.prompt, _values(run, state))
    shown = set(places_in(stage.prompt))
    for other in stage.after:
        if other not in shown and run.stages[other].result:
            text = f"{text}\n\nResult of the stage {other}:\n\n{run.stages[other].result}"
    if state.cuts:
        text = f"{_CUT}\n\n{text}"
    if state.round > 1 and state.error:
        text = f"{text}\n\nYou did this before, and it was not yet what is wanted: {state.error}"
    return _no_command(text, stage.prompt)


def judge_text(run: Run, name: str) -> str:
    """What the judge of a stage is told. Raises as `stage_text`."""
    until, state = run.definition[name].until, run.stages[name]
    assert until is not None
    assert until.prompt is not None
    return _no_command(filled(until.prompt, {**_values(run, state), "result": state.answer or ""}), until.prompt)


def _no_command(text: str, prompt: str) -> str:
    """The text, which is no command of a skill unless its author has written one: an agent's answer makes none."""
    return f"\n{text}" if text.startswith("/") and not prompt.startswith("/") else text


def _values(run: Run, state: StageState) -> dict[str, str]:
    results = {name: each.result for name, each in run.stages.items()}
    return {**results, **run.arguments, "workflow": run.workflow, "run": run.id, "round": str(state.round)}
