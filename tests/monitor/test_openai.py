"""Every way to call OpenAI's SDK that the manual lists is one span, and the program gets what it would have got."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from monitor_kit import Collector, policy_file, the_span
from openai_kit import CHAT, EMBEDDINGS, MODEL, RESPONSE, TOOL_CALL, serving_openai
from skilld_monitor import Monitoring, Span, TraceContext, disable_monitoring, enable_monitoring
from skilld_monitor.policy import BlockedError


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with serving_openai() as url:
        yield url


@pytest.fixture
def client(base_url: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=base_url, api_key="k", max_retries=0) as made:
        yield made


ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "the secret question"}]}
ASK_RESPONSES: dict[str, Any] = {"model": MODEL, "input": "the secret question", "instructions": "secret"}


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
    check_whole(the_span(made, collector), "resp_1", reasons=["completed"])


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
    check_whole(the_span(made, collector), "resp_1", reasons=["completed"])


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
    assert streamed["gen_ai.output.messages"] == chat["gen_ai.output.messages"]
    assert (response["gen_ai.system_instructions"], response["gen_ai.output.messages"]) == ("secret", "an answer")


def test_switched_off_the_classes_are_what_they_were() -> None:
    Completions = openai.resources.chat.completions.Completions
    before = vars(Completions)["create"]
    enable_monitoring("shop")
    assert vars(Completions)["create"] is not before
    disable_monitoring()
    assert vars(Completions)["create"] is before


def test_a_completion_of_old_is_one_span(made: Monitoring, collector: Collector, client: Any) -> None:
    assert client.completions.create(model=MODEL, prompt="secret").choices[0].text == "an answer"
    span = the_span(made, collector)
    assert (span["name"], span["data"]["gen_ai.usage.output_tokens"]) == (f"text_completion {MODEL}", 2)


def test_the_helper_for_streams_of_responses_is_one_span(made: Monitoring, collector: Collector, client: Any) -> None:
    with client.responses.stream(**ASK_RESPONSES) as stream:
        assert stream.get_final_response().output_text == "an answer"
    check_whole(the_span(made, collector), "resp_1", reasons=["completed"])


def test_a_helper_that_is_left_early_is_closed(made: Monitoring, collector: Collector, client: Any) -> None:
    with client.chat.completions.stream(**ASK) as stream:
        next(stream)
    assert the_span(made, collector)["status"] == "closed"


@pytest.mark.parametrize("streamed", [False, True])
def test_calls_of_tools_are_part_of_what_was_said(collector: Collector, client: Any, streamed: bool) -> None:
    made = enable_monitoring("shop", capture="output")
    ask = {**ASK, "model": "tools"}
    if streamed:
        list(client.chat.completions.create(**ask, stream=True))
    else:
        client.chat.completions.create(**ask)
    data = the_span(made, collector)["data"]
    assert data["gen_ai.output.messages"] == [{"content": None, "tool_calls": [TOOL_CALL]}]
    assert data["gen_ai.response.finish_reasons"] == ["tool_calls"]


def test_raw_responses_have_the_tokens_that_were_read(made: Monitoring, collector: Collector, base_url: str) -> None:
    with openai.OpenAI(base_url=base_url, api_key="k", max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(**ASK, stream=True)
        assert len(list(raw.parse())) == 4
        with client.chat.completions.with_streaming_response.create(**ASK) as response:
            assert response.parse().id == "chatcmpl-1"
        with client.responses.with_streaming_response.create(**ASK_RESPONSES):
            pass
    assert made.flush()
    *whole, unread = collector.events(channel="LLM")
    assert len(whole) == 2
    for span in whole:
        check_whole(span, "chatcmpl-1", reasons=["stop"])
    assert (unread["status"], unread["data"]["http.response.status_code"]) == ("closed", 200)


def test_azure_is_named_by_its_class_and_others_by_their_address(
    made: Monitoring, collector: Collector, base_url: str
) -> None:
    def answer(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json=CHAT)

    azure = openai.AzureOpenAI(azure_endpoint=base_url.removesuffix("/v1"), api_key="k", api_version="2024-10-21")
    with azure:
        azure.with_options(timeout=9).chat.completions.create(**{**ASK, "model": "mine"})
    for address in ("https://mine.openai.azure.com/openai/v1", "https://api.groq.com/openai/v1", "https://notgroq.com"):
        http = httpx2.Client(transport=httpx2.MockTransport(answer))
        with openai.OpenAI(base_url=address, api_key="k", http_client=http) as client:
            client.chat.completions.create(**ASK)
    assert made.flush()
    found = [span["data"] for span in collector.events(channel="LLM")]
    names = [data["gen_ai.provider.name"] for data in found]
    assert names == ["azure.ai.openai", "azure.ai.openai", "groq", "openai"]
    assert [data["server.address"] for data in found[1:]] == ["mine.openai.azure.com", "api.groq.com", "notgroq.com"]


def test_fifty_calls_leave_no_span_open(made: Monitoring, collector: Collector, client: Any) -> None:
    with Span("request"):
        for _ in range(25):
            client.chat.completions.create(**ASK)
            list(client.chat.completions.create(**ASK, stream=True))
    assert TraceContext.get_current_context()["span_id"] is None
    assert made.flush()
    found, (request,) = collector.events(channel="LLM"), collector.events(name="request")
    assert len({span["span"] for span in found}) == len(found) == 50
    assert {span["parent"] for span in found} == {request["span"]}


def test_a_cancelled_call_ends_as_cancelled(made: Monitoring, collector: Collector) -> None:
    async def main() -> None:
        reached = asyncio.Event()

        async def answer(_request: httpx2.Request) -> httpx2.Response:
            reached.set()
            await asyncio.Event().wait()
            raise AssertionError

        http = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
        async with openai.AsyncOpenAI(api_key="k", max_retries=0, http_client=http) as client:
            task = asyncio.create_task(client.chat.completions.create(**ASK))
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    span = the_span(made, collector)
    assert (span["status"], span["level"]) == ("cancelled", "INFO")


def test_raw_responses_that_were_asked_for_before_are_watched_and_put_back(
    collector: Collector, tmp_path: Path, client: Any
) -> None:
    kept = [client.chat.completions.with_raw_response, client.chat.completions.with_streaming_response]
    before = [wrapper.__closure__[0].cell_contents for wrapper in (kept[0].create, kept[1].create, kept[0].parse)]
    made = enable_monitoring("shop", policy_file=policy_file(tmp_path, "redact", match="nothing"))
    assert kept[0].create(**ASK).parse().choices[0].message.content == "an answer"
    assert client.chat.completions.with_raw_response is kept[0]
    with kept[1].create(**ASK) as response:
        assert response.parse().choices[0].message.content == "an answer"
    assert made.flush()
    assert len([span for span in collector.events(channel="LLM") if span["duration_ms"] is not None]) == 2
    made.disable()
    after = [wrapper.__closure__[0].cell_contents for wrapper in (kept[0].create, kept[1].create, kept[0].parse)]
    assert all(now is was for now, was in zip(after, before, strict=True))
    enable_monitoring("shop", policy_file=policy_file(tmp_path, "block"))
    with pytest.raises(BlockedError):
        kept[0].create(**ASK)


@pytest.mark.parametrize("mode", ["block", "redact"])
def test_a_policy_holds_for_each_way_to_call(collector: Collector, tmp_path: Path, mode: str) -> None:
    sent: list[bytes] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request.content)
        known = {"/v1/chat/completions": CHAT, "/v1/responses": RESPONSE, "/v1/embeddings": EMBEDDINGS}
        return httpx2.Response(200, json=known[request.url.path])

    made = enable_monitoring("shop", policy_file=policy_file(tmp_path, mode))
    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    with openai.OpenAI(api_key="k", http_client=http) as client:
        calls: list[Callable[[], object]] = [
            lambda: client.chat.completions.create(**ASK),
            lambda: client.chat.completions.parse(**ASK),
            lambda: client.responses.create(**ASK_RESPONSES),
            lambda: client.embeddings.create(model="m", input="a secret"),
        ]
        for call in calls:
            if mode == "redact":
                call()
            else:
                with pytest.raises(BlockedError):
                    call()
    assert len(sent) == (4 if mode == "redact" else 0)
    assert b"secret" not in b"".join(sent)
    assert made.flush()
    wanted = "ok" if mode == "redact" else "error"
    found = [span for span in collector.events(channel="LLM") if span["duration_ms"] is not None]
    assert [span["status"] for span in found] == [wanted] * 4
