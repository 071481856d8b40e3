"""The file that events are kept in."""

from __future__ import annotations

import time
from functools import partial
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from skilld.http.answer import JsonAnswer
from skilld.http.route import Call, Route
from skilld.http.routes.monitor.asking import asked_uid
from skilld.monitor.store_facts import store_facts

__all__ = ["ROUTES"]

_DAY_US: Final = 86_400_000_000


class CleanupRequest(BaseModel):
    """Events older than so many days, by the clocks of the programs."""

    model_config = ConfigDict(extra="forbid", strict=True)

    older_than_days: Annotated[float, Field(ge=0, le=36_500, allow_inf_nan=False)]


async def facts(call: Call) -> Response:
    monitor = call.services.monitor()
    found = await monitor.ask(partial(store_facts, uid=asked_uid(call)))
    return JsonAnswer({"path": str(monitor.store.path), **found})


async def cleanup(call: Call) -> Response:
    request: CleanupRequest = call.body
    before_us = time.time_ns() // 1000 - round(request.older_than_days * _DAY_US)
    return JsonAnswer({"removed": await call.services.monitor().remove_before(asked_uid(call), before_us)})


async def optimize(call: Call) -> Response:
    before, after = await call.services.monitor().optimize()
    return JsonAnswer({"bytes_before": before, "bytes_after": after})


ROUTES: Final = (
    Route(
        method="POST",
        path="/v1/monitor/cleanup",
        handler=cleanup,
        permission="send",
        summary="Remove what one's programs reported so many days ago and earlier; with the role admin everybody's.",
        body=CleanupRequest,
    ),
    Route(
        method="POST",
        path="/v1/monitor/optimize",
        handler=optimize,
        permission="admin",
        summary="Make the file of reported events as small and quick as it can be. Reports wait for it.",
    ),
    Route(
        method="GET",
        path="/v1/monitor/store",
        handler=facts,
        permission="read",
        summary="Where reported events are kept, and how many of one's own; with the role admin how many there are.",
    ),
)
