"""Schedules: made, looked at, switched, run by hand, removed."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from skill_actors.errors import Refused
from skill_actors.ids import new_id
from skill_actors.workshop.schedules import RuleFault, Schedules, ScheduleSettings
from skilld.http.answer import JsonAnswer
from skilld.http.peer import Permission
from skilld.http.route import Call, Route
from skilld.http.routes.sessions import IDEMPOTENCY_KEY, idempotency_key
from skilld.http.routes.workshop.places import ANYBODY, OWNER, is_new, owner_of, owners_of

__all__ = ["ROUTES"]


class ScheduleRequest(BaseModel):
    """A message to an agent, and when: `every_s`, or `cron` with its time zone."""

    model_config = ConfigDict(extra="forbid", strict=True)

    agent: str
    prompt: str
    every_s: float | None = None
    cron: str | None = Field(default=None, description="Five fields, as Debian's cron reads them.")
    timezone: str = Field(default="UTC", description="Of `cron`: an IANA name.")
    jitter_s: float = Field(default=0.0, description="Each run begins up to so many seconds late.")
    catch_up: Literal["skip", "once", "all"] = Field(default="skip", description="What missed times become.")
    when_busy: Literal["skip", "queue"] = "skip"
    max_runs: int | None = None
    until: str | None = Field(default=None, description="RFC 3339; later times are not run.")
    enabled: bool = True


def schedules_of(call: Call) -> Schedules:
    """The schedules as they are now. Raises Refused while there are none."""
    return call.services.workshop().schedules


async def listing(call: Call) -> Response:
    found = schedules_of(call).of(owners_of(call))
    return JsonAnswer({"items": [{**each.to_json(), "owner_uid": each.owner_uid} for each in found], "next": None})


async def show(call: Call) -> Response:
    return JsonAnswer(schedules_of(call).get(owner_of(call), call.params["name"]).to_json())


async def define(call: Call) -> Response:
    try:
        settings = ScheduleSettings.from_json(call.body.model_dump())
    except RuleFault as error:
        raise Refused("bad_request", str(error)) from error
    made = await schedules_of(call).define(call.peer.uid, call.params["name"], settings, replace_it=not is_new(call))
    return JsonAnswer(made.to_json())


async def enable(call: Call) -> Response:
    return JsonAnswer((await schedules_of(call).enable(call.peer.uid, call.params["name"], True)).to_json())


async def disable(call: Call) -> Response:
    return JsonAnswer((await schedules_of(call).enable(call.peer.uid, call.params["name"], False)).to_json())


async def run(call: Call) -> Response:
    scheduler = call.services.workshop().scheduler
    name = call.params["name"]
    turn = await scheduler.run_now(call.peer.uid, name, key=idempotency_key(call) or new_id("run"))
    return JsonAnswer({"schedule": name, "turn": turn}, status_code=202, headers={"location": f"/v1/turns/{turn}"})


async def remove(call: Call) -> Response:
    await schedules_of(call).remove(call.peer.uid, call.params["name"])
    return Response(status_code=204)


_PATH: Final = "/v1/workshop/schedules"


def _route(method: Any, tail: str, handler: Any, summary: str, **more: Any) -> Route:
    permission: Permission = "read" if method == "GET" else "send"
    return Route(method=method, path=f"{_PATH}{tail}", handler=handler, permission=permission, summary=summary, **more)


ROUTES: Final = (
    _route("GET", "", listing, "One's schedules, and what became of them so far.", parameters=(ANYBODY,)),
    _route("GET", "/{name}", show, "One schedule.", parameters=(OWNER,)),
    _route(
        "PUT",
        "/{name}",
        define,
        "Make a schedule, or change it: then it goes on from now. With `If-None-Match: *` only a new one.",
        body=ScheduleRequest,
    ),
    _route("POST", "/{name}/enable", enable, "Let a schedule run, from now on."),
    _route("POST", "/{name}/disable", disable, "Keep a schedule from running."),
    _route(
        "POST",
        "/{name}/run",
        run,
        "Give the agent the message now; the times of the schedule stay as they are.",
        parameters=(IDEMPOTENCY_KEY,),
        status=202,
    ),
    _route("DELETE", "/{name}", remove, "Remove a schedule. What it began goes on.", status=204),
)
