"""A middleware for ASGI applications: one span per request, until the last of its answer is sent.

Websockets and the application's own start and end pass through. What the application does after its answer, such as
background tasks, is inside the span still, though that has ended.
"""

from __future__ import annotations

from skilld_monitor.contrib.exchange import KEY, Exchange, Head, Options, begin
from skilld_monitor.monitoring import active

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping
    from typing import Any

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

__all__ = ["MonitoringMiddleware", "UnfinishedAnswer"]


class UnfinishedAnswer(Exception):
    """The application returned before its answer was whole: servers answer 500, or break the connection."""


class MonitoringMiddleware:
    """An ASGI application around another.

        app = MonitoringMiddleware(app)
        app.add_middleware(MonitoringMiddleware)  # FastAPI, Starlette

    Args:
        app: the application.
        options: `fields`, `headers` and `accept_traceparent`, see `skilld_monitor.contrib.exchange.Options`.

    Raises:
        ValueError: if an option names a field that there is not.

    """

    def __init__(self, app: App, **options: Any) -> None:
        self.app = app
        self._options = Options(**options)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if active() is None or scope.get("type") != "http":
            return await self.app(scope, receive, send)
        if KEY in scope:
            return await self._inside(scope[KEY], scope, receive, send)
        exchange = begin(lambda: _head(scope), self._options)
        if exchange is None:
            return await self.app(scope, receive, send)
        scope[KEY] = exchange
        if "user" in self._options.fields:
            exchange.user = lambda: _user(scope)
        answer = _Answer(exchange, scope, receive, send)
        try:
            with exchange.frame:
                await self.app(scope, answer.receive, answer.send)
        except BaseException as error:
            answer.end(error)
            raise
        answer.returned()

    async def _inside(self, exchange: Exchange, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """The request has its span already; what leaves the application here may be answered further out."""
        try:
            await self.app(scope, receive, send)
        except Exception as error:
            exchange.broke(error)
            raise


class _Answer:
    """What passes between an application and its server, looked at."""

    def __init__(self, exchange: Exchange, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        self._exchange = exchange
        self._scope = scope
        self._receive = receive
        self._send = send
        self._has_trailers = False
        self._is_whole = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message.get("type") == "http.disconnect" and not self._is_whole:
            self._exchange.hung_up()
        return message

    async def send(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:  # as servers say that nobody is there any more
            if not self._is_whole:
                self._exchange.hung_up()
            raise
        kind = message.get("type")
        if kind == "http.response.start":
            self._begun(message)
        elif kind in ("http.response.body", "http.response.zerocopysend"):
            self._exchange.passed(message.get("body") or b"")
            if not message.get("more_body") and not self._has_trailers:
                self._whole()
        elif kind == "http.response.pathsend" or (
            kind == "http.response.trailers" and not message.get("more_trailers")
        ):
            self._whole()

    def returned(self) -> None:
        """The application has done what it had to do, or not all of it."""
        self.end(None if self._is_whole else UnfinishedAnswer())

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more of the answer comes."""
        self._exchange.route = _route(self._scope)
        self._exchange.finish(error)

    def _begun(self, message: Message) -> None:
        status = message.get("status")
        self._has_trailers = bool(message.get("trailers"))
        self._exchange.answered(status if isinstance(status, int) else None)

    def _whole(self) -> None:
        self._is_whole = True
        self.end()


def _head(scope: MutableMapping[str, Any]) -> Head:
    client = scope.get("client")
    if hasattr(scope.get("headers"), "__next__"):  # can be read once, and that is for the application
        scope["headers"] = list(scope["headers"])
    return Head(
        scope.get("method", ""),
        scope.get("path", ""),
        scope.get("scheme", "http"),
        bytes(scope.get("query_string", b"")).decode("latin-1"),
        str(client[0]) if client else "",
        lambda name: _header(scope, name.encode("latin-1", "replace")),
    )


def _header(scope: MutableMapping[str, Any], wanted: bytes) -> str | None:
    for name, value in scope.get("headers") or ():
        if name == wanted:
            found: str = value.decode("latin-1")
            return found
    return None


def _route(scope: MutableMapping[str, Any]) -> str | None:
    """The template of the route that a framework has found, with that of what it is mounted in."""
    path = getattr(scope.get("route"), "path", None)
    if not isinstance(path, str):
        return None
    mounted, above = scope.get("root_path", ""), scope.get("app_root_path", scope.get("root_path", ""))
    return f"{mounted[len(above) :]}{path}"


def _user(scope: MutableMapping[str, Any]) -> object:
    """Who it is, as Starlette's authentication and those like it say."""
    user = scope.get("user")
    return getattr(user, "display_name", None) or getattr(user, "identity", None) if user is not None else None
