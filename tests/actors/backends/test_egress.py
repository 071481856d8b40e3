"""The proxy of a container: what it carries, what it refuses, what hostile peers can do to it. Without a network."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
import trio
import trio.lowlevel
import trio.testing

from skill_actors.backends.container_forward import SOCKET
from skill_actors.backends.egress import Egress, EgressRefused, Stream, is_of_this_host, listening_in, target_of
from skill_actors.backends.egress_rules import Address, rule_of
from support import run

PUBLIC = "93.184.216.34"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class World:
    """The internet: names and their addresses, and a server that hears what comes and gives these answers.

    Each time a name is looked up the next of its answers is given, the last one again and again.
    """

    def __init__(self, *allow: str, max_bytes: int = 0, shared: int = 100, own: Sequence[str] = ()) -> None:
        self.names: dict[str, list[list[str]]] = {}
        self.answers: list[bytes] = []
        self.heard = b""
        self.dialled: list[tuple[str, int]] = []
        self.dead: set[str] = set()
        self.keeps_open = False
        self.shared = trio.Semaphore(shared)
        rules = [rule_of(entry) for entry in allow]
        self.egress = Egress(
            rules,
            self.shared,
            max_bytes=max_bytes,
            resolve=self._resolve,
            dial=self._dial,
            own=lambda address: str(address) in own,
        )
        self.nursery: trio.Nursery | None = None

    async def _resolve(self, name: str) -> Sequence[Address]:
        await trio.lowlevel.checkpoint()
        answers = self.names.get(name)
        if answers is None:
            raise OSError("no such name")
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [ipaddress.ip_address(address) for address in found]

    async def _dial(self, address: Address, port: int) -> Stream:
        await trio.lowlevel.checkpoint()
        self.dialled.append((str(address), port))
        if str(address) in self.dead:
            await trio.sleep(1000)
        assert self.nursery is not None
        ours, theirs = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self._server, theirs)
        return ours

    async def _server(self, stream: Stream) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            if self.keeps_open:
                while data := await stream.receive_some():
                    self.heard += data
                return
            self.heard += bytes(await stream.receive_some())
            for answer in self.answers:
                await stream.send_all(answer)
            await stream.send_eof()
            while data := await stream.receive_some():
                self.heard += data

    async def says(self, *sent: bytes) -> bytes:
        """What the proxy answers to a client that sends this and waits for the end."""
        async with trio.open_nursery() as self.nursery:
            ours, theirs = trio.testing.memory_stream_pair()
            self.nursery.start_soon(self.egress.handle, theirs)
            answer = b""
            with contextlib.suppress(trio.BrokenResourceError):
                for data in sent:
                    await ours.send_all(data)
                    await trio.testing.wait_all_tasks_blocked()
                while data := bytes(await ours.receive_some()):
                    answer += data
            await ours.aclose()
            self.nursery.cancel_scope.cancel()
        return answer


def virtually(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_tunnel_carries_both_ways_and_a_half_that_ends_leaves_the_other() -> None:
    async def main() -> None:
        world = World("pypi.org")
        world.names["pypi.org"] = [[PUBLIC]]
        world.answers = [b"server ", b"hello"]
        said = await world.says(b"CONNECT pypi.org:443 HTTP/1.1\r\nHost: pypi.org:443\r\n\r\nearly ", b"client")
        head, _, body = said.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert body == b"server hello"
        assert world.heard == b"early client"
        assert world.dialled == [(PUBLIC, 443)]

    virtually(main)


def test_a_plain_request_goes_on_without_what_is_for_the_proxy_and_with_the_host_that_was_judged() -> None:
    async def main() -> None:
        world = World("example.com")
        world.names["example.com"] = [[PUBLIC]]
        world.answers = [OK]
        said = await world.says(
            b"POST http://example.com/a/b?c=d#e HTTP/1.1\r\nHost: internal.example\r\nProxy-Authorization: Basic x\r\n"
            b"Connection: keep-alive, x-hop\r\nX-Hop: 1\r\nX-Mine: 2\r\nUpgrade: h2c\r\nContent-Length: 4\r\n\r\nbody"
        )
        assert said.startswith(b"HTTP/1.1 200 OK\r\n")
        assert said.endswith(b"\r\n\r\nhi")
        lines = world.heard.split(b"\r\n")
        assert lines[0] == b"POST /a/b?c=d HTTP/1.1"
        names = {line.partition(b":")[0].lower(): line for line in lines[1:-2]}
        assert names[b"host"] == b"Host: example.com"
        assert set(names) == {b"host", b"x-mine", b"content-length", b"connection"}
        assert lines[-1] == b"body"

    virtually(main)


@pytest.mark.parametrize(
    ("request_line", "status", "words"),
    [
        (b"CONNECT other.org:443", 403, b"other.org:443 may not be reached from here, only pypi.org"),
        (b"CONNECT pypi.org:22", 403, b"pypi.org:22 may not be reached"),
        (b"CONNECT pypi.org:25", 403, b"may not be reached"),
        (b"CONNECT 93.184.216.34:443", 403, b"93.184.216.34:443 may not be reached"),
        (b"CONNECT 127.0.0.1:443", 403, b"127.0.0.1:443 may not be reached"),
        (b"CONNECT [::1]:443", 403, b"::1:443 may not be reached"),
        (b"CONNECT 127.1:443", 400, b"cannot use the target"),
        (b"CONNECT 2130706433:443", 400, b"cannot use the target"),
        (b"CONNECT pypi.org", 400, b"cannot use the target"),
        (b"CONNECT pypi.org:0", 400, b"cannot use the target"),
        (b"CONNECT pypi.org:99999", 400, b"cannot use the target"),
        (b"CONNECT user@pypi.org:443", 400, b"cannot use the target"),
        (b"GET /", 400, b"cannot use the target"),
        (b"GET https://pypi.org/", 400, b"https goes by CONNECT"),
        (b"GET ftp://pypi.org/", 400, b"cannot use the target"),
        (b"GET file:///etc/passwd", 400, b"cannot use the target"),
        (b"GET http://pypi.org@other.org/", 400, b"cannot use the target"),
        (b"GET http://other.org\\@pypi.org/", 400, b"cannot use the target"),
        (b"GET http://pypi.org:x/", 400, b"cannot use the target"),
        (b"GET http://pypi.org:0/", 400, b"cannot use the target"),
        (b"GET http://other.org/", 403, b"other.org:80 may not be reached"),
        (b"GET http://pypi.org:8080/", 403, b"pypi.org:8080 may not be reached"),
        (b"GET http://[::ffff:127.0.0.1]/", 403, b"may not be reached"),
        (b"CONNECT nowhere.pypi.org:443", 403, b"may not be reached"),
        (b"CONNECT gone.example:443", 502, b"the name gone.example has no address"),
    ],
)
def test_what_is_not_listed_is_refused_with_the_reason_in_the_status_line(
    request_line: bytes, status: int, words: bytes
) -> None:
    async def main() -> None:
        world = World("pypi.org", "gone.example")
        world.names["pypi.org"] = world.names["other.org"] = [[PUBLIC]]
        said = await world.says(request_line + b" HTTP/1.1\r\nHost: pypi.org\r\n\r\n")
        first = said.split(b"\r\n")[0]
        assert first.startswith(b"HTTP/1.1 %d " % status)
        assert words in first
        assert world.dialled == []

    virtually(main)


def test_a_listed_name_that_stands_for_a_private_address_is_refused() -> None:
    async def main() -> None:
        for address in ("127.0.0.1", "169.254.169.254", "10.0.0.1", "::1", "::ffff:10.0.0.1", "fe80::1"):
            world = World("pypi.org")
            world.names["pypi.org"] = [[address]]
            said = await world.says(b"CONNECT pypi.org:443 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"which is not public, or of this host, and can only be allowed by its" in said.split(b"\r\n")[0]
            assert world.dialled == []

    virtually(main)


def test_a_listed_name_that_stands_for_an_address_of_this_host_is_refused() -> None:
    async def main() -> None:
        world = World("*", own=[PUBLIC])
        world.names["rebound.example"] = [[PUBLIC]]
        said = await world.says(b"CONNECT rebound.example:443 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"or of this host" in said.split(b"\r\n")[0]
        assert world.dialled == []

    virtually(main)


def test_addresses_of_this_host_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be told, an address counts as this host's."""
    assert is_of_this_host(ipaddress.ip_address("127.0.0.1"))
    assert is_of_this_host(ipaddress.ip_address("::ffff:127.0.0.1"))
    assert not is_of_this_host(ipaddress.ip_address("192.0.2.1"))
    assert not is_of_this_host(ipaddress.ip_address("2001:db8::1"))

    def full(*_: object) -> object:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socket", full)
    assert is_of_this_host(ipaddress.ip_address("192.0.2.1"))


def test_names_that_nobody_answers_for_hold_few_threads_and_none_of_those_that_all_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_up: list[str] = []
    answered = threading.Event()

    def slow(name: str, *_: object, **__: object) -> list[object]:
        looked_up.append(name)
        answered.wait(60)
        return []

    async def main() -> None:
        served = Egress([rule_of("*")], trio.Semaphore(100))
        async with trio.open_nursery() as nursery:
            streams = []
            for number in range(20):
                ours, theirs = trio.testing.memory_stream_pair()
                streams.append(ours)
                nursery.start_soon(served.handle, theirs)
                await ours.send_all(b"CONNECT n%d.example:443 HTTP/1.1\r\nHost: x\r\n\r\n" % number)
            with trio.fail_after(30):
                while len(looked_up) < 4:  # noqa: ASYNC110  # until the threads have begun
                    await trio.sleep(0.01)
            assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
            assert len(looked_up) == 4
            answered.set()
            for ours in streams:
                assert (await ours.receive_some()).startswith(b"HTTP/1.1 502 the name n")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    run(main)


def test_a_name_whose_addresses_change_is_resolved_once_and_each_is_judged() -> None:
    """DNS rebinding: the second answer is never asked for, and a private one among the first is left out."""

    async def main() -> None:
        world = World("pypi.org")
        world.names["pypi.org"] = [["10.0.0.1", PUBLIC], ["127.0.0.1"]]
        world.answers = [OK]
        await world.says(b"GET http://pypi.org/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert world.dialled == [(PUBLIC, 80)]
        said = await world.says(b"GET http://pypi.org/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"not public" in said
        assert world.dialled == [(PUBLIC, 80)]

    virtually(main)


def test_a_redirect_is_handed_back_and_not_followed() -> None:
    async def main() -> None:
        world = World("pypi.org")
        world.names["pypi.org"] = [[PUBLIC]]
        world.answers = [b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"]
        said = await world.says(b"GET http://pypi.org/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 302 Found\r\n")
        assert len(world.dialled) == 1

    virtually(main)


def test_a_second_request_on_a_connection_is_not_carried() -> None:
    """Each is judged; what is smuggled behind the first is read by nobody."""

    async def main() -> None:
        world = World("pypi.org")
        world.names["pypi.org"] = [[PUBLIC]]
        world.answers = [OK]
        first = b"GET http://pypi.org/ HTTP/1.1\r\nHost: x\r\n\r\n"
        said = await world.says(first + b"GET http://other.org/secret HTTP/1.1\r\nHost: x\r\n\r\n")
        assert said.count(b"HTTP/1.1 ") == 1
        assert b"secret" not in world.heard

    virtually(main)


def test_two_lengths_of_one_body_become_one() -> None:
    async def main() -> None:
        world = World("pypi.org")
        world.names["pypi.org"] = [[PUBLIC]]
        world.answers = [OK]
        await world.says(
            b"POST http://pypi.org/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"3\r\nabc\r\n0\r\n\r\n",
        )
        assert b"ontent-length" not in world.heard.lower()
        assert world.heard.endswith(b"3\r\nabc\r\n0\r\n\r\n")

    virtually(main)


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"x" * 100_000, b"GET http://pypi.org/ HTTP/1.1\r\n\r\n"],
)
def test_what_is_no_request_is_refused_and_bounded(garbage: bytes) -> None:
    async def main() -> None:
        world = World("pypi.org")
        assert (await world.says(garbage + b"\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        assert world.dialled == []

    virtually(main)


@pytest.mark.parametrize(
    ("answer", "begins"),
    [
        (b"garbage\r\n\r\n", b""),
        (b"", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", b"HTTP/1.1 200 OK"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000, b""),
    ],
)
def test_a_server_that_speaks_nonsense_ends_its_connection_only(answer: bytes, begins: bytes) -> None:
    async def main() -> None:
        world = World("pypi.org")
        world.names["pypi.org"] = [[PUBLIC]]
        world.answers = [answer]
        request = b"GET http://pypi.org/ HTTP/1.1\r\nHost: x\r\n\r\n"
        assert (await world.says(request)).startswith(begins)
        world.answers = [OK]
        assert (await world.says(request)).endswith(b"hi")

    virtually(main)


def test_an_address_that_does_not_answer_is_left_for_the_next() -> None:
    async def main() -> None:
        world = World("pypi.org")
        world.names["pypi.org"] = [["93.184.216.35", PUBLIC]]
        world.dead = {"93.184.216.35"}
        world.answers = [OK]
        started = trio.current_time()
        said = await world.says(b"GET http://pypi.org/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert said.endswith(b"hi")
        assert trio.current_time() - started == 10
        world.dead.add(PUBLIC)
        refused = await world.says(b"CONNECT pypi.org:80 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"502 pypi.org:80 does not answer" in refused

    virtually(main)


def test_who_says_nothing_is_let_go_before_and_in_a_tunnel() -> None:
    async def main() -> None:
        world = World("pypi.org")
        world.names["pypi.org"] = [[PUBLIC]]
        started = trio.current_time()
        assert await world.says(b"CONNECT pypi.org:443 HTTP/1.1\r\n") == b""
        assert trio.current_time() - started == 15
        world.keeps_open = True
        assert (await world.says(b"CONNECT pypi.org:443 HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert trio.current_time() - started == 135

    virtually(main)


def test_the_bytes_of_a_container_are_counted_and_then_it_is_told() -> None:
    async def main() -> None:
        world = World("pypi.org", max_bytes=10_000)
        world.names["pypi.org"] = [[PUBLIC]]
        world.answers = [b"x" * 20_000]
        said = await world.says(b"CONNECT pypi.org:443 HTTP/1.1\r\nHost: x\r\n\r\n", b"go")
        assert len(said) < 10_000
        refused = await world.says(b"CONNECT pypi.org:443 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"403 this container has sent and received all that it may" in refused

    virtually(main)


def test_a_target_keeps_its_path_as_it_was_written() -> None:
    assert target_of(b"GET", b"http://a.org?x=http://b.org/").path == b"/?x=http://b.org/"
    assert target_of(b"GET", b"http://a.org:81").path == b"/"
    assert target_of(b"GET", b"http://A.org.:81/%2e%2e/x").path == b"/%2e%2e/x"
    assert target_of(b"CONNECT", b"[2606:4700::1]:443").host == "2606:4700::1"
    with pytest.raises(EgressRefused):
        target_of(b"GET", b"http:///etc/passwd")


def test_a_flood_of_connections_is_bounded_and_does_not_keep_another_container_out(tmp_path: Path) -> None:
    """More than one container's share wait at its own socket, and are served when earlier ones have gone."""

    async def main() -> None:
        shared = trio.Semaphore(40)
        folders = [tmp_path / "one", tmp_path / "two"]
        async with contextlib.AsyncExitStack() as held, trio.open_nursery() as nursery:
            for folder in folders:
                folder.mkdir()
                made = listening_in(folder)
                listener = trio.SocketListener(trio.socket.from_stdlib_socket(made))
                nursery.start_soon(Egress([], shared).serve, listener)
            flood = []
            for _ in range(50):
                stream = await trio.open_unix_socket(str(folders[0] / SOCKET))
                flood.append(await held.enter_async_context(stream))
                await trio.testing.wait_all_tasks_blocked()  # one that comes while others are not taken yet may wait
            with trio.fail_after(30):
                while shared.value > 8:  # noqa: ASYNC110  # until all that may have been taken
                    await trio.sleep(0.01)
            async with await trio.open_unix_socket(str(folders[1] / SOCKET)) as other:
                await other.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await other.receive_some()).startswith(b"HTTP/1.1 400")
            assert shared.value >= 7
            for stream in flood[:40]:
                await stream.aclose()
            await flood[49].send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await flood[49].receive_some()).startswith(b"HTTP/1.1 400")
            nursery.cancel_scope.cancel()

    run(main)


def test_a_socket_is_made_where_its_path_is_longer_than_an_address(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40)
    folder.mkdir(mode=0o700)
    with listening_in(folder):
        assert (folder / SOCKET).is_socket()
        assert (folder / SOCKET).stat().st_mode & 0o777 == 0o666
        assert len(os.fsencode(folder / SOCKET)) > 107
