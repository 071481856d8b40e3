"""The fake Messages API as seen from the wire, in the loop, in a thread and as a program."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from skill_actors.models import Usage
from skill_actors.testing import (
    Answer,
    Cut,
    FakeMessagesApi,
    HangUp,
    HttpError,
    Reply,
    Stall,
    Text,
    Thinking,
    ToolUse,
    Whole,
    default_reply,
    open_fake_api,
    parse_answer,
    serve_in_thread,
)
from support import run

HEADERS = {"x-api-key": "sk-0123456789", "anthropic-version": "2026-10-21"}


def body(text: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": text}], **fields}


@pytest.fixture
def api() -> Iterator[FakeMessagesApi]:
    with serve_in_thread(FakeMessagesApi(api_keys=["sk-0123456789"])) as served:
        yield served


def post(
    api: FakeMessagesApi, data: Any, headers: dict[str, str] = HEADERS, path: str = "/v1/messages"
) -> httpx.Response:
    content = data if isinstance(data, bytes) else json.dumps(data)
    return httpx.post(api.base_url + path, content=content, headers=headers, trust_env=False, timeout=20)


def test_the_event_sequence_is_the_documented_one(api: FakeMessagesApi) -> None:
    usage = Usage(
        input_tokens=1, output_tokens=9, cache_read_tokens=2, cache_write_5m_tokens=3, cache_write_1h_tokens=4
    )
    api.enqueue(Reply([Thinking("Hm", "sig"), Text("Hello there"), ToolUse("t", {"a": 1}, "toolu_1")], usage=usage))
    response = post(api, body(stream=True))
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["request-id"] == "req_fake_000001"
    chunks = response.text.removesuffix("\n\n").split("\n\n")
    events = [json.loads(chunk.split("\ndata: ", 1)[1]) for chunk in chunks]
    assert [chunk.split("\n")[0] for chunk in chunks] == [f"event: {event['type']}" for event in events]
    start = events.pop(0)
    assert (start["message"]["content"], start["message"]["stop_reason"]) == ([], None)
    assert start["message"]["usage"] == {
        "input_tokens": 1,
        "cache_creation_input_tokens": 7,
        "cache_read_input_tokens": 2,
        "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4},
        "output_tokens": 1,
        "service_tier": "standard",
    }

    def delta(index: int, kind: str, **fields: str) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}

    thinking = {"type": "thinking", "thinking": "", "signature": ""}
    assert events == [
        {"type": "content_block_start", "index": 0, "content_block": thinking},
        {"type": "ping"},
        delta(0, "thinking_delta", thinking="Hm"),
        delta(0, "signature_delta", signature="sig"),
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        delta(1, "text_delta", text="Hello t"),
        delta(1, "text_delta", text="here"),
        {"type": "content_block_stop", "index": 1},
        {
            "type": "content_block_start",
            "index": 2,
            "content_block": {"type": "tool_use", "id": "toolu_1", "name": "t", "input": {}},
        },
        delta(2, "input_json_delta", partial_json=""),
        delta(2, "input_json_delta", partial_json='{"a": 1'),
        delta(2, "input_json_delta", partial_json="}"),
        {"type": "content_block_stop", "index": 2},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": {
                "input_tokens": 1,
                "cache_creation_input_tokens": 7,
                "cache_read_input_tokens": 2,
                "output_tokens": 9,
            },
        },
        {"type": "message_stop"},
    ]


def test_without_stream_the_message_comes_whole(api: FakeMessagesApi) -> None:
    api.enqueue(Reply([Text("Hello"), Whole({"type": "x_tool_result", "content": 1})], stop_reason="max_tokens"))
    message = post(api, body()).json()
    assert message["content"] == [{"type": "text", "text": "Hello"}, {"type": "x_tool_result", "content": 1}]
    assert (message["type"], message["role"], message["stop_reason"]) == ("message", "assistant", "max_tokens")


@pytest.mark.parametrize(
    ("headers", "data", "path", "status", "kind"),
    [
        ({}, body(), "/v1/messages", 401, "authentication_error"),
        ({**HEADERS, "x-api-key": "other"}, body(), "/v1/messages", 401, "authentication_error"),
        ({"x-api-key": "sk-0123456789"}, body(), "/v1/messages", 400, "invalid_request_error"),
        (HEADERS, b"{nonsense", "/v1/messages", 400, "invalid_request_error"),
        (HEADERS, body(top_k=1), "/v1/messages", 400, "invalid_request_error"),
        (HEADERS, body(), "/v2/messages", 404, "not_found_error"),
    ],
)
def test_bad_requests_get_the_apis_errors(
    api: FakeMessagesApi, headers: dict[str, str], data: Any, path: str, status: int, kind: str
) -> None:
    response = post(api, data, headers, path)
    assert (response.status_code, response.json()["error"]["type"]) == (status, kind)
    assert response.json()["type"] == "error"


def test_a_bearer_token_is_a_key_too(api: FakeMessagesApi) -> None:
    headers = {"authorization": "Bearer sk-0123456789", "anthropic-version": "2026-10-21"}
    assert post(api, body(), headers).status_code == 200


def test_keys_are_masked_in_the_record_whatever_the_path(api: FakeMessagesApi) -> None:
    post(api, body())
    post(api, body(), {**HEADERS, "authorization": "Bearer sk-0123456789"}, "/elsewhere")
    assert [request.headers["x-api-key"] for request in api.requests] == ["***6789", "***6789"]
    assert "sk-0123456789" not in repr(api.requests)


def test_scripted_errors_carry_their_headers(api: FakeMessagesApi) -> None:
    api.enqueue(HttpError(429, retry_after_s=3), HttpError(529, headers={"x-should-retry": "false"}))
    first, second = post(api, body()), post(api, body())
    assert (first.status_code, first.headers["retry-after"]) == (429, "3")
    assert first.json()["error"]["type"] == "rate_limit_error"
    assert (second.json()["error"]["type"], second.headers["x-should-retry"]) == ("overloaded_error", "false")


@pytest.mark.parametrize("answer", [HangUp(), Reply([Text("x" * 99)], fail=Cut(after=1))])
def test_a_cut_connection_is_cut_and_the_next_request_is_served(answer: Answer) -> None:
    async def main() -> None:
        async with open_fake_api([answer]) as api, httpx.AsyncClient(trust_env=False, timeout=30) as client:
            url = api.base_url + "/v1/messages"
            with pytest.raises(httpx.RemoteProtocolError):
                await client.post(url, json=body(stream=True), headers=HEADERS)
            assert (await client.post(url, json=body(), headers=HEADERS)).status_code == 200
            await api.wait_until(lambda: api.requests[-1].outcome != "open")
            assert [request.outcome for request in api.requests] == ["failed", "complete"]

    run(main)


def test_the_server_sees_a_client_leave_while_it_stalls() -> None:
    async def main() -> None:
        async with open_fake_api([Reply([Text("x" * 99)], fail=Stall(after=1))]) as api:
            stream = await trio.open_tcp_stream("127.0.0.1", api.port)
            data = json.dumps(body(stream=True)).encode()
            head = "POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: k\r\nanthropic-version: 2023-06-01\r\n"
            await stream.send_all(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
            await stream.receive_some()
            assert api.requests[0].outcome == "open"
            await stream.aclose()
            with trio.fail_after(20):
                await api.wait_until(lambda: api.requests[0].outcome == "client_gone")

    run(main)


@pytest.mark.parametrize(
    "noise", [b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"POST /v1/messages HTTP/1.1\r\n", b""]
)
def test_noise_on_the_connection_does_not_hurt_the_server(noise: bytes) -> None:
    async def main() -> None:
        async with open_fake_api() as api:
            stream = await trio.open_tcp_stream("127.0.0.1", api.port)
            await stream.send_all(noise)
            await stream.aclose()
            async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
                answer = await client.post(api.base_url + "/v1/messages", json=body(), headers=HEADERS)
            assert answer.status_code == 200

    run(main)


def test_a_stamped_reply_says_when_each_delta_was_sent(api: FakeMessagesApi) -> None:
    api.enqueue(Reply([Text("@NOW@ " * 3)], chunk_chars=6, delay_s=0.01, stamped=True))
    began_ns = time.monotonic_ns()
    events = [json.loads(line[6:]) for line in post(api, body(stream=True)).text.splitlines() if line[:6] == "data: "]
    sent_ns = [int(event["delta"]["text"]) for event in events if event["type"] == "content_block_delta"]
    assert began_ns < sent_ns[0] < sent_ns[1] - 9e6 < sent_ns[2] - 18e6 < time.monotonic_ns()


def test_a_function_may_answer_by_the_request() -> None:
    def respond(request: Any) -> Answer:
        return Reply([Text(f"{request['max_tokens']}")])

    with serve_in_thread(FakeMessagesApi(respond=respond)) as api:
        assert post(api, body(max_tokens=77)).json()["content"][0]["text"] == "77"


def test_the_default_reply_follows_the_directions_of_the_message() -> None:
    """Rounds of parallel calls, then an answer that quotes the message and the last results."""
    asked = body(
        'for Anna\n#call bash_tool {"command": "a"}\n#call view {"path": "b"}\n#then\n#call bash_tool\n#words 2'
    )

    def exchange() -> list[str]:
        reply = default_reply(asked)
        assert isinstance(reply, Reply)
        calls = [part for part in reply.blocks if isinstance(part, ToolUse)]
        uses = [{"type": "tool_use", "id": f"t{id(part)}", "name": part.name, "input": part.input} for part in calls]
        results = [
            {"type": "tool_result", "tool_use_id": use["id"], "content": f"out{n}"} for n, use in enumerate(uses)
        ]
        asked["messages"] += [{"role": "assistant", "content": uses}, {"role": "user", "content": results}]
        return [
            part.text if isinstance(part, Text) else part.name
            for part in reply.blocks
            if isinstance(part, Text | ToolUse)
        ]

    assert exchange() == ["Round 1 of 2.", "bash_tool", "view"]
    assert exchange() == ["Round 2 of 2.", "bash_tool"]
    assert exchange() == ["You said: for Anna\nResult: out0\nword0 word1"]


@pytest.mark.parametrize("text", ["#call t {bad", "#words many"])
def test_a_direction_that_is_not_understood_is_refused(text: str) -> None:
    assert default_reply(body(text)) == HttpError(400, message=default_reply(body(text)).message)  # type: ignore[union-attr]


def test_answers_can_be_written_as_json() -> None:
    reply = parse_answer(
        {
            "blocks": [{"kind": "text", "text": "x"}, {"kind": "tool_use", "name": "t", "input": {"a": 1}}],
            "usage": {"input_tokens": 3},
            "fail": {"kind": "cut", "after": 2},
        }
    )
    assert reply == Reply([Text("x"), ToolUse("t", {"a": 1})], usage=Usage(input_tokens=3), fail=Cut(after=2))
    assert parse_answer({"status": 529}) == HttpError(529)
    assert parse_answer({"hang_up": True}) == HangUp()


@pytest.mark.parametrize("data", [{"blocks": [{"kind": "txt"}]}, {"blok": []}, {"blocks": [{"kind": "text"}]}])
def test_answers_with_unknown_parts_are_refused(data: Any) -> None:
    with pytest.raises(ValueError, match="scripted answer"):
        parse_answer(data)


def program(*arguments: str) -> subprocess.Popen[str]:
    code = f"import sys; sys.path[:0] = {[path for path in sys.path if path]!r}; import runpy; "
    code += (
        f"sys.argv[1:] = {list(arguments)!r}; runpy.run_module('skill_actors.testing.fake_api', run_name='__main__')"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_it_runs_as_a_program_with_a_script(tmp_path: Path) -> None:
    script = tmp_path / "answers.json"
    script.write_text(json.dumps([{"blocks": [{"kind": "text", "text": "scripted"}]}]))
    with program("--script", str(script)) as process:
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], 30)[0]
            url = process.stdout.readline().strip()
            answers = [
                httpx.post(f"{url}/v1/messages", json=body(), headers=HEADERS, trust_env=False, timeout=30).json()
                for _ in range(2)
            ]
            assert [answer["content"][0]["text"] for answer in answers] == ["scripted", "You said: hello"]
        finally:
            process.terminate()


def test_the_program_listens_at_a_socket_where_it_is_told_to() -> None:
    with tempfile.TemporaryDirectory() as folder, program("--socket", f"{folder}/api.sock") as process:
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], 30)[0]
            url = process.stdout.readline().strip()
            with httpx.Client(
                transport=httpx.HTTPTransport(uds=f"{folder}/api.sock"), trust_env=False, timeout=30
            ) as http:
                answer = http.post(f"{url}/v1/messages", json=body(), headers=HEADERS).json()
            assert (url, answer["content"][0]["text"]) == ("http://localhost", "You said: hello")
        finally:
            process.terminate()


def test_a_head_request_has_an_answer_without_a_body_and_the_connection_goes_on() -> None:
    with (
        serve_in_thread(FakeMessagesApi()) as api,
        httpx.Client(base_url=api.base_url, trust_env=False, timeout=30) as http,
    ):
        assert (http.head("/").status_code, http.head("/").content) == (404, b"")
        assert http.post("/v1/messages", json=body(), headers=HEADERS).status_code == 200
        assert {request.connection for request in api.requests} == {1}


def test_the_program_refuses_a_script_it_does_not_understand(tmp_path: Path) -> None:
    script = tmp_path / "answers.json"
    script.write_text('{"blocks": []}')
    with program("--script", str(script)) as process:
        _, said = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "must be a JSON list" in said
