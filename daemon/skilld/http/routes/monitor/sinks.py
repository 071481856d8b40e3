"""Where reported events go besides the store."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from skilld.http.answer import JsonAnswer
from skilld.http.route import Call, Route

__all__ = ["ROUTES"]


async def sinks(call: Call) -> Response:
    newest = await call.services.monitor().newest()
    found = call.services.monitor_sinks()
    return JsonAnswer({"items": [found[name].as_json(newest) for name in sorted(found)]})


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/monitor/sinks",
        handler=sinks,
        permission="admin",
        summary="Where reported events go besides the store, and how far each place is behind.",
    ),
)
