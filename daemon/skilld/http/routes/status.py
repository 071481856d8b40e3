"""The daemon as a whole: facts, measurements, and its end."""

from __future__ import annotations

from typing import Final

from starlette.responses import JSONResponse, Response

from skilld.http.route import Call, Parameter, Route
from skilld.metrics import METRICS_TYPE

__all__ = ["ROUTES"]

_CHILDREN: Final = 20
_MOST_CHILDREN: Final = 1000


async def status(call: Call) -> Response:
    return JSONResponse({"version": call.services.version, **call.services.status()})


async def tree(call: Call) -> Response:
    most = int(call.number("children", _CHILDREN, low=0, high=_MOST_CHILDREN))
    return JSONResponse(dict(call.services.tree(call.viewer, most)))


async def metrics(call: Call) -> Response:
    return Response(await call.services.metrics(), headers={"content-type": METRICS_TYPE})


async def backends(call: Call) -> Response:
    return JSONResponse({"items": [dict(item) for item in await call.services.backends()], "next": None})


async def tool_servers(call: Call) -> Response:
    return JSONResponse({"items": [dict(item) for item in await call.services.tool_servers(call.viewer)], "next": None})


async def prices(call: Call) -> Response:
    return JSONResponse(dict(call.services.prices()))


async def reload_config(call: Call) -> Response:
    return JSONResponse(dict(await call.services.reload()))


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
        path="/v1/tree",
        handler=tree,
        permission="read",
        summary="The live supervision tree, and what supervisors reported lately.",
        parameters=(
            Parameter(
                name="children",
                summary="How many children of a dynamic supervisor are shown, 0 to 1000; 20 if not given. "
                "The busiest come first, the others are counted.",
            ),
        ),
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
        summary="The backends that sessions may name, whether each would run something now, and what it claims to do.",
    ),
    Route(
        method="GET",
        path="/v1/mcp/servers",
        handler=tool_servers,
        permission="read",
        summary="The tool servers that your sessions may name, how many of each run for you, and what is wrong.",
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
        path="/v1/config/reload",
        handler=reload_config,
        permission="admin",
        summary="Read the configuration again, apply what can be applied, and list what needs a restart.",
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
