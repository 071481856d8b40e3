"""The dashboard on a real port: what browsers, hostile pages and hostile programs are answered."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import trio

from dashboard_kit import Shown, showing
from fake_daemon import event, fake_daemon
from http_kit import body_of, read_all, read_until
from skilld.dashboard import DashboardLimits, server
from skilld.dashboard.peer_user import peer_uid
from skilld.http.limits import ServerLimits
from support import run

EVENTS = "/v1/workshop/events"
CAST = "/v1/workshop/cast"
BRIEF = DashboardLimits(
    http=ServerLimits(head_timeout_s=1.0, idle_timeout_s=1.0, body_timeout_s=1.0, max_body_bytes=1000)
)


def test_the_address_lets_a_browser_in_and_the_bare_one_does_not(tmp_path: Path) -> None:
    async def main() -> None:
        with fake_daemon(tmp_path) as daemon:
            async with showing(daemon.path, let_in=False) as shown:
                refused = await shown.http.get("/")
                assert (refused.status_code, "printed" in refused.text) == (401, True)
                assert (await shown.http.get("/static/app.js")).status_code == 401
                assert (await shown.http.get("/api/about")).status_code == 401
                page = await shown.http.get(shown.gate.address)
                assert page.status_code == 200
                assert "<!doctype html>" in page.text
                assert (await shown.http.get("/")).status_code == 200
                assert (await shown.http.get("/static/app.js")).headers["content-type"].startswith("text/javascript")
                assert (await shown.get("/about")).json() == {"read_only": False}

    run(main)


def test_every_answer_says_what_a_browser_may_not_do(tmp_path: Path) -> None:
    async def main() -> None:
        with fake_daemon(tmp_path) as daemon:
            daemon.on_json("GET", "/v1/status", {})
            async with showing(daemon.path) as shown:
                answers = [await shown.http.get("/"), await shown.http.get("/nothing"), await shown.get("/v1/status")]
                answers.append(await shown.http.get("/", headers={"host": "evil.example"}))
                assert [answer.status_code for answer in answers] == [200, 404, 200, 403]
                for answer in answers:
                    assert answer.headers["content-security-policy"].startswith("default-src 'self'; base-uri 'none'")
                    assert answer.headers["x-frame-options"] == "DENY"
                    assert answer.headers["referrer-policy"] == "no-referrer"
                    assert answer.headers["cache-control"] == "no-store"
                    assert answer.headers["x-content-type-options"] == "nosniff"
                    assert not [name for name in answer.headers if name.startswith("access-control")]

    run(main)


def test_a_change_is_passed_on_as_the_daemon_knows_it(tmp_path: Path) -> None:
    async def main() -> None:
        with fake_daemon(tmp_path) as daemon:
            daemon.on_json("POST", CAST, {"turn": "trn_x"}, 202)
            async with showing(daemon.path) as shown:
                key = {"Idempotency-Key": "k-1"}
                answer = await shown.post(
                    CAST, {"agent": "a", "text": "<b>ü"}, Origin=f"http://127.0.0.1:{shown.gate.port}", **key
                )
                assert (answer.status_code, answer.json()) == (202, {"turn": "trn_x"})
            (seen,) = daemon.requests("POST", CAST)
            assert json.loads(seen.body) == {"agent": "a", "text": "<b>ü"}
            assert seen.headers["idempotency-key"] == "k-1"
            assert not {"origin", "cookie", "x-skilld-token", "sec-fetch-site", "user-agent"} & seen.headers.keys()

    run(main)


def test_what_the_daemon_refuses_is_told_as_it_says(tmp_path: Path) -> None:
    async def main() -> None:
        with fake_daemon(tmp_path) as daemon:
            daemon.on_error("POST", CAST, 429, "overloaded", "too many wait")
            async with showing(daemon.path) as shown:
                answer = await shown.post(CAST, {"agent": "a", "text": "t"})
                assert (answer.status_code, answer.json()["error"]["message"]) == (429, "too many wait")

    run(main)


def test_of_an_answer_only_status_and_content_come_back(tmp_path: Path) -> None:
    async def main() -> None:
        with fake_daemon(tmp_path) as daemon:
            html = b"<script>alert(1)</script>"
            more = {"set-cookie": "a=b", "location": "http://evil.example", "access-control-allow-origin": "*"}
            daemon.on("GET", "/v1/status", lambda exchange: exchange.answer(200, html, "text/html", more))
            async with showing(daemon.path) as shown:
                answer = await shown.get("/v1/status")
                assert answer.headers["content-type"] == "application/json"
                assert not {name.lower() for name in more} & answer.headers.keys()

    run(main)


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"x-skilld-token": ""}, "has not this dashboard's token"),
        ({"cookie": "a=b"}, "not let in yet"),
        ({"origin": "http://evil.example"}, "is not served"),
        ({"origin": "null"}, "is not served"),
        ({"sec-fetch-site": "cross-site"}, "a page elsewhere"),
        ({"sec-fetch-site": "same-site"}, "a page elsewhere"),
        ({"host": "evil.example:80"}, "is not this dashboard's"),
        ({"content-type": "text/plain"}, "has to be application/json"),
        ({"content-type": "application/x-www-form-urlencoded"}, "has to be application/json"),
        ({"idempotency-key": "a b"}, "Idempotency-Key"),
    ],
)
def test_a_change_that_is_not_of_our_pages_reaches_no_daemon(tmp_path: Path, headers: dict[str, str], why: str) -> None:
    async def main() -> None:
        with fake_daemon(tmp_path) as daemon:
            daemon.on_json("POST", CAST, {})
            async with showing(daemon.path) as shown:
                answer = await shown.post(CAST, {"agent": "a", "text": "t"}, **headers)
                assert answer.status_code in (400, 401, 403)
                assert why in answer.json()["error"]["message"]
            assert daemon.seen == []

    run(main)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"a": NaN}', b'{"agent": 1, "agent": 2}', b"\xff", b'{"files": []}']
)
def test_a_body_that_is_none_of_ours_reaches_no_daemon(tmp_path: Path, body: bytes) -> None:
    async def main() -> None:
        with fake_daemon(tmp_path) as daemon:
            daemon.on_json("POST", CAST, {})
            async with showing(daemon.path) as shown:
                headers = {**shown.call_headers, "content-type": "application/json"}
                answer = await shown.http.post(f"/api{CAST}", content=body, headers=headers)
                assert answer.status_code == (200 if body == b"" else 400)  # nothing is the empty object
            assert [seen.body for seen in daemon.seen] == ([b"{}"] if body == b"" else [])

    run(main)


def test_a_read_only_dashboard_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        with fake_daemon(tmp_path) as daemon:
            daemon.on_json("GET", "/v1/status", {"ok": 1})
            async with showing(daemon.path, read_only=True) as shown:
                assert (await shown.get("/about")).json()["read_only"] is True
                assert (await shown.get("/v1/status")).json() == {"ok": 1}
                refused = await shown.post(CAST, {"agent": "a", "text": "t"})
                assert (refused.status_code, "--read-only" in refused.text) == (403, True)
            assert [seen.method for seen in daemon.seen] == ["GET"]

    run(main)


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        "/static/index.html",
        "/static/",
        "/static",
        "/app.js",
        "/etc/passwd",
        "//evil.example/",
        "/static/app.js%00",
        "/static/app.js/x",
    ],
)
def test_no_path_leads_out_of_the_files_of_the_pages(tmp_path: Path, path: str) -> None:
    async def main() -> None:
        with fake_daemon(tmp_path) as daemon:
            async with showing(daemon.path) as shown:
                answer = await shown.raw(f"GET {path} HTTP/1.1", "connection: close")
                assert answer.startswith(b"HTTP/1.1 404"), answer
                assert b"import" not in answer
                assert b"root:" not in answer

    run(main)


@pytest.mark.parametrize(
    "lines",
    [
        ("GET http://evil.example/ HTTP/1.1",),
        ("GET /api/v1/sessions/a%0d%0ax:y HTTP/1.1",),
        ("GET /api/v1/sessions/%2e%2e%2fshutdown HTTP/1.1",),
        ("GET /api/../v1/status HTTP/1.1",),
        ("GET /api/v1/status?x=%0d%0a HTTP/1.1",),
        ("GET /api/v1/status HTTP/1.1", "host: 127.0.0.1:1"),
        ("GET /api/v1/workshop/events HTTP/1.1", "last-event-id: 1\tx"),
        ("TRACE /api/v1/status HTTP/1.1",),
        ("CONNECT 127.0.0.1:22 HTTP/1.1",),
        ("OPTIONS /api/v1/status HTTP/1.1",),
        ("POST / HTTP/1.1", "content-length: 0"),
        ("\x16\x03\x01 / HTTP/1.1",),
    ],
)
def test_a_strange_request_is_refused_and_reaches_no_daemon(tmp_path: Path, lines: tuple[str, ...]) -> None:
    async def main() -> None:
        with fake_daemon(tmp_path) as daemon:
            async with showing(daemon.path) as shown:
                answer = await shown.raw(*lines, "connection: close")
                assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404")), answer
            assert daemon.seen == []

    run(main)


def test_a_request_without_a_host_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        with fake_daemon(tmp_path) as daemon:
            async with showing(daemon.path) as shown, await shown.connect() as stream:
                await stream.send_all(f"GET / HTTP/1.0\r\ncookie: {shown.cookie}\r\n\r\n".encode())
                assert (await read_all(stream)).startswith(b"HTTP/1.1 403")

    run(main)


def test_bodies_and_slow_clients_are_bounded(tmp_path: Path) -> None:
    async def main() -> None:
        with fake_daemon(tmp_path) as daemon:
            async with showing(daemon.path, limits=BRIEF) as shown:
                head = (f"POST /api{CAST} HTTP/1.1", "content-type: application/json")
                large = await shown.raw(*head, "content-length: 1001", body=b" " * 1001)
                assert body_of(large)["error"]["code"] == "too_large"
                slow = await shown.raw(*head, "content-length: 100", body=b" ")
                assert b"was not complete in 1 s" in slow
                async with await shown.connect() as silent:
                    with trio.fail_after(20):
                        assert await silent.receive_some() == b""
            assert daemon.seen == []

    run(main)


def test_so_many_connections_and_no_more(tmp_path: Path) -> None:
    async def main() -> None:
        with fake_daemon(tmp_path) as daemon:
            async with showing(daemon.path, limits=DashboardLimits(connections=3)) as shown:
                await shown.http.aclose()
                held = [await shown.connect() for _ in range(2)]
                for stream in held:  # answered: so it has a place
                    await stream.send_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                    assert await stream.receive_some()
                third = await shown.connect()
                await third.send_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                assert await third.receive_some()
                async with await shown.connect() as one_more:
                    assert await read_all(one_more) == b""
                for stream in (*held, third):
                    await stream.aclose()

    run(main)


def test_events_are_passed_on_as_they_come(tmp_path: Path) -> None:
    async def main() -> None:
        with fake_daemon(tmp_path) as daemon:
            daemon.on_events("GET", EVENTS, ([event(7, "work.added", {"item": "a"})], "hang"))
            async with showing(daemon.path) as shown:
                async with await shown.connect() as stream:
                    await stream.send_all(_asks_for_events(shown, "last-event-id: 6"))
                    answer = await read_until(stream, b"work.added")  # and it goes on
                assert b"content-type: text/event-stream" in answer
            daemon.released.set()
            assert daemon.requests("GET", EVENTS)[0].headers["last-event-id"] == "6"

    run(main)


def test_a_browser_that_leaves_a_stream_gives_its_place_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        with fake_daemon(tmp_path) as daemon:
            daemon.on_events("GET", EVENTS, ([event(7, "work.added", {"item": "a"})], "hang"))
            async with showing(daemon.path, limits=DashboardLimits(connections=1)) as shown:
                await shown.http.aclose()
                for _ in range(3):
                    with trio.fail_after(20):
                        while not await _follows(shown):  # until the one before is noticed to be gone
                            pass
            daemon.released.set()
        assert caplog.records == []

    run(main)


def _asks_for_events(shown: Shown, *headers: str) -> bytes:
    names = [f"host: 127.0.0.1:{shown.gate.port}", f"cookie: {shown.cookie}", f"x-skilld-token: {shown.gate.token}"]
    return "\r\n".join([f"GET /api{EVENTS} HTTP/1.1", *names, *headers, "", ""]).encode()


async def _follows(shown: Shown) -> bool:
    """Whether a browser that wants events, and leaves as soon as some came, finds a place."""
    async with await shown.connect() as stream:
        try:
            await stream.send_all(_asks_for_events(shown))
            return (await stream.receive_some()).startswith(b"HTTP/1.1 200")
        except trio.BrokenResourceError:
            return False


def test_a_daemon_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    async def main() -> None:
        async with showing(tmp_path / "nobody.sock") as shown:
            answer = await shown.get("/v1/status")
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "backend_unavailable")
            assert (await shown.http.get("/")).status_code == 200

    run(main)


def test_a_daemon_that_leaves_in_the_middle_cuts_the_answer(tmp_path: Path) -> None:
    async def main() -> None:
        with fake_daemon(tmp_path) as daemon:
            daemon.on_events("GET", EVENTS, ([event(7, "work.added", {})], "cut"))
            async with showing(daemon.path) as shown:
                async with await shown.connect() as stream:
                    await stream.send_all(_asks_for_events(shown))
                    answer = await read_until(stream, b"work.added")
                    answer += await read_all(stream)  # to its close
                assert not answer.endswith(b"0\r\n\r\n")

    run(main)


def test_it_listens_on_the_loopback_address_alone(tmp_path: Path) -> None:
    with server.listen(0) as sock:
        assert sock.getsockname()[0] == "127.0.0.1"
        with pytest.raises(OSError, match="in use"):
            server.listen(sock.getsockname()[1])


def test_the_kernel_tells_whose_connection_it_is(tmp_path: Path) -> None:
    with server.listen(0) as sock, socket.create_connection(sock.getsockname()) as client:
        sock.setblocking(True)
        with sock.accept()[0] as accepted:
            ours, theirs = accepted.getsockname(), accepted.getpeername()
            assert theirs == client.getsockname()
            assert peer_uid(ours, theirs) == os.geteuid()
            assert peer_uid(ours, (theirs[0], 1)) is None


def test_a_list_of_sockets_is_read_whatever_stands_in_it(tmp_path: Path) -> None:
    listed = tmp_path / "tcp"
    ours, theirs = ("127.0.0.1", 8080), ("127.0.0.1", 40000)
    row = "   1: 0100007F:9C40 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1234        0 118 1 0 100\n"
    listed.write_text(f"  sl  local_address rem_address\n\n garbage\n{row}")
    assert peer_uid(ours, theirs, listed) == 1234
    assert peer_uid(theirs, ours, listed) is None
    with pytest.raises(FileNotFoundError):
        peer_uid(ours, theirs, tmp_path / "none")


def test_a_connection_that_its_program_has_let_go_is_of_nobody(tmp_path: Path) -> None:
    """The kernel lists such a one as root's, whoever's it was: it would be let in."""
    with server.listen(0) as sock:
        with socket.create_connection(sock.getsockname()) as client:
            theirs = client.getsockname()
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert peer_uid(sock.getsockname(), theirs) is None
    listed = tmp_path / "tcp"
    ours, theirs = ("127.0.0.1", 8080), ("127.0.0.1", 40000)
    listed.write_text("\n 5: 0100007F:9C40 0100007F:1F90 05 00000000:00000000 03:00001658 00000000 0 0 0 3 0cee03fc6\n")
    assert peer_uid(ours, theirs, listed) is None


@pytest.mark.parametrize("found", [1234, None, OSError("no list")])
def test_whoever_is_another_user_is_let_go_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Any
) -> None:
    def told(ours: Any, theirs: Any) -> Any:
        if isinstance(found, OSError):
            raise found
        return found

    async def main() -> None:
        with fake_daemon(tmp_path) as daemon:
            async with showing(daemon.path) as shown:
                await shown.http.aclose()
                monkeypatch.setattr(server, "peer_uid", told)
                monkeypatch.setattr(os, "geteuid", lambda: 4321)
                assert await shown.raw("GET / HTTP/1.1") == b""

    run(main)
