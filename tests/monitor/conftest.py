"""Monitoring belongs to the whole process: each test leaves it switched off, and reads no settings of the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import anthropic
import pytest

import skilld_monitor
from monitor_kit import Collector, collecting, messages_api
from skill_actors.testing import FakeMessagesApi
from skilld_monitor import Monitoring, aliases, context, monitoring
from skilld_monitor.scanning.rule_set import RuleSet

PATIENCE_S = 20.0


@pytest.fixture(autouse=True)
def _patient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no time is measured, a machine that is slow is no daemon that is away, no prompt that takes too long to
    judge, and no function that takes too long to mask: a thread may have to wait for seconds until it runs."""
    if request.node.get_closest_marker("alone") is not None:
        return
    monkeypatch.setattr("skilld_monitor.sender._ACK_S", PATIENCE_S)
    monkeypatch.setattr("skilld_monitor.monitoring._WAIT_S", PATIENCE_S)
    monkeypatch.setattr("skilld_monitor.policy.judging._BUDGET_S", PATIENCE_S)
    for waits in (
        *(Monitoring.flush, Monitoring.disable, RuleSet.with_custom),
        *(monitoring.disable_monitoring, aliases.stop_monitoring),
    ):
        assert waits.__defaults__ is not None
        assert len(waits.__defaults__) == 1, "the time alone"
        monkeypatch.setattr(waits, "__defaults__", (PATIENCE_S,))


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith(("SKILLD_", "MONITORING_", "OTEL_")) or name == "ENVIRONMENT":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SKILLD_MONITOR_SPOOL", str(tmp_path / "spool"))
    monkeypatch.setenv("SKILLD_MONITOR_SOCKET", str(tmp_path / "m" / "monitor.sock"))
    monkeypatch.chdir(tmp_path)
    yield
    skilld_monitor.disable_monitoring()
    skilld_monitor.TraceContext.reset()  # a test may leave something open on purpose
    context.clear(everywhere=True)


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    with collecting(tmp_path / "m") as made:
        yield made


@pytest.fixture
def made(collector: Collector) -> skilld_monitor.Monitoring:
    """Monitoring that is on."""
    return skilld_monitor.enable_monitoring("shop")


@pytest.fixture
def api() -> Iterator[FakeMessagesApi]:
    with messages_api() as served:
        yield served


@pytest.fixture
def client(api: FakeMessagesApi) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=api.base_url, api_key="k", max_retries=0) as made:
        yield made
