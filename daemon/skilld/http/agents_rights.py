"""What an agent's program may ask of the daemon. What is not here it may not, so that new routes begin closed.

It reads as its owner does, and uses the workshop: what its owner could do with an agent's tools. It makes conversations
and agents only below its own, and speaks to conversations only where it has made them. It decides no approval, changes
no setting, budget or policy, and nothing that lies outside the workshop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from skill_actors.errors import Refused
from skilld.http.route import Call

__all__ = ["MAY_CHANGE", "bound_settings", "check_child", "check_other", "may_be_used_by_agents"]

MAY_CHANGE: Final = frozenset(
    {
        ("POST", "/mcp"),
        ("DELETE", "/mcp"),
        ("POST", "/v1/sessions"),
        ("POST", "/v1/sessions/{id}/messages"),
        ("POST", "/v1/sessions/{id}/cancel"),
        ("PUT", "/v1/workshop/agents/{name}"),
        ("DELETE", "/v1/workshop/agents/{name}"),
        ("POST", "/v1/workshop/agents/{name}/reset"),
        ("POST", "/v1/workshop/ask"),
        ("POST", "/v1/workshop/await"),
        ("POST", "/v1/workshop/cast"),
        ("POST", "/v1/workshop/fan"),
        ("POST", "/v1/workshop/pipe"),
        ("POST", "/v1/workshop/board/claim"),
        ("POST", "/v1/workshop/board/items"),
        ("PATCH", "/v1/workshop/board/items/{id}"),
        ("POST", "/v1/workshop/board/items/{id}/cancel"),
        ("POST", "/v1/workshop/board/items/{id}/claim"),
        ("POST", "/v1/workshop/board/items/{id}/complete"),
        ("POST", "/v1/workshop/board/items/{id}/fail"),
        ("POST", "/v1/workshop/board/items/{id}/heartbeat"),
        ("POST", "/v1/workshop/board/items/{id}/release"),
        ("POST", "/v1/workshop/board/items/{id}/start"),
        ("POST", "/v1/workshop/events"),
        ("PUT", "/v1/workshop/schedules/{name}"),
        ("DELETE", "/v1/workshop/schedules/{name}"),
        ("POST", "/v1/workshop/schedules/{name}/run"),
        ("PUT", "/v1/workshop/store/{namespace}/{key:path}"),
        ("DELETE", "/v1/workshop/store/{namespace}/{key:path}"),
        ("POST", "/v1/workshop/workflows/{name}/run"),
        ("POST", "/v1/workshop/runs/{id}/cancel"),
    }
)
"""Method and path of each route that changes something and is for agents too."""


_CHOSEN: Final = frozenset(
    {"title", "system", "model", "limits", "labels", "on_disconnect", "artifacts", "budget", "schema", "parent"}
)


def may_be_used_by_agents(method: str, path: str) -> bool:
    """Whether a route is for agents; what it does for them is bound besides."""
    return method == "GET" or (method, path) in MAY_CHANGE


async def bound_settings(call: Call, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a new conversation has to have where an agent makes it: it works for the agent's own, under its policy.

    Raises:
        Refused: forbidden, for a setting that says what the new one may do, or for whom else it works.

    """
    agent = call.peer.agent
    if agent is None:
        return {}
    for name in wanted:
        if name not in _CHOSEN:
            raise Refused("forbidden", f"{name}: no agent says this of a session that it makes")
    if wanted.get("parent") not in (None, agent):
        raise Refused("forbidden", f"parent: what your agent makes works for its own session, {agent}")
    policy = (await call.services.sessions.get(agent, call.viewer)).get("policy")
    return {"parent": agent, **({} if policy is None else {"policy": policy})}


async def check_child(call: Call, session: str) -> None:
    """Let an agent touch a conversation only where it works for the agent's own.

    Raises:
        Refused: forbidden, not_found.

    """
    agent = call.peer.agent
    if agent is None:
        return
    found = await call.services.sessions.get(session, call.viewer)
    if agent not in found.get("parents", ()):
        raise Refused("forbidden", f"session {session} was not made by your agent: it is not yours to touch")


def check_other(call: Call, name: str, what: str) -> None:
    """Keep an agent from putting an end to itself. Raises Refused("forbidden")."""
    agent = call.peer.agent
    if agent is None:
        return
    found = call.services.workshop().agents.agent_of(agent)
    if found == (call.peer.uid, name):
        raise Refused("forbidden", f"agent {name!r} cannot {what} itself")
