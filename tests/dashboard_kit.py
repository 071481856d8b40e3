"""A dashboard on a real port of this machine, in the test's own trio program, before a daemon that a test scripts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import trio

from http_kit import read_all
from skilld.dashboard import Dashboard, DashboardLimits, listen
from skilld.dashboard.gate import Gate

__all__ = ["Shown", "showing"]


@dataclass
class Shown:
    """One dashboard, and a browser that has opened its address."""

    gate: Gate
    http: httpx.AsyncClient

    @property
    def call_headers(self) -> dict[str, str]:
        """What our pages send with each call, but for the cookie."""
        return {"x-skilld-token": self.gate.token, "sec-fetch-site": "same-origin"}

    @property
    def cookie(self) -> str:
        return self.gate.cookie.partition(";")[0]

    async def get(self, path: str, **headers: str) -> httpx.Response:
        """A call of our pages."""
        return await self.http.get(f"/api{path}", headers=self.call_headers | headers)

    async def post(self, path: str, value: Any, **headers: str) -> httpx.Response:
        """A change by our pages."""
        return await self.http.post(f"/api{path}", json=value, headers=self.call_headers | headers)

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.gate.port)

    async def raw(self, *lines: str, body: bytes = b"", host: str | None = None) -> bytes:
        """Send a request as it is written here, with the cookie and the token; what is answered until it closes."""
        host = f"127.0.0.1:{self.gate.port}" if host is None else host
        head = [*lines[:1], f"host: {host}", f"cookie: {self.cookie}", f"x-skilld-token: {self.gate.token}", *lines[1:]]
        async with await self.connect() as stream:
            await stream.send_all("\r\n".join([*head, "", ""]).encode("latin-1") + body)
            return await read_all(stream)


@asynccontextmanager
async def showing(
    daemon: Path,
    *,
    read_only: bool = False,
    limits: DashboardLimits | None = None,
    about: Mapping[str, Any] | None = None,
    let_in: bool = True,
) -> AsyncIterator[Shown]:
    """Serve a dashboard for the daemon whose socket is `daemon`; `let_in`: the browser has opened the address."""
    dashboard = Dashboard(listen(0), str(daemon), read_only=read_only, about=about or {}, limits=limits)
    base = f"http://127.0.0.1:{dashboard.gate.port}"
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: dashboard.serve(task_status=task_status))
        async with httpx.AsyncClient(base_url=base, timeout=10, trust_env=False) as http:
            if let_in:
                (await http.get(dashboard.gate.address)).raise_for_status()
            yield Shown(dashboard.gate, http)
        nursery.cancel_scope.cancel()
