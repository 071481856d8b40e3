"""Is it there, which one is it, does it take work."""

from __future__ import annotations

from typing import Final

from starlette.responses import JSONResponse, Response

from skilld.http.route import Call, Route

__all__ = ["ROUTES"]


async def version(call: Call) -> Response:
    return JSONResponse({"version": call.services.version, "api": "v1"})


async def live(call: Call) -> Response:
    return JSONResponse({"status": "live"})


async def started(call: Call) -> Response:
    return JSONResponse({"status": "started"})  # the socket is the last that is started: who reads this has it


async def ready(call: Call) -> Response:
    readiness = call.services.ready()
    parts = {**readiness.missing, **readiness.degraded}
    if not readiness.missing:
        return JSONResponse({"status": "ready", "parts": parts})
    return JSONResponse({"status": "not_ready", "parts": parts}, status_code=503, headers={"retry-after": "1"})


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/version",
        handler=version,
        permission="any",
        summary="The daemon's version and that of this interface.",
    ),
    Route(
        method="GET",
        path="/v1/health/live",
        handler=live,
        permission="any",
        summary="200 while the daemon can answer at all.",
    ),
    Route(
        method="GET",
        path="/v1/health/ready",
        handler=ready,
        permission="any",
        summary="200 while messages are accepted, else 503. `parts` tells what is away, and why.",
    ),
    Route(
        method="GET",
        path="/v1/health/started",
        handler=started,
        permission="any",
        summary="200 as soon as the start is over; before, nobody answers.",
    ),
)
