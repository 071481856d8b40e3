"""Every way to call Anthropic's SDK is one span, and the program gets what it would have got."""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic.resources.beta.messages import messages as beta_messages
from anthropic.resources.messages import messages

from monitor_kit import Collector, spans, the_span
from skill_actors.testing import FakeMessagesApi, HttpError, serve_in_thread
from skilld_monitor import Monitoring, Span, enable_monitoring

ASK: dict[str, Any] = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "the secret question"}],
}
METHODS = [
    (owner, name)
    for module in (messages, beta_messages)
    for owner in (module.Messages, module.AsyncMessages)
    for name in ("create", "parse", "stream")
]


def check_whole(span: dict[str, Any]) -> None:
    data = span["data"]
    assert (span["name"], span["status"], span["level"]) == ("chat claude-sonnet-5-5", "ok", "INFO")
    assert data["gen_ai.provider.name"] == "anthropic"
    assert data["gen_ai.request.max_tokens"] == 64
    assert data["gen_ai.response.finish_reasons"] == ["end_turn"]
    assert data["gen_ai.usage.input_tokens"] == 1110
    assert data["gen_ai.usage.cache_read.input_tokens"] == 1000
    assert data["gen_ai.usage.cache_write.input_tokens"] == 100
    assert data["gen_ai.usage.output_tokens"] == 5
    assert "secret" not in str(span)
    assert "an answer" not in str(span)


def test_a_call_is_one_span(made: Monitoring, collector: Collector, client: anthropic.Anthropic) -> None:
    with Span("request"):
        assert client.messages.create(**ASK).content[0].text == "an answer"
    assert made.flush()
    request, span = collector.events(name="request")[0], the_span(made, collector)
    check_whole(span)
    assert (span["parent"], span["trace"]) == (request["span"], request["trace"])


def test_clients_made_before_and_after_and_copies_and_short_lived_ones_are_all_watched(
    api: FakeMessagesApi, client: anthropic.Anthropic, collector: Collector
) -> None:
    made = enable_monitoring("shop", llm_client=client)
    client.messages.create(**ASK)
    client.with_options(timeout=30).messages.create(**ASK)
    for _ in range(10):
        with anthropic.Anthropic(base_url=api.base_url, api_key="k") as short:
            short.messages.create(**ASK)
    found = spans(made, collector)
    assert len(found) == 12
    for span in found:
        check_whole(span)


def test_a_stream_of_events_is_the_sdks_own_and_ends_its_span_once(
    made: Monitoring, collector: Collector, client: anthropic.Anthropic
) -> None:
    stream = client.messages.create(**ASK, stream=True)
    assert type(stream) is anthropic.Stream
    assert stream.response.status_code == 200
    events = [next(iter(stream)).type, *(event.type for event in stream)]
    assert (events[0], events[-1]) == ("message_start", "message_stop")
    stream.close()
    span = the_span(made, collector)
    check_whole(span)
    first_ms = span["data"]["gen_ai.response.time_to_first_chunk"] * 1000
    assert 0 < first_ms <= span["duration_ms"]
    told = span["data"]["skilld.time_per_output_chunk"]
    assert sum(told["counts"]) == len(events) - 1
    assert 0 < told["sum_s"] * 1000 <= span["duration_ms"] - first_ms + 0.01


def test_a_stream_manager_keeps_all_its_helpers(
    made: Monitoring, collector: Collector, client: anthropic.Anthropic
) -> None:
    with client.messages.stream(**ASK) as stream:
        assert "".join(stream.text_stream) == "an answer"
        assert stream.get_final_message().usage.output_tokens == 5
        assert stream.current_message_snapshot.stop_reason == "end_turn"
    check_whole(the_span(made, collector))


def test_a_stream_that_is_left_early_is_closed_and_one_that_is_dropped_is_abandoned(
    made: Monitoring, collector: Collector, client: anthropic.Anthropic
) -> None:
    with client.messages.create(**ASK, stream=True) as stream:
        next(iter(stream))
    dropped = client.messages.create(**ASK, stream=True)
    next(dropped)
    del dropped, stream
    gc.collect()
    assert [span["status"] for span in spans(made, collector)] == ["closed", "abandoned"]


def test_asynchronous_calls_last_as_long_as_they_take(
    made: Monitoring, collector: Collector, api: FakeMessagesApi
) -> None:
    async def main() -> None:
        async with anthropic.AsyncAnthropic(base_url=api.base_url, api_key="k") as client:
            assert (await client.messages.create(**ASK)).stop_reason == "end_turn"
            async for _ in await client.messages.create(**ASK, stream=True):
                pass
            async with client.messages.stream(**ASK) as stream:
                assert await stream.get_final_text() == "an answer"
            await asyncio.gather(*(client.messages.create(**ASK) for _ in range(5)))

    asyncio.run(main())
    found = spans(made, collector)
    assert len(found) == 8
    for span in found:
        check_whole(span)
        assert span["duration_ms"] > 0.5


def test_beta_parse_and_raw_responses_are_watched(
    made: Monitoring, collector: Collector, client: anthropic.Anthropic
) -> None:
    client.beta.messages.create(**ASK)
    client.messages.parse(**ASK)
    raw = client.messages.with_raw_response.create(**ASK)
    assert raw.parse().stop_reason == "end_turn"
    with client.messages.with_streaming_response.create(**ASK) as streamed:
        assert b"an answer" in b"".join(streamed.iter_bytes())
    *whole, unread = spans(made, collector)
    assert len(whole) == 3
    for span in whole:
        check_whole(span)
    assert unread["data"]["http.response.status_code"] == 200
    assert "gen_ai.usage.input_tokens" not in unread["data"], "the body is the program's to read"


def test_a_failed_call_raises_as_before_and_says_what_kind_of_error(made: Monitoring, collector: Collector) -> None:
    with serve_in_thread(FakeMessagesApi([HttpError(429)])) as api:
        client = anthropic.Anthropic(base_url=api.base_url, api_key="k", max_retries=0)
        with client, pytest.raises(anthropic.RateLimitError):
            client.messages.create(**ASK)
    span = the_span(made, collector)
    assert (span["status"], span["level"], span["data"]["error.type"]) == ("error", "ERROR", "RateLimitError")
    assert "error.message" not in span["data"], "it may repeat what was asked"


def test_a_wrong_call_is_the_programs_own_error(made: Monitoring, client: anthropic.Anthropic) -> None:
    with pytest.raises(TypeError):
        client.messages.create(model="x")  # type: ignore[call-overload]


def test_content_is_reported_field_by_field(collector: Collector, client: anthropic.Anthropic) -> None:
    made = enable_monitoring("shop", capture="output")
    client.messages.create(**ASK, system="be kind")
    with client.messages.stream(**ASK) as stream:
        stream.until_done()
    first, second = spans(made, collector)
    for span in (first, second):
        assert span["data"]["gen_ai.output.messages"][0]["text"] == "an answer"
        assert "secret" not in str(span)
        assert "be kind" not in str(span)


def test_the_variable_of_opentelemetry_lets_content_through(
    collector: Collector, client: anthropic.Anthropic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    made = enable_monitoring("shop")
    client.messages.create(**ASK)
    assert the_span(made, collector)["data"]["gen_ai.input.messages"] == ASK["messages"]


def test_many_threads_have_one_span_each(made: Monitoring, collector: Collector, client: anthropic.Anthropic) -> None:
    def calls(n: int) -> None:
        with Span(f"thread {n}"):
            for _ in range(5):
                client.messages.create(**ASK)

    threads = [threading.Thread(target=calls, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = spans(made, collector)
    parents = {event["span"]: event["name"] for event in collector.events(channel="SYSTEM")}
    assert len(found) == 40
    assert len({span["span"] for span in found}) == 40
    assert {parents[span["parent"]] for span in found} == {f"thread {n}" for n in range(8)}


def test_everything_is_put_back_exactly_as_it_was(collector: Collector, client: anthropic.Anthropic) -> None:
    before = [vars(owner)[name] for owner, name in METHODS]
    for _ in range(2):
        made = enable_monitoring("shop")
        watched = [vars(owner)[name] for owner, name in METHODS]
        assert all(now is not was for now, was in zip(watched, before, strict=True))
        for now, was in zip(watched, before, strict=True):
            assert inspect.iscoroutinefunction(now) == inspect.iscoroutinefunction(was)
            assert inspect.signature(now) == inspect.signature(was)
        made.disable()
        after = [vars(owner)[name] for owner, name in METHODS]
        assert all(now is was for now, was in zip(after, before, strict=True))
    client.messages.create(**ASK)
    assert collector.events(channel="LLM") == []


def test_a_client_that_nobody_knows_is_watched_by_the_path_of_its_method(
    made: Monitoring, collector: Collector
) -> None:
    class Chat:
        def ask(self, **kwargs: Any) -> dict[str, Any]:
            return {"id": "r1", "model": kwargs["model"], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}

    class Client:
        def __init__(self) -> None:
            self.chat = Chat()

    client = Client()
    for _ in range(2):
        enable_monitoring("shop", llm_client=client, llm_method_path="chat.ask")
    assert client.chat.ask(model="m", prompt="secret")["id"] == "r1"
    span = the_span(made, collector)
    assert (span["name"], span["data"]["gen_ai.usage.input_tokens"]) == ("chat m", 3)
    made.disable()
    assert "ask" not in vars(client.chat)


def test_a_path_that_leads_nowhere_is_a_problem_and_no_error(tmp_path: Path) -> None:
    made = enable_monitoring("shop", llm_client=object(), llm_method_path="no.such")
    assert "no.such" in made.problem
