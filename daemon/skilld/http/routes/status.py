"""The daemon as a whole: facts, measurements, and its end."""

from __future__ import annotations

from typing import Final

from starlette.responses import JSONResponse, Response

from skilld.http.route import Call, Route

__all__ = ["ROUTES"]

_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


async def status(call: Call) -> Response:
    return JSONResponse({"version": call.services.version, **call.services.status()})


async def metrics(call: Call) -> Response:
    return Response(await call.services.metrics(), headers={"content-type": _METRICS_TYPE})


async def backends(call: Call) -> Response:
    return JSONResponse({"items": [dict(item) for item in call.services.backends()], "next": None})


async def prices(call: Call) -> Response:
    return JSONResponse(dict(call.services.prices()))


async def shutdown(call: Call) -> Response:
    call.services.shutdown()
    return JSONResponse({"status": "draining"}, status_code=202)


ROUTES: Final = (
    Route(
        method="GET",
        path="/v1/status",
        handler=status,
        permission="read",
        summary="What the daemon is doing, in numbers.",
    ),
    Route(
        method="GET",
        path="/metrics",
        handler=metrics,
        permission="read",
        summary="Measurements in the Prometheus text format.",
        media=("text/plain",),
    ),
    Route(
        method="GET",
        path="/v1/backends",
        handler=backends,
        permission="read",
        summary="The backends that sessions may name, and what each can do.",
    ),
    Route(
        method="GET",
        path="/v1/prices",
        handler=prices,
        permission="read",
        summary="The price table that costs are computed from.",
    ),
    Route(
        method="POST",
        path="/v1/shutdown",
        handler=shutdown,
        permission="admin",
        summary="Let running turns end, within the configured time, and stop.",
        status=202,
    ),
)
