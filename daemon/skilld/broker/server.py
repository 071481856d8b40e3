"""The broker's server: one request a connection, or one after the other, each looked at before the engine hears of it.

client -> h11 -> understood() -> is it one of ours? -> a new request to the engine -> the answer, whole
                                                    -> attach: then bytes, both ways, until either side ends
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import h11
import trio

from skilld.broker.rules import BROKER, Asked, Forbidden, Limits, checked_container, own_containers, understood

__all__ = ["Broker"]

_log = logging.getLogger(__name__)

_MAX_BODY_BYTES: Final = 64 << 10
_MAX_ANSWER_BYTES: Final = 16 << 20
_MAX_CONNECTIONS: Final = 256
_READ_BYTES: Final = 65_536
_HEAD_S: Final = 30.0  # for a request to come, once its first byte is there; and for the next one to begin
_ENGINE_S: Final = 60.0
_IDLE_S: Final = 600.0

_HEADERS: Final = [("Host", "docker"), ("Connection", "close")]
_UPGRADED: Final = [("Upgrade", "tcp"), ("Connection", "Upgrade")]
_UPGRADE: Final = [("Host", "docker"), *_UPGRADED, ("Content-Length", "0")]


class _Gone(Exception):
    """The other side ended, or spoke something else than HTTP."""


class Broker:
    """Serves until it is cancelled.

    Args:
        engine: path of the engine's socket.
        limits: of each container.
        label: marks the containers of this broker, also those that it made in an earlier life.

    """

    def __init__(self, engine: str, limits: Limits, label: str) -> None:
        self._engine = engine
        self._limits = limits
        self._label = label
        self._making = trio.Lock()  # so that what is counted is still so when one more is made
        self._room = trio.CapacityLimiter(_MAX_CONNECTIONS)

    async def serve(self, client: trio.abc.Stream) -> None:
        """Answer one client until it leaves. Whatever it does ends this connection only."""
        try:
            self._room.acquire_on_behalf_of_nowait(client)
        except trio.WouldBlock:
            await trio.aclose_forcefully(client)
            return
        try:
            await self._converse(client)
        except (_Gone, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, h11.ProtocolError):
            pass  # it is gone, or speaks something else: there is nobody to be told
        except OSError as error:
            _log.warning("the engine at %s cannot be reached: %s", self._engine, error.strerror or error)
        except Exception:  # the nursery is that of all connections
            _log.exception("a connection is ended")
        finally:
            self._room.release_on_behalf_of(client)
            await trio.aclose_forcefully(client)

    async def _converse(self, client: trio.abc.Stream) -> None:
        connection = h11.Connection(h11.SERVER)
        while True:
            request, body = await _request(client, connection)
            try:
                asked = understood(request.method.decode(), request.target.decode("ascii"), self._limits, self._label)
                body = checked_container(body, self._limits, self._label) if asked.kind == "create" else b""
            except Forbidden as error:
                _log.warning("%s", error)
                await _answer(client, connection, 403, _words(str(error)))
            else:
                if await self._pass_on(client, connection, asked, body):
                    return
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()

    async def _pass_on(self, client: trio.abc.Stream, connection: h11.Connection, asked: Asked, body: bytes) -> bool:
        """Answer with the engine's answer. True if the connection was used up by streams."""
        try:
            if asked.container and not await self._is_ours(asked.container):
                status, answer = 404, _words(f"No such container: {asked.container}")
            elif asked.kind == "attach":
                refused = await self._attach(client, connection, asked)
                if refused is None:
                    return True
                status, answer = refused
            elif asked.kind == "create":
                status, answer = await self._create(asked, body)
            else:
                status, answer = await self._ask(asked.method, asked.target, body)
        except OSError as error:
            status, answer = 503, _words(f"the engine cannot be reached: {error.strerror or error}")
        await _answer(client, connection, status, b"" if asked.method == "HEAD" else answer)
        return False

    async def _create(self, asked: Asked, body: bytes) -> tuple[int, bytes]:
        """Make a container, unless there are enough. Raises as `_ask` does."""
        async with self._making:
            status, answer = await self._ask("GET", own_containers(self._label), b"")
            if status != 200:
                return status, answer
            if len(json.loads(answer)) >= self._limits.containers:
                return 403, _words(f"refused: a container more than the {self._limits.containers} that are allowed")
            status, answer = await self._ask(asked.method, asked.target, body)
            if status == 201 and (refused := await self._without_volumes(str(json.loads(answer)["Id"]))):
                return 403, _words(refused)
            return status, answer

    async def _without_volumes(self, container: str) -> str:
        """Why a container that was just made is gone again; the empty text if it is there."""
        status, answer = await self._ask("GET", f"/containers/{container}/json", b"")
        mounts = json.loads(answer)["Mounts"] if status == 200 else None
        if mounts == []:
            return ""
        await self._ask("DELETE", f"/containers/{container}?force=1&v=1", b"")
        if mounts is None:
            return "refused: the engine does not say what the container has"
        places = ", ".join(str(mount.get("Destination")) for mount in mounts)
        return f"refused: the image has volumes ({places[:200]}), which are on the engine's disk"

    async def _is_ours(self, container: str) -> bool:
        status, answer = await self._ask("GET", f"/containers/{container}/json", b"")
        if status != 200:
            return False
        labels = json.loads(answer).get("Config", {}).get("Labels") or {}
        return bool(labels.get(BROKER) == self._label)

    async def _ask(self, method: str, target: str, body: bytes) -> tuple[int, bytes]:
        """The engine's answer. Raises OSError, TooSlowError, _Gone."""
        with trio.fail_after(_ENGINE_S):
            async with self._engine_stream() as stream:
                connection = h11.Connection(h11.CLIENT)
                headers = [*_HEADERS, ("Content-Length", str(len(body))), ("Content-Type", "application/json")]
                await _send(stream, connection, h11.Request(method=method, target=target, headers=headers))
                if body:
                    await _send(stream, connection, h11.Data(data=body))
                await _send(stream, connection, h11.EndOfMessage())
                return await _whole_answer(stream, connection)

    async def _attach(
        self, client: trio.abc.Stream, connection: h11.Connection, asked: Asked
    ) -> tuple[int, bytes] | None:
        """Carry a container's streams until they end; or the engine's answer, if it gives no streams.

        Bytes are carried only once the engine has said that what follows is no HTTP: before that, whatever the client
        sent would be requests to the engine. Raises OSError, TooSlowError, _Gone.
        """
        async with self._engine_stream() as engine:
            http = h11.Connection(h11.CLIENT)
            with trio.fail_after(_ENGINE_S):
                await _send(engine, http, h11.Request(method="POST", target=asked.target, headers=_UPGRADE))
                await _send(engine, http, h11.EndOfMessage())
                first = await _next(engine, http)
                if not isinstance(first, h11.InformationalResponse) or first.status_code != 101:
                    return await _whole_answer(engine, http, first)
            await _send(client, connection, h11.InformationalResponse(status_code=101, headers=_UPGRADED))
            await client.send_all(http.trailing_data[0])
            await engine.send_all(connection.trailing_data[0])
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_carry, client, engine, nursery.cancel_scope)
                nursery.start_soon(_carry, engine, client, nursery.cancel_scope)
        return None

    @asynccontextmanager
    async def _engine_stream(self) -> AsyncIterator[trio.SocketStream]:
        stream = await trio.open_unix_socket(self._engine)
        try:
            yield stream
        finally:
            await trio.aclose_forcefully(stream)


async def _whole_answer(engine: trio.abc.Stream, connection: h11.Connection, first: object = None) -> tuple[int, bytes]:
    """Status and body. Raises _Gone.

    Args:
        engine: that answers.
        connection: to it.
        first: what was read of the answer already.

    """
    status, answer = 0, bytearray()
    event = first or await _next(engine, connection)
    while not isinstance(event, h11.EndOfMessage):
        if isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            answer += event.data
            if len(answer) > _MAX_ANSWER_BYTES:
                raise _Gone
        event = await _next(engine, connection)
    return status, bytes(answer)


async def _request(client: trio.abc.Stream, connection: h11.Connection) -> tuple[h11.Request, bytes]:
    """The next request, whole. Raises _Gone, TooSlowError."""
    with trio.fail_after(_IDLE_S):
        if connection.trailing_data == (b"", False):
            connection.receive_data(bytes(await client.receive_some(_READ_BYTES)))
    with trio.fail_after(_HEAD_S):
        request, body = None, bytearray()
        while not isinstance(event := await _next(client, connection), h11.EndOfMessage):
            if isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > _MAX_BODY_BYTES:
                    raise _Gone
    if request is None:
        raise _Gone
    return request, bytes(body)


async def _next(stream: trio.abc.Stream, connection: h11.Connection) -> object:
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(bytes(await stream.receive_some(_READ_BYTES)))
    if isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
        raise _Gone
    return event


async def _answer(client: trio.abc.Stream, connection: h11.Connection, status: int, body: bytes) -> None:
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    await _send(client, connection, h11.Response(status_code=status, headers=headers))
    if body:
        await _send(client, connection, h11.Data(data=body))
    await _send(client, connection, h11.EndOfMessage())


async def _send(stream: trio.abc.Stream, connection: h11.Connection, event: h11.Event) -> None:
    data = connection.send(event)
    if data:
        with trio.fail_after(_ENGINE_S):
            await stream.send_all(data)


async def _carry(source: trio.abc.Stream, target: trio.abc.Stream, both: trio.CancelScope) -> None:
    """Until the source ends; then nothing is carried the other way either: a container lives as long as its stdin."""
    try:
        while data := await source.receive_some(_READ_BYTES):
            await target.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    both.cancel()


def _words(message: str) -> bytes:
    """As the engine says what is wrong."""
    return json.dumps({"message": message}).encode()
