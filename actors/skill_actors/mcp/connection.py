"""A session with a server: the protocol is the official SDK's; what is asked of it, and what comes of that, is here.

Everything that a server may ask of its client is declined: it gets no model, no answers of people, and no folders.
What the SDK would do with a schema of the server's own is not done either: answers are for the model to judge.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import trio
from mcp import types
from mcp.client.session import ClientSession
from mcp.shared.exceptions import MCPError
from pydantic import TypeAdapter, ValidationError

from skill_actors import __version__
from skill_actors.backends.output import clean
from skill_actors.mcp.errors import ServerFailed, SessionGone
from skill_actors.mcp.screen import Signals

__all__ = ["Connection", "connected"]

_ABOUT: Final = types.Implementation(name="skilld", version=__version__)
_MAX_PAGES: Final = 50
_MAX_TOLD: Final = 1_000  # characters of what a server says of an error
_GONE: Final = (types.INVALID_REQUEST, "Session terminated")
_NOT_FOUND: Final = "HTTP 404"  # whatever the server says with it: it has not done what it was asked
_CALL: Final[TypeAdapter[Any]] = TypeAdapter(types.CallToolResult | types.InputRequiredResult)


class Connection:
    """A session that has begun. Its methods may be called at the same time."""

    def __init__(self, session: ClientSession, signals: Signals) -> None:
        self._session = session
        self.signals = signals

    async def tools(self, most: int) -> Sequence[Mapping[str, Any]]:
        """All tools that the server tells of, or the first `most` and those of their page. Raises ServerFailed."""
        self.signals.changed = False
        found: list[Mapping[str, Any]] = []
        cursor: str | None = None
        for _ in range(_MAX_PAGES):
            params = None if cursor is None else types.PaginatedRequestParams(cursor=cursor)
            page = await self._send(types.ListToolsRequest(params=params), types.ListToolsResult)
            found += [_listed(tool) for tool in page.tools]
            cursor = page.next_cursor
            if cursor is None or len(found) >= most:
                return found
        raise ServerFailed(f"it has more than {_MAX_PAGES} pages of tools")

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Make one call. If this is cancelled, the server is told.

        Returns: `content`, `structuredContent` and `isError`, as the protocol has them.

        Raises:
            SessionGone: it was not made.
            ServerFailed: it may have been made, or not.

        """
        params = types.CallToolRequestParams(name=tool, arguments=dict(arguments))
        answer = await self._send(types.CallToolRequest(params=params), _CALL)
        if isinstance(answer, types.InputRequiredResult):
            return {
                "content": [{"type": "text", "text": "The tool wants to ask people, which is declined."}],
                "isError": True,
            }
        told: Mapping[str, Any] = answer.model_dump(mode="json", by_alias=True, exclude_none=True)
        return told

    async def ping(self, within_s: float) -> bool:
        """Whether it answers."""
        with trio.move_on_after(within_s):
            try:
                await self._session.send_ping()
            except MCPError as error:
                return error.code != types.CONNECTION_CLOSED
            return True
        return False

    async def _send(self, request: Any, kind: Any) -> Any:
        self.signals.problem = ""
        try:
            return await self._session.send_request(request, kind)
        except MCPError as error:
            raise self._failure(error) from error
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"]))[:200]
            raise ServerFailed(f"its answer is none of the protocol: {place}: {first['msg'][:200]}") from error

    def _failure(self, error: MCPError) -> ServerFailed:
        if (error.code, error.message) == _GONE or self.signals.problem == _NOT_FOUND:
            self.signals.end("it has forgotten the session")
            return SessionGone("it has forgotten the session")
        if error.code == types.CONNECTION_CLOSED:
            return ServerFailed(self.signals.why or self.signals.problem or f"the connection ended: {error.message}")
        problem = f" ({self.signals.problem})" if self.signals.problem else ""
        return ServerFailed(f"it answers with an error: {clean(error.message)[:_MAX_TOLD]}{problem}")


def _listed(tool: types.Tool) -> Mapping[str, Any]:
    return {"name": tool.name, "description": tool.description, "inputSchema": tool.input_schema}


@asynccontextmanager
async def connected(
    streams: AbstractAsyncContextManager[tuple[Any, Any]], signals: Signals, *, start_s: float
) -> AsyncIterator[Connection]:
    """A session over these streams, while the block runs.

    Args:
        start_s: seconds for the server to answer at first.

    Raises:
        ServerFailed: it does not, or speaks no version of the protocol that is known here.

    """
    failure: ServerFailed | None = None
    async with streams as (incoming, outgoing), ClientSession(incoming, outgoing, client_info=_ABOUT) as session:
        failure = await _begun(session, signals, start_s)
        if failure is None:
            yield Connection(session, signals)
    if failure is not None:
        raise failure


async def _begun(session: ClientSession, signals: Signals, start_s: float) -> ServerFailed | None:
    """Why the session cannot begin; None if it has begun."""
    with trio.move_on_after(start_s):
        try:
            await session.initialize()
        except MCPError as error:
            if error.code == types.CONNECTION_CLOSED:
                with trio.move_on_after(1.0):  # whoever watches the program knows better why
                    await signals.ended.wait()
            why = signals.why or signals.problem or clean(error.message)[:_MAX_TOLD]
            return ServerFailed(f"it does not begin a session: {why}")
        except (RuntimeError, ValidationError) as error:
            return ServerFailed(f"it does not begin a session: {clean(str(error))[:_MAX_TOLD]}")
        return None
    return ServerFailed(f"it has not begun a session within {start_s:g} s")
