"""Traces: all that belongs to one request of a program."""

from __future__ import annotations

from functools import partial
from typing import Final

from starlette.responses import Response

from skilld.http.answer import large_answer
from skilld.http.route import Call, Route
from skilld.http.routes.monitor.asking import asked_uid
from skilld.monitor.traces import find_trace

__all__ = ["ROUTES"]


async def trace(call: Call) -> Response:
    found = await call.services.monitor().ask(partial(find_trace, uid=asked_uid(call), id=call.params["id"]))
    return await large_answer(found)


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/monitor/traces/{id}",
        handler=trace,
        permission="read",
        summary="A trace's spans and events, the oldest first: by its id, what that begins with, or an event's number.",
    ),
)
