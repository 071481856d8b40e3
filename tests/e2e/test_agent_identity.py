"""The program of an agent as a client of the daemon: it acts for the agent's owner, bound by what binds the agent."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.harness import JSON, Daemon, running

pytestmark = pytest.mark.e2e

# The end of the prompt is a script: what it prints is the answer.
CONFIG = """
[backends.command.shell]
argv = ["sh", "-c", "sed '1,/^#!script$/d' | sh"]
"""
CURL = 'curl -sS --unix-socket "$S" -H content-type:application/json'


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("identity")
    with running(folder, config=CONFIG) as daemon:
        yield daemon


def performed(daemon: Daemon, script: str, **settings: object) -> str:
    """What a program of an agent prints that runs this script."""
    session = daemon.create(backends=["shell"], **settings)
    return said(daemon, session, script)


def said(daemon: Daemon, session: str, script: str) -> str:
    turn = daemon.ask(session, f"\n#!script\nexport S={daemon.socket}\n{script}")
    assert turn["status"] == "finished", turn["result"]
    return str(turn["result"]["text"])


def called(daemon: Daemon, method: str, path: str, body: JSON | None = None, **settings: object) -> JSON:
    """What the daemon answers to a request of such a program."""
    data = "" if body is None else f" -d '{json.dumps(body)}'"
    found: JSON = json.loads(performed(daemon, f"{CURL} -X {method}{data} http://x{path}", **settings) or "{}")
    return found


def test_it_reads_and_uses_the_workshop_and_nothing_else(daemon: Daemon) -> None:
    assert called(daemon, "GET", "/v1/workshop/agents")["items"] == []
    assert called(daemon, "PUT", "/v1/workshop/store/n/k", {"value": 1})["version"] == 1
    for method, path, body in (
        ("POST", "/v1/shutdown", None),
        ("POST", "/v1/config/reload", None),
        ("POST", "/v1/skills/reload", None),
        ("GET", "/v1/backup", None),
        ("POST", "/v1/budgets", {"name": "day", "usd": 5}),
        ("PATCH", "/v1/workshop/config", {"context": "x"}),
        ("PUT", "/v1/workshop/profiles/p", {"role": "x"}),
        ("PUT", "/v1/workshop/workflows/w", {"stage": [{"name": "a", "agent": "b", "prompt": "c"}]}),
        ("POST", "/v1/workshop/board/workers", {"name": "w", "types": ["code"]}),
        ("PUT", "/v1/workshop/agents/loose", {"policy": "full"}),
        ("PUT", "/v1/workshop/agents/rich", {"max_cost_usd": 1000.0}),
        ("PUT", "/v1/workshop/agents/armed", {"workshop_tools": True}),
        ("POST", "/v1/sessions", {"policy": {"preset": "full"}}),
        ("POST", "/v1/sessions", {"backends": ["shell"]}),
        ("POST", "/v1/sessions", {"parent": "ses_" + "a" * 26}),
    ):
        answer = called(daemon, method, path, body)
        assert answer["error"]["code"] == "forbidden", (method, path, answer)


def test_it_changes_nothing_of_its_own_and_touches_no_conversation_that_it_has_not_made(daemon: Daemon) -> None:
    session, other = daemon.create(backends=["shell"]), daemon.create()
    for method, path, body in (
        ("PATCH", f"/v1/sessions/{session}", {"policy": {"preset": "full"}}),
        ("PATCH", f"/v1/sessions/{session}", {"title": "mine"}),
        ("DELETE", f"/v1/sessions/{other}", None),
        ("POST", f"/v1/sessions/{other}/messages", {"text": "do it for me"}),
        ("POST", f"/v1/sessions/{other}/cancel", {}),
        ("POST", f"/v1/sessions/{session}/fork", {}),
        ("PUT", f"/v1/sessions/{other}/files/x", None),
        ("POST", f"/v1/approvals/apr_{'a' * 26}", {"decision": "allow"}),
    ):
        data = "" if body is None else f" -d '{json.dumps(body)}'"
        answer = json.loads(said(daemon, session, f"{CURL} -X {method}{data} http://x{path}"))
        assert answer["error"]["code"] == "forbidden", (method, path, answer)


def test_what_it_makes_works_for_it_under_its_policy_and_its_caps(daemon: Daemon) -> None:
    session = daemon.create(backends=["shell"], policy={"preset": "guarded"}, budget={"tool_calls": 7})
    made = json.loads(said(daemon, session, f"{CURL} -X POST -d '{{}}' http://x/v1/sessions"))
    assert made["parents"] == [session]
    assert made["policy"]["preset"] == "guarded"
    spoken = json.loads(
        said(daemon, session, f'{CURL} -X POST -d \'{{"text": "hi"}}\' http://x/v1/sessions/{made["id"]}/messages')
    )
    assert daemon.wait(spoken["turn"])["status"] == "finished"
    agent = json.loads(said(daemon, session, f"{CURL} -X PUT http://x/v1/workshop/agents/child"))
    with daemon.http() as http:
        child = http.get(f"/v1/sessions/{agent['session']}").json()
        assert (child["parents"], child["policy"]["preset"]) == ([session], "guarded")
        again = http.post("/v1/workshop/agents/child/reset").json()
        assert http.get(f"/v1/sessions/{again['session']}").json()["parents"] == [session]


def test_it_takes_the_place_of_no_agent_that_it_has_not_made(daemon: Daemon) -> None:
    daemon.skillctl("workshop", "agent", "define", "capped", "--max-cost", "1")
    assert called(daemon, "PUT", "/v1/workshop/agents/capped")["error"]["code"] == "forbidden"
    daemon.skillctl("workshop", "agent", "dismiss", "capped")
    assert called(daemon, "PUT", "/v1/workshop/agents/capped")["error"]["code"] == "forbidden"
    with daemon.http() as http:
        names = [cap["name"] for cap in http.get("/v1/budgets").json()["items"]]
    assert any(name.endswith(".capped") for name in names), names


@pytest.mark.parametrize(
    "way",
    [
        "{call}",
        "setsid -w sh -c '{call}'",
        "sh -c \"( setsid sh -c '{call} > out; mv out done' & ) & exit 0\"\n"
        "until test -e done; do sleep 0.05; done; cat done",
        "env -i PATH=$PATH S=$S SKILLD_RUNNER=none SKILLD_AGENT=none SKILLD_SOCKET=/none sh -c '{call}'",
    ],
    ids=["itself", "another session", "an orphan", "another environment"],
)
def test_it_is_known_wherever_it_goes(daemon: Daemon, way: str) -> None:
    call = f"{CURL} -X POST http://x/v1/config/reload"
    answer = json.loads(performed(daemon, way.replace("{call}", call)))
    assert answer["error"]["code"] == "forbidden", answer
    assert "not for agents" in answer["error"]["message"]


HUNT = """
import os, signal, socket, sys
def above(pid): return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
if len(sys.argv) == 4:
    launcher = os.getpid()
    while "launcher.py" not in open(f"/proc/{launcher}/cmdline").read(): launcher = above(launcher)
    if os.fork(): signal.pause()
    os.setsid()
    if os.fork(): os._exit(0)
    if sys.argv[3] == "leads": os.setsid()
    os.execve(sys.executable, [sys.executable, *sys.argv, str(launcher)], {})
_, path, told, _, launcher = sys.argv
os.kill(int(launcher), signal.SIGKILL)
while str(above(os.getpid())) == launcher: pass
s = socket.socket(socket.AF_UNIX)
s.connect(path)
s.sendall(b"POST /v1/config/reload HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n")
said = s.recv(65536).decode()
with open(told + ".new", "w") as file: file.write(said)
os.rename(told + ".new", told)
signal.pause()
"""


@pytest.mark.parametrize("session", ["leads", "follows"])
def test_who_kills_its_own_launcher_is_nobody_and_ended(tmp_path: Path, session: str) -> None:
    """Nothing is above it by then, no mark is in its environment: it must not be taken for the daemon's user."""
    (tmp_path / "hunt.py").write_text(HUNT)
    told = tmp_path / "told"
    with running(tmp_path, config=CONFIG) as daemon:
        script = f"exec {sys.executable} {tmp_path}/hunt.py {daemon.socket} {told} {session}"
        turn = daemon.ask(daemon.create(backends=["shell"]), f"\n#!script\n{script}")
        assert turn["status"] == "failed"
        if told.exists():  # it may have been ended before it heard anything
            assert " 403 " in told.read_text()
            assert "was left by a program" in told.read_text()
        wait_until(lambda: not [line for line in commands() if b"hunt.py" in line and bytes(told) in line])


def commands() -> list[bytes]:
    """Command lines of all processes; empty for those that have ended and were not waited for."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                found.append((entry / "cmdline").read_bytes())
    return found


def wait_until(holds: Callable[[], bool], within_s: float = 20.0) -> None:
    """Fail unless it holds before long: at once where nothing else is going on."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("stays", [True, False])
def test_who_has_ended_when_its_connection_is_taken_is_nobody(daemon: Daemon, stays: bool) -> None:
    """It cannot be told any more whether it was an agent's, so nothing that it has said is done."""
    path = f"/v1/workshop/store/gone/{stays}"
    body = b'{"value": 1}'
    head = f"PUT {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    source = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "s.connect(sys.argv[1])\n"
        "s.sendall(sys.stdin.buffer.read())\n"
        "print('sent', flush=True)\n"
        f"{stays} and s.recv(1)\n"
    )
    daemon.process.send_signal(signal.SIGSTOP)  # type: ignore[union-attr]
    try:
        with subprocess.Popen(
            [sys.executable, "-c", source, str(daemon.socket)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.write(head.encode() + body)
            client.stdin.close()
            assert client.stdout.readline() == b"sent\n"
            if not stays:
                client.wait(30)
            daemon.process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]
            client.wait(30)
    finally:
        daemon.process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]
    with daemon.http() as http:  # taken after the other one
        assert http.get(path).status_code == (200 if stays else 404)
