"""Hosted execution in the real daemon, against the fake API: containers, files, pauses, restarts, ends."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook, load_workbook

from e2e.harness import Daemon, running, write_skill
from skill_actors.testing import (
    Answer,
    CodeExecution,
    FakeMessagesApi,
    HttpError,
    Reply,
    Text,
    serve_in_thread,
)

pytestmark = pytest.mark.e2e

XLSX = "anthropic:xlsx@latest"


class Service:
    """A daemon and the API it calls."""

    def __init__(self, daemon: Daemon, api: FakeMessagesApi) -> None:
        self.daemon = daemon
        self.api = api

    def will_answer(self, *answers: Answer) -> Daemon:
        """What is left of another test's answers is no answer in this one."""
        self.api.forget_answers()
        self.api.enqueue(*answers)
        return self.daemon

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Bodies of all calls of the model so far."""
        return [request.body for request in self.api.requests if request.path.startswith("/v1/messages")]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("daemon")
    write_skill(folder / "skills", "tides", "print('twice a day')")
    with serve_in_thread(FakeMessagesApi([])) as api:
        env = {"ANTHROPIC_API_KEY": "sk-ant-secret-of-the-test", "ANTHROPIC_BASE_URL": api.base_url}
        with running(folder, skills=[folder / "skills"], env=env) as daemon:
            yield Service(daemon, api)


def workbook() -> bytes:
    book = Workbook()
    book.active.title = "Executive Summary"
    book.active["A1"] = "7 errors"
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def types(daemon: Daemon, session: str) -> list[str]:
    return [event["type"] for event in daemon.events(session)]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "not within 60 s"
        time.sleep(0.02)


def test_a_real_workbook_is_made_there_and_comes_to_disk_when_it_is_asked_for(started: Service, tmp_path: Path) -> None:
    book = workbook()
    code = CodeExecution("python report.py", files={"report.xlsx": book})
    daemon = started.will_answer(Reply([Text("I make it. "), code, Text("Here it is.")]))
    session = daemon.create(backends=["anthropic"], skills=[XLSX])
    turn = daemon.ask(session, "Make the report")
    assert turn["status"] == "finished", turn
    assert turn["result"]["usage"]["code_execution_requests"] == 1
    assert turn["result"]["cost_usd"] > 0.05 / 60 * 5, "five minutes of the container at least"
    (created,) = [event["data"] for event in daemon.events(session) if event["type"] == "file.created"]
    assert (created["name"], created["source"], created["size"]) == ("report.xlsx", "anthropic", len(book))
    fetched = [request for request in started.api.requests if request.path.endswith("/content")]
    assert fetched == [], "it is fetched when somebody asks"
    target = tmp_path / "mine.xlsx"
    done = daemon.skillctl("files", "get", session, "report.xlsx", "-o", str(target))
    assert done.returncode == 0, done.stderr
    assert load_workbook(target)["Executive Summary"]["A1"].value == "7 errors"
    with daemon.http() as http:
        again = http.get(f"/v1/sessions/{session}/files/report.xlsx")
    assert again.content == book
    assert sum(request.path.endswith("/content") for request in started.api.requests) == 1, "it is kept"


def test_a_turn_that_pauses_three_times_is_one_answer(started: Service) -> None:
    def step(number: int) -> Reply:
        parts = [] if number == 0 else [CodeExecution(half="result")]
        return Reply([*parts, CodeExecution(f"step {number}", half="call")], stop_reason="pause_turn")

    last = Reply([CodeExecution(half="result", files={"a.txt": b"end"}), Text("done")])
    daemon = started.will_answer(step(0), step(1), step(2), last)
    session = daemon.create(backends=["anthropic"])
    result = daemon.ask(session, "a long one")["result"]
    assert (result["text"], result["iterations"]) == ("done", 4)
    containers = [body.get("container") for body in started.messages[-4:]]
    assert containers[0] is None
    assert len({str(container) for container in containers[1:]}) == 1


def test_the_container_is_used_again_after_a_restart_between_turns(started: Service) -> None:
    daemon = started.will_answer(Reply([CodeExecution("touch x"), Text("one")]), Reply([Text("two")]))
    session = daemon.create(backends=["anthropic"], skills=[XLSX])
    daemon.ask(session, "one")
    container = next(e["data"]["container"] for e in daemon.events(session) if e["type"] == "model.message")
    daemon.kill()
    daemon.start()
    assert daemon.ask(session, "two")["result"]["text"] == "two"
    body = started.messages[-1]
    assert body["container"] == {
        "id": container,
        "skills": [{"type": "anthropic", "skill_id": "xlsx", "version": "latest"}],
    }
    assert "restarted" in str(body["messages"])


def test_a_daemon_killed_in_the_middle_of_a_hosted_turn_does_not_run_it_again(started: Service) -> None:
    slow = Reply([Text("word " * 40), CodeExecution("make", files={"lost.txt": b"1"})], delay_s=0.2)
    daemon = started.will_answer(slow, Reply([Text("and now")]))
    session = daemon.create(backends=["anthropic"])
    before = len(started.messages)
    turn = daemon.post(session, "go").json()["turn"]
    wait_until(lambda: len(started.messages) > before)
    assert "go" in str(started.messages[-1]["messages"])
    sent = len(started.messages)
    daemon.kill()
    daemon.start()
    ended = daemon.wait(turn)
    assert ended["status"] == "interrupted"
    assert len(started.messages) == sent
    assert daemon.ask(session, "go on")["result"]["text"] == "and now"


def test_a_container_that_expired_is_replaced_and_the_user_is_told(started: Service) -> None:
    daemon = started.will_answer(
        Reply([CodeExecution("touch x"), Text("one")]), Reply([CodeExecution("ls"), Text("two")])
    )
    session = daemon.create(backends=["anthropic"])
    daemon.ask(session, "one")
    started.api.hosted.expire()
    assert daemon.ask(session, "two")["result"]["text"] == "two"
    assert types(daemon, session).count("session.container_lost") == 1
    assert "not there any more" in str(started.messages[-1]["messages"][-1])
    shown = daemon.skillctl("show", session).stdout
    assert "container" in shown


def test_cancelling_while_code_runs_ends_the_turn_at_once_and_the_next_one_works(started: Service) -> None:
    stuck = Reply([Text("working"), CodeExecution("sleep 600"), Text("x" * 400)], delay_s=0.5)
    daemon = started.will_answer(stuck, Reply([Text("fine")]))
    session = daemon.create(backends=["anthropic"])
    asked = len(started.messages)
    turn = daemon.post(session, "go").json()["turn"]
    wait_until(lambda: len(started.messages) > asked)  # before that, the answer would be left for the next turn
    began = time.monotonic()
    with daemon.http() as http:
        http.post(f"/v1/turns/{turn}/cancel")
    assert daemon.wait(turn)["status"] == "cancelled"
    assert time.monotonic() - began < 20
    assert daemon.ask(session, "again")["result"]["text"] == "fine"


def test_a_skill_on_disk_is_uploaded_once_and_a_changed_one_is_a_new_version(started: Service) -> None:
    daemon = started.will_answer(*(Reply([Text("x")]) for _ in range(3)))
    session = daemon.create(backends=["anthropic"], skills=["tides"])
    assert daemon.ask(session, "one")["status"] == "finished"
    first = started.messages[-1]["container"]["skills"]
    assert daemon.ask(session, "two")["status"] == "finished"
    assert started.messages[-1]["container"]["skills"] == first
    page = daemon.folder / "skills" / "tides" / "SKILL.md"
    page.write_text(page.read_text() + "\nMore.\n")
    assert daemon.skillctl("skills", "reload").returncode == 0
    assert daemon.ask(session, "three")["status"] == "finished"
    third = started.messages[-1]["container"]["skills"]
    assert third[0]["skill_id"] == first[0]["skill_id"]
    assert third[0]["version"] != first[0]["version"]
    uploads = [r for r in started.api.requests if r.method == "POST" and r.path.startswith("/v1/skills")]
    assert len(uploads) == 2


def test_skills_that_no_container_can_have_are_refused_with_their_code(started: Service) -> None:
    with started.daemon.http() as http:
        bad = http.post("/v1/sessions", json={"backends": ["anthropic"], "skills": ["anthropic:@"]})
        many = {"backends": ["anthropic"], "skills": [f"custom:s{n}" for n in range(21)]}
        too_many = http.post("/v1/sessions", json=many)
        nowhere = http.post("/v1/sessions", json={"skills": [XLSX]})
        listed = {item["name"]: item for item in http.get("/v1/backends").json()["items"]}
    assert (bad.status_code, bad.json()["error"]["code"]) == (422, "invalid_skill_spec")
    assert (too_many.status_code, too_many.json()["error"]["code"]) == (422, "skills_limit_exceeded")
    assert (nowhere.status_code, nowhere.json()["error"]["code"]) == (422, "invalid_skill_spec")
    assert listed["anthropic"]["available"] is True
    assert listed["anthropic"]["capabilities"]["sandbox"] == "cloud"


def test_an_api_that_fails_in_a_hosted_turn_ends_it_and_nothing_is_lost(started: Service) -> None:
    daemon = started.will_answer(
        Reply([CodeExecution("touch x"), Text("one")]), HttpError(400, message="max_tokens: no"), Reply([Text("two")])
    )
    session = daemon.create(backends=["anthropic"])
    daemon.ask(session, "one")
    assert daemon.ask(session, "bad")["result"]["error"]["code"] == "model_invalid_request"
    assert daemon.ask(session, "two")["result"]["text"] == "two"
    assert "session.container_lost" not in types(daemon, session)


def test_without_a_key_hosted_sessions_are_refused_with_the_remedy(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        with daemon.http() as http:
            refused = http.post("/v1/sessions", json={"backends": ["anthropic"]})
            (hosted,) = [i for i in http.get("/v1/backends").json()["items"] if i["name"] == "anthropic"]
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "backend_unavailable")
        assert "ANTHROPIC_API_KEY" in refused.json()["error"]["message"]
        assert (hosted["available"], "API key" in hosted["problem"]) == (False, True)


def test_a_daemon_whose_default_place_is_hosted_does_not_start_without_a_key(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, config='[backends]\ndefault = ["anthropic"]\n')
    daemon.launch()
    assert daemon.process is not None
    assert daemon.process.wait(30) == 78
    assert "needs an API key" in daemon.log.read_text()


def test_the_hosted_place_can_be_the_default_and_containers_be_free(tmp_path: Path) -> None:
    config = '[backends]\ndefault = ["anthropic"]\n[backends.anthropic]\nfree_containers = true\nmax_pauses = 1\n'
    pause = Reply([CodeExecution("x", half="call")], stop_reason="pause_turn")
    again = Reply([CodeExecution(half="result"), CodeExecution("y", half="call")], stop_reason="pause_turn")
    with serve_in_thread(FakeMessagesApi([Reply([CodeExecution("ls"), Text("x")]), pause, again])) as api:
        env = {"ANTHROPIC_API_KEY": "sk-ant-secret-of-the-test", "ANTHROPIC_BASE_URL": api.base_url}
        with running(tmp_path, config=config, env=env) as daemon:
            session = daemon.create()
            assert daemon.ask(session, "go")["result"]["cost_usd"] > 0
            assert daemon.ask(session, "again")["result"]["error"]["code"] == "pause_limit"


def test_hosted_execution_can_be_switched_off(tmp_path: Path) -> None:
    with running(
        tmp_path, config="[backends.anthropic]\nenabled = false\n", env={"ANTHROPIC_API_KEY": "k" * 20}
    ) as daemon:
        with daemon.http() as http:
            refused = http.post("/v1/sessions", json={"backends": ["anthropic"]})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "backend_unavailable")
        assert "enabled" in refused.json()["error"]["message"]
