"""A WSGI application under the middleware answers byte for byte what it answers without, and each request is a span."""

from __future__ import annotations

import gc
import http.client
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest

from contrib_kit import TRACE, Reported, traceparent
from skilld_monitor import Span, TraceContext, context, disable_monitoring, log_event
from skilld_monitor.contrib.wsgi import MonitoringMiddleware
from skilld_monitor.trace import current

Start = Callable[..., Any]
Environ = dict[str, Any]


def environ(path: str = "/ask", method: str = "GET", **more: str) -> Environ:
    made: Environ = {
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "REQUEST_METHOD": method,
        "QUERY_STRING": "token=1",
        "REMOTE_ADDR": "192.0.2.1",
    }
    made.update(HTTP_USER_AGENT="curl", HTTP_COOKIE="session=1", HTTP_X_TENANT="blue", REMOTE_USER="mary", **more)
    setup_testing_defaults(made)
    return made


class Server:
    """Calls an application as a server does, and keeps what it got."""

    def __init__(self, app: Callable[[Environ, Start], Iterable[bytes]]) -> None:
        self.app = app
        self.status = ""
        self.written: list[bytes] = []

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        self.status = status
        return self.written.append

    def get(self, made: Environ | None = None) -> bytes:
        body = self.app(made or environ(), self.start)
        try:
            return b"".join([*self.written, *body])
        finally:
            if hasattr(body, "close"):
                body.close()


def listed(_environ: Environ, start: Start) -> list[bytes]:
    start("200 OK", [("Content-Type", "text/plain")])
    return [b"hello ", b"world"]


def streamed(_environ: Environ, start: Start) -> Iterator[bytes]:
    with Span("before the first"):
        start("201 Created", [("Content-Type", "text/plain")])
    yield b"hello "
    with Span("in the middle"):
        yield b"world"


def test_a_request_is_a_span_with_its_events_and_says_nothing_of_who_asks(reported: Reported) -> None:
    app = validator(MonitoringMiddleware(validator(listed)))
    assert Server(app).get() == b"hello world"
    start, finish, span = reported.exchange()
    assert (start["channel"], start["level"], start["data"]) == ("API", "INFO", {"method": "GET", "path": "/ask"})
    took_ms = finish["data"].pop("duration_ms")
    assert finish["data"] == {"method": "GET", "path": "/ask", "status_code": 200}
    assert (span["name"], span["status"], span["parent"]) == ("GET", "ok", None)
    assert 0 <= took_ms <= span["duration_ms"] < 5_000
    assert span["data"] == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "url.path": "/ask",
        "http.response.status_code": 200,
        "http.response.body.size": 11,
    }


def test_what_says_who_asks_is_reported_where_it_is_named_and_credentials_never(reported: Reported) -> None:
    fields = ("client", "user", "user_agent", "query")
    theirs = ["Authorization", "X-Auth-Token", "X-Goog-Api-Key", "X-Amz-Security-Token", "X-Hub-Signature-256"]
    app = MonitoringMiddleware(listed, fields=fields, headers=["X-Tenant", "Cookie", *theirs])
    Server(app).get(environ(**{f"HTTP_{name.upper().replace('-', '_')}": "s3cret" for name in theirs}))
    start, finish, span = reported.exchange()
    assert start["data"] == {"method": "GET", "remote_addr": "192.0.2.1", "user_agent": "curl", "query": "token=1"}
    assert finish["data"]["user"] == "mary"
    data = span["data"]
    assert "url.path" not in data
    assert (data["client.address"], data["url.query"], data["user_agent.original"]) == ("192.0.2.1", "token=1", "curl")
    assert (data["user.name"], data["http.request.header.x-tenant"]) == ("mary", "blue")
    assert "session=1" not in str(reported.all())
    assert "s3cret" not in str(reported.all())


def test_a_field_that_there_is_not_is_said_at_once() -> None:
    with pytest.raises(ValueError, match="no field 'adress'"):
        MonitoringMiddleware(listed, fields=("adress",))


def test_a_request_goes_on_in_the_callers_trace_and_hands_it_on(reported: Reported) -> None:
    out: list[str | None] = []

    def app(_environ: Environ, start: Start) -> list[bytes]:
        out.append(TraceContext.traceparent())
        return listed(_environ, start)

    Server(MonitoringMiddleware(app)).get(environ(HTTP_TRACEPARENT=traceparent))
    _start, _finish, span = reported.exchange()
    assert (span["trace"], span["parent"]) == (TRACE, "b7ad6b7169203331")
    assert out == [f"00-{TRACE}-{span['span']}-01"]
    assert current() is None, "nothing is left for the next request of this thread"


@pytest.mark.parametrize("header", ["", "nonsense", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "x" * 100_000])
def test_a_traceparent_that_is_none_begins_a_trace(reported: Reported, header: str) -> None:
    Server(MonitoringMiddleware(listed)).get(environ(HTTP_TRACEPARENT=header))
    assert reported.exchange()[2]["parent"] is None


def test_a_traceparent_is_not_taken_where_it_is_not_to_be(reported: Reported) -> None:
    Server(MonitoringMiddleware(listed, accept_traceparent=False)).get(environ(HTTP_TRACEPARENT=traceparent))
    assert reported.exchange()[2]["trace"] != TRACE


def test_a_stream_ends_with_its_last_item_and_its_spans_are_inside(reported: Reported) -> None:
    server = Server(MonitoringMiddleware(streamed))
    body = iter(server.app(environ(), server.start))
    assert next(body) == b"hello "
    with Span("of somebody else"):
        assert next(body) == b"world"
    assert current() is None
    assert not reported.events("http_request_finish")
    assert list(body) == []
    start, _finish, span = reported.exchange()
    assert (span["data"]["http.response.status_code"], span["data"]["http.response.body.size"]) == (201, 11)
    others = {each["name"]: each for each in reported.spans("SYSTEM")}
    assert others["before the first"]["parent"] == others["in the middle"]["parent"] == start["span"]
    assert others["of somebody else"]["parent"] is None


def test_what_a_request_says_of_itself_does_not_stay_for_the_next(reported: Reported) -> None:
    def app(_environ: Environ, start: Start) -> Iterator[bytes]:
        context.set_session("s-17")
        start("200 OK", [])
        yield b"x"
        log_event("late")

    Server(MonitoringMiddleware(app)).get()
    log_event("after")
    events = {event["name"]: event for event in reported.all()}
    assert events["late"]["session"] == "s-17"
    assert events["http_request_finish"]["span"] == events["late"]["span"]
    assert events["after"].get("session") is None


def test_a_list_and_the_writer_are_the_applications_own(reported: Reported) -> None:
    body = [b"one"]
    seen: list[Any] = []

    def app(_environ: Environ, start: Start) -> list[bytes]:
        seen.append(start("200 OK", []))
        seen.append(start("500 Oops", [], exc_info=None))
        return body

    server = Server(MonitoringMiddleware(app))
    assert server.app(environ(), server.start) is body
    assert seen == [server.written.append] * 2
    assert reported.exchange()[2]["data"]["http.response.status_code"] == 500


class Sized:
    """Not a list, but a server may ask how many items it has."""

    extra = "its own"

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"whole"])


def test_what_servers_ask_of_an_answer_they_still_get(reported: Reported) -> None:
    server = Server(MonitoringMiddleware(lambda _environ, start: (start("200 OK", []), Sized())[1]))
    body: Any = server.app(environ(), server.start)
    assert (len(body), body.extra, list(body)) == (1, "its own", [b"whole"])
    plain: Any = MonitoringMiddleware(streamed)(environ(), server.start)
    assert not hasattr(plain, "__len__")
    plain.close()
    assert len(reported.events("http_request_finish")) == 2


@pytest.mark.parametrize("when", ["at once", "in the stream", "in close"])
def test_an_exception_is_the_same_object_and_is_told(reported: Reported, when: str) -> None:
    failure = LookupError("the secret text")

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            yield b"x"
            if when == "in the stream":
                raise failure

        def close(self) -> None:
            if when == "in close":
                raise failure

    def app(_environ: Environ, start: Start) -> Body:
        if when == "at once":
            raise failure
        start("200 OK", [])
        return Body()

    with pytest.raises(LookupError) as caught:
        Server(MonitoringMiddleware(app)).get()
    assert caught.value is failure
    _start, finish, span = reported.exchange()
    if when == "in close":  # the answer was whole by then
        assert span["status"] == "ok"
        return
    assert (span["status"], span["data"]["error.type"]) == ("error", "LookupError")
    assert (finish["level"], finish["data"]["error"]) == ("ERROR", "LookupError")
    assert finish["data"]["status_code"] == (500 if when == "at once" else 200)
    assert "secret" not in str(reported.all())


def test_an_answer_of_the_servers_fault_is_an_error_and_one_of_the_callers_is_not(reported: Reported) -> None:
    for status in ("503 Busy", "404 Not Found"):
        Server(MonitoringMiddleware(lambda _environ, start, status=status: (start(status, []), [b""])[1])).get()
    busy, missing = reported.spans("API")
    assert (busy["status"], busy["data"]["error.type"]) == ("error", "503")
    assert (missing["status"], "error.type" in missing["data"]) == ("ok", False)


def test_who_hangs_up_is_told_and_who_has_all_of_it_is_not_one(reported: Reported) -> None:
    def announced(_environ: Environ, start: Start) -> Iterator[bytes]:
        start("200 OK", [("Content-Length", "6")])
        yield b"hello "
        yield b""

    for app, method in ((streamed, "GET"), (announced, "GET"), (streamed, "HEAD")):
        server = Server(MonitoringMiddleware(app))
        body: Any = server.app(environ(method=method), server.start)
        if method == "GET":
            assert next(iter(body)) == b"hello "
        body.close()
    assert [span["status"] for span in reported.spans("API")] == ["cancelled", "ok", "ok"]


def test_a_stream_that_is_closed_inside_a_span_of_its_own_leaves_nothing_open(reported: Reported) -> None:
    def app(_environ: Environ, start: Start) -> Iterator[bytes]:
        start("200 OK", [])
        with Span("inner"):
            yield b"x"
            yield b"y"

    for ends in ("close", "drop"):
        body: Any = MonitoringMiddleware(app)(environ(), Server(app).start)
        assert next(iter(body)) == b"x"
        if ends == "close":
            body.close()
        del body
        gc.collect()
        assert current() is None
    assert [span["status"] for span in reported.spans()] == ["cancelled"] * 4


def test_an_answer_that_nobody_reads_ends_when_nobody_has_it(reported: Reported) -> None:
    server = Server(MonitoringMiddleware(streamed))
    server.app(environ(), server.start)
    gc.collect()
    assert reported.exchange()[2]["status"] == "cancelled"


def test_what_a_caller_sends_is_bounded_and_decoded(reported: Reported) -> None:
    app = MonitoringMiddleware(listed)
    made = environ(path="/caf\xc3\xa9/" + "x" * 100_000, method="A" * 100_000, HTTP_X_REQUEST_ID="r" * 5_000)
    Server(app).get(made | {"SCRIPT_NAME": "/shop"})
    start, _finish, span = reported.exchange()
    assert (span["name"], span["data"]["http.request.method"]) == ("HTTP", "_OTHER")
    assert span["data"]["url.path"].startswith("/shop/caf\xe9/xxx")
    assert start["data"]["request_id"] == "r" * 200
    assert len(str(span)) < 4_000


def test_an_answer_that_is_none_is_the_servers_to_refuse(reported: Reported) -> None:
    """What the application does wrong reaches the server as it is, and the request still ends."""
    header = [("Content-Length", "1" * 5_000)]  # Python makes no number of it
    for answer in ([b"x"], [None], iter([b"x"]), iter([None])):
        passed = MonitoringMiddleware(lambda _environ, start, answer=answer: (start("200 OK", header), answer)[1])
        assert len(list(passed(environ(), Server(passed).start))) == 1
    assert [span["data"].get("http.response.body.size") for span in reported.spans("API")] == [1, None, 1, None]
    assert len(reported.events("http_request_finish")) == 4


def test_an_environ_that_cannot_be_read_is_answered_all_the_same(reported: Reported) -> None:
    broken = environ() | {"PATH_INFO": 17}
    assert Server(MonitoringMiddleware(listed)).get(broken) == b"hello world"
    assert reported.made.problem == "a request is not reported: AttributeError"


def test_while_it_is_off_the_application_is_called_as_it_is(reported: Reported) -> None:
    disable_monitoring()
    starts: list[Start] = []

    def app(made: Environ, start: Start) -> list[bytes]:
        starts.append(start)
        return listed(made, start)

    server = Server(MonitoringMiddleware(app))
    assert server.get() == b"hello world"
    assert starts == [server.start]


def test_one_in_another_makes_no_second_span(reported: Reported) -> None:
    Server(MonitoringMiddleware(MonitoringMiddleware(listed))).get()
    reported.exchange()


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def served(app: Callable[[Environ, Start], Iterable[bytes]], method: str) -> tuple[int, list[str], bytes]:
    """What arrives at a client of a real server, but for the time of day."""
    with make_server("127.0.0.1", 0, app, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        client = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
        client.request(method, "/x")
        answer = client.getresponse()
        found = answer.status, sorted(f"{k}: {v}" for k, v in answer.getheaders() if k != "Date"), answer.read()
        client.close()
        thread.join(10)
    return found


def filed(made: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [("Content-Type", "text/plain")])
    wrapper: type[FileWrapper] = made["wsgi.file_wrapper"]
    return wrapper(BytesIO(b"a file"))


def single(_environ: Environ, start: Start) -> list[bytes]:
    start("200 OK", [("Content-Type", "text/plain")])
    return [b"one"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("app", [listed, streamed, filed, single])
def test_a_real_server_sends_the_same(reported: Reported, app: Any, method: str) -> None:
    assert served(MonitoringMiddleware(app), method) == served(app, method)
    assert reported.exchange()[2]["status"] == "ok"


def test_requests_at_the_same_time_do_not_mix(reported: Reported) -> None:
    meet = threading.Barrier(8)

    def app(made: Environ, start: Start) -> Iterator[bytes]:
        start("200 OK", [])
        meet.wait(10)
        log_event("inside", {"path": made["PATH_INFO"]})
        yield b"x"

    monitored = MonitoringMiddleware(app)
    threads = [threading.Thread(target=lambda n=n: Server(monitored).get(environ(path=f"/{n}"))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    spans = {span["span"]: span["data"]["url.path"] for span in reported.spans("API")}
    inside = {event["span"]: event["data"]["path"] for event in reported.events("inside")}
    assert len(spans) == 8
    assert inside == spans


def test_the_file_of_a_server_stays_its_own(reported: Reported, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    wrapper: list[FileWrapper] = []

    def app(made: Environ, start: Start) -> FileWrapper:
        start("200 OK", [])
        wrapper.append(made["wsgi.file_wrapper"]((tmp_path / "f").open("rb")))
        return wrapper[0]

    made = environ() | {"wsgi.file_wrapper": FileWrapper}
    server = Server(MonitoringMiddleware(app))
    body: Any = server.app(made, server.start)
    assert body is wrapper[0]
    assert not reported.events("http_request_finish")
    body.close()
    assert body.filelike.closed
    reported.exchange()


class Kept(dict[str, Any]):
    """One that can be held weakly."""


@pytest.mark.parametrize("options", [{}, {"fields": ["user"]}])
@pytest.mark.parametrize("app", [listed, streamed])
def test_what_came_with_a_request_is_gone_with_it(reported: Reported, app: Any, options: dict[str, Any]) -> None:
    gc.disable()
    try:
        made = Kept(environ(), REMOTE_USER="u")
        kept = weakref.ref(made)
        Server(MonitoringMiddleware(app, **options)).get(made)
        del made
        assert kept() is None
    finally:
        gc.enable()
