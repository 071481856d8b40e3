"""skillctl as a process: signals, pipes, terminals, and what a start costs."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_daemon import SESSION, TURN, FakeDaemon, a_turn, event, fake_daemon

MESSAGES = f"/v1/sessions/{SESSION}/messages"
EVENTS = f"/v1/sessions/{SESSION}/events"
NASTY = "a\x1b[2J\x1b]0;owned\x07b\x9b31mc\r\nd\te\x00"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with fake_daemon(tmp_path) as daemon:
        daemon.on_json("POST", "/v1/sessions", {"id": SESSION}, 201)
        yield daemon


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "skilld.cli", *args]


def environment(daemon: FakeDaemon, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    return {**kept, "SKILLD_SOCKET": str(daemon.path), "TERM": "xterm", **more}


def start(daemon: FakeDaemon, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*args), env=environment(daemon), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def on_terminal(daemon: FakeDaemon, *args: str, **more: str) -> str:
    """What a terminal gets from both streams."""
    master, slave = pty.openpty()
    try:
        with subprocess.Popen(command(*args), env=environment(daemon, **more), stdout=slave, stderr=slave) as process:
            os.close(slave)
            chunks = []
            try:
                while chunk := os.read(master, 65536):
                    chunks.append(chunk)
            except OSError:  # Linux' end of file on a terminal whose other side is closed
                pass
            assert process.wait(20) == 0
    finally:
        os.close(master)
    return b"".join(chunks).decode().replace("\r\n", "\n")


def test_ctrl_c_cancels_the_turn_and_keeps_what_was_said(daemon: FakeDaemon) -> None:
    daemon.on_events("POST", MESSAGES, (a_turn("Hel")[:3], "hang"))
    daemon.on_json("POST", f"/v1/turns/{TURN}/cancel", {"turn": TURN, "status": "running"})
    daemon.on_json("GET", f"/v1/turns/{TURN}", {"turn": TURN, "status": "cancelled"})
    with start(daemon, "send", "hi") as process:
        assert process.stdout is not None
        assert process.stdout.read(3) == "Hel", "the text is there before the turn ends"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert out == "\n"
    assert err.splitlines()[-2:] == ["cancelling; Ctrl-C again leaves at once", "cancelled"]
    assert len(daemon.requests("POST", f"/v1/turns/{TURN}/cancel")) == 1
    assert daemon.requests("GET", f"/v1/turns/{TURN}")[0].query == {"wait": "2"}


def test_a_second_ctrl_c_leaves_at_once(daemon: FakeDaemon) -> None:
    daemon.on_events("POST", MESSAGES, (a_turn("Hel")[:3], "hang"))
    daemon.on("POST", f"/v1/turns/{TURN}/cancel", lambda exchange: exchange.stream([], end="hang"))
    with start(daemon, "send", "hi") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(3) == "Hel"
        process.send_signal(signal.SIGINT)
        while "leaves at once" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_ctrl_c_leaves_attach_and_cancels_nothing(daemon: FakeDaemon) -> None:
    daemon.on_json("GET", f"/v1/sessions/{SESSION}", {"last_seq": 0})
    daemon.on_events("GET", EVENTS, (a_turn("Hel")[:3], "hang"))
    with start(daemon, "attach", SESSION) as process:
        assert process.stdout is not None
        assert process.stdout.read(11) == "> hello\nHel"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "")
    assert [exchange.method for exchange in daemon.seen] == ["GET", "GET"]


def test_a_reader_that_leaves_ends_it_quietly(daemon: FakeDaemon) -> None:
    text = "x" * 100_000
    daemon.on_events("POST", MESSAGES, (a_turn(text, text, text), "clean"))
    for args in (("send", "hi"), ("send", "--json", "hi")):
        with start(daemon, *args) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.read(1)
            process.stdout.close()
            err = process.stderr.read()
            assert process.wait(20) == 1
        assert err == f"session {SESSION}\n"


def test_nothing_that_moves_a_terminal_reaches_it(daemon: FakeDaemon) -> None:
    call = {"id": "t1", "name": "bash_tool\x1b[1m", "input": {"description": NASTY}}
    tool = [event(3, "tool.started", call), event(4, "tool.finished", {**call, "outcome": "error", "content": NASTY})]
    daemon.on_events("POST", MESSAGES, ([*a_turn()[:2], *tool, *a_turn(NASTY, first=5)[2:]], "clean"))
    shown = on_terminal(daemon, "send", "hi", NO_COLOR="1")
    assert not {c for c in shown if (ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160}
    assert "a[2J]0;ownedb31mc\nd\te\n" in shown


def test_a_pipe_gets_exactly_what_was_said(daemon: FakeDaemon) -> None:
    daemon.on_events("POST", MESSAGES, (a_turn(NASTY), "clean"))
    ran = subprocess.run(command("send", "hi"), env=environment(daemon), capture_output=True, check=True)
    assert ran.stdout.decode() == f"{NASTY}\n"


def test_notes_are_dim_on_a_terminal_unless_colour_is_unwanted(daemon: FakeDaemon) -> None:
    daemon.on_events("POST", MESSAGES, (a_turn("Hello"), "clean"))
    assert "\x1b[2moffline · " in on_terminal(daemon, "send", "hi")
    for unwanted in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\x1b" not in on_terminal(daemon, "send", "hi", **unwanted)


def test_a_table_on_a_terminal_shows_markup_as_text(daemon: FakeDaemon) -> None:
    item = {"id": SESSION, "status": "idle", "turns": 1, "cost_usd": None, "updated": "2026", "title": "[red]x[/red]"}
    daemon.on_json("GET", "/v1/sessions", {"items": [item], "next": None})
    shown = on_terminal(daemon, "sessions", NO_COLOR="1", COLUMNS="200")
    assert "[red]x[/red]" in shown
    assert SESSION in shown
    assert "price unknown" in shown


def test_a_narrow_locale_does_not_end_it(daemon: FakeDaemon) -> None:
    daemon.on_events("POST", MESSAGES, (a_turn("größer → 1"), "clean"))
    env = environment(daemon, PYTHONIOENCODING="ascii")
    ran = subprocess.run(command("send", "hi"), env=env, capture_output=True, check=True)
    assert ran.stdout == b"gr??er ? 1\n"


def test_an_argument_that_is_not_utf_8_is_refused(daemon: FakeDaemon) -> None:
    ran = subprocess.run([*command("send"), b"a\xff"], env=environment(daemon, LC_ALL="C.UTF-8"), capture_output=True)
    assert ran.returncode == 2
    assert b"not valid UTF-8" in ran.stderr
    assert daemon.seen == []


def test_status_brings_nothing_heavy_along(daemon: FakeDaemon) -> None:
    daemon.on_json("GET", "/v1/status", {"version": "9"})
    code = (
        "import sys\n"
        "from skilld.cli import main\n"
        "sys.argv = ['skillctl', 'status']\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as left:\n"
        "    heavy = {'trio', 'pydantic', 'httpx', 'rich', 'anyio', 'ssl', 'asyncio', 'email', 'http.client'}\n"
        "    print(left.code, sorted(heavy & set(sys.modules)))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], env=environment(daemon), capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "0 []", ran.stderr


@pytest.mark.parametrize("args", [("send", "hi"), ("show", SESSION), ("sessions",), ("skills", "list")])
def test_no_command_of_every_day_imports_httpx_or_trio(daemon: FakeDaemon, args: tuple[str, ...]) -> None:
    daemon.on_events("POST", MESSAGES, (a_turn("x"), "clean"))
    daemon.on_events("GET", EVENTS, (a_turn("x"), "clean"))
    daemon.on_json("GET", f"/v1/sessions/{SESSION}", {"id": SESSION, "status": "idle", "turns": 1, "updated": "x"})
    daemon.on_json("GET", f"/v1/sessions/{SESSION}/files", {"items": [], "used_bytes": 0, "quota_bytes": 1 << 30})
    daemon.on_json("GET", "/v1/sessions", {"items": [], "next": None})
    daemon.on_json("GET", "/v1/skills", {"items": [], "next": None})
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "skilld.cli", *args],
        env=environment(daemon),
        capture_output=True,
        text=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines() if line.startswith("import time:")}
    assert ran.returncode == 0
    assert not imported & {"httpx", "trio", "pydantic", "rich"}
