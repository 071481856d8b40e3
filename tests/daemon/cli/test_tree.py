"""skillctl status --tree and --watch: what is drawn, on what kind of screen, and when it ends."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fake_daemon import FakeDaemon, fake_daemon
from skilld.cli.app import skillctl
from skilld.cli.tree import draw_reports, draw_tree

Run = Callable[..., Result]
JSON = dict[str, Any]


def node(id: str, *children: JSON, total: int | None = None, **facts: Any) -> JSON:
    plain = {
        "id": id,
        "template": id,
        "class": id.capitalize(),
        "strategy": "one_for_one" if children or total else None,
        "restart": "permanent",
        "isolated": False,
        "phase": "running",
        "restarts": 0,
        "mailbox_depth": 0,
        "oldest_message_s": 0.0,
        "memory_bytes": None,
    }
    return {**plain, **facts, "children": list(children), "children_total": len(children) if total is None else total}


TREE = node(
    "root",
    node("journal", restarts=3, mailbox_depth=12, oldest_message_s=4.25),
    node(
        "services",
        node("watcher", isolated=True, phase="waiting", restarts=7),
        node("model", phase="stopped", restart="transient"),
    ),
    node("sessions", node("ses_a/1", oldest_message_s=600.0), strategy="dynamic", total=9_001),
    node("agents", strategy="dynamic", total=2),
    memory_bytes=64 << 20,
)
DRAWN = """\
NAME           KIND                STATE    RESTARTS  QUEUE  OLDEST  MEMORY
root           one_for_one         running         0      0       -  64 MiB
├─ journal     Journal             running         3     12   4.2 s       -
├─ services    one_for_one         running         0      0       -       -
│  ├─ watcher  Watcher (isolated)  waiting         7      0       -       -
│  └─ model    Model (transient)   stopped         0      0       -       -
├─ sessions    dynamic             running         0      0       -       -
│  ├─ ses_a/1  Ses_a/1             running         0      0  10 min       -
│  └─ 9,000 more
└─ agents      dynamic             running         0      0       -       -
   └─ 2 not shown
"""
REPORT = {"time": "T", "event": "start_failed", "supervisor": "root/services", "child": "model", "message": "init: no"}


def drawn(tree: JSON, width: int | None = None, *, color: bool = False, unicode: bool = True) -> list[str]:
    return list(draw_tree(tree, width=width, color=color, unicode=unicode))


def test_the_tree_is_drawn_with_aligned_columns_and_what_does_not_run() -> None:
    assert drawn(TREE) == DRAWN.splitlines()


def test_without_unicode_it_is_ascii() -> None:
    lines = drawn(TREE, unicode=False)
    assert "\n".join(lines).isascii()
    assert lines[5].startswith("|  `- model")


def test_colours_mark_what_does_not_run_and_change_nothing_else() -> None:
    lines = drawn(TREE, color=True)
    assert [line[:5] for line in (lines[4], lines[5])] == ["\x1b[33m", "\x1b[31m"]
    plain = [line.removesuffix("\x1b[0m") for line in lines]
    assert [line.partition("m")[2] if line.startswith("\x1b") else line for line in plain] == DRAWN.splitlines()


def test_names_are_cut_to_the_terminal_and_never_below_what_can_be_read() -> None:
    deep = node("root", node("x" * 300))
    assert max(map(len, drawn(deep, 80))) <= 80
    assert "…" in drawn(deep, 80)[2]
    assert "~" in drawn(deep, 80, unicode=False)[2]
    assert drawn(deep, 10)[2].startswith("└─ " + "x" * 12 + "…")
    assert "x" * 300 in drawn(deep)[2]


def test_what_the_daemon_names_cannot_touch_the_terminal() -> None:
    nasty = {**node("a\x1b[2Jb\nc"), "class": "K\x07"}
    assert drawn(nasty)[1].startswith("a[2Jb c")
    assert "\x07" not in drawn(nasty)[1]
    assert list(draw_reports([{**REPORT, "message": "a\x1b]0;x\x07\nb"}], width=None, unicode=True)) == [
        "T  root/services/model  start failed  a]0;x b"
    ]


def test_the_latest_five_reports_are_shown_and_a_supervisor_that_gave_up_by_its_path() -> None:
    gave_up = {**REPORT, "event": "escalated", "supervisor": "root", "child": "root/services", "message": ""}
    lines = list(draw_reports([{**REPORT, "time": str(n)} for n in range(9)] + [gave_up], width=None, unicode=True))
    assert [line.partition(" ")[0] for line in lines] == ["5", "6", "7", "8", "T"]
    assert lines[-1] == "T  root/services  escalated"
    assert list(draw_reports([REPORT], width=12, unicode=True)) == ["T  root/ser…"]


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("crash: a_b.c.Ended: worker 'x.y' died", "crash: Ended: worker 'x.y' died"),
        ("crash: ValueError: a.b", "crash: ValueError: a.b"),
        ("crash", "crash"),
        ("shutdown: reached a.b.c", "shutdown: reached a.b.c"),
    ],
)
def test_a_reports_exception_is_named_without_its_module(message: str, shown: str) -> None:
    assert list(draw_reports([{**REPORT, "message": message}], width=None, unicode=True)) == [
        f"T  root/services/model  start failed  {shown}"
    ]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with fake_daemon(tmp_path) as daemon:
        daemon.on_json("GET", "/v1/tree", {"version": "9", "tree": TREE, "reports": [REPORT]})
        daemon.on_json("GET", "/v1/status", {"version": "9"})
        yield daemon


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def call(*args: str) -> Result:
        return CliRunner().invoke(skillctl, list(args), env={"SKILLD_SOCKET": str(tmp_path / "skilld.sock")})

    return call


def test_the_command_prints_tree_and_reports(daemon: FakeDaemon, run: Run) -> None:
    shown = run("status", "--tree")
    assert shown.exit_code == 0
    assert shown.stdout == DRAWN + "\nT  root/services/model  start failed  init: no\n"
    assert daemon.requests("GET", "/v1/tree")[0].query == {"children": "20"}
    run("status", "--tree", "--children", "3")
    assert daemon.requests("GET", "/v1/tree")[1].query == {"children": "3"}


def test_json_is_what_the_daemon_said(daemon: FakeDaemon, run: Run) -> None:
    shown = run("status", "--tree", "--json").stdout
    assert json.loads(shown) == {"version": "9", "tree": TREE, "reports": [REPORT]}
    assert shown.count("\n") == 1


@pytest.mark.parametrize("args", [("--watch=0",), ("--watch=x",), ("--tree", "--children=-1"), ("--watch=99999",)])
def test_wrong_use_is_said(daemon: FakeDaemon, run: Run, args: tuple[str, ...]) -> None:
    wrong = run("status", *args)
    assert wrong.exit_code == 2
    assert wrong.stderr.startswith("skillctl: error: ")
    assert daemon.seen == []


def test_an_older_daemon_without_a_tree_is_an_error_in_one_line(daemon: FakeDaemon, run: Run) -> None:
    daemon.on_error("GET", "/v1/tree", 404, "not_found", "no such path: /v1/tree")
    old = run("status", "--tree")
    assert (old.exit_code, old.stderr.count("\n")) == (1, 1)
    assert "no such path" in old.stderr


def watching(daemon: FakeDaemon, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "skilld.cli", "status", *args],
        env={**os.environ, "SKILLD_SOCKET": str(daemon.path)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_watch_appends_to_a_pipe_until_ctrl_c(daemon: FakeDaemon) -> None:
    with watching(daemon, "--tree", "--json", "--watch=0.1") as process:
        assert process.stdout is not None
        for _ in range(3):
            assert json.loads(process.stdout.readline())["tree"] == TREE
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "")


def test_watch_ends_as_any_command_when_the_daemon_is_gone(daemon: FakeDaemon) -> None:
    gone = {"error": {"code": "draining", "message": "stopping", "retryable": True, "details": {}}}
    daemon.on(
        "GET",
        "/v1/status",
        lambda exchange: exchange.json(200, {"version": "9"}),
        lambda exchange: exchange.json(503, gone),
    )
    with watching(daemon, "--watch=0.1") as process:
        out, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "version  9" in out
    assert err == "skillctl: error: stopping\n"


def test_watch_redraws_a_terminal_clears_it_once_and_keeps_the_reports_on_a_low_one(daemon: FakeDaemon) -> None:
    master, slave = pty.openpty()
    environment = {**os.environ, "SKILLD_SOCKET": str(daemon.path), "TERM": "xterm", "LINES": "8", "COLUMNS": "80"}
    environment.pop("NO_COLOR", None)
    seen = b""
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "skilld.cli", "status", "--tree", "--watch=0.1"],
            env={**environment, "PYTHONUTF8": "1"},
            stdout=slave,
            stderr=slave,
        ) as process:
            os.close(slave)
            while seen.count(b"\x1b[H") < 3:
                seen += os.read(master, 65536)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
    finally:
        os.close(master)
    assert seen.count(b"\x1b[2J") == 1
    first = seen.partition(b"\x1b[H")[2].partition(b"\x1b[H")[0].decode()
    assert "├─ journal" in first
    assert first.count("\n") == 7, "more lines than fit would scroll"
    assert [line.removesuffix("\x1b[K\r") for line in first.split("\n")[4:7]] == [
        f"({len(DRAWN.splitlines()) - 4} more lines)",
        "",
        "T  root/services/model  start failed  init: no",
    ]
