"""What happened in a session: the stored events, then new ones as they come."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from skill_actors.errors import Refused
from skill_actors.sessions.events import Position
from skilld.http.route import Call, Parameter, Route
from skilld.http.routes.sessions import session_id
from skilld.http.sse import JSON_LINES, SSE, EventStream

__all__ = ["ROUTES"]


async def follow(call: Call) -> Response:
    session = session_id(call)
    live = call.flag("follow", True)
    opened = call.services.sessions.follow(session, call.viewer, after=_after(call), live=live)
    return EventStream(opened, sse=call.accepts(SSE))


def _after(call: Call) -> Position:
    """Last-Event-ID wins: a browser that reconnects repeats the old query and tells there what it has by now."""
    header = call.headers.get("last-event-id")
    name, text = ("after", call.query.get("after")) if header is None else ("Last-Event-ID", header)
    if text is None:
        return Position()
    try:
        return Position.parse(text)
    except ValueError as error:
        raise Refused("bad_request", f"{name}: {error}") from error


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/sessions/{id}/events",
        handler=follow,
        permission="read",
        summary="Events after a position: those stored, then live ones until you leave.",
        parameters=(
            Parameter(name="after", summary="A position such as 12 or 12.340; the beginning if absent."),
            Parameter(name="follow", summary="false ends after the stored events; true if absent."),
            Parameter(name="Last-Event-ID", where="header", summary="As after, and stronger."),
        ),
        media=(JSON_LINES, SSE),
    ),
)
