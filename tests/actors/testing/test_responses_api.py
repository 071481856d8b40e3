"""The fake Responses API: what it sends, what it refuses, and what it remembers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import httpx
import pytest
import trio

from skill_actors.models.base import Usage
from skill_actors.testing import (
    Answer,
    Compaction,
    Cut,
    Garbage,
    HangUp,
    HttpError,
    Part,
    Reply,
    Stall,
    StreamError,
    Text,
    Thinking,
    ToolUse,
    Whole,
    serve_in_thread,
)
from skill_actors.testing.responses_api import FakeResponsesApi, open_fake_responses
from support import run

USER = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}
BODY: dict[str, Any] = {"model": "m", "stream": True, "input": [USER]}
HEADERS = {"authorization": "Bearer key-1234"}


def play(answers: Sequence[Answer], body: Callable[[FakeResponsesApi, httpx.AsyncClient], Awaitable[None]]) -> None:
    async def main() -> None:
        async with (
            open_fake_responses(answers, api_keys=["key-1234"]) as api,
            httpx.AsyncClient(base_url=api.base_url, headers=HEADERS, trust_env=False, timeout=30) as client,
        ):
            await body(api, client)

    run(main)


def events(text: str) -> list[dict[str, Any]]:
    """The events of a stream; each names its type twice."""
    found = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def test_a_reply_is_streamed_as_items() -> None:
    usage = Usage(input_tokens=7, cache_read_tokens=3, output_tokens=2)
    parts: list[Part] = [
        Thinking("hm"),
        Text("0123456789"),
        ToolUse("exec_command", {"cmd": "ls"}, id="call_1"),
        ToolUse("mcp__t/echo", raw_json='{"x":'),
        Whole({"type": "web_search_call", "id": "ws_1"}),
    ]

    async def body(api: FakeResponsesApi, client: httpx.AsyncClient) -> None:
        answer = await client.post("/responses", json=BODY)
        told = events(answer.text)
        assert (told[0]["type"], told[-1]["type"]) == ("response.created", "response.completed")
        done = [event["item"] for event in told if event["type"] == "response.output_item.done"]
        assert [item["type"] for item in done] == [
            *("reasoning", "message", "function_call", "function_call", "web_search_call")
        ]
        deltas = [event["delta"] for event in told if event["type"] == "response.output_text.delta"]
        assert deltas == ["0123456", "789"]
        assert done[1]["content"][0]["text"] == "0123456789"
        assert (done[2]["name"], done[2]["call_id"], done[2]["arguments"]) == (
            "exec_command",
            "call_1",
            '{"cmd": "ls"}',
        )
        assert (done[3]["namespace"], done[3]["name"], done[3]["arguments"]) == ("mcp__t", "echo", '{"x":')
        assert told[-1]["response"]["usage"] == {
            "input_tokens": 10,
            "input_tokens_details": {"cached_tokens": 3},
            "output_tokens": 2,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 12,
        }
        assert api.bodies == [BODY]
        assert api.requests[0].headers["authorization"] == "***1234"
        await api.wait_until(lambda: api.requests[0].outcome == "complete")

    play([Reply(parts, usage=usage)], body)


def test_without_answers_it_says_what_it_heard() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "x", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "out"}]}

    async def body(_: FakeResponsesApi, client: httpx.AsyncClient) -> None:
        first = events((await client.post("/responses", json=BODY)).text)
        assert first[-2]["item"]["content"][0]["text"] == "you said: hello"
        assert first[-1]["response"]["usage"]["output_tokens"] > 0
        second = events((await client.post("/responses", json={**BODY, "input": [USER, call, result]})).text)
        assert second[-2]["item"]["content"][0]["text"] == "result: out"

    play([], body)


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"no JSON", 400, "not valid JSON"),
        ({**BODY, "model": None}, 400, "'model'"),
        ({**BODY, "input": []}, 400, "'input'"),
        ({**BODY, "input": ["text"]}, 400, "'input'"),
        ({**BODY, "stream": False}, 400, "streams only"),
        ({**BODY, "input": [{"type": "function_call_output", "call_id": "c"}]}, 400, "No tool call found"),
    ],
)
def test_what_the_api_would_refuse_is_refused_and_takes_no_answer(content: Any, status: int, words: str) -> None:
    async def body(api: FakeResponsesApi, client: httpx.AsyncClient) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        answer = await client.post("/responses", content=data)
        assert (answer.status_code, words in answer.json()["error"]["message"]) == (status, True)
        assert "kept" in (await client.post("/responses", json=BODY)).text

    play([Reply([Text("kept")])], body)


def test_a_wrong_key_path_or_method_is_refused() -> None:
    async def body(_: FakeResponsesApi, client: httpx.AsyncClient) -> None:
        assert (await client.post("/responses", json=BODY, headers={"authorization": "Bearer x"})).status_code == 401
        assert (await client.post("/chat/completions", json=BODY)).status_code == 404
        assert (await client.get("/responses")).status_code == 405

    play([], body)


def test_failures_come_where_they_are_told_to() -> None:
    text = [Text("0123456789")]

    async def body(_: FakeResponsesApi, client: httpx.AsyncClient) -> None:
        answer = await client.post("/responses", json=BODY)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
        assert answer.json()["error"]["message"] == "slow down"
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/responses", json=BODY)
        failed = events((await client.post("/responses", json=BODY)).text)
        assert [event["type"] for event in failed][-2:] == ["response.output_text.delta", "response.failed"]
        assert failed[-1]["response"]["error"]["message"] == "Overloaded"
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/responses", json=BODY)
        assert "data: {odd" in (await client.post("/responses", json=BODY)).text
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/responses", json=BODY, timeout=httpx.Timeout(20, read=0.2))

    answers: list[Answer] = [
        HttpError(429, message="slow down", retry_after_s=2),
        HangUp(),
        Reply(text, fail=StreamError(after=1)),
        Reply(text, fail=Cut(after=1)),
        Reply(text, fail=Garbage(after=0, text="data: {odd\n\n")),
        Reply(text, fail=Stall(after=1)),
    ]
    play(answers, body)


def test_a_client_that_leaves_is_noticed() -> None:
    async def body(api: FakeResponsesApi, client: httpx.AsyncClient) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(client.post, "/responses", json=BODY))
            await api.wait_until(lambda: bool(api.requests))
            nursery.cancel_scope.cancel()
        await api.wait_until(lambda: api.requests[0].outcome == "client_gone")

    play([Reply([Text("never")], fail=Stall(after=0))], body)


def test_a_part_that_only_the_other_api_has_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="Compaction"):
        FakeResponsesApi([Reply([Compaction("x")])])


def test_it_serves_programs_from_a_thread_of_its_own() -> None:
    api = FakeResponsesApi()
    with serve_in_thread(api):
        api.enqueue(Reply([Text("from afar")]))
        answer = httpx.post(f"{api.base_url}/responses", json=BODY, headers=HEADERS, trust_env=False, timeout=30)
        assert "from afar" in answer.text
    with pytest.raises(httpx.ConnectError):
        httpx.post(f"{api.base_url}/responses", json=BODY, headers=HEADERS, trust_env=False, timeout=30)
