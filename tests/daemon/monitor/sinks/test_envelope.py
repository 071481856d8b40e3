"""A line of generation B that the daemon writes has all that the client's has, as far as the daemon knows it."""

from __future__ import annotations

import os
from typing import Any

from sink_kit import event
from skilld.monitor.sinks.envelope import envelopes
from skilld_monitor.envelope import ALERT, host_facts, session_of

RUN = "0123456789abcdef" * 2
SPAN: dict[str, Any] = {"trace": "a" * 32, "span": "b" * 16, "duration_ms": 2.0, "status": "ok"}


def test_each_line_says_the_host_and_the_process_that_the_kernel_named() -> None:
    forged = {"process.id": 1, "skilld.run": "mine", ALERT: True}
    for given in ({}, SPAN):
        lines = envelopes(event(run=RUN, pid=77, data=forged, **given))
        assert len(lines) == (2 if given else 1)
        for line in lines:
            assert host_facts().items() <= line["attributes"].items()
            assert (line["attributes"]["process.id"], line["attributes"]["skilld.run"]) == (77, RUN)
            assert ALERT not in line["attributes"]
            assert "process.runtime.version" not in line["attributes"], "a program need not be one of Python"
    assert host_facts()["host.name"] == os.uname().nodename


def test_what_is_in_no_trace_and_no_session_is_in_those_of_its_run() -> None:
    (line,) = envelopes(event(run=RUN))
    assert (line["trace_id"], line["attributes"]["session.id"]) == (RUN, session_of(RUN))
    start, _end = envelopes(event(run=RUN, session="s-1", **SPAN))
    assert (start["trace_id"], start["attributes"]["session.id"]) == ("a" * 32, "s-1")


def test_an_event_has_beside_its_attributes_what_generation_b_has_there() -> None:
    data = {"n": 1, "event_category": "shop", "performance": {"ms": 1}, "model": {"name": "m"}, "security": {"a": 1}}
    (line,) = envelopes(event(run=RUN, data=data))
    assert (line["event_category"], line["performance"], line["model"]) == ("shop", {"ms": 1}, {"name": "m"})
    assert line["security"] == {"a": 1}
    assert {"n": 1}.items() <= line["attributes"].items()
    assert not {"event_category", "performance", "model", "security"} & line["attributes"].keys()


def test_monitoring_begins_and_ends_under_its_names() -> None:
    names = [envelopes(event(run=RUN, name=name))[0]["name"] for name in ("monitoring_enabled", "monitoring_disabled")]
    assert names == ["monitoring.start", "monitoring.stop"]
