"""The metrics on loopback: that page, for this host, and nothing else."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from skill_actors.runtime import ChildSpec, open_system
from skilld.loopback import is_local_host, loopback_address
from skilld.metrics_page import MetricsPage
from support import run


async def page() -> bytes:
    return b"skilld_turns_total 1\n"


@asynccontextmanager
async def serving(caplog: pytest.LogCaptureFixture) -> AsyncIterator[int]:
    """The port that a page is served on."""
    caplog.set_level(logging.INFO)
    spec = ChildSpec(id="metrics", factory=lambda: MetricsPage("127.0.0.1:0", page, "9.9"), isolated=True)
    async with open_system([spec]):
        with trio.fail_after(10):
            while not (found := re.search(r"http://127\.0\.0\.1:(\d+)/metrics", caplog.text)):  # noqa: ASYNC110
                await trio.sleep(0.01)
        yield int(found[1])


async def said(port: int, request: bytes) -> bytes:
    """The whole answer."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(request)
        answer = b""
        with trio.fail_after(10):
            async for data in stream:
                answer += data
        return answer


def get(path: str, host: str = "localhost:9464", method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()


def test_prometheus_gets_its_page(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with serving(caplog) as port:
            head, _, body = (await said(port, get("/metrics"))).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert b"text/plain; version=0.0.4" in head
            assert b"skilld-version: 9.9" in head
            assert body == await page()
            assert (await said(port, get("/metrics", method="HEAD"))).endswith(b"\r\n\r\n")

    run(main)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get("/"), 404),
        (get("/v1/status"), 404),
        (get("/metrics/../v1/status"), 404),
        (get("/metrics", method="POST"), 405),
        (get("/metrics", method="DELETE"), 405),
        (get("/metrics", host="attacker.example"), 421),
        (get("/metrics", host="127.0.0.1.attacker.example:9464"), 421),
        (get("/metrics", host="10.0.0.1:9464"), 421),
        (b"GET /metrics HTTP/1.0\r\n\r\n", 421),
        (b"\x16\x03\x01 no http\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * (20 << 10) + b"\r\n\r\n", 413),
    ],
)
def test_anything_else_is_refused(caplog: pytest.LogCaptureFixture, request_: bytes, status: int) -> None:
    async def main() -> None:
        async with serving(caplog) as port:
            answer = await said(port, request_)
            assert answer.startswith(f"HTTP/1.1 {status}".encode()), answer[:200]
            assert b"skilld_turns" not in answer

    run(main)


def test_silent_connections_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with serving(caplog) as port:
            silent = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(32)]
            one_more = await trio.open_tcp_stream("127.0.0.1", port)
            with trio.fail_after(10):
                assert await one_more.receive_some(10) == b"", "closed without a word"
            await one_more.aclose()
            for stream in silent:
                await stream.aclose()
            with trio.fail_after(10):
                while True:
                    try:
                        if b" 200 " in await said(port, get("/metrics")):
                            break
                    except trio.BrokenResourceError:
                        await trio.sleep(0.01)

    run(main)


def test_a_port_that_is_taken_is_tried_again_and_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            spec = ChildSpec(id="metrics", factory=lambda: MetricsPage(f"127.0.0.1:{port}", page, "9.9"), isolated=True)
            async with open_system([spec]):
                taken.close()
                with trio.fail_after(20):
                    while True:
                        try:
                            assert b" 200 " in await said(port, get("/metrics"))
                        except OSError:
                            await trio.sleep(0.05)
                        else:
                            break

    run(main)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("127.0.0.1:9464", ("127.0.0.1", 9464)), ("[::1]:0", ("::1", 0)), ("127.9.9.9:65535", ("127.9.9.9", 65535))],
)
def test_addresses_of_loopback(text: str, expected: tuple[str, int]) -> None:
    assert loopback_address(text) == expected


@pytest.mark.parametrize(
    "text",
    ["9464", ":9464", "localhost:9464", "0.0.0.0:9464", "[::]:9464", "10.0.0.1:9464", "127.0.0.1:", "127.0.0.1:99999"],
)
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:9464"):
        loopback_address(text)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9464", "[::1]:9464", "[::1]"])
def test_hosts_that_mean_this_one(host: str) -> None:
    assert is_local_host(host)


@pytest.mark.parametrize("host", ["", "example.org", "localhost.example.org:1", "192.168.0.1", "[fe80::1]:9464", "a:b"])
def test_hosts_that_do_not(host: str) -> None:
    assert not is_local_host(host)
