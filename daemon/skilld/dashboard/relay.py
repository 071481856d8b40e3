"""Calls on their way to the daemon, and its answers on their way back, piece by piece."""

from __future__ import annotations

import json
import re
import select
from collections.abc import Mapping
from typing import Any, Final

import trio
from starlette.types import Receive, Scope, Send

from skill_actors.errors import Refused
from skilld.client.errors import ConnectionLost, DaemonUnreachable, ProtocolError, SkilldError
from skilld.client.over_trio import AsyncAnswer, open_stream
from skilld.client.wire import LONG_S, SILENCE_S, Request
from skilld.dashboard.allowed import Allowed, checked_fields, find, target_of
from skilld.http.body import parse_json, read_body
from skilld.http.connection import ClientGone

__all__ = ["STREAM", "Relay"]

STREAM: Final = "skilld.stream"  # where in the ASGI scope the browser's connection is

_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_POSITION: Final = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?")
_JSON: Final = "application/json"
_EVENTS: Final = "text/event-stream"
_LOOK_S: Final = 0.25


class Relay:
    """Passes calls on to the daemon at `socket`, if they are on the list; none that changes anything if `read_only`."""

    def __init__(self, socket: str, *, read_only: bool) -> None:
        self._socket = socket
        self._read_only = read_only

    async def __call__(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call.

        Args:
            path: of the daemon's interface.

        Raises:
            Refused: before anything was answered.
            ClientGone: the browser has left, or the daemon has in the middle of its answer, which is cut then.

        """
        allowed = find(scope["method"], path)
        if allowed.writes and self._read_only:
            raise Refused("forbidden", "this dashboard was started with --read-only: it changes nothing")
        request = await _request(allowed, path, scope, receive)
        begun = False
        try:
            async with open_stream(self._socket, request) as answer:
                begun = True
                await _pass_back(allowed, answer, scope, send)
        except (DaemonUnreachable, ConnectionLost, ProtocolError) as error:
            if begun:
                raise ClientGone("the daemon left in the middle of its answer, which is cut") from error
            raise Refused("backend_unavailable", error.message, retry_after_s=1) from error


async def _request(allowed: Allowed, path: str, scope: Scope, receive: Receive) -> Request:
    """What the daemon is asked: nothing in it is as the browser has sent it, but for what was checked."""
    given = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    target = target_of(allowed, path, scope["query_string"])
    if allowed.stream:
        return Request("GET", target, {"accept": _EVENTS, **_position(given)}, timeout_s=SILENCE_S)
    if not allowed.writes:
        return Request("GET", target, {"accept": _JSON}, timeout_s=LONG_S)
    if given.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
        raise Refused("bad_request", f"the body of a change has to be {_JSON}")
    value = parse_json(await read_body(receive) or b"{}")
    if not isinstance(value, dict):
        raise Refused("bad_request", "the body has to be a JSON object")
    body = json.dumps(checked_fields(allowed, value), ensure_ascii=False).encode()
    return Request("POST", target, {"content-type": _JSON, "accept": _JSON, **_key(given)}, body, LONG_S)


def _position(given: Mapping[str, str]) -> dict[str, str]:
    position = given.get("last-event-id")
    if position is None:
        return {}
    if _POSITION.fullmatch(position) is None:
        raise Refused("bad_request", f"Last-Event-ID {position[:40]!a} is no position")
    return {"last-event-id": position}


def _key(given: Mapping[str, str]) -> dict[str, str]:
    key = given.get("idempotency-key")
    if key is None:
        return {}
    if _KEY.fullmatch(key) is None:
        raise Refused("bad_request", "Idempotency-Key: 1 to 64 letters, digits, '-' and '_'")
    return {"idempotency-key": key}


async def _pass_back(allowed: Allowed, answer: AsyncAnswer, scope: Scope, send: Send) -> None:
    """Of the daemon's headers only the kind of content is kept, and only one of those that are expected."""
    media_type = answer.headers.get("content-type", "").partition(";")[0].strip()
    events = allowed.stream and media_type == _EVENTS
    headers = [(b"content-type", (_EVENTS if events else _JSON).encode())]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if not events:
        await _send_parts(answer, send)
        return
    ending: Exception | None = ClientGone("the browser has left")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch, scope[STREAM], nursery.cancel_scope)
        try:
            await _send_parts(answer, send)
            ending = None
        except (ClientGone, SkilldError) as error:
            ending = error  # raised behind the nursery, from which it would come wrapped in a group
        nursery.cancel_scope.cancel()
    if ending is not None:
        raise ending


async def _send_parts(answer: AsyncAnswer, send: Send) -> None:
    await send({"type": "http.response.body", "body": b"", "more_body": True})
    while (part := await answer.part()) is not None:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _watch(stream: Any, scope: trio.CancelScope) -> None:
    """Leave when the browser has. It never half-closes; and nothing need come from the daemon for a long time."""
    poll = select.poll()
    poll.register(stream.socket.fileno(), select.POLLRDHUP)
    while not poll.poll(0):  # noqa: ASYNC110 - trio waits for bytes, and what is waited for is that none will come
        await trio.sleep(_LOOK_S)
    scope.cancel()
