"""What a client of MCP is told that is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from starlette.types import Message

from skilld.http.connection import ClientGone
from skilld.mcp.exchange import Exchange
from support import run


async def _nothing() -> Message:
    await trio.sleep_forever()
    raise AssertionError("unreachable")


async def _answered(
    status: int, parts: Sequence[bytes], content_type: str = "text/plain"
) -> tuple[int, Any, dict[str, str]]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message)

    exchange = Exchange(b"", _nothing, send)
    length = str(sum(len(part) for part in parts)).encode()
    headers = [(b"Content-Type", content_type.encode()), (b"Content-Length", length), (b"allow", b"GET")]
    await exchange.send({"type": "http.response.start", "status": status, "headers": headers})
    for number, part in enumerate(parts):
        await exchange.send({"type": "http.response.body", "body": part, "more_body": number < len(parts) - 1})
    start, *rest = sent
    body = b"".join(message["body"] for message in rest)
    told = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    assert told["content-length"] == str(len(body))
    assert told["allow"] == "GET"
    return start["status"], body, told


@pytest.mark.parametrize(
    ("status", "code"), [(400, "bad_request"), (404, "not_found"), (406, "bad_request"), (500, "internal")]
)
def test_a_refusal_in_plain_text_becomes_an_error_document(status: int, code: str) -> None:
    found, body, headers = run(_answered, status, [b"Invalid ", b"Content-Type header"])
    assert found == status
    assert json.loads(body)["error"]["code"] == code
    assert json.loads(body)["error"]["message"] == "MCP: Invalid Content-Type header"
    assert headers["content-type"] == "application/json"


def test_a_refusal_without_a_word_says_what_its_status_means() -> None:
    _, body, _ = run(_answered, 405, [b""])
    assert json.loads(body)["error"]["message"] == "MCP: Method Not Allowed"


def test_a_refusal_that_is_no_text_is_shown_as_far_as_it_can_be() -> None:
    _, body, _ = run(_answered, 400, [b"\xff" * 5_000])
    assert len(json.loads(body)["error"]["message"]) < 600


def test_a_refusal_in_words_of_the_protocol_stays_as_it_is() -> None:
    said = json.dumps({"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "no session"}}).encode()
    status, body, headers = run(_answered, 400, [said], "application/json")
    assert (status, body, headers["content-type"]) == (400, said, "application/json")


def test_an_answer_is_passed_on_as_it_comes() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message)

    async def main() -> None:
        exchange = Exchange(b"asked", _nothing, send)
        assert (await exchange.receive())["body"] == b"asked"
        await exchange.send(start)
        await exchange.send(part)
        assert sent == [start, part]

    start = {"type": "http.response.start", "status": 200, "headers": []}
    part = {"type": "http.response.body", "body": b"one", "more_body": True}
    run(main)


def test_a_client_that_left_is_noticed() -> None:
    async def send(_message: Message) -> None:
        await trio.lowlevel.checkpoint()
        raise ClientGone("it left")

    async def main() -> None:
        exchange = Exchange(b"", _nothing, send)
        await exchange.send({"type": "http.response.start", "status": 404, "headers": []})
        await exchange.send({"type": "http.response.body", "body": b""})
        assert exchange.gone

    run(main)
