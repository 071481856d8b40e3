"""The life of conversations in the real daemon: forks, files, resets, and messages sent again over crashes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from e2e.harness import Daemon, clean_environment, program, running, write_skill

pytestmark = [
    pytest.mark.e2e,
    # httpx leaks the socket of a connect that fails, and here they fail by design.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

DUPLICATES = int(os.environ.get("SKILLD_TEST_DUPLICATES", "1000"))

SCRIPT = "import sys\nopen('made.txt', 'a').write(sys.argv[1] + '\\n')\nprint('did', sys.argv[1])\n"


def test_a_conversation_is_forked_exported_imported_reset_and_removed_by_skillctl(tmp_path: Path) -> None:
    write_skill(tmp_path / "skills", "job", SCRIPT)
    with running(tmp_path, skills=[tmp_path / "skills"]) as daemon:
        session = daemon.create()
        daemon.ask(session, "/job one")
        first = daemon.events(session)[-1]["seq"]
        daemon.ask(session, "/job two")
        fork = daemon.skillctl("fork", "--at", str(first), session).stdout.strip()
        daemon.ask(fork, "/job three")
        files = {each: (daemon.state / "workspaces" / each / "made.txt").read_text() for each in (session, fork)}
        assert files == {session: "one\ntwo\n", fork: "one\ntwo\nthree\n"}  # files as they are, history as it was
        asked = [e["data"]["text"] for e in daemon.events(fork) if e["type"] == "turn.queued"]
        assert asked == ["/job one", "/job three"]

        exported = daemon.skillctl("export", session)
        assert json.loads(exported.stdout.splitlines()[0])["settings"]["title"] == "/job one"
        taken_in = daemon.skillctl("import", "-", input=exported.stdout).stdout.strip()
        daemon.kill()
        daemon.start()
        for made in (fork, taken_in):
            assert daemon.ask(made, "/job again")["status"] == "finished"
        assert daemon.skillctl("rename", taken_in, "from afar").returncode == 0
        found = json.loads(daemon.skillctl("sessions", "--json", "--title", "AFAR", "--status", "idle").stdout)
        assert [item["id"] for item in found["items"]] == [taken_in]

        assert daemon.skillctl("reset", "--workspace", fork).returncode == 0
        assert not (daemon.state / "workspaces" / fork).exists()
        assert daemon.skillctl("rm", session, fork, taken_in).returncode == 0
        assert list((daemon.state / "workspaces").iterdir()) == []


def test_attached_clients_see_each_event_once_over_a_crash_and_wait_tells_how_it_ended(tmp_path: Path) -> None:
    write_skill(tmp_path / "skills", "job", SCRIPT)
    with running(tmp_path, skills=[tmp_path / "skills"]) as daemon:
        session = daemon.create()
        assert daemon.ask(session, "/job one")["status"] == "finished"
        first = daemon.events(session)[-1]["seq"]
        clients = [
            (after, attach(daemon, session, after, tmp_path / f"seen-{after}")) for after in (0, first - 2, first)
        ]
        try:
            for after, _ in clients:
                wait_for_lines(tmp_path / f"seen-{after}", first - after)
            daemon.ask(session, "/job two")
            daemon.kill()
            daemon.start()
            assert daemon.post(session, "/job three").status_code == 202
            waited = daemon.skillctl("wait", session)
            assert (waited.returncode, "did three" in waited.stdout) == (0, True), waited.stderr
            stored = [event["seq"] for event in daemon.events(session)]
            for after, client in clients:
                lines = wait_for_lines(tmp_path / f"seen-{after}", len(stored) - after)
                assert [json.loads(line)["seq"] for line in lines] == stored[after:]
                client.send_signal(signal.SIGINT)
                assert client.wait(20) == 130
        finally:
            for _, client in clients:
                client.kill()
                client.wait(10)
        assert daemon.post(session, "/job").status_code == 202
        failed = daemon.skillctl("wait", session)  # the script takes an argument
        assert "IndexError" in failed.stdout


def attach(daemon: Daemon, session: str, after: int, out: Path) -> subprocess.Popen[bytes]:
    """skillctl attach, whose output goes into a file."""
    with out.open("wb") as file:
        return subprocess.Popen(
            [*program("skillctl"), "attach", "--from", str(after), "--json", session],
            stdout=file,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            env=clean_environment(SKILLD_SOCKET=str(daemon.socket)),
        )


def wait_for_lines(file: Path, count: int) -> list[str]:
    """Wait until so many whole lines are there."""
    deadline = time.monotonic() + 20
    while (text := file.read_text()).count("\n") < count:
        assert time.monotonic() < deadline, text[-2000:]
        time.sleep(0.02)
    return text.splitlines()


def test_messages_sent_again_and_again_over_crashes_are_one_turn_each(tmp_path: Path) -> None:
    """Clients that saw no answer send again under the same key, at once and after the next start."""
    write_skill(tmp_path / "skills", "job", SCRIPT)
    keys = [f"key-{number}" for number in range(max(5, DUPLICATES // 20))]
    config = "[limits]\nqueued_messages = 1000\n"
    with running(tmp_path, skills=[tmp_path / "skills"], config=config) as daemon, ThreadPoolExecutor(8) as pool:
        session = daemon.create()
        answered: dict[str, set[str]] = {key: set() for key in keys}
        for kill in (True, True, True, False):
            sends = [pool.submit(send, daemon, session, key) for _ in range(5) for key in keys]
            if kill:
                next(iter(sends[len(keys) // 2 :])).result()
                daemon.kill()
            for key, turn in (done.result() for done in sends):
                if turn is not None:
                    answered[key].add(turn)
            if kill:
                daemon.start()
        assert all(len(turns) == 1 for turns in answered.values())
        for (turn,) in answered.values():
            assert daemon.wait(turn)["status"] in ("finished", "interrupted")
        events = daemon.events(session)
        queued = Counter(e["data"]["text"] for e in events if e["type"] == "turn.queued")
        assert queued == {f"/job {key}": 1 for key in keys}
        started = Counter(e["turn"] for e in events if e["type"] == "turn.started")
        assert set(started.values()) == {1}
        assert [e["seq"] for e in events] == sorted({e["seq"] for e in events})
        with daemon.http() as http:
            other = http.post(
                f"/v1/sessions/{session}/messages", json={"text": "other"}, headers={"Idempotency-Key": keys[0]}
            )
            assert other.json()["error"]["code"] == "idempotency_conflict"
        done = Counter((daemon.state / "workspaces" / session / "made.txt").read_text().split())
        assert set(done.values()) == {1}


def send(daemon: Daemon, session: str, key: str) -> tuple[str, str | None]:
    """The turn that the daemon named; None if there was no answer."""
    try:
        answer = daemon.post(session, f"/job {key}", key)
    except httpx.TransportError:
        return key, None
    assert answer.status_code == 202 or answer.json()["error"]["code"] == "draining", answer.text
    return key, answer.json().get("turn")
