"""An ASGI application under the middleware sends what it sends without, and each request is a span."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import httpx
import pytest
import trio

from contrib_kit import TRACE, Reported, traceparent
from skilld_monitor import Span, disable_monitoring, log_event
from skilld_monitor.contrib.asgi import MonitoringMiddleware
from skilld_monitor.trace import current

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]
START: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]}


def scope(method: str = "GET", **headers: str) -> dict[str, Any]:
    named = {"user-agent": "curl", "cookie": "session=1", **headers}
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in named.items()]
    made: dict[str, Any] = {"type": "http", "method": method, "path": "/ask", "scheme": "https", "headers": pairs}
    return made | {"query_string": b"token=1", "client": ("192.0.2.1", 1234), "asgi": {"version": "3.0"}}


class Server:
    """Calls an application as a server does, and keeps what it sent.

    Args:
        messages: what comes from the client, one after the other.
        gone: an error that sending has from this message on.

    """

    def __init__(self, app: Any, messages: list[Message] | None = None, gone: tuple[int, BaseException] | None = None):
        self.app = app
        self.messages = messages or [{"type": "http.request", "body": b"", "more_body": False}]
        self.gone = gone
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        return self.messages.pop(0)

    async def send(self, message: Message) -> None:
        if self.gone is not None and len(self.sent) >= self.gone[0]:
            raise self.gone[1]
        self.sent.append(message)

    def get(self, made: dict[str, Any] | None = None) -> list[Message]:
        asyncio.run(self.app(made or scope(), self.receive, self.send))
        return self.sent


def body(data: bytes, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def hello(_scope: Message, _receive: Receive, send: Send) -> None:
    await send(START)
    await send(body(b"hello ", more=True))
    log_event("inside")
    await send(body(b"world"))


def test_a_request_is_a_span_with_its_events_and_says_nothing_of_who_asks(reported: Reported) -> None:
    assert Server(MonitoringMiddleware(hello)).get() == Server(hello).get()
    start, finish, span = reported.exchange()
    assert start["data"] == {"method": "GET", "path": "/ask"}
    assert (finish["data"]["status_code"], span["status"], span["parent"]) == (200, "ok", None)
    assert span["data"] == {
        "http.request.method": "GET",
        "url.scheme": "https",
        "url.path": "/ask",
        "http.response.status_code": 200,
        "http.response.body.size": 11,
    }
    (inside, _without) = reported.events("inside")
    assert inside["span"] == span["span"]


def test_messages_pass_as_they_are_in_both_directions(reported: Reported) -> None:
    asked: Message = {"type": "http.request", "body": b"question", "more_body": False}
    got: list[Message] = []

    async def app(made: Message, receive: Receive, send: Send) -> None:
        got.append(await receive())
        await hello(made, receive, send)

    server = Server(MonitoringMiddleware(app), [asked])
    assert server.get()[0] is START
    assert got[0] is asked


def test_what_says_who_asks_is_reported_where_it_is_named(reported: Reported) -> None:
    class User:
        display_name = "mary"

    app = MonitoringMiddleware(hello, fields=("client", "query", "user", "user_agent"), headers=("x-tenant", "cookie"))
    Server(app).get(scope(x_tenant="blue") | {"user": User()})
    start, finish, span = reported.exchange()
    assert start["data"] == {"method": "GET", "remote_addr": "192.0.2.1", "user_agent": "curl", "query": "token=1"}
    assert (finish["data"]["user"], span["data"]["http.request.header.x-tenant"]) == ("mary", "blue")
    assert "session=1" not in str(reported.all())


def test_a_request_goes_on_in_the_callers_trace(reported: Reported) -> None:
    Server(MonitoringMiddleware(hello)).get(scope(traceparent=traceparent, x_request_id="r-1"))
    start, _finish, span = reported.exchange()
    assert (span["trace"], span["parent"], start["data"]["request_id"]) == (TRACE, "b7ad6b7169203331", "r-1")


def test_what_runs_after_the_answer_is_inside_and_does_not_hold_its_end_up(reported: Reported) -> None:
    async def app(made: Message, receive: Receive, send: Send) -> None:
        await hello(made, receive, send)
        assert reported.events("http_request_finish"), "it has ended with its last byte"
        with Span("background"):
            pass

    Server(MonitoringMiddleware(app)).get()
    span = reported.exchange()[2]
    assert reported.span("SYSTEM")["parent"] == span["span"]


def test_trailers_and_files_end_an_answer_too(reported: Reported) -> None:
    finished: list[int] = []

    async def trailing(_scope: Message, _receive: Receive, send: Send) -> None:
        await send(START | {"trailers": True})
        await send(body(b"x"))
        finished.append(len(reported.events("http_request_finish")))
        await send({"type": "http.response.trailers", "headers": [], "more_trailers": False})
        finished.append(len(reported.events("http_request_finish")))

    async def filed(_scope: Message, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.early_hint", "links": []})
        await send(START)
        await send({"type": "http.response.pathsend", "path": "/x"})
        finished.append(len(reported.events("http_request_finish")))

    Server(MonitoringMiddleware(trailing)).get()
    Server(MonitoringMiddleware(filed)).get()
    assert finished == [0, 1, 2]


def test_an_exception_is_the_same_object_and_is_told(reported: Reported) -> None:
    failure = LookupError("the secret text")

    async def app(_scope: Message, _receive: Receive, _send: Send) -> None:
        raise failure

    with pytest.raises(LookupError) as caught:
        Server(MonitoringMiddleware(app)).get()
    assert caught.value is failure
    _start, finish, span = reported.exchange()
    assert (span["status"], span["data"]["error.type"], finish["data"]["status_code"]) == ("error", "LookupError", 500)
    assert "secret" not in str(reported.all())


@pytest.mark.parametrize(("sends", "status"), [((), 500), ((START,), 200), ((START, body(b"x", more=True)), 200)])
def test_an_answer_that_is_left_unfinished_is_an_error(
    reported: Reported, sends: tuple[Message, ...], status: int
) -> None:
    async def app(_scope: Message, _receive: Receive, send: Send) -> None:
        for message in sends:
            await send(message)

    assert Server(MonitoringMiddleware(app)).get() == list(sends)
    _start, finish, span = reported.exchange()
    assert (span["status"], span["data"]["error.type"]) == ("error", "UnfinishedAnswer")
    assert finish["data"]["status_code"] == status


def test_headers_that_can_be_read_once_are_the_applications(reported: Reported) -> None:
    seen: list[Any] = []

    async def app(made: Message, receive: Receive, send: Send) -> None:
        seen.extend(made["headers"])
        await hello(made, receive, send)

    made = scope(x_request_id="r-1")
    Server(MonitoringMiddleware(app)).get(made | {"headers": iter(made["headers"])})
    assert seen == made["headers"]
    assert reported.exchange()[0]["data"]["request_id"] == "r-1"


def test_the_body_that_servers_leave_away_has_no_size(reported: Reported) -> None:
    Server(MonitoringMiddleware(hello)).get(scope("HEAD"))
    assert "http.response.body.size" not in reported.exchange()[2]["data"]


def test_a_caller_that_hangs_up_is_told_by_what_is_received(reported: Reported) -> None:
    async def app(_scope: Message, receive: Receive, send: Send) -> None:
        await send(START)
        await send(body(b"x", more=True))
        assert (await receive())["type"] == "http.disconnect"

    Server(MonitoringMiddleware(app), [{"type": "http.disconnect"}]).get()
    _start, finish, span = reported.exchange()
    assert (span["status"], finish["level"]) == ("cancelled", "INFO")


def test_a_caller_that_hangs_up_is_told_by_what_cannot_be_sent(reported: Reported) -> None:
    gone = BrokenPipeError()
    with pytest.raises(BrokenPipeError) as caught:
        Server(MonitoringMiddleware(hello), gone=(2, gone)).get()
    assert caught.value is gone
    assert reported.exchange()[2]["status"] == "cancelled"


def test_the_end_of_the_connection_after_the_answer_is_none(reported: Reported) -> None:
    async def app(made: Message, receive: Receive, send: Send) -> None:
        await hello(made, receive, send)
        await receive()

    Server(MonitoringMiddleware(app), [{"type": "http.disconnect"}]).get()
    assert reported.exchange()[2]["status"] == "ok"


@pytest.mark.parametrize("kind", ["websocket", "lifespan", "of tomorrow"])
def test_what_is_no_request_passes_untouched(reported: Reported, kind: str) -> None:
    seen: list[Any] = []

    async def app(*given: Any) -> None:
        seen.extend(given)

    server = Server(MonitoringMiddleware(app))
    made = scope() | {"type": kind}
    server.get(made)
    assert seen == [made, server.receive, server.send]
    assert reported.spans() == []


def test_while_it_is_off_the_application_is_called_as_it_is(reported: Reported) -> None:
    disable_monitoring()
    seen: list[Any] = []

    async def app(*given: Any) -> None:
        seen.extend(given)

    server = Server(MonitoringMiddleware(app))
    server.get()
    assert seen[1:] == [server.receive, server.send]


def test_it_runs_under_trio_and_a_cancelled_request_is_told(reported: Reported) -> None:
    async def app(_scope: Message, _receive: Receive, send: Send) -> None:
        await send(START)
        await trio.sleep_forever()

    async def main() -> None:
        server = Server(MonitoringMiddleware(app))
        with trio.move_on_after(0.01) as limit:
            await server.app(scope(), server.receive, server.send)
        assert limit.cancelled_caught
        assert current() is None

    trio.run(main)
    assert reported.exchange()[2]["status"] == "cancelled"


def test_requests_at_the_same_time_do_not_mix(reported: Reported) -> None:
    async def app(made: Message, receive: Receive, send: Send) -> None:
        log_event("inside", {"path": made["path"]})
        await asyncio.sleep(0)
        await hello(made, receive, send)

    async def main() -> None:
        server = Server(MonitoringMiddleware(app))
        made = [scope() | {"path": f"/{n}"} for n in range(20)]
        await asyncio.gather(*(server.app(each, server.receive, server.send) for each in made))

    asyncio.run(main())
    spans = {span["span"]: span["data"]["url.path"] for span in reported.spans("API")}
    inside = {event["span"]: event["data"]["path"] for event in reported.events("inside") if event["data"]}
    assert len(spans) == 20
    assert inside == spans


async def ask(app: Any, *paths: str) -> list[httpx.Response]:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
        return [await client.get(path) for path in paths]


def test_fastapi_says_the_route(reported: Reported) -> None:
    from fastapi import APIRouter, FastAPI, HTTPException
    from fastapi.responses import StreamingResponse

    from skilld_monitor.contrib.fastapi import monitor_app

    app, router, mounted = FastAPI(), APIRouter(prefix="/orders"), FastAPI()

    @router.get("/{number}")
    async def order(number: int) -> dict[str, int]:
        return {"number": number}

    @router.get("/{number}/lines")
    async def lines(number: int) -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            with Span("piece"):
                yield b"one"

        return StreamingResponse(pieces())

    @app.get("/teapot")
    def teapot() -> None:
        raise HTTPException(418)

    @app.get("/broken")
    def broken() -> None:
        raise LookupError("the secret text")

    @mounted.get("/inner/{word}")
    def inner(word: str) -> str:
        return word

    app.include_router(router)
    app.mount("/sub", mounted)
    assert monitor_app(monitor_app(app)) is app
    paths = ("/orders/7", "/orders/7/lines", "/teapot", "/broken", "/sub/inner/x", "/nowhere")
    answers = asyncio.run(ask(app, *paths))
    assert [answer.status_code for answer in answers] == [200, 200, 418, 500, 200, 404]
    spans = reported.spans("API")
    assert [(span["name"], span["status"], span["data"]["http.response.status_code"]) for span in spans] == [
        ("GET /orders/{number}", "ok", 200),
        ("GET /orders/{number}/lines", "ok", 200),
        ("GET /teapot", "ok", 418),
        ("GET /broken", "error", 500),
        ("GET /sub/inner/{word}", "ok", 200),
        ("GET", "ok", 404),
    ]
    assert reported.span("SYSTEM")["parent"] == spans[1]["span"]
    assert "secret" not in str(reported.all())


def test_starlette_says_the_route(reported: Reported) -> None:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route

    from skilld_monitor.contrib.starlette import monitor_app

    async def shown(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.path_params["word"])

    app = monitor_app(Starlette(routes=[Route("/a/{word}", shown), Mount("/b", routes=[Route("/{word}", shown)])]))
    assert [answer.text for answer in asyncio.run(ask(app, "/a/x", "/b/y"))] == ["x", "y"]
    assert [span["data"]["http.route"] for span in reported.spans("API")] == ["/a/{word}", "/b/{word}"]


@pytest.mark.parametrize("status", [503, 418])
def test_the_handler_of_what_nothing_else_handles_is_inside(reported: Reported, status: int) -> None:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    from skilld_monitor.contrib.starlette import monitor_app

    async def broken(_request: Request) -> None:
        raise LookupError("the secret text")

    async def sorry(_request: Request, _error: Exception) -> PlainTextResponse:
        log_event("sorry")
        return PlainTextResponse("sorry", status)

    app = Starlette(routes=[Route("/broken", broken)], exception_handlers={Exception: sorry})
    (answer,) = asyncio.run(ask(monitor_app(app), "/broken"))
    assert (answer.status_code, answer.text) == (status, "sorry")
    _start, finish, span = reported.exchange()
    assert (finish["data"]["status_code"], span["data"]["http.response.body.size"]) == (status, 5)
    assert span["data"].get("error.type") == ("LookupError" if status == 503 else None)
    assert reported.events("sorry")[0]["span"] == span["span"]
