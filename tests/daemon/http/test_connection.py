"""One connection with an application of a test: what `receive` says of a body, in whatever order it is asked."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from skill_actors.errors import Refused
from skilld.http.connection import Connection
from skilld.http.limits import ServerLimits
from support import run

LIMITS = ServerLimits(body_timeout_s=0.2)
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


@asynccontextmanager
async def connected(app: Callable[[Any, Receive, Send], Awaitable[None]]) -> AsyncIterator[trio.SocketStream]:
    """The client's end of a connection that `app` answers; everything has ended behind it."""
    ours, theirs = socket.socketpair()
    streams = [trio.SocketStream(trio.socket.from_stdlib_socket(each)) for each in (ours, theirs)]
    with trio.fail_after(25):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Connection(streams[0], app, LIMITS, (), {}).run)
            async with streams[1]:
                yield streams[1]


async def answered(stream: trio.SocketStream, end: bytes) -> bytes:
    """What comes, up to the end that is expected."""
    found = b""
    while not found.endswith(end):
        part = await stream.receive_some()
        assert part, f"it closed behind {found!r}"
        found += part
    return found


def head(length: int | None = None) -> dict[str, Any]:
    headers = [] if length is None else [(b"content-length", str(length).encode())]
    return {"type": "http.response.start", "status": 200, "headers": headers}


@pytest.mark.parametrize("broken", [b"2\r\nab\r\nZZ\r\n", None])
def test_a_body_that_broke_off_never_comes_to_an_end(broken: bytes | None) -> None:
    """However often it is asked for: half a body must not pass for a whole one."""
    told: list[Any] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        for _ in range(4):
            try:
                told.append(await receive())
            except Refused as error:
                told.append(error.code)
        raise Refused("bad_request", "broken")

    async def main() -> None:
        async with connected(app) as stream:
            await stream.send_all(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
            await stream.send_all(broken or b"2\r\nab\r\n")
            if broken is None:
                await stream.send_eof()
            while await stream.receive_some():
                pass

    run(main)
    assert told[0] == {"type": "http.request", "body": b"ab", "more_body": True}
    assert told[1:] == ["bad_request" if broken else {"type": "http.disconnect"}] * 3


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\nhost: x\r\n", b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n"]
)
def test_an_answer_that_begins_before_the_body_is_read_lasts_and_the_next_request_follows(sent: bytes) -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(head())
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        assert (await receive())["more_body"] is False
        with trio.move_on_after(2 * LIMITS.body_timeout_s) as waiting:
            await receive()
        assert waiting.cancelled_caught
        await send({"type": "http.response.body", "body": b"ended", "more_body": False})

    async def main() -> None:
        async with connected(app) as stream:
            body = b"hi" if b"length" in sent else b""
            for _ in range(2):
                await stream.send_all(sent + b"\r\n" + body)
                assert b"begun" in await answered(stream, b"ended\r\n0\r\n\r\n")
            await stream.send_all((sent + b"\r\n" + body) * 2)  # the second while the first is answered
            await stream.send_eof()  # has no more to ask, and still gets both answers
            rest = b""
            while part := await stream.receive_some():
                rest += part
            assert rest.count(b"ended\r\n0\r\n\r\n") == 2

    run(main)


def test_head_is_answered_without_a_body_and_the_next_request_follows() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await send(head(5))
        await send({"type": "http.response.body", "body": b"hello", "more_body": False})
        assert (await receive())["type"] == "http.disconnect"

    async def main() -> None:
        async with connected(app) as stream:
            await stream.send_all(b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert b"hello" not in await answered(stream, b"\r\n\r\n")
            await stream.send_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await answered(stream, b"hello")).startswith(b"HTTP/1.1 200")

    run(main)
