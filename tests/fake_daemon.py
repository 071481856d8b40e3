"""A daemon for client tests: real HTTP on a real Unix socket, with answers that a test scripts."""

from __future__ import annotations

import json
import socketserver
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

__all__ = ["SESSION", "TURN", "Exchange", "FakeDaemon", "a_turn", "event", "fake_daemon"]

SESSION = "ses_" + "a" * 26
TURN = "trn_" + "b" * 26

Wire = dict[str, Any]


class Exchange:
    """One request, and the means to answer it."""

    def __init__(self, handler: _Handler, daemon: FakeDaemon) -> None:
        parts = urlsplit(handler.path)
        self.method = handler.command
        self.path = parts.path
        self.query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.headers = {name.lower(): value for name, value in handler.headers.items()}
        self.body = handler.rfile.read(int(self.headers.get("content-length", 0)))
        self._handler = handler
        self._daemon = daemon

    def answer(self, status: int, body: bytes, content_type: str, headers: Mapping[str, str] | None = None) -> None:
        self._handler.send_response(status)
        self._handler.send_header("content-type", content_type)
        self._handler.send_header("content-length", str(len(body)))
        for name, value in (headers or {}).items():
            self._handler.send_header(name, value)
        self._handler.end_headers()
        self._handler.wfile.write(body)

    def json(self, status: int, value: Wire, headers: Mapping[str, str] | None = None) -> None:
        self.answer(status, json.dumps(value).encode(), "application/json", headers)

    def stream(self, events: Sequence[Wire | bytes], *, end: Literal["clean", "cut", "hang"] = "clean") -> None:
        """Send server-sent events, chunked. "hang" keeps the stream open until the daemon is released."""
        self._handler.send_response(200)
        self._handler.send_header("content-type", "text/event-stream; charset=utf-8")
        self._handler.send_header("transfer-encoding", "chunked")
        self._handler.end_headers()
        for item in events:
            self._chunk(item if isinstance(item, bytes) else as_sse(item))
        if end == "hang":
            self._daemon.hanging.set()
            self._daemon.released.wait(20)
        if end == "clean":
            self._handler.wfile.write(b"0\r\n\r\n")
        self._handler.close_connection = True

    def hang_up(self) -> None:
        """Answer nothing."""
        self._handler.close_connection = True

    def _chunk(self, data: bytes) -> None:
        self._handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self._handler.wfile.flush()


Behaviour = Callable[[Exchange], None]


class FakeDaemon:
    """Answers by method and path. The last behaviour scripted for a path stays; earlier ones are used once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: list[Exchange] = []
        self.hanging = threading.Event()
        self.released = threading.Event()
        self._script: dict[tuple[str, str], deque[Behaviour]] = {}

    def on(self, method: str, path: str, *behaviours: Behaviour) -> None:
        self._script[method, path] = deque(behaviours)

    def on_json(self, method: str, path: str, value: Wire, status: int = 200, **headers: str) -> None:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        self.on(method, path, lambda exchange: exchange.json(status, value, named))

    def on_error(self, method: str, path: str, status: int, code: str, message: str, **headers: str) -> None:
        error = {"code": code, "message": message, "retryable": status in (429, 503), "details": {}}
        self.on_json(method, path, {"error": error}, status, **headers)

    def on_events(self, method: str, path: str, *streams: tuple[Sequence[Wire | bytes], str]) -> None:
        """Each stream is (events, end)."""

        def behaviour(events: Sequence[Wire | bytes], end: Any) -> Behaviour:
            return lambda exchange: exchange.stream(events, end=end)

        self.on(method, path, *(behaviour(events, end) for events, end in streams))

    def requests(self, method: str, path: str) -> list[Exchange]:
        return [exchange for exchange in self.seen if (exchange.method, exchange.path) == (method, path)]

    def handle(self, exchange: Exchange) -> None:
        self.seen.append(exchange)
        behaviours = self._script.get((exchange.method, exchange.path))
        if behaviours is None:
            error = {"code": "not_found", "message": f"no {exchange.path}", "retryable": False, "details": {}}
            exchange.json(404, {"error": error})
            return
        (behaviours.popleft() if len(behaviours) > 1 else behaviours[0])(exchange)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _any(self) -> None:
        try:
            self.server.fake.handle(Exchange(self, self.server.fake))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64
    fake: FakeDaemon


@contextmanager
def fake_daemon(folder: Path, scripted: FakeDaemon | None = None) -> Iterator[FakeDaemon]:
    """A daemon on a socket in `folder` (or where the `scripted` one wants it), as long as the block lasts."""
    daemon = scripted or FakeDaemon(folder / "skilld.sock")
    with _Server(str(daemon.path), _Handler) as server:
        server.fake = daemon
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield daemon
        finally:
            daemon.released.set()
            server.shutdown()
            thread.join()
    daemon.path.unlink()


def as_sse(wire: Wire) -> bytes:
    position = f"{wire['seq']}.{wire['offset']}" if "offset" in wire else str(wire["seq"])
    body = {name: value for name, value in wire.items() if name != "offset"}
    return f"id: {position}\nevent: {wire['type']}\ndata: {json.dumps(body)}\n\n".encode()


def event(seq: int, type: str, data: Wire | None = None, *, turn: str | None = TURN, offset: int | None = None) -> Wire:
    """An event as the daemon sends it; `offset` makes it a live delta."""
    wire = {"seq": seq, "type": type, "time": "2026-01-02T03:04:05.678Z", "session": SESSION, "turn": turn}
    wire["data"] = data or {}
    return wire if offset is None else {**wire, "offset": offset}


def a_turn(*pieces: str, first: int = 1, turn: str = TURN, **ending: Any) -> list[Wire]:
    """A turn that streams these pieces of text and then finishes."""
    text = "".join(pieces)
    made = [event(first, "turn.queued", {"text": "hello"}, turn=turn), event(first + 1, "turn.started", {}, turn=turn)]
    offset = 0
    for piece in pieces:
        offset += len(piece)
        data = {"kind": "text", "block": 0, "text": piece, "offset": offset}
        made.append(event(first + 2, "model.delta", data, turn=turn, offset=offset))
    content = [{"type": "text", "text": text}]
    made.append(event(first + 3, "model.message", {"model": "offline", "content": content}, turn=turn))
    usage = {"input_tokens": 12, "output_tokens": 40}
    data = {"text": text, "stop_reason": "end_turn", "usage": usage, "cost_usd": 0.0, "model": "offline", **ending}
    made.append(event(first + 4, "turn.finished", data, turn=turn))
    return made
