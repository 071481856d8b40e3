"""The dashboard as its user starts it: beside a real daemon, with what a browser would send."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.harness import Daemon, clean_environment, program, running, write_skill

pytestmark = pytest.mark.e2e

SOON_S = 60.0
ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)")


class Browser:
    """A client that has opened the address, and sends what our pages send."""

    def __init__(self, address: str, process: subprocess.Popen[str]) -> None:
        found = ADDRESS.fullmatch(address)
        assert found is not None, address
        self.address, self.port, self.token = address, int(found[1]), found[2]
        self.process = process
        headers = {"x-skilld-token": self.token, "origin": f"http://127.0.0.1:{self.port}"}
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=90, trust_env=False)
        self.http.get(address).raise_for_status()

    def get(self, path: str) -> Any:
        answer = self.http.get(f"/api{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, **value: Any) -> Any:
        answer = self.http.post(f"/api{path}", json=value)
        assert answer.status_code in (200, 201, 202), answer.text
        return answer.json()

    def events(self, path: str, until: str, last_id: str | None = None) -> list[dict[str, Any]]:
        """Follow until an event of this type came."""
        headers = {} if last_id is None else {"last-event-id": last_id}
        found: list[dict[str, Any]] = []
        with self.http.stream("GET", f"/api{path}", headers=headers) as answer:
            assert answer.status_code == 200
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    found.append(json.loads(line.removeprefix("data: ")))
                    if found[-1]["type"] == until:
                        return found
        raise AssertionError(f"the stream ended before {until}: {found}")


@contextmanager
def dashboard(daemon: Daemon, *options: str, env: dict[str, str] | None = None) -> Iterator[Browser]:
    """`skillctl dashboard`, until it is told to end."""
    environment = clean_environment(SKILLD_SOCKET=str(daemon.socket), **(env or {}))
    command = [*program("skillctl"), "dashboard", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().strip()
            assert line, process.communicate()
            browser = Browser(line, process)
            with closing(browser.http):
                yield browser
        finally:
            if process.poll() is None:
                process.terminate()
            rest = process.communicate(timeout=SOON_S)
            assert rest == ("", ""), rest


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("dashboard")
    write_skill(folder / "skills", "echo", "import sys\nprint(*sys.argv[1:])\n")
    write_skill(folder / "skills", "linger", "import sys, time\ntime.sleep(float(sys.argv[1]))\nprint('done')\n")
    with running(folder, skills=[folder / "skills"]) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def browser(daemon: Daemon) -> Iterator[Browser]:
    with dashboard(daemon) as browser:
        yield browser


def ctl(daemon: Daemon, *args: str) -> str:
    done = daemon.skillctl(*args)
    assert done.returncode == 0, (args, done.stdout, done.stderr)
    return done.stdout


def define(daemon: Daemon, name: str) -> str:
    """An agent; the id of its conversation."""
    ctl(daemon, "workshop", "agent", "define", name, "--role", "<script>alert(1)</script>")
    return str(json.loads(ctl(daemon, "workshop", "agent", "info", name, "--json"))["session"])


def test_every_page_gets_what_it_asks_for(daemon: Daemon, browser: Browser) -> None:
    define(daemon, "seen")
    ctl(daemon, "board", "add", "<b>Title</b>", "--id", "shown")
    assert "<!doctype html>" in browser.http.get("/").text
    about = browser.get("/about")
    assert about["read_only"] is False
    assert {"ask", "dashboard"} <= about["commands"]["skillctl"].keys()
    assert "agent" in about["commands"]["skillctl workshop"]
    assert browser.get("/v1/workshop/agents/seen")["role"] == "<script>alert(1)</script>"
    assert browser.get("/v1/workshop/board/items/shown")["title"] == "<b>Title</b>"
    for path in (
        *("/v1/status", "/v1/backends", "/v1/usage?by=model", "/v1/usage?by=day", "/v1/budgets", "/v1/workshop/cost"),
        *("/v1/workshop/agents", "/v1/workshop/board/summary", "/v1/workshop/board/items?limit=1000"),
        *("/v1/workshop/board/workers", "/v1/workshop/config", "/v1/workshop/profiles", "/v1/workshop/worktrees"),
        *("/v1/workshop/runs?limit=10", "/v1/workshop/schedules", "/v1/workshop/store?limit=200"),
        *("/v1/workshop/workflows", "/v1/approvals?status=all&limit=100"),
    ):
        assert isinstance(browser.get(path), dict)


def test_a_message_is_sent_and_its_answer_comes_live(daemon: Daemon, browser: Browser) -> None:
    session = define(daemon, "talker")
    turn = browser.post("/v1/workshop/cast", agent="talker", text="/echo high tide")["turn"]
    told = browser.events(f"/v1/sessions/{session}/events?after=0", "turn.finished")
    assert told[-1]["data"]["text"] == "high tide"
    assert {each["turn"] for each in told} == {turn}
    later = browser.events("/v1/workshop/events?last=100", "agent.cast_complete")
    assert later[-1]["data"]["agent"] == "talker"


def test_a_turn_is_cancelled_and_a_conversation_is_held_still(daemon: Daemon, browser: Browser) -> None:
    session = define(daemon, "worker")
    turn = browser.post("/v1/workshop/cast", agent="worker", text="/linger 600")["turn"]
    browser.events(f"/v1/sessions/{session}/events?after=0", "tool.started")
    assert browser.post(f"/v1/turns/{turn}/cancel")["cancelled"] == [turn]
    browser.events(f"/v1/sessions/{session}/events?after=0", "turn.cancelled")
    browser.post(f"/v1/sessions/{session}/pause")
    assert browser.get(f"/v1/sessions/{session}")["status"] == "paused"
    browser.post(f"/v1/sessions/{session}/resume")
    assert browser.get(f"/v1/sessions/{session}")["status"] == "idle"


def test_items_are_added_cancelled_and_wanted_again(browser: Browser) -> None:
    browser.post("/v1/workshop/board/items", id="one", title="One", spec="s", type="code", priority=2)
    assert browser.post("/v1/workshop/board/items/one/cancel", reason="no")["status"] == "cancelled"
    assert browser.post("/v1/workshop/board/items/one/retry")["status"] == "ready"
    refused = browser.http.post("/api/v1/workshop/board/items", json={"id": "one", "title": "Again"})
    assert refused.status_code == 409
    assert "one" in refused.json()["error"]["message"]


def test_a_workflow_is_run_and_a_schedule_is_run_now(daemon: Daemon, browser: Browser, tmp_path: Path) -> None:
    define(daemon, "clerk")
    flow = tmp_path / "flow.toml"
    flow.write_text("[parameters.what]\n[[stage]]\nname = 'one'\nagent = 'clerk'\nprompt = '/echo {what}'\n")
    ctl(daemon, "workflow", "define", "say", str(flow))
    run = browser.post("/v1/workshop/workflows/say/run", parameters={"what": "low tide"})["id"]
    deadline = time.monotonic() + SOON_S
    while (found := browser.get(f"/v1/workshop/runs/{run}"))["status"] == "running":
        assert time.monotonic() < deadline
    assert (found["status"], found["stages"]["one"]["result"]) == ("completed", "low tide")
    ctl(daemon, "workshop", "schedule", "add", "daily", "clerk", "--cron", "0 0 1 1 *", "/echo tick")
    assert browser.post("/v1/workshop/schedules/daily/run")["turn"].startswith("trn_")
    long = browser.http.post("/api/v1/workshop/workflows/say/run", json={"parameters": {"what": "x"}}).json()["id"]
    assert browser.post(f"/v1/workshop/runs/{long}/cancel")["id"] == long


def test_a_call_that_waits_is_decided(daemon: Daemon, browser: Browser) -> None:
    for decision, status in ({"decision": "allow"}, "finished"), ({"decision": "deny", "reason": "no"}, "failed"):
        session = daemon.create(policy={"rules": [{"effect": "ask", "tool": "bash_tool"}]})
        turn = daemon.post(session, "/echo hi").json()["turn"]
        browser.events(f"/v1/sessions/{session}/events?after=0", "approval.requested")
        (waiting,) = browser.get("/v1/approvals?status=pending&limit=100")["items"]
        assert waiting["session"] == session
        browser.post(f"/v1/approvals/{waiting['id']}", **decision)
        assert daemon.wait(turn)["status"] == status


def test_one_that_only_reads_changes_nothing(daemon: Daemon) -> None:
    with dashboard(daemon, "--read-only") as browser:
        assert browser.get("/about")["read_only"] is True
        refused = browser.http.post("/api/v1/workshop/board/items", json={"title": "x"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")


def test_it_outlives_the_daemon_and_goes_on_from_a_position(tmp_path: Path) -> None:
    with running(tmp_path) as daemon, dashboard(daemon) as browser:
        ctl(daemon, "workshop", "publish", "custom.test", "before")
        seen = browser.events("/v1/workshop/events?last=100", "custom.test.before")[-1]["seq"]
        daemon.kill()
        away = browser.http.get("/api/v1/status")
        assert (away.status_code, away.json()["error"]["code"]) == (503, "backend_unavailable")
        daemon.start()
        ctl(daemon, "workshop", "publish", "custom.test", "after")
        later = browser.events("/v1/workshop/events", "custom.test.after", last_id=str(seen))
        assert [each["type"] for each in later if each["type"].startswith("custom")] == ["custom.test.after"]


def test_a_signal_ends_it_also_while_somebody_follows(daemon: Daemon) -> None:
    for number, code in (signal.SIGINT, 130), (signal.SIGTERM, 0):
        with dashboard(daemon) as browser, browser.http.stream("GET", "/api/v1/workshop/events") as answer:
            assert answer.status_code == 200
            browser.process.send_signal(number)
            assert browser.process.wait(SOON_S) == code


def test_the_address_is_opened_by_a_file_that_only_its_user_can_read(daemon: Daemon, tmp_path: Path) -> None:
    noted, temporary = tmp_path / "noted", tmp_path / "temporary"
    temporary.mkdir()
    opener = tmp_path / "opener"
    opener.write_text(f'#!/bin/sh\necho "$1" > {noted}.part && mv {noted}.part {noted}\n')
    opener.chmod(0o755)
    with dashboard(daemon, "--open", env={"BROWSER": f"{opener} %s", "TMPDIR": str(temporary)}) as browser:
        deadline = time.monotonic() + SOON_S
        while not noted.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        address = noted.read_text().strip()
        assert browser.token not in address
        leading = Path(address.removeprefix("file://"))
        assert browser.address in leading.read_text()
        assert leading.parent.stat().st_mode & 0o777 == 0o700
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--port", "65536"], ["--port", "x"]])
def test_a_port_that_is_none_is_a_mistake(daemon: Daemon, arguments: Sequence[str]) -> None:
    assert daemon.skillctl("dashboard", *arguments).returncode == 2


def test_a_port_that_is_taken_and_a_daemon_that_is_away_are_said(
    daemon: Daemon, browser: Browser, tmp_path: Path
) -> None:
    taken = daemon.skillctl("dashboard", "--port", str(browser.port))
    assert (taken.returncode, "choose another --port" in taken.stderr) == (1, True)
    assert daemon.skillctl("--socket", str(tmp_path / "none.sock"), "dashboard").returncode == 4
