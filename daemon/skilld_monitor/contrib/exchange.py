"""A request and its answer: one server span, with the events `http_request_start` and `http_request_finish` in it.

What says who asked (address, user, browser, query, headers) is reported only where the program asks for it by name.
"""

from __future__ import annotations

from contextlib import suppress

from skilld_monitor.frame import Frame
from skilld_monitor.monitoring import active
from skilld_monitor.records import event
from skilld_monitor.spans import Running, is_cancellation
from skilld_monitor.trace import Place, child, enter, leave, place_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from skilld_monitor.monitoring import Monitoring

__all__ = ["FIELDS", "KEY", "Exchange", "Head", "Options", "begin"]

KEY = "skilld_monitor.exchange"  # in an environ or a scope: who is further in begins no second span
FIELDS = ("path", "client", "user", "user_agent", "query")
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"))
_CREDENTIALS = (  # in the names of headers
    *("authorization", "cookie", "token", "secret", "password", "credential", "signature", "session"),
    *("api-key", "apikey", "access-key", "auth-key"),
)
# Who asks, in the words of the span, and in those of the start event.
_ASKED = {"client.address": "remote_addr", "user_agent.original": "user_agent", "url.query": "query"}
_NO_BODY = frozenset((204, 304))
_MAX_CHARS = 1024
_MAX_DIGITS = 18  # of a length in bytes; Python takes no more than 4300 for a number


class Options:
    """What is reported of requests.

    Args:
        fields: out of `FIELDS`. Only the path is reported unless more is named; the route's template always is.
        headers: names of request headers to report; those that carry credentials by their names never are.
        accept_traceparent: whether a request goes on in the trace that its `traceparent` header names.

    Raises:
        ValueError: if a field is none of `FIELDS`.

    """

    def __init__(
        self, fields: Iterable[str] = ("path",), headers: Iterable[str] = (), accept_traceparent: bool = True
    ) -> None:
        self.fields = frozenset((fields,) if isinstance(fields, str) else fields)
        wanted = (headers,) if isinstance(headers, str) else headers
        self.headers = tuple(name for name in map(str.lower, wanted) if not any(word in name for word in _CREDENTIALS))
        self.accept_traceparent = accept_traceparent
        unknown = sorted(self.fields - set(FIELDS))
        if unknown:
            raise ValueError(f"there is no field {unknown[0]!r} of requests; there are {', '.join(FIELDS)}")


class Head:
    """What a request says before its body.

    Args:
        header: the value of a header by its name in small letters; None if there is none.
        client: the address of who asks; "" if it is not known.

    """

    __slots__ = ("client", "header", "method", "path", "query", "scheme")

    def __init__(
        self, method: str, path: str, scheme: str, query: str, client: str, header: Callable[[str], str | None]
    ) -> None:
        self.method = method
        self.path = path
        self.scheme = scheme
        self.query = query
        self.client = client
        self.header = header


_NONE = Head("", "", "", "", "", lambda _name: None)


def begin(read: Callable[[], Head], options: Options) -> Exchange | None:
    """A request has come. None while monitoring is off, or if it cannot be read: it is answered all the same."""
    on = active()
    if on is None:
        return None
    try:
        return Exchange(on, read(), options)
    except Exception as error:  # the program's request is more important than what we say of it
        on.problem = f"a request is not reported: {type(error).__name__}"
        return None


class Exchange:
    """A request under way. `finish` reports its end, the first time that it is called.

    `frame` is entered wherever the program works on it, so that what happens there is inside its span.
    """

    __slots__ = (
        *("_error", "_head", "_is_gone", "_is_over", "_on", "_running", "frame"),
        *("length", "route", "sent", "status", "user"),
    )

    def __init__(self, on: Monitoring, head: Head, options: Options) -> None:
        self._on = on
        self._head = head
        self._is_over = False
        self._is_gone = False
        self._error: BaseException | None = None
        self.status: int | None = None
        self.length: int | None = None  # bytes of the answer's body as it was announced
        self.sent = 0  # bytes of it so far
        self.route: str | None = None
        self.user: Callable[[], object] | None = None
        self._running = _running(head, options)
        self.frame = Frame(self._running.place)
        shown = self._shown()
        data = self._running.data
        shown.update((name, data[key]) for key, name in _ASKED.items() if key in data)
        self._event("http_request_start", shown, "INFO")

    def answered(self, status: int | None, length: str | None = None) -> None:
        """The answer has begun."""
        self.status = status
        is_number = length is not None and length.isascii() and length.isdigit() and len(length) <= _MAX_DIGITS
        self.length = int(length or 0) if is_number else None

    def passed(self, piece: object) -> None:
        """A piece of the answer's body; what is none is the server's to refuse."""
        with suppress(TypeError):
            self.sent += len(piece)  # type: ignore[arg-type]  # what has no length is the case for `suppress`

    def broke(self, error: BaseException) -> None:
        """The framework makes an answer of this exception. Where that is none of the server's fault, nothing failed."""
        if not self._is_over:
            self._error = error

    def hung_up(self) -> None:
        """Who asked is gone."""
        self._is_gone = True

    def closed(self) -> None:
        """The server wants no more of the body: it has all of it, or who asked is gone."""
        if self._is_over:
            return
        is_whole = self.length is not None and self.sent >= self.length
        if not is_whole and self._head.method != "HEAD" and self.status not in _NO_BODY:
            self._is_gone = True
        self.finish()

    def finish(self, error: BaseException | None = None) -> None:
        """The answer has ended, or an exception has left the program: servers answer that with 500."""
        if self._is_over:
            return
        self._is_over = True
        try:
            self._report(error)
        except Exception as failed:  # a route or a user of any class
            self._on.problem = f"a request is not reported: {type(failed).__name__}"
        # What the request holds holds the request: only the collector would find that it is gone.
        self._head, self.user, self._error = _NONE, None, None

    def _report(self, error: BaseException | None) -> None:
        running, shown = self._running, self._shown()
        is_gone = self._is_gone or (error is not None and is_cancellation(error))
        if error is not None and not is_gone and self.status is None:
            self.status = 500
        is_fault = (self.status or 500) >= 500
        failure = error or (self._error if is_fault else None)
        if self.status is not None:
            running.data["http.response.status_code"] = shown["status_code"] = self.status
        if self.sent and self._head.method != "HEAD":  # servers leave the body away
            running.data["http.response.body.size"] = self.sent
        if self.route:
            running.data["http.route"] = shown["route"] = _cut(self.route)
            running.name = f"{running.name} {_cut(self.route)}"
        user = None if self.user is None else self.user()
        if user is not None:
            running.data["user.name"] = shown["user"] = _cut(str(user))
        is_failed = failure is not None or (is_fault and self.status is not None)
        if is_failed and not is_gone:
            kind = type(failure).__name__ if failure is not None else str(self.status)
            running.data["error.type"] = shown["error"] = kind
        shown["duration_ms"] = round(running.elapsed_ms, 3)
        running.who = running.who.or_else(self.frame.who)  # it may have learned whose it is while it ran
        self._event("http_request_finish", shown, "ERROR" if is_failed and not is_gone else "INFO")
        running.end(status="cancelled" if is_gone else "error" if is_failed else "ok")

    def _shown(self) -> dict[str, object]:
        data = self._running.data
        found: dict[str, object] = {"method": data["http.request.method"]}
        for name, known in (("path", "url.path"), ("request_id", "http.request.id")):
            if known in data:
                found[name] = data[known]
        return found

    def _event(self, name: str, data: dict[str, object], level: str) -> None:
        self._on.report(event(name, data, "API", level, self._running.place))


def _place(head: Head, options: Options) -> Place | None:
    """Where the caller's trace goes on, if it names one."""
    above = place_from(_trace_headers(head)) if options.accept_traceparent else None
    if above is None:
        return None
    token = enter(above)
    try:
        return child()
    finally:
        leave(token)


def _trace_headers(head: Head) -> dict[str, str]:
    found = {name: head.header(name) for name in ("traceparent", "tracestate")}
    return {name: value for name, value in found.items() if value and len(value) <= _MAX_CHARS}


def _running(head: Head, options: Options) -> Running:
    method = head.method if head.method in _METHODS else "_OTHER"
    data: dict[str, object] = {"http.request.method": method, "url.scheme": _cut(head.scheme)}
    if "path" in options.fields:
        data["url.path"] = _cut(head.path)
    request_id = head.header("x-request-id")
    if request_id:
        data["http.request.id"] = _cut(request_id)[:200]
    running = Running("HTTP" if method == "_OTHER" else method, "API", data, _place(head, options))
    if "client" in options.fields and head.client:
        data["client.address"] = _cut(head.client)
    if "user_agent" in options.fields:
        data["user_agent.original"] = _cut(head.header("user-agent") or "")
    if "query" in options.fields and head.query:
        data["url.query"] = _cut(head.query)
    for name in options.headers:
        value = head.header(name)
        if value is not None:
            data[f"http.request.header.{name}"] = _cut(value)
    return running


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}..."
