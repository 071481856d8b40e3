"""The real process against clients that send rubbish, come by the thousand, or never read: it serves the others."""

from __future__ import annotations

import json
import os
import re
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from e2e.harness import Daemon, running, write_skill

pytestmark = pytest.mark.e2e

HANG_S = 20.0
EXAMPLES = 250
GET = b"GET /v1/version HTTP/1.1\r\nhost: x\r\n\r\n"
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
CHATTY = "for number in range(20_000):\n    print(number, 'x' * 100)\n"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("hostile")
    write_skill(folder / "skills", "hello", "print('hello')\n")
    write_skill(folder / "skills", "chatty", CHATTY)
    with files_allowed(4096), running(folder, skills=[folder / "skills"]) as daemon:
        yield daemon


@contextmanager
def files_allowed(count: int) -> Iterator[None]:
    """Open files for this process and those that it starts."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, before[1]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def connect(daemon: Daemon) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.connect(str(daemon.socket))  # blocking: with a time limit a full backlog is an error at once
    made.settimeout(HANG_S)
    return made


def answer_to(daemon: Daemon, *pieces: bytes) -> bytes:
    """What is answered until the server closes; a server that does not is a TimeoutError."""
    received = bytearray()
    with connect(daemon) as client:
        with suppress(BrokenPipeError, ConnectionResetError):  # it is refused before it has been sent
            for piece in pieces:
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            while data := client.recv(65_536):
                received += data
    return bytes(received)


def files_of(daemon: Daemon) -> int:
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + HANG_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def check_well(daemon: Daemon) -> None:
    with daemon.http() as http:
        answer = http.get("/v1/health/ready")
    assert answer.status_code == 200, f"{answer.text}\n{daemon.log.read_text()[-2000:]}"


def request(method: str, path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: x", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


NOBODY = "ses_" + "a" * 26
WHOLE = (
    GET,
    request("POST", "/v1/sessions", b'{"title": "fuzzed", "labels": {"a": "b"}}', "content-type: application/json"),
    request("POST", f"/v1/sessions/{NOBODY}/messages", b'{"text": "x", "files": []}', "expect: 100-continue"),
    request("PUT", f"/v1/sessions/{NOBODY}/files/a.txt", b"content", "if-none-match: *"),
    request("GET", f"/v1/sessions/{NOBODY}/events?after=0&follow=false", b"", "last-event-id: 1"),
    request("GET", f"/v1/sessions/{NOBODY}/files/%2e%2e%2fa%00", b"", "range: bytes=0-1,5-"),
    b"POST /v1/sessions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\na: b\r\n\r\n",
    request("PATCH", f"/v1/sessions/{NOBODY}", b'{"title": "\\ud800"}') + GET,
)
TOKENS = st.sampled_from([b"\r\n", b"\r\n\r\n", b"\0", b"\xff\xfe", b":", b" ", b"%", b"99999999999999999999", b"-1"])
EDITS = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 30), st.one_of(TOKENS, st.binary(max_size=40))), max_size=6
)


def edited(whole: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for place, removed, added in edits:
        place %= len(whole) + 1
        whole = whole[:place] + added + whole[place + removed :]
    return whole


SENT = st.one_of(st.binary(max_size=3000), st.builds(edited, st.sampled_from(WHOLE), EDITS))


def test_whatever_bytes_come_nothing_fails_hangs_or_leaks(daemon: Daemon) -> None:
    answer_to(daemon, GET)
    files, statuses = files_of(daemon), set[int]()

    @seed(1)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(sent=SENT, cut=st.integers(0, 3000))
    def one(sent: bytes, cut: int) -> None:
        raw = answer_to(daemon, sent[:cut], sent[cut:])
        found = {int(status) for status in STATUS.findall(raw)}
        assert all(status < 500 for status in found), raw
        statuses.update(found)

    one()
    assert {200, 201, 400, 404} <= statuses, "it was not only refused"
    until(lambda: files_of(daemon) <= files, "descriptors are left open")
    log = daemon.log.read_text()
    assert "Traceback" not in log
    assert "the others go on" not in log
    check_well(daemon)


def test_whoever_closes_in_the_middle_of_a_line_leaves_nothing(daemon: Daemon) -> None:
    answer_to(daemon, GET)
    files = files_of(daemon)
    for whole in WHOLE:
        for cut in range(1, len(whole), 17):
            with connect(daemon) as client:
                client.sendall(whole[:cut])
    until(lambda: files_of(daemon) <= files, "descriptors are left open")
    check_well(daemon)


def test_a_thousand_connections_of_one_user_are_bounded_and_one_of_them_works(daemon: Daemon) -> None:
    answer_to(daemon, GET)
    files = files_of(daemon)
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(daemon)) for _ in range(1000)]
        with suppress(BrokenPipeError):
            for client in clients:
                client.sendall(GET)
        assert STATUS.findall(clients[0].recv(4096)) == [b"200"]
        held = files_of(daemon) - files
        assert held <= 64 * 2 + 8, f"{held} connections are held open; 64 are allowed, and 64 told why not"
        assert is_told(clients[-1]) in (b"429", b"")
    until(lambda: files_of(daemon) <= files, "descriptors are left open")
    check_well(daemon)


def is_told(client: socket.socket) -> bytes:
    """The status; nothing if the connection was closed without a word."""
    try:
        found = STATUS.findall(client.recv(4096))
    except ConnectionResetError:
        return b""
    return bytes(found[0]) if found else b""


def test_a_thousand_connections_at_once_are_all_served_where_they_are_allowed(tmp_path: Path) -> None:
    with files_allowed(4096), running(tmp_path, config="[limits]\nconnections_per_peer = 2000\n") as daemon:
        with ExitStack() as stack:
            clients = [stack.enter_context(connect(daemon)) for _ in range(1000)]
            for client in clients:
                client.sendall(GET)
            assert {is_told(client) for client in clients} == {b"200"}
            for client in clients:  # and again, over the same connections
                client.sendall(GET)
            assert {is_told(client) for client in clients} == {b"200"}
        check_well(daemon)


@pytest.mark.deep
def test_ten_thousand_connects_one_after_the_other_leave_nothing(daemon: Daemon) -> None:
    answer_to(daemon, GET)
    files = files_of(daemon)
    for _ in range(10_000):
        connect(daemon).close()
    until(lambda: files_of(daemon) <= files, "descriptors are left open")
    check_well(daemon)


def test_a_process_without_descriptors_serves_who_is_there_and_recovers(daemon: Daemon) -> None:
    session = daemon.create()
    before = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    with connect(daemon) as old:
        old.sendall(GET)
        assert is_told(old) == b"200"
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (files_of(daemon) + 2, before[1]))
        try:
            with ExitStack() as stack:
                waiting = [stack.enter_context(connect(daemon)) for _ in range(20)]
                for client in waiting:
                    client.sendall(GET)
                until(lambda: "raise LimitNOFILE" in daemon.log.read_text(), "it never ran out")
                for _ in range(3):
                    old.sendall(GET)
                    assert is_told(old) == b"200"
                body = b'{"text": "/hello"}'
                old.sendall(request("POST", f"/v1/sessions/{session}/messages", body))
                accepted = old.recv(65_536)
                assert is_any_of(accepted, b"202", b"429", b"503", b"507"), accepted
        finally:
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, before)
    with daemon.http() as http:
        until(lambda: http.get(f"/v1/sessions/{session}").json()["status"] == "idle", "the turn never ended")
    assert daemon.ask(session, "/hello")["result"]["text"] == "hello"


def is_any_of(raw: bytes, *statuses: bytes) -> bool:
    return any(raw.startswith(b"HTTP/1.1 " + status) for status in statuses)


def test_subscribers_that_never_read_touch_neither_their_session_nor_who_reads(daemon: Daemon) -> None:
    session = daemon.create()
    subscribe = f"GET /v1/sessions/{session}/events?after=0 HTTP/1.1\r\nhost: x\r\n\r\n".encode()
    with ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(connect(daemon)).sendall(subscribe)
        with daemon.http() as http:
            turn = http.post(f"/v1/sessions/{session}/messages", json={"text": "/chatty"}).json()["turn"]
            assert daemon.wait(turn)["status"] == "finished"
            stored = http.get(f"/v1/sessions/{session}/events", params={"follow": "false"}).text.splitlines()
            assert json.loads(stored[-1])["type"] == "turn.finished"
        assert daemon.ask(session, "/hello")["result"]["text"] == "hello"
    check_well(daemon)


def test_a_client_that_is_gone_while_its_tool_runs_changes_nothing(daemon: Daemon) -> None:
    session = daemon.create()
    body = b'{"text": "/chatty"}'
    path = f"/v1/sessions/{session}/messages"
    with connect(daemon) as client:
        client.sendall(request("POST", path, body, "accept: text/event-stream"))
        assert STATUS.findall(client.recv(10)) or client.recv(100)
        # Closed with bytes of the answer unread: the server's next send is reset.
    with daemon.http() as http:
        until(lambda: http.get(f"/v1/sessions/{session}").json()["status"] == "idle", "the turn never ended")
    kinds = [event["type"] for event in daemon.events(session)]
    assert kinds[-1] in ("turn.finished", "turn.cancelled")
    assert kinds.count("turn.queued") == 1


def test_a_cancel_of_what_is_unknown_ended_or_cancelled_already_is_answered_and_changes_nothing(daemon: Daemon) -> None:
    session = daemon.create()
    turn = daemon.ask(session, "/hello")
    before = daemon.events(session)
    with daemon.http() as http:
        unknown = http.post(f"/v1/turns/trn_{'a' * 26}/cancel")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "not_found")
        answers = [http.post(f"/v1/turns/{turn['turn']}/cancel") for _ in range(2)]
        assert {answer.status_code for answer in answers} <= {200, 409}
        assert http.post(f"/v1/sessions/{session}/cancel", json={}).status_code == 200
    assert daemon.events(session) == before


def test_a_key_that_is_used_again_makes_no_second_turn_and_for_another_message_is_refused(daemon: Daemon) -> None:
    session = daemon.create()
    first, again = (daemon.post(session, "/hello", key="once").json() for _ in range(2))
    assert first["turn"] == again["turn"]
    other = daemon.post(session, "/hello other", key="once")
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_conflict")


def test_a_client_that_comes_back_goes_on_behind_the_last_event_it_saw(daemon: Daemon) -> None:
    session = daemon.create()
    daemon.ask(session, "/hello")
    whole = daemon.events(session)
    for seen in whole[:-1]:
        assert daemon.events(session, after=str(seen["seq"])) == [e for e in whole if e["seq"] > seen["seq"]]
