"""Monitoring switched on by the environment, ended by the program's own end, and looked at itself."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

import skilld_monitor
from contrib_kit import Reported
from monitor_kit import Collector, collecting, run_program
from skilld_monitor import disable_monitoring, enable_monitoring, log_event
from skilld_monitor.contrib.environment import agent_name, enable_from_environment
from skilld_monitor.contrib.meta import enable_timed, health, report_health
from skilld_monitor.contrib.shutdown import graceful, lifespan, on_signals
from skilld_monitor.monitoring import active


@pytest.mark.parametrize("no", ["false", "0", "No", "OFF"])
def test_the_environment_can_say_no(monkeypatch: pytest.MonkeyPatch, no: str) -> None:
    monkeypatch.setenv("SKILLD_MONITOR_ENABLED", no)
    assert enable_from_environment("order-processing") is None
    assert active() is None


def test_the_environment_says_who_where_and_how_much(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.setenv("MONITORING_LOG_FILE", str(tmp_path / "events"))
    monkeypatch.setenv("MONITORING_DEBUG_LEVEL", "WARNING")
    made = enable_from_environment("order-processing")
    assert made is not None
    log_event("quiet")
    log_event("loud", level="warning")
    assert made.flush()
    (event,) = collector.events()
    assert (event["name"], event["agent"], event["environment"]) == (
        *("loud", "order-processing-production", "production"),
    )
    assert json.loads((tmp_path / "events.json").read_text())["event"] == "loud"


def test_the_agent_of_an_environment() -> None:
    assert agent_name("shop", {}) == "shop-development"
    assert agent_name("shop", {"SKILLD_MONITOR_AGENT": "till", "ENVIRONMENT": "production"}) == "till"


def test_a_block_that_fails_delivers(collector: Collector) -> None:
    enable_monitoring("shop")
    log_event("last")
    with pytest.raises(LookupError), graceful(20):
        raise LookupError
    assert active() is None
    assert [event["name"] for event in collector.events()][-2:] == ["last", "monitoring_disabled"]


def test_the_lifespan_of_an_application_delivers_beside_its_loop(collector: Collector) -> None:
    async def main() -> None:
        async with lifespan(object(), 20):
            enable_monitoring("shop")
            log_event("last")

    asyncio.run(main())
    assert active() is None
    assert "last" in [event["name"] for event in collector.events()]


SIGNALS = """
import os, signal, skilld_monitor
from skilld_monitor.contrib.shutdown import on_signals
{before}
skilld_monitor.enable_monitoring("shop")
on_signals(signal.{name}, timeout_s=20)
on_signals(signal.{name}, timeout_s=20)
skilld_monitor.log_event("last")
os.kill(os.getpid(), signal.{name})
print("went on")
"""


@pytest.mark.parametrize(
    ("name", "before", "code", "out"),
    [
        ("SIGTERM", "", -signal.SIGTERM, ""),
        ("SIGHUP", "", -signal.SIGHUP, ""),
        ("SIGUSR1", "signal.signal(signal.SIGUSR1, lambda *_: print('mine'))", 0, "mine\nwent on\n"),
        ("SIGUSR1", "signal.signal(signal.SIGUSR1, signal.SIG_IGN)", 0, "went on\n"),
    ],
)
def test_a_signal_delivers_and_does_what_it_did(tmp_path: Path, name: str, before: str, code: int, out: str) -> None:
    with collecting(tmp_path) as collector:
        done = run_program(SIGNALS.format(name=name, before=before), tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (code, out, "")
        assert "last" in [event["name"] for event in collector.events()]


def test_a_handler_is_put_there_once() -> None:
    before = signal.getsignal(signal.SIGUSR2)
    try:
        on_signals(signal.SIGUSR2)
        made = signal.getsignal(signal.SIGUSR2)
        on_signals(signal.SIGUSR2)
        assert signal.getsignal(signal.SIGUSR2) is made is not before
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_the_end_of_the_program_is_said_once(tmp_path: Path) -> None:
    with collecting(tmp_path) as collector:
        text = (
            "import skilld_monitor\n"
            "from skilld_monitor.contrib.shutdown import at_exit\n"
            "at_exit(20.0); at_exit(5.0)\n"
            "skilld_monitor.enable_monitoring('shop')\n"
            "skilld_monitor.log_event('last')\n"
        )
        done = run_program(text, tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert [event["name"] for event in collector.events()][1:] == ["last", "monitoring_disabled"]


def test_how_long_it_took_to_begin_is_told(collector: Collector) -> None:
    began_s = time.perf_counter()
    made = enable_timed("shop")
    most_ms = (time.perf_counter() - began_s) * 1000
    assert made.flush()
    (event,) = collector.events(name="monitoring_initialized")
    assert (event["channel"], event["level"]) == ("META", "INFO")
    assert 0 < event["data"]["duration_ms"] < most_ms + 1


def test_monitoring_that_is_well_says_so(reported: Reported) -> None:
    log_event("x")
    assert reported.made.flush()
    found = health()
    assert (found["is_on"], found["is_well"], found["problems"], found["agent"]) == (True, True, [], "shop")
    assert found["accepted"] == found["delivered"] == 2
    assert report_health()["is_well"] is True
    (event,) = reported.events("monitoring_health")
    assert (event["channel"], event["level"]) == ("META", "INFO")


def test_monitoring_without_a_daemon_says_so(tmp_path: Path) -> None:
    made = enable_monitoring("shop")
    log_event("x")
    assert made.flush()
    found: dict[str, Any] = report_health()
    assert (found["is_well"], found["spooled"]) == (False, 2)
    assert "No such file" in found["problems"][0]
    disable_monitoring()
    assert report_health() == {"is_on": False}


def test_all_of_it_is_there_by_the_name_of_the_package() -> None:
    from skilld_monitor import contrib

    for name in contrib.__all__:
        __import__(f"skilld_monitor.contrib.{name}")
    assert skilld_monitor.__name__ == "skilld_monitor"


def test_handlers_of_signals_are_put_back() -> None:
    before = signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    try:
        undo = on_signals(signal.SIGUSR2)
        assert signal.getsignal(signal.SIGUSR2) != signal.SIG_DFL
        undo()
        undo()
        assert signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL
        undo = on_signals(signal.SIGUSR2)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        undo()
        assert signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR2, before)
