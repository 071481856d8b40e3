"""Channels have levels and shares of their own; a share takes whole traces, and never an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor_kit import Collector
from skilld_monitor import SettingsError, Span, TraceContext, enable_monitoring, log_event, monitor_call
from skilld_monitor.channels import Sieve, read_channels
from skilld_monitor.records import Record
from skilld_monitor.trace import Place


@pytest.mark.parametrize(
    "given",
    [
        "LLM level=DEBUG sample=0.1, * level=error",
        "LLM level=DEBUG sample=0.1\n* level=error\n",
        {"LLM": {"level": "debug", "sample": 0.1}, "*": {"level": "ERROR"}},
        {"LLM": {"level": "DEBUG", "sample": "0.1"}, "*": {"level": "error", "sample": None}},
    ],
)
def test_every_spelling_is_read(given: object) -> None:
    assert read_channels(given) == {"LLM": {"level": "DEBUG", "sample": 0.1}, "*": {"level": "ERROR"}}
    assert read_channels("") == {}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("LLM level", "'level' in 'LLM level'"),
        ("level=DEBUG", "'level=DEBUG'"),
        ("LLM rate=1", "LLM is {'rate': '1'}; a channel has level and sample"),
        ("LLM level=loud", "LLM: level is 'loud'; there are DEBUG"),
        ("LLM sample=2", "LLM: sample is '2'; expected a number from 0 to 1"),
        ("LLM sample=nan", "LLM: sample is 'nan'"),
        ({"LLM": 7}, "LLM is 7"),
        (7, "channels is 7"),
    ],
)
def test_what_is_wrong_is_named(given: object, named: str) -> None:
    with pytest.raises(ValueError, match="channels") as raised:
        read_channels(given)
    assert named in str(raised.value)
    with pytest.raises(SettingsError):
        enable_monitoring("shop-test", channels=given, strict=True)


@given(st.text() | st.dictionaries(st.text(), st.dictionaries(st.sampled_from(["level", "sample"]), st.text())))
def test_whatever_is_said_of_channels_is_read_or_refused(said: Any) -> None:
    try:
        found = read_channels(said)
    except ValueError:
        return
    Sieve("INFO", found).keeps(Record("x", {}))


def test_a_file_says_it_in_lines(tmp_path: Path) -> None:
    (tmp_path / "skilld-monitor.ini").write_text(
        "[monitor]\nchannels =\n    LLM level=DEBUG sample=0.5\n    * level=ERROR\n"
    )
    made = enable_monitoring("shop-test")
    assert made.settings.channels == {"LLM": {"level": "DEBUG", "sample": 0.5}, "*": {"level": "ERROR"}}
    assert made.problem == ""


def test_a_channel_may_say_more_or_less_than_the_others(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKILLD_MONITOR_CHANNELS", "LLM level=DEBUG, NOISE level=ERROR")
    made = enable_monitoring("shop-test", debug_level="WARNING")
    for channel in ("LLM", "NOISE", "API"):
        for level in ("debug", "warning", "error"):
            log_event(f"{channel} {level}", {}, channel, level)
    assert made.flush()
    assert {event["name"] for event in collector.events()} == {
        *("LLM debug", "LLM warning", "LLM error"),
        "NOISE error",
        *("API warning", "API error"),
    }


def test_a_share_takes_whole_traces_and_each_error(collector: Collector) -> None:
    made = enable_monitoring("shop-test", channels={"*": {"sample": 0.25}, "ALWAYS": {"sample": 1}})

    def fail() -> None:
        raise ValueError("no")

    for n in range(400):
        TraceContext.reset()
        with Span("outer"), Span("inner"):
            log_event("event")
            log_event("always", {"n": n}, "ALWAYS")
            if n % 100 == 0:
                log_event("bad", {}, "SYSTEM", "error")
                with pytest.raises(ValueError, match="no"):
                    monitor_call(fail)()
    report = made.disable()
    names: dict[str, set[str]] = {}
    for event in collector.events():
        names.setdefault(event["trace"], set()).add(event["name"])
    counted = {name: sum(name in found for found in names.values()) for name in ("outer", "inner", "event", "always")}
    assert counted["always"] == 400
    assert 60 < counted["outer"] < 140
    assert counted["outer"] == counted["inner"] == counted["event"]
    assert all({"outer", "inner", "event"} & found in (set(), {"outer", "inner", "event"}) for found in names.values())
    assert sum("bad" in found and "fail" in found for found in names.values()) == 4
    assert report.sampled_out >= 3 * (400 - counted["outer"])
    assert report.dropped == 0


def test_programs_with_the_same_share_keep_the_same_traces() -> None:
    sieves = [Sieve("INFO", {"*": {"sample": 0.5}}) for _ in range(2)]
    records = [Record("x", {}, place=Place(f"{n:032x}", "1" * 16)) for n in range(0, 1 << 56, 1 << 48)]
    kept = [[sieve.keeps(record) for record in records] for sieve in sieves]
    assert kept[0] == kept[1]
    assert sum(kept[0]) == len(records) // 2


def test_no_share_at_all_and_records_of_no_trace() -> None:
    record: Any = Record("x", {}, channel="LLM")
    record.place = None
    assert not any(Sieve("INFO", {"LLM": {"sample": 0}}).keeps(record) for _ in range(100))
    half = Sieve("INFO", {"LLM": {"sample": 0.5}})
    assert 300 < sum(half.keeps(record) for _ in range(1000)) < 700
    assert half.sampled_out > 300


def test_what_monitoring_tells_of_itself_is_left_out_by_no_share(collector: Collector) -> None:
    made = enable_monitoring("shop-test", channels="* sample=0")
    log_event("one of none")
    made.disable()
    assert [event["name"] for event in collector.events()] == ["monitoring_enabled", "monitoring_disabled"]
