"""Agents of the workshop: defined, looked at, begun anew, let go of; profiles, and what holds for later ones."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from skill_actors.errors import Refused
from skill_actors.workshop.agents import AgentDesk
from skilld.http.agents_rights import check_other
from skilld.http.answer import JsonAnswer
from skilld.http.descent import refuse_own
from skilld.http.route import Call, Parameter, Route
from skilld.http.routes.sessions import FallbackSetting, SkillChoice
from skilld.http.routes.workshop.places import ANYBODY, OWNER, is_new, owner_of, owners_of

__all__ = ["ROUTES", "desk_of"]

_MAX_LAST: Final = 1000
# Settings that hold an agent's tools.
_BINDING: Final = frozenset({"policy", "max_cost_usd", "options", "backend", "fallback", "workshop_tools"})


class _Settings(BaseModel):
    """What agents have in common; what is absent is the profile's, the owner's default, the backend's own choice."""

    model_config = ConfigDict(extra="forbid", strict=True)

    backend: str | None = None
    options: dict[str, Any] | None = None
    fallback: list[str | FallbackSetting] | None = None
    model: str | None = None
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    max_turns: int | None = None
    policy: str | dict[str, Any] | None = None
    system: Literal["append", "replace"] | None = None
    max_cost_usd: float | None = None
    timeout_s: float | None = None
    queue: int | None = None
    worktree: bool | None = None
    workshop_tools: bool | list[str] | None = None
    git_context: bool | None = None


class ProfileSettings(_Settings):
    """What agents made from the profile are to be."""

    role: str | None = None
    context: str | None = None
    skill: str | None = None
    skills: list[str] | SkillChoice | None = None
    cwd: str | None = None
    labels: dict[str, str] | None = None


class AgentSettings(ProfileSettings):
    """What the agent is to be, laid over the profile that it is made from."""

    profile: str | None = None


class ConfigChanges(BaseModel):
    """What is to hold for agents defined from now on; null takes it away. `max_cost_usd` caps all of them together."""

    model_config = ConfigDict(extra="forbid", strict=True)

    context: str | None = None
    defaults: _Settings | None = None
    max_cost_usd: Annotated[float, Field(ge=0)] | None = None


class MergeRequest(BaseModel):
    """`commit`: first commit what is not committed in the worktree, with this message."""

    model_config = ConfigDict(extra="forbid", strict=True)

    commit: Annotated[str, Field(min_length=1, max_length=10_000)] | None = None


def desk_of(call: Call) -> AgentDesk:
    """The agents as they are now. Raises Refused while there are none."""
    return call.services.workshop().agents


async def listing(call: Call) -> Response:
    agents, chosen, dismissed = desk_of(call).agents, owners_of(call), call.flag("dismissed", default=False)
    found: list[dict[str, Any]] = []
    for owner_uid in agents.owners() if chosen is None else (chosen,):
        found += await agents.list(owner_uid, dismissed=dismissed)
    return JsonAnswer({"items": found, "next": None})


async def define(call: Call) -> Response:
    settings = _given(call.body)
    if not _BINDING.isdisjoint(settings):
        refuse_own(call.peer, "say what an agent may do and spend")
    check_other(call, call.params["name"], "replace")
    agent = await desk_of(call).define(
        call.peer.uid, call.params["name"], settings, replace_it=not is_new(call), maker=call.peer.agent
    )
    return JsonAnswer(agent)


async def show(call: Call) -> Response:
    return JsonAnswer(await desk_of(call).agents.get(owner_of(call), call.params["name"]))


async def dismiss(call: Call) -> Response:
    check_other(call, call.params["name"], "dismiss")
    await desk_of(call).dismiss(call.peer.uid, call.params["name"])
    return Response(status_code=204)


async def reset(call: Call) -> Response:
    check_other(call, call.params["name"], "reset")
    return JsonAnswer(await desk_of(call).reset(call.peer.uid, call.params["name"]))


async def revive(call: Call) -> Response:
    return JsonAnswer(await desk_of(call).agents.revive(call.peer.uid, call.params["name"]))


async def history(call: Call) -> Response:
    last = call.number("last", 10, low=1, high=_MAX_LAST)
    found = await desk_of(call).agents.history(owner_of(call), call.params["name"], last=int(last))
    return JsonAnswer({"items": list(found), "next": None})


async def cost(call: Call) -> Response:
    return JsonAnswer(await desk_of(call).agents.cost(owner_of(call)))


async def git_summary(call: Call) -> Response:
    return JsonAnswer(await desk_of(call).folders.summary(call.peer.uid, call.params["name"]))


async def git_diff(call: Call) -> Response:
    return JsonAnswer(await desk_of(call).folders.diff(call.peer.uid, call.params["name"]))


async def worktrees(call: Call) -> Response:
    found: list[dict[str, Any]] = await desk_of(call).folders.worktrees(call.peer.uid)
    found += await call.services.workshop().workers.worktrees(call.peer.uid)
    return JsonAnswer({"items": found, "next": None})


async def merge_worktree(call: Call) -> Response:
    request: MergeRequest = call.body
    return JsonAnswer(await desk_of(call).folders.merge(call.peer.uid, call.params["name"], commit=request.commit))


async def remove_worktree(call: Call) -> Response:
    force = call.flag("force", default=False)
    await desk_of(call).folders.remove(call.peer.uid, call.params["name"], force=force)
    return Response(status_code=204)


async def show_config(call: Call) -> Response:
    return JsonAnswer((await desk_of(call).setups.get(owner_of(call))).view())


async def configure(call: Call) -> Response:
    changes: dict[str, Any] = call.body.model_dump(exclude_unset=True)
    if not changes:
        raise Refused("bad_request", "nothing to change: the body names no field")
    refuse_own(call.peer, "say what its owner's agents may do and spend")
    return JsonAnswer((await desk_of(call).setups.configure(call.peer.uid, changes)).view())


async def profiles(call: Call) -> Response:
    return JsonAnswer({"items": list(await desk_of(call).profiles.list(owner_of(call))), "next": None})


async def define_profile(call: Call) -> Response:
    refuse_own(call.peer, "say what its owner's agents may do and spend")
    return JsonAnswer(await desk_of(call).profiles.define(call.peer.uid, call.params["name"], _given(call.body)))


async def show_profile(call: Call) -> Response:
    return JsonAnswer(await desk_of(call).profiles.get(owner_of(call), call.params["name"]))


async def remove_profile(call: Call) -> Response:
    await desk_of(call).profiles.remove(call.peer.uid, call.params["name"])
    return Response(status_code=204)


def _given(body: BaseModel) -> dict[str, Any]:
    settings: dict[str, Any] = body.model_dump(exclude_unset=True)
    return settings


_AGENT: Final = "/v1/workshop/agents/{name}"
_PROFILE: Final = "/v1/workshop/profiles/{name}"

ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/workshop/agents",
        handler=listing,
        permission="read",
        summary="Your agents by name: what each is, does, and has cost.",
        parameters=(Parameter(name="dismissed", summary="true: those that were dismissed as well."), ANYBODY),
    ),
    Route(
        method="PUT",
        path=_AGENT,
        handler=define,
        permission="send",
        summary="Define an agent, in place of the one of this name.",
        body=AgentSettings,
        optional_body=True,
        parameters=(Parameter(name="If-None-Match", where="header", summary="`*`: only if there is none."),),
    ),
    Route(
        method="GET",
        path=_AGENT,
        handler=show,
        permission="read",
        summary="Everything about one agent.",
        parameters=(OWNER,),
    ),
    Route(
        method="DELETE",
        path=_AGENT,
        handler=dismiss,
        permission="send",
        summary="Dismiss an agent: what it does is cancelled, what it has cost stays known.",
        status=204,
    ),
    Route(
        method="POST",
        path=f"{_AGENT}/reset",
        handler=reset,
        permission="send",
        summary="Give an agent a conversation anew, with all its options.",
    ),
    Route(
        method="POST",
        path=f"{_AGENT}/revive",
        handler=revive,
        permission="send",
        summary="Let an agent that crashed too often go on.",
    ),
    Route(
        method="GET",
        path=f"{_AGENT}/history",
        handler=history,
        permission="read",
        summary="The latest turns of its conversation that have ended, oldest first.",
        parameters=(Parameter(name="last", summary=f"How many, 1 to {_MAX_LAST}; 10 if absent."), OWNER),
    ),
    Route(
        method="GET",
        path=f"{_AGENT}/git",
        handler=git_summary,
        permission="read",
        summary="How the repository of its folder stands.",
    ),
    Route(
        method="GET",
        path=f"{_AGENT}/git/diff",
        handler=git_diff,
        permission="read",
        summary="What is not committed there, or not merged of a worktree, as a patch; `cut` where there is more.",
    ),
    Route(
        method="POST",
        path=f"{_AGENT}/worktree/merge",
        handler=merge_worktree,
        permission="send",
        summary="Merge its worktree into the repository, or name the paths that are in conflict and touch nothing.",
        body=MergeRequest,
        optional_body=True,
    ),
    Route(
        method="DELETE",
        path=f"{_AGENT}/worktree",
        handler=remove_worktree,
        permission="send",
        summary="Remove the worktree of an agent that was dismissed, and its branch.",
        parameters=(Parameter(name="force", summary="true: also what is not committed or merged."),),
        status=204,
    ),
    Route(
        method="GET",
        path="/v1/workshop/worktrees",
        handler=worktrees,
        permission="read",
        summary="The worktrees of your agents, those that were dismissed too, and of items of your board.",
    ),
    Route(
        method="GET",
        path="/v1/workshop/cost",
        handler=cost,
        permission="read",
        summary="What each of your agents has ever cost, the dismissed ones too, and all together.",
        parameters=(OWNER,),
    ),
    Route(
        method="GET",
        path="/v1/workshop/config",
        handler=show_config,
        permission="read",
        summary="What holds for agents that you define from now on.",
        parameters=(OWNER,),
    ),
    Route(
        method="PATCH",
        path="/v1/workshop/config",
        handler=configure,
        permission="send",
        summary="Change what holds for agents that you define from now on.",
        body=ConfigChanges,
    ),
    Route(
        method="GET",
        path="/v1/workshop/profiles",
        handler=profiles,
        permission="read",
        summary="Your profiles.",
        parameters=(OWNER,),
    ),
    Route(
        method="PUT",
        path=_PROFILE,
        handler=define_profile,
        permission="send",
        summary="Define a profile, in place of the one of this name.",
        body=ProfileSettings,
        optional_body=True,
    ),
    Route(
        method="GET",
        path=_PROFILE,
        handler=show_profile,
        permission="read",
        summary="One profile.",
        parameters=(OWNER,),
    ),
    Route(
        method="DELETE",
        path=_PROFILE,
        handler=remove_profile,
        permission="send",
        summary="Remove a profile; agents that were made from it stay.",
        status=204,
    ),
)
