"""What Prometheus sees."""

from __future__ import annotations

import re
from pathlib import Path

import trio

from skill_actors.runtime.census import ClassCensus
from skill_actors.runtime.report import Report, ReportEvent
from skill_actors.telemetry import Bus
from skill_actors.workshop.event_names import EVENT_NAMES
from skilld.metrics import Metrics, Sources, sample_loop_lag
from skilld.supervision import ActorSnapshot
from support import run, run_virtual

DOCS = Path(__file__).parents[2] / "docs/telemetry.md"


async def stored() -> int:
    return 7


async def actors() -> ActorSnapshot:
    session = ClassCensus(alive=2, depth=5, depth_max=4, oldest_message_s=1.5)
    return ActorSnapshot({"Session": session}, {"mailbox_rejected": {"Session": 3}, "threads_leaked": {"Broker": 1}})


SOURCES = Sources(
    sessions=lambda: {"sessions_live": 2, "turns_running": 1, "turns_queued": 3},
    stored=stored,
    skills=lambda: 4,
    actors=actors,
    journal=lambda: {"commits": 6, "queue_depth": 1, "wal_bytes": 10, "db_bytes": 20},
    connections=lambda: 8,
)


def made() -> tuple[Bus, Metrics]:
    metrics = Metrics(version="1.0", models=["claude-x"], tools=["bash_tool"], backends=["local"])
    bus = Bus()
    metrics.attach(bus, SOURCES)
    return bus, metrics


def text(metrics: Metrics) -> str:
    return run(metrics.render).decode()


def test_gauges_are_looked_up_when_rendering() -> None:
    _, metrics = made()
    page = text(metrics)
    for line in (
        'skilld_sessions{state="live"} 2.0',
        'skilld_sessions{state="stored"} 7.0',
        "skilld_turns_running 1.0",
        "skilld_skills_loaded 4.0",
        'skilld_actors_alive{class="Session"} 2.0',
        'skilld_mailbox_depth{class="Session"} 5.0',
        'skilld_mailbox_depth_max{class="Session"} 4.0',
        'skilld_oldest_message_seconds{class="Session"} 1.5',
        'skilld_mailbox_rejected_total{class="Session"} 3.0',
        'skilld_actor_threads_leaked_total{class="Broker"} 1.0',
        "skilld_http_connections 8.0",
        "skilld_journal_queue_depth 1.0",
        'skilld_build_info{version="1.0"} 1.0',
    ):
        assert line in page.splitlines()


def test_a_turn_counts_its_outcome_time_and_cost() -> None:
    bus, metrics = made()
    bus.emit("turn.stop", {"duration": 2.0, "cost_usd": 0.25, "input_tokens": 5}, {"outcome": "finished"})
    bus.emit("turn.stop", {"duration": 2.0, "input_tokens": 5}, {"outcome": "failed"})
    bus.emit("turn.stop", {"cost_usd": 0.0}, {"outcome": "interrupted"})
    page = text(metrics)
    assert 'skilld_turns_total{outcome="finished"} 1.0' in page
    assert "skilld_cost_usd_total 0.25" in page
    assert "skilld_turns_unpriced_total 1.0" in page
    assert 'skilld_turn_duration_seconds_bucket{le="2.0"} 2.0' in page


def test_tokens_are_counted_by_kind_and_known_model() -> None:
    bus, metrics = made()
    usage = {"input_tokens": 5.0, "output_tokens": 6.0, "cache_read_tokens": 7.0}
    bus.emit("model.stop", {"duration": 1.0, **usage}, {"model": "claude-x"})
    page = text(metrics)
    assert 'skilld_tokens_total{kind="input",model="claude-x"} 5.0' in page
    assert 'skilld_tokens_total{kind="cache_read",model="claude-x"} 7.0' in page
    about = 'gen_ai_operation_name="chat",gen_ai_provider_name="anthropic",gen_ai_request_model="claude-x",'
    about += 'gen_ai_response_model="claude-x"'
    assert f'gen_ai_client_token_usage_sum{{{about},gen_ai_token_type="input"}} 12.0' in page
    assert f'gen_ai_client_operation_duration_seconds_count{{error_type="",{about}}} ' in page


def test_approvals_are_counted_by_what_became_of_them() -> None:
    bus, metrics = made()
    assert 'skilld_approvals_total{status="expired"} 0.0' in text(metrics)
    bus.emit("approval.requested", {"count": 1}, {"id": "apr_a", "status": "pending"})
    bus.emit("approval.resolved", {"count": 1}, {"id": "apr_a", "status": "expired"})
    bus.emit("approval.resolved", {"count": 1}, {"id": "apr_b", "status": "made up"})
    for status, count in (("pending", 1), ("expired", 1), ("allowed", 0), ("other", 1)):
        assert f'skilld_approvals_total{{status="{status}"}} {count}.0' in text(metrics)


def test_ends_of_tool_servers_are_counted_by_those_that_are_configured() -> None:
    metrics = Metrics(version="1.0", models=[], tools=[], backends=["mcp"], tool_servers=["notes"])
    bus = Bus()
    metrics.attach(bus, SOURCES)
    assert 'skilld_tool_server_ends_total{reason="died",server="notes"} 0.0' in text(metrics)
    bus.emit("mcp.server.end", {"count": 1}, {"server": "notes", "reason": "died"})
    for n in range(20):
        bus.emit("mcp.server.end", {"count": 1}, {"server": f"s{n}", "reason": f"r{n}"})
    page = text(metrics)
    assert 'skilld_tool_server_ends_total{reason="died",server="notes"} 1.0' in page
    assert 'skilld_tool_server_ends_total{reason="other",server="other"} 20.0' in page
    assert page.count("skilld_tool_server_ends_total{") == 3


def test_no_label_grows_with_use() -> None:
    bus, metrics = made()
    for n in range(200):
        bus.emit("model.stop", {"duration": 1.0, "input_tokens": 1}, {"model": f"made-up-{n}"})
        bus.emit("execute.stop", {"duration": 1.0}, {"tool": f"t{n}", "backend": f"b{n}", "outcome": f"o{n}"})
        bus.emit("turn.stop", {"duration": 1.0}, {"outcome": f"o{n}", "session": f"ses_{n}"})
        bus.emit("skill.reloaded", {"duration_s": 1.0}, {"outcome": f"o{n}"})
        bus.emit("budget.exceeded", {}, {"cap": f"user/{n}/day"})
        bus.emit("budget.warning", {}, {"cap": f"c{n}"})
        bus.emit("ledger.settled", {"cost_usd": 0.5}, {"model": f"made-up-{n}"})
        bus.emit("workshop.custom", {}, {"topic": f"custom.t{n}", "name": f"n{n}"})
        bus.emit(f"workshop.agent.n{n}", {}, {"agent": f"a{n}"})
    page = text(metrics)
    assert 'skilld_tokens_total{kind="input",model="other"} 200.0' in page
    assert 'skilld_tool_duration_seconds_count{backend="other",outcome="other",tool="other"} 200.0' in page
    assert 'skilld_budget_refusals_total{cap="user/day"} 200.0' in page
    assert 'skilld_budget_warnings_total{cap="other"} 200.0' in page
    assert 'skilld_spend_usd_total{model="other"} 100.0' in page
    assert 'skilld_workshop_events_total{name="custom",topic="custom"} 200.0' in page
    workshop = [line for line in page.splitlines() if line.startswith("skilld_workshop_events_")]
    kinds = sum(map(len, EVENT_NAMES.values())) + 1  # and one for all that users publish
    assert len(workshop) == 2 * kinds, "of each its count, and when it was made"
    assert page.count("\n") - len(workshop) < 500


def test_reports_of_other_programs_are_on_the_page_once_there_are_any_and_then_from_zero() -> None:
    bus, metrics = made()
    assert "skilld_monitor_" not in text(metrics)
    bus.emit("monitor.dropped", {}, {"reason": "slow"})
    page = text(metrics)
    assert 'skilld_monitor_drops_total{reason="slow"} 1.0' in page
    assert 'skilld_monitor_events_total{outcome="refused"} 0.0' in page
    assert 'skilld_monitor_alerts_total{severity="high"} 0.0' in page


def test_each_kind_of_event_of_the_workshop_is_counted_from_zero_and_answers_take_their_time() -> None:
    bus, metrics = made()
    bus.emit("workshop.agent.ask_complete", {"duration": 3.0, "cost_usd": 0.25}, {})
    bus.emit("workshop.agent.cast_complete", {}, {})
    bus.emit("workshop.work.failed", {"duration": 3.0}, {})
    page = text(metrics)
    for topic, names in EVENT_NAMES.items():
        for name in names:
            count = float((topic, name) in {("agent", "ask_complete"), ("agent", "cast_complete"), ("work", "failed")})
            assert f'skilld_workshop_events_total{{name="{name}",topic="{topic}"}} {count}' in page
    assert 'skilld_workshop_answer_seconds_sum{kind="ask"} 3.0' in page
    assert 'kind="cast"' not in page


def test_http_requests_are_counted_by_class_of_status() -> None:
    bus, metrics = made()
    bus.emit("http.stop", {"duration": 0.01}, {"route": "/v1/status", "method": "GET", "status": 204})
    assert 'skilld_http_requests_total{method="GET",route="/v1/status",status="2xx"} 1.0' in text(metrics)


def test_restarts_are_counted_by_supervisor_and_kind_of_child() -> None:
    _, metrics = made()
    for event in (ReportEvent.STARTED, ReportEvent.RESTARTED):
        metrics.on_report(
            Report(event=event, supervisor="root/services", child="skills", kind=None, message="", trace="", time=0.0)
        )
    page = text(metrics)
    assert 'skilld_restarts_total{child="skills",reason="unknown",supervisor="root/services"} 1.0' in page
    assert 'skilld_supervision_total{event="started",supervisor="root/services"} 1.0' in page


def test_loop_lag_is_sampled_until_cancelled() -> None:
    bus, metrics = made()

    async def main() -> None:
        with trio.move_on_after(1.1):
            await sample_loop_lag(bus)

    run_virtual(main)
    assert "skilld_loop_lag_seconds_count 4.0" in text(metrics)


def test_the_manual_lists_every_metric() -> None:
    manual = DOCS.read_text()
    _, metrics = made()
    for name in re.findall(r"^# TYPE (skilld_\w+) ", text(metrics), flags=re.M):
        if not name.endswith("_created"):
            assert f"`{name.removesuffix('_total')}`" in manual, name


def test_the_manual_lists_every_event_that_the_metrics_know() -> None:
    _, metrics = made()
    events = (DOCS.parent / "reference/workshop-events.md").read_text()
    for name in metrics._on:
        _, dot, kind = name.partition("workshop.")
        listed = f"`{kind}`" in events if dot and kind != "custom" else f"`{name}`" in DOCS.read_text()
        assert listed, name
