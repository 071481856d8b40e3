"""The programs that report now, and what of theirs could not be kept."""

from __future__ import annotations

from typing import Final

import trio
from starlette.responses import Response

from skilld.http.answer import JsonAnswer
from skilld.http.route import Call, Route
from skilld.http.routes.monitor.asking import asked_uid

__all__ = ["ROUTES"]


async def quarantine(call: Call) -> Response:
    monitor = call.services.monitor()
    return JsonAnswer({"items": await trio.to_thread.run_sync(monitor.quarantine.listing, asked_uid(call))})


async def sources(call: Call) -> Response:
    monitor = call.services.monitor()
    return JsonAnswer({"items": [] if monitor.sources is None else monitor.sources(asked_uid(call))})


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/monitor/quarantine",
        handler=quarantine,
        permission="read",
        summary="Which of the events that one's programs reported could not be kept, and why, the newest first.",
    ),
    Route(
        method="GET",
        path="/v1/monitor/sources",
        handler=sources,
        permission="read",
        summary="One's programs that report now, the busiest first; with the role admin everybody's.",
    ),
)
