"""A middleware for Django, under WSGI and ASGI.

    MIDDLEWARE = ["skilld_monitor.contrib.django.MonitoringMiddleware", ...]
    SKILLD_MONITOR = {"fields": ["path"]}  # if more is to be reported

As the first of all it sees what each of the others does.
"""

from __future__ import annotations

from importlib import import_module

from skilld_monitor.contrib.exchange import Exchange, Head, Options, begin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from typing import Any

__all__ = ["MonitoringMiddleware"]


class MonitoringMiddleware:
    """For the setting `MIDDLEWARE`. Its options are in the setting `SKILLD_MONITOR`.

    Raises:
        ValueError: if an option names a field that there is not.

    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self._get_response = get_response
        self._options = Options(**(getattr(import_module("django.conf").settings, "SKILLD_MONITOR", None) or {}))
        sync = import_module("asgiref.sync")  # of Django's own
        self._is_async = bool(sync.iscoroutinefunction(get_response))
        if self._is_async:
            sync.markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        if self._is_async:
            return self._answer_async(request)
        exchange = self._begin(request)
        if exchange is None:
            return self._get_response(request)
        try:
            with exchange.frame:
                response = self._get_response(request)
        except BaseException as error:
            exchange.finish(error)
            raise
        return _watched(request, response, exchange)

    async def _answer_async(self, request: Any) -> Any:
        exchange = self._begin(request)
        if exchange is None:
            return await self._get_response(request)
        try:
            with exchange.frame:
                response = await self._get_response(request)
        except BaseException as error:
            exchange.finish(error)
            raise
        return _watched(request, response, exchange)

    def process_exception(self, request: Any, exception: BaseException) -> None:
        """A view has raised it; Django makes an answer of it."""
        exchange = getattr(request, "skilld_monitor_exchange", None)
        if exchange is not None:
            exchange.broke(exception)

    def _begin(self, request: Any) -> Exchange | None:
        exchange = begin(lambda: _head(request), self._options)
        if exchange is not None:
            request.skilld_monitor_exchange = exchange
            if "user" in self._options.fields:
                exchange.user = lambda: _user(request)
        return exchange


def _head(request: Any) -> Head:
    meta = request.META
    return Head(
        request.method or "",
        request.path,
        request.scheme,
        meta.get("QUERY_STRING", ""),
        meta.get("REMOTE_ADDR", ""),
        lambda name: meta.get(f"HTTP_{name.upper().replace('-', '_')}"),
    )


def _user(request: Any) -> object:
    """Who it is, if somebody has asked for that already: to ask here might ask the database."""
    user = getattr(request, "_cached_user", None)
    return user.get_username() if user is not None and user.is_authenticated else None


def _watched(request: Any, response: Any, exchange: Exchange) -> Any:
    match = getattr(request, "resolver_match", None)
    if match is not None:
        exchange.route = f"/{match.route}"
    headers = getattr(response, "headers", {})
    exchange.answered(getattr(response, "status_code", None), headers.get("Content-Length"))
    if not getattr(response, "streaming", False):
        exchange.sent = len(getattr(response, "content", b""))
        exchange.finish()
        return response
    if getattr(response, "file_to_stream", None) is None:  # a file may be sent by the server itself: it stays one
        pieces = _pieces_async if getattr(response, "is_async", False) else _pieces  # before 4.2 there are none
        response.streaming_content = pieces(response.streaming_content, exchange)
    else:
        exchange.sent = exchange.length or 0
    _end_when_closed(response, exchange)
    return response


def _end_when_closed(response: Any, exchange: Exchange) -> None:
    close = response.close

    def closed() -> None:
        try:
            with exchange.frame:  # what is open in the stream's own code is left as it was entered
                close()
        finally:
            exchange.closed()

    response.close = closed


def _pieces(content: Iterator[bytes], exchange: Exchange) -> Iterator[bytes]:
    while True:
        try:
            with exchange.frame:
                piece = next(content)
        except StopIteration:
            exchange.finish()
            return
        except BaseException as error:
            exchange.finish(error)
            raise
        exchange.passed(piece)
        yield piece


async def _pieces_async(content: AsyncIterator[bytes], exchange: Exchange) -> AsyncIterator[bytes]:
    iterator = content.__aiter__()
    while True:
        try:
            with exchange.frame:
                piece = await iterator.__anext__()
        except StopAsyncIteration:
            exchange.finish()
            return
        except BaseException as error:
            exchange.finish(error)
            raise
        exchange.passed(piece)
        yield piece
