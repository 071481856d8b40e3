"""skillctl compact, what show says of a conversation's length, and files that go along with a message."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fake_daemon import SESSION, TURN, FakeDaemon, a_turn, event, fake_daemon
from skilld.cli.app import skillctl
from skilld.cli.context_gauge import cache_share, context_text

COMPACT = f"/v1/sessions/{SESSION}/compact"
ACCEPTED = {"turn": TURN, "session": SESSION, "seq": 7, "status": "queued", "duplicate": False}

Run = Callable[..., Result]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with fake_daemon(tmp_path) as daemon:
        daemon.on_json("POST", COMPACT, ACCEPTED, 202)
        yield daemon


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def call(*args: str) -> Result:
        return CliRunner().invoke(skillctl, list(args), env={"SKILLD_SOCKET": str(tmp_path / "skilld.sock")})

    return call


def ended(daemon: FakeDaemon, status: str, **result: Any) -> None:
    found = {"turn": TURN, "session": SESSION, "status": status, "result": result}
    daemon.on_json("GET", f"/v1/turns/{TURN}", found)


def test_what_came_of_it_is_printed(daemon: FakeDaemon, run: Run) -> None:
    ended(daemon, "finished", text="The earlier part is a summary now.")
    result = run("compact", "--key", "k1", SESSION)
    assert (result.exit_code, result.stdout) == (0, "The earlier part is a summary now.\n")
    (sent,) = daemon.requests("POST", COMPACT)
    assert sent.headers["idempotency-key"] == "k1"
    assert json.loads(run("compact", "--json", SESSION).stdout)["status"] == "finished"


def test_it_can_be_left_to_itself(daemon: FakeDaemon, run: Run) -> None:
    assert run("compact", "--no-wait", SESSION).stdout == f"{TURN}\n"
    assert json.loads(run("compact", "--no-wait", "--json", SESSION).stdout)["turn"] == TURN


@pytest.mark.parametrize(("code", "exit_code"), [("budget_exceeded", 5), ("model_overloaded", 1)])
def test_how_it_ends_is_the_exit_code(daemon: FakeDaemon, run: Run, code: str, exit_code: int) -> None:
    ended(daemon, "failed", text="", error={"code": code, "message": "no more"})
    result = run("compact", SESSION)
    assert result.exit_code == exit_code
    assert "no more" in result.stderr


def test_show_has_a_gauge_and_tells_of_summaries(daemon: FakeDaemon, run: Run) -> None:
    usage = {"input_tokens": 10, "cache_read_tokens": 60, "cache_write_5m_tokens": 10, "cache_write_1h_tokens": 0}
    context = {"tokens": 210_000, "window": 1_000_000, "share": 0.21}
    head = {"id": SESSION, "status": "idle", "turns": 1, "updated": "2026", "context": context, "usage": usage}
    daemon.on_json("GET", f"/v1/sessions/{SESSION}", head)
    daemon.on_json("GET", f"/v1/sessions/{SESSION}/files", {"used_bytes": 0, "quota_bytes": 1 << 30})
    made = {"summary": "s", "tokens_before": 800_000, "tokens_after": 30_000}
    events = [
        *a_turn("Hello"),
        event(6, "session.compacted", made),
        event(7, "session.compacted", {"summary": None, "why_not": "no \x1b[31mmoney"}),
    ]
    daemon.on_events("GET", f"/v1/sessions/{SESSION}/events", (events, "clean"))
    lines = run("show", SESSION).stdout.splitlines()
    assert lines[1] == "context: [####................] 21 %, 210,000 of 1,000,000 tokens · cache hits 75 %"
    assert lines[-2].startswith("[compacted: the model reads a summary of what is above: about 800,000 tokens are 30,")
    assert lines[-1].startswith("[not compacted: no ")
    assert "\x1b" not in lines[-1]


@pytest.mark.parametrize(
    ("session", "text"),
    [
        ({}, None),
        ({"context": None}, None),
        ({"context": {"tokens": 5, "window": 0}}, None),
        ({"context": {"tokens": 1, "window": 100_000}}, "context: [#...................] 0 %, 1 of 100,000 tokens"),
        ({"context": {"tokens": 300, "window": 100}}, "context: [####################] 100 %, 300 of 100 tokens"),
    ],
)
def test_the_gauge_says_what_is_known(session: dict[str, Any], text: str | None) -> None:
    assert context_text(session) == text


def test_without_input_there_is_no_share_of_it() -> None:
    assert cache_share({}) is None
    assert cache_share({"input_tokens": 5}) == 0.0


def test_files_go_along_with_a_message(daemon: FakeDaemon, run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"picture")
    daemon.on_json("POST", f"/v1/sessions/{SESSION}/messages", ACCEPTED, 202)
    result = run("send", "-s", SESSION, "--no-wait", "--file", str(tmp_path / "a.png"), "look")
    assert result.exit_code == 0, result.output
    (sent,) = daemon.requests("POST", f"/v1/sessions/{SESSION}/messages")
    given = json.loads(sent.body)["files"]
    assert given == [{"name": "a.png", "content_base64": base64.b64encode(b"picture").decode()}]
    missing = run("send", "--file", str(tmp_path / "none"), "look")
    assert (missing.exit_code, "No such file" in missing.stderr) == (2, True)
    with open(tmp_path / "large", "wb") as file:
        file.truncate(7 << 20)
    assert run("send", "--file", str(tmp_path / "large"), "look").exit_code == 2
