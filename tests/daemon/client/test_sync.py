"""The client for ordinary programs, over both transports, against real HTTP on a real socket."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest

from fake_daemon import SESSION, TURN, Exchange, FakeDaemon, a_turn, event, fake_daemon
from skilld.client import Client, ConnectionLost, DaemonUnreachable, ProtocolError, RequestTimeout, SkilldError
from skilld.client.wire import Request

MESSAGES = f"/v1/sessions/{SESSION}/messages"
EVENTS = f"/v1/sessions/{SESSION}/events"

Kind = Literal["httpx", "plain"]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with fake_daemon(tmp_path) as daemon:
        yield daemon


@pytest.fixture(params=["httpx", "plain"])
def client(daemon: FakeDaemon, request: pytest.FixtureRequest) -> Iterator[Client]:
    with Client(daemon.path, transport=request.param, reconnect_s=20.0) as client:
        yield client


def test_questions_get_the_daemons_answers(daemon: FakeDaemon, client: Client) -> None:
    daemon.on_json("GET", "/v1/version", {"version": "9"})
    daemon.on_json("GET", "/v1/health/live", {"status": "live"})
    daemon.on_json("GET", "/v1/status", {"turns_running": 3})
    daemon.on_json("GET", "/v1/tree", {"tree": {"id": "root"}})
    daemon.on("GET", "/metrics", lambda exchange: exchange.answer(200, b"skilld_up 1\n", "text/plain"))
    daemon.on_json("GET", "/v1/skills/log-analyzer", {"name": "log-analyzer"})
    daemon.on_json("POST", "/v1/skills/reload", {"changed": 1})
    daemon.on_json("POST", "/v1/skills/echo/reload", {"changed": 0})
    daemon.on_json("POST", "/v1/skills", {"name": "tides"}, 201)
    daemon.on_json("DELETE", "/v1/skills/tides", {"removed": ["tides"]})
    daemon.on_json("POST", "/v1/skills/tides/approve", {"digest": "d1"})
    daemon.on_json("DELETE", "/v1/skills/tides/approve", {"digest": None})
    assert client.push_skill(b"PK") == {"name": "tides"}
    assert daemon.requests("POST", "/v1/skills")[0].body == b"PK"
    assert client.remove_skill("tides") == {"removed": ["tides"]}
    assert client.approve_skill("tides", "d1") == {"digest": "d1"}
    assert json.loads(daemon.requests("POST", "/v1/skills/tides/approve")[0].body) == {"digest": "d1"}
    assert client.revoke_skill("tides") == {"digest": None}
    assert client.version() == {"version": "9"}
    assert client.health() == {"status": "live"}
    assert client.status() == {"turns_running": 3}
    assert client.tree(children=5) == {"tree": {"id": "root"}}
    assert daemon.requests("GET", "/v1/tree")[0].query == {"children": "5"}
    assert client.metrics() == "skilld_up 1\n"
    assert client.skill("log-analyzer") == {"name": "log-analyzer"}
    assert client.reload_skills() == {"changed": 1}
    assert client.reload_skills("echo") == {"changed": 0}


def test_ready_is_false_while_the_daemon_drains(daemon: FakeDaemon, client: Client) -> None:
    daemon.on_json("GET", "/v1/health/ready", {"status": "not_ready"}, 503)
    assert client.ready() is False
    daemon.on_json("GET", "/v1/health/ready", {"status": "ready"})
    assert client.ready() is True


def test_a_session_is_made_changed_and_deleted(daemon: FakeDaemon, client: Client) -> None:
    daemon.on_json("POST", "/v1/sessions", {"id": SESSION}, 201)
    daemon.on_json("PATCH", f"/v1/sessions/{SESSION}", {"id": SESSION, "title": "neu ü"})
    daemon.on("DELETE", f"/v1/sessions/{SESSION}", lambda exchange: exchange.answer(204, b"", "text/plain"))
    assert client.create_session(title="t", backends=["local"])["id"] == SESSION
    assert client.update_session(SESSION, title="neu ü")["title"] == "neu ü"
    client.delete_session(SESSION)
    made, changed, _ = daemon.seen
    assert json.loads(made.body) == {"title": "t", "backends": ["local"]}
    assert len(made.headers["idempotency-key"]) == 32
    assert json.loads(changed.body) == {"title": "neu ü"}


def test_sessions_are_read_page_by_page_and_only_as_needed(daemon: FakeDaemon, client: Client) -> None:
    def page(exchange: Exchange) -> None:
        start = int(exchange.query.get("cursor", "0"))
        items = [{"id": number, "owner_uid": os.getuid() if number == 3 else -1} for number in (start, start + 1)]
        exchange.json(200, {"items": items, "next": str(start + 2) if start < 4 else None})

    daemon.on("GET", "/v1/sessions", page)
    assert [item["id"] for item in client.sessions(page_size=2)] == [0, 1, 2, 3, 4, 5]
    assert len(daemon.seen) == 3
    latest = client.latest_session()
    assert latest is not None
    assert latest["id"] == 3, "sessions of others do not count"
    assert len(daemon.seen) == 5


def test_a_message_is_accepted_under_a_key(daemon: FakeDaemon, client: Client) -> None:
    accepted = {"turn": TURN, "session": SESSION, "seq": 4, "status": "queued", "duplicate": False}
    daemon.on_json("POST", MESSAGES, accepted, 202)
    first = client.send(SESSION, "grüß dich", files=[("a.txt", b"\x00\xff")])
    second = client.send(SESSION, "again", idempotency_key="my-key")
    assert (first.turn, first.seq, first.duplicate) == (TURN, 4, False)
    body = json.loads(daemon.seen[0].body)
    assert body == {"text": "grüß dich", "files": [{"name": "a.txt", "content_base64": "AP8="}]}
    assert daemon.seen[0].headers["idempotency-key"] == first.idempotency_key
    assert daemon.seen[1].headers["idempotency-key"] == second.idempotency_key == "my-key"


@pytest.mark.parametrize("key", ["with space", "x" * 256, "ü", "line\nbreak"])
def test_a_key_that_no_header_can_carry_is_refused_before_anything_is_sent(
    daemon: FakeDaemon, client: Client, key: str
) -> None:
    with pytest.raises(ValueError, match="1 to 255 visible ASCII"):
        client.send(SESSION, "hello", idempotency_key=key)
    assert daemon.seen == []


def test_a_refusal_carries_code_status_and_when_to_try_again(daemon: FakeDaemon, client: Client) -> None:
    daemon.on_error("POST", MESSAGES, 429, "overloaded", "16 messages wait", retry_after="7")
    with pytest.raises(SkilldError, match="16 messages wait") as caught:
        client.send(SESSION, "hello")
    error = caught.value
    assert (error.code, error.status, error.retryable, error.retry_after_s) == ("overloaded", 429, True, 7.0)
    assert len(daemon.seen) == 1, "a refused message is not sent again behind the caller's back"


def test_a_refused_streaming_message_raises_too(daemon: FakeDaemon, client: Client) -> None:
    daemon.on_error("POST", MESSAGES, 409, "idempotency_conflict", "other content")
    with pytest.raises(SkilldError, match="other content"):
        list(client.send_streaming(SESSION, "hello"))


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>"), (200, b"[1]"), (502, b"bad gateway"), (400, b"{}"), (500, b"\xff\xfe")]
)
def test_an_answer_that_is_none_of_skillds_is_an_error(
    daemon: FakeDaemon, client: Client, status: int, body: bytes
) -> None:
    daemon.on("GET", "/v1/status", lambda exchange: exchange.answer(status, body, "text/html"))
    with pytest.raises(SkilldError):
        client.status()


def test_a_stranger_on_the_socket_is_told_from_a_daemon(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener, Client(path, transport="plain") as client:
        listener.bind(str(path))
        listener.listen()

        def talk() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(1000)
                peer.sendall(b"SSH-2.0-OpenSSH\r\n\r\n")

        thread = threading.Thread(target=talk)
        thread.start()
        with pytest.raises(ProtocolError, match="does not speak HTTP"):
            client.version()
        thread.join()


# httpcore leaves the socket that could not connect to the garbage collector.
@pytest.mark.filterwarnings("ignore:.*unclosed.*:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["httpx", "plain"])
def test_an_absent_daemon_is_named_with_its_socket_and_the_way_out(tmp_path: Path, kind: Kind) -> None:
    missing, stale = tmp_path / "missing", tmp_path / "stale"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(stale))
    for path, reason in ((missing, "no such socket"), (stale, "no daemon listens")):
        with (
            Client(path, transport=kind) as client,
            pytest.raises(DaemonUnreachable, match=f"{path}.*{reason}.*SKILLD_SOCKET"),
        ):
            client.version()


def test_a_message_waits_for_a_daemon_that_is_just_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there at the end of the first pause."""
    accepted = {"turn": TURN, "session": SESSION, "seq": 1, "status": "queued", "duplicate": False}
    scripted = FakeDaemon(tmp_path / "skilld.sock")
    scripted.on_json("POST", MESSAGES, accepted, 202)
    pauses_s = []
    with ExitStack() as stack, Client(scripted.path, transport="plain") as client:

        def start(pause_s: float) -> None:
            pauses_s.append(pause_s)
            stack.enter_context(fake_daemon(tmp_path, scripted))

        monkeypatch.setattr("skilld.client.sync.time", SimpleNamespace(monotonic=time.monotonic, sleep=start))
        assert client.send(SESSION, "hello", idempotency_key="k").turn == TURN
    assert pauses_s == [0.1]
    assert [exchange.headers["idempotency-key"] for exchange in scripted.seen] == ["k"]


def test_a_connection_lost_before_the_answer_is_not_retried_and_names_the_key(
    daemon: FakeDaemon, client: Client
) -> None:
    daemon.on("POST", MESSAGES, lambda exchange: setattr(exchange._handler, "close_connection", True))
    with pytest.raises(ConnectionLost) as caught:
        client.send(SESSION, "hello", idempotency_key="k7")
    assert caught.value.details == {"idempotency_key": "k7"}
    assert len(daemon.seen) == 1


def test_an_answer_that_breaks_off_is_a_lost_connection(daemon: FakeDaemon, client: Client) -> None:
    def half(exchange: Exchange) -> None:
        exchange._handler.send_response(200)
        exchange._handler.send_header("content-length", "100")
        exchange._handler.end_headers()
        exchange._handler.wfile.write(b'{"half":')
        exchange._handler.close_connection = True

    daemon.on("GET", "/v1/status", half)
    with pytest.raises(ConnectionLost):
        client.status()


def test_a_large_body_that_is_refused_early_yields_the_refusal(tmp_path: Path) -> None:
    """The daemon answers and closes while the client is still writing."""
    path = tmp_path / "s"
    body = b'{"error":{"code":"too_large","message":"at most 8 MiB","retryable":false,"details":{}}}'
    head = f"HTTP/1.1 413 X\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
    with socket.socket(socket.AF_UNIX) as listener, Client(path, transport="plain") as client:
        listener.bind(str(path))
        listener.listen()

        def refuse() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.sendall(head + body)
                peer.shutdown(socket.SHUT_RD)

        thread = threading.Thread(target=refuse)
        thread.start()
        with pytest.raises(SkilldError, match="at most 8 MiB") as caught:
            client.send(SESSION, "x" * 5_000_000)
        thread.join()
    assert caught.value.code == "too_large"


def test_a_turn_streams_until_its_ending(daemon: FakeDaemon, client: Client) -> None:
    daemon.on_events("POST", MESSAGES, (a_turn("Hel", "lo"), "hang"))
    events = list(client.send_streaming(SESSION, "hi"))
    assert [e.type for e in events][-1] == "turn.finished"
    assert "".join(e.data["text"] for e in events if e.type == "model.delta") == "Hello"
    assert events[-1].is_ending
    assert daemon.seen[0].headers["accept"] == "text/event-stream"


def test_a_cut_stream_goes_on_where_it_was_and_repeats_nothing(daemon: FakeDaemon, client: Client) -> None:
    turn = a_turn("Hel", "lo ", "you")
    other = event(5, "turn.queued", {"text": "not mine"}, turn="trn_" + "z" * 26)
    ending = {**turn[6], "seq": 6}
    daemon.on_events("POST", MESSAGES, (turn[:4], "cut"))
    # The daemon repeats an event that the client has, sends another turn's, and breaks off once more.
    daemon.on_events("GET", EVENTS, ([turn[2], turn[4]], "cut"), ([turn[5], other, ending], "hang"))
    events = list(client.send_streaming(SESSION, "hi"))
    assert "".join(e.data["text"] for e in events if e.type == "model.delta") == "Hello you"
    assert [e.position for e in events] == ["1", "2", "3.3", "3.6", "3.9", "4", "6"]
    asked = [exchange.query["after"] for exchange in daemon.requests("GET", EVENTS)]
    assert asked == ["3.6", "3.9"]
    assert len(daemon.requests("POST", MESSAGES)) == 1


def test_events_of_the_past_end_where_the_past_ends(daemon: FakeDaemon, client: Client) -> None:
    daemon.on_events("GET", EVENTS, (a_turn("x"), "clean"))
    events = list(client.events(SESSION, follow=False))
    assert [e.seq for e in events] == [1, 2, 3, 4, 5]
    assert daemon.seen[0].query == {"after": "0", "follow": "false"}


def test_keep_alives_and_unknown_fields_are_passed_over(daemon: FakeDaemon, client: Client) -> None:
    noise = b": still here\n\nretry: 10\nunknown: x\n\n"
    daemon.on_events("GET", EVENTS, ([noise, *a_turn("x"), noise], "clean"))
    assert len(list(client.events(SESSION, follow=False))) == 5


def test_a_daemon_that_restarts_is_waited_for(tmp_path: Path) -> None:
    turn = a_turn("Hello")
    with fake_daemon(tmp_path) as first, Client(first.path, transport="plain", reconnect_s=20) as client:
        first.on_events("GET", EVENTS, (turn[:2], "cut"))
        events = client.events(SESSION, turn=TURN)
        got = [next(events), next(events)]
        first.on_error("GET", EVENTS, 503, "draining", "stopping")
        threading.Timer(0.3, lambda: first.on_events("GET", EVENTS, (turn[2:], "hang"))).start()
        got += list(events)
    assert [e.seq for e in got] == [1, 2, 3, 4, 5]


def test_a_daemon_that_stays_away_ends_the_patience(tmp_path: Path) -> None:
    with fake_daemon(tmp_path) as daemon:
        client = Client(daemon.path, transport="plain", reconnect_s=0.3)
        daemon.on_events("GET", EVENTS, ([event(1, "turn.queued")], "hang"))
        events = client.events(SESSION)
        assert next(events).seq == 1
    with pytest.raises(DaemonUnreachable):
        next(events)


def test_a_session_deleted_while_it_is_followed_is_said_to_be_missing(daemon: FakeDaemon, client: Client) -> None:
    def gone(exchange: Exchange) -> None:
        error = {"code": "not_found", "message": "no session", "retryable": False, "details": {}}
        exchange.json(404, {"error": error})

    daemon.on("GET", EVENTS, lambda exchange: exchange.stream([event(1, "turn.queued")]), gone)
    events = client.events(SESSION)
    assert next(events).seq == 1
    with pytest.raises(SkilldError, match="no session"):
        next(events)


def test_an_error_inside_a_stream_is_raised(daemon: FakeDaemon, client: Client) -> None:
    error = b'event: error\ndata: {"error": {"code": "internal", "message": "it broke", "retryable": false}}\n\n'
    daemon.on_events("GET", EVENTS, ([error], "clean"))
    with pytest.raises(SkilldError, match="it broke"):
        list(client.events(SESSION))


@pytest.mark.parametrize("junk", [b"data: nonsense\n\n", b"data: [1]\n\n", b'data: {"seq": "x"}\n\n'])
def test_a_stream_of_something_else_is_a_protocol_error(daemon: FakeDaemon, client: Client, junk: bytes) -> None:
    daemon.on_events("GET", EVENTS, ([junk], "clean"))
    with pytest.raises(ProtocolError):
        list(client.events(SESSION))


def test_a_position_that_is_none_is_refused(client: Client) -> None:
    for position in ("x", "-1", "1.2.3", "1.", ""):
        with pytest.raises(ValueError, match="event position"):
            list(client.events(SESSION, after=position))


@pytest.mark.parametrize("kind", ["httpx", "plain"])
def test_time_allowed_for_a_turn_is_kept(daemon: FakeDaemon, kind: Kind) -> None:
    daemon.on_events("POST", MESSAGES, (a_turn("Hel")[:3], "hang"))
    started_s = time.monotonic()
    with Client(daemon.path, transport=kind) as client, pytest.raises(RequestTimeout):
        list(client.send_streaming(SESSION, "hi", timeout_s=0.4))
    assert time.monotonic() - started_s < 3


def test_a_silent_daemon_counts_as_lost(daemon: FakeDaemon) -> None:
    """A daemon that hangs sends no keep-alives; without this rule a follower would wait for ever."""
    daemon.on_events("GET", "/x", ([event(1, "turn.queued")], "hang"))
    with Client(daemon.path, transport="plain") as client:
        request = Request(method="GET", target="/x", timeout_s=0.2)
        with pytest.raises(ConnectionLost, match="silent"), client._transport.stream(request, None) as answer:
            list(answer.chunks())


def test_leaving_a_stream_early_closes_its_connection(daemon: FakeDaemon, client: Client) -> None:
    daemon.on_events("GET", EVENTS, (a_turn("x"), "hang"))
    events = client.events(SESSION)
    assert next(events).seq == 1
    events.close()  # type: ignore[attr-defined]  # a generator; ResourceWarning is an error here


def test_a_name_becomes_one_segment_of_the_path(daemon: FakeDaemon, client: Client) -> None:
    daemon.on_json("GET", "/v1/skills/..%2F..%2Fmetrics%3Fx", {"name": "odd"})
    assert client.skill("../../metrics?x") == {"name": "odd"}
    for name in ("", ".", ".."):
        with pytest.raises(ValueError, match="cannot be the name of a skill"):
            client.skill(name)


def test_turns_are_asked_for_waited_for_and_cancelled(daemon: FakeDaemon, client: Client) -> None:
    daemon.on_json("GET", f"/v1/turns/{TURN}", {"turn": TURN, "status": "finished"})
    daemon.on_json("POST", f"/v1/turns/{TURN}/cancel", {"turn": TURN, "status": "cancelled"})
    daemon.on_json("POST", f"/v1/sessions/{SESSION}/cancel", {"cancelled": [TURN]})
    assert client.turn(TURN, wait_s=2.5)["status"] == "finished"
    assert client.cancel_turn(TURN)["status"] == "cancelled"
    assert client.cancel(SESSION, queued=True) == {"cancelled": [TURN]}
    assert daemon.seen[0].query == {"wait": "2.5"}
    assert json.loads(daemon.seen[2].body) == {"queued": True}


def test_proxies_of_the_environment_mean_nothing(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    daemon.on_json("GET", "/v1/version", {"version": "9"})
    with Client(daemon.path) as client:
        assert client.version() == {"version": "9"}


@pytest.mark.alone
def test_making_a_client_costs_less_than_10_ms(tmp_path: Path) -> None:
    """No certificates are loaded for a Unix socket. The best of five, since the machine may be busy."""
    took_s = []
    for _ in range(6):
        started_s = time.perf_counter()
        Client(tmp_path / "s").close()
        took_s.append(time.perf_counter() - started_s)
    assert min(took_s[1:]) < 0.010
