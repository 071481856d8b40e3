"""Alerts: what was found in what was reported, and who has seen it; and the rules by which it was found."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from skill_actors.errors import Refused
from skilld.http.answer import JsonAnswer
from skilld.http.route import Call, Parameter, Route
from skilld.http.routes.monitor.asking import asked_id, asked_uid
from skilld.monitor.alerts.alert import CATEGORIES, SEVERITIES
from skilld.monitor.alerts.store import MAX_PAGE, WantedAlerts

__all__ = ["ROUTES"]

_MAX_WAIT_S: Final = 60.0
_STATES: Final = ("open", "acknowledged")
_MOST_DIGITS: Final = 18  # of what the store takes as a number


class Acknowledgement(BaseModel):
    """What somebody says who has seen an alert."""

    model_config = ConfigDict(extra="forbid", strict=True)

    note: Annotated[str, Field(max_length=2_000)] = ""


async def alerts(call: Call) -> Response:
    after, before = asked_id(call, "after"), asked_id(call, "before")
    wait_s = call.number("wait", 0, low=0, high=_MAX_WAIT_S)
    if wait_s and after is None:
        raise Refused("bad_request", "wait goes with after: there is nothing to wait for in the past")
    wanted = WantedAlerts(
        uid=asked_uid(call),
        state=_one_of(call, "state", _STATES),
        severity=_one_of(call, "severity", SEVERITIES),
        category=_one_of(call, "category", CATEGORIES),
        **{name: call.query.get(name) for name in ("rule", "agent", "session")},
        after=after,
        before=before,
        limit=int(call.number("limit", 100, low=1, high=MAX_PAGE)),
    )
    return JsonAnswer({"items": await call.services.alerts().find(wanted, wait_s)})


async def alert(call: Call) -> Response:
    return JsonAnswer(await call.services.alerts().get(_alert_id(call), asked_uid(call)))


async def acknowledge(call: Call) -> Response:
    id, note = _alert_id(call), call.body.note
    if not note.isprintable():
        raise Refused("bad_request", "note: expected text of one line")
    found = await call.services.alerts().acknowledge(id, asked_uid(call), call.peer.uid, note)
    call.services.audit("monitor.alert_acknowledged", {"uid": call.peer.uid, "pid": call.peer.pid, "alert": id})
    return JsonAnswer(found)


async def rules(call: Call) -> Response:
    return JsonAnswer(await call.services.monitor_rules())


def _alert_id(call: Call) -> int:
    text = call.params["id"]
    if not (text.isascii() and text.isdigit()) or len(text) > _MOST_DIGITS:
        raise Refused("not_found", f"there is no alert {text[:40]!a}; its id is a number")
    return int(text)


def _one_of(call: Call, name: str, allowed: tuple[str, ...]) -> str | None:
    value = call.query.get(name)
    if value is not None and value not in allowed:
        raise Refused("bad_request", f"{name}={value[:40]!a}: expected one of {', '.join(allowed)}")
    return value


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/monitor/alerts",
        handler=alerts,
        permission="read",
        summary="What was found in what one's programs and conversations say; with the role admin everybody's.",
        parameters=(
            Parameter(name="state", summary="Only those that are open, or acknowledged."),
            Parameter(name="severity", summary="Only those of this severity or a worse one: low, medium, high."),
            Parameter(name="category", summary="Only those of this category."),
            Parameter(name="rule", summary="Only those of this rule."),
            Parameter(name="agent", summary="Only those of this agent."),
            Parameter(name="session", summary="Only those of this session."),
            Parameter(name="after", summary="Only those that came after this id, the oldest first."),
            Parameter(name="before", summary="Only those that came before this id: the next page."),
            Parameter(name="wait", summary="With after: wait up to so many seconds for the first."),
            Parameter(name="limit", summary="How many at most; 100 without it, 1000 are the most."),
        ),
    ),
    Route(
        method="GET",
        path="/v1/monitor/alerts/{id}",
        handler=alert,
        permission="read",
        summary="One alert.",
    ),
    Route(
        method="POST",
        path="/v1/monitor/alerts/{id}/ack",
        handler=acknowledge,
        permission="send",
        summary="Note that one has seen it. The first word counts: a second one is a conflict.",
        body=Acknowledgement,
        optional_body=True,
    ),
    Route(
        method="GET",
        path="/v1/monitor/rules",
        handler=rules,
        permission="read",
        summary="The rules in force, and why files of rules are not, if they are not.",
    ),
)
