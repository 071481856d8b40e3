"""What `skillctl monitor` says of what was reported: money, whose it is, and how many of each."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fake_daemon import fake_daemon
from sink_kit import event
from skilld.cli.app import skillctl
from skilld.cli.commands.monitor.stats import cost_text
from skilld.cli.output import counted
from terminal_kit import at_terminal

USED = {"calls": 1, "errors": 0, "input_tokens": 1, "output_tokens": 2, "cost_usd": None, "unpriced": 0}
STATS: dict[str, Any] = {"events": 1, "sources": [], "channels": {}, "levels": {}, "models": [], "findings": {}}
NOTHING = ("session", "user", "model", "cost_usd", "input_tokens", "output_tokens")
EVENT: dict[str, Any] = {
    "id": 1,
    "time": "2026-01-15T09:30:00.000000Z",
    "agent": "shop",
    "channel": "LLM",
    "level": "ERROR",
    "data": {},
    "trace": "ab",
    "tags": [],
    "program": "x",
    "seq": 1,
    **dict.fromkeys(NOTHING),
}


def said(tmp_path: Path, path: str, answer: dict[str, Any], *words: str) -> str:
    """What `skillctl monitor` prints when the daemon answers so."""
    with fake_daemon(tmp_path) as daemon:
        daemon.on_json("GET", path, answer)
        daemon.on_json("POST", path, answer)
        done = CliRunner().invoke(skillctl, ["--socket", str(daemon.path), "monitor", *words])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize(
    ("cost_usd", "said"),
    [(None, "-"), (0.0, "$0.0000"), (0.00004, "<$0.0001"), (0.0001, "$0.0001"), (12.34567, "$12.3457")],
)
def test_a_little_is_not_nothing(cost_usd: float | None, said: str) -> None:
    assert cost_text(cost_usd) == said


def test_one_is_not_several() -> None:
    assert [counted(count, "event") for count in (0, 1, 2)] == ["0 events", "1 event", "2 events"]


def test_of_one_event_it_says_so(tmp_path: Path) -> None:
    assert said(tmp_path, "/v1/monitor/stats", {**STATS, "users": []}, "stats") == "1 event\n"
    span = {**EVENT, "name": "chat", "span": "cd", "parent": None, "duration_ms": 2.0, "status": "error"}
    span.update(input_tokens=1, output_tokens=1)
    event = {**EVENT, "id": 2, "level": "INFO", "name": "x", "span": "cd"}
    event.update(dict.fromkeys(("parent", "duration_ms", "status")))
    trace = {"trace": "ab", "events": [span, event], "findings": [], "more": 0}
    heading = said(tmp_path, "/v1/monitor/traces/ab", trace, "trace", "ab").splitlines()[0]
    assert heading.endswith("1 span, 1 event, 1 error, 1 token in and 1 out"), heading


@pytest.mark.parametrize(("uids", "shown"), [((1, 1), False), ((1, 2), True)])
def test_whose_it_is_is_told_where_it_is_several_users_of_the_host(
    tmp_path: Path, uids: tuple[int, ...], shown: bool
) -> None:
    users = [{"user": "ann", "uid": uid, **USED} for uid in uids]
    listed = said(tmp_path, "/v1/monitor/stats", {**STATS, "users": users}, "stats")
    assert ("UID" in listed) is shown
    one = {"agents": ["shop"], "user": "ann", "events": 1, "first": "x", "last": "y", **USED}
    sessions = {"items": [{"session": "s1", "uid": uid, **one} for uid in uids]}
    listed = said(tmp_path, "/v1/monitor/sessions", sessions, "sessions")
    assert ("UID" in listed) is shown
    assert [line.split()[1] == str(uid) for line, uid in zip(listed.splitlines()[1:], uids, strict=True)] == [shown] * 2
    raw = json.loads(said(tmp_path, "/v1/monitor/stats", {**STATS, "users": users}, "stats", "--json"))
    assert [one["uid"] for one in raw["users"]] == list(uids)


@pytest.mark.parametrize("form", ["skilld", "B", "otlp"])
def test_what_is_exported_to_a_terminal_is_json_and_inert(tmp_path: Path, form: str) -> None:
    nasty = "a\x9b31mb\u202ec\u2066"
    shown = event(id=1, name=nasty, agent=nasty, data={"text": nasty})
    with fake_daemon(tmp_path) as daemon:
        pages = [lambda asked, items=items: asked.json(200, {"items": items}) for items in ([shown], [])]
        daemon.on("GET", "/v1/monitor/events", *pages)
        command = [sys.executable, "-m", "skilld.cli", "--socket", str(daemon.path), "monitor", "export"]
        with at_terminal([*command, "--format", form], {**os.environ, "TERM": "xterm"}) as at:
            assert at.end() == 0, at.raw
    written = at.raw.replace(b"\r\n", b"\n").decode()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", written)
    assert nasty in json.dumps(json.loads(written), ensure_ascii=False)
