"""Every way to call OpenAI's SDK that the manual lists is one span, and the program gets what it would have got."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from monitor_kit import Collector
from skilld_monitor import Monitoring, disable_monitoring, enable_monitoring

openai: Any = pytest.importorskip("openai", reason="OpenAI's SDK is not installed: the client needs none")

MODEL = "gpt-5-mini"
CHAT_USAGE = {
    "prompt_tokens": 30,
    "completion_tokens": 7,
    "total_tokens": 37,
    "prompt_tokens_details": {"cached_tokens": 20},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
MESSAGE = {"role": "assistant", "content": "an answer", "refusal": None}
CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": MODEL,
    "choices": [{"index": 0, "finish_reason": "stop", "logprobs": None, "message": MESSAGE}],
    "usage": CHAT_USAGE,
}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": MODEL,
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "an answer", "annotations": []}],
        }
    ],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 30,
        "input_tokens_details": {"cached_tokens": 20},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 37,
    },
}
EMBEDDINGS = {
    "object": "list",
    "model": "text-embedding-3-small",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}],
    "usage": {"prompt_tokens": 4, "total_tokens": 4},
}


def chunk(**changes: Any) -> dict[str, Any]:
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": []}
    return {**base, **changes}


def choice(text: str | None, reason: str | None = None) -> list[dict[str, Any]]:
    return [{"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": reason}]


PIECES = {
    "/v1/chat/completions": [
        chunk(choices=choice("an ")),
        chunk(choices=choice("answer")),
        chunk(choices=choice(None, "stop")),
        chunk(usage=CHAT_USAGE),
    ],
    "/v1/responses": [
        {"type": "response.created", "sequence_number": 0, "response": {**RESPONSE, "status": "queued", "usage": None}},
        {"type": "response.completed", "sequence_number": 1, "response": RESPONSE},
    ],
}
WHOLE = {"/v1/chat/completions": CHAT, "/v1/responses": RESPONSE, "/v1/embeddings": EMBEDDINGS}


class Api(BaseHTTPRequestHandler):
    """Answers as OpenAI's API does; to the model `broken` with status 400."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if asked["model"] == "broken":
            return self.reply(400, "application/json", json.dumps({"error": {"message": "no"}}).encode())
        if asked.get("stream"):
            events = [
                *(f"event: {piece.get('type', 'x')}\ndata: {json.dumps(piece)}" for piece in PIECES[self.path]),
                "data: [DONE]",
            ]
            return self.reply(200, "text/event-stream", "".join(event + "\n\n" for event in events).encode())
        return self.reply(200, "application/json", json.dumps(WHOLE[self.path]).encode())

    def reply(self, status: int, kind: str, raw: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join(10)


@pytest.fixture
def client(base_url: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=base_url, api_key="k", max_retries=0) as made:
        yield made


@pytest.fixture
def made(collector: Collector) -> Monitoring:
    return enable_monitoring("shop")


ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "the secret question"}]}
ASK_RESPONSES: dict[str, Any] = {"model": MODEL, "input": "the secret question", "instructions": "secret"}


def the_span(made: Monitoring, collector: Collector) -> dict[str, Any]:
    assert made.flush()
    (span,) = collector.events(channel="LLM")
    return span


def check_whole(span: dict[str, Any], id: str, *, reasons: list[str] | None = None) -> None:
    data = span["data"]
    assert (span["name"], span["status"], span["level"]) == (f"chat {MODEL}", "ok", "INFO")
    assert data["gen_ai.provider.name"] == "openai"
    assert (data["gen_ai.response.id"], data["gen_ai.response.model"]) == (id, MODEL)
    assert data.get("gen_ai.response.finish_reasons") == reasons
    assert data["gen_ai.usage.input_tokens"] == 30
    assert data["gen_ai.usage.cache_read.input_tokens"] == 20
    assert data["gen_ai.usage.output_tokens"] == 7
    assert data["gen_ai.usage.reasoning.output_tokens"] == 3
    assert "skilld.unread" not in data
    assert "secret" not in str(span)
    assert "an answer" not in str(span)


@pytest.mark.parametrize("method", ["create", "parse"])
def test_a_chat_completion_is_one_span(made: Monitoring, collector: Collector, client: Any, method: str) -> None:
    assert getattr(client.chat.completions, method)(**ASK).choices[0].message.content == "an answer"
    check_whole(the_span(made, collector), "chatcmpl-1", reasons=["stop"])


@pytest.mark.parametrize("method", ["create", "parse"])
def test_a_response_is_one_span(made: Monitoring, collector: Collector, client: Any, method: str) -> None:
    assert getattr(client.responses, method)(**ASK_RESPONSES).output_text == "an answer"
    check_whole(the_span(made, collector), "resp_1")


def test_embeddings_are_one_span(made: Monitoring, collector: Collector, client: Any) -> None:
    assert client.embeddings.create(model="text-embedding-3-small", input="secret").data[0].index == 0
    span = the_span(made, collector)
    assert (span["name"], span["data"]["gen_ai.usage.input_tokens"]) == ("embeddings text-embedding-3-small", 4)
    assert "secret" not in str(span)


def test_a_streamed_chat_completion_ends_its_span_with_its_last_piece(
    made: Monitoring, collector: Collector, client: Any
) -> None:
    with client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}) as stream:
        assert isinstance(stream, openai.Stream)
        assert stream.response.status_code == 200
        said = [piece.choices[0].delta.content for piece in stream if piece.choices]
    assert said == ["an ", "answer", None]
    span = the_span(made, collector)
    check_whole(span, "chatcmpl-1", reasons=["stop"])
    assert span["data"]["gen_ai.response.time_to_first_chunk"] >= 0


def test_a_streamed_response_is_one_span(made: Monitoring, collector: Collector, client: Any) -> None:
    kinds = [event.type for event in client.responses.create(**ASK_RESPONSES, stream=True)]
    assert kinds == ["response.created", "response.completed"]
    check_whole(the_span(made, collector), "resp_1")


def test_the_helper_for_streams_is_one_span(made: Monitoring, collector: Collector, client: Any) -> None:
    with client.chat.completions.stream(**ASK) as stream:
        assert stream.get_final_completion().choices[0].message.content == "an answer"
    check_whole(the_span(made, collector), "chatcmpl-1", reasons=["stop"])


@pytest.mark.parametrize("ending", ["closed", "abandoned"])
def test_a_stream_that_is_not_read_to_its_end_ends_its_span(
    made: Monitoring, collector: Collector, client: Any, ending: str
) -> None:
    stream = client.chat.completions.create(**ASK, stream=True)
    next(stream)
    if ending == "closed":
        stream.close()
    del stream
    gc.collect()
    assert the_span(made, collector)["status"] == ending


def test_raw_responses_are_left_to_the_program(made: Monitoring, collector: Collector, client: Any) -> None:
    raw = client.chat.completions.with_raw_response.create(**ASK)
    assert raw.parse().choices[0].message.content == "an answer"
    assert the_span(made, collector)["data"]["http.response.status_code"] == 200


def test_errors_are_the_sdks_own(made: Monitoring, collector: Collector, client: Any) -> None:
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(**{**ASK, "model": "broken"})
    span = the_span(made, collector)
    assert (span["status"], span["level"], span["data"]["error.type"]) == ("error", "ERROR", "BadRequestError")


def test_asynchronous_calls_and_streams_are_spans(made: Monitoring, collector: Collector, base_url: str) -> None:
    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=base_url, api_key="k", max_retries=0) as client:
            assert (await client.chat.completions.create(**ASK)).choices[0].message.content == "an answer"
            assert (await client.responses.create(**ASK_RESPONSES)).output_text == "an answer"
            pieces = await client.chat.completions.create(**ASK, stream=True)
            assert len([piece async for piece in pieces]) == 4
            assert (await client.embeddings.create(model="m", input="x")).data[0].index == 0

    asyncio.run(main())
    assert made.flush()
    found = collector.events(channel="LLM")
    assert [(span["name"], span["status"]) for span in found] == [(f"chat {MODEL}", "ok")] * 3 + [
        ("embeddings m", "ok")
    ]
    for span, id in zip(found[:3], ("chatcmpl-1", "resp_1", "chatcmpl-1"), strict=True):
        assert (span["data"]["gen_ai.response.id"], span["data"]["gen_ai.usage.input_tokens"]) == (id, 30)


def test_content_is_reported_on_request(collector: Collector, client: Any) -> None:
    made = enable_monitoring("shop", capture="input,output,system")
    client.chat.completions.create(**ASK)
    list(client.chat.completions.create(**ASK, stream=True))
    client.responses.create(**ASK_RESPONSES)
    assert made.flush()
    chat, streamed, response = (span["data"] for span in collector.events(channel="LLM"))
    assert chat["gen_ai.input.messages"] == ASK["messages"]
    assert chat["gen_ai.output.messages"] == [{"content": "an answer", "tool_calls": []}]
    assert streamed["gen_ai.output.messages"] == [{"type": "text", "text": "an answer"}]
    assert (response["gen_ai.system_instructions"], response["gen_ai.output.messages"]) == ("secret", "an answer")


def test_switched_off_the_classes_are_what_they_were() -> None:
    Completions = openai.resources.chat.completions.Completions
    before = vars(Completions)["create"]
    enable_monitoring("shop")
    assert vars(Completions)["create"] is not before
    disable_monitoring()
    assert vars(Completions)["create"] is before
