"""Generation A's questions, asked by a program that has nothing but the client, answered by the real daemon."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import skilld_monitor
from conftest import require
from e2e.harness import Daemon, running
from e2e.users_kit import folder_for_all
from monitor_kit import run_program

pytestmark = pytest.mark.e2e

OTHER = 54_321  # whom this host does not know, as a container that runs as anybody

REPORTS = """
import datetime, skilld_monitor
from skilld_monitor.compat.db.utils import log_to_db
from skilld_monitor.context import session, tags, user
now = datetime.datetime.now()
skilld_monitor.enable_monitoring("shop-test")
with session("s-1"), user("u-1"), tags("beta"):
    skilld_monitor.log_event("order", {"n": 1, "text": "two green hats"}, "ORDERS", "warning")
skilld_monitor.log_event("order", {"n": 2}, "ORDERS", "error")
skilld_monitor.monitor_llm_call(len)([])
try:
    skilld_monitor.monitor_llm_call(int)("none")
except ValueError:
    pass
log_to_db("other-test", "old", {"n": 3}, "ARCHIVE", "info", now - datetime.timedelta(days=40))
log_to_db("other-test", "less old", {"n": 4}, "ARCHIVE", "info", now - datetime.timedelta(hours=30))
"""
ASKS = """
import datetime, json, sys
from skilld_monitor import cleanup_old_events, get_database_path
from skilld_monitor.compat.db import utils as db_utils
now = datetime.datetime.now()
found = {name: value for name, value in [
    ("recent", db_utils.get_recent_events(limit=3)),
    ("paged", [db_utils.get_recent_events(limit=1, offset=n)[0]["id"] for n in range(3)]),
    ("shop", db_utils.get_recent_events("shop-test")),
    ("type", db_utils.get_events_by_type("order", agent_id="shop-test")),
    ("finished", db_utils.get_events_by_type("LLM_call_finish")),
    ("failed", db_utils.get_events_by_type("LLM_call_error")),
    ("channel", db_utils.get_events_by_channel("ORDERS")),
    ("level", db_utils.get_events_by_level("warning")),
    ("frame", db_utils.get_events_by_timeframe(now - datetime.timedelta(days=50), now - datetime.timedelta(hours=1))),
    ("hours", db_utils.get_events_last_hours(24)),
    ("days", db_utils.get_events_last_days(2)),
    ("search", db_utils.search_events("green hats")),
    ("agents", db_utils.get_agent_stats()),
    ("agent", db_utils.get_agent_stats("other-test")),
    ("types", db_utils.get_event_type_distribution("shop-test")),
    ("channels", db_utils.get_channel_distribution()),
    ("levels", db_utils.get_level_distribution()),
    ("path", [get_database_path(), db_utils.get_db_path()]),
    ("removed", [cleanup_old_events(days=30), db_utils.cleanup_old_events(), db_utils.optimize_database()]),
    ("left", db_utils.get_events_by_channel("ARCHIVE")),
]}
print(json.dumps(found))
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with running(tmp_path) as made:
        yield made


def run(daemon: Daemon, text: str) -> str:
    done = run_program(text, daemon.folder, env={"SKILLD_SOCKET": str(daemon.socket)})
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_every_question_of_generation_a_is_answered(daemon: Daemon) -> None:
    assert run(daemon, REPORTS) == ""
    found: dict[str, Any] = json.loads(run(daemon, ASKS))

    recent = found["recent"]
    assert [event["id"] for event in recent] == found["paged"] == sorted(found["paged"], reverse=True)
    assert {"id", "agent_id", "event_type", "channel", "level", "timestamp", "data"} <= recent[0].keys()
    assert {event["agent_id"] for event in found["shop"]} == {"shop-test"}

    second, first = found["type"]
    assert (first["data"], second["data"]) == ({"n": 1, "text": "two green hats"}, {"n": 2})
    assert (first["session_id"], first["user_id"], first["tags"]) == ("s-1", "u-1", ["beta"])
    assert not set("Z+") & set(first["timestamp"])
    assert found["channel"] == found["type"]
    assert [event["data"]["n"] for event in found["level"]] == [1]
    assert found["search"] == [first]

    ((finished,), (failed,)) = found["finished"], found["failed"]
    assert (finished["event_type"], finished["status"], failed["event_type"]) == (
        "LLM_call_finish",
        "ok",
        "LLM_call_error",
    )
    assert finished["duration_ms"] >= 0

    assert [event["data"]["n"] for event in found["frame"]] == [4, 3]
    assert {event["channel"] for event in found["hours"]} == {"SYSTEM", "ORDERS", "LLM"}
    assert {event["channel"] for event in found["days"]} == {"SYSTEM", "ORDERS", "LLM", "ARCHIVE"}

    counted = {agent["agent_id"]: agent["event_count"] for agent in found["agents"]}
    assert counted == {"shop-test": 5, "other-test": 2}
    assert [agent["agent_id"] for agent in found["agent"]] == ["other-test"]
    assert ["order", 2] in found["types"]
    assert ["ARCHIVE", 2] in found["channels"]
    assert ["ERROR", 2] in found["levels"]

    assert found["path"] == [str(daemon.state / "monitor" / "events.db")] * 2
    assert found["removed"] == [1, 0, None]
    assert [event["data"]["n"] for event in found["left"]] == [4]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that another user may enter too, with the client in it."""
    require(os.geteuid() == 0, "needs root to be two users")
    with folder_for_all("skilld-monitor-other-") as folder:
        shutil.copytree(Path(skilld_monitor.__file__).parent, folder / "lib" / "skilld_monitor")
        yield folder


def run_as_other(place: Path, text: str, socket: Path) -> list[str]:
    """What a program of the other user prints, which has neither a home nor a name."""
    work = place / "work"
    work.mkdir(exist_ok=True)
    work.chmod(0o777)
    done = subprocess.run(
        ["/usr/bin/python3", "-c", text],
        user=OTHER,
        group=OTHER,
        extra_groups=[],
        env={
            "PYTHONPATH": str(place / "lib"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SKILLD_MONITOR_SOCKET": str(socket.with_name("monitor.sock")),
            "SKILLD_SOCKET": str(socket),
        },
        cwd=work,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert list(work.iterdir()) == []
    return done.stdout.splitlines()


ASKS_AS_OTHER = """
from skilld_monitor import QueryError, cleanup_old_events, log_event, enable_monitoring
from skilld_monitor.queries import get_events_by_channel, optimize_database
with enable_monitoring("stall-test") as made:
    log_event("order", {"n": 1}, "STALL")
    made.flush()
for ask in (lambda: [event["agent_id"] for event in get_events_by_channel("STALL")],
            lambda: get_events_by_channel("ORDERS"),
            optimize_database,
            lambda: cleanup_old_events(days=0)):
    try:
        print(ask())
    except QueryError as error:
        print(error)
"""


def test_who_may_report_but_not_ask_is_told_which_role_is_missing(place: Path) -> None:
    with running(place, config=f"[roles.report]\nuids = [{OTHER}]\n") as daemon:
        told = run_as_other(place, ASKS_AS_OTHER, daemon.socket)
    assert len(told) == 4
    for line in told:
        assert str(daemon.socket) in line
        assert "roles.read" in line
        assert "start it" not in line, "it runs"


def test_who_may_ask_sees_and_removes_only_what_is_ones_own(place: Path) -> None:
    roles = f"[roles.report]\nuids = [{OTHER}]\n[roles.send]\nuids = [{OTHER}]\n"
    with running(place, config=roles) as daemon:
        run(daemon, REPORTS)
        own, others, optimized, removed = run_as_other(place, ASKS_AS_OTHER, daemon.socket)
        left = json.loads(daemon.skillctl("monitor", "query", "--agent", "shop-test", "--json").stdout)["items"]
    assert (own, others) == ("['stall-test']", "[]")
    assert "refused POST /v1/monitor/optimize: forbidden: " in optimized
    assert "'admin'" in optimized
    assert int(removed) >= 1
    assert len(left) == 5, "nothing of another user's is removed"


def test_without_a_home_nothing_is_put_into_the_working_directory(place: Path) -> None:
    reports = """
import skilld_monitor
made = skilld_monitor.enable_monitoring("stall-test")
skilld_monitor.log_event("order")
report = made.disable()
print(report.accepted - report.dropped, made.delivery_problem())
"""
    (line,) = run_as_other(place, reports, place / "none.sock")
    assert line.startswith("0 ")
    assert "SKILLD_MONITOR_SPOOL" in line, "the way out is named"
