"""The program's own file: the lines of both generations, with secrets masked."""

from __future__ import annotations

import json
import re
import resource
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from skilld_monitor import Span, enable_monitoring, log_error, log_event, monitor_call
from skilld_monitor.context import agent, session, tags, user
from skilld_monitor.envelope import envelopes, process_facts
from skilld_monitor.log_file import LogFile
from skilld_monitor.records import event
from skilld_monitor.scanning import Direction, Finding, RuleSet

SECRETS = {
    "key": "sk-ant-api03-" + "a1B2c3D4e5F6g7H8" * 5 + "-AA",
    "aws": "AKIAQ3EGRUWSPN4ZJTEK",
    "card": "4111 1111 1111 1111",
    "token": "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8",
}
JSON = dict[str, Any]


def lines_of(path: str | None) -> list[JSON]:
    assert path is not None
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def a_call(**changed: Any) -> list[JSON]:
    given: JSON = {
        "name": "chat claude-x",
        "level": "INFO",
        "channel": "LLM",
        "agent": "shop",
        "time_us": 1_700_000_000_123_456,
        "data": {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "anthropic",
            "gen_ai.request.model": "claude-x",
            "gen_ai.request.max_tokens": 100,
            "gen_ai.response.id": "msg_1",
            "gen_ai.response.finish_reasons": ["end_turn"],
            "gen_ai.usage.input_tokens": 12,
            "gen_ai.usage.output_tokens": 30,
            "gen_ai.usage.cache_read.input_tokens": 4,
        },
        "trace": "a" * 32,
        "span": "b" * 16,
        "parent": None,
        "duration_ms": 1500.4,
        "status": "ok",
        **changed,
    }
    return envelopes(**given)


def test_a_call_of_a_model_is_the_two_events_that_generation_b_knows() -> None:
    start, finish = a_call(session="s-1", tags=("beta",))
    assert (start["name"], finish["name"]) == ("llm.call.start", "llm.call.finish")
    assert (start["timestamp"], finish["timestamp"]) == ("2023-11-14T22:13:20.123456Z", "2023-11-14T22:13:21.623856Z")
    assert start["attributes"] == {
        "session.id": "s-1",
        "tags": ["beta"],
        "llm.vendor": "anthropic",
        "llm.model": "claude-x",
        "llm.request.type": "chat",
        "llm.request.max_tokens": 100,
        "llm.request.timestamp": "2023-11-14T22:13:20.123456Z",
    }
    answered = finish["attributes"]
    assert isinstance(answered, dict)
    assert answered["llm.response.stop_reason"] == "end_turn"
    assert answered["llm.usage.total_tokens"] == 42
    assert answered["llm.response.duration_ms"] == 1500
    assert answered["gen_ai.usage.cache_read.input_tokens"] == 4, "what has no name there keeps its own"
    assert set(start) == {
        *("schema_version", "timestamp", "trace_id", "span_id", "parent_span_id", "name", "level", "attributes"),
        *("agent_id", "channel"),
    }


@pytest.mark.parametrize(
    ("operation", "status", "names"),
    [
        ("chat", "error", ["llm.call.start", "llm.call.error"]),
        ("embeddings", "ok", ["llm.call.start", "llm.call.finish"]),
        ("execute_tool", "ok", ["tool.execution", "tool.result"]),
        ("execute_tool", "error", ["tool.execution", "tool.error"]),
        ("invoke_agent", "cancelled", ["agent.invoke.start", "agent.invoke.end"]),
        (None, "ok", ["chat claude-x.start", "chat claude-x.end"]),
        (None, "error", ["chat claude-x.start", "chat claude-x.error"]),
    ],
)
def test_each_kind_of_call_has_its_names(operation: str | None, status: str, names: list[str]) -> None:
    found = a_call(data={"gen_ai.operation.name": operation}, status=status)
    assert [line["name"] for line in found] == names
    assert found[1]["level"] == ("ERROR" if status == "error" else "INFO")
    assert found[1]["attributes"]["status"] == status


def test_a_tool_says_what_it_was_given_and_what_came_of_it() -> None:
    data = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "search",
        "gen_ai.tool.call.id": "t1",
        "gen_ai.tool.call.arguments": {"q": "x"},
        "gen_ai.tool.call.result": "y",
    }
    start, end = a_call(data=data)
    assert start["attributes"] == {
        "gen_ai.operation.name": "execute_tool",
        "tool.name": "search",
        "tool.id": "t1",
        "tool.params": {"q": "x"},
    }
    assert isinstance(end["attributes"], dict)
    assert (end["attributes"]["tool.result"], end["attributes"]["tool.status"]) == ("y", "success")
    (_start, failed) = a_call(data=data, status="error")
    assert isinstance(failed["attributes"], dict)
    assert failed["attributes"]["tool.status"] == "error"


def test_what_generation_b_has_as_text_is_text() -> None:
    data = {
        "gen_ai.operation.name": "chat",
        "gen_ai.system": "old",
        "gen_ai.response.finish_reasons": ["stop", "length"],
    }
    _start, finish = a_call(data=data)
    assert isinstance(finish["attributes"], dict)
    assert finish["attributes"]["llm.response.stop_reason"] == "stop,length"
    assert finish["attributes"]["llm.vendor"] == "old"
    (start, _finish) = a_call(data={"gen_ai.tool.name": "search"})
    assert start["name"] == "tool.execution", "a call that names a tool is one of a tool"


def test_an_event_is_one_line_whatever_its_data_and_time() -> None:
    for data, attributes in (({"a": 1}, {"a": 1}), (None, {}), ("text", {"data": "text"}), ([1], {"data": [1]})):
        (line,) = a_call(data=data, duration_ms=None, status=None, time_us=1 << 61)
        assert (line["attributes"], line["timestamp"]) == (attributes, "1970-01-01T00:00:00.000000Z")
    (line,) = a_call(data={}, duration_ms=None, status=None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", str(line["timestamp"]))


@pytest.mark.parametrize("log_format", ["A", "B"])
def test_no_secret_is_in_a_line_wherever_it_stands(tmp_path: Path, log_format: str) -> None:
    made = enable_monitoring("shop-test", log_file="log", log_format=log_format, full_events=True)
    for name, secret in SECRETS.items():
        log_event(f"uses {secret}", {"plain": secret, "deep": [{"er": f"it is {secret}."}], secret: 1})
        log_error("broke", ValueError(f"bad {secret}"))
        with session(secret), user(secret), tags(secret), agent(f"for {secret}"):
            monitor_call(lambda said: said)(f"{name}={secret}")
            log_event("in its own channel", {}, secret)
    made.disable()
    raw = Path(str(made.log_path)).read_text()
    assert len(raw.splitlines()) >= 4 * len(SECRETS)
    assert [name for name, secret in SECRETS.items() if secret in raw] == []


@pytest.mark.parametrize("log_format", ["A", "B"])
def test_ordinary_words_stay_as_they_are(tmp_path: Path, log_format: str) -> None:
    made = enable_monitoring("shop-test", log_file="log", log_format=log_format)
    data = {"said": "Please select the best hotel, and drop me a line.", "n": 1, "id": "a" * 32}
    with session("s-17"), user("u-4"), tags("beta"), agent("clerk"):
        log_event("order 66", data, "ORDERS")
    made.disable()
    line = lines_of(made.log_path)[1]
    assert line.get("parent_span_id") is None
    if log_format == "A":
        assert (line["event"], line["data"]) == ("order 66", data)
        assert (line["session_id"], line["user_id"], line["tags"]) == ("s-17", "u-4", ["beta"])
    else:
        context = {"session.id": "s-17", "user.id": "u-4", "tags": ["beta"]}
        said = {**process_facts(), **context, **data, "skilld.run": made.run}
        assert (line["name"], line["attributes"]) == ("order 66", said)
    assert (line["agent_id"], line["channel"]) == ("clerk", "ORDERS")


def test_what_cannot_be_looked_at_is_left_out_and_the_rest_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = RuleSet.mask

    def fail(self: RuleSet, value: object, direction: Direction = "event") -> tuple[object, list[Finding]]:
        if isinstance(value, dict) and "n" in value:
            raise RecursionError
        return mask(self, value, direction)

    monkeypatch.setattr(RuleSet, "mask", fail)
    made = enable_monitoring("shop-test", log_file="log")
    log_event("order", {"n": 1, "key": SECRETS["key"]})
    log_event("next", {"m": 2})
    made.disable()
    order, following = lines_of(made.log_path)[1:3]
    assert (order["event"], order["data"]) == ("order", "<not looked at: RecursionError>")
    assert following["data"] == {"m": 2}


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    made = enable_monitoring("shop-test", log_file=str(tmp_path / "file" / "log"))
    log_event("order")
    report = made.disable()
    assert (report.dropped, report.spooled) == (0, 3)
    assert made.problem == f"3 events could not be written to {tmp_path}/file/log.json"


def test_lines_of_generation_a_say_what_they_are_part_of(tmp_path: Path) -> None:
    made = enable_monitoring("shop-test", log_file="log")
    with Span("outer") as outer:
        monitor_call(len)([])
    made.disable()
    inner = lines_of(made.log_path)[1]
    assert (inner["event"], inner["trace_id"], inner["parent_span_id"]) == (
        "call_finish",
        outer.trace_id,
        outer.span_id,
    )


@pytest.mark.parametrize("log_format", ["A", "B"])
def test_a_time_of_which_the_local_calendar_has_none_costs_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_format: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        made = enable_monitoring("shop-test", log_file="log", log_format=log_format)
        log_event("before")
        log_event("last", timestamp=253_402_300_799)
        log_event("behind")
        made.disable(10)
    time.tzset()
    found = [(line.get("event") or line["name"], line["timestamp"][:16]) for line in lines_of(made.log_path)]
    assert ("last", "9999-12-31T23:59") in found
    assert {"before", "behind"} <= {name for name, _time in found}
    assert made.problem == ""


def test_a_disk_that_fills_in_the_middle_of_a_line_leaves_no_half_of_it(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    file = LogFile(str(path), "shop", full=False)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    file.write([event("first", {"text": "x" * 50}, "SYSTEM", "INFO")])
    room = len(path.read_bytes()) + 60
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        with pytest.raises(OSError, match="File too large"):
            file.write([event("second", {"text": "x" * 500}, "SYSTEM", "INFO")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    file.write([event("third", {}, "SYSTEM", "INFO")])
    file.close()
    assert [line["event"] for line in lines_of(str(path))] == ["first", "third"]
