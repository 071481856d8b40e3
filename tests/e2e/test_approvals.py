"""Calls that wait for somebody's word, in the real process: decided, bound to what was shown, kept over kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conftest import require
from e2e.harness import Daemon, clean_environment, program, running
from e2e.users_kit import ask_as, folder_for_all
from skill_actors.testing import FakeMessagesApi, serve_in_thread
from terminal_kit import at_terminal

pytestmark = pytest.mark.e2e

SOON_S = 60.0
IN_TIME_S = 3.0
CONFIG = '[policy]\nask = ["Bash"]\n'
APPROVER = 54_322


class Service:
    """A daemon whose model makes the calls that a message names, and tells their results."""

    def __init__(self, daemon: Daemon, api: FakeMessagesApi) -> None:
        self.daemon = daemon
        self.api = api

    def begin(self, *commands: str, session: str | None = None, **settings: Any) -> tuple[str, str]:
        """Session and turn of a message that makes the model run these commands, one round after the other."""
        session = self.daemon.create(**settings) if session is None else session
        calls = (f"#call bash_tool {json.dumps({'command': command, 'description': 'd'})}" for command in commands)
        accepted = self.daemon.post(session, "\n#then\n".join(calls))
        assert accepted.status_code == 202, accepted.text
        return session, accepted.json()["turn"]

    def get(self, path: str) -> dict[str, Any]:
        with self.daemon.http() as http:
            answer = http.get(path)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def waiting(self, session: str, count: int = 1) -> list[dict[str, Any]]:
        """What waits in the session, the oldest first, once it is so much."""
        until(lambda: len(self.waiting_now(session)) == count)
        return self.waiting_now(session)

    def waiting_now(self, session: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.get(f"/v1/approvals?session={session}")["items"]
        return items[::-1]

    def asked(self, session: str) -> list[dict[str, Any]]:
        """What the session has ever asked, once there is something: also what nobody has answered in time."""
        path = f"/v1/approvals?status=all&session={session}"
        until(lambda: self.get(path)["items"])
        return list(self.get(path)["items"])

    def is_settled(self, id: str) -> bool:
        return bool(self.get(f"/v1/approvals/{id}")["status"] != "pending")

    def decide(self, id: str, decision: str, **more: Any) -> tuple[int, dict[str, Any]]:
        with self.daemon.http() as http:
            answer = http.post(f"/v1/approvals/{id}", json={"decision": decision, **more})
        return answer.status_code, answer.json()

    def results(self, session: str) -> list[str]:
        """What the model was told of its calls."""
        return [event["data"]["content"] for event in self.of_type(session, "tool.finished")]

    def of_type(self, session: str, type: str) -> list[dict[str, Any]]:
        return [event for event in self.daemon.events(session) if event["type"] == type]

    def told(self) -> str:
        """The last request that the model's API got, as JSON."""
        return json.dumps(self.api.requests[-1].body)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serve_in_thread(FakeMessagesApi([])) as api:
        env = {"ANTHROPIC_API_KEY": "no-key", "ANTHROPIC_BASE_URL": api.base_url}
        with running(tmp_path_factory.mktemp("approvals"), config=CONFIG, env=env) as daemon:
            yield Service(daemon, api)


@pytest.fixture
def own(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Service]:
    """A daemon of the test's own, for what kills or configures it."""
    with serve_in_thread(FakeMessagesApi([])) as api:
        env = {"ANTHROPIC_API_KEY": "no-key", "ANTHROPIC_BASE_URL": api.base_url}
        with running(tmp_path, config=getattr(request, "param", CONFIG), env=env) as daemon:
            yield Service(daemon, api)


def test_send_says_how_to_decide_and_what_is_approved_runs_exactly_so(shared: Service) -> None:
    daemon = shared.daemon
    call = '#call bash_tool {"command": "echo flood | tee out.txt", "description": "d"}'
    sent = daemon.skillctl("send", call)
    assert sent.returncode == 3, sent.stderr
    session = sent.stderr.split()[1]
    (view,) = shared.waiting(session)
    assert f"skillctl approve {view['id']}" in sent.stderr
    assert (view["command"], view["tool"], view["status"]) == ("echo flood | tee out.txt", "bash_tool", "pending")
    assert view["cwd"].endswith(session)
    assert shared.get(f"/v1/sessions/{session}")["status"] == "waiting"
    listed = daemon.skillctl("approvals", "-s", session).stdout
    assert "  command     | echo flood | tee out.txt" in listed
    assert shared.results(session) == []
    approved = daemon.skillctl("approve", view["id"][:12])
    assert approved.stdout == f"{view['id']} allowed by uid {os.getuid()}: bash_tool: echo flood | tee out.txt\n"
    waited = daemon.skillctl("wait", view["turn"])
    assert (waited.returncode, "flood" in waited.stdout) == (0, True)
    assert shared.results(session) == ["flood"]
    assert daemon.skillctl("files", "get", session, "out.txt", "-o", "-").stdout == "flood\n"
    types = [event["type"] for event in daemon.events(session)]
    order = ["approval.requested", "approval.resolved", "tool.started", "tool.finished"]
    assert [type for type in types if type in order] == order
    late = daemon.skillctl("deny", view["id"])
    assert (late.returncode, "was allowed by uid" in late.stderr) == (1, True)
    again = daemon.skillctl("approve", "apr_aaaa")
    assert (again.returncode, "no pending approval" in again.stderr) == (1, True)


def test_an_edited_call_runs_as_edited_and_the_model_is_told(shared: Service) -> None:
    session, turn = shared.begin("rm -rf /nowhere")
    (view,) = shared.waiting(session)
    given = json.dumps({"command": "echo milder", "description": "d"})
    edited = shared.daemon.skillctl("approve", view["id"], "--edit", "-", input=given)
    assert edited.returncode == 0, edited.stderr
    assert shared.daemon.wait(turn)["status"] == "finished"
    (result,) = shared.results(session)
    assert "milder" in result
    assert "nowhere" not in json.dumps([event["data"]["input"] for event in shared.of_type(session, "tool.started")])
    assert "milder" in shared.told()
    (resolved,) = shared.of_type(session, "approval.resolved")
    assert resolved["data"]["edited"] is True


def test_the_reason_of_a_denial_reaches_the_model_and_nothing_runs(shared: Service) -> None:
    session, turn = shared.begin("touch made")
    (view,) = shared.waiting(session)
    done = shared.daemon.skillctl("deny", view["id"], "--reason", "not on a Friday", "--json")
    assert json.loads(done.stdout)["status"] == "denied"
    assert shared.daemon.wait(turn)["status"] == "finished"
    assert "not on a Friday" in shared.results(session)[0]
    assert "not on a Friday" in shared.told()
    assert shared.of_type(session, "tool.started") == []


def test_what_is_allowed_for_the_session_is_asked_once_there_and_anew_elsewhere_and_when_taken_back(
    shared: Service,
) -> None:
    session, turn = shared.begin("echo again", "echo again")
    (view,) = shared.waiting(session)
    assert shared.decide(view["id"], "allow", scope="session")[0] == 200
    assert shared.daemon.wait(turn)["status"] == "finished"
    assert shared.results(session) == ["again", "again"]
    other, _ = shared.begin("echo again")
    shared.waiting(other)
    _, third = shared.begin("echo again", session=session)
    assert shared.daemon.wait(third)["status"] == "finished"
    _, differs = shared.begin("echo again and more", session=session)
    (asked,) = shared.waiting(session)
    shared.decide(asked["id"], "deny")
    shared.daemon.wait(differs)
    revoked = shared.daemon.skillctl("approve", "--revoke", view["id"])
    assert revoked.returncode == 0, revoked.stderr
    shared.begin("echo again", session=session)
    shared.waiting(session)
    for id in (session, other):
        shared.daemon.skillctl("cancel", id)


def test_of_two_who_decide_at_once_one_is_first(shared: Service) -> None:
    session, turn = shared.begin("echo once >> runs; cat runs")
    (view,) = shared.waiting(session)
    answers: list[tuple[int, dict[str, Any]]] = []
    together = threading.Barrier(8)

    def answer(decision: str) -> None:
        together.wait()
        answers.append(shared.decide(view["id"], decision))

    threads = [threading.Thread(target=answer, args=(("allow", "deny")[n % 2],)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(status for status, _ in answers) == [200, *[409] * 7]
    assert {body["error"]["code"] for status, body in answers if status == 409} == {"conflict"}
    (won,) = [body["status"] for status, body in answers if status == 200]
    assert shared.daemon.wait(turn)["status"] == "finished"
    (result,) = shared.results(session)
    assert result == "once" if won == "allowed" else "denied" in result


def test_a_file_that_changed_after_it_was_shown_does_not_run(shared: Service) -> None:
    session = shared.daemon.create()
    with shared.daemon.http() as http:
        assert http.put(f"/v1/sessions/{session}/files/run.sh", content=b"echo as shown\n").status_code == 201
        shared.begin("sh run.sh", session=session)
        (view,) = shared.waiting(session)
        (file,) = view["files"]
        assert (file["path"], len(file["sha256"])) == ("run.sh", 64)
        assert http.put(f"/v1/sessions/{session}/files/run.sh", content=b"echo another\n").status_code == 200
    assert shared.decide(view["id"], "allow")[0] == 200
    assert shared.daemon.wait(view["turn"])["status"] == "finished"
    (result,) = shared.results(session)
    assert "run.sh" in result
    assert "another" not in result
    assert shared.of_type(session, "tool.started") == []


def test_an_unattended_session_is_denied_at_once(shared: Service) -> None:
    session, turn = shared.begin("touch made", policy={"on_ask": "deny"})
    assert shared.daemon.wait(turn)["status"] == "finished"
    assert "unattended" in shared.results(session)[0]
    assert shared.of_type(session, "approval.requested") == []
    assert shared.get(f"/v1/approvals?status=all&session={session}")["items"] == []


def test_what_a_session_may_do_can_be_told_before(shared: Service) -> None:
    session = shared.daemon.create(policy={"rules": [{"effect": "deny", "command": "make **"}]})
    told = shared.daemon.skillctl("policy", "check", "--preset", "full", "--session", session, "make all")
    assert (told.returncode, told.stdout.splitlines()[1]) == (5, "rule:    session.policy.rules[0]")


def test_a_cancelled_turn_takes_its_question_along(shared: Service) -> None:
    session, turn = shared.begin("touch made")
    (view,) = shared.waiting(session)
    shared.daemon.skillctl("cancel", turn)
    assert shared.daemon.wait(turn)["status"] == "cancelled"
    assert shared.get(f"/v1/approvals/{view['id']}")["status"] == "cancelled"
    assert shared.decide(view["id"], "allow")[0] == 409
    assert shared.of_type(session, "tool.started") == []


def test_watch_tells_what_comes_and_what_is_decided(shared: Service) -> None:
    environment = clean_environment(SKILLD_SOCKET=str(shared.daemon.socket))
    command = [*program("skillctl"), "approvals", "--watch", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        session, turn = shared.begin("true")
        seen = []
        for line in process.stdout:
            event = json.loads(line)
            if event["session"] == session:
                seen.append((event["type"], event["data"]["status"]))
                if event["type"] == "approval.resolved":
                    break
                shared.decide(event["data"]["id"], "deny")
        process.send_signal(signal.SIGINT)
        assert process.wait(SOON_S) == 130
    assert seen == [("approval.requested", "pending"), ("approval.resolved", "denied")]
    shared.daemon.wait(turn)


def test_chat_asks_inline(shared: Service) -> None:
    command = [*program("skillctl"), f"--socket={shared.daemon.socket}", "chat", "--no-history"]
    with at_terminal(command, clean_environment(TERM="dumb")) as at:
        at.until("> ")
        at.type('#call bash_tool {"command": "echo \\u001b[2Jflood", "description": "d"}\n')
        at.until(r"\| echo \\x1b\[2Jflood")
        at.until(r"\[l\]eave it: ")
        at.type("a\n")
        at.until(r"\[bash_tool\] ok")
        at.until("> ")
        at.type("\x04")
        assert at.end() == 0


def test_what_waits_outlives_kill_9_and_the_turn_goes_on(own: Service) -> None:
    daemon = own.daemon
    session, turn = own.begin("echo first", "echo second >> runs; cat runs")
    (first,) = own.waiting(session)
    assert own.decide(first["id"], "allow")[0] == 200
    until(partial(own.is_settled, first["id"]))
    (second,) = own.waiting(session)
    daemon.kill()
    daemon.start()
    (again,) = own.waiting(session)
    assert (again["id"], again["digest"], again["expires"]) == (second["id"], second["digest"], second["expires"])
    assert own.get(f"/v1/turns/{turn}")["status"] == "running"
    assert daemon.skillctl("approve", again["id"]).returncode == 0
    assert daemon.wait(turn)["status"] == "finished"
    assert own.results(session) == ["first", "second"]  # and what ran before the kill was not run again
    assert [event["type"] for event in daemon.events(session)].count("turn.finished") == 1


def test_what_was_decided_while_it_was_being_killed_is_kept(own: Service) -> None:
    """The answer is durable before it is acknowledged; whether the call was begun decides what is told of it."""
    session, turn = own.begin("sleep 0.2; echo ran >> runs; cat runs")
    (view,) = own.waiting(session)
    assert own.decide(view["id"], "allow")[0] == 200
    own.daemon.kill()
    own.daemon.start()
    assert own.get(f"/v1/approvals/{view['id']}")["status"] == "allowed"
    assert own.decide(view["id"], "deny")[0] == 409
    ended = own.daemon.wait(turn)
    started = own.of_type(session, "tool.started")
    assert len(started) <= 1
    assert ended["status"] in ("finished", "interrupted"), ended
    assert own.results(session).count("ran") <= 1


@pytest.mark.parametrize("own", [f"{CONFIG}approval_timeout_s = {IN_TIME_S}\n"], indirect=True)
def test_nobody_in_time_is_a_no_also_over_a_restart(own: Service) -> None:
    session, turn = own.begin("touch made")
    (view,) = own.asked(session)
    assert own.daemon.wait(turn)["status"] == "finished"
    assert "in time" in own.results(session)[0]
    assert own.get(f"/v1/approvals/{view['id']}")["status"] == "expired"
    assert own.decide(view["id"], "allow")[0] == 409
    session, turn = own.begin("touch made")
    (view,) = own.asked(session)
    own.daemon.kill()
    time.sleep(IN_TIME_S + 0.1)  # the time runs on while there is no daemon
    own.daemon.start()
    assert own.decide(view["id"], "allow")[0] == 409
    assert own.daemon.wait(turn)["status"] == "finished"
    assert own.of_type(session, "tool.started") == []


def test_a_stop_does_not_wait_for_an_answer(own: Service) -> None:
    session, turn = own.begin("echo after the stop")
    (view,) = own.waiting(session)
    began = time.monotonic()
    assert own.daemon.stop() == 0
    assert time.monotonic() - began < 10.0
    own.daemon.start()
    assert own.decide(view["id"], "allow")[0] == 200
    assert own.daemon.wait(turn)["status"] == "finished"
    assert own.results(session) == ["after the stop"]


def test_a_tool_cannot_approve_itself(shared: Service) -> None:
    """It is allowed to run, reaches the socket as the daemon's own user, and is refused all the same."""
    session, _ = shared.begin("rm -rf /nowhere")
    (victim,) = shared.waiting(session)
    tool = " ".join([*program("skillctl"), f"--socket={shared.daemon.socket}", "approve", victim["id"], "2>&1; true"])
    told = f"setsid -f sh -c '({tool}) > said; mv said out'; until test -e out; do sleep 0.05; done; cat out"
    attacker, second = shared.begin(tool, told)
    for _ in range(2):
        (view,) = shared.waiting(attacker)
        shared.decide(view["id"], "allow")
        until(partial(shared.is_settled, view["id"]))
    assert shared.daemon.wait(second)["status"] == "finished"
    results = shared.results(attacker)
    assert all("was started by the daemon" in result for result in results), results
    assert shared.get(f"/v1/approvals/{victim['id']}")["status"] == "pending"
    shared.daemon.skillctl("cancel", session)


def test_a_user_with_the_role_decides_and_one_who_sends_does_not() -> None:
    require(os.geteuid() == 0, "needs root to be two users")
    sender = APPROVER + 1
    config = f"{CONFIG}[roles.send]\nuids = [{sender}]\n[roles.approve]\nuids = [{APPROVER}]\n"
    with folder_for_all("skilld-approvers-") as folder, serve_in_thread(FakeMessagesApi([])) as api:
        env = {"ANTHROPIC_API_KEY": "no-key", "ANTHROPIC_BASE_URL": api.base_url}
        with running(folder, config=config, env=env) as daemon:
            check_roles(Service(daemon, api), sender)


def check_roles(service: Service, sender: int) -> None:
    def ask(uid: int, *requests: tuple[str, str, dict[str, Any] | None]) -> list[tuple[int, Any]]:
        said = [(method, path, None if body is None else json.dumps(body)) for method, path, body in requests]
        return ask_as(uid, service.daemon, *said)

    ((_, made),) = ask(sender, ("POST", "/v1/sessions", {}))
    session = made["id"]
    call = '#call bash_tool {"command": "echo by two", "description": "d"}'
    ((_, accepted),) = ask(sender, ("POST", f"/v1/sessions/{session}/messages", {"text": call}))
    (view,) = service.waiting(session)
    foreign, _ = service.begin("true")
    (hidden,) = service.waiting(foreign)
    path = f"/v1/approvals/{view['id']}"
    told = ask(
        sender,
        ("GET", "/v1/approvals", None),
        ("GET", path, None),
        ("GET", f"/v1/approvals/{hidden['id']}", None),
        ("POST", path, {"decision": "allow"}),
    )
    assert [status for status, _ in told] == [200, 200, 404, 403]
    assert [item["id"] for item in told[0][1]["items"]] == [view["id"]]
    told = ask(
        APPROVER,
        ("GET", "/v1/approvals", None),
        ("GET", f"/v1/sessions/{session}", None),
        ("GET", f"/v1/sessions/{session}/events?follow=false", None),
        ("POST", f"/v1/sessions/{session}/messages", {"text": "x"}),
        ("POST", path, {"decision": "allow"}),
    )
    assert [status for status, _ in told] == [200, 404, 404, 403, 200]
    assert {item["id"] for item in told[0][1]["items"]} == {view["id"], hidden["id"]}
    assert service.daemon.wait(accepted["turn"])["status"] == "finished"
    assert service.results(session) == ["by two"]
    until(lambda: any(entry["what"] == "approval" for entry in service.daemon.audited()))  # written behind the answer
    entries = service.daemon.audited()
    (noted,) = [entry for entry in entries if entry["what"] == "approval"]
    assert (noted["uid"], noted["id"], noted["decision"]) == (APPROVER, view["id"], "allow")
    assert noted["digest"] == view["digest"]
    (refused,) = [entry for entry in entries if entry.get("uid") == sender and entry.get("status") == 403]
    assert (refused["route"], refused["code"]) == ("/v1/approvals/{id}", "forbidden")
    assert "by two" not in json.dumps(entries)
