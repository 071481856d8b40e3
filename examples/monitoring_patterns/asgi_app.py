"""A plain ASGI application, as a server calls it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from offline import Client, shown

from skilld_monitor import enable_monitoring
from skilld_monitor.contrib.asgi import MonitoringMiddleware

client = Client()
Send = Callable[[Any], Awaitable[None]]


async def application(scope: Any, _receive: Callable[[], Awaitable[Any]], send: Send) -> None:
    text = client.messages.create(model="m", messages=[{"role": "user", "content": scope["path"][1:]}]).text
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})


async def receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: MutableMapping[str, Any]) -> None:
    print(message["type"])


def main() -> None:
    enable_monitoring("plain-web", llm_client=client)
    scope = {"type": "http", "method": "GET", "path": "/why", "query_string": b"", "headers": []}
    asyncio.run(MonitoringMiddleware(application)(scope, receive, send))


if __name__ == "__main__":
    with shown():
        main()
