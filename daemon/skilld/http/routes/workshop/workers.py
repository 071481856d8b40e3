"""Board workers: started, looked at, stopped."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from skill_actors.workshop.board import DEFAULT_LEASE_S
from skilld.http.answer import JsonAnswer
from skilld.http.descent import refuse_own
from skilld.http.route import Call, Parameter, Route
from skilld.http.routes.workshop.places import OWNER, owner_of

__all__ = ["ROUTES"]

_DRAIN_S: Final = 30.0
_MAX_DRAIN_S: Final = 3600.0


class NewWorker(BaseModel):
    """A worker: `count` agents called NAME-1, NAME-2 and so on, which do items of these types, one each at a time.

    The agents are made from `profile` with `settings` over it, and have a conversation anew for each item; with
    `worktree` also a worktree of their project's repository, merged when the item is done where `merge` says so.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    types: list[str]
    count: int = 1
    profile: str | None = None
    settings: dict[str, Any] = {}
    lease_s: float = DEFAULT_LEASE_S
    worktree: bool = False
    merge: Literal["on_done"] | None = None


async def start(call: Call) -> Response:
    given = call.body.model_dump(exclude_unset=True)
    name = given.pop("name")
    if given.get("settings"):
        refuse_own(call.peer, "say what an agent may do and spend")
    view = await call.services.workshop().workers.start(call.viewer.uid, name, given)
    return JsonAnswer(view, status_code=201, headers={"location": f"/v1/workshop/board/workers/{name}"})


async def listing(call: Call) -> Response:
    return JsonAnswer({"items": list(call.services.workshop().workers.list(owner_of(call)))})


async def show(call: Call) -> Response:
    return JsonAnswer(call.services.workshop().workers.get(owner_of(call), call.params["name"]))


async def stop(call: Call) -> Response:
    drain_s = call.number("drain_s", _DRAIN_S, low=0.0, high=_MAX_DRAIN_S)
    workers = call.services.workshop().workers
    return JsonAnswer(await workers.stop(call.viewer.uid, call.params["name"], drain_s=drain_s))


ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/workshop/board/workers",
        handler=start,
        permission="send",
        summary="Start a worker. It goes on after a restart, until it is stopped.",
        body=NewWorker,
        status=201,
    ),
    Route(
        method="GET",
        path="/v1/workshop/board/workers",
        handler=listing,
        permission="read",
        summary="The workers, and what each of their agents does now.",
        parameters=(OWNER,),
    ),
    Route(
        method="GET",
        path="/v1/workshop/board/workers/{name}",
        handler=show,
        permission="read",
        summary="One worker, and what each of its agents does now.",
        parameters=(OWNER,),
    ),
    Route(
        method="DELETE",
        path="/v1/workshop/board/workers/{name}",
        handler=stop,
        permission="send",
        summary="Stop a worker: what its agents have is finished, or given back when the time is over.",
        parameters=(
            Parameter(name="drain_s", summary=f"Seconds to wait, 0 to {_MAX_DRAIN_S:g}; {_DRAIN_S:g} if absent."),
        ),
    ),
)
