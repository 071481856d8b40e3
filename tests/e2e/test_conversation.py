"""The real daemon, driven as its users drive it: a message, a skill that does the work, an edit, a restart."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.harness import Daemon, processes_with, program, running, write_skill

pytestmark = pytest.mark.e2e

HELLO = "import sys\nprint('hello', *sys.argv[1:])\n"


@pytest.fixture
def skills(tmp_path: Path) -> Path:
    folder = tmp_path / "skills"
    write_skill(folder, "greeter", HELLO, "Greets people. Use when somebody wants a greeting.")
    return folder


@pytest.fixture
def daemon(tmp_path: Path, skills: Path) -> Iterator[Daemon]:
    with running(tmp_path, skills=[skills]) as started:
        yield started


def wait_for_skill(daemon: Daemon, name: str, digest: str) -> None:
    """Wait until the daemon has read another version of a skill than this one."""
    deadline = time.monotonic() + 10
    with daemon.http() as http:
        while http.get(f"/v1/skills/{name}").json()["digest"] == digest:
            assert time.monotonic() < deadline, "the edit was not noticed within 10 s"
            time.sleep(0.02)


def test_a_message_is_answered_with_the_help_of_a_skill(daemon: Daemon) -> None:
    turn = daemon.ask(daemon.create(), "please give a greeting to people")
    result = turn["result"]
    assert (turn["status"], result["stop_reason"], result["model"]) == ("finished", "end_turn", "offline")
    assert "hello" in result["text"]
    assert result["cost_usd"] == 0
    assert result["usage"]["input_tokens"] > 0


def test_the_events_tell_the_whole_turn_in_order_without_a_gap(daemon: Daemon) -> None:
    session = daemon.create(title="t")
    daemon.ask(session, "greeting please")
    events = daemon.events(session)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    types = [event["type"] for event in events if event["type"] != "model.delta"]
    assert types == [
        "turn.queued",
        "turn.started",
        "model.message",
        "tool.started",
        "tool.output",
        "tool.finished",
        "model.message",
        "turn.finished",
    ]
    assert {event["session"] for event in events} == {session}
    shown = "".join(e["data"]["text"] for e in events if e["type"] == "model.delta")
    assert events[-1]["data"]["text"] in shown


def test_a_slash_command_runs_the_skill_without_a_model_and_without_a_shell(daemon: Daemon) -> None:
    result = daemon.ask(daemon.create(), "/greeter 'two words' $HOME ; ls")["result"]
    assert result["text"] == "hello two words $HOME ; ls"
    assert (result["iterations"], result["cost_usd"]) == (0, 0)


def test_slash_text_that_names_no_skill_is_an_ordinary_message(daemon: Daemon) -> None:
    assert daemon.ask(daemon.create(), "/etc/hosts is a file")["status"] == "finished"


def test_an_edit_on_disk_is_used_by_the_next_turn(daemon: Daemon, skills: Path) -> None:
    session = daemon.create()
    assert daemon.ask(session, "/greeter a")["result"]["text"] == "hello a"
    with daemon.http() as http:
        digest = http.get("/v1/skills/greeter").json()["digest"]
    write_skill(skills, "greeter", HELLO.replace("hello", "good day"))
    wait_for_skill(daemon, "greeter", digest)
    assert daemon.ask(session, "/greeter a")["result"]["text"] == "good day a"


def test_a_broken_edit_keeps_the_last_good_version_and_says_so(daemon: Daemon, skills: Path) -> None:
    session = daemon.create()
    (skills / "greeter" / "SKILL.md").write_text("---\nname: [unclosed\n")
    with daemon.http() as http:
        http.post("/v1/skills/reload")
        listed = http.get("/v1/skills").json()
    assert any(failure["kept"] == "greeter" for failure in listed["failures"])
    assert daemon.ask(session, "/greeter b")["result"]["text"] == "hello b"


def test_a_skill_that_is_removed_in_the_middle_of_its_turn_works_to_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "skills"
    root = write_skill(folder, "slow", "import time\nprint('one', flush=True)\ntime.sleep(1)\nimport helper\n")
    (root / "scripts" / "helper.py").write_text("print('two')\n")
    (root / "SKILL.md").write_text(
        "---\nname: slow\ndescription: Slow.\nmetadata:\n  skilld-entry: scripts/run.py\n---\n"
    )
    with running(tmp_path, skills=[folder]) as daemon:
        session = daemon.create()
        turn = daemon.post(session, "/slow").json()["turn"]
        wait_for_output(daemon, session, "one")
        for file in sorted(root.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        root.rmdir()
        assert daemon.wait(turn)["result"]["text"] == "one\ntwo"


def wait_for_output(daemon: Daemon, session: str, text: str) -> None:
    deadline = time.monotonic() + 60
    while not any(e["type"] == "tool.output" and text in e["data"]["text"] for e in daemon.events(session)):
        assert time.monotonic() < deadline, daemon.events(session)
        time.sleep(0.02)


def test_the_conversation_is_there_after_sigkill_and_goes_on(daemon: Daemon) -> None:
    session = daemon.create(title="kept")
    daemon.ask(session, "/greeter before")
    before = daemon.events(session)
    daemon.kill()
    daemon.start()
    with daemon.http() as http:
        shown = http.get(f"/v1/sessions/{session}").json()
    assert (shown["title"], shown["turns"], shown["status"]) == ("kept", 1, "idle")
    assert daemon.events(session) == before
    assert daemon.ask(session, "/greeter after")["result"]["text"] == "hello after"
    types = [event["type"] for event in daemon.events(session)]
    assert types.count("session.restarted") == 1


def test_a_turn_that_ran_when_the_daemon_died_is_closed_as_interrupted(tmp_path: Path) -> None:
    folder = tmp_path / "skills"
    write_skill(folder, "slow", "import time\nprint('started', flush=True)\ntime.sleep(60)\n")
    write_skill(folder, "greeter", HELLO)
    with running(tmp_path, skills=[folder]) as daemon:
        session = daemon.create()
        running_turn = daemon.post(session, "/slow").json()["turn"]
        waiting_turn = daemon.post(session, "/greeter next").json()["turn"]
        wait_for_output(daemon, session, "started")
        daemon.kill()
        daemon.start()
        interrupted = daemon.wait(running_turn)
        assert interrupted["status"] == "interrupted"
        assert len(interrupted["result"]["ambiguous"]) == 1
        assert daemon.wait(waiting_turn)["result"]["text"] == "hello next"


def test_cancel_kills_the_whole_tree_and_the_next_turn_works(tmp_path: Path) -> None:
    folder = tmp_path / "skills"
    marker = f"marker-{tmp_path.name}-{time.monotonic_ns()}"
    script = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen(['setsid', 'sh', '-c', 'sleep 60; : {marker}'])\n"
        "print('started', flush=True)\ntime.sleep(60)\n"
    )
    write_skill(folder, "tree", script)
    with running(tmp_path, skills=[folder]) as daemon:
        session = daemon.create()
        turn = daemon.post(session, "/tree").json()["turn"]
        wait_for_output(daemon, session, "started")
        assert processes_with(marker)
        with daemon.http() as http:
            assert http.post(f"/v1/sessions/{session}/cancel").json() == {"cancelled": [turn]}
        assert daemon.wait(turn)["status"] == "cancelled"
        assert not processes_with(marker)
        assert daemon.ask(session, "hello")["status"] == "finished"


def test_nothing_is_left_after_a_stop(tmp_path: Path, skills: Path) -> None:
    with running(tmp_path, skills=[skills]) as daemon:
        daemon.ask(daemon.create(), "/greeter x")
        assert daemon.stop() == 0
    assert not daemon.socket.exists()
    assert not [pid for pid in processes_with(str(tmp_path)) if pid != daemon.pid]


def test_curl_sees_what_httpx_sees(daemon: Daemon) -> None:
    status, body = daemon.curl(
        "http://skilld/v1/sessions", "-d", '{"title": "by curl"}', "-H", "content-type: application/json"
    )
    assert status == 201
    session = json.loads(body)["id"]
    url = f"http://skilld/v1/sessions/{session}/messages"
    status, stream = daemon.curl(url, "-d", '{"text": "/greeter curl"}', "-H", "accept: text/event-stream")
    assert status == 200
    assert "event: turn.finished" in stream
    assert "hello curl" in stream


def test_skillctl_sends_shows_and_lists(daemon: Daemon) -> None:
    sent = daemon.skillctl("send", "--new", "/greeter cli")
    assert sent.returncode == 0, sent.stderr
    assert sent.stdout.strip() == "hello cli"
    session = next(word for word in sent.stderr.split() if word.startswith("ses_"))
    assert session in daemon.skillctl("sessions").stdout
    assert "hello cli" in daemon.skillctl("show", session).stdout
    again = daemon.skillctl("send", "-s", session, "--json", "/greeter again")
    events = [json.loads(line) for line in again.stdout.splitlines()]
    assert events[-1]["type"] == "turn.finished"
    assert "greeter" in daemon.skillctl("skills", "list").stdout
    assert daemon.skillctl("health").returncode == 0
    assert "skilld_" in daemon.skillctl("metrics").stdout


def test_a_second_daemon_is_refused_and_the_first_goes_on(daemon: Daemon) -> None:
    same_socket = [f"--socket={daemon.socket}", f"--state-dir={daemon.folder / 'other'}"]
    same_state = [f"--socket={daemon.folder / 'other.sock'}", f"--state-dir={daemon.state}"]
    for arguments, named in ((same_socket, daemon.socket), (same_state, daemon.state)):
        second = subprocess.run(
            [*program("skilld"), *arguments], capture_output=True, text=True, timeout=60, check=False
        )
        assert second.returncode == 75, second.stderr
        assert str(named) in second.stderr
        assert len(second.stderr.splitlines()) == 1
    assert daemon.ask(daemon.create(), "hi")["status"] == "finished"


def test_a_retried_message_is_one_turn(daemon: Daemon) -> None:
    session = daemon.create()
    first, again = daemon.post(session, "/greeter k", key="k1"), daemon.post(session, "/greeter k", key="k1")
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["turn"] == again.json()["turn"]
    assert (first.json()["duplicate"], again.json()["duplicate"]) == (False, True)
    other = daemon.post(session, "/greeter other", key="k1")
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_conflict")
    daemon.wait(first.json()["turn"])
    daemon.kill()
    daemon.start()
    assert daemon.post(session, "/greeter k", key="k1").json()["turn"] == first.json()["turn"]


def test_a_session_made_twice_with_one_key_is_one_session(daemon: Daemon) -> None:
    with daemon.http() as http:
        answers = [
            http.post("/v1/sessions", json={"title": title}, headers={"Idempotency-Key": "s1"})
            for title in ("a", "a", "b")
        ]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert answers[2].json()["error"]["code"] == "idempotency_conflict"
