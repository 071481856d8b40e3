"""The real daemon with everything that events go to and come from, and what a kill and a restart make of it."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conftest import require
from e2e.harness import Daemon, running
from monitor_kit import run_program
from otlp_kit import SPAN, TRACE, span, traces_request
from skill_actors.testing import FakeMessagesApi, Reply, Text, serve_in_thread
from skilld.monitor.sinks.log_files import CURRENT, ended_files

pytestmark = pytest.mark.e2e

PAGE = Path(__file__).parents[2] / "docs/monitoring-sinks.md"
DRY = re.compile(r"^skillctl (monitor import --dry-run .*)$", re.MULTILINE)
OLD = ("a.db", "a.json", "b.json")
JSON = dict[str, Any]
BURST = """
import skilld_monitor
skilld_monitor.enable_monitoring("shop")
for n in range({first}, {last}):
    skilld_monitor.log_event("burst", {{"n": n}}, "ORDERS")
"""
BOTH_WAYS = """
import anthropic, skilld_monitor
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

provider = TracerProvider(resource=Resource.create({{"service.name": "shop"}}))
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter("http://127.0.0.1:{port}/v1/traces")))
trace.set_tracer_provider(provider)
skilld_monitor.enable_monitoring("shop")
client = anthropic.Anthropic(api_key="sk-test", base_url="{api}")
with trace.get_tracer("shop").start_as_current_span("order"):
    client.messages.create(model="claude-sonnet-5-5", max_tokens=9, messages=[{{"role": "user", "content": "hi"}}])
skilld_monitor.disable_monitoring()
provider.shutdown()
"""


def until(found: Callable[[], Any], within_s: float = 60.0) -> Any:
    """What is found, as soon as it is something."""
    deadline = time.monotonic() + within_s
    while not (value := found()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def logged(folder: Path) -> list[JSON]:
    """Events of all files of a log, in their order, as far as they are whole lines."""
    before: list[tuple[Path, int]] | None = None
    lines: list[bytes] = []
    while (now := files_of(folder)) != before:  # the daemon ends a file, or packs it, while it is read
        before, lines = now, []
        with suppress(FileNotFoundError):
            for path, _ in now:
                raw = path.read_bytes()
                whole, _, _ = (gzip.decompress(raw) if path.suffix == ".gz" else raw).rpartition(b"\n")
                lines += whole.splitlines()
    found = [json.loads(line) for line in lines]
    return [event for event in found if event.get("channel") == "ORDERS"]


def files_of(folder: Path) -> list[tuple[Path, int]]:
    """The files of a log with their numbers on the disk, each once: one that is packed may be there as it was, too."""
    ended = ended_files(folder)
    found: list[tuple[Path, int]] = []
    for path in [*ended, folder / CURRENT]:
        if path.with_name(f"{path.name}.gz") not in ended:
            with suppress(FileNotFoundError):
                found.append((path, path.stat().st_ino))
    return found


def has_more(folder: Path, count: int) -> list[JSON]:
    """The events, once there are more than so many."""
    found = logged(folder)
    return found if len(found) > count else []


def are_packed(folder: Path) -> bool:
    return all(path.suffix == ".gz" for path in ended_files(folder))


def otlp_port(daemon: Daemon) -> int:
    """Where it listens for OTLP."""
    found = until(lambda: re.search(r"OTLP on http://127\.0\.0\.1:(\d+)$", daemon.log.read_text(), re.MULTILINE))
    return int(found[1])


def test_a_log_has_each_event_once_over_kill_9_while_it_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    config = f'[monitor.event_log]\nfolder = "{folder}"\nmax_file_bytes = 65536\n'
    with running(tmp_path, config=config) as daemon:
        for first in (0, 1000):
            done = run_program(BURST.format(first=first, last=first + 1000), daemon.folder)
            assert (done.returncode, done.stderr) == (0, "")
            until(partial(has_more, folder, first))
            daemon.kill()
            daemon.start()
        numbers = [event["data"]["n"] for event in until(partial(has_more, folder, 1999))]
        sinks = json.loads(daemon.skillctl("monitor", "sinks", "--json").stdout)["items"]
        table = daemon.skillctl("monitor", "sinks").stdout
        until(partial(are_packed, folder))
        whole = daemon.skillctl("monitor", "verify", str(folder))
        ended_files(folder)[1].unlink()
        missing = daemon.skillctl("monitor", "verify", str(folder))
    assert numbers == list(range(2000))
    assert (whole.returncode, missing.returncode) == (0, 1)
    assert whole.stdout.count("as written") > 2
    assert "the file before it is missing" in missing.stdout
    assert [(sink["name"], sink["lost"], sink["failed"]) for sink in sinks] == [("event-log", 0, 0)]
    assert str(folder) in table


def test_a_call_that_is_reported_both_ways_is_kept_once(tmp_path: Path) -> None:
    with (
        serve_in_thread(FakeMessagesApi(respond=lambda _request: Reply([Text("hello")]))) as api,
        running(tmp_path, config='[monitor.otlp]\nlisten = "127.0.0.1:0"\n') as daemon,
    ):
        port = otlp_port(daemon)
        done = run_program(BOTH_WAYS.format(port=port, api=api.base_url), daemon.folder)
        assert (done.returncode, done.stderr) == (0, "")
        found = json.loads(daemon.skillctl("monitor", "query", "--json").stdout)["items"]
        metrics = daemon.skillctl("metrics").stdout
    spans = [event for event in found if event["duration_ms"] is not None]
    (order,) = [event for event in spans if event["name"] == "order"]
    (call,) = [event for event in spans if event["channel"] == "LLM"]
    assert (call["trace"], call["parent"]) == (order["trace"], order["span"])
    assert {event["uid"] for event in found} == {os.getuid()}
    assert 'skilld_monitor_otlp_requests_total{outcome="ok"}' in metrics


def old_files(folder: Path) -> None:
    """One of each kind, with an event each."""
    a = {"event": "placed", "timestamp": "2025-03-15T12:00:00", "level": "INFO", "channel": "SHOP", "agent_id": "old"}
    (folder / "a.json").write_text(json.dumps({**a, "data": {"n": 1}}) + "\n")
    b = {"schema_version": "1.0", "timestamp": "2025-06-01T10:00:00.5Z", "name": "shipped", "level": "INFO"}
    (folder / "b.json").write_text(json.dumps({**b, "trace_id": TRACE, "span_id": SPAN, "attributes": {"n": 3}}) + "\n")
    with sqlite3.connect(folder / "a.db") as db:
        db.execute("CREATE TABLE agents (id INTEGER PRIMARY KEY, agent_id TEXT)")
        db.execute(
            "CREATE TABLE events (id INTEGER PRIMARY KEY, agent_id, event_type, channel, level, timestamp, data)"
        )
        db.execute("INSERT INTO agents VALUES (1, 'old')")
        db.execute("INSERT INTO events VALUES (1, 1, 'packed', 'SHOP', 'INFO', '2025-03-15 13:00:00', '{\"n\": 2}')")
    db.close()


def test_old_files_are_taken_over_and_written_out_again(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        old_files(tmp_path)
        files = [str(tmp_path / name) for name in OLD]
        for command in DRY.findall(PAGE.read_text()) if PAGE.exists() else ():
            words = [str(tmp_path / word) if word in OLD else word for word in command.split()]
            assert daemon.skillctl(*words).stdout.count("would be taken over") == 3
        assert daemon.skillctl("monitor", "stats").stdout.startswith("0 events")
        first = json.loads(daemon.skillctl("monitor", "import", *files, "--json").stdout)["items"]
        again = daemon.skillctl("monitor", "import", *files)
        bad = daemon.skillctl("monitor", "import", str(tmp_path / "none.json"), "--timezone", "Europe/Berlin")
        (tmp_path / "torn.json").write_text('{"event": "x", "time')
        torn = daemon.skillctl("monitor", "import", str(tmp_path / "torn.json"))
        forms = {}
        for form in ("skilld", "B", "otlp"):
            out = tmp_path / f"out.{form}"
            done = daemon.skillctl("monitor", "export", "--format", form, "-o", str(out))
            assert done.returncode == 0, done.stderr
            forms[form] = [json.loads(line) for line in out.read_text().splitlines()]
        back = [daemon.skillctl("monitor", "import", str(tmp_path / f"out.{form}")) for form in ("skilld", "B")]
        taken = daemon.skillctl("monitor", "export", "-o", str(tmp_path / "out.B"))
        piped = daemon.skillctl("monitor", "export", "--agent", "old").stdout
    assert [item["stored"] for item in first] == [1, 1, 1]
    assert again.stdout.count("0 of 1 event are new, 1 was there already") == 3
    assert (bad.returncode, torn.returncode) == (1, 0)
    assert "No such file" in bad.stderr
    assert "breaks off in the middle" in torn.stderr
    assert [event["name"] for event in forms["skilld"]] == ["packed", "placed", "shipped"]
    assert [event["attributes"]["n"] for event in forms["B"]] == [2, 1, 3]
    assert [list(request) for request in forms["otlp"]] == [["resourceLogs"]]
    assert [done.stdout.count("0 of 3 events are new, 3 were there already") for done in back] == [1, 1]
    assert taken.returncode == 1, "a file that is there is left alone"
    assert [json.loads(line)["name"] for line in piped.splitlines()] == ["packed", "placed"]


def test_nobody_is_taken_for_somebody_else_over_tcp(tmp_path: Path) -> None:
    require(os.getuid() == 0, "takes root, to be two users")
    require(shutil.which("setpriv") is not None, "takes setpriv")
    require(shutil.which("curl") is not None, "takes curl")
    config = '[monitor.otlp]\nlisten = "127.0.0.1:0"\n[roles.report]\nuids = [65533]\n'
    with running(tmp_path, config=config) as daemon:
        port = otlp_port(daemon)
        found = {uid: _post_as(uid, port, daemon) for uid in (65533, 65532)}
        events = json.loads(daemon.skillctl("monitor", "query", "--json").stdout)["items"]
    assert found == {65533: "200", 65532: "403"}
    assert [event["uid"] for event in events] == [65533]


def _post_as(uid: int, port: int, daemon: Daemon) -> str:
    body = traces_request(span(spanId=f"{uid:016x}")).decode()
    command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    command += ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Content-Type: application/json"]
    url = f"http://127.0.0.1:{port}/v1/traces"
    return subprocess.run([*command, "--data-binary", body, url], capture_output=True, text=True, check=True).stdout
