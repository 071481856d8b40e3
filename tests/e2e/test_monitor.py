"""Programs that report to the real daemon: what arrives, who sees it, and what becomes of them when it is away."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import require
from e2e.harness import Daemon, clean_environment, program, running
from monitor_kit import run_program

pytestmark = pytest.mark.e2e

BURST = 5_000
UNHURRIED = {"SKILLD_MONITOR_EXIT_TIMEOUT_S": "20"}  # what a busy machine may need to deliver them at the end
PYTHON = "/usr/bin/python3"  # which others may run too
PROGRAM = """
import skilld_monitor
skilld_monitor.enable_monitoring("{agent}")
for n in range({count}):
    skilld_monitor.log_event("burst", {{"n": n, "text": "order number"}}, "ORDERS", "warning")
{rest}
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with running(tmp_path) as made:
        yield made


def report(daemon: Daemon, count: int, agent: str = "shop", rest: str = "") -> None:
    text = PROGRAM.format(agent=agent, count=count, rest=rest)
    done = run_program(text, daemon.folder, env=UNHURRIED, timeout_s=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def stored(daemon: Daemon) -> int:
    """How many of the bursts there are; what was not acknowledged within 2 s another program brings."""
    deadline = time.monotonic() + 60
    while (spool := daemon.folder / "spool").is_dir() and list(spool.iterdir()):
        assert time.monotonic() < deadline, "it stays in the spool"
        report(daemon, 0, agent="sweeper")
    with daemon.http() as http:
        return int(http.get("/v1/monitor/stats").json()["channels"].get("ORDERS", 0))


def test_a_burst_and_an_immediate_end_lose_nothing_and_are_found_again(daemon: Daemon) -> None:
    report(daemon, BURST)
    assert stored(daemon) == BURST
    stats = json.loads(daemon.skillctl("monitor", "stats", "--json").stdout)
    (source,) = stats["sources"]
    assert (source["agent"], source["uid"], source["runs"]) == ("shop", os.getuid(), 1)
    tail = daemon.skillctl("monitor", "tail", "-n", "2", "--level", "warning").stdout.splitlines()
    assert [line.split(" ", 1)[1] for line in tail] == [
        f'WARNING shop ORDERS burst {{"n": {n}, "text": "order number"}}' for n in (BURST - 2, BURST - 1)
    ]
    found = json.loads(daemon.skillctl("monitor", "query", "number 4711", "--json").stdout)["items"]
    assert [event["data"]["n"] for event in found] == [4711]
    assert found[0]["sender_pid"] == found[0]["pid"] != os.getpid()
    metrics = daemon.skillctl("metrics").stdout
    assert f'skilld_monitor_events_total{{outcome="stored"}} {BURST + 1}.0' in metrics


CALLS = """
import skilld_monitor
from skilld_monitor import Span, context
used = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "claude-sonnet-5-5",
        "gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 500}
with skilld_monitor.enable_monitoring("shop"):
    with context.session("conv-1"), context.user("u-1"), context.tags("beta"):
        with Span("request"):
            with Span("chat claude-sonnet-5-5", used):
                skilld_monitor.log_event("cache.miss", {"key": "k"}, "ORDERS")
"""


def test_a_request_is_found_as_a_tree_with_what_it_used_and_cost(daemon: Daemon) -> None:
    done = run_program(CALLS, daemon.folder)
    assert (done.returncode, done.stderr) == (0, "")
    (event,) = json.loads(daemon.skillctl("monitor", "query", "--name", "cache.miss", "--json").stdout)["items"]
    assert (event["session"], event["user"], event["tags"]) == ("conv-1", "u-1", ["beta"])
    lines = daemon.skillctl("monitor", "trace", event["trace"][:12]).stdout.splitlines()
    assert lines[0].startswith(f"{event['trace']} of shop, ")
    assert lines[0].endswith("2 spans, 1 event, 0 errors, 1000 tokens in and 500 out, $0.007000")
    assert lines[1].startswith("request ")
    assert lines[2].startswith("└─ chat claude-sonnet-5-5 ")
    assert lines[2].endswith(" ok 1000 in 500 out $0.007")
    assert lines[3] == '   └─ · INFO ORDERS cache.miss {"key": "k"}'
    by_event = json.loads(daemon.skillctl("monitor", "trace", str(event["id"]), "--json").stdout)
    assert (by_event["trace"], by_event["summary"]["spans"], by_event["more"]) == (event["trace"], 2, 0)
    stats = json.loads(daemon.skillctl("monitor", "stats", "--session", "conv-1", "--json").stdout)
    assert (stats["events"], stats["cost_usd"], stats["unpriced"]) == (3, 0.007, 0)
    assert "claude-sonnet-5-5" in daemon.skillctl("monitor", "stats").stdout
    (session,) = json.loads(daemon.skillctl("monitor", "sessions", "--json").stdout)["items"]
    assert (session["session"], session["user"], session["calls"]) == ("conv-1", "u-1", 1)
    shown = daemon.skillctl("monitor", "sessions").stdout.splitlines()[1].split()
    assert shown[:-1] == ["conv-1", "shop", "u-1", "3", "1", "0", "1000", "500", "$0.0070"]
    sources = json.loads(daemon.skillctl("monitor", "sources", "--json").stdout)["items"]
    assert [(one["agent"], one["stored"] > 3, one["waiting"]) for one in sources] == [("shop", True, 0)]
    assert daemon.skillctl("monitor", "sources", "--quarantine").stdout == ""
    metrics = daemon.skillctl("metrics").stdout
    assert "skilld_monitor_cost_usd_total 0.007" in metrics
    assert 'gen_ai_token_type="input"} 1000.0' in metrics
    refused = daemon.skillctl("monitor", "trace", "ffff")
    assert (refused.returncode, "no trace or event ffff" in refused.stderr) == (1, True)
    nothing = daemon.skillctl("monitor", "query", "--hours", "1", "--days", "1")
    assert nothing.returncode == 2
    recent = json.loads(daemon.skillctl("monitor", "query", "--hours", "1", "--tag", "beta", "--json").stdout)["items"]
    assert len(recent) == 3
    assert daemon.skillctl("monitor", "cleanup", "1").stdout == "0 events removed\n"
    assert "and has" in daemon.skillctl("monitor", "cleanup", "0", "--optimize").stdout
    assert stored(daemon) == 0
    with daemon.http() as http:
        facts = http.get("/v1/monitor/store").json()
    assert (facts["events"], facts["path"].endswith("/monitor/events.db")) == (0, True)


def test_a_file_that_is_damaged_while_the_daemon_runs_ends_no_report(daemon: Daemon) -> None:
    report(daemon, 10)
    path = next(daemon.folder.rglob("monitor/events.db"))
    with path.open("r+b") as file:
        file.write(os.urandom(path.stat().st_size))
    for ending in ("-wal", "-shm"):
        with path.with_name(path.name + ending).open("r+b") as file:
            file.write(os.urandom(64))
    report(daemon, 20)
    assert stored(daemon) >= 20
    assert daemon.skillctl("health").returncode == 0


def test_what_comes_is_followed(daemon: Daemon) -> None:
    report(daemon, 1)
    command = [*program("skillctl"), "--socket", str(daemon.socket), "monitor", "tail", "-f", "-n", "1", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=clean_environment()) as follower:
        assert follower.stdout is not None
        try:
            assert json.loads(follower.stdout.readline())["name"] == "burst", "now it follows"
            report(daemon, 3)
            names = [json.loads(follower.stdout.readline())["name"] for _ in range(4)]
        finally:
            follower.send_signal(signal.SIGINT)
        assert names == ["monitoring_enabled", "burst", "burst", "burst"]


def test_a_daemon_that_is_killed_in_the_middle_costs_nothing(daemon: Daemon) -> None:
    watched_program = """
import sys, skilld_monitor
made = skilld_monitor.enable_monitoring("shop")
for n in range(2000):
    skilld_monitor.log_event("burst", {"n": n}, "ORDERS")
    if n == 1000:
        made.flush()
        print("half", flush=True)
        sys.stdin.readline()
print("whole", flush=True)
sys.stdin.readline()
"""
    env = {
        "SKILLD_MONITOR_SOCKET": str(daemon.folder / "monitor.sock"),
        "SKILLD_MONITOR_SPOOL": str(daemon.folder / "spool"),
    }
    with subprocess.Popen(
        [sys.executable, "-c", watched_program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
    ) as watched:
        assert watched.stdin is not None
        assert watched.stdout is not None
        assert watched.stdout.readline() == "half\n"
        daemon.kill()
        print(file=watched.stdin, flush=True)
        assert watched.stdout.readline() == "whole\n"
        daemon.start()
        print(file=watched.stdin, flush=True)
        assert watched.wait(20) == 0
    report(daemon, 0, agent="sweeper")  # brings what was left behind, if the end came before the next try
    assert stored(daemon) == 2000


@pytest.mark.alone
def test_a_stopped_daemon_holds_up_no_call_and_gets_everything_later(daemon: Daemon) -> None:
    rest = """
import time
began = time.perf_counter()
for n in range(1000):
    skilld_monitor.log_event("burst", {"n": n}, "ORDERS")
assert time.perf_counter() - began < 0.5, "a thousand events take 10 ms"
"""
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        began_s = time.monotonic()
        report(daemon, 1000, rest=rest)
        assert time.monotonic() - began_s < 50
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    report(daemon, 0)
    assert stored(daemon) == 2000


def test_forks_and_a_missing_socket(tmp_path: Path) -> None:
    rest = """
import os, sys
if os.fork() == 0:
    skilld_monitor.log_event("burst", {"n": -1}, "ORDERS")
    sys.exit()
os.wait()
"""
    done = run_program(PROGRAM.format(agent="shop", count=100, rest=rest), tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "spool").iterdir())) == 2
    with running(tmp_path) as daemon:
        report(daemon, 0)
        assert stored(daemon) == 101
    assert list((tmp_path / "spool").iterdir()) == []


def test_reports_survive_the_daemon_and_garbage_hurts_no_conversation(daemon: Daemon) -> None:
    report(daemon, 10)
    for garbage in (b"\0" * 4096, b"GET / HTTP/1.1\r\n\r\n", b"{" * 100_000):
        with socket.socket(socket.AF_UNIX) as rude:
            rude.connect(str(daemon.folder / "monitor.sock"))
            rude.sendall(garbage)
    session = daemon.create()
    assert daemon.ask(session, "hello")["status"] == "finished"
    daemon.kill()
    daemon.start()
    assert stored(daemon) == 10


def test_the_ingest_socket_is_no_way_to_the_daemon(daemon: Daemon) -> None:
    path = daemon.folder / "monitor.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        client.sendall(b"POST /v1/shutdown HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        assert b'"code": "bad"' in client.recv(4096)
    assert daemon.skillctl("health").returncode == 0


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    with running(tmp_path, config="[monitor]\nenabled = false\n") as daemon:
        assert not (tmp_path / "monitor.sock").exists()
        refused = daemon.skillctl("monitor", "stats")
        assert refused.returncode == 1
        assert "monitor.enabled" in refused.stderr


def test_another_user_may_report_once_the_role_says_so_and_sees_nothing_of_it(tmp_path: Path) -> None:
    able = os.geteuid() == 0 and shutil.which("setpriv") is not None and Path(PYTHON).exists()
    require(able, "two users need root, setpriv and a Python for everybody")
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.name.startswith(("pytest-", "popen-")):  # of a run, and of one of its processes
            parent.chmod(0o755)
    nobody = ["setpriv", "--reuid=65533", "--regid=65533", "--clear-groups", "--"]
    line = json.dumps({"batch": 1, "run": "a" * 32, "agent": "guest", "events": []}) + "\n"
    talk = (
        "import socket, sys\n"
        "client = socket.socket(socket.AF_UNIX)\n"
        f"client.connect({str(tmp_path / 'monitor.sock')!r})\n"
        f"client.sendall({line.encode()!r})\n"
        "print(client.recv(4096).decode())\n"
    )

    def as_guest() -> str:
        done = subprocess.run(
            [*nobody, PYTHON, "-c", talk], capture_output=True, text=True, timeout=30, cwd="/", check=False
        )
        return done.stdout + done.stderr

    with running(tmp_path):
        assert "Permission denied" in as_guest()
    with running(tmp_path, config="[roles.report]\nuids = [65533]\n") as daemon:
        assert json.loads(as_guest()).items() >= {"ack": 1, "stored": 0, "refused": 0}.items()
        control = [*nobody, "curl", "-s", "--unix-socket", str(daemon.socket), "http://skilld/v1/monitor/stats"]
        assert subprocess.run(control, capture_output=True, timeout=30, cwd="/", check=False).returncode != 0
    with running(tmp_path, config="[roles.report]\nuids = [65532]\n"):
        assert json.loads(as_guest())["error"]["code"] == "forbidden"
