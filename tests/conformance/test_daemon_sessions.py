"""What holds of every conversation of the daemon, wherever its tools run: here, in containers, there, or in several.

The real daemon on the fake API. Each kind of session has one way to do a piece of work; the checks are the same for
all: what happens is seen while it happens, can be cancelled, paused and cut by a SIGKILL; files go in and come out;
what ran the tools may be lost; and what it cost is told, or that nobody knows.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import operator
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from docker_bench import containers_of
from docker_kit import engine_with_slim_image
from e2e.harness import JSON, Daemon, processes_with, running
from native_kit import write_native
from skill_actors.backends.docker_image import SLIM_IMAGE
from skill_actors.testing import (
    Answer,
    CodeExecution,
    FakeMessagesApi,
    Reply,
    ServerToolUse,
    Text,
    ToolUse,
    Whole,
    serve_in_thread,
)
from skill_actors.testing.replies import Part

pytestmark = pytest.mark.e2e

SOON_S = 30.0  # ten times what it takes
MARK = "98765432"  # seconds: what a call that does not end sleeps, and is found by
CONFIG = f"""
[skills]
native = ["@SKILLS@"]
[backends]
offered = ["docker"]
[backends.docker]
image = "{SLIM_IMAGE}"
pool = 0
"""
WORKER = f"""
import subprocess

class Skill(NativeSkill):
    skill_info = SkillInfo(name="worker", description="Works.", allowed_tools=["execute"])

    def execute(self, command: str, context: Context) -> str:
        if command == "stay":
            context.emit("begun")
            subprocess.run(["sleep", "{MARK}"])
        text = context.workspace.joinpath("in.txt").read_text()
        context.workspace.joinpath("out.txt").write_text(text.upper())
        return "made"
"""


def bash(command: str) -> ToolUse:
    return ToolUse("bash_tool", {"command": command, "description": "d"})


@dataclass(frozen=True)
class Kind:
    """One kind of session.

    Args:
        name: of the case.
        backends: of the session.
        work: makes out.txt of in.txt, in capitals.
        stay: says "begun", and does not end by itself.
        where: the place in which out.txt is.
        is_hosted: the API runs the code, and nobody knows what that costs.

    """

    name: str
    backends: Sequence[str]
    work: Sequence[Part]
    stay: Callable[[], Reply]
    where: str
    is_hosted: bool = False


COMMAND = bash("tr a-z A-Z < in.txt > out.txt")
CODE = CodeExecution("tr a-z A-Z < in.txt > $OUTPUT_DIR/out.txt", files={"out.txt": b"WORDS"})


def stay_here() -> Reply:
    return Reply([bash(f"echo begun; sleep {MARK}")])


def stay_native() -> Reply:
    return Reply([ToolUse("worker_execute", {"command": "stay"})])


def stay_there() -> Reply:
    """The code runs as long as the answer does not come to its end."""
    return Reply([Text("begun "), CodeExecution("sleep 600"), Text("x" * 9_000)], delay_s=0.2)


KINDS = [
    Kind("local", ["local"], [COMMAND], stay_here, "local"),
    Kind("native", ["native"], [ToolUse("worker_execute", {"command": "work"})], stay_native, "native"),
    Kind("docker", ["docker"], [COMMAND], stay_here, "docker"),
    Kind("anthropic", ["anthropic"], [CODE], stay_there, "anthropic", is_hosted=True),
    Kind("hybrid", ["local", "anthropic"], [CODE, COMMAND], stay_here, "local", is_hosted=True),
]

NAME_OF = operator.attrgetter("name")


class Service:
    """A daemon and the API it calls."""

    def __init__(self, daemon: Daemon, api: FakeMessagesApi) -> None:
        self.daemon = daemon
        self.api = api

    @property
    def asked(self) -> list[JSON]:
        """Bodies of all calls of the model so far."""
        return [request.body for request in self.api.requests if request.path.startswith("/v1/messages")]

    def create(self, kind: Kind) -> str:
        return self.daemon.create(backends=list(kind.backends), skills=["worker"] if kind.name == "native" else [])

    def ask(self, session: str, *answers: Answer, files: Mapping[str, bytes] | None = None) -> JSON:
        """A turn with these answers, to its end."""
        return self.daemon.wait(self.send(session, *answers, files=files), wait_s=SOON_S)

    def send(self, session: str, *answers: Answer, files: Mapping[str, bytes] | None = None) -> str:
        self.api.enqueue(*answers)
        named = [
            {"name": name, "content_base64": base64.b64encode(content).decode()}
            for name, content in (files or {}).items()
        ]
        with self.daemon.http() as http:
            sent = http.post(f"/v1/sessions/{session}/messages", json={"text": "go", "files": named})
        assert sent.status_code == 202, sent.text
        return str(sent.json()["turn"])

    def work(self, session: str, kind: Kind) -> JSON:
        """A turn that does a piece of work and says so."""
        replies = [Reply([*kind.work, Text("done")] if kind.name == "anthropic" else kind.work)]
        if kind.name != "anthropic":
            replies.append(Reply([Text("done")]))
        return self.ask(session, *replies, files={"in.txt": b"words"})

    def until_begun(self, session: str) -> None:
        """Follow the session until the call says that it has begun."""
        with (
            self.daemon.http(timeout_s=SOON_S) as http,
            http.stream("GET", f"/v1/sessions/{session}/events", params={"after": 0}) as lines,
        ):
            for line in lines.iter_lines():
                event = json.loads(line)
                assert not event["type"].startswith(("tool.finished", "turn.f")), event
                if event["type"] in ("tool.output", "model.delta") and "begun" in json.dumps(event["data"]):
                    return

    def data(self, session: str, type: str) -> list[JSON]:
        return [event["data"] for event in self.daemon.events(session) if event["type"] == type]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("daemon")
    skills = folder / "skills"
    write_native(skills, "worker", WORKER)
    with serve_in_thread(FakeMessagesApi([])) as api:
        env = {"ANTHROPIC_API_KEY": "sk-ant-secret-of-the-test", "ANTHROPIC_BASE_URL": api.base_url}
        if "DOCKER_HOST" in os.environ:
            env["DOCKER_HOST"] = os.environ["DOCKER_HOST"]
        with running(folder, skills=[skills], config=CONFIG.replace("@SKILLS@", str(skills)), env=env) as daemon:
            yield Service(daemon, api)


@pytest.fixture(params=KINDS, ids=NAME_OF)
def kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    if kind.name == "docker":
        with engine_with_slim_image():
            pass
    return kind


def test_whatever_a_session_may_name_is_in_the_matrix(started: Service) -> None:
    with started.daemon.http() as http:
        listed = {item["name"]: item for item in http.get("/v1/backends").json()["items"]}
    assert set(listed) == {"local", "docker", "native", "anthropic"}
    for item in listed.values():
        assert set(item["capabilities"]) == set(item["fidelity"])
    native = listed["native"]
    assert (native["available"], native["default"], native["problem"]) == (True, False, None)
    assert (native["capabilities"]["sandbox"], native["fidelity"]["parallel"]) == ("process", "partial")


def none_left() -> None:
    """Nothing that a call has started lives, in containers neither."""
    deadline = time.monotonic() + SOON_S
    while left := processes_with(MARK):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def test_files_go_in_and_come_out_and_what_it_cost_is_told(started: Service, kind: Kind) -> None:
    session = started.create(kind)
    turn = started.work(session, kind)
    assert (turn["status"], turn["result"]["text"]) == ("finished", "done")
    with started.daemon.http() as http:
        found = http.get(f"/v1/sessions/{session}/files/out.txt", params={"source": kind.where})
    assert found.content == b"WORDS"
    told = {(data["source"], data["name"]) for data in started.data(session, "file.created")}
    assert (kind.where, "out.txt") in told
    assert turn["result"]["usage"]["output_tokens"] > 0
    container = 0.05 / 60 * 5 if kind.is_hosted else 0.0  # dollars an hour, and no less than five minutes
    assert turn["result"]["cost_usd"] > container
    again = started.ask(session, Reply([Text("nothing to do")]))
    assert again["result"]["cost_usd"] > 0


def calls_counted(daemon: Daemon, backend: str) -> float:
    """How many calls of tools the metrics know of this backend."""
    with daemon.http() as http:
        page = http.get("/metrics").text
    lines = [line for line in page.splitlines() if line.startswith("skilld_tool_duration_seconds_count")]
    return sum(float(line.split()[-1]) for line in lines if f'backend="{backend}"' in line)


@pytest.mark.parametrize("kind", [each for each in KINDS if each.name != "anthropic"], ids=NAME_OF, indirect=True)
def test_calls_are_counted_under_the_backend_that_runs_them(started: Service, kind: Kind) -> None:
    backend, session = kind.backends[0], started.create(kind)
    before = calls_counted(started.daemon, backend)
    started.work(session, kind)
    assert calls_counted(started.daemon, backend) == before + 1


def test_what_happens_is_seen_while_it_happens_and_a_cancel_ends_it(started: Service, kind: Kind) -> None:
    session = started.create(kind)
    turn = started.send(session, kind.stay())
    started.until_begun(session)
    with started.daemon.http() as http:
        http.post(f"/v1/turns/{turn}/cancel").raise_for_status()
    assert started.daemon.wait(turn)["status"] == "cancelled"
    none_left()
    assert started.work(session, kind)["result"]["text"] == "done"


def test_a_pause_is_no_end(started: Service, kind: Kind) -> None:
    session = started.create(kind)
    call: Part = CodeExecution("x", half="call")
    found: Part = CodeExecution(half="result")
    if "anthropic" not in kind.backends:
        call = ServerToolUse("web_search", {"query": "x"}, "srvtoolu_1")
        found = Whole({"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []})
    paused, last = Reply([Text("first "), call], stop_reason="pause_turn"), Reply([found, Text("then")])
    result = started.ask(session, paused, last)["result"]
    assert (result["text"].split(), result["iterations"], result["stop_reason"]) == (["first", "then"], 2, "end_turn")


def test_a_daemon_killed_in_the_middle_runs_nothing_twice_and_leaves_nothing(started: Service, kind: Kind) -> None:
    session = started.create(kind)
    turn = started.send(session, kind.stay())
    started.until_begun(session)
    asked = len(started.asked)
    started.daemon.kill()
    none_left()
    started.daemon.start()
    ended = started.daemon.wait(turn)
    assert ended["status"] == "interrupted"
    calls = [data["id"] for data in started.data(session, "tool.started")]
    assert len(calls) == (0 if kind.name == "anthropic" else 1)
    assert ended["result"].get("ambiguous", []) == calls
    assert len(started.asked) == asked
    assert started.work(session, kind)["result"]["text"] == "done"
    assert "restarted" in json.dumps(started.asked[asked]["messages"])


@pytest.mark.parametrize("name", ["docker", "anthropic", "hybrid"])
def test_a_container_that_is_lost_is_replaced_and_the_model_is_told(started: Service, name: str) -> None:
    (kind,) = [each for each in KINDS if each.name == name]
    with engine_with_slim_image() if name == "docker" else contextlib.nullcontext() as engine:
        session = started.create(kind)
        assert started.work(session, kind)["status"] == "finished"
        if engine is None:
            started.api.hosted.expire()
        else:
            lose_containers(engine, started.daemon)
        assert started.work(session, kind)["result"]["text"] == "done"
    said = json.dumps(started.asked[-1]["messages"])
    assert ("new container" if engine is not None else "not there any more") in said


def lose_containers(engine: Any, daemon: Daemon) -> None:
    """Of this daemon, whose name as their owner is made of its state directory."""
    owner = hashlib.sha256(os.fsencode(os.path.realpath(daemon.state))).hexdigest()[:16]
    found = containers_of(engine, owner)
    assert found
    for facts in found:
        engine.containers.get(facts["Id"]).kill()
