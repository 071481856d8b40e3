"""What both generations of Cylestio Monitor left behind is taken over once, and what is none of it is told."""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
from datetime import UTC
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from monitor_kit import Collector, collecting
from skilld.monitor.batch import batch_of
from skilld.monitor.imports.importer import Imported, import_file
from skilld.monitor.imports.sender import BatchSender, NotDelivered
from skilld.monitor.imports.source import MAX_LINE_BYTES
from skilld.monitor.inspected import Inspected, Origin
from skilld.monitor.sinks.log_files import CURRENT, ended_files
from skilld.monitor.sinks.log_writer import LogRules, LogWriter
from skilld_monitor.context import Who
from skilld_monitor.lines import lines_of
from skilld_monitor.log_file import LogFile
from skilld_monitor.records import Record
from skilld_monitor.scanning import builtin
from skilld_monitor.trace import Place

JSON = dict[str, Any]
NOW_US = 1_700_000_000_000_000
LINES_A: list[JSON] = [
    {"message": "12:00:00 INFO Monitoring enabled"},
    {"event": "monitoring_enabled", "data": {"agent_id": "shop"}},
    {"event": "LLM_call_start", "channel": "LLM", "data": {"prompt": '[{"role": "user"}]', "alert": "none"}},
    {
        "event": "LLM_call_finish",
        "channel": "LLM",
        "data": {"duration": 1.5, "response": "Hello", "alert": "suspicious"},
    },
    {"event": "LLM_call_error", "channel": "LLM", "level": "error", "data": {"error": "overloaded"}},
    {"event": "LLM_call_blocked", "channel": "LLM", "level": "error", "data": {"reason": "dangerous", "prompt": "x"}},
    {"event": "call_finish", "channel": "API", "data": {"function": "find", "duration": 0.25, "result": "7"}},
    {"event": "order_placed", "channel": "SHOP", "level": "warning", "data": {"n": 1}},
]


def line_a(number: int, given: JSON) -> JSON:
    when = {"timestamp": f"2025-03-15T12:00:{number:02}.000001", "level": "INFO", "channel": "SYSTEM"}
    return given if "message" in given else {**when, "agent_id": "shop", **given}


def line_b(number: int, name: str, span: str | None = None, **attributes: Any) -> JSON:
    return {
        "schema_version": "1.0",
        "timestamp": f"2025-06-01T10:00:{number:02}.500000Z",
        "trace_id": "a" * 32,
        "span_id": span,
        "parent_span_id": "e" * 16 if span else None,
        "name": name,
        "level": "ERROR" if name.endswith("error") else "INFO",
        "attributes": {"session.id": "ses-1", "env.os.type": "Linux", "process.runtime.name": "x", **attributes},
        "agent_id": "stall",
    }


LINES_B = [
    line_b(0, "monitoring.start"),
    line_b(1, "llm.call.start", "1" * 16, **{"llm.vendor": "anthropic", "llm.model": "m", "llm.request.data": "hi"}),
    line_b(2, "tool.execution", "2" * 16, **{"tool.name": "find", "tool.params": {"a": 1}}),
    line_b(3, "tool.result", "2" * 16, **{"tool.name": "find", "tool.result": "7", "tool.status": "success"}),
    line_b(4, "llm.call.finish", "1" * 16, **{"llm.response.duration_ms": 2000, "llm.usage.input_tokens": 12}),
    line_b(5, "order.start", "3" * 16, n=1),
    line_b(6, "order.error", "3" * 16, **{"error.type": "KeyError", "error.message": "no"}),
    line_b(7, "llm.call.start", "4" * 16, **{"llm.model": "never ends"}),
    line_b(8, "langgraph.transition", None, **{"transition.to": "b"}),
]


def write_lines(path: Path, lines: list[Any]) -> Path:
    path.write_bytes(b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines))
    return path


def file_a(folder: Path) -> Path:
    return write_lines(folder / "a.json", [line_a(number, given) for number, given in enumerate(LINES_A)])


def base_a(path: Path, lines: list[JSON] | None = None) -> Path:
    with sqlite3.connect(path) as db:
        db.execute(
            "CREATE TABLE agents (id INTEGER PRIMARY KEY, agent_id TEXT UNIQUE, created_at TEXT, last_seen TEXT)"
        )
        db.execute(
            "CREATE TABLE events (id INTEGER PRIMARY KEY, agent_id INTEGER, event_type TEXT, channel TEXT, level TEXT,"
            " timestamp TEXT, data JSON)"
        )
        db.execute("INSERT INTO agents (id, agent_id) VALUES (1, 'shop')")
        for line in lines if lines is not None else [line_a(n, given) for n, given in enumerate(LINES_A)]:
            if "event" in line:
                row = (1, line["event"], line["channel"], line["level"], line["timestamp"].replace("T", " "))
                db.execute("INSERT INTO events VALUES (NULL, ?, ?, ?, ?, ?, ?)", (*row, json.dumps(line["data"])))
    db.close()
    return path


def take(collector: Collector, path: Path, **given: Any) -> Imported:
    sender = BatchSender(collector.path)
    try:
        return import_file(path, sender.send, zone=given.pop("zone", UTC), **given)
    finally:
        sender.close()


def test_a_file_of_generation_a_is_taken_over_once(tmp_path: Path) -> None:
    with collecting(tmp_path / "c") as collector:
        done = take(collector, file_a(tmp_path))
        assert (done.stored, done.reading.records, done.reading.notes, done.problem) == (7, 7, 1, "")
        found = {event["name"]: event for event in collector.events()}
        again = take(collector, file_a(tmp_path))
        assert (again.stored, again.as_json()["already_there"]) == (0, 7)
    assert {event["agent"] for event in found.values()} == {"shop"}
    chat = found["chat"]
    assert (chat["duration_ms"], chat["status"], chat["channel"]) == (1500, "ok", "LLM")
    assert chat["time"] == "2025-03-15T12:00:01.500001Z", "it began when it ended, less what it took"
    assert chat["data"]["gen_ai.output.messages"] == "Hello"
    assert chat["data"]["alert"] == "suspicious"
    assert found["find"]["duration_ms"] == 250
    assert found["llm.start"]["data"]["gen_ai.input.messages"] == '[{"role": "user"}]'
    assert found["llm.error"]["level"] == "ERROR"
    assert (found["order_placed"]["level"], found["order_placed"]["channel"]) == ("WARNING", "SHOP")


@pytest.mark.parametrize("log_format", ["A", "B"])
def test_what_our_own_client_wrote_comes_back_as_the_spans_they_were(tmp_path: Path, log_format: str) -> None:
    file = LogFile(str(tmp_path / "ours.json"), "shop", full=True, log_format=log_format)
    data = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.response.finish_reasons": ["stop"]}
    who = Who(session="s-1")
    inner = Place("a" * 32, "2" * 16, "1" * 16)
    file.write(
        [
            Record("chat m", data, channel="LLM", place=inner, duration_ms=250.0, status="ok", who=who),
            Record("work", {}, place=Place("a" * 32, "1" * 16), duration_ms=300.0, status="ok", who=who),
        ]
    )
    file.close()
    with collecting(tmp_path / "c") as collector:
        assert take(collector, tmp_path / "ours.json", zone=None).stored == 2
        work, chat = sorted(collector.events(), key=lambda event: str(event["channel"]), reverse=True)
    assert (work["span"], work["parent"], work["duration_ms"], work["session"]) == ("1" * 16, None, 300, "s-1")
    assert (chat["span"], chat["parent"], chat["duration_ms"], chat["session"]) == ("2" * 16, "1" * 16, 250, "s-1")
    assert chat["data"]["gen_ai.response.finish_reasons"] == ["stop"]


def full_file(folder: Path, log_format: str) -> Path:
    """What a client wrote that had all content captured, with something grave in it."""
    file = LogFile(str(folder / "ours.json"), "shop", full=True, log_format=log_format, run="ab" * 16)
    chat = {
        "gen_ai.operation.name": "chat",
        "gen_ai.input.messages": [{"role": "user", "content": "rm -rf /"}],
        "gen_ai.output.messages": "no",
    }
    called = {"function.name": "f", "args": [1, "2"], "kwargs": {"a": None}, "result": {"b": [1]}}
    file.write(
        [
            Record("monitoring_enabled", {"client": "1"}),
            Record("chat", chat, channel="LLM", place=Place("a" * 32, "1" * 16), duration_ms=250.0, status="ok"),
            Record("f", called, place=Place("a" * 32, "2" * 16), duration_ms=1.0, status="ok"),
            Record("mine", {"args": "as is"}, place=Place("a" * 32, "3" * 16), duration_ms=1.0, status="ok"),
            Record("order", {"n": 1, "event_category": "shop", "model": {"name": "m"}}),
        ]
    )
    file.close()
    return Path(file.path)


@pytest.mark.parametrize("log_format", ["A", "B"])
def test_what_a_file_has_for_other_readers_alone_is_not_taken_over(tmp_path: Path, log_format: str) -> None:
    path = full_file(tmp_path, log_format)
    with collecting(tmp_path / "c") as collector:
        done = take(collector, path, zone=None)
        found = {event["name"]: event for event in collector.events()}
    assert (done.stored, done.reading.bad, done.reading.notes) == (5, 0, 1 if log_format == "B" else 0)
    assert found.keys() == {"monitoring_enabled", "chat", "f", "mine", "order"}
    chat, called, mine = found["chat"]["data"], found["f"]["data"], found["mine"]["data"]
    assert chat["gen_ai.input.messages"] == [{"role": "user", "content": "rm -rf /"}]
    assert chat["gen_ai.output.messages"] == "no"
    assert (called["args"], called["kwargs"], called["result"]) == ([1, "2"], {"a": None}, {"b": [1]})
    assert mine["args"] == "as is"
    assert found["order"]["data"] == {"n": 1, "event_category": "shop", "model": {"name": "m"}}
    assert found["monitoring_enabled"]["data"] == {"client": "1"}
    for event in (found["monitoring_enabled"], found["order"]):
        assert (event["trace"], event["session"]) == (None, None), "those of the run are made up"
    assert not [key for key in chat if key.startswith(("security.", "host.", "env.", "process.", "session."))]
    assert not [key for key in chat if key.endswith("timestamp")]


def test_what_a_model_was_asked_is_found_where_generation_b_has_it(tmp_path: Path) -> None:
    asked = {"messages": [{"role": "user", "content": "hi"}], "model": "m", "system": "be brief"}
    start = line_b(1, "llm.call.start", "1" * 16, **{"llm.model": "m", "llm.request.data": asked})
    with collecting(tmp_path / "c") as collector:
        take(collector, write_lines(tmp_path / "b.json", [start]))
        (event,) = collector.events()
    assert event["data"]["gen_ai.input.messages"] == asked["messages"]
    assert event["data"]["gen_ai.system_instructions"] == "be brief"


def test_its_data_base_holds_the_same_events_as_its_file(tmp_path: Path) -> None:
    with collecting(tmp_path / "c") as collector:
        assert take(collector, base_a(tmp_path / "a.db")).stored == 7
        assert take(collector, base_a(tmp_path / "copy.db")).stored == 0
        assert take(collector, file_a(tmp_path)).stored == 0, "the file says what the data base says"


def test_a_file_that_grew_is_taken_over_from_where_it_was(tmp_path: Path) -> None:
    with collecting(tmp_path / "c") as collector:
        path = file_a(tmp_path)
        assert take(collector, path).stored == 7
        with path.open("a") as file:
            file.write(json.dumps(line_a(30, {"event": "late", "data": {}})) + "\n")
        path.rename(tmp_path / "renamed.json")
        assert take(collector, tmp_path / "renamed.json").stored == 1


def test_records_that_are_alike_in_everything_are_all_taken_over(tmp_path: Path) -> None:
    same = line_a(1, {"event": "tick", "data": {"n": 1}})
    with collecting(tmp_path / "c") as collector:
        path = write_lines(tmp_path / "a.json", [same, same, same])
        assert take(collector, path).stored == 3
        assert take(collector, path).stored == 0


def test_records_that_are_alike_are_all_taken_over_where_another_stands_between_them(tmp_path: Path) -> None:
    same, others = line_a(1, {"event": "tick"}), [line_a(n, {"event": "tick"}) for n in (0, 2, 3)]
    with collecting(tmp_path / "c") as collector:
        path = write_lines(tmp_path / "a.json", [same, others[0], same, *others[1:], same])
        assert take(collector, path).stored == 6
        assert take(collector, path).stored == 0


def test_the_time_is_that_of_the_zone_that_is_named(tmp_path: Path) -> None:
    with collecting(tmp_path / "c") as collector:
        path = write_lines(tmp_path / "a.json", [line_a(1, {"event": "tick", "data": {}})])
        take(collector, path, zone=ZoneInfo("Europe/Berlin"))
        (event,) = collector.events()
    assert event["time"] == "2025-03-15T11:00:01.000001Z"


@pytest.mark.parametrize("packed", [False, True])
def test_two_records_of_generation_b_become_one_span(tmp_path: Path, packed: bool) -> None:
    path = write_lines(tmp_path / "b.json", LINES_B)
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    with collecting(tmp_path / "c") as collector:
        assert take(collector, path).stored == 6
        assert take(collector, path).stored == 0
        found = {event["name"]: event for event in collector.events()}
    chat, tool, order = found["chat m"], found["execute_tool find"], found["order"]
    assert (chat["duration_ms"], chat["span"], chat["parent"], chat["trace"]) == (2000, "1" * 16, "e" * 16, "a" * 32)
    assert (chat["session"], chat["channel"], chat["agent"]) == ("ses-1", "LLM", "stall")
    assert chat["data"]["gen_ai.request.model"] == "m"
    assert chat["data"]["gen_ai.usage.input_tokens"] == 12
    assert "env.os.type" not in chat["data"]
    assert (tool["duration_ms"], tool["data"]["gen_ai.tool.call.result"]) == (1000, "7")
    assert (order["status"], order["level"], order["data"]["error.type"]) == ("error", "ERROR", "KeyError")
    assert found["llm.start"]["span"] == "4" * 16, "what never ended stays an event"
    assert found["monitoring_enabled"]["duration_ms"] is None


HOSTILE: list[Any] = [
    b"\xff\xfe\x00\n",
    b"{not json}\n",
    b"[" * 100_000 + b"\n",
    b"7\n",
    b'{"a": 1}\n',
    b"\n",
    {"schema_version": "9.9", "name": "x"},
    {"schema_version": "1.0", "name": 7},
    {"schema_version": "1.0", "name": "x", "timestamp": "2025-06-01T10:00:00Z", "attributes": [1]},
    {"schema_version": "1.0", "name": "x", "timestamp": "yesterday", "attributes": {}},
    {"event": "x", "timestamp": "1815-12-10T00:00:00", "data": {}},
    {"event": ["x"], "timestamp": "2025-06-01T10:00:00", "data": {}},
    b'{"event": "x", "timestamp": "2025-06-01T10:00:00", "data": {"n": NaN, "m": 1e999, "k": "\\ud800"}}\n',
    b'{"event": "long", "data": "' + b"x" * MAX_LINE_BYTES + b'"}\n',
    line_a(1, {"event": "good", "data": {"deep": json.loads("[" * 900 + "]" * 900), "big": "x" * 300_000}}),
    b'{"event": "torn", "timest',
]


def test_lines_that_are_none_are_told_and_the_others_count(tmp_path: Path) -> None:
    with collecting(tmp_path / "c") as collector:
        done = take(collector, write_lines(tmp_path / "bad.json", HOSTILE))
        names = [event["name"] for event in collector.events()]
    assert (done.stored, done.refused, done.reading.bad, done.problem) == (2, 0, 13, "")
    assert names == ["x", "good"]
    assert dict(done.reading.problems) == {
        1: "it is not UTF-8",
        2: "it is not JSON",
        3: "it is not JSON",
        4: "it is no object",
        5: "it is a record of neither generation, and none of ours",
        7: "schema_version: only 1.0 is known",
        8: "name: expected a name",
        9: "attributes: expected an object",
        10: "timestamp: expected a time such as 2025-03-15T09:30:00.000000",
        11: "timestamp: it is before 1970",
        12: "event: expected a name",
        14: f"it is longer than {MAX_LINE_BYTES} bytes",
        16: "it breaks off in the middle",
    }


def test_files_that_are_none_are_refused_with_a_reason(tmp_path: Path) -> None:
    whole = base_a(tmp_path / "whole.db")
    raw = whole.read_bytes()
    (tmp_path / "cut.db").write_bytes(raw[: len(raw) // 2])
    (tmp_path / "header.db").write_bytes(raw[:16] + b"\xff" * 4000)
    (tmp_path / "link.json").symlink_to(whole)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"x\n" * 99_999)[:-50])
    with sqlite3.connect(tmp_path / "other.db") as db:
        db.execute("CREATE TABLE agents (id)")
        db.execute("CREATE VIEW events AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT * FROM n")
    db.close()
    with sqlite3.connect(tmp_path / "columns.db") as db:
        db.execute("CREATE TABLE agents (id, agent_id)")
        db.execute("CREATE TABLE events (id, event_type, data)")
    db.close()
    found = {
        name: import_file(tmp_path / name, None).problem
        for name in ("cut.db", "header.db", "link.json", "pipe", "cut.gz", "other.db", "columns.db", "none", ".")
    }
    assert all(found.values()), found
    assert found["link.json"] == "it is a link: name the file itself"
    assert "tables agents and events" in found["other.db"]
    assert "no column agent_id, channel" in found["columns.db"]


def test_rows_that_are_none_are_told_by_their_number(tmp_path: Path) -> None:
    path = base_a(tmp_path / "a.db", [line_a(1, {"event": "good", "data": {}})])
    with sqlite3.connect(path) as db:
        for data, when in (("{", "2025-01-01"), (None, "2025-01-01"), ("{}", None), (b"\xff", "2025-01-01")):
            db.execute("INSERT INTO events VALUES (NULL, 1, 'x', 'S', 'INFO', ?, ?)", (when, data))
        db.execute("INSERT INTO events VALUES (NULL, 99, 'strangers', 'S', 'INFO', '2025-01-01', '{}')")
    db.close()
    with collecting(tmp_path / "c") as collector:
        done = take(collector, path)
        agents = {event["name"]: event["agent"] for event in collector.events()}
    assert [where for where, _ in done.reading.problems] == [2, 3, 4, 5]
    assert agents == {"good": "shop", "strangers": "unknown"}


def test_a_dry_run_counts_and_sends_nothing(tmp_path: Path) -> None:
    done = import_file(file_a(tmp_path), None, zone=UTC)
    assert (done.events, done.stored, done.as_json()["already_there"]) == (7, None, None)


def test_a_long_file_goes_in_many_batches_and_tells_how_far_it_is(tmp_path: Path) -> None:
    lines = [line_a(n % 60, {"event": "tick", "agent_id": f"agent-{n % 3}", "data": {"n": n}}) for n in range(5_000)]
    path = write_lines(tmp_path / "long.json", lines)
    told: list[tuple[int, int]] = []
    with collecting(tmp_path / "c") as collector:
        done = take(collector, path, progress=lambda *facts: told.append(facts))
        assert collector.count() == done.stored == 5_000
    assert len(told) > 10
    assert told == sorted(told)
    assert told[-1] == (path.stat().st_size,) * 2


def test_with_no_daemon_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotDelivered, match="No such file"):
        BatchSender(tmp_path / "monitor.sock").send(b"{}")


def test_what_the_daemon_will_not_have_is_not_tried_again(tmp_path: Path) -> None:
    with collecting(tmp_path / "c") as collector:
        sender = BatchSender(collector.path, sleep=lambda _s: pytest.fail("it waited"))
        with pytest.raises(NotDelivered, match="no object"):
            sender.send(b"7")


def test_the_log_file_of_our_own_client_says_what_it_reported(tmp_path: Path) -> None:
    """What the daemon has is not taken over again; what was written while it was away is."""
    place = Place("a" * 32, "b" * 16, None)
    record = Record(
        "chat m", {"gen_ai.operation.name": "chat"}, place=place, time_us=NOW_US, duration_ms=2.0, status="ok"
    )
    lines = [line for span in (record,) for line in lines_of(span, "shop", builtin(), full=True)]
    path = write_lines(tmp_path / "shop.json", lines)
    with collecting(tmp_path / "c") as collector:
        assert take(collector, path, zone=None).stored == 1
        (event,) = collector.events()
        reported = {"seq": 1, "time_us": NOW_US, "name": "chat m", "level": "INFO", "data": {}, "trace": "a" * 32}
        reported |= {"span": "b" * 16, "duration_ms": 2.0, "status": "ok"}
        sender = BatchSender(collector.path)
        line = json.dumps({"batch": 1, "run": "c" * 32, "agent": "shop", "events": [reported]}).encode()
        assert sender.send(line).stored == 0
        sender.close()
    assert [line["event"] for line in lines] == ["LLM_call_start", "LLM_call_finish"]
    assert (event["span"], event["duration_ms"], event["time"]) == ("b" * 16, 2.0, "2023-11-14T22:13:20.000000Z")


OURS: list[JSON] = [
    {"seq": 1, "name": "order", "data": {"n": 1, "deep": [{"a": None}]}, "session": "s", "user": "u", "tags": ["t"]},
    {"seq": 2, "name": "skilld.log.end", "data": {"sha256": "x"}, "level": "ERROR", "masked": ["card"]},
    {
        "seq": 3,
        "name": "chat m",
        "data": {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "skilld.start": True},
        "trace": "a" * 32,
        "span": "b" * 16,
        "parent": "c" * 16,
        "duration_ms": 2.5,
        "status": "error",
    },
    {"seq": 4, "name": "of a sub-agent", "data": "text", "agent": "clerk"},
    {"seq": 5, "name": "monitoring_enabled", "data": {"client": "1"}},
    {"seq": 6, "name": "monitoring.start", "data": {"n": 1}},
]


@pytest.mark.parametrize("format", ["skilld", "B"])
def test_what_was_written_out_comes_back_once_wherever_it_is(tmp_path: Path, format: Any) -> None:
    """By the files of an event log, whose lines are those of `export`, with their last lines."""
    made = [{"time_us": NOW_US + n, "level": "INFO", "channel": "SHOP", **given} for n, given in enumerate(OURS)]
    head = {"batch": 1, "run": "ab" * 16, "agent": "shop", "pid": 7, "program": "p", "environment": "test"}
    (tmp_path / "one").mkdir()
    with collecting(tmp_path / "one") as collector:
        collector.store.write([(Inspected(batch_of({**head, "events": made})), Origin(os.getuid(), 7))])
        written = collector.events()
        writer = LogWriter(LogRules(folder=tmp_path / "log", format=format, max_file_bytes=4096))
        writer.open()
        for _ in range(6):  # until one ends: what is in it twice is the same event
            writer.append(sorted(written, key=lambda event: event["id"]))
        writer.tidy()
        writer.close()
        files = [*ended_files(tmp_path / "log"), tmp_path / "log" / CURRENT]
        assert len(files) > 1
        again = [take(collector, path) for path in files]
    (tmp_path / "two").mkdir()
    with collecting(tmp_path / "two") as collector:
        first = [take(collector, path) for path in files]
        read = collector.events()
    assert [done.stored for done in again] == [0] * len(files)
    assert sum(done.stored or 0 for done in first) == len(OURS)
    assert [(done.reading.bad, done.refused, done.problem) for done in first] == [(0, 0, "")] * len(files)
    assert sum(done.reading.notes for done in first) == len(files) - 1
    kept = ["run", "seq", "time", "agent", "name", "channel", "level", "trace", "span", "parent", "duration_ms"]
    kept += ["session"]
    if format == "skilld":
        kept += ["status", "data", "user", "tags", "masked", "pid", "program", "environment", "model"]
    by_seq = [sorted(found, key=lambda event: event["seq"]) for found in (written, read)]
    for before, after in zip(*by_seq, strict=True):
        if format == "B" and before["duration_ms"]:
            before = {**before, "duration_ms": after["duration_ms"], "level": "ERROR"}
        assert {key: after[key] for key in kept} == {key: before[key] for key in kept}


@pytest.mark.parametrize(
    "change", [{"run": "x"}, {"seq": -1}, {"seq": 1.5}, {"time": None}, {"time": "soon"}, {"run": None}, {"time": 5}]
)
def test_a_line_of_ours_that_does_not_say_which_event_it_was_is_told(tmp_path: Path, change: JSON) -> None:
    line = {
        "id": 1,
        "run": "ab" * 16,
        "seq": 1,
        "time": "2026-01-15T09:30:00Z",
        "name": "x",
        "level": "INFO",
        "data": 1,
    }
    odd = {**line, "seq": 2, "pid": 1 << 70, "agent": 5, "program": [], "tags": {}, "trace": "zz"}
    path = write_lines(tmp_path / "x", [{**line, **change}, line, odd])
    with collecting(tmp_path) as collector:
        done = take(collector, path)
    assert (done.reading.bad, done.stored, done.refused) == (1, 1, 1)
    assert done.reading.problems[0][0] == 1


def test_numbers_that_json_does_not_have_stop_no_file(tmp_path: Path) -> None:
    line = {"id": 1, "run": "ab" * 16, "seq": 1, "time": "2026-01-15T09:30:00Z", "name": "x", "level": "INFO"}
    texts = [
        *(json.dumps({**line, "seq": 1, "data": {"n": "HUGE"}, "duration_ms": "HUGE"}).replace('"HUGE"', "1e400"),),
        *(json.dumps({**line, "seq": 2, "data": {"n": float("nan"), "k": "\ud800"}}), json.dumps({**line, "seq": 3})),
    ]
    path = tmp_path / "x"
    path.write_text("".join(f"{text}\n" for text in texts))
    with collecting(tmp_path) as collector:
        done = take(collector, path)
        assert (done.reading.bad, done.stored, done.refused) == (0, 3, 0)
        assert [event["data"] for event in collector.events()] == [{"n": None}, {"n": None, "k": "?"}, None]
