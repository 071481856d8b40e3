"""Questions that are not answered say why, and what can be done; those about the real daemon are in tests/e2e."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from skilld_monitor import QueryError, cleanup_old_events, enable_monitoring, get_database_path
from skilld_monitor.queries import get_events_by_timeframe, get_recent_events
from wire_kit import read_whole_request


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[Callable[[], bytes]]:
    """Something at a socket that answers one request so, whatever it is; gives what was asked."""
    asked: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(1)

        def serve() -> None:
            connection, _address = server.accept()
            with connection:
                asked.append(read_whole_request(connection))
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()

        def request() -> bytes:
            thread.join(10)
            return asked[0]

        yield request
        thread.join(10)


def http(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status.encode(), len(body), body)


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "skilld.sock"
    monkeypatch.setenv("SKILLD_SOCKET", str(path))
    return path


def test_without_a_daemon_the_socket_and_the_way_out_are_named(at: Path) -> None:
    with pytest.raises(QueryError, match="start it, or name its socket in SKILLD_SOCKET") as raised:
        get_database_path()
    assert str(at) in str(raised.value)


def test_it_is_looked_for_beside_the_socket_for_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(QueryError, match=str(tmp_path / "m" / "skilld.sock")):
        get_recent_events()
    enable_monitoring("shop-test", socket=str(tmp_path / "other" / "monitor.sock"))
    with pytest.raises(QueryError, match=str(tmp_path / "other" / "skilld.sock")):
        get_recent_events()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (http("403 Forbidden", b'{"error": {"code": "forbidden", "message": "no"}}'), "forbidden: no"),
        (http("404 Not Found", b'{"error": {"code": "not_found", "message": "no such"}}'), "not_found: no such"),
        (http("500 Oops", b"[]"), "HTTP status 500"),
        (http("200 OK", b"[]"), "refused GET /v1/monitor/store"),
        (http("200 OK", b"{"), "no answer from a daemon"),
        (b"SSH-2.0-x\r\n", "no answer from a daemon"),
        (b"", "no answer from a daemon"),
    ],
)
def test_an_answer_that_is_none_is_one_kind_of_error(at: Path, answer: bytes, said: str) -> None:
    with answering(at, answer), pytest.raises(QueryError, match=str(at)) as raised:
        get_database_path()
    assert said in str(raised.value)


def test_times_are_local_unless_they_have_a_zone_and_the_end_is_included(at: Path) -> None:
    start = datetime(2026, 1, 15, 10, 0, tzinfo=timezone(timedelta(hours=2)))
    end = datetime(2026, 1, 15, 9, 30, tzinfo=UTC).astimezone().replace(tzinfo=None)
    with answering(at, http("200 OK", b'{"items": []}')) as request:
        assert get_events_by_timeframe(start, end, agent_id="a b&c") == []
        line = request().split(b"\r\n")[0].decode()
    assert "since=2026-01-15T08%3A00%3A00.000000Z" in line
    assert "until=2026-01-15T09%3A30%3A00.000001Z" in line
    assert "agent=a+b%26c" in line


def test_nothing_is_removed_by_what_was_not_asked(at: Path) -> None:
    with answering(at, http("200 OK", b'{"removed": 3}')) as request:
        assert cleanup_old_events(days=7) == 3
        raw = request()
    assert raw.startswith(b"POST /v1/monitor/cleanup HTTP/1.1")
    assert raw.endswith(b'{"older_than_days": 7}')
