"""Where OpenTelemetry traces too, each call is one span, with the ids and the parent that it has there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.trace import sampling
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind

from monitor_kit import Collector
from skill_actors.testing import FakeMessagesApi, HttpError, serve_in_thread
from skilld_monitor import Monitoring, Span, TraceContext, enable_monitoring
from skilld_monitor.adapters.covering import covering
from skilld_monitor.spans import Running

ASK: dict[str, Any] = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "the secret question"}],
}
JSON = dict[str, Any]


class Kept(SpanExporter):
    """What OpenTelemetry exports."""

    def __init__(self) -> None:
        self.spans: list[sdk.ReadableSpan] = []

    def export(self, spans: Any) -> SpanExportResult:
        self.spans.extend(spans)
        return SpanExportResult.SUCCESS

    def ids(self, name: str) -> tuple[str, str]:
        """The trace and the span of that name."""
        (found,) = [span.context for span in self.spans if span.name == name]
        assert found is not None
        return f"{found.trace_id:032x}", f"{found.span_id:016x}"


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def provider(kept: Kept) -> sdk.TracerProvider:
    made = sdk.TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(kept))
    return made


@pytest.fixture
def client(api: FakeMessagesApi, provider: sdk.TracerProvider) -> Iterator[anthropic.Anthropic]:
    """Traced by the SDK itself."""
    with anthropic.Anthropic(
        base_url=api.base_url, api_key="k", max_retries=1, open_telemetry={"tracer_provider": provider}
    ) as made:
        yield made


def reported(made: Monitoring, collector: Collector) -> list[JSON]:
    assert made.flush()
    return [event for event in collector.events() if event["name"] != "monitoring_enabled"]


def the_call(made: Monitoring, collector: Collector) -> JSON:
    (span,) = [event for event in reported(made, collector) if event["channel"] == "LLM"]
    return span


def ids(event: JSON) -> tuple[str, str]:
    return event["trace"], event["span"]


def test_a_call_that_the_sdk_traces_itself_is_one_span_with_its_ids(
    made: Monitoring, collector: Collector, client: anthropic.Anthropic, kept: Kept
) -> None:
    client.messages.create(**ASK)
    span = the_call(made, collector)
    assert ids(span) == kept.ids("anthropic.messages.create")
    assert (span["name"], span["status"], span["parent"]) == ("chat claude-sonnet-5-5", "ok", None)
    assert span["data"]["gen_ai.usage.input_tokens"] == 1110
    assert span["data"]["anthropic.message.stop_reason"] == "end_turn"


@pytest.mark.parametrize("how", ["create", "stream", "manager"])
def test_streams_that_the_sdk_traces_itself_are_one_span(
    made: Monitoring, collector: Collector, client: anthropic.Anthropic, kept: Kept, how: str
) -> None:
    if how == "create":
        client.messages.create(**ASK)
    elif how == "stream":
        assert [event.type for event in client.messages.create(**ASK, stream=True)][-1] == "message_stop"
    else:
        with client.messages.stream(**ASK) as stream:
            stream.until_done()
    span = the_call(made, collector)
    assert ids(span) == kept.ids("anthropic.messages.create")
    assert (span["status"], span["data"]["gen_ai.usage.output_tokens"]) == ("ok", 5)


def test_asynchronous_calls_side_by_side_are_one_span_each(
    made: Monitoring, collector: Collector, api: FakeMessagesApi, provider: sdk.TracerProvider, kept: Kept
) -> None:
    async def main() -> None:
        async with anthropic.AsyncAnthropic(
            base_url=api.base_url, api_key="k", open_telemetry={"tracer_provider": provider}
        ) as client:
            await asyncio.gather(*(client.messages.create(**ASK) for _ in range(5)))

    asyncio.run(main())
    found = [event for event in reported(made, collector) if event["channel"] == "LLM"]
    theirs = {f"{span.context.span_id:016x}" for span in kept.spans if span.context is not None}
    assert {event["span"] for event in found} == theirs
    assert len(found) == 5


def test_below_the_programs_own_spans_a_call_has_their_trace_and_parent(
    made: Monitoring, collector: Collector, client: anthropic.Anthropic, provider: sdk.TracerProvider, kept: Kept
) -> None:
    with provider.get_tracer("app").start_as_current_span("GET /"):
        client.messages.create(**ASK)
    span = the_call(made, collector)
    trace, request = kept.ids("GET /")
    assert (span["trace"], span["parent"]) == (trace, request)
    assert ids(span) == kept.ids("anthropic.messages.create")


@pytest.mark.parametrize("native", [True, False])
def test_between_spans_of_the_program_and_ours_the_innermost_that_is_reported_is_the_parent(
    made: Monitoring, collector: Collector, api: FakeMessagesApi, provider: sdk.TracerProvider, kept: Kept, native: bool
) -> None:
    options: Any = {"tracer_provider": provider} if native else False
    tracer = provider.get_tracer("app")
    client = anthropic.Anthropic(base_url=api.base_url, api_key="k", open_telemetry=options)
    with client, tracer.start_as_current_span("GET /"), Span("ours"), tracer.start_as_current_span("database"):
        client.messages.create(**ASK)
    span = the_call(made, collector)
    (ours,) = [event for event in reported(made, collector) if event["name"] == "ours"]
    trace, request = kept.ids("GET /")
    assert (ours["trace"], ours["parent"]) == (trace, request)
    assert (span["trace"], span["parent"]) == (trace, ours["span"])
    if native:
        assert ids(span) == kept.ids("anthropic.messages.create")


def test_where_ours_is_outermost_the_tree_stays_whole(
    made: Monitoring, collector: Collector, client: anthropic.Anthropic, kept: Kept
) -> None:
    with Span("ours"):
        client.messages.create(**ASK)
    span = the_call(made, collector)
    (ours,) = [event for event in reported(made, collector) if event["name"] == "ours"]
    assert (span["trace"], span["parent"]) == (ours["trace"], ours["span"])
    assert (span["data"]["otel.trace_id"], span["data"]["otel.span_id"]) == kept.ids("anthropic.messages.create")


def test_a_span_of_another_instrumentation_around_a_call_is_that_call(
    made: Monitoring, collector: Collector, client: anthropic.Anthropic, provider: sdk.TracerProvider, kept: Kept
) -> None:
    tracer = provider.get_tracer("opentelemetry.instrumentation.anthropic")
    asked = {"gen_ai.operation.name": "chat", "gen_ai.system": "anthropic"}
    with tracer.start_as_current_span("chat claude-sonnet-5-5", attributes=asked):
        client.messages.create(**ASK)
    span = the_call(made, collector)
    assert ids(span) == kept.ids("chat claude-sonnet-5-5")
    assert span["data"]["gen_ai.usage.input_tokens"] == 1110


def test_two_calls_below_one_foreign_span_are_two_spans(
    made: Monitoring, collector: Collector, client: anthropic.Anthropic, provider: sdk.TracerProvider
) -> None:
    tracer = provider.get_tracer("other")
    with tracer.start_as_current_span("chat", attributes={"gen_ai.operation.name": "chat"}):
        client.messages.create(**ASK)
        client.messages.create(**ASK)
    found = [event for event in reported(made, collector) if event["channel"] == "LLM"]
    assert len({event["span"] for event in found}) == len(found) == 2


def test_spans_of_models_and_of_mcp_that_nobody_else_reports_become_records(
    made: Monitoring, collector: Collector, provider: sdk.TracerProvider, kept: Kept
) -> None:
    tracer = provider.get_tracer("other")
    with tracer.start_as_current_span("invoke_agent x", attributes={"gen_ai.operation.name": "invoke_agent"}):
        with tracer.start_as_current_span("HTTP GET"):
            pass
        with tracer.start_as_current_span(
            "MCP send tools/call search", attributes={"mcp.method.name": "tools/call"}
        ) as span:
            span.set_attribute("gen_ai.tool.name", "search")
            with Span("inside"):
                pass
        with Span("after"):
            pass
    found = {event["name"]: event for event in reported(made, collector)}
    assert set(found) == {"invoke_agent x", "MCP send tools/call search", "inside", "after"}
    agent, tool = found["invoke_agent x"], found["MCP send tools/call search"]
    assert ids(agent) == kept.ids("invoke_agent x")
    assert ids(tool) == kept.ids("MCP send tools/call search")
    assert (agent["channel"], tool["channel"], tool["parent"]) == ("LLM", "MCP", agent["span"])
    assert tool["data"] == {"mcp.method.name": "tools/call", "gen_ai.tool.name": "search"}
    assert (found["inside"]["parent"], found["after"]["parent"]) == (tool["span"], agent["span"])
    assert 0 < tool["duration_ms"] <= agent["duration_ms"]


def test_a_request_that_a_server_answers_is_none_of_those_that_it_makes(
    made: Monitoring, collector: Collector, provider: sdk.TracerProvider, kept: Kept
) -> None:
    answered = {"mcp.method.name": "tools/call", "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "add"}
    listed = {"mcp.method.name": "tools/list"}
    tracer = provider.get_tracer("mcp-python-sdk")
    for name, attributes in (("tools/call add", answered), ("tools/list", listed)):
        with tracer.start_as_current_span(name, attributes=attributes, kind=SpanKind.SERVER):
            running = Running(f"asks below {name}", "MCP", {"mcp.method.name": "tools/call"})
            with covering(running, "mcp"):
                pass
            running.end()
    found = {event["name"]: event for event in reported(made, collector)}
    for name, attributes in (("tools/call add", answered), ("tools/list", listed)):
        server, asked = found[name], found[f"asks below {name}"]
        assert (server["channel"], server["data"]) == ("MCP", {**attributes, "otel.kind": "server"})
        assert (ids(server), asked["parent"]) == (kept.ids(name), server["span"])
        assert "otel.kind" not in asked["data"]


def test_what_other_instrumentation_took_of_the_content_is_not_passed_on(
    collector: Collector, provider: sdk.TracerProvider
) -> None:
    said: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.system": "vendor",
        "gen_ai.usage.prompt_tokens": 7,
        "gen_ai.prompt.0.content": "the secret question",
        "gen_ai.input.messages": "the secret question",
        "gen_ai.output.messages": "an answer",
        "gen_ai.unheard_of": "the secret " * 100,
        "app.note": "the secret note",
        "url.full": "https://x/?secret",
    }
    tracer = provider.get_tracer("other")
    made = enable_monitoring("shop")
    tracer.start_span("chat vendor", attributes=said).end()
    made.disable()
    made = enable_monitoring("shop", capture="output")
    tracer.start_span("chat vendor", attributes=said).end()
    closed, opened = [event["data"] for event in reported(made, collector) if event["name"] == "chat vendor"]
    assert closed == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "vendor",
        "gen_ai.usage.input_tokens": 7,
    }
    assert opened == {**closed, "gen_ai.output.messages": "an answer"}


@pytest.mark.parametrize(
    ("attributes", "channel", "tokens"),
    [
        ({"openinference.span.kind": "LLM", "llm.model_name": "m", "llm.token_count.prompt": 7}, "LLM", 7),
        ({"openinference.span.kind": "TOOL"}, "TOOL", None),
        ({"traceloop.span.kind": "workflow"}, "LLM", None),
        ({"llm.request.type": "chat", "llm.usage.prompt_tokens": 7, "llm.prompts.0.content": "secret"}, "LLM", 7),
        ({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "look"}, "TOOL", None),
    ],
)
def test_other_instrumentations_words_for_it_are_known(
    made: Monitoring,
    collector: Collector,
    provider: sdk.TracerProvider,
    attributes: dict[str, Any],
    channel: str,
    tokens: int | None,
) -> None:
    provider.get_tracer("other").start_span("it", attributes=attributes).end()
    provider.get_tracer("other").start_span("unknown", attributes={"openinference.span.kind": "RERANKER"}).end()
    (event,) = reported(made, collector)
    assert (event["name"], event["channel"]) == ("it", channel)
    assert event["data"].get("gen_ai.usage.input_tokens") == tokens
    assert event["data"]["gen_ai.operation.name"] in ("chat", "execute_tool", "invoke_workflow")
    assert "secret" not in str(event)


def test_what_opentelemetry_exports_is_what_it_was(
    collector: Collector, client: anthropic.Anthropic, kept: Kept
) -> None:
    client.messages.create(**ASK)
    made = enable_monitoring("shop", capture="all")
    client.messages.create(**ASK)
    list(client.messages.create(**ASK, stream=True))
    made.disable()
    list(client.messages.create(**ASK, stream=True))
    whole, watched, streamed, unwatched = kept.spans
    own = dict.fromkeys(("gen_ai.response.time_to_first_chunk", "gen_ai.response.id", "anthropic.request.id"), 0)
    for one, other in ((whole, watched), (streamed, unwatched)):
        ours, theirs = dict(one.attributes or {}), dict(other.attributes or {})
        assert {**ours, **own} == {**theirs, **own}
        assert (one.name, one.parent, one.status.status_code) == (other.name, other.parent, other.status.status_code)


def test_a_span_that_is_not_sampled_changes_nothing(
    made: Monitoring, collector: Collector, api: FakeMessagesApi
) -> None:
    provider = sdk.TracerProvider(sampler=sampling.ALWAYS_OFF)
    options: Any = {"tracer_provider": provider}
    with anthropic.Anthropic(base_url=api.base_url, api_key="k", open_telemetry=options) as client, Span("ours"):
        client.messages.create(**ASK)
    span = the_call(made, collector)
    (ours,) = [event for event in reported(made, collector) if event["name"] == "ours"]
    assert (span["trace"], span["parent"]) == (ours["trace"], ours["span"])
    assert "otel.span_id" not in span["data"]


def test_failures_and_retries_are_told_as_they_are(
    made: Monitoring, collector: Collector, provider: sdk.TracerProvider, kept: Kept
) -> None:
    with serve_in_thread(FakeMessagesApi([HttpError(500), HttpError(529), HttpError(529)])) as api:
        client = anthropic.Anthropic(
            base_url=api.base_url, api_key="k", max_retries=1, open_telemetry={"tracer_provider": provider}
        )
        with client, pytest.raises(anthropic.APIStatusError) as caught:
            client.messages.create(**ASK)
    span = the_call(made, collector)
    assert ids(span) == kept.ids("anthropic.messages.create")
    assert (span["status"], span["data"]["error.type"]) == ("error", type(caught.value).__name__)
    assert span["data"]["http.request.resend_count"] == 1


def test_an_event_inside_a_span_of_a_model_belongs_to_it(
    made: Monitoring, provider: sdk.TracerProvider, collector: Collector
) -> None:
    with provider.get_tracer("other").start_as_current_span("chat", attributes={"gen_ai.system": "x"}) as span:
        context = span.get_span_context()
        assert TraceContext.traceparent() == f"00-{context.trace_id:032x}-{context.span_id:016x}-01"


def test_threads_do_not_see_each_others_spans(
    made: Monitoring, collector: Collector, client: anthropic.Anthropic, provider: sdk.TracerProvider
) -> None:
    tracer = provider.get_tracer("app")

    def calls(n: int) -> None:
        with tracer.start_as_current_span(f"request {n}", attributes={"gen_ai.operation.name": "invoke_agent"}):
            client.messages.create(**ASK)

    threads = [threading.Thread(target=calls, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = reported(made, collector)
    agents = {event["span"]: event for event in found if event["name"].startswith("request")}
    calls_found = [event for event in found if event["name"].startswith("chat")]
    assert len(agents) == len({event["parent"] for event in calls_found}) == 4
    assert all(agents[event["parent"]]["trace"] == event["trace"] for event in calls_found)


def test_switched_off_the_classes_are_what_they_were(collector: Collector, provider: sdk.TracerProvider) -> None:
    before = vars(sdk.Span)["start"], vars(sdk.Span)["end"]
    made = enable_monitoring("shop")
    span = provider.get_tracer("other").start_span("chat", attributes={"gen_ai.operation.name": "chat"})
    assert vars(sdk.Span)["start"] is not before[0]
    made.disable()
    assert (vars(sdk.Span)["start"], vars(sdk.Span)["end"]) == before
    span.end()
    assert TraceContext.traceparent() is None
    assert collector.events(name="chat") == []


def test_a_span_that_began_before_monitoring_is_left_alone(collector: Collector, provider: sdk.TracerProvider) -> None:
    span = provider.get_tracer("other").start_span("chat", attributes={"gen_ai.operation.name": "chat"})
    made = enable_monitoring("shop")
    span.end()
    assert reported(made, collector) == []
    assert made.problem == ""


def test_a_span_of_another_instrumentation_lends_its_ids_to_an_asynchronous_call_too(
    made: Monitoring, collector: Collector, api: FakeMessagesApi, provider: sdk.TracerProvider, kept: Kept
) -> None:
    tracer = provider.get_tracer("opentelemetry.instrumentation.anthropic")

    async def main() -> None:
        async with anthropic.AsyncAnthropic(
            base_url=api.base_url, api_key="k", open_telemetry={"tracer_provider": provider}
        ) as client:
            with tracer.start_as_current_span("chat", attributes={"gen_ai.operation.name": "chat"}):
                await client.messages.create(**ASK)

    asyncio.run(main())
    assert ids(the_call(made, collector)) == kept.ids("chat")
