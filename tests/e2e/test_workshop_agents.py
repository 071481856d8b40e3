"""Agents of the workshop: the real programs, with the offline model and the fake API."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import Daemon, running, write_skill
from git_kit import commit, git, repository

pytestmark = pytest.mark.e2e

SOON_S = 60.0

# An agent of its own: prints what it was told, or ends in the middle of it, as it was told.
PROGRAM = """
import sys, os
prompt = sys.stdin.read().strip()
print("so far", flush=True) if prompt.endswith("die") else print("heard: " + prompt.splitlines()[-1], flush=True)
if prompt.endswith("die"):
    os.kill(os.getpid(), 9)
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon for all tests here, with the offline model; one of them kills it and starts it again."""
    folder = tmp_path_factory.mktemp("agents")
    write_skill(folder / "skills", "echo", "import sys\nprint(*sys.argv[1:])\n")
    write_skill(folder / "skills", "linger", "import sys, time\ntime.sleep(float(sys.argv[1]))\nprint('done')\n")
    (folder / "projects").mkdir()
    (folder / "agent.py").write_text(PROGRAM)
    config = f'''
[skills]
projects = ["{folder}/projects"]
[workshop]
max_crashes = 2
[backends.command.mine]
argv = {json.dumps([sys.executable, str(folder / "agent.py")])}
'''
    with running(folder, skills=[folder / "skills"], config=config) as daemon:
        yield daemon


def ctl(daemon: Daemon, *args: str, ok: int = 0) -> str:
    done = daemon.skillctl(*args)
    assert done.returncode == ok, (args, done.returncode, done.stdout, done.stderr)
    return done.stdout


def ctl_json(daemon: Daemon, *args: str, ok: int = 0) -> Any:
    return json.loads(ctl(daemon, *args, "--json", ok=ok))


def working(daemon: Daemon, name: str) -> dict[str, Any]:
    deadline = time.monotonic() + SOON_S
    while (found := ctl_json(daemon, "workshop", "agent", "info", name))["status"] != "working":
        assert time.monotonic() < deadline, found
    return dict(found)


def test_an_agent_is_defined_asked_reset_and_dismissed(daemon: Daemon) -> None:
    session = ctl(daemon, "workshop", "agent", "define", "one", "--role", "You repeat.", "--max-cost", "1").strip()
    assert ctl(daemon, "ask", "one", "/echo hello there") == "hello there\n"
    assert ctl(daemon, "workshop", "agent", "result", "one") == "hello there\n"
    full = json.loads(ctl(daemon, "workshop", "agent", "result", "one", "--full"))
    assert (full["session"], full["status"], full["agent"]) == (session, "finished", "one")
    ctl(daemon, "workshop", "store", "put", "notes", "kept", "over a reset")
    other = ctl(daemon, "workshop", "agent", "reset", "one").strip()
    assert other != session
    assert ctl(daemon, "workshop", "store", "get", "notes", "kept") == "over a reset\n"
    info = ctl_json(daemon, "workshop", "agent", "info", "one")
    assert (info["before"], info["system_prompt"]) == ([session], "You repeat.")
    assert info["settings"] == {"role": "You repeat.", "max_cost_usd": 1.0}
    assert "hello there" in ctl(daemon, "show", session)
    assert "one  " in ctl(daemon, "workshop", "agent", "list")
    ctl(daemon, "workshop", "agent", "dismiss", "one")
    assert "there is no agent 'one'" in daemon.skillctl("ask", "one", "x").stderr
    assert [each["name"] for each in ctl_json(daemon, "workshop", "agent", "list", "--all")["items"]] == ["one"]
    assert ctl_json(daemon, "workshop", "agent", "cost")["items"][0]["name"] == "one"


def test_a_cast_is_awaited_from_another_process_by_the_id_of_its_turn(daemon: Daemon) -> None:
    """Nobody has to be the one who cast it (G10)."""
    ctl(daemon, "workshop", "agent", "define", "two")
    turns = [ctl(daemon, "cast", "two", f"/echo number {number}").strip() for number in range(3)]
    assert [ctl(daemon, "wait", turn) for turn in turns] == [f"number {number}\n" for number in range(3)]
    assert ctl(daemon, "workshop", "await", "two") == "number 2\n"
    key = ctl(daemon, "cast", "--key", "k", "two", "/echo once").strip()
    assert ctl(daemon, "cast", "--key", "k", "two", "/echo once").strip() == key


def test_a_full_queue_refuses_and_an_end_of_time_cancels(daemon: Daemon) -> None:
    """The time is that of every message, and when it is over the program that ran is gone (G9)."""
    ctl(daemon, "workshop", "agent", "define", "three", "--queue", "1")
    ctl(daemon, "cast", "three", "/linger 600")
    working(daemon, "three")
    waiting = ctl(daemon, "cast", "three", "/echo waits").strip()
    full = daemon.skillctl("cast", "three", "/echo too much")
    assert full.returncode == 1
    assert "1 messages waiting already" in full.stderr
    with daemon.http() as http:
        refused = http.post("/v1/workshop/cast", json={"agent": "three", "text": "x"}).json()["error"]
    assert (refused["code"], refused["details"]["reason"]) == ("overloaded", "queue_full")
    assert ctl_json(daemon, "workshop", "agent", "status", "three")["items"][0]["queue_depth"] == 1
    session = ctl_json(daemon, "workshop", "agent", "info", "three")["session"]
    ctl(daemon, "cancel", session)
    assert ctl(daemon, "wait", waiting) == "waits\n"
    late = daemon.skillctl("ask", "three", "--timeout", "1", "/linger 600")
    assert late.returncode == 124, late.stderr
    with daemon.http() as http:
        body = {"agent": "three", "text": "/linger 600", "timeout_s": 0.5}
        turn = http.post("/v1/workshop/ask", json=body).json()
    assert turn["status"] in ("failed", "cancelled")
    assert turn["result"]["error"]["code"] in ("turn_timeout", "cancelled")
    assert ctl_json(daemon, "workshop", "agent", "status", "three")["items"][0]["status"] == "idle"


def test_agents_profiles_queue_and_spend_are_there_after_a_kill(daemon: Daemon) -> None:
    """What was acknowledged before the daemon was killed is done after it (G12, G13)."""
    ctl(daemon, "workshop", "profile", "define", "lasting", "--role", "You last.")
    ctl(daemon, "workshop", "configure", "--common", "It is late.")
    ctl(daemon, "workshop", "agent", "define", "four", "--profile", "lasting")
    ctl(daemon, "ask", "four", "/echo before")
    running_turn = ctl(daemon, "cast", "four", "/linger 600").strip()
    working(daemon, "four")
    queued = ctl(daemon, "cast", "four", "/echo after").strip()
    daemon.kill()
    daemon.start()
    assert ctl(daemon, "wait", queued) == "after\n"
    assert "interrupted" in daemon.skillctl("wait", running_turn).stderr
    answered = ctl_json(daemon, "workshop", "agent", "history", "four")["items"]
    assert [turn["status"] for turn in answered] == ["finished", "interrupted", "finished"]
    assert answered[0]["result"]["text"] == "before"
    info = ctl_json(daemon, "workshop", "agent", "info", "four")
    assert info["system_prompt"] == "It is late.\n\nYou last."
    deadline = time.monotonic() + SOON_S
    while ctl_json(daemon, "workshop", "agent", "info", "four")["turns"] != 3:
        assert time.monotonic() < deadline
    assert ctl(daemon, "workshop", "profile", "list").split()[-1] == "last."
    ctl(daemon, "workshop", "configure", "--common", "")


def test_a_result_is_piped_and_a_message_is_fanned_out(daemon: Daemon) -> None:
    for name in ("left", "right"):
        ctl(daemon, "workshop", "agent", "define", name)
    ctl(daemon, "cast", "left", "/echo the result")
    piped = ctl(daemon, "workshop", "pipe", "left", "right", "--template", "/echo <{result}> of {from}")
    assert piped == "<the result> of left\n"
    told = ctl(daemon, "workshop", "fan", "/echo both", "left", "right")
    assert told == "== left\nboth\n== right\nboth\n"
    first = ctl_json(daemon, "workshop", "fan", "/echo first", "left", "right", "--gather", "first")
    assert first["reached"] is True
    ctl(daemon, "workshop", "agent", "define", "judge")
    unwise = daemon.skillctl("workshop", "fan", "/echo best", "left", "right", "--judge", "judge")
    assert unwise.returncode == 1
    assert "answered with no number from 1 to 2" in unwise.stderr
    idle = ctl_json(daemon, "workshop", "await", "left", "right")
    assert idle["idle"] is True


def test_the_events_of_agents_are_told(daemon: Daemon) -> None:
    ctl(daemon, "workshop", "agent", "define", "seen")
    turn = ctl(daemon, "cast", "seen", "/echo x").strip()
    ctl(daemon, "wait", turn)
    deadline = time.monotonic() + SOON_S
    names: list[str] = []
    while "agent.cast_complete" not in names:
        assert time.monotonic() < deadline, names
        out = ctl(daemon, "workshop", "events", "--last", "50", "--topic", "agent", "--json")
        events = [json.loads(line) for line in out.splitlines()]
        names = [event["type"] for event in events if event["data"].get("agent") == "seen"]
    assert names == ["agent.created", "agent.cast_complete"]


def test_an_agent_is_told_how_the_repository_of_its_folder_stands(daemon: Daemon, tmp_path: Path) -> None:
    """Of its own folder, and of the moment of each message (G19)."""
    folder = daemon.folder / "projects" / "one"
    folder.mkdir()
    subprocess.run(["git", "init", "-q", "-b", "trunk", str(folder)], check=True)
    (folder / "new.txt").write_text("x\n")
    ctl(daemon, "workshop", "agent", "define", "inside", "--cwd", str(folder), "--git-context")
    turn = ctl(daemon, "cast", "--key", "k", "inside", "what is new?").strip()
    (folder / "newer.txt").write_text("x\n")
    assert ctl(daemon, "cast", "--key", "k", "inside", "what is new?").strip() == turn
    ctl(daemon, "ask", "inside", "and now?")
    session = ctl_json(daemon, "workshop", "agent", "info", "inside")["session"]
    told = [event["data"]["text"] for event in daemon.events(session) if event["type"] == "turn.queued"]
    assert told == [
        "what is new?\n\n[git: branch trunk no commit yet, changed\nFiles: 1 untracked\n  new.txt]",
        "and now?\n\n[git: branch trunk no commit yet, changed\nFiles: 2 untracked\n  new.txt\n  newer.txt]",
    ]
    assert "untracked: new.txt" in ctl(daemon, "workshop", "git", "summary", "inside")
    subprocess.run(["git", "-C", str(folder), "add", "new.txt"], check=True)
    assert "+x" in ctl(daemon, "workshop", "git", "diff", "inside")
    ctl(daemon, "workshop", "agent", "define", "outside")
    assert "has no folder of its own" in daemon.skillctl("workshop", "git", "summary", "outside").stderr
    refused = daemon.skillctl("workshop", "agent", "define", "nowhere", "--cwd", str(tmp_path))
    assert refused.returncode == 1
    assert "cwd" in refused.stderr


def test_an_agents_worktree_is_made_merged_and_removed(daemon: Daemon) -> None:
    """docs/workshop.md says how (G23)."""
    folder = repository(daemon.folder / "projects" / "two", a="1\n")
    ctl(daemon, "workshop", "agent", "define", "coder", "--cwd", str(folder), "--worktree", "--git-context")
    place = folder / ".worktrees" / "coder"
    (place / "new.txt").write_text("new\n")
    ctl(daemon, "ask", "coder", "what is new?")
    session = ctl_json(daemon, "workshop", "agent", "info", "coder")["session"]
    (told,) = [event["data"]["text"] for event in daemon.events(session) if event["type"] == "turn.queued"]
    assert "[git: branch agents/coder at" in told
    assert "new.txt" in told
    (tree,) = ctl_json(daemon, "workshop", "worktree", "list")["items"]
    assert (tree["agent"], tree["folder"], tree["changed"]) == ("coder", str(place), ["new.txt"])
    assert "are not committed" in daemon.skillctl("workshop", "worktree", "merge", "coder").stderr
    merged = ctl(daemon, "workshop", "worktree", "merge", "coder", "--commit", "work").strip()
    assert merged == git(folder, "rev-parse", "HEAD").strip()
    assert (folder / "new.txt").read_text() == "new\n"
    commit(place, "theirs", a="2\n")
    commit(folder, "ours", a="3\n")
    assert "+2" in ctl(daemon, "workshop", "git", "diff", "coder")
    conflict = daemon.skillctl("workshop", "worktree", "merge", "coder")
    assert (conflict.returncode, conflict.stdout) == (1, "a\n")
    assert "dismiss it first" in daemon.skillctl("workshop", "worktree", "remove", "coder").stderr
    ctl(daemon, "workshop", "agent", "dismiss", "coder")
    assert "1 commits that are not merged" in daemon.skillctl("workshop", "worktree", "remove", "coder").stderr
    ctl(daemon, "workshop", "worktree", "remove", "coder", "--force")
    assert not place.exists()
    assert ctl_json(daemon, "workshop", "worktree", "list")["items"] == []


def test_an_agent_that_is_a_program_crashes_is_given_up_over_a_restart_and_revived(daemon: Daemon) -> None:
    ctl(daemon, "workshop", "agent", "define", "program", "--backend", "mine", "--role", "You listen.")
    assert ctl(daemon, "ask", "program", "hello") == "heard: hello\n"
    for text in ("first: die", "second: die"):
        died = daemon.skillctl("ask", "program", text)
        assert (died.returncode, died.stdout) == (1, "so far\n"), died.stderr
    deadline = time.monotonic() + SOON_S
    while ctl_json(daemon, "workshop", "agent", "status", "program")["items"][0]["status"] != "crashed":
        assert time.monotonic() < deadline
    daemon.kill()
    daemon.start()
    refused = daemon.skillctl("ask", "program", "are you there?")
    assert refused.returncode == 1
    assert "is crashed" in refused.stderr
    assert ctl(daemon, "workshop", "agent", "revive", "program") == "idle\n"
    assert ctl(daemon, "ask", "program", "are you there?") == "heard: are you there?\n"
    told = ctl(daemon, "workshop", "events", "--last", "20", "--topic", "agent", "--name", "crashed", "--json")
    assert [json.loads(line)["data"]["agent"] for line in told.splitlines()] == ["program"]


def test_caps_that_are_whole_numbers_are_kept_and_shown_as_money(daemon: Daemon) -> None:
    """A cap of 5 is one of 5.0, whoever sends it (G12)."""
    with daemon.http() as http:
        http.put("/v1/workshop/agents/whole", json={"max_cost_usd": 5}).raise_for_status()
        http.patch("/v1/workshop/config", json={"max_cost_usd": 20}).raise_for_status()
    try:
        shown = ctl(daemon, "workshop", "budget", "show")
        assert ("$5.00" in shown, "$20.00" in shown) == (True, True), shown
        assert ctl_json(daemon, "workshop", "agent", "info", "whole")["settings"]["max_cost_usd"] == 5
        assert ctl(daemon, "ask", "whole", "/echo paid") == "paid\n"
    finally:
        ctl(daemon, "workshop", "configure", "--total-cost", "none")
        ctl(daemon, "workshop", "agent", "dismiss", "whole")
