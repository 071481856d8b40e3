"""The less common ways to call Anthropic's SDK: batches, tools, clouds, raw responses, cancelled calls, policies."""

from __future__ import annotations

import asyncio
import base64
import gc
import inspect
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import anyio
import httpx2
import pytest
import trio
from anthropic import beta_tool
from anthropic.resources.messages import messages

from monitor_kit import USAGE, Collector, policy_file, spans, the_span
from skill_actors.testing import FakeMessagesApi, HttpError, Reply, Text, Thinking, ToolUse, serve_in_thread
from skilld_monitor import Monitoring, Span, enable_monitoring
from skilld_monitor.adapters.anthropic import AnthropicCall
from skilld_monitor.policy import BlockedError

JSON = dict[str, Any]
ASK: JSON = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "the secret question"}],
}
MESSAGE: JSON = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-5-5",
    "content": [{"type": "text", "text": "an answer"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 3, "output_tokens": 4},
}


def answering(answer: Callable[[httpx2.Request], httpx2.Response]) -> httpx2.Client:
    return httpx2.Client(transport=httpx2.MockTransport(answer))


def test_a_span_says_which_server_was_asked(
    made: Monitoring, collector: Collector, client: anthropic.Anthropic, api: FakeMessagesApi
) -> None:
    client.messages.create(**ASK, stop_sequences=["###"])
    data = the_span(made, collector)["data"]
    assert f"http://{data['server.address']}:{data['server.port']}" == api.base_url
    assert data["gen_ai.request.stop_sequences"] == ["###"]


CLOUDS: list[tuple[Callable[[httpx2.Client], Any], str, str]] = [
    (
        lambda http: anthropic.AnthropicBedrock(
            aws_access_key="a", aws_secret_key="b", aws_region="eu-west-1", http_client=http
        ),
        "aws.bedrock",
        "bedrock-runtime.eu-west-1.amazonaws.com",
    ),
    (
        lambda http: anthropic.AnthropicVertex(region="eu", project_id="p", access_token="t", http_client=http),
        "gcp.vertex_ai",
        "googleapis.com",
    ),
    (
        lambda http: anthropic.AnthropicFoundry(api_key="k", resource="r", http_client=http),
        "azure.ai.inference",
        "r.services.ai.azure.com",
    ),
]


@pytest.mark.parametrize(("make", "provider", "host"), CLOUDS, ids=[provider for _, provider, _ in CLOUDS])
def test_clients_of_clouds_are_watched_and_named(
    made: Monitoring, collector: Collector, make: Callable[[httpx2.Client], Any], provider: str, host: str
) -> None:
    class Derived(type(make(answering(lambda _request: httpx2.Response(500))))):  # type: ignore[misc]
        """A program's own."""

    client = make(answering(lambda _request: httpx2.Response(200, json=MESSAGE)))
    client.__class__ = Derived
    assert client.messages.create(**ASK).content[0].text == "an answer"
    assert client.beta.messages.create(**ASK).content[0].text == "an answer"
    found = [span["data"] for span in spans(made, collector)]
    assert [data["gen_ai.provider.name"] for data in found] == [provider] * 2
    assert all(data["server.address"].endswith(host) for data in found)
    assert all(data["gen_ai.usage.input_tokens"] == 3 for data in found)


def test_counting_tokens_is_a_span_without_usage(
    made: Monitoring, collector: Collector, client: anthropic.Anthropic
) -> None:
    asked = {name: value for name, value in ASK.items() if name != "max_tokens"}
    counted = client.messages.count_tokens(**asked).input_tokens
    span = the_span(made, collector)
    assert span["name"] == "count_tokens claude-sonnet-5-5"
    assert span["data"]["anthropic.message.count_tokens.input_tokens"] == counted
    assert not [name for name in span["data"] if name.startswith("gen_ai.usage")]


def test_a_batch_is_a_span_when_it_is_handed_in_and_one_when_its_results_are_read(
    made: Monitoring, collector: Collector
) -> None:
    batch = {
        "id": "msgbatch_1",
        "type": "message_batch",
        "processing_status": "in_progress",
        "request_counts": {"processing": 2, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0},
        "created_at": "2026-01-15T00:00:00Z",
        "expires_at": "2026-01-16T00:00:00Z",
    }
    ended = {**batch, "processing_status": "ended", "results_url": "https://api.anthropic.com/results"}
    results = [
        {"custom_id": "a", "result": {"type": "succeeded", "message": MESSAGE}},
        {"custom_id": "b", "result": {"type": "succeeded", "message": MESSAGE}},
        {"custom_id": "c", "result": {"type": "expired"}},
    ]

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/results"):
            return httpx2.Response(200, content="".join(json.dumps(result) + "\n" for result in results))
        return httpx2.Response(200, json=batch if request.method == "POST" else ended)

    with anthropic.Anthropic(api_key="k", http_client=answering(answer)) as client:
        requests: Any = [{"custom_id": name, "params": ASK} for name in "abc"]
        assert client.messages.batches.create(requests=requests).id == "msgbatch_1"
        read = client.messages.batches.results("msgbatch_1")
        assert [result.custom_id for result in read] == ["a", "b", "c"]
    handed_in, results_read = spans(made, collector)
    assert (handed_in["name"], handed_in["status"]) == ("create_batch claude-sonnet-5-5", "ok")
    assert handed_in["data"]["anthropic.message.batch.request_count"] == 3
    assert handed_in["data"]["anthropic.message.batch.id"] == "msgbatch_1"
    assert (results_read["name"], results_read["status"]) == ("batch_results", "ok")
    assert results_read["data"]["anthropic.message.batch.succeeded"] == 2
    assert results_read["data"]["anthropic.message.batch.expired"] == 1
    assert results_read["data"]["anthropic.message.batch.usage.output_tokens"] == 8
    assert "secret" not in str(spans(made, collector))


def test_each_call_of_the_runner_of_tools_is_a_span(made: Monitoring, collector: Collector) -> None:
    @beta_tool
    def look(where: str) -> str:
        """Look there."""
        return f"nothing in {where}"

    called = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"where": "the box"}}
    replies = iter([{**MESSAGE, "content": [called], "stop_reason": "tool_use"}, MESSAGE])
    http = answering(lambda _request: httpx2.Response(200, json=next(replies)))
    with anthropic.Anthropic(api_key="k", http_client=http) as client, Span("run"):
        last = client.beta.messages.tool_runner(**ASK, tools=[look]).until_done()
    assert last.content[0].type == "text"
    found = spans(made, collector)
    assert [span["data"]["gen_ai.response.finish_reasons"] for span in found] == [["tool_use"], ["end_turn"]]
    (run,) = collector.events(name="run")
    assert {span["parent"] for span in found} == {run["span"]}


@pytest.mark.parametrize("how", ["create", "stream", "raw"])
def test_tools_and_thinking_are_part_of_what_was_said(collector: Collector, how: str) -> None:
    made = enable_monitoring("shop", capture="output")
    reply = Reply([Thinking("hm"), Text("I look."), ToolUse("look", {"where": ["here", {"and": 1}]}, id="toolu_1")])
    with (
        serve_in_thread(FakeMessagesApi([reply])) as api,
        anthropic.Anthropic(base_url=api.base_url, api_key="k") as client,
    ):
        tools: Any = [{"name": "look", "input_schema": {"type": "object"}}]
        if how == "stream":
            with client.messages.stream(**ASK, tools=tools) as stream:
                stream.until_done()
        elif how == "raw":
            client.messages.with_raw_response.create(**ASK, tools=tools)
        else:
            client.messages.create(**ASK, tools=tools)
    thinking, text, tool = the_span(made, collector)["data"]["gen_ai.output.messages"]
    assert (thinking["type"], thinking["thinking"]) == ("thinking", "hm")
    assert (text["type"], text["text"]) == ("text", "I look.")
    assert (tool["type"], tool["id"], tool["name"]) == ("tool_use", "toolu_1", "look")
    assert tool["input"] == {"where": ["here", {"and": 1}]}


def test_a_raw_response_of_a_stream_has_the_tokens_that_the_parser_read(
    made: Monitoring, collector: Collector, client: anthropic.Anthropic, api: FakeMessagesApi
) -> None:
    raw = client.messages.with_raw_response.create(**ASK, stream=True)
    assert [event.type for event in raw.parse()][-1] == "message_stop"
    with client.messages.with_streaming_response.create(**ASK) as response:
        assert response.parse().stop_reason == "end_turn"

    async def main() -> None:
        async with anthropic.AsyncAnthropic(base_url=api.base_url, api_key="k") as aclient:
            async with aclient.messages.with_streaming_response.create(**ASK) as response:
                assert (await response.parse()).stop_reason == "end_turn"
            raw = await aclient.messages.with_raw_response.create(**ASK, stream=True)
            assert [event.type async for event in await raw.parse()][-1] == "message_stop"

    asyncio.run(main())
    found = spans(made, collector)
    assert len(found) == 4
    for span in found:
        assert (span["status"], span["data"]["gen_ai.usage.input_tokens"]) == ("ok", 1110)
        assert span["data"]["http.response.status_code"] == 200


def test_a_response_that_nobody_reads_ends_its_span_when_it_is_closed_or_dropped(
    made: Monitoring, collector: Collector, client: anthropic.Anthropic
) -> None:
    with client.messages.with_streaming_response.create(**ASK):
        pass
    with client.messages.with_streaming_response.create(**ASK) as response:
        list(response.iter_bytes())
    unread = client.messages.with_raw_response.create(**ASK, stream=True)
    unread.http_response.close()
    del unread
    gc.collect()
    assert [span["status"] for span in spans(made, collector)] == ["closed", "ok", "abandoned"]


def test_a_stream_helper_that_is_left_early_is_closed(
    made: Monitoring, collector: Collector, client: anthropic.Anthropic, api: FakeMessagesApi
) -> None:
    with client.messages.stream(**ASK) as stream:
        next(stream)

    async def main() -> None:
        async with (
            anthropic.AsyncAnthropic(base_url=api.base_url, api_key="k") as aclient,
            aclient.messages.stream(**ASK) as astream,
        ):
            await anext(astream)

    asyncio.run(main())
    assert [span["status"] for span in spans(made, collector)] == ["closed", "closed"]


def test_a_program_that_raises_while_it_reads_closes_the_stream(
    made: Monitoring, collector: Collector, client: anthropic.Anthropic
) -> None:
    def read() -> None:
        with client.messages.create(**ASK, stream=True) as stream:
            for _ in stream:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        read()
    assert the_span(made, collector)["status"] == "closed"


def test_retries_are_one_span(made: Monitoring, collector: Collector) -> None:
    with (
        serve_in_thread(FakeMessagesApi([HttpError(529, retry_after_s=0), Reply([Text("x")], usage=USAGE)])) as api,
        anthropic.Anthropic(base_url=api.base_url, api_key="k", max_retries=2) as client,
    ):
        client.messages.with_raw_response.create(**ASK)
    span = the_span(made, collector)
    assert (span["status"], span["data"]["http.request.resend_count"]) == ("ok", 1)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_call_ends_as_cancelled(
    made: Monitoring, collector: Collector, backend: str, streamed: bool
) -> None:
    async def call(reached: Callable[[], object]) -> None:
        async def begun() -> AsyncIterator[bytes]:
            start = {"type": "message_start", "message": {**MESSAGE, "content": []}}
            yield f"event: message_start\ndata: {json.dumps(start)}\n\n".encode()
            reached()
            await anyio.sleep_forever()

        async def answer(_request: httpx2.Request) -> httpx2.Response:
            if streamed:
                return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=begun())
            reached()
            await anyio.sleep_forever()
            raise AssertionError

        http = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
        async with anthropic.AsyncAnthropic(api_key="k", max_retries=0, http_client=http) as client:
            if streamed:
                async for _ in await client.messages.create(**ASK, stream=True):
                    pass
            else:
                await client.messages.create(**ASK)

    async def with_trio() -> None:
        async with trio.open_nursery() as nursery:
            reached = trio.Event()
            nursery.start_soon(call, reached.set)
            await reached.wait()
            nursery.cancel_scope.cancel()

    async def with_asyncio() -> None:
        reached = asyncio.Event()
        task = asyncio.create_task(call(reached.set))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    if backend == "trio":
        trio.run(with_trio)
    else:
        asyncio.run(with_asyncio())
    span = the_span(made, collector)
    assert (span["status"], span["level"]) == ("cancelled", "INFO")


def test_files_and_objects_in_what_was_said_are_told_by_what_they_are(
    collector: Collector, client: anthropic.Anthropic
) -> None:
    made = enable_monitoring("shop", capture="input")
    picture = base64.b64encode(b"\x89PNG" + bytes(60_000)).decode()
    small = base64.b64encode(b"\x89PNG" + bytes(60)).decode()
    source = {"type": "base64", "media_type": "image/png"}
    first = client.messages.create(**ASK)
    messages: list[Any] = [
        {"role": "user", "content": "text"},
        {"role": "assistant", "content": first.content},
        {
            "role": "user",
            "content": [
                {"type": "image", "source": {**source, "data": picture}},
                {"type": "image", "source": {**source, "data": small}},
                {"type": "text", "text": "what is it?"},
            ],
        },
    ]
    client.messages.create(**{**ASK, "messages": messages})
    *_, span = spans(made, collector)
    _, assistant, user = span["data"]["gen_ai.input.messages"]
    assert assistant["content"] == [{"text": "an answer", "type": "text"}]
    assert user["content"][0]["source"]["data"] == f"<image/png, {len(picture)} characters of base64>"
    assert user["content"][1]["source"]["data"] == small
    assert user["content"][2]["text"] == "what is it?"
    assert messages[2]["content"][0]["source"]["data"] is picture


def policy(tmp_path: Path, mode: str) -> str:
    return policy_file(tmp_path, mode, directions=["input"])


CALLS: dict[str, Callable[[anthropic.Anthropic], object]] = {
    "create": lambda client: client.messages.create(**ASK),
    "stream": lambda client: list(client.messages.create(**ASK, stream=True)),
    "beta": lambda client: client.beta.messages.create(**ASK),
    "raw": lambda client: client.messages.with_raw_response.create(**ASK),
    "manager": lambda client: client.messages.stream(**ASK).__enter__().until_done(),
}


@pytest.mark.parametrize("how", CALLS)
def test_a_call_that_a_policy_forbids_is_not_made(
    collector: Collector, tmp_path: Path, client: anthropic.Anthropic, api: FakeMessagesApi, how: str
) -> None:
    made = enable_monitoring("shop", capture="all", policy_file=policy(tmp_path, "block"))
    assert (made.problem, made.policy.problem) == ("", "")
    with pytest.raises(BlockedError):
        CALLS[how](client)
    assert api.requests == []
    (span,) = [event for event in spans(made, collector) if event["name"].startswith("chat")]
    assert (span["status"], span["data"]["error.type"]) == ("error", "BlockedError")
    assert "secret" not in str(span)


@pytest.mark.parametrize("how", CALLS)
def test_a_call_that_a_policy_redacts_goes_out_without_it(
    collector: Collector, tmp_path: Path, client: anthropic.Anthropic, api: FakeMessagesApi, how: str
) -> None:
    made = enable_monitoring("shop", capture="all", policy_file=policy(tmp_path, "redact"))
    CALLS[how](client)
    (sent,) = api.bodies
    assert "secret" not in json.dumps(sent)
    assert ASK["messages"][0]["content"] == "the secret question"
    (span,) = [event for event in spans(made, collector) if event["name"].startswith("chat")]
    assert "secret" not in str(span)
    assert "question" in str(span["data"]["gen_ai.input.messages"])


def test_a_raw_response_that_was_asked_for_before_goes_by_the_policy_too(
    collector: Collector, tmp_path: Path, client: anthropic.Anthropic, api: FakeMessagesApi
) -> None:
    raw = client.messages.with_raw_response
    made = enable_monitoring("shop", policy_file=policy(tmp_path, "block"))
    with pytest.raises(BlockedError):
        raw.create(**ASK)
    assert api.requests == []
    made.disable()
    assert raw.create(**ASK).status_code == 200


def test_a_body_of_the_programs_own_goes_by_the_policy(
    collector: Collector, tmp_path: Path, client: anthropic.Anthropic, api: FakeMessagesApi
) -> None:
    enable_monitoring("shop", policy_file=policy(tmp_path, "block"))
    asked = {**ASK, "messages": [{"role": "user", "content": "hello"}]}
    with pytest.raises(BlockedError):
        client.messages.create(**asked, extra_body={"messages": ASK["messages"]})
    assert api.requests == []


def test_an_asynchronous_call_that_a_policy_forbids_is_not_made(
    collector: Collector, tmp_path: Path, api: FakeMessagesApi
) -> None:
    made = enable_monitoring("shop", policy_file=policy(tmp_path, "block"))

    async def main() -> None:
        async with anthropic.AsyncAnthropic(base_url=api.base_url, api_key="k") as client:
            with pytest.raises(BlockedError):
                await client.messages.create(**ASK)
            with pytest.raises(BlockedError):
                async with client.messages.stream(**ASK):
                    pass

    asyncio.run(main())
    assert api.requests == []
    found = [event for event in spans(made, collector) if event["name"].startswith("chat")]
    assert [span["status"] for span in found] == ["error", "error"]


def test_the_classes_of_responses_are_put_back_as_they_were(collector: Collector) -> None:
    owners = [anthropic._response.APIResponse, anthropic._response.AsyncAPIResponse]
    before = [vars(owner)[name] for owner in owners for name in ("parse", "close")]
    made = enable_monitoring("shop")
    watched = [vars(owner)[name] for owner in owners for name in ("parse", "close")]
    for now, was in zip(watched, before, strict=True):
        assert now is not was
        assert inspect.iscoroutinefunction(now) == inspect.iscoroutinefunction(was)
    made.disable()
    after = [vars(owner)[name] for owner in owners for name in ("parse", "close")]
    assert all(now is was for now, was in zip(after, before, strict=True))


def test_a_stream_keeps_its_class_its_attributes_and_nothing_is_left_on_its_response(
    made: Monitoring, collector: Collector, client: anthropic.Anthropic
) -> None:
    stream = client.messages.create(**ASK, stream=True)
    response = stream.response
    assert isinstance(stream, anthropic.Stream)
    assert set(dir(anthropic.Stream)) <= set(dir(stream))
    assert response.request.method == "POST"
    for _ in stream:
        pass
    assert "close" not in vars(response)
    assert response.is_closed
    assert the_span(made, collector)["status"] == "ok"


def test_a_dropped_stream_closes_its_connection(
    made: Monitoring, collector: Collector, client: anthropic.Anthropic
) -> None:
    stream = client.messages.create(**ASK, stream=True)
    next(stream)
    response = stream.response
    del stream
    gc.collect()
    assert response.is_closed
    assert the_span(made, collector)["status"] == "abandoned"


@pytest.fixture
def patched(made: Monitoring) -> Iterator[Any]:
    """A program that replaces the method itself, by one which calls what it found: our own."""
    ours: Any = vars(messages.Messages)["create"]
    original = ours.__wrapped__

    def theirs(self: Any, **asked: Any) -> Any:
        return ours(self, **asked)

    messages.Messages.create = theirs  # type: ignore[method-assign]
    yield theirs
    messages.Messages.create = original  # type: ignore[method-assign]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_method_that_somebody_else_replaced_stays_theirs_and_its_calls_are_one_span_each(
    made: Monitoring, collector: Collector, client: anthropic.Anthropic, patched: Any, streamed: bool
) -> None:
    made.disable()
    assert vars(messages.Messages)["create"] is patched
    made = enable_monitoring("shop")
    if streamed:
        assert len(list(client.messages.create(**ASK, stream=True))) > 3
    else:
        client.messages.create(**ASK)
    span = the_span(made, collector)
    assert (span["status"], span["data"]["gen_ai.usage.input_tokens"]) == ("ok", 1110)
    made.disable()
    assert vars(messages.Messages)["create"] is patched


def test_a_class_of_the_programs_own_above_the_sdks_is_one_call(
    made: Monitoring, collector: Collector, client: anthropic.Anthropic
) -> None:
    class Mine(messages.Messages):
        def create(self, **asked: Any) -> Any:
            return super().create(**asked)

    class Client:
        messages = Mine(client)

    enable_monitoring("shop", llm_client=Client(), llm_method_path="messages.create")
    with Span("request"):
        Client.messages.create(**ASK)
        Client.messages.create(**ASK)
    found = spans(made, collector)
    assert [span["data"]["gen_ai.usage.input_tokens"] for span in found] == [1110, 1110]
    (request,) = collector.events(name="request")
    assert {span["parent"] for span in found} == {request["span"]}


def test_a_stream_is_put_together_once_however_often_it_ends(
    collector: Collector, client: anthropic.Anthropic, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[object] = []
    monkeypatch.setattr(AnthropicCall, "on_end", lambda call: ended.append(call))
    enable_monitoring("shop", capture="all")
    with client.messages.create(**ASK, stream=True) as stream:
        assert len(list(stream)) > 3
        assert list(stream) == []
    stream.close()
    del stream
    gc.collect()
    assert len(ended) == 1


def test_reading_what_goes_in_and_out_is_watching_and_not_the_call(
    made: Monitoring, collector: Collector, client: anthropic.Anthropic, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(_self: object, _what: object) -> dict[str, object]:
        time.sleep(0.03)
        return {}

    monkeypatch.setattr(AnthropicCall, "asked", slow)
    monkeypatch.setattr(AnthropicCall, "on_answer", slow)
    most_ms = []
    for _ in range(3):
        began_s = time.perf_counter()
        client.messages.create(**ASK)
        most_ms.append((time.perf_counter() - began_s) * 1000 - 30)
    assert made.costs.at_most_us(0.5) >= 60_000
    for span, most in zip(spans(made, collector), most_ms, strict=True):
        assert span["duration_ms"] <= most + 1, "of the two times that it was read it has one at most"
