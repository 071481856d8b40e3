"""How the process stops, and what must not keep it from starting, serving or stopping."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from e2e.harness import Daemon, running, write_skill
from skill_actors.testing import FakeMessagesApi, Reply, Text, serve_in_thread

pytestmark = pytest.mark.e2e

SOON_S = 20.0
SLEEPER = "import time\nprint('begun', flush=True)\ntime.sleep(600)\n"


def until(holds: Callable[[], object], what: str) -> None:
    """Wait for something in another process."""
    deadline = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < deadline, f"not within {SOON_S:g} s: {what}"
        time.sleep(0.02)


def types(daemon: Daemon, session: str) -> list[str]:
    return [event["type"] for event in daemon.events(session)]


def start_sleeper(daemon: Daemon) -> tuple[str, str]:
    """A session and its turn, in which a tool runs for ten minutes. No model is asked."""
    session = daemon.create()
    turn = str(daemon.post(session, "/sleeper").json()["turn"])
    until(lambda: "tool.output" in types(daemon, session), "the tool prints")
    return session, turn


class Reader(threading.Thread):
    """Sends a message and reads the answer's events; `seen` ends with "end" if the body came whole."""

    def __init__(self, daemon: Daemon, session: str) -> None:
        super().__init__(daemon=True)
        self._daemon = daemon
        self._session = session
        self.seen: list[str] = []

    def run(self) -> None:
        path, headers = f"/v1/sessions/{self._session}/messages", {"accept": "text/event-stream"}
        with (
            self._daemon.http(timeout_s=30) as http,
            http.stream("POST", path, json={"text": "go"}, headers=headers) as answer,
        ):
            for line in answer.iter_lines():
                if line.startswith("event:"):
                    self.seen.append(line.removeprefix("event:").strip())
        self.seen.append("end")


def test_a_client_of_a_turn_that_streams_gets_the_ending_and_a_whole_body_over_sigterm(tmp_path: Path) -> None:
    with (
        serve_in_thread(FakeMessagesApi([Reply([Text("word " * 40)], delay_s=0.02)])) as api,
        running(tmp_path, env={"ANTHROPIC_API_KEY": "sk-x", "ANTHROPIC_BASE_URL": api.base_url}) as daemon,
    ):
        reader = Reader(daemon, daemon.create())
        reader.start()
        until(lambda: "model.delta" in reader.seen, "the answer streams")
        assert daemon.stop() == 0
        reader.join(SOON_S)
        assert reader.seen[-2:] == ["turn.finished", "end"]


@pytest.mark.alone
def test_a_reader_that_knows_the_number_of_the_open_block_does_not_freeze_the_daemon(tmp_path: Path) -> None:
    with (
        serve_in_thread(FakeMessagesApi([Reply([Text("word " * 4000)], delay_s=0.02)])) as api,
        running(tmp_path, env={"ANTHROPIC_API_KEY": "sk-x", "ANTHROPIC_BASE_URL": api.base_url}) as daemon,
    ):
        session = daemon.create()
        daemon.post(session, "go")
        with daemon.http(timeout_s=SOON_S) as http:

            def last_seq() -> int:
                return int(http.get(f"/v1/sessions/{session}").json()["last_seq"])

            until(lambda: last_seq() > 2, "a block is open")
            with http.stream("GET", f"/v1/sessions/{session}/events", params={"after": last_seq()}) as answer:
                assert answer.status_code == 200
                with daemon.http(timeout_s=SOON_S) as other:
                    assert other.get("/v1/health/live").status_code == 200
                spent = cpu_s(daemon.pid)
                time.sleep(0.5)
                assert cpu_s(daemon.pid) - spent < 0.3, "a reader that has nothing to read keeps the daemon busy"
            assert http.post(f"/v1/sessions/{session}/cancel").status_code == 200


def cpu_s(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_tool_that_outlasts_the_drain_is_cut_and_its_turn_interrupted(tmp_path: Path) -> None:
    skill = write_skill(tmp_path / "skills", "sleeper", SLEEPER).parent
    with running(tmp_path, skills=[skill], config="[daemon]\ndrain_s = 0.3\n") as daemon:
        session, turn = start_sleeper(daemon)
        assert daemon.stop(timeout_s=SOON_S) == 0
        daemon.start()
        assert types(daemon, session)[-2:] == ["tool.finished", "turn.interrupted"]
        result = daemon.wait(turn)["result"]
        assert (result["stop_reason"], result["error"]["code"]) == ("shutdown", "shutdown")


def test_a_second_sigterm_ends_the_drain_at_once(tmp_path: Path) -> None:
    skill = write_skill(tmp_path / "skills", "sleeper", SLEEPER).parent
    with running(tmp_path, skills=[skill], config="[daemon]\ndrain_s = 300\n") as daemon:
        session, _ = start_sleeper(daemon)
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGTERM)
        until(lambda: "stopping" in daemon.log.read_text(), "the drain begins")
        began = time.monotonic()
        assert daemon.stop(timeout_s=SOON_S) == 0
        assert time.monotonic() - began < 5
        daemon.start()
        assert types(daemon, session)[-1] == "turn.interrupted"


def test_a_start_on_a_machine_without_bash_fails_and_names_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    daemon = Daemon(tmp_path, env={"PATH": str(tmp_path / "empty")})
    with pytest.raises(AssertionError, match=r"skilld ended with [1-9]"):
        daemon.start()
    last = daemon.log.read_text().splitlines()[-1]
    assert "cannot start: the local backend found no bash in PATH" in last


def test_one_damaged_message_of_an_unfinished_turn_does_not_keep_the_daemon_from_starting(tmp_path: Path) -> None:
    skill = write_skill(tmp_path / "skills", "sleeper", SLEEPER).parent
    with running(tmp_path, skills=[skill]) as daemon:
        damaged, turn = start_sleeper(daemon)
        whole, _ = start_sleeper(daemon)
        daemon.kill()
        db = apsw.Connection(str(daemon.state / "journal.db"))
        db.execute(
            "UPDATE event SET data = replace(data, 'text', 'tezt') WHERE type = 'turn.queued' AND session = ?",
            (damaged,),
        )
        db.close()
        daemon.start()
        assert turn in daemon.log.read_text()
        assert types(daemon, whole)[-1] == "turn.interrupted"
        assert daemon.ask(whole, "hello")["status"] == "finished"
