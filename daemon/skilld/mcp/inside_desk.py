"""The workshop's tools within the daemon: for MCP over HTTP on its socket, and for conversations of its own.

Each caller (a user with these rights, or an agent) has a desk of its own, so that nobody finds a session or a claim of
somebody else's; what its tools do they do as that caller. HTTP is spoken by the library's own transport. Clients of
the protocol since 2026-07-28 have no sessions and lose nothing when the daemon restarts; older ones have sessions,
which are bounded, end when idle, and are unknown (404) after a restart, whereupon they begin anew.

caller: unknown --a call--> served --no call for `idle_s`, or let go of--> unknown, its claims given back
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import trio
from starlette.types import ASGIApp, Receive, Scope, Send

from skill_actors.errors import Refused
from skilld.http.body import read_body
from skilld.http.connection import ClientGone
from skilld.http.peer import Peer
from skilld.mcp.exchange import Exchange

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    from skilld.mcp.desk import Desk

__all__ = ["IDLE_S", "MAX_CALLERS", "MAX_SESSIONS", "McpDesk"]

IDLE_S: Final = 1800.0
MAX_CALLERS: Final = 1024
MAX_SESSIONS: Final = 64  # of one caller

_WAIT_S: Final = 50.0  # how long a tool waits whose caller names no time; clients give up on a call after a minute
_LOG: Final = logging.getLogger(__name__)


class McpDesk:
    """Serves callers while `run` runs. Nothing of the library is imported before somebody calls over HTTP.

    Args:
        app: the daemon's own interface, which the tools call.
        agent_named: name of the agent whose conversation this is; None if it is nobody's.

    """

    def __init__(
        self, app: Callable[[], ASGIApp], agent_named: Callable[[str], str | None], *, idle_s: float = IDLE_S
    ) -> None:
        self._app = app
        self._agent_named = agent_named
        self._idle_s = idle_s
        self._nursery: trio.Nursery | None = None
        self._callers: dict[Peer, _Caller] = {}
        self._starting = trio.Lock()

    @property
    def callers(self) -> int:
        """How many there are."""
        return len(self._callers)

    async def run(self) -> None:
        """Serve until it is cancelled."""
        async with trio.open_nursery() as self._nursery:
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def serve(self, peer: Peer, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of this peer, an ASGI call.

        Raises:
            Refused: overloaded, draining.

        """
        caller = await self._caller(peer)
        await caller.serve(scope, receive, send)

    @asynccontextmanager
    async def desk(self, peer: Peer) -> AsyncIterator[Desk]:
        """What tools work with that are called for this peer, for one call. Raises as `serve`."""
        caller = await self._caller(peer)
        with caller.busy():
            yield caller.desk

    def let_go(self, peer: Peer) -> None:
        """Nobody calls for this peer any more: give back what it has claimed."""
        found = self._callers.get(_anyone(peer))
        if found is not None:
            found.let_go()

    async def _caller(self, peer: Peer) -> _Caller:
        peer = _anyone(peer)
        async with self._starting:
            found = self._callers.get(peer)
            if found is not None:
                return found
            if self._nursery is None:
                raise Refused("draining", "the daemon is stopping", retry_after_s=1)
            if len(self._callers) >= MAX_CALLERS:
                raise Refused("overloaded", f"{MAX_CALLERS} callers are served already", retry_after_s=60)
            agent = None if peer.agent is None else self._agent_named(peer.agent)
            made = _Caller(self._app(), peer, agent, self._idle_s)
            await self._nursery.start(self._keep, made)
            self._callers[peer] = made
            return made

    async def _keep(self, caller: _Caller, *, task_status: trio.TaskStatus[None]) -> None:
        try:
            await caller.run(task_status)
        except Exception:
            _LOG.exception("the MCP server of uid %d failed; the next call begins it anew", caller.peer.uid)
        finally:
            if self._callers.get(caller.peer) is caller:
                del self._callers[caller.peer]


def _anyone(peer: Peer) -> Peer:
    """Any process of this peer."""
    return replace(peer, pid=0)


class _Caller:
    """One caller's desk, with what it has claimed, and its server."""

    desk: Desk

    def __init__(self, app: ASGIApp, peer: Peer, agent: str | None, idle_s: float) -> None:
        self.peer = peer
        self._app = app
        self._agent = agent
        self._idle_s = idle_s
        self._open = 0
        self._rest = trio.CancelScope(deadline=trio.current_time() + idle_s)
        self._nursery: trio.Nursery | None = None
        self._manager: StreamableHTTPSessionManager | None = None
        self._starting = trio.Lock()

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Serve until nobody has asked for anything for `idle_s`; claims are given back then."""
        from skilld.mcp.claims import Claims
        from skilld.mcp.desk import Desk
        from skilld.mcp.inside import InsideClient

        async with InsideClient(self._app, self.peer) as client, trio.open_nursery() as self._nursery:
            claims = Claims(client)
            self.desk = Desk(client=client, claims=claims, agent=self._agent, wait_s=_WAIT_S)
            self._nursery.start_soon(claims.run)
            task_status.started()
            try:
                with self._rest:
                    await trio.sleep_forever()
            finally:
                await claims.give_back()
                self._nursery.cancel_scope.cancel()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Something is asked for as long as the block runs."""
        self._open += 1
        self._rest.deadline = math.inf
        try:
            yield
        finally:
            self._open -= 1
            if not self._open:
                self._rest.deadline = trio.current_time() + self._idle_s

    def let_go(self) -> None:
        """End it, unless something is being asked for."""
        if not self._open:
            self._rest.cancel()

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `McpDesk.serve`."""
        body = await read_body(receive)
        with self.busy():
            manager = await self._managed()
            exchange = Exchange(body, receive, send)
            await manager.handle_request(scope, exchange.receive, exchange.send)
        if exchange.gone:
            raise ClientGone("the client left while it was answered")

    async def _managed(self) -> StreamableHTTPSessionManager:
        async with self._starting:
            if self._manager is None:
                if self._nursery is None:
                    raise Refused("draining", "the server of this caller is ending; ask again", retry_after_s=1)
                self._manager = await self._nursery.start(self._manage)
            return self._manager

    async def _manage(self, *, task_status: trio.TaskStatus[StreamableHTTPSessionManager]) -> None:
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

        from skilld.mcp.bridge import server_of
        from skilld.mcp.scope import Scope as Tools
        from skilld.mcp.tools import TOOLS

        server = server_of(Tools.of(TOOLS, agent=self._agent), self.desk)
        manager = StreamableHTTPSessionManager(server, max_sessions=MAX_SESSIONS, session_idle_timeout=self._idle_s)
        async with manager.run():
            task_status.started(manager)
            await trio.sleep_forever()
