"""A whole workshop at once: a setup file applied, what there is as such a file, and how all of it stands."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from skill_actors.workshop.setup_file.definition import DEFAULT_NAME
from skill_actors.workshop.setup_file.setups import WhatToDo
from skilld.http.answer import JsonAnswer
from skilld.http.descent import refuse_own
from skilld.http.route import Call, Parameter, Route
from skilld.http.routes.workshop.places import OWNER, owner_of

__all__ = ["ROUTES"]

_RUNS: Final = 20
_MAX_NAMESPACES: Final = 100


class SetupRequest(BaseModel):
    """A setup file as JSON; see the manual for its sections.

    With `dry_run` nothing is changed. `prune` removes what the file has made and says no more, `reset` lets agents
    begin anew where a change takes that. `plan` is that of a dry run: refused if by now something else is to be done.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    file: dict[str, Any]
    dry_run: bool = False
    prune: bool = False
    reset: bool = False
    plan: Annotated[str, Field(max_length=100)] | None = None


async def apply(call: Call) -> Response:
    request: SetupRequest = call.body
    if not request.dry_run:
        refuse_own(call.peer, "set up the workshop")
    how = WhatToDo(dry_run=request.dry_run, prune=request.prune, reset=request.reset, plan=request.plan)
    return JsonAnswer(await call.services.workshop().setup_files.apply(call.viewer.uid, request.file, how))


async def export(call: Call) -> Response:
    namespaces = [name for name in call.query.get("store", "").split(",") if name][:_MAX_NAMESPACES]
    found = await call.services.workshop().setup_files.export(
        owner_of(call),
        name=call.query.get("name", DEFAULT_NAME),
        board=call.flag("board", default=False),
        namespaces=namespaces,
    )
    return JsonAnswer(found)


async def status(call: Call) -> Response:
    workshop, owner_uid = call.services.workshop(), owner_of(call)
    budget = await workshop.agents.budgets.show(owner_uid)
    return JsonAnswer(
        {
            "agents": list(await workshop.agents.agents.list(owner_uid)),
            "board": dict(await workshop.board.summary(owner_uid)),
            "workers": list(workshop.workers.list(owner_uid)),
            "schedules": [each.to_json() for each in workshop.schedules.of(owner_uid)],
            "runs": list(await workshop.runs.runs(owner_uid, limit=_RUNS)),
            "budget": {"since": budget["since"], "total": budget["total"]},
        }
    )


ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/workshop/setup",
        handler=apply,
        permission="send",
        summary="Make agents, profiles, workers, workflows, schedules, items and values as a setup file says.",
        body=SetupRequest,
    ),
    Route(
        method="GET",
        path="/v1/workshop/setup",
        handler=export,
        permission="read",
        summary="What there is, as a setup file that makes the same; `left_out` says what is not in it, and why.",
        parameters=(
            Parameter(name="name", summary=f"Of the file; {DEFAULT_NAME} if absent."),
            Parameter(name="board", summary="true: with the items that are still to be done."),
            Parameter(name="store", summary="Namespaces whose values are in it, with commas."),
            OWNER,
        ),
    ),
    Route(
        method="GET",
        path="/v1/workshop/status",
        handler=status,
        permission="read",
        summary="Agents, board, workers, schedules, the latest runs and what was spent, in one answer.",
        parameters=(OWNER,),
    ),
)
