"""Workflows: kept, run, looked at, cut short."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from skill_actors.workshop.workflows.runs import Runs
from skilld.http.answer import JsonAnswer
from skilld.http.route import Call, Parameter, Route
from skilld.http.routes.sessions import IDEMPOTENCY_KEY, idempotency_key
from skilld.http.routes.workshop.places import ANYBODY, OWNER, is_new, owner_of, owners_of

__all__ = ["ROUTES"]

_MAX_WAIT_S: Final = 600.0
_MAX_RUNS: Final = 1000
_RUNS: Final = 100


class WorkflowRequest(BaseModel):
    """A workflow: its stages, each with an agent, a profile or a type of the board. See the manual for their fields."""

    model_config = ConfigDict(extra="allow", strict=True)

    stage: list[dict[str, Any]] = Field(min_length=1, max_length=100)


class RunRequest(BaseModel):
    """Values for the parameters of the workflow."""

    model_config = ConfigDict(extra="forbid", strict=True)

    parameters: dict[str, str] = Field(default_factory=dict)


def runs_of(call: Call) -> Runs:
    """Workflows and runs as they are now. Raises Refused while there are none."""
    return call.services.workshop().runs


async def listing(call: Call) -> Response:
    return JsonAnswer({"items": list(await runs_of(call).workflows(owner_of(call))), "next": None})


async def show(call: Call) -> Response:
    return JsonAnswer(await runs_of(call).workflow_view(owner_of(call), call.params["name"]))


async def define(call: Call) -> Response:
    given = call.body.model_dump(exclude_unset=True)
    return JsonAnswer(
        await runs_of(call).define(call.peer.uid, call.params["name"], given, replace_it=not is_new(call))
    )


async def remove(call: Call) -> Response:
    await runs_of(call).remove(call.peer.uid, call.params["name"])
    return Response(status_code=204)


async def begin(call: Call) -> Response:
    run = await runs_of(call).begin(call.peer.uid, call.params["name"], call.body.parameters, key=idempotency_key(call))
    return JsonAnswer(run.view(), status_code=202, headers={"location": f"/v1/workshop/runs/{run.id}"})


async def runs(call: Call) -> Response:
    limit = int(call.number("limit", _RUNS, low=1, high=_MAX_RUNS))
    found = await runs_of(call).runs(owners_of(call), workflow=call.query.get("workflow"), limit=limit)
    return JsonAnswer({"items": list(found), "next": None})


async def show_run(call: Call) -> Response:
    wait_s = call.number("wait", 0.0, low=0.0, high=_MAX_WAIT_S)
    return JsonAnswer((await runs_of(call).wait_ended(owner_of(call), call.params["id"], wait_s)).view())


async def cancel(call: Call) -> Response:
    run = await call.services.workshop().runner.cancel(call.peer.uid, call.params["id"])
    return JsonAnswer(run.view())


async def reset(call: Call) -> Response:
    return JsonAnswer(dict(await call.services.workshop().runner.reset(call.peer.uid, call.params["name"])))


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/workshop/workflows",
        handler=listing,
        permission="read",
        summary="One's workflows.",
        parameters=(OWNER,),
    ),
    Route(
        method="GET",
        path="/v1/workshop/workflows/{name}",
        handler=show,
        permission="read",
        summary="One workflow, as it was defined.",
        parameters=(OWNER,),
    ),
    Route(
        method="PUT",
        path="/v1/workshop/workflows/{name}",
        handler=define,
        permission="send",
        summary="Keep a workflow; runs that go on are not changed. With `If-None-Match: *` only a new one.",
        body=WorkflowRequest,
    ),
    Route(
        method="DELETE",
        path="/v1/workshop/workflows/{name}",
        handler=remove,
        permission="send",
        summary="Forget a workflow. Its runs stay, and those that go on go on.",
        status=204,
    ),
    Route(
        method="POST",
        path="/v1/workshop/workflows/{name}/run",
        handler=begin,
        permission="send",
        summary="Begin a run. It goes on over restarts until it has ended.",
        body=RunRequest,
        optional_body=True,
        parameters=(IDEMPOTENCY_KEY,),
        status=202,
    ),
    Route(
        method="POST",
        path="/v1/workshop/workflows/{name}/reset",
        handler=reset,
        permission="send",
        summary="End its runs that go on, and forget those that have ended: how many. The workflow stays.",
    ),
    Route(
        method="GET",
        path="/v1/workshop/runs",
        handler=runs,
        permission="read",
        summary="One's runs without what their stages said: those that go on, then those that ended, newest first.",
        parameters=(
            Parameter(name="workflow", summary="Only runs of this one."),
            Parameter(name="limit", summary=f"At most so many, up to {_MAX_RUNS}; {_RUNS} if absent."),
            ANYBODY,
        ),
    ),
    Route(
        method="GET",
        path="/v1/workshop/runs/{id}",
        handler=show_run,
        permission="read",
        summary="One run, with what became of each stage so far.",
        parameters=(
            Parameter(name="wait", summary=f"Wait up to so many seconds for its end, {_MAX_WAIT_S:g} at most."),
            OWNER,
        ),
    ),
    Route(
        method="POST",
        path="/v1/workshop/runs/{id}/cancel",
        handler=cancel,
        permission="send",
        summary="End a run and what its agents do for it. It may still be `running` here, and goes on no more.",
    ),
)
