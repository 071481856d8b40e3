"""Supervision reports."""

from __future__ import annotations

import logging

import pytest

from skill_actors.runtime import ExitKind, ExitReason, Report, ReportEvent, Reports


def crash(text: str = "boom") -> ExitReason:
    try:
        raise ValueError(text)
    except ValueError as error:
        return ExitReason(ExitKind.CRASH, error)


def test_a_report_is_text_and_goes_to_ring_and_subscribers(caplog: pytest.LogCaptureFixture) -> None:
    reports = Reports(clock=lambda: 12.5)
    seen: list[Report] = []
    reports.subscribe("metrics", seen.append)
    with pytest.raises(ValueError, match="'metrics' exists already"):
        reports.subscribe("metrics", seen.append)
    reports.report(ReportEvent.EXITED, "root", "a", crash())
    (report,) = reports.recent()
    assert seen == [report]
    assert (report.time, report.kind, report.message) == (12.5, ExitKind.CRASH, "crash: ValueError: boom")
    assert "in crash" in report.trace
    assert caplog.records[0].levelno == logging.ERROR
    assert "root: child a exited (crash: ValueError: boom)\nTraceback" in caplog.text
    assert reports.unsubscribe("metrics")
    assert not reports.unsubscribe("metrics")


def test_orderly_starts_and_exits_do_not_fill_the_ring() -> None:
    reports = Reports(keep=3)
    seen: list[Report] = []
    reports.subscribe("s", seen.append)
    for number in range(4):
        reports.report(ReportEvent.START_FAILED, "root", str(number))
    for _ in range(10):
        reports.report(ReportEvent.STARTED, "root", "session")
        reports.report(ReportEvent.EXITED, "root", "session", ExitReason(ExitKind.SHUTDOWN))
    assert [report.child for report in reports.recent()] == ["1", "2", "3"]
    assert len(seen) == 24


def test_a_raising_subscriber_is_logged_and_dropped(caplog: pytest.LogCaptureFixture) -> None:
    reports = Reports()
    seen: list[Report] = []

    def broken(report: Report) -> None:
        raise KeyError("metric")

    reports.subscribe("broken", broken)
    reports.subscribe("whole", seen.append)
    for _ in range(2):
        reports.report(ReportEvent.STARTED, "root", "a")
    assert len(seen) == 2
    assert caplog.text.count("'broken' failed and is dropped") == 1


def test_a_trace_is_bounded() -> None:
    reports = Reports()
    reports.report(ReportEvent.EXITED, "root", "a", crash("x" * 100_000))
    (report,) = reports.recent()
    assert len(report.trace) < 8_100
    assert len(report.message) < 600
