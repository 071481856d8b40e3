"""JSON answers that UTF-8 can always carry."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import trio
from starlette.responses import JSONResponse, Response

__all__ = ["JsonAnswer", "large_answer"]


class JsonAnswer(JSONResponse):
    """As its base, but lone surrogates, which models do write, are escaped instead of failing the request."""

    def render(self, content: Any) -> bytes:
        try:
            return super().render(content)
        except UnicodeEncodeError:
            return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


async def large_answer(content: Mapping[str, Any]) -> Response:
    """As `JsonAnswer`, of an object with lists that may be long: nothing else waits while it is written."""
    body = await trio.to_thread.run_sync(_in_parts, content)
    return Response(body, media_type=JsonAnswer.media_type)


def _in_parts(content: Mapping[str, Any]) -> bytes:
    """Item by item: as a whole it is one step of the interpreter, which other threads wait for."""
    fields = [bytes(JsonAnswer(name).body) + b":" + _parts_of(value) for name, value in content.items()]
    return b"{" + b",".join(fields) + b"}"


def _parts_of(value: Any) -> bytes:
    if not isinstance(value, list):
        return bytes(JsonAnswer(value).body)
    return b"[" + b",".join(JsonAnswer(item).body for item in value) + b"]"
