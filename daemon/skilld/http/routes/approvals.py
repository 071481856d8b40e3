"""Calls that wait for somebody's word: listed, looked at, followed, decided."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from skill_actors.errors import Refused
from skill_actors.ids import is_id
from skill_actors.sessions.approvals import Approver
from skilld.http.answer import JsonAnswer
from skilld.http.approval_feed import follow_approvals
from skilld.http.descent import refuse_own
from skilld.http.route import Call, Parameter, Route
from skilld.http.sse import JSON_LINES, SSE, EventStream

__all__ = ["ROUTES"]

_MAX_PAGE: Final = 1000
_STATUSES: Final = ("pending", "allowed", "denied", "expired", "cancelled")


class ApprovalDecision(BaseModel):
    """What somebody says to a call that waits. `input` is what an edited call is made with instead."""

    model_config = ConfigDict(extra="forbid", strict=True)

    decision: Literal["allow", "deny", "edit"]
    scope: Literal["once", "session"] = "once"
    input: dict[str, Any] | None = None
    reason: str | None = None


async def listing(call: Call) -> Response:
    return JsonAnswer(
        await call.services.approvals.list(
            _sees_of(call),
            status=_status(call),
            session=_session(call),
            limit=int(call.number("limit", 100, low=1, high=_MAX_PAGE)),
            cursor=call.query.get("cursor"),
        )
    )


async def show(call: Call) -> Response:
    return JsonAnswer(await call.services.approvals.get(_approval_id(call), _sees_of(call)))


async def follow(call: Call) -> Response:
    opened = follow_approvals(
        call.services.approvals,
        call.services.bus,
        _sees_of(call),
        session=_session(call),
        live=call.flag("follow", True),
    )
    return EventStream(opened, sse=call.accepts(SSE))


async def decide(call: Call) -> Response:
    approval, said = _approval_id(call), call.body.model_dump(exclude_none=True)
    view = await call.services.approvals.decide(approval, _approver(call), said)
    _note(call, view, said["decision"], scope=said["scope"])
    return JsonAnswer(view)


async def revoke(call: Call) -> Response:
    view = await call.services.approvals.revoke(_approval_id(call), _approver(call))
    _note(call, view, "revoke")
    return JsonAnswer(view)


def _approver(call: Call) -> Approver:
    """The peer, unless the daemon itself has started it: a tool that reaches the socket answers for nobody."""
    refuse_own(call.peer, "decide about calls")
    return Approver(uid=call.peer.uid)


def _note(call: Call, view: dict[str, Any], decision: str, **more: str) -> None:
    """Who said what to which call, for the audit log; of the call itself nothing but the hash of what was shown."""
    facts = {name: view.get(name) for name in ("id", "session", "turn", "call", "status", "digest")}
    peer = {"uid": call.peer.uid, "gid": call.peer.gid, "pid": call.peer.pid}
    call.services.audit("approval", {**peer, **facts, "decision": decision, **more})


def _sees_of(call: Call) -> int | None:
    """Whose approvals the peer sees; None: everybody's."""
    return None if "approve" in call.permissions else call.peer.uid


def _approval_id(call: Call) -> str:
    value = call.params["id"]
    if not is_id(value, "apr"):
        raise Refused("not_found", f"no approval {value[:60]!a}")
    return value


def _session(call: Call) -> str | None:
    value = call.query.get("session")
    if value is not None and not is_id(value, "ses"):
        raise Refused("bad_request", f"session={value[:60]!a}: not the id of a session")
    return value


def _status(call: Call) -> str | None:
    value = call.query.get("status", "pending")
    if value not in (*_STATUSES, "all"):
        raise Refused("bad_request", f"status={value[:40]!a}: expected {', '.join(_STATUSES)} or all")
    return None if value == "all" else value


_SESSION: Final = Parameter(name="session", summary="Only those of this session.")

ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/approvals",
        handler=listing,
        permission="read",
        summary="Calls that wait for an approval, newest first: of your sessions, with the role approve of all.",
        parameters=(
            Parameter(name="status", summary="pending (if absent), allowed, denied, expired, cancelled, or all."),
            _SESSION,
            Parameter(name="limit", summary=f"How many at most, 1 to {_MAX_PAGE}; 100 if absent."),
            Parameter(name="cursor", summary="`next` of the page before."),
        ),
    ),
    Route(
        method="GET",
        path="/v1/approvals/events",
        handler=follow,
        permission="read",
        summary="What waits for an approval now, then what comes to wait and what is decided, until you leave.",
        parameters=(
            _SESSION,
            Parameter(name="follow", summary="false ends after what waits now; true if absent."),
        ),
        media=(JSON_LINES, SSE),
    ),
    Route(
        method="GET",
        path="/v1/approvals/{id}",
        handler=show,
        permission="read",
        summary="One approval, with all that the call would run with.",
    ),
    Route(
        method="POST",
        path="/v1/approvals/{id}",
        handler=decide,
        permission="approve",
        summary="Allow, edit or deny a call that waits. The first word counts: a second one is a conflict.",
        body=ApprovalDecision,
    ),
    Route(
        method="DELETE",
        path="/v1/approvals/{id}",
        handler=revoke,
        permission="approve",
        summary="Take back what was allowed for a session: the same call is asked for again.",
    ),
)
