"""Bytes that no client library would send."""

from __future__ import annotations

import json
import os
import resource
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trio

from http_kit import body_of, read_all, read_until, serving, wait_until
from skilld.http import ServerLimits
from support import run

GET = b"GET /v1/version HTTP/1.1\r\nhost: x\r\n\r\n"
LIMITS = ServerLimits(head_timeout_s=0.5, idle_timeout_s=0.5, body_timeout_s=0.5, send_timeout_s=0.5)


def post(body: bytes, *headers: str) -> bytes:
    head = "\r\n".join(["POST /v1/sessions HTTP/1.1", "host: x", *headers, "", ""])
    return head.encode() + body


def test_a_client_that_says_nothing_is_let_go(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, limits=LIMITS) as served, await trio.open_unix_socket(str(served.path)) as stream:
            with trio.fail_after(20):
                assert await stream.receive_some() == b""

    run(main)


def test_a_header_sent_byte_by_byte_is_bounded_in_time(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, limits=LIMITS) as served, await trio.open_unix_socket(str(served.path)) as stream:
            with trio.fail_after(5):
                for byte in b"GET /v1/version HTTP/1.1\r\nx: " + b"y" * 500:
                    try:
                        await stream.send_all(bytes([byte]))
                    except trio.BrokenResourceError:
                        break
                    await trio.sleep(0.02)
                else:
                    pytest.fail("never stopped")
            assert b"was not complete in 0.5 s" in await read_all(stream)

    run(main)


def test_a_whole_request_byte_by_byte_is_answered(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served, await trio.open_unix_socket(str(served.path)) as stream:
            for byte in GET:
                await stream.send_all(bytes([byte]))
            assert (await read_all(stream)).startswith(b"HTTP/1.1 200")

    run(main)


@pytest.mark.parametrize("endless", [b"GET /" + b"x" * 100_000, b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000])
def test_an_endless_header_is_refused(tmp_path: Path, endless: bytes) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            raw = await served.raw(endless)
            assert raw.startswith(b"HTTP/1.1 413")
            assert body_of(raw)["error"]["code"] == "too_large"

    run(main)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\nhost: x\r\n\r\n",
        b"GET  /two  spaces HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b'{"jsonrpc": "2.0"}\n\r\n\r\n',
    ],
)
def test_what_is_no_request_is_refused_in_json_and_closed(tmp_path: Path, nonsense: bytes) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            raw = await served.raw(nonsense)
            assert raw.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404"))
            assert "error" in body_of(raw)
            assert (await served.http.get("/v1/version")).status_code == 200

    run(main)


def test_a_declared_body_that_is_too_large_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            raw = await served.raw(post(b"", "content-length: 99999999999", "expect: 100-continue"))
            assert raw.startswith(b"HTTP/1.1 413")
            assert b"connection: close" in raw
            assert b"100 Continue" not in raw

    run(main)


def test_a_large_body_that_is_sent_anyway_does_not_cut_off_the_answer(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, limits=ServerLimits(max_body_bytes=1000)) as served:
            answer = await served.http.post("/v1/sessions", content=b"x" * 5_000_000)
            assert answer.status_code == 413
            assert answer.json()["error"]["details"] == {"max_body_bytes": 1000}

    run(main)


def test_a_chunked_body_is_counted(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, limits=ServerLimits(max_body_bytes=1000)) as served:
            chunk = b"400\r\n" + b"x" * 1024 + b"\r\n"
            raw = await served.raw(post(chunk * 4, "transfer-encoding: chunked"))
            assert raw.startswith(b"HTTP/1.1 413")
            good = b'd\r\n{"title": "a"\r\n1\r\n}\r\n0\r\n\r\n'
            assert (await served.raw(post(good, "transfer-encoding: chunked"))).startswith(b"HTTP/1.1 201")
            bad = await served.raw(post(b"zz\r\nxx\r\n", "transfer-encoding: chunked"))
            assert bad.startswith(b"HTTP/1.1 400")

    run(main)


def test_a_body_that_never_comes_is_bounded_in_time(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, limits=LIMITS) as served:
            raw = await served.raw(post(b'{"ti', "content-length: 100"))
            assert b"was not complete in 0.5 s" in raw

    run(main)


def test_a_client_that_leaves_in_the_middle_of_its_body_does_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            stream = await trio.open_unix_socket(str(served.path))
            await stream.send_all(post(b'{"title": "half"', "content-length: 17"))
            await stream.aclose()
            assert (await served.http.get("/v1/version")).status_code == 200
            assert served.sessions.sessions == {}

    run(main)


def test_expect_100_continue_is_answered(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served, await trio.open_unix_socket(str(served.path)) as stream:
            await stream.send_all(post(b"", "content-length: 2", "expect: 100-continue"))
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 100")
            await stream.send_all(b"{}")
            assert (await read_all(stream)).startswith(b"HTTP/1.1 201")

    run(main)


def test_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            raw = await served.raw(
                GET + b"GET /nope HTTP/1.1\r\nhost: x\r\n\r\n" + post(b"{}", "content-length: 2") + GET
            )
            statuses = [part[:3] for part in raw.split(b"HTTP/1.1 ")[1:]]
            assert statuses == [b"200", b"404", b"201", b"200"]

    run(main)


def test_a_half_closed_client_is_answered(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served, await trio.open_unix_socket(str(served.path)) as stream:
            await stream.send_all(GET)
            await stream.send_eof()
            assert (await read_all(stream)).startswith(b"HTTP/1.1 200")

    run(main)


def test_http_1_0_is_answered_and_closed(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served, await trio.open_unix_socket(str(served.path)) as stream:
            await stream.send_all(b"GET /v1/version HTTP/1.0\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
            with trio.fail_after(20):
                while await stream.receive_some():
                    pass

    run(main)


def test_compressed_bodies_are_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            answer = await served.http.post("/v1/sessions", content=b"{}", headers={"content-encoding": "gzip"})
            assert answer.status_code == 400

    run(main)


def test_a_body_of_many_keys_is_refused_while_others_are_served(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            body = json.dumps({f"k{n}": n for n in range(200_000)}).encode()
            status: list[int] = []

            async def send() -> None:
                status.append((await served.http.post("/v1/sessions/x/cancel", content=body)).status_code)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                assert (await served.http.get("/v1/version")).status_code == 200
            assert status == [400]

    run(main)


def test_connections_of_one_user_are_bounded_with_a_word(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, limits=ServerLimits(connections_per_peer=3)) as served:
            streams = [await trio.open_unix_socket(str(served.path)) for _ in range(3)]
            await wait_until(lambda: served.server.connections >= 3)
            raw = await served.raw(GET)
            assert raw.startswith(b"HTTP/1.1 429")
            assert b"retry-after: 1" in raw
            assert body_of(raw)["error"]["code"] == "overloaded"
            for stream in streams:
                await stream.aclose()
            await wait_until(lambda: not served.server.connections)
            assert (await served.raw(GET)).startswith(b"HTTP/1.1 200")

    run(main)


def test_whoever_leaves_and_connects_anew_at_once_has_a_place(tmp_path: Path) -> None:
    """As a program does that has as many connections as it may, and a new one for every request."""

    def ask_again_and_again(path: str) -> None:
        for _ in range(200):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                client.sendall(GET)
                assert client.recv(65_536).startswith(b"HTTP/1.1 200")

    async def main() -> None:
        async with serving(tmp_path, limits=ServerLimits(connections_per_peer=1)) as served:
            await trio.to_thread.run_sync(ask_again_and_again, str(served.path))

    run(main)


def test_a_place_that_was_given_back_while_nothing_could_run_is_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole wait is over when it is seen that the other one left: a machine may give no time for as long."""
    monkeypatch.setattr("skilld.http.server._PLACE_WAIT_S", 0.5)

    async def main() -> None:
        async with serving(tmp_path, limits=ServerLimits(connections_per_peer=1)) as served:
            leaves = await trio.open_unix_socket(str(served.path))
            await wait_until(lambda: served.server.connections)
            async with await trio.open_unix_socket(str(served.path)) as waits:
                await waits.send_all(GET)
                await wait_until(lambda: served.server._turned_away)
                await leaves.aclose()
                time.sleep(1)  # noqa: ASYNC251  # nothing else runs
                assert (await read_until(waits, b"\r\n\r\n")).startswith(b"HTTP/1.1 200")

    run(main)


def test_who_waits_for_a_place_when_the_daemon_stops_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skilld.http.server._PLACE_WAIT_S", 60.0)  # so that it waits still

    async def main() -> None:
        with ExitStack() as stack:
            async with serving(tmp_path, limits=ServerLimits(connections_per_peer=1)) as served:
                clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2)]
                for client in clients:
                    client.settimeout(20)
                    client.connect(str(served.path))
                await wait_until(lambda: len(served.server._turned_away) == 1)
            assert clients[1].recv(100) == b""

    run(main)


def test_running_out_of_descriptors_is_survived(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        async with serving(tmp_path) as served:
            with trio.socket.socket(socket.AF_UNIX) as client:
                lowest_free = os.dup(client.fileno())
                os.close(lowest_free)
                resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limit[1]))
                try:
                    await client.connect(str(served.path))
                    await client.send(GET)
                    await wait_until(lambda: "raise LimitNOFILE" in caplog.text)
                    await trio.sleep(0.25)
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, limit)
                assert (await client.recv(4096)).startswith(b"HTTP/1.1 200")
            assert caplog.text.count("raise LimitNOFILE") == 1

    run(main)


def test_a_drain_lets_the_answer_under_way_end_and_closes_idle_connections(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            idle = await trio.open_unix_socket(str(served.path))
            await idle.send_all(GET)
            await idle.receive_some()
            busy = await trio.open_unix_socket(str(served.path))
            await busy.send_all(post(b"{", "content-length: 2"))
            # Both requests have been read, of the second one its head.
            await wait_until(lambda: [each._used for each in served.server._connections] == [True, True])
            served.server.drain(60)
            with trio.fail_after(20):
                assert await idle.receive_some() == b""
            await busy.send_all(b"}")
            answer = await read_all(busy)
            assert answer.startswith(b"HTTP/1.1 201")
            assert b"connection: close" in answer.lower()
            assert not served.path.exists()
            with pytest.raises(OSError, match=r"socket|No such file|refused"):
                await trio.open_unix_socket(str(served.path))
            await idle.aclose()
            await busy.aclose()

    run(main)


def test_a_stop_is_not_held_up_by_a_client_that_never_reads(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            session = await served.session()
            stream = await trio.open_unix_socket(str(served.path))
            await stream.send_all(f"GET /v1/sessions/{session}/events HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            for _ in range(40):
                served.sessions.publish(session, "tool.output", None, text="x" * 20_000)
            await trio.sleep(0.1)
            began = trio.current_time()
            served.server.drain(0.2)
            await wait_until(lambda: not served.server.connections)
            assert trio.current_time() - began < 2
            await stream.aclose()

    run(main)


def test_a_thousand_connects_that_go_away_again_leave_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:
            for _ in range(1000):
                stream = await trio.open_unix_socket(str(served.path))
                await stream.aclose()
            await wait_until(lambda: not served.server.connections)
            assert (await served.http.get("/v1/version")).status_code == 200

    run(main)


def test_curl_works(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as served:

            async def curl(*arguments: str) -> Any:
                command = ["curl", "-sS", "--max-time", "20", "--unix-socket", str(served.path), *arguments]
                return json.loads((await trio.run_process(command, capture_stdout=True)).stdout)

            assert (await curl("http://skilld/v1/version"))["api"] == "v1"
            assert (await curl("-d", '{"title": "by curl"}', "http://skilld/v1/sessions"))["title"] == "by curl"
            large = tmp_path / "large"
            large.write_bytes(b"x" * 9_000_000)
            refused = await curl("--data-binary", f"@{large}", "http://skilld/v1/sessions")
            assert refused["error"]["code"] == "too_large"

    run(main)
