"""Tools of what is planned: schedules, and workflows with their runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import Field

from skilld.mcp.desk import Desk
from skilld.mcp.texts import as_json, unless_none
from skilld.mcp.tool import NoParameters, Parameters, Tool, tool

__all__ = ["TOOLS"]

_MAX_MS: Final = 7 * 86_400_000


class NewSchedule(Parameters):
    """A message to an agent, and when."""

    name: str
    agent: str
    prompt: str
    every_s: float | None = Field(None, description="Every so many seconds, or:")
    cron: str | None = Field(None, description="Five fields: minute, hour, day, month, weekday.")
    timezone: str | None = Field(None, description="Of cron, such as Europe/Berlin; UTC if absent.")
    when_busy: Literal["skip", "queue"] | None = None


class ScheduleName(Parameters):
    """One schedule."""

    name: str


class WorkflowRun(Parameters):
    """A workflow, and values for its parameters."""

    name: str
    parameters: dict[str, str] = Field(default_factory=dict)


class RunStatus(Parameters):
    """One run, or the latest ones."""

    run: str | None = Field(None, description="Its id; the latest runs if absent.")
    timeout: int = Field(0, ge=0, le=_MAX_MS, description="How long to wait for its end, in milliseconds.")


class RunId(Parameters):
    """One run."""

    run: str


@tool("schedule_add", NewSchedule, "Have an agent told something again and again, or change when that is.")
async def schedule_add(desk: Desk, given: NewSchedule) -> str:
    rule = given.model_dump(exclude_none=True, exclude={"name", "agent", "prompt"})
    return as_json(await desk.client.define_schedule(given.name, given.agent, given.prompt, **rule))


@tool("schedule_list", NoParameters, "The schedules, and what became of them so far, as JSON.", reads=True)
async def schedule_list(desk: Desk, _: NoParameters) -> str:
    found = await desk.client.schedules()
    return as_json(found) if found else "There are no schedules."


@tool("schedule_remove", ScheduleName, "Remove a schedule; what it began goes on.")
async def schedule_remove(desk: Desk, given: ScheduleName) -> str:
    await desk.client.remove_schedule(given.name)
    return f"Removed schedule {given.name}."


@tool("schedule_run", ScheduleName, "Give the agent of a schedule its message now.")
async def schedule_run(desk: Desk, given: ScheduleName) -> str:
    begun = await desk.client.run_schedule(given.name)
    return f"Turn {begun['turn']} is queued. Call await with turn={begun['turn']} for its answer."


@tool("workflow_list", NoParameters, "The workflows, as JSON.", reads=True)
async def workflow_list(desk: Desk, _: NoParameters) -> str:
    found = await desk.client.workflows()
    return as_json(found) if found else "There are no workflows."


@tool("workflow_run", WorkflowRun, "Begin a run of a workflow. Gives its id, for workflow_status.")
async def workflow_run(desk: Desk, given: WorkflowRun) -> str:
    begun = await desk.client.run_workflow(given.name, given.parameters)
    return f"Began {_line(begun)}. Call workflow_status with run={begun['id']}."


@tool("workflow_status", RunStatus, "How a run stands, as JSON, with what became of each stage.", reads=True)
async def workflow_status(desk: Desk, given: RunStatus) -> str:
    if given.run is None:
        return unless_none(map(_line, await desk.client.runs(limit=20)), "There are no runs.")
    run = given.run
    found: dict[str, Any] = {}

    async def look(wait_s: float) -> bool:
        nonlocal found
        found = await desk.client.run(run, wait_s=wait_s)
        return found["ended"] is not None

    await desk.wait(given.timeout).until(look, lambda: _line(found) if found else f"run {run}")
    return as_json(found)


@tool("workflow_cancel", RunId, "End a run and what its agents do for it.")
async def workflow_cancel(desk: Desk, given: RunId) -> str:
    return f"Ended {_line(await desk.client.cancel_run(given.run))}."


def _line(run: Mapping[str, Any]) -> str:
    return f"run {run['id']} of {run['workflow']}: {run['status']}"


TOOLS: Final[tuple[Tool, ...]] = (
    schedule_add,
    schedule_list,
    schedule_remove,
    schedule_run,
    workflow_list,
    workflow_run,
    workflow_status,
    workflow_cancel,
)
