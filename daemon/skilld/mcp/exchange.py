"""One HTTP request of MCP, as the library's transport is given it, and its answer as the client gets it."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Final

from starlette.types import Message, Receive, Send

from skill_actors.errors import Refused
from skilld.http.connection import ClientGone
from skilld.http.errors import error_body

__all__ = ["Exchange"]

_MAX_REASON_CHARS: Final = 500


class Exchange:
    """A request whose body is there already, and whose client may leave: the library hears of that by `receive`.

    A refusal in words of the protocol's own goes to the client as it is; one in plain text or in none at all becomes
    an error document like every other of the daemon, under the same status.

    Args:
        body: of the request.
        receive: what else the client says.
        send: to the client.

    Attributes:
        gone: whether the client left before it had the answer.

    """

    def __init__(self, body: bytes, receive: Receive, send: Send) -> None:
        self._body: bytes | None = body
        self._receive = receive
        self._send = send
        self._refusal: Message | None = None
        self._reason = b""
        self.gone = False

    async def receive(self) -> Message:
        """The body, and then what the client says."""
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        """Give the client a part of the answer; of a refusal, when all of it is there."""
        if message["type"] == "http.response.start" and message["status"] >= HTTPStatus.BAD_REQUEST:
            self._refusal = message
        elif self._refusal is None:
            await self._pass(message)
        else:
            self._reason += message.get("body", b"")
            if not message.get("more_body", False):
                await self._refuse(self._refusal)

    async def _refuse(self, start: Message) -> None:
        headers = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
        body = self._reason
        if not _is_error_document(body):
            body = _error_document(start["status"], body)
            headers = [(name, value) for name, value in headers if name.lower() != b"content-type"]
            headers.append((b"content-type", b"application/json"))
        await self._pass({**start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
        await self._pass({"type": "http.response.body", "body": body})

    async def _pass(self, message: Message) -> None:
        try:
            await self._send(message)
        except ClientGone:
            self.gone = True


def _is_error_document(body: bytes) -> bool:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and isinstance(found.get("error"), dict)


def _error_document(status: int, reason: bytes) -> bytes:
    code = {HTTPStatus.NOT_FOUND: "not_found", HTTPStatus.FORBIDDEN: "forbidden"}.get(HTTPStatus(status))
    if code is None:
        code = "internal" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "bad_request"
    text = reason.decode("utf-8", "replace").strip()[:_MAX_REASON_CHARS]
    return error_body(Refused(code, f"MCP: {text or HTTPStatus(status).phrase}"))[1]
