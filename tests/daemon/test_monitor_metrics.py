"""What programs report, as metrics: calls, tools, agents and MCP under OpenTelemetry's names, never without a bound."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from monitor_event_kit import NOW_US, Rule, batch, chat, span
from skilld.gen_ai_metrics import GenAiMetrics, Names
from skilld.monitor.batch import MonitorEvent
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
        return span("cd", data={"gen_ai.operation.name": operation, **named}, duration_ms=200.0)

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
    assert page.value("mcp_client_operation_duration_seconds_bucket", **labels, le="0.32") == 1
    assert "gen_ai_client_operation_duration_seconds_count" not in page.text()


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


def test_findings_lag_and_what_waits_are_on_the_page() -> None:
    page = Page()
    findings = [Found(0, Rule()), Found(0, Rule(category="made-up")), Found(1, Rule(severity="high"))]
    page.metrics.handlers["monitor.stored"]({"waiting": 3, "lag": 0.5}, {"findings": findings})
    assert page.value("skilld_monitor_findings_total", category="sensitive_data", severity="medium") == 1
    assert page.value("skilld_monitor_findings_total", category="sensitive_data", severity="high") == 1
    assert "made-up" not in page.text()
    assert page.value("skilld_monitor_waiting_batches") == 3
    assert page.value("skilld_monitor_lag_seconds_bucket", le="1.0") == 1


def test_data_of_any_shape_is_passed_over() -> None:
    page = Page()
    values: list[Any] = [None, 7, [], {"gen_ai.request.model": 7}]
    page.spans(*[span("cd", data=value, time_us=NOW_US) for value in values])
    page.spans(span("cd", data={"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": ["x"]}))
    page.spans(span("cd", data={"gen_ai.request.model": "m", "gen_ai.response.time_to_first_chunk": "soon"}))
    assert "first_chunk_seconds_count" not in page.text()
