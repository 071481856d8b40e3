"""Spans of OpenInference and of Traceloop, as their libraries send them, are calls, tools and agents as all others."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from otlp_kit import attribute, logs_request, span, traces_request
from skill_actors.models.prices import load_prices
from skilld.gen_ai_metrics import GenAiMetrics
from skilld.monitor.batch import MonitorEvent
from skilld.monitor.otlp.events import as_batches
from skilld.monitor.otlp.json_form import read_json
from skilld.monitor.prices import COST, priced

OPENINFERENCE_LLM: dict[str, Any] = {  # of openinference-instrumentation-openai 0.1
    "openinference.span.kind": "LLM",
    "llm.system": "openai",
    "llm.provider": "azure",
    "input.value": '{"messages": [{"role": "user", "content": "how warm is it?"}], "model": "claude-sonnet-5-5"}',
    "input.mime_type": "application/json",
    "llm.invocation_parameters": '{"model": "claude-sonnet-5-5", "temperature": 0.2}',
    "llm.input_messages.0.message.role": "user",
    "llm.input_messages.0.message.content": "how warm is it?",
    "output.value": '{"id": "chatcmpl-1"}',
    "output.mime_type": "application/json",
    "llm.model_name": "claude-sonnet-5-5",
    "llm.token_count.total": 1500,
    "llm.token_count.prompt": 1000,
    "llm.token_count.completion": 500,
    "llm.token_count.prompt_details.cache_read": 400,
    "llm.token_count.completion_details.reasoning": 100,
    "llm.output_messages.0.message.role": "assistant",
    "llm.output_messages.0.message.content": "18 degrees",
    "session.id": "s-17",
    "user.id": "u-4",
}
TRACELOOP_LLM: dict[str, Any] = {  # of opentelemetry-instrumentation-openai of 2024
    "llm.request.type": "chat",
    "gen_ai.system": "OpenAI",
    "gen_ai.request.model": "claude-sonnet-5-5",
    "gen_ai.response.model": "claude-sonnet-5-5",
    "llm.headers": "None",
    "llm.is_streaming": False,
    "gen_ai.prompt.0.role": "user",
    "gen_ai.prompt.0.content": "how warm is it?",
    "gen_ai.completion.0.finish_reason": "stop",
    "gen_ai.completion.0.content": "18 degrees",
    "llm.usage.total_tokens": 1500,
    "gen_ai.usage.prompt_tokens": 1000,
    "gen_ai.usage.completion_tokens": 500,
    "gen_ai.usage.cache_read_input_tokens": 400,
    "traceloop.workflow.name": "weather",
}
FIRST_TRACELOOP_LLM: dict[str, Any] = {  # of opentelemetry-semantic-conventions-ai 0.1
    "llm.vendor": "OpenAI",
    "llm.request.type": "chat",
    "llm.request.model": "claude-sonnet-5-5",
    "llm.response.model": "claude-sonnet-5-5",
    "llm.temperature": 0.2,
    "llm.prompts.0.content": "how warm is it?",
    "llm.usage.prompt_tokens": 1000,
    "llm.usage.completion_tokens": 500,
    "llm.usage.total_tokens": 1500,
}


def events(*given: dict[str, Any], keep: Any = "gen_ai") -> tuple[MonitorEvent, ...]:
    made = [
        span(
            name="ChatCompletion",
            kind=1,
            spanId=f"{n + 1:016x}",
            attributes=[attribute(key, value) for key, value in attributes.items()],
        )
        for n, attributes in enumerate(given)
    ]
    batches = as_batches(read_json(traces_request(*made), "traces"), 1000, keep)
    return tuple(event for batch in batches for event in batch.events)


class Page:
    """What the metrics say of spans that came by OTLP."""

    def __init__(self, *given: dict[str, Any]) -> None:
        self._registry = CollectorRegistry()
        metrics = GenAiMetrics(self._registry)
        for event in events(*given):
            metrics.reported(event)

    def count(self, name: str, **labels: str) -> float | None:
        return self._registry.get_sample_value(f"{name}_count", labels)

    def total(self, name: str, **labels: str) -> float | None:
        return self._registry.get_sample_value(f"{name}_sum", labels)


@pytest.mark.parametrize(
    ("given", "provider"),
    [(OPENINFERENCE_LLM, "azure"), (TRACELOOP_LLM, "OpenAI"), (FIRST_TRACELOOP_LLM, "OpenAI")],
    ids=["openinference", "traceloop", "traceloop-first"],
)
def test_a_call_of_a_model_has_its_model_its_tokens_its_cost_and_its_metrics(
    given: dict[str, Any], provider: str
) -> None:
    (event,) = events(given)
    assert event.channel == "LLM"
    assert event.data["gen_ai.operation.name"] == "chat"
    assert event.data["gen_ai.provider.name"] == provider
    cached = event.data.get("gen_ai.usage.cache_read.input_tokens", 0)
    (batch,) = as_batches(
        read_json(traces_request(span(attributes=[attribute(*pair) for pair in given.items()])), "traces"), 1, "gen_ai"
    )
    (paid,) = priced(batch, load_prices).events
    assert paid.data[COST] == pytest.approx(((1000 - cached) * 2 + cached * 0.1 + 500 * 10) * 1e-6)
    page = Page(given)
    about = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": provider,
        "gen_ai_request_model": "claude-sonnet-5-5",
        "gen_ai_response_model": "claude-sonnet-5-5",
    }
    assert page.count("gen_ai_client_operation_duration_seconds", **about, error_type="") == 1
    assert page.total("gen_ai_client_token_usage", **about, gen_ai_token_type="input") == 1000
    assert page.total("gen_ai_client_token_usage", **about, gen_ai_token_type="output") == 500


def test_what_has_a_name_of_today_has_it_alone_and_the_rest_is_kept() -> None:
    (event,) = events(OPENINFERENCE_LLM)
    assert (event.session, event.user) == ("s-17", "u-4")
    assert event.data["gen_ai.usage.cache_read.input_tokens"] == 400
    assert event.data["gen_ai.usage.reasoning.output_tokens"] == 100
    assert event.data["llm.input_messages.0.message.content"] == "how warm is it?"
    assert event.data["openinference.span.kind"] == "LLM"
    assert not {"llm.model_name", "llm.token_count.prompt", "llm.provider", "session.id"} & set(event.data)


def test_a_name_of_today_counts_for_more_than_one_of_before() -> None:
    both = {**TRACELOOP_LLM, "gen_ai.usage.input_tokens": 7, "llm.model_name": "x", "gen_ai.provider.name": "openai"}
    (event,) = events(both)
    assert event.data["gen_ai.usage.input_tokens"] == 7
    assert event.data["gen_ai.request.model"] == "claude-sonnet-5-5"
    assert event.data["gen_ai.provider.name"] == "openai"


def test_tools_and_agents_are_such_and_a_chain_is_neither_nor_a_model() -> None:
    given: list[dict[str, Any]] = [
        {"openinference.span.kind": "TOOL", "tool.name": "look_up", "tool.parameters": "{}", "input.value": "x"},
        {"openinference.span.kind": "AGENT", "agent.name": "clerk", "llm.model_name": "m"},
        {"openinference.span.kind": "CHAIN", "llm.model_name": "m", "llm.token_count.prompt": 5},
        {"openinference.span.kind": "RERANKER", "llm.model_name": "m"},
        {"openinference.span.kind": "EMBEDDING", "embedding.model_name": "small", "llm.token_count.prompt": 5},
        {"traceloop.span.kind": "tool", "traceloop.entity.name": "fetch", "traceloop.workflow.name": "w"},
        {"traceloop.span.kind": "agent", "traceloop.entity.name": "helper", "traceloop.workflow.name": "w"},
        {"traceloop.span.kind": "workflow", "traceloop.entity.name": "nightly", "traceloop.workflow.name": "nightly"},
        {"traceloop.span.kind": "task", "traceloop.entity.name": "step", "gen_ai.request.model": "m"},
    ]
    found = events(*given)
    channels = ["TOOL", "AGENT", "AGENT", "LLM", "LLM", "TOOL", "AGENT", "AGENT", "AGENT"]
    assert [event.channel for event in found] == channels
    assert (found[1].agent, found[6].agent) == ("clerk", "helper")
    page = Page(*given)
    for tool in ("look_up", "fetch"):
        assert page.count("gen_ai_execute_tool_duration_seconds", gen_ai_tool_name=tool, error_type="") == 1
    for agent in ("clerk", "helper"):
        assert page.count("gen_ai_invoke_agent_duration_seconds", gen_ai_agent_name=agent, error_type="") == 1
    assert page.count("gen_ai_workflow_duration_seconds", gen_ai_workflow_name="nightly", error_type="") == 1
    about = {"gen_ai_provider_name": "", "gen_ai_request_model": "m", "gen_ai_response_model": "m", "error_type": ""}
    calls = "gen_ai_client_operation_duration_seconds"
    assert page.count(calls, **about, gen_ai_operation_name="chat") is None
    embedded = {**about, "gen_ai_request_model": "small", "gen_ai_response_model": "small"}
    assert page.count(calls, **embedded, gen_ai_operation_name="embeddings") == 1


def test_names_that_may_mean_anything_are_left_alone_in_what_tells_of_no_model() -> None:
    other = {"session.id": "s", "tool.name": "hammer", "agent.name": "smith", "traceloop.workflow.name": "w"}
    assert events(other) == ()
    (event,) = events(other, keep="all")
    assert {key: event.data[key] for key in other} == other
    assert (event.channel, event.session, event.agent) == ("OTEL", "s", None)
    (called,) = events({**other, "gen_ai.request.model": "m"})
    assert (called.data["tool.name"], called.data["gen_ai.conversation.id"]) == ("hammer", "s")


def test_what_says_who_it_is_survives_a_great_many_attributes() -> None:
    long = {f"llm.input_messages.{n}.message.content": "x" for n in range(2000)}
    (event,) = events({**long, **OPENINFERENCE_LLM})
    assert event.data["gen_ai.usage.input_tokens"] == 1000


@pytest.mark.parametrize("kind", [7, None, True, "", "NO SUCH"])
def test_a_kind_that_is_none_does_no_harm(kind: Any) -> None:
    (event,) = events({"openinference.span.kind": kind, "llm.request.type": 7, "traceloop.entity.name": "x"})
    assert "gen_ai.operation.name" not in event.data


def test_both_spans_of_one_request_of_mcp_are_one_for_each_side() -> None:
    asked = [attribute("mcp.method.name", "tools/call"), attribute("gen_ai.operation.name", "execute_tool")]
    both = [
        span(name="tools/call add", spanId=f"{n}" * 16, kind=kind, attributes=asked) for n, kind in ((1, 3), (2, 2))
    ]
    (batch,) = as_batches(read_json(traces_request(*both), "traces"), 1000, "gen_ai")
    registry = CollectorRegistry()
    metrics = GenAiMetrics(registry)
    for event in batch.events:
        metrics.reported(event)
    labels = {"mcp_method_name": "tools/call", "gen_ai_tool_name": "", "error_type": ""}
    for side in ("client", "server"):
        assert registry.get_sample_value(f"mcp_{side}_operation_duration_seconds_count", labels) == 1


def test_records_of_a_log_have_the_names_of_today() -> None:
    record = {
        "timeUnixNano": "5",
        "eventName": "gen_ai.choice",
        "attributes": [attribute("gen_ai.system", "openai"), attribute("gen_ai.usage.prompt_tokens", 7)],
    }
    (batch,) = as_batches(read_json(logs_request(record), "logs"), 1000, "gen_ai")
    (event,) = batch.events
    assert (event.data["gen_ai.provider.name"], event.data["gen_ai.usage.input_tokens"]) == ("openai", 7)
