"""Containers whose network is an allow-list: what commands in them reach, and what they do not."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import trio

from docker_bench import Box, boxed, containers_of, owner_of
from docker_kit import engine_with_slim_image
from skill_actors.backends import BackendUnavailable, WorkspaceSpec
from skill_actors.backends.docker import open_docker
from skill_actors.backends.docker_image import SLIM_IMAGE, engine_address
from skill_actors.backends.docker_options import checked
from support import run

FETCH = """
import sys, urllib.request
for url in sys.argv[1:]:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            print(answer.status, answer.read().decode())
    except OSError as error:
        print(type(error).__name__, error)
"""
TUNNEL = """
import hashlib, http.client, sys
way = http.client.HTTPConnection("127.0.0.1", 3128, timeout=20)
way.set_tunnel("127.0.0.1", int(sys.argv[1]))
body = bytes(range(256)) * 20_000
way.request("POST", "/echo", body)
print(hashlib.sha256(way.getresponse().read()).hexdigest() == hashlib.sha256(body).hexdigest())
"""
DIRECT = """
import socket, sys
for kind, place in (
    (socket.SOCK_STREAM, ("127.0.0.1", int(sys.argv[1]))),
    (socket.SOCK_STREAM, ("172.17.0.1", 80)),
    (socket.SOCK_STREAM, ("1.1.1.1", 443)),
    (socket.SOCK_DGRAM, ("1.1.1.1", 53)),
    (socket.SOCK_STREAM, ("169.254.169.254", 80)),
):
    with socket.socket(socket.AF_INET, kind) as made:
        made.settimeout(5)
        try:
            made.connect(place)
            print("CONNECTED", place)
        except OSError as error:
            print(error.strerror)
try:
    print("RESOLVED", socket.getaddrinfo("example.com", 80))
except OSError as error:
    print("no name")
"""
FLOOD = """
import socket
held = []
for number in range(400):
    made = socket.socket(socket.AF_UNIX if number % 2 else socket.AF_INET)
    made.settimeout(2)
    try:
        made.connect("/run/skilld/proxy" if number % 2 else ("127.0.0.1", 3128))
        held.append(made)
    except OSError:
        break
print("held", len(held))
"""


@contextlib.asynccontextmanager
async def web(answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello") -> AsyncIterator[int]:
    """A server on the loopback of this host that says this to everybody; its port."""

    async def serve(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.receive_some()
            await stream.send_all(answer)
            await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def python(box: Box, program: str, *arguments: object) -> list[str]:
    """What it prints. NO_PROXY names the loopback, which is the container's own: that of the host goes by the proxy."""
    (box.folder / "program.py").write_text(program)
    written = " ".join(map(str, arguments))
    result = await box.bash(f"NO_PROXY= no_proxy= python3 program.py {written}", timeout_s=60)
    return result.content.splitlines()


def proxies(box: Box) -> list[Path]:
    """The folders of proxies that are there."""
    made = box.executor.proxies.folder
    return [] if made is None else sorted(made.iterdir())


def test_what_is_listed_is_reached_and_all_else_is_refused_in_words_that_the_command_sees(tmp_path: Path) -> None:
    async def main() -> None:
        async with web() as port, web() as other:
            options = {"network": "allow", "allow": [f"127.0.0.1:{port}"]}
            async with boxed(tmp_path / "w", owner=owner_of(tmp_path), **options) as box:
                said = await python(
                    box,
                    FETCH,
                    f"http://127.0.0.1:{port}/",
                    f"http://127.0.0.1:{other}/",
                    "https://example.com/",
                    "http://example.com/",
                )
                assert said[0] == "200 hello"
                assert said[1].startswith("HTTPError HTTP Error 403: 127.0.0.1:")
                assert "Tunnel connection failed: 403 example.com:443 may not be reached from here" in said[2]
                assert said[3].startswith("HTTPError HTTP Error 403: example.com:80 may not be reached")

    run(main)


def test_a_redirect_to_where_nobody_may_go_leads_nowhere(tmp_path: Path) -> None:
    async def main() -> None:
        async with web() as secret:
            away = f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{secret}/\r\nContent-Length: 0\r\n\r\n"
            async with (
                web(away.encode()) as port,
                boxed(tmp_path / "w", network="allow", allow=[f"127.0.0.1:{port}"]) as box,
            ):
                said = await python(box, FETCH, f"http://127.0.0.1:{port}/")
                assert said == [
                    f"HTTPError HTTP Error 403: 127.0.0.1:{secret} may not be reached from here, only 127.0.0.1:{port}"
                ]

    run(main)


async def echo(stream: trio.SocketStream) -> None:
    """An HTTP server that gives back the body of one request."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += await stream.receive_some()
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(re.search(rb"Content-Length: (\d+)", head)[1])  # type: ignore[index]
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length)
    while length:
        body = body or await stream.receive_some()
        await stream.send_all(body)
        length -= len(body)
        body = b""


def test_a_tunnel_loses_no_byte_in_either_direction(tmp_path: Path) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(partial(trio.serve_tcp, echo, 0, host="127.0.0.1"))
            port = listener.socket.getsockname()[1]
            async with boxed(tmp_path / "w", network="allow", allow=[f"127.0.0.1:{port}"]) as box:
                assert "\n".join(await python(box, TUNNEL, port)) == "True"
            nursery.cancel_scope.cancel()

    run(main)


def test_there_is_no_way_around_the_proxy(tmp_path: Path) -> None:
    """Nothing but the loopback of the container is there: no address of the host, of the network, and no names."""

    async def main() -> None:
        async with web() as port, boxed(tmp_path / "w", network="allow", allow=[f"127.0.0.1:{port}"]) as box:
            said = await python(box, DIRECT, port)
            assert said == ["Connection refused", *["Network is unreachable"] * 4, "no name"]
            tried = await box.bash(
                "grep -c : /proc/net/dev; rm -f /run/skilld/proxy; touch /run/skilld/x; "
                "ln -sf /etc/passwd /run/skilld/proxy; pkill -9 -f skilld_box; kill -9 -1; ls -l /run/skilld"
            )
            assert re.search(r"srw-rw-rw-.* proxy$", tried.content, re.MULTILINE), tried.content
            assert (await python(box, FETCH, f"http://127.0.0.1:{port}/")) == ["200 hello"]

    run(main)


def test_a_flood_from_inside_is_bounded_and_the_next_call_is_served(tmp_path: Path) -> None:
    async def main() -> None:
        async with web() as port, boxed(tmp_path / "w", network="allow", allow=[f"127.0.0.1:{port}"]) as box:
            before = len(os.listdir("/proc/self/fd"))
            most = 0

            async def watch() -> None:
                nonlocal most
                while True:
                    most = max(most, len(os.listdir("/proc/self/fd")))
                    await trio.sleep(0.01)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                said = await python(box, FLOOD)
                nursery.cancel_scope.cancel()
            assert said[0].startswith("held ")
            assert most - before < 100
            with trio.fail_after(30):
                while await python(box, FETCH, f"http://127.0.0.1:{port}/") != ["200 hello"]:
                    pass

    run(main)


def test_the_proxy_goes_with_its_container(tmp_path: Path) -> None:
    owner = owner_of(tmp_path)

    async def main() -> None:
        async with (
            web() as port,
            boxed(tmp_path / "w", owner=owner, network="allow", allow=[f"127.0.0.1:{port}"]) as box,
        ):
            assert (await box.bash("echo up")).content == "up"
            (first,) = proxies(box)
            with engine_with_slim_image() as client:
                client.api.kill(containers_of(client, owner)[0]["Id"])
            with trio.fail_after(20):
                while proxies(box):  # noqa: ASYNC110  # until that is known here
                    await trio.sleep(0.01)
            assert (await python(box, FETCH, f"http://127.0.0.1:{port}/"))[-1] == "200 hello"
            (second,) = proxies(box)
            assert second != first
            made = box.executor.proxies.folder
            assert made is not None
        assert not made.exists()

    run(main)


def test_one_container_does_not_see_the_socket_of_another_and_each_has_its_own_list(tmp_path: Path) -> None:
    async def main() -> None:
        async with web() as port, web() as other:
            hosts = [f"127.0.0.1:{port}", f"127.0.0.1:{other}"]
            session = {"networks": ["allow"], "hosts": hosts}
            async with boxed(tmp_path / "w", session=session) as box:
                boxes = []
                for number, host in enumerate(hosts):
                    options = {"network": "allow", "allow": [host]}
                    spec = WorkspaceSpec(session=str(number), root=tmp_path / str(number), options=options)
                    boxes.append(Box(box.executor, await box.executor.open(spec), tmp_path / str(number)))
                urls = [f"http://{host}/" for host in hosts]
                first = await python(boxes[0], FETCH, *urls)
                second = await python(boxes[1], FETCH, *urls)
                assert first[0] == second[1] == "200 hello"
                assert first[1].startswith("HTTPError HTTP Error 403")
                assert second[0].startswith("HTTPError HTTP Error 403")
                assert len(proxies(box)) == 2
                assert (await box.bash("ls /run/skilld; env | grep -i proxy")).outcome == "error"

    run(main)


def test_an_engine_on_another_host_has_no_allow_list(tmp_path: Path) -> None:
    async def main() -> None:
        path = engine_address(os.environ).removeprefix("unix://")

        async def relay(stream: trio.SocketStream) -> None:
            async with await trio.open_unix_socket(path) as engine, trio.open_nursery() as both:
                both.start_soon(copy, stream, engine)
                both.start_soon(copy, engine, stream)

        async def copy(source: trio.SocketStream, sink: trio.SocketStream) -> None:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                async for data in source:
                    await sink.send_all(data)
                await sink.send_eof()

        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(partial(trio.serve_tcp, relay, 0, host="127.0.0.1"))
            address = f"tcp://127.0.0.1:{listener.socket.getsockname()[1]}"
            options = checked(
                {"image": SLIM_IMAGE, "pool": 0, "address": address, "network": "allow", "allow": ["a.org"]}
            )
            async with open_docker(options) as executor:
                with pytest.raises(BackendUnavailable, match="needs an engine on this host"):
                    await executor.check()
            nursery.cancel_scope.cancel()

    run(main)
