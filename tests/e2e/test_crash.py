"""kill -9 while answers stream: nothing acknowledged is lost, nothing runs twice, the next turn works."""

from __future__ import annotations

import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from e2e.harness import Daemon, running
from skill_actors.testing import FakeMessagesApi, serve_in_thread

pytestmark = [
    pytest.mark.e2e,
    # httpx leaks the socket of a connect that fails, and here they fail by design.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

KILLS = int(os.environ.get("SKILLD_TEST_KILLS", "20"))


class Client(threading.Thread):
    """Sends numbered messages with keys as fast as it can, and remembers which were acknowledged."""

    def __init__(self, daemon: Daemon, session: str, round: int, name: str) -> None:
        super().__init__(daemon=True)
        self._daemon = daemon
        self._session = session
        self._key = f"{name}-{round}"
        self.acked: dict[str, str] = {}  # key -> turn

    def run(self) -> None:
        with self._daemon.http(timeout_s=5) as http:
            for number in range(100):
                key = f"{self._key}-{number}"
                try:
                    answer = http.post(
                        f"/v1/sessions/{self._session}/messages",
                        json={"text": f"{key}\n#words 40\n#delay 0.005"},
                        headers={"Idempotency-Key": key},
                    )
                except httpx.TransportError:
                    return
                if answer.status_code == 202:
                    self.acked[key] = answer.json()["turn"]
                else:
                    time.sleep(0.02)


def test_nothing_acknowledged_is_lost_over_many_kills_in_mid_stream(tmp_path: Path) -> None:
    """On two daemons at once, since most of the time goes into importing the SDK again."""
    with serve_in_thread(FakeMessagesApi([])) as api, ThreadPoolExecutor(2) as pool:
        env = {"ANTHROPIC_API_KEY": "sk-test", "ANTHROPIC_BASE_URL": api.base_url}
        halves = [pool.submit(kill_again_and_again, tmp_path / name, env, KILLS // 2, name) for name in ("a", "b")]
        for half in halves:
            half.result()


def kill_again_and_again(folder: Path, env: dict[str, str], kills: int, seed: str) -> None:
    rng = random.Random(seed)
    acked: dict[str, str] = {}
    folder.mkdir()
    with running(folder, env=env) as daemon:
        sessions = [daemon.create() for _ in range(3)]
        for round in range(kills):
            clients = [Client(daemon, session, round, f"c{n}") for n, session in enumerate(sessions)]
            for client in clients:
                client.start()
            wait_for_a_delta(daemon, sessions[round % len(sessions)])
            time.sleep(rng.uniform(0.0, 0.3))
            daemon.kill()
            for client in clients:
                client.join(10)
                acked.update(client.acked)
            daemon.start()
            for session in sessions:  # what still waits would fill the queues and keep the next round out
                cancel_all(daemon, session)
        for session in sessions:
            assert daemon.ask(session, f"still there, {session}?")["status"] == "finished"
        assert len(acked) >= kills
        check(daemon, sessions, acked)


def wait_for_a_delta(daemon: Daemon, session: str) -> None:
    """Wait until an answer streams."""
    with daemon.http() as http:
        after = http.get(f"/v1/sessions/{session}").json()["last_seq"]
        path, headers = f"/v1/sessions/{session}/events", {"accept": "text/event-stream"}
        with http.stream("GET", path, params={"after": after}, headers=headers) as stream:
            for line in stream.iter_lines():
                if line.startswith("event: model.delta"):
                    return


def cancel_all(daemon: Daemon, session: str) -> None:
    with daemon.http() as http:
        http.post(f"/v1/sessions/{session}/cancel", json={"queued": True})


def check(daemon: Daemon, sessions: list[str], acked: dict[str, str]) -> None:
    """Every acknowledged message is there once, in one turn, with exactly one ending; numbers only rise."""
    stored: dict[str, str] = {}
    ended: set[str] = set()
    for session in sessions:
        events = daemon.events(session)
        seqs = [event["seq"] for event in events]
        assert seqs == sorted(set(seqs))
        endings: dict[str, int] = {}
        for event in events:
            if event["type"] == "turn.queued":
                key = event["data"]["text"].splitlines()[0]
                assert key not in stored, f"{key} was stored twice"
                stored[key] = event["turn"]
            elif event["type"] in ("turn.finished", "turn.failed", "turn.cancelled", "turn.interrupted"):
                endings[event["turn"]] = endings.get(event["turn"], 0) + 1
        assert max(endings.values()) == 1
        ended |= endings.keys()
    missing = {key: turn for key, turn in acked.items() if stored.get(key) != turn}
    assert not missing
    assert set(acked.values()) <= ended
