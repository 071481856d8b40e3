"""What programs report, as metrics: calls, tools, agents and MCP under OpenTelemetry's names, never without a bound."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from monitor_event_kit import NOW_US, Rule, batch, chat, span
from skilld.gen_ai_metrics import GenAiMetrics, Names
from skilld.monitor.batch import MonitorEvent
from skilld.monitor.calls_below import CallsBelow
from skilld.monitor.inspected import Found
from skilld.monitor.prices import COST
from skilld.monitor_metrics import MonitorMetrics


class Page:
    """The metrics, told of spans."""

    def __init__(self, max_names: int = 50) -> None:
        self.registry = CollectorRegistry()
        self.metrics = MonitorMetrics(self.registry, GenAiMetrics(self.registry, max_names))

    def spans(self, *events: dict[str, Any]) -> None:
        spans: list[MonitorEvent] = [event for one in events for event in batch(1, one).events]
        self.metrics.handlers["monitor.spans"]({}, {"spans": spans})

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def text(self) -> str:
        return generate_latest(self.registry).decode()


CALL = {
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "anthropic",
    "gen_ai_request_model": "claude-sonnet-5-5",
    "gen_ai_response_model": "claude-sonnet-5-5",
}


def test_calls_of_models_are_measured_as_the_conventions_say() -> None:
    page = Page()
    slow = chat("c2", duration_ms=2500.0)
    slow["data"]["gen_ai.response.time_to_first_chunk"] = 0.3
    page.spans(chat("c1"), slow)
    duration, tokens = "gen_ai_client_operation_duration_seconds", "gen_ai_client_token_usage"
    assert page.value(f"{duration}_count", **CALL, error_type="") == 2
    assert page.value(f"{duration}_sum", **CALL, error_type="") == 2.505
    assert page.value(f"{duration}_bucket", **CALL, error_type="", le="0.01") == 1
    assert page.value(f"{duration}_bucket", **CALL, error_type="", le="81.92") == 2
    assert page.value(f"{tokens}_sum", **CALL, gen_ai_token_type="input") == 2000
    assert page.value(f"{tokens}_bucket", **CALL, gen_ai_token_type="output", le="1024.0") == 2
    assert page.value("gen_ai_client_operation_time_to_first_chunk_seconds_sum", **CALL, error_type="") == 0.3


def test_what_failed_says_why_and_no_tokens_are_made_up() -> None:
    page = Page()
    failed = chat("c1", None, status="error")
    failed["data"]["error.type"] = "RateLimitError"
    page.spans(failed, chat("c2", None, status="cancelled"))
    duration = "gen_ai_client_operation_duration_seconds_count"
    assert page.value(duration, **CALL, error_type="RateLimitError") == 1
    assert page.value(duration, **CALL, error_type="cancelled") == 1
    assert page.value("gen_ai_client_token_usage_count", **CALL, gen_ai_token_type="input") is None


def test_tools_agents_workflows_and_mcp_have_histograms_of_their_own() -> None:
    page = Page()

    def of(operation: str, **data: str) -> dict[str, Any]:
        named = {name.replace("__", "."): value for name, value in data.items()}
        called = data.get("mcp__method__name", operation)
        return span("cd", name=f"{called} x", data={"gen_ai.operation.name": operation, **named}, duration_ms=200.0)

    page.spans(
        of("execute_tool", gen_ai__tool__name="search"),
        of("invoke_agent", gen_ai__agent__name="clerk", gen_ai__request__model="m"),
        of("invoke_workflow", gen_ai__workflow__name="nightly"),
        of("execute_tool", mcp__method__name="tools/call", gen_ai__tool__name="fetch"),
    )
    assert page.value("gen_ai_execute_tool_duration_seconds_sum", gen_ai_tool_name="search", error_type="") == 0.2
    assert page.value("gen_ai_execute_tool_duration_seconds_sum", gen_ai_tool_name="fetch", error_type="") is None
    assert page.value("gen_ai_invoke_agent_duration_seconds_sum", gen_ai_agent_name="clerk", error_type="") == 0.2
    assert page.value("gen_ai_workflow_duration_seconds_sum", gen_ai_workflow_name="nightly", error_type="") == 0.2
    labels = {"mcp_method_name": "tools/call", "gen_ai_tool_name": "fetch", "error_type": ""}
    assert page.value("mcp_client_operation_duration_seconds_bucket", **labels, le="0.2") == 1
    assert "gen_ai_client_operation_duration_seconds_count" not in page.text()


def test_the_bounds_are_those_that_the_conventions_ask_for() -> None:
    page = Page()
    page.spans(
        span("1", data={"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "t"}),
        span("2", data={"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": "w"}),
        span("3", data={"mcp.method.name": "ping"}),
    )

    def bounds(name: str) -> list[float]:
        lines = [line for line in page.text().splitlines() if line.startswith(f"{name}_bucket")]
        return [float(line.partition('le="')[2].partition('"')[0]) for line in lines][:-1]

    assert bounds("gen_ai_execute_tool_duration_seconds")[::13] == [0.01, 81.92]
    assert bounds("gen_ai_workflow_duration_seconds") == [1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200]
    asked = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300]
    assert bounds("mcp_client_operation_duration_seconds") == asked


REQUEST = {"mcp.method.name": "tools/call", "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "fetch"}
MCP = {"mcp_method_name": "tools/call", "gen_ai_tool_name": "fetch", "error_type": ""}


def test_a_request_of_mcp_counts_for_who_asks_and_for_who_is_asked_by_whose_span_it_is() -> None:
    page = Page()
    page.spans(
        span("1", name="tools/call fetch", data={**REQUEST, "otel.kind": "client"}, duration_ms=300.0),
        span("2", "1", name="tools/call fetch", data={**REQUEST, "otel.kind": "server"}, duration_ms=100.0),
    )
    for side, took_s in (("client", 0.3), ("server", 0.1)):
        assert page.value(f"mcp_{side}_operation_duration_seconds_count", **MCP) == 1
        assert page.value(f"mcp_{side}_operation_duration_seconds_sum", **MCP) == took_s
    assert "gen_ai_execute_tool_duration_seconds_count" not in page.text()


def test_a_tool_that_asks_a_server_is_a_tool_and_a_request_for_as_long_as_that_took() -> None:
    page = Page()
    tool = {"gen_ai_tool_name": "fetch", "error_type": ""}
    page.spans(
        span("1", name="execute_tool fetch", data={**REQUEST, "skilld.mcp_request_s": 0.05}, duration_ms=200.0),
        span("2", name="fetch.tool", data=REQUEST, duration_ms=200.0),
        span("3", name="execute_tool fetch", data={**REQUEST, "otel.kind": "client"}, duration_ms=200.0),
    )
    assert page.value("gen_ai_execute_tool_duration_seconds_sum", **tool) == pytest.approx(0.6)
    assert page.value("mcp_client_operation_duration_seconds_sum", **MCP) == pytest.approx(0.45)
    page.spans(span("4", name="execute_tool fetch", data={**REQUEST, "skilld.mcp_request_s": 7}, duration_ms=200.0))
    assert page.value("mcp_client_operation_duration_seconds_sum", **MCP) == pytest.approx(0.65), "no more than all"


def test_sessions_of_mcp_last_as_long_as_their_spans() -> None:
    page = Page()
    page.spans(
        span("1", name="mcp.session", data={"mcp.protocol.version": "2025-06-18"}, duration_ms=4000.0),
        span("2", name="mcp.client.session", data={"traceloop.span.kind": "session"}),
        span("3", name="mcp.session", data={"otel.kind": "server"}, duration_ms=2000.0),
    )
    ours = {"mcp_protocol_version": "2025-06-18", "error_type": ""}
    assert page.value("mcp_client_session_duration_seconds_sum", **ours) == 4
    assert page.value("mcp_client_session_duration_seconds_count", mcp_protocol_version="", error_type="") == 1
    assert page.value("mcp_server_session_duration_seconds_sum", mcp_protocol_version="", error_type="") == 2


def test_the_parts_of_a_stream_are_counted_as_the_client_counted_them() -> None:
    page = Page()
    name = "gen_ai_client_operation_time_per_output_chunk_seconds"
    for n in range(2):
        streamed = chat(f"c{n}")
        streamed["data"]["skilld.time_per_output_chunk"] = {"counts": [90, 0, 9, 1], "sum_s": 1.25}
        page.spans(streamed)
    assert page.value(f"{name}_count", **CALL, error_type="") == 200
    assert page.value(f"{name}_sum", **CALL, error_type="") == 2.5
    for bound, count in (("0.01", 180), ("0.02", 180), ("0.04", 198), ("0.08", 200), ("81.92", 200), ("+Inf", 200)):
        assert page.value(f"{name}_bucket", **CALL, error_type="", le=bound) == count


@pytest.mark.parametrize(
    "said",
    [
        7,
        {"counts": 7, "sum_s": 1},
        {"counts": [1] * 16, "sum_s": 1},
        {"counts": [1 << 60], "sum_s": 1},
        {"counts": [-1], "sum_s": 1},
        {"counts": [True], "sum_s": 1},
        {"counts": [1]},
        {"counts": [1], "sum_s": -1},
        {"counts": [1], "sum_s": 1e300},
    ],
)
def test_counts_of_parts_that_are_none_are_passed_over(said: Any) -> None:
    page = Page()
    streamed = chat("c1")
    streamed["data"]["skilld.time_per_output_chunk"] = said
    page.spans(streamed)
    assert "time_per_output_chunk_seconds_count" not in page.text()


def of(id: str, parent: str | None, operation: str, **data: Any) -> dict[str, Any]:
    """A span of an operation, named as the conventions say."""
    return span(id, parent, name=f"{operation} x", data={"gen_ai.operation.name": operation, **data})


def test_an_agent_is_said_to_have_called_what_was_called_below_it_and_below_no_other() -> None:
    """Calls and layers are reported before what is around them."""
    page = Page()
    request = span("a5", "a0", name="tools/call fetch", data=REQUEST)
    page.spans(
        chat("a2", parent="a1"),
        span("a1", "a0", name="chain x"),
        chat("a4", None, parent="a3", status="error"),  # the SDK's, inside that of a framework for the same call
        chat("a3", parent="a0"),
        span("c1", "a5", name="tools/call fetch", data={**REQUEST, "otel.kind": "server"}),
        request,
        span("a7", "a6", name="tools/call fetch", data=REQUEST),
        chat("b1", parent="b0"),
        of("b0", "a6", "invoke_agent", **{"gen_ai.agent.name": "helper"}),
        of("a6", "a0", "execute_tool", **{"gen_ai.tool.name": "ask_helper"}),
        of("a8", "a0", "embeddings", **{"gen_ai.request.model": "m"}),
        of("a0", None, "invoke_agent", **{"gen_ai.agent.name": "clerk"}),
        of("d0", None, "invoke_agent", **{"gen_ai.agent.name": "idle"}),
        of("e0", None, "invoke_agent", **{"gen_ai.agent.name": "remote", "otel.kind": "client"}),
    )
    found = {
        agent: tuple(
            page.value(f"gen_ai_invoke_agent_{kind}_calls_sum", gen_ai_agent_name=agent)
            for kind in ("inference", "tool")
        )
        for agent in ("clerk", "helper", "idle", "remote")
    }
    assert found == {"clerk": (2, 2), "helper": (1, 0), "idle": (0, 0), "remote": (None, None)}
    assert page.value("gen_ai_invoke_agent_tool_calls_bucket", gen_ai_agent_name="clerk", le="1.0") == 0
    assert page.value("gen_ai_invoke_agent_tool_calls_bucket", gen_ai_agent_name="clerk", le="2.0") == 1


def test_spans_whose_own_end_never_comes_are_forgotten() -> None:
    below = CallsBelow(most=10)
    for n in range(100):
        below.ended(batch(1, chat(f"{n:x}", parent=f"{n + 1000:x}")).events[0])
    assert len(below) == 10
    newest = batch(1, of(f"{1099:x}", None, "invoke_agent")).events[0]
    assert (below.ended(newest).models, len(below)) == (1, 9)


def test_no_label_grows_with_what_programs_name() -> None:
    page = Page(max_names=5)
    page.spans(*[chat(f"{n:x}", model=f"model-{n}") for n in range(300)])
    page.spans(*[span(f"{n:x}", data={"gen_ai.operation.name": f"operation-{n}"}) for n in range(300)])
    page.spans(
        *[
            span(f"{n:x}", data={"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": f"tool-{n}"})
            for n in range(300)
        ]
    )
    others = {**CALL, "gen_ai_request_model": "other", "gen_ai_response_model": "other"}
    assert page.value("gen_ai_client_operation_duration_seconds_count", **others, error_type="") == 295
    assert page.value("gen_ai_execute_tool_duration_seconds_count", gen_ai_tool_name="other", error_type="") == 295
    assert page.text().count("\n") < 700


def test_a_few_names_of_each_kind_do_not_make_a_great_many_sets_of_labels() -> None:
    page = Page(max_names=4)
    calls = [
        span(
            "cd",
            status="error",
            data={
                "gen_ai.operation.name": f"o{n % 4}",
                "gen_ai.provider.name": f"p{n // 4 % 4}",
                "gen_ai.request.model": f"m{n // 16 % 4}",
                "gen_ai.response.model": f"m{n // 64 % 4}",
                "error.type": f"e{n // 256}",
            },
        )
        for n in range(1024)
    ]
    page.spans(*calls)
    name = "gen_ai_client_operation_duration_seconds_count"
    counts = [line for line in page.text().splitlines() if line.startswith(name)]
    assert len(counts) == 17, "sixteen, and one for all others"
    assert page.value(name, **dict.fromkeys(CALL, "other"), error_type="other") == 1024 - 16


def test_a_name_keeps_its_label_and_is_cut() -> None:
    names = Names(2)
    assert [names.label("a", name) for name in ("x", "y", "z", "x", 7, "", None)] == [
        "x",
        "y",
        "other",
        "x",
        "",
        "",
        "",
    ]
    assert names.label("c", "a\ud800\n\x1b") == "a???"
    assert names.label("b", "z" * 1000) == "z" * 100, "of another kind"


def test_a_name_that_no_page_can_hold_costs_nobody_the_page() -> None:
    page = Page()
    odd = "\ud800"
    page.spans(
        chat("c1", model=odd, status="error"),
        span("cd", data={"mcp.method.name": odd, "gen_ai.tool.name": odd}),
        *[
            span("cd", data={"gen_ai.operation.name": operation, "error.type": odd, f"gen_ai.{kind}.name": odd})
            for operation, kind in (
                ("execute_tool", "tool"),
                ("invoke_agent", "agent"),
                ("invoke_workflow", "workflow"),
            )
        ],
    )
    assert 'gen_ai_tool_name="?"' in page.text()


def test_costs_blocks_and_calls_without_a_price_are_counted() -> None:
    page = Page()
    priced, blocked = chat("c1"), chat("c3", None, status="error")
    priced["data"][COST] = 0.25
    blocked["data"]["error.type"] = "BlockedError"
    page.spans(priced, chat("c2"), blocked)
    assert page.value("skilld_monitor_cost_usd_total") == 0.25
    assert page.value("skilld_monitor_calls_unpriced_total") == 2
    assert page.value("skilld_monitor_blocks_total") == 1


def test_findings_and_lag_are_on_the_page() -> None:
    page = Page()
    findings = [Found(0, Rule()), Found(0, Rule(category="made-up")), Found(1, Rule(severity="high"))]
    page.metrics.handlers["monitor.stored"]({"lag": 0.5}, {"findings": findings})
    assert page.value("skilld_monitor_findings_total", category="sensitive_data", severity="medium") == 1
    assert page.value("skilld_monitor_findings_total", category="sensitive_data", severity="high") == 1
    assert "made-up" not in page.text()
    assert page.value("skilld_monitor_lag_seconds_bucket", le="1.0") == 1


def test_data_of_any_shape_is_passed_over() -> None:
    page = Page()
    values: list[Any] = [None, 7, [], {"gen_ai.request.model": 7}]
    page.spans(*[span("cd", data=value, time_us=NOW_US) for value in values])
    page.spans(span("cd", data={"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": ["x"]}))
    page.spans(span("cd", data={"gen_ai.request.model": "m", "gen_ai.response.time_to_first_chunk": "soon"}))
    assert "first_chunk_seconds_count" not in page.text()
