"""A middleware for WSGI applications: one span per request, open while the program works on it and on its answer.

The answer is the application's own object where it is whole already (a list), or a file that the server may send by
itself; otherwise its items pass one by one, as they are, and the span ends with the last one.
"""

from __future__ import annotations

from skilld_monitor.contrib.exchange import KEY, Exchange, Head, Options, begin
from skilld_monitor.monitoring import active

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

__all__ = ["MonitoringMiddleware"]


class MonitoringMiddleware:
    """A WSGI application around another.

        application = MonitoringMiddleware(application)

    Args:
        app: the application.
        options: `fields`, `headers` and `accept_traceparent`, see `skilld_monitor.contrib.exchange.Options`.

    Raises:
        ValueError: if an option names a field that there is not.

    """

    def __init__(self, app: Callable[..., Iterable[bytes]], **options: Any) -> None:
        self._app = app
        self._options = Options(**options)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if active() is None or KEY in environ:
            return self._app(environ, start_response)
        exchange = begin(lambda: _head(environ), self._options)
        if exchange is None:
            return self._app(environ, start_response)
        environ[KEY] = exchange
        if "user" in self._options.fields:
            exchange.user = lambda: environ.get("REMOTE_USER")

        def started(status: str, headers: list[tuple[str, str]], *rest: Any, **named: Any) -> Any:
            writer = start_response(status, headers, *rest, **named)
            exchange.answered(*_answered(status, headers))
            return writer

        try:
            with exchange.frame:
                body = self._app(environ, started)
        except BaseException as error:
            exchange.finish(error)
            raise
        return _watched(body, exchange, environ)


def _head(environ: dict[str, Any]) -> Head:
    return Head(
        environ.get("REQUEST_METHOD", ""),
        _text(environ.get("SCRIPT_NAME", "")) + _text(environ.get("PATH_INFO", "")),
        environ.get("wsgi.url_scheme", ""),
        environ.get("QUERY_STRING", ""),
        environ.get("REMOTE_ADDR", ""),
        lambda name: environ.get(f"HTTP_{name.upper().replace('-', '_')}"),
    )


def _text(path: str) -> str:
    """A path as WSGI has it: bytes in the form of text."""
    return path.encode("latin-1", "replace").decode("utf-8", "replace")


def _answered(status: object, headers: object) -> tuple[int | None, str | None]:
    """Status and length; what is no proper answer is the server's to refuse."""
    code = str(status)[:3]
    pairs = headers if isinstance(headers, list) else ()
    length = next((pair[1] for pair in pairs if len(pair) == 2 and str(pair[0]).lower() == "content-length"), None)
    return int(code) if code.isascii() and code.isdigit() else None, None if length is None else str(length)


def _watched(body: Iterable[bytes], exchange: Exchange, environ: dict[str, Any]) -> Iterable[bytes]:
    """What the server gets."""
    if type(body) in (list, tuple):
        for item in body:
            exchange.passed(item)
        exchange.finish()
        return body
    wrapper = environ.get("wsgi.file_wrapper")
    if isinstance(wrapper, type) and isinstance(body, wrapper):
        _end_when_closed(body, exchange)
        return body
    return (_SizedBody if hasattr(body, "__len__") else _Body)(body, exchange)


def _end_when_closed(body: Any, exchange: Exchange) -> None:
    """The server sends a file by a way of its own, and closes it; how much it sent is not seen."""
    close = getattr(body, "close", None)

    def closed() -> None:
        try:
            if close is not None:
                close()
        finally:
            exchange.finish()

    try:
        body.close = closed
    except AttributeError:  # one that is no Python object: then the end of the application is the end
        exchange.finish()


class _Body:
    """The items of an answer, looked at; everything else of it is its own."""

    def __init__(self, inner: Iterable[bytes], exchange: Exchange) -> None:
        self._inner = inner
        self._exchange = exchange
        self._items: Iterator[bytes] | None = None

    def __iter__(self) -> _Body:
        with self._exchange.frame:
            self._items = iter(self._inner)
        return self

    def __next__(self) -> bytes:
        exchange = self._exchange
        try:
            with exchange.frame:
                if self._items is None:
                    self._items = iter(self._inner)
                item = next(self._items)
        except StopIteration:
            exchange.finish()
            raise
        except BaseException as error:
            exchange.finish(error)
            raise
        exchange.passed(item)
        return item

    def close(self) -> None:
        close = getattr(self._inner, "close", None)
        try:
            if close is not None:
                with self._exchange.frame:
                    close()
        except BaseException as error:
            self._exchange.finish(error)
            raise
        self._exchange.closed()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __del__(self) -> None:
        with self._exchange.frame:  # a generator that nobody else has ends here, with what is open in it
            self._items, self._inner = None, ()
        self._exchange.closed()


class _SizedBody(_Body):
    """One of which servers may ask how many items there are: with a single one they know the answer's length."""

    def __len__(self) -> int:
        return len(self._inner)  # type: ignore[arg-type]  # it has one
