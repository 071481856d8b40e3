"""Django's requests, under WSGI and ASGI: the route, what views raise, streams, files."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from typing import Any
from wsgiref.util import FileWrapper, setup_testing_defaults

import django  # type: ignore[import-untyped]
import pytest
from django.conf import settings  # type: ignore[import-untyped]

import contrib_kit
from contrib_kit import TRACE, Reported, traceparent
from doc_kit import ROOT, blocks
from skilld_monitor import Span, disable_monitoring
from skilld_monitor.contrib.django import MonitoringMiddleware
from skilld_monitor.monitoring import active
from skilld_monitor.trace import current

if not settings.configured:
    settings.configure(
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="of the tests",
        MIDDLEWARE=["skilld_monitor.contrib.django.MonitoringMiddleware"],
        LOGGING_CONFIG=None,
    )
    django.setup()

from django.core.handlers.asgi import ASGIHandler  # type: ignore[import-untyped]
from django.core.handlers.wsgi import WSGIHandler  # type: ignore[import-untyped]
from django.http import FileResponse, Http404, HttpResponse, StreamingHttpResponse  # type: ignore[import-untyped]
from django.test import RequestFactory  # type: ignore[import-untyped]
from django.urls import path  # type: ignore[import-untyped]


def ask(_request: Any, number: int) -> Any:
    with Span("model"):
        return HttpResponse(str(number))


async def ask_async(_request: Any, number: int) -> Any:
    with Span("model"):
        await asyncio.sleep(0)
        return HttpResponse(str(number))


def missing(_request: Any) -> Any:
    raise Http404("the secret order")


def broken(_request: Any) -> Any:
    raise LookupError("the secret text")


def stream(_request: Any) -> Any:
    def pieces() -> Iterator[bytes]:
        with Span("model"):
            yield b"one"
        yield b"two"

    return StreamingHttpResponse(pieces())


async def stream_async(_request: Any) -> Any:
    async def pieces() -> AsyncIterator[bytes]:
        with Span("model"):
            yield b"one"
        yield b"two"

    return StreamingHttpResponse(pieces())


def filed(_request: Any) -> Any:
    return FileResponse(io.BytesIO(b"of a file"), filename="x.txt")


urlpatterns = [
    path("ask/<int:number>", ask),
    path("later/<int:number>", ask_async),
    path("broken", broken),
    path("missing", missing),
    path("stream", stream),
    path("stream-async", stream_async),
    path("file", filed),
]


def get(where: str, *, read: int | None = None, **more: Any) -> tuple[str, bytes]:
    """Through Django's WSGI handler as a server calls it; of a stream only so many items if `read` says so."""
    environ: dict[str, Any] = {
        "SCRIPT_NAME": "",
        "PATH_INFO": where,
        "REQUEST_METHOD": "GET",
        "wsgi.file_wrapper": FileWrapper,
        **more,
    }
    setup_testing_defaults(environ)
    seen: list[str] = []
    answer = WSGIHandler()(environ, lambda status, _headers: seen.append(status))
    items = iter(answer)
    try:
        return seen[0], b"".join(items if read is None else (next(items) for _ in range(read)))
    finally:
        answer.close()


async def get_async(where: str) -> tuple[int, bytes]:
    sent: list[dict[str, Any]] = []
    asked = [{"type": "http.request", "body": b"", "more_body": False}]
    scope = {"type": "http", "method": "GET", "path": where, "headers": [], "query_string": b"", "asgi": {}}

    async def receive() -> dict[str, Any]:
        if not asked:
            await asyncio.sleep(3600)
        return asked.pop()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await ASGIHandler()(scope | {"http_version": "1.1"}, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize("where", ["/ask/7", "/later/7"])
def test_a_request_has_its_route_and_its_spans(reported: Reported, where: str) -> None:
    assert get(where, HTTP_TRACEPARENT=traceparent) == ("200 OK", b"7")
    _start, finish, span = reported.exchange()
    assert span["name"] == f"GET {where[:-1]}<int:number>"
    assert (span["trace"], finish["data"]["status_code"], span["data"]["http.response.body.size"]) == (TRACE, 200, 1)
    assert reported.span("SYSTEM")["parent"] == span["span"]


@pytest.mark.parametrize("where", ["/ask/7", "/later/7", "/stream", "/stream-async", "/file"])
@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")  # Django's word on a plain one under ASGI
def test_the_same_under_asgi(reported: Reported, where: str) -> None:
    expected = {"/stream": b"onetwo", "/stream-async": b"onetwo", "/file": b"of a file"}.get(where, b"7")
    assert asyncio.run(get_async(where)) == (200, expected)
    span = reported.exchange()[2]
    assert (span["status"], span["data"]["http.response.body.size"]) == ("ok", len(expected))
    if where != "/file":
        assert reported.span("SYSTEM")["parent"] == span["span"]


def test_what_a_view_raises_is_named(reported: Reported) -> None:
    assert get("/broken")[0] == "500 Internal Server Error"
    _start, finish, span = reported.exchange()
    assert (span["status"], span["data"]["error.type"], finish["data"]["error"]) == ("error", *["LookupError"] * 2)
    assert "secret" not in str(reported.all())


def test_a_page_that_there_is_not_is_no_failure(reported: Reported) -> None:
    assert get("/missing")[0] == "404 Not Found"
    _start, finish, span = reported.exchange()
    assert (span["status"], "error.type" in span["data"]) == ("ok", False)
    assert (finish["level"], "error" in finish["data"]) == ("INFO", False)


def test_a_stream_ends_with_its_last_item(reported: Reported) -> None:
    assert get("/stream") == ("200 OK", b"onetwo")
    span = reported.exchange()[2]
    assert (span["status"], span["data"]["http.response.body.size"]) == ("ok", 6)
    assert reported.span("SYSTEM")["parent"] == span["span"]


def test_who_hangs_up_is_told(reported: Reported) -> None:
    assert get("/stream", read=1) == ("200 OK", b"one")
    assert reported.exchange()[2]["status"] == "cancelled"


def test_a_file_stays_one_that_the_server_may_send_itself(reported: Reported) -> None:
    environ: dict[str, Any] = {"SCRIPT_NAME": "", "PATH_INFO": "/file", "wsgi.file_wrapper": FileWrapper}
    setup_testing_defaults(environ)
    answer = WSGIHandler()(environ, lambda *_: None)
    assert type(answer) is FileWrapper
    assert not reported.events("http_request_finish")
    answer.close()
    assert reported.exchange()[2]["status"] == "ok"


def test_who_it_is_is_told_where_that_is_asked_for_and_known(reported: Reported) -> None:
    from django.test import override_settings

    class User:
        is_authenticated = True

        def get_username(self) -> str:
            return "mary"

    def view(request: Any) -> Any:
        request._cached_user = User()
        return HttpResponse("x")

    with override_settings(SKILLD_MONITOR={"fields": ["user", "client"]}):
        MonitoringMiddleware(view)(RequestFactory().get("/secret-path"))
    start, finish, _span = reported.exchange()
    assert (start["data"], finish["data"]["user"]) == ({"method": "GET", "remote_addr": "127.0.0.1"}, "mary")
    assert "secret-path" not in str(reported.all())


@pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="reads the manual, and this is a copy of the tests")
def test_what_the_manual_says_for_django_is_taken(reported: Reported) -> None:
    from django.test import override_settings
    from django.utils.module_loading import import_string  # type: ignore[import-untyped]

    setting, apps = (
        block
        for block in blocks("docs/monitoring-patterns.md")
        if "MIDDLEWARE" in block.text or "AppConfig" in block.text
    )
    named: dict[str, Any] = {}
    exec(setting.text, named)
    with override_settings(SKILLD_MONITOR=named["SKILLD_MONITOR"]):
        import_string(named["MIDDLEWARE"][0])(lambda _request: None)
    disable_monitoring()
    exec(apps.text, named)
    named["ShopConfig"]("shop", contrib_kit).ready()
    on = active()
    assert on is not None
    assert on.settings.agent_id == "shop-production"


class OldStream:
    """A streamed answer as Django 3.2 to 4.1 has it: it does not say whether it is asynchronous."""

    status_code = 200
    streaming = True

    def __init__(self, content: Iterator[bytes]) -> None:
        self.streaming_content = content
        self.headers: dict[str, str] = {}

    def close(self) -> None:
        pass


def test_a_stream_of_an_older_django_is_read_as_ever(reported: Reported) -> None:
    middleware = MonitoringMiddleware(lambda _request: OldStream(iter([b"one", b"two"])))
    answer = middleware(RequestFactory().get("/old"))
    assert list(answer.streaming_content) == [b"one", b"two"]
    answer.close()
    assert reported.exchange()[2]["data"]["http.response.body.size"] == 6


def test_a_stream_that_another_thread_closes_is_read_to_its_end_as_ever(reported: Reported) -> None:
    async def main() -> list[bytes]:
        goes_on = asyncio.Event()

        async def pieces() -> AsyncIterator[bytes]:
            yield b"one"
            await goes_on.wait()
            yield b"two"

        async def respond(_request: Any) -> Any:
            return StreamingHttpResponse(pieces())

        answer = await MonitoringMiddleware(respond)(RequestFactory().get("/later"))
        reading = asyncio.ensure_future(read(answer))
        await asyncio.sleep(0.02)
        await asyncio.to_thread(answer.close)
        goes_on.set()
        return await reading

    async def read(answer: Any) -> list[bytes]:
        found = [piece async for piece in answer.streaming_content]
        assert current() is None
        return found

    assert asyncio.run(main()) == [b"one", b"two"]
