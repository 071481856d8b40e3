"""kill -9 at random points under load: nothing acknowledged is lost, nothing runs twice, nothing is left behind.

SKILLD_TEST_KILLS sets how often (50 by default).
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.crash_kit import (
    Follower,
    MakeText,
    Sender,
    Toll,
    check_all,
    check_file,
    wait_for_acknowledged,
    wait_for_tools_gone,
)
from e2e.harness import Daemon, running, write_skill
from skill_actors.testing import Answer, FakeMessagesApi, Reply, Text, ToolUse, serve_in_thread

pytestmark = [
    pytest.mark.e2e,
    # httpx leaks the socket of a connect that fails, and here they fail by design.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

KILLS = int(os.environ.get("SKILLD_TEST_KILLS", "50"))
SESSIONS = 3

SCRIPT = """
import sys, time
with open({outside!r}, "a") as file:
    file.write(sys.argv[1] + "\\n")
time.sleep(0.05)
print("did", sys.argv[1])
"""


def test_nothing_is_lost_or_done_twice_over_kills_at_random_points(tmp_path: Path) -> None:
    """On two daemons at once: one streams from the API, one starts fast, so that most kills hit it."""
    (tmp_path / "api").mkdir()
    (tmp_path / "offline").mkdir()
    with serve_in_thread(FakeMessagesApi(respond=answer)) as api, ThreadPoolExecutor(2) as pool:
        env = {"ANTHROPIC_API_KEY": "sk-test", "ANTHROPIC_BASE_URL": api.base_url}
        streaming = pool.submit(kill_again_and_again, tmp_path / "api", ask_api, max(2, KILLS // 5), env)
        tools = pool.submit(kill_again_and_again, tmp_path / "offline", ask_skill, KILLS - max(2, KILLS // 5), {})
        for half in (streaming, tools):
            half.result()


def answer(body: Mapping[str, Any]) -> Answer:
    """The command in the last line that the user said, once; then thirty slow words."""
    content = body["messages"][-1]["content"]
    if any(block["type"] == "tool_result" for block in content):
        return Reply([Text(" ".join(f"word{number}" for number in range(30)))], delay_s=0.004)
    key, *command = [block["text"] for block in content if block["type"] == "text"][-1].splitlines()
    calls = [ToolUse("bash_tool", {"command": command[0]})] if command else []
    return Reply([Text(f"About {key}."), *calls])


def ask_api(outside: Path) -> MakeText:
    """Each command also leaves a daemon behind, which must not outlive it."""
    stray = "(setsid nohup sleep 600 >/dev/null 2>&1 &)"
    return lambda key: f"{key}\necho {key} >> {outside}; {stray}; sleep 0.05"


def ask_skill(_outside: Path) -> MakeText:
    return lambda key: f"/job {key}"


def kill_again_and_again(folder: Path, ask: Callable[[Path], MakeText], kills: int, env: dict[str, str]) -> None:
    rng = random.Random(folder.name)
    outside = folder / "outside.txt"
    write_skill(folder / "skills", "job", SCRIPT.format(outside=str(outside)))
    text = ask(outside)
    toll = Toll()
    with running(folder, skills=[folder / "skills"], env=env) as daemon:
        sessions = [daemon.create() for _ in range(SESSIONS)]
        followers = [Follower(daemon, session) for session in sessions]
        for follower in followers:
            follower.start()
        for round in range(kills):
            one_round(daemon, sessions, toll, rng, text, round)
        for session in sessions:
            assert daemon.ask(session, f"still-there-{session}")["status"] == "finished"
            wait_for_rest(daemon, session)
        for follower in followers:
            follower.finish(daemon.events(follower.session)[-1]["seq"])
        assert toll.count >= kills
        check_all(daemon, toll, followers, outside)
    check_file(daemon.state, toll.acked)
    cuts = sum(follower.cuts for follower in followers)
    print(
        f"{folder.name}: {kills} kills, {toll.count} acknowledged, {cuts} cuts, orphans {toll.slowest_orphan_s:.2f} s"
    )


def one_round(daemon: Daemon, sessions: list[str], toll: Toll, rng: random.Random, text: MakeText, round: int) -> None:
    senders = [Sender(daemon, session, f"r{round}s{n}", text) for n, session in enumerate(sessions)]
    for sender in senders:
        sender.start()
    time.sleep(rng.uniform(0.02, 0.5))
    wait_for_acknowledged(senders, round + 1 - toll.count)  # one in each round on the whole, however slow the machine
    if round % 5 == 4:  # stopped and continued, as by a debugger or a suspended machine: not a crash
        os.kill(daemon.pid, signal.SIGSTOP)
        time.sleep(0.2)
        os.kill(daemon.pid, signal.SIGCONT)
        time.sleep(0.1)
    daemon.kill()
    for session, sender in zip(sessions, senders, strict=True):
        sender.stop()
        toll.add(session, sender)
    toll.slowest_orphan_s = max(toll.slowest_orphan_s, wait_for_tools_gone(str(daemon.state)))
    if round % 3 == 2:  # again while it starts
        daemon.launch()
        time.sleep(rng.uniform(0.0, 1.0))
        daemon.kill()
    daemon.start()
    for session in sessions:  # what still waits would fill the queues and keep the next round out
        cancel_all(daemon, session)


def cancel_all(daemon: Daemon, session: str) -> None:
    with daemon.http() as http:
        http.post(f"/v1/sessions/{session}/cancel", json={"queued": True})


def wait_for_rest(daemon: Daemon, session: str) -> None:
    """Wait until nothing of the session runs or waits."""
    deadline = time.monotonic() + 60
    with daemon.http() as http:
        while True:
            try:
                if http.get(f"/v1/sessions/{session}").json()["status"] == "idle":
                    return
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline
            time.sleep(0.05)
