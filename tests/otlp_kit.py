"""Requests of OpenTelemetry's protocol, and a tree of the daemon that takes them."""

from __future__ import annotations

import functools
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec

from support import run

__all__ = ["SPAN", "TRACE", "attribute", "free_port", "in_trio", "keys", "logs_request", "span", "traces_request"]

P = ParamSpec("P")

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
START_NS = 1_700_000_000_000_000_000

JSON = dict[str, Any]


def in_trio(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """A test that is a coroutine, in a program of trio's of its own."""

    @functools.wraps(test)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        run(lambda: test(*args, **kwargs))

    return wrapped


def keys(found: dict[str, Any]) -> dict[str, Any]:
    """Keys of the configuration for `open_tree`."""
    return found


def free_port() -> int:
    """A port of loopback that nobody has, and the kernel gives to nobody else as long as this process lives.

    It stays bound here, which is in nobody's way who listens there and, as the daemon does, lets others use the address
    again; until then who connects is refused.
    """
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    port = int(sock.getsockname()[1])
    sock.detach()
    return port


def attribute(key: str, value: object) -> JSON:
    kinds = {bool: "boolValue", int: "intValue", float: "doubleValue"}
    return {"key": key, "value": {kinds.get(type(value), "stringValue"): value}}


def span(**changes: Any) -> JSON:
    """A call of a model, as an SDK reports it."""
    return {
        "traceId": TRACE,
        "spanId": SPAN,
        "name": "chat claude-sonnet-5-5",
        "kind": 3,
        "startTimeUnixNano": str(START_NS),
        "endTimeUnixNano": START_NS + 1_500_000,
        "attributes": [
            attribute("gen_ai.operation.name", "chat"),
            attribute("gen_ai.request.model", "claude-sonnet-5-5"),
            attribute("gen_ai.usage.input_tokens", 12),
        ],
        "status": {},
        **changes,
    }


def traces_request(*spans: JSON, **resource: object) -> bytes:
    attributes = [attribute(key, value) for key, value in (resource or {"service.name": "shop"}).items()]
    scopes = [{"scope": {"name": "test"}, "spans": list(spans)}]
    return json.dumps({"resourceSpans": [{"resource": {"attributes": attributes}, "scopeSpans": scopes}]}).encode()


def logs_request(*records: JSON) -> bytes:
    attributes = [attribute("service.name", "shop")]
    scopes = [{"scope": {"name": "test"}, "logRecords": list(records)}]
    return json.dumps({"resourceLogs": [{"resource": {"attributes": attributes}, "scopeLogs": scopes}]}).encode()
