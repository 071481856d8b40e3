"""What Prometheus sees of money: kinds of caps, never single ones."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from skill_actors.telemetry import Bus
from skilld.ledger_metrics import CAP_KINDS, LedgerMetrics, cap_kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("turn", "turn"),
        ("session/ses_aaaaaaaaaaaaaaaaaaaaaaaaaa", "session"),
        ("agent/day", "agent"),
        ("agent/month", "agent"),
        ("user/1000", "user"),
        ("user/1000/day", "user/day"),
        ("user/month", "user/month"),
        ("day", "global/day"),
        ("month", "global/month"),
        ("global", "global"),
        ("global/day", "global/day"),
        ("", "other"),
        ("day/day", "other"),
        ("nonsense/x/day", "other"),
    ],
)
def test_a_cap_is_of_a_kind(name: str, kind: str) -> None:
    assert cap_kind(name) == kind
    assert kind in {*CAP_KINDS, "other"}


def test_money_refusals_warnings_and_wrong_bounds_are_counted() -> None:
    registry, bus = CollectorRegistry(), Bus()
    metrics = LedgerMetrics(registry, frozenset({"claude-x"}))
    bus.attach("all", ["*"], lambda name, facts, meta: metrics.handlers[name](facts, meta))
    bus.emit("ledger.settled", {"cost_usd": 0.25}, {"model": "claude-x"})
    bus.emit("ledger.settled", {"tokens": 5}, {"model": "mine"})
    bus.emit("budget.exceeded", {}, {"cap": "session/ses_a"})
    bus.emit("budget.warning", {}, {"cap": "day"})
    bus.emit("ledger.bound_wrong", {}, {"model": "claude-x"})
    page = generate_latest(registry).decode().splitlines()
    for line in (
        'skilld_spend_usd_total{model="claude-x"} 0.25',
        'skilld_spend_usd_total{model="other"} 0.0',
        'skilld_budget_refusals_total{cap="session"} 1.0',
        'skilld_budget_refusals_total{cap="turn"} 0.0',
        'skilld_budget_warnings_total{cap="global/day"} 1.0',
        "skilld_ledger_bound_wrong_total 1.0",
    ):
        assert line in page
