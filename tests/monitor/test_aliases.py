"""Programs written for generation B's `start_monitoring` and its dictionary of settings go on."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import pytest

import skilld_monitor
from monitor_kit import Collector, run_program
from skilld_monitor import (
    Monitoring,
    SettingsError,
    Span,
    enable_monitoring,
    log_event,
    start_monitoring,
    stop_monitoring,
)
from skilld_monitor.aliases import REPLACED

KEY = "ak_live_5f8a7d6c4b3a2f1e"


def test_it_starts_and_stops_and_says_what_became_of_all(collector: Collector) -> None:
    made = start_monitoring(agent_id="shop-test")
    assert start_monitoring("shop-test") is made
    log_event(name="order.paid", attributes={"n": 1})
    report = stop_monitoring()
    assert report is not None
    assert (report.accepted, report.delivered, report.complete) == (3, 3, True)
    assert stop_monitoring() is None
    assert [event["agent"] for event in collector.events(name="order.paid")] == ["shop-test"]


class Unwilling:
    def __float__(self) -> float:
        raise RuntimeError


@pytest.mark.parametrize("off", [skilld_monitor.disable_monitoring, stop_monitoring, Monitoring.disable])
@pytest.mark.parametrize("given", ["shop-test", None, float("nan"), [], Unwilling()])
def test_what_is_no_time_to_wait_stops_nothing_and_is_told(collector: Collector, off: Any, given: Any) -> None:
    """Neither generation's took an argument: who guesses one hands over the agent's id, as for the other."""
    made = enable_monitoring("shop-test")
    log_event("x")
    assert made.flush(10)
    report = off(made, given) if off is Monitoring.disable else off(given)
    assert (report.delivered, report.complete) == (3, True)
    assert "timeout_s is of " in made.problem
    assert stop_monitoring("shop-test") is None, "nothing is on any more"  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [0, -1, "5", True, 10**30, float("inf")])
def test_any_number_is_a_time_to_wait(collector: Collector, given: Any) -> None:
    made = enable_monitoring("shop-test")
    log_event("x")
    assert made.flush(10)
    assert skilld_monitor.disable_monitoring(given) is not None
    assert made.problem == ""
    assert made.flush("x") in (True, False)  # type: ignore[arg-type]
    made.disable(10)  # else its thread would be left to other tests


@pytest.mark.parametrize("off", [skilld_monitor.disable_monitoring, stop_monitoring])
def test_arguments_that_it_does_not_take_are_told_and_not_repeated(collector: Collector, off: Any) -> None:
    made = enable_monitoring("shop-test")
    report = off(2.0, KEY, agent_id=KEY)
    assert report.complete
    assert "'agent_id', one without a name" in made.problem
    assert KEY not in made.problem


@pytest.mark.parametrize(("given", "more"), [("shop-test", {}), (2.0, {"agent_id": "shop-test"})])
def test_who_asked_for_strictness_is_told_by_an_error_and_it_is_off(given: Any, more: Any) -> None:
    made = enable_monitoring("shop-test", strict=True)
    with pytest.raises(SettingsError):
        skilld_monitor.disable_monitoring(given, **more)
    assert skilld_monitor.disable_monitoring() is None
    assert made.stats().accepted == 2


@pytest.mark.parametrize("key", ["events_output_file", "log_file"])
def test_its_file_has_generation_bs_lines(tmp_path: Path, key: str) -> None:
    made = start_monitoring("shop-test", {key: "output/events.json"})
    with Span("work", {"n": 1}):
        log_event("step", {"at": 2})
    made.disable()
    lines = [json.loads(line) for line in (tmp_path / "output" / "events.json").read_text().splitlines()]
    assert [line["name"] for line in lines] == [
        "monitoring.start",
        "step",
        "work.start",
        "work.end",
        "monitoring.stop",
    ]
    assert {line["schema_version"] for line in lines} == {"1.0"}
    assert made.problem == ""


def test_what_it_asks_for_in_vain_is_told_and_the_key_is_nowhere(
    tmp_path: Path, collector: Collector, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    config = {
        "telemetry_endpoint": f"https://user:{KEY}@collector.example:9000",
        "access_key": KEY,
        "safe_tool_patching": False,
        "debug_mode": True,
        "debug_level": "DEBUG",
        "debug_log_file": "debug.log",
        "log_file": "events.json",
    }
    made = start_monitoring("shop-test", config)
    for key in ("telemetry_endpoint", "access_key", "safe_tool_patching"):
        assert f"{key} does nothing here: {REPLACED[key]}" in made.problem
    made.disable()
    assert "does nothing here" in (tmp_path / "debug.log").read_text()
    said = [*capfd.readouterr(), caplog.text, made.problem, str(collector.events())]
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(KEY in text for text in said)
    assert not any(KEY.encode() in raw for raw in files)


def test_switches_that_ask_for_nothing_are_not_told() -> None:
    config = {"safe_tool_patching": True, "access_key": None, "debug_mode": False, "debug_level": "ERROR"}
    made = start_monitoring("shop-test", config)
    assert made.problem == ""
    assert made.settings.debug_level == "INFO", "that was the level of what the package printed of itself"


@pytest.mark.parametrize("switch", ["debug_mode", "development_mode"])
def test_its_debug_output_goes_to_logging_and_is_not_printed(
    switch: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG, "skilld_monitor"):
        start_monitoring("shop-test", {switch: True}).disable()
    assert caplog.records
    assert capfd.readouterr() == ("", "")


def test_frameworks_can_be_left_alone() -> None:
    assert start_monitoring("shop-test").settings.frameworks
    assert not start_monitoring("shop-test", {"enable_framework_patching": False}).settings.frameworks


@pytest.mark.parametrize("config", [7, ["x"], {"no_such": 1}, {"agent_id": "other"}, {7: 8}, {"channels": object()}])
def test_a_dictionary_that_is_none_stops_nothing_unless_asked_to(config: Any) -> None:
    made = start_monitoring("shop-test", config)
    assert made.settings.agent_id == "shop-test"
    assert made.problem or config == {"agent_id": "other"}
    made.disable()


def test_enable_takes_the_dictionary_too_and_its_own_arguments_win(tmp_path: Path) -> None:
    made = enable_monitoring("shop-test", log_file="mine.json", config={"log_file": "theirs.json", "capture": "input"})
    assert made.log_path == str(tmp_path / "mine.json")
    assert made.settings.capture == {"input"}
    assert made.settings.log_format == "A"


def test_variables_of_the_other_are_told_of_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYLESTIO_ACCESS_KEY", KEY)
    monkeypatch.setenv("CYLESTIO_TELEMETRY_ENDPOINT", "http://collector.example")
    monkeypatch.setenv("CYLESTIO_TEST_DB_DIR", "/nowhere")
    monkeypatch.setenv("CYLESTIO_DEVELOPMENT_MODE", "true")
    made = enable_monitoring("shop-test")
    for name in ("CYLESTIO_ACCESS_KEY", "CYLESTIO_TELEMETRY_ENDPOINT", "CYLESTIO_TEST_DB_DIR"):
        assert f"{name} is not used: " in made.problem
    assert KEY not in made.problem
    assert made.settings.diagnostics == "logging"
    wrong = enable_monitoring("shop-test", debug_level="LOUD")
    assert "CYLESTIO_ACCESS_KEY is not used" in wrong.problem
    assert "LOUD" in wrong.problem


def test_a_warning_of_its_age_is_for_those_who_ask_for_strictness(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        start_monitoring("shop-test").disable()
    with pytest.warns(DeprecationWarning, match="enable_monitoring"):
        start_monitoring("shop-test", {"strict": True})
    with pytest.raises(SettingsError, match="no_such"):
        start_monitoring("shop-test", {"strict": True, "no_such": 1})
    done = run_program("import skilld_monitor\nskilld_monitor.start_monitoring('shop-test')\n", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_they_are_public_names() -> None:
    assert {"start_monitoring", "stop_monitoring", "get_database_path", "cleanup_old_events"} <= set(
        skilld_monitor.__all__
    )


LATE = """
import signal
import skilld_monitor
from skilld_monitor import disable_monitoring, enable_monitoring, log_event

first = enable_monitoring("shop-test")
for number in range(500):
    log_event("x", {"text": "y" * 50})
disable_monitoring(0)
for thread in __import__("threading").enumerate():
    if thread.name == "skilld-monitor":
        thread.join(20)
enable_monitoring("shop-test")
print(disable_monitoring(10).complete, signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
"""


def test_signals_are_put_back_though_one_run_had_no_time_to_end(tmp_path: Path) -> None:
    done = run_program(LATE, tmp_path)
    assert (done.stdout, done.stderr) == ("True True\n", "")
