"""What the middlewares add to a request, in the thread that serves it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import pytest

from contrib_kit import Reported
from skilld_monitor.contrib import asgi, wsgi

pytestmark = pytest.mark.alone

REQUESTS = 400
MAX_ADDED_MS = 0.2
SLOWER = 10  # than on a machine that does nothing else


def plain(_environ: Any, start: Callable[..., Any]) -> list[bytes]:
    start("200 OK", [("Content-Type", "text/plain")])
    return [b"x"]


async def asynchronous(_scope: Any, _receive: Any, send: Callable[[Any], Any]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x"})


def wsgi_ms(app: Any) -> float:
    took: list[float] = []
    for _ in range(REQUESTS):
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/ask", "HTTP_USER_AGENT": "x", "wsgi.url_scheme": "http"}
        began = time.perf_counter()
        list(app(environ, lambda *_: None))
        took.append(time.perf_counter() - began)
        time.sleep(0)
    return median(took) * 1000


def asgi_ms(app: Any) -> float:
    took: list[float] = []

    async def send(_message: Any) -> None:
        pass

    async def main() -> None:
        for _ in range(REQUESTS):
            scope = {"type": "http", "method": "GET", "path": "/ask", "query_string": b"", "headers": [(b"host", b"x")]}
            began = time.perf_counter()
            await app(scope, send, send)
            took.append(time.perf_counter() - began)
            await asyncio.sleep(0)

    asyncio.run(main())
    return median(took) * 1000


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_a_request_is_hardly_slower(reported: Reported, kind: str) -> None:
    if kind == "wsgi":
        added_ms = wsgi_ms(wsgi.MonitoringMiddleware(plain)) - wsgi_ms(plain)
    else:
        added_ms = asgi_ms(asgi.MonitoringMiddleware(asynchronous)) - asgi_ms(asynchronous)
    print(f"{kind}: {added_ms:.3f} ms per request")
    assert added_ms < MAX_ADDED_MS * SLOWER
    assert reported.made.stats().dropped == 0
