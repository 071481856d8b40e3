"""Conversations of several places in the real daemon: tools of all of them in one turn, and what goes wrong in one."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docker_kit import engine_with_slim_image
from e2e.harness import JSON, Daemon, running, write_skill
from native_kit import write_native
from skill_actors.backends.docker_image import SLIM_IMAGE
from skill_actors.testing import Answer, CodeExecution, FakeMessagesApi, Reply, Text, ToolUse, serve_in_thread

pytestmark = pytest.mark.e2e

TWO: list[Any] = ["local", {"backend": "local", "name": "other"}]
NATIVE = """
class Skill(NativeSkill):
    skill_info = SkillInfo(name="fetcher", description="Fetches logs.", allowed_tools=["execute"])

    def execute(self, command: str, context: Context) -> str:
        context.resolve("app.log").write_text("ERROR one\\nINFO two\\n")
        return "fetched 2 lines"
"""
DOCKER = f"""
[backends]
offered = ["docker"]
[backends.docker]
image = "{SLIM_IMAGE}"
pool = 1
memory_bytes = 268435456
workspace_bytes = 67108864
[backends.docker.session]
memory_bytes = 268435456
"""


class Service:
    """A daemon and the API it calls."""

    def __init__(self, daemon: Daemon, api: FakeMessagesApi) -> None:
        self.daemon = daemon
        self.api = api

    def ask(self, session: str, *answers: Answer, text: str = "go") -> JSON:
        """A turn with these answers; it must finish."""
        self.api.enqueue(*answers)
        turn = self.daemon.ask(session, text)
        assert turn["status"] == "finished", turn
        return turn

    def data(self, session: str, type: str) -> list[JSON]:
        return [event["data"] for event in self.daemon.events(session) if event["type"] == type]

    def results(self, session: str) -> dict[str, JSON]:
        """Of the calls so far, the last of each tool."""
        return {data["name"]: data for data in self.data(session, "tool.finished")}


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("daemon")
    skills = folder / "skills"
    write_skill(skills, "tides", "print('twice a day')")
    write_native(skills, "fetcher", NATIVE)
    config = f'[skills]\nnative = ["{skills}"]\n'
    with serve_in_thread(FakeMessagesApi([])) as api:
        env = {"ANTHROPIC_API_KEY": "sk-ant-secret-of-the-test", "ANTHROPIC_BASE_URL": api.base_url}
        with running(folder, skills=[skills], config=config, env=env) as daemon:
            yield Service(daemon, api)


def bash(command: str, place: str = "") -> ToolUse:
    return ToolUse(f"{place}_bash_tool" if place else "bash_tool", {"command": command, "description": "d"})


def over(name: str, source: str, target: str) -> ToolUse:
    return ToolUse("hand_over", {"name": name, "from": source, "to": target})


def test_fetched_by_a_native_skill_analysed_here_and_reported_there_in_one_turn(started: Service) -> None:
    session = started.daemon.create(backends=["local", "anthropic"], skills=["fetcher", "tides", "anthropic:xlsx"])
    report = CodeExecution("python report.py", files={"report.xlsx": b"PK-report"})
    turn = started.ask(
        session,
        Reply([ToolUse("fetcher_execute", {"command": "fetch"})]),
        Reply([bash("grep -c ERROR app.log > found.txt; cat found.txt")]),
        Reply([over("found.txt", "local", "anthropic")]),
        Reply([report, over("report.xlsx", "anthropic", "local")]),
        Reply([bash("cat report.xlsx")]),
        Reply([Text("All done.")]),
    )
    assert turn["result"]["text"].endswith("All done.")
    results = started.results(session)
    assert results["fetcher_execute"]["content"] == "fetched 2 lines"
    assert "PK-report" in results["bash_tool"]["content"]
    assert [data["place"] for data in started.data(session, "tool.started")] == [
        "native", "local", "hand_over", "hand_over", "local"
    ]  # fmt: skip
    offered = {tool["name"] for tool in started.api.bodies[-1]["tools"]}
    assert {"bash_tool", "fetcher_execute", "code_execution", "hand_over", "load_skill"} <= offered
    (container,) = [c for c in started.api.hosted.containers.values() if c.uploads]
    assert [started.api.hosted.files.files[id].content for id in container.uploads] == [b"1\n"]
    with started.daemon.http() as http:
        listed = http.get(f"/v1/sessions/{session}/files").json()["items"]
    found = {(item["source"], item["path"]) for item in listed}
    assert {("local", "app.log"), ("local", "report.xlsx"), ("anthropic", "report.xlsx")} <= found
    shown = started.daemon.skillctl("show", session).stdout
    assert "places: local, anthropic" in shown
    assert "[bash_code_execution, hosted] python report.py" in shown


def test_calls_of_several_places_in_one_message_run_at_the_same_time(started: Service, tmp_path: Path) -> None:
    session = started.daemon.create(backends=TWO)

    def meets(mine: str, others: str) -> str:
        """Ends when the other has begun too: one after the other they would not end."""
        return f"touch {tmp_path}/{mine}; until test -e {tmp_path}/{others}; do sleep 0.05; done; echo {mine}"

    calls = [bash(meets("a", "b")), bash(meets("b", "a"), "other")]
    turn = started.ask(session, Reply(calls), Reply([Text("x")]))
    assert turn["result"]["text"] == "x"
    assert [started.results(session)[name]["content"] for name in ("bash_tool", "other_bash_tool")] == ["a", "b"]
    events = [e for e in started.daemon.events(session) if e["type"] in ("tool.started", "tool.finished")]
    assert [event["type"] for event in events[:2]] == ["tool.started", "tool.started"]


def test_a_client_hands_files_over_without_asking_the_model(started: Service) -> None:
    session = started.daemon.create(backends=[*TWO, "anthropic"])
    path = f"/v1/sessions/{session}"
    with started.daemon.http() as http:
        http.put(f"{path}/files/in/a.txt", content=b"12").raise_for_status()

        def over_http(name: str, source: str, target: str) -> tuple[int, JSON]:
            answer = http.post(f"{path}/hand-over", json={"name": name, "from": source, "to": target})
            return answer.status_code, answer.json()

        status, done = over_http("in/a.txt", "local", "other")
        assert (status, done["place"], done["size"]) == (200, "other", 2)
        assert http.get(f"{path}/files/in/a.txt", params={"source": "other"}).content == b"12"
        assert over_http("in/a.txt", "other", "anthropic")[0] == 200
        assert over_http("gone", "local", "other")[0] == 404
        assert over_http("../../x", "local", "other")[1]["error"]["code"] == "bad_request"
        assert over_http("in/a.txt", "local", "moon")[1]["error"]["code"] == "bad_request"
        assert over_http("in", "local", "other")[1]["error"]["code"] == "conflict"
    started.ask(session, Reply([Text("x")]))
    kinds = [block["type"] for block in started.api.bodies[-1]["messages"][0]["content"]]
    assert "container_upload" in kinds
    told = [(d["source"], d["name"]) for d in started.data(session, "file.created")]
    assert told == [("local", "in/a.txt"), ("other", "in/a.txt"), ("anthropic", "in/a.txt")]
    with started.daemon.http() as http:
        exported = http.get(f"{path}/export").content
        assert http.post("/v1/sessions/import", content=exported).status_code == 201


def test_skillctl_sends_to_several_places_with_hosted_skills(started: Service) -> None:
    started.api.enqueue(
        Reply([CodeExecution("make", files={"out.xlsx": b"PK"}), bash("echo here")]),
        Reply([Text("Both are done.")]),
    )
    done = started.daemon.skillctl(
        *("send", "--backend", "local", "--backend", "anthropic", "--skill", "tides"),
        *("--skill", "anthropic:xlsx@latest", "Do both"),
    )
    assert done.returncode == 0, done.stderr
    assert "Both are done." in done.stdout
    container = started.api.bodies[-1]["container"]
    assert [skill["skill_id"] for skill in container["skills"]] == ["xlsx"]
    refused = started.daemon.skillctl("send", "--backend", "anthropic", "--skill", "anthropic:@", "x")
    assert refused.returncode != 0
    assert "names no hosted skill" in refused.stderr
    listed = started.daemon.skillctl("backends", "anthropic")
    assert "cloud" in listed.stdout


def test_an_export_of_a_hybrid_session_can_be_imported_and_goes_on(started: Service, tmp_path: Path) -> None:
    session = started.daemon.create(backends=[*TWO, "anthropic"])
    started.ask(
        session, Reply([CodeExecution("make", files={"a.bin": b"1"}), bash("echo 1", "other")]), Reply([Text("x")])
    )
    file = tmp_path / "out.jsonl"
    assert started.daemon.skillctl("export", session, "-o", str(file)).returncode == 0
    with started.daemon.http() as http:
        made = http.post("/v1/sessions/import", content=file.read_bytes())
    assert made.status_code == 201, made.text
    copy = made.json()["id"]
    assert made.json()["backends"] == [*TWO, "anthropic"]
    started.ask(copy, Reply([bash("echo again", "other")]), Reply([Text("y")]))
    assert "again" in started.results(copy)["other_bash_tool"]["content"]
    assert "container" not in started.api.bodies[-1], "two conversations must not share one"
    blocks = [block["type"] for data in started.data(copy, "model.message") for block in data["content"]]
    assert blocks[:3] == ["server_tool_use", "bash_code_execution_tool_result", "tool_use"]


def test_a_daemon_killed_while_a_file_is_handed_over_leaves_it_whole_or_not_at_all(started: Service) -> None:
    daemon = started.daemon
    size = 95 << 20
    for _attempt in range(5):
        session = daemon.create(backends=TWO)
        make = f"head -c {size} /dev/urandom > big; sha256sum big"
        started.ask(session, Reply([bash(make)]), Reply([Text("x")]))
        started.api.enqueue(Reply([over("big", "local", "other")]))
        turn = daemon.post(session, "hand it over").json()["turn"]
        deadline = time.monotonic() + 60
        while not any(d["name"] == "hand_over" for d in started.data(session, "tool.started")):
            assert time.monotonic() < deadline
            time.sleep(0.002)
        daemon.kill()
        there = daemon.state / "workspaces" / f"{session}.other"
        found = [path for path in there.iterdir() if path.name == "big"] if there.exists() else []
        assert all(path.stat().st_size == size for path in found), "a part of a file has its name"
        daemon.start()
        ended = daemon.wait(turn)
        if ended["status"] == "finished":
            continue  # it was quicker than the kill
        assert ended["status"] == "interrupted"
        (call,) = [d["id"] for d in started.data(session, "tool.started") if d["name"] == "hand_over"]
        ends = [d for d in started.data(session, "tool.finished") if d["id"] == call and d["outcome"] == "ok"]
        if ends and not ended["result"].get("ambiguous"):
            assert found, "it is said to be there"
            continue  # the call was over, and its turn was not
        assert ended["result"].get("ambiguous", []) == [call]
        started.ask(session, Reply([bash("ls -A; echo end", "other")]), Reply([Text("x")]))
        said = started.results(session)["other_bash_tool"]["content"].split()
        assert "may or may not have taken effect" in json.dumps(started.api.bodies[-1]["messages"])
        assert [name for name in said if name.startswith(".upload-")] == []
        return
    pytest.fail("five hand-overs were quicker than the kill")


def test_two_containers_with_different_options_work_in_one_conversation(tmp_path: Path) -> None:
    small: JSON = {"backend": "docker", "name": "small", "options": {"memory_bytes": 209715200}}
    skills = tmp_path / "skills"
    write_native(skills, "fetcher", NATIVE)
    trusted = f'[skills]\nnative = ["{skills}"]\n'
    with (
        engine_with_slim_image() as client,
        serve_in_thread(FakeMessagesApi([])) as api,
        running(
            tmp_path,
            skills=[skills],
            config=trusted + DOCKER,
            env={
                "ANTHROPIC_API_KEY": "sk-ant-secret-of-the-test",
                "ANTHROPIC_BASE_URL": api.base_url,
                "DOCKER_HOST": os.environ.get("DOCKER_HOST", ""),
            },
        ) as daemon,
    ):
        service = Service(daemon, api)
        session = daemon.create(backends=["docker", small, "local"])
        look = "hostname; pwd"
        service.ask(session, Reply([bash(look), bash(look, "small"), bash("pwd", "local")]), Reply([Text("x")]))
        results = service.results(session)
        big, little = (results[name]["content"].split() for name in ("bash_tool", "small_bash_tool"))
        limits = [client.containers.get(said[0]).attrs["HostConfig"]["Memory"] for said in (big, little)]
        assert limits == [268435456, 209715200]
        assert big[1] == little[1] == "/workspace"
        service.ask(
            session,
            Reply([bash("echo 42 > answer", "small")]),
            Reply([over("answer", "small", "docker")]),
            Reply([over("answer", "docker", "local")]),
            Reply([bash("cat answer"), bash("cat answer", "local")]),
            Reply([Text("x")]),
        )
        results = service.results(session)
        assert results["bash_tool"]["content"].startswith("42")
        assert results["local_bash_tool"]["content"].startswith("42")
        # A native skill works on this host, in the folder that the main place's container gets.
        fetched = Reply([ToolUse("fetcher_execute", {"command": "fetch"})])
        service.ask(session, fetched, Reply([bash("grep -c ERROR app.log")]), Reply([Text("x")]))
        assert service.results(session)["bash_tool"]["content"].startswith("1")
        # The engine is gone for this daemon from here on: its places fail, the other works.
        daemon.stop()
        toml = tmp_path / "skilld.toml"
        toml.write_text(
            trusted + DOCKER.replace("[backends.docker]", '[backends.docker]\naddress = "unix:///nonexistent.sock"')
        )
        daemon.start()
        service.ask(session, Reply([bash("true"), bash("cat answer", "local")]), Reply([Text("x")]))
        results = service.results(session)
        assert results["bash_tool"]["outcome"] == "error"
        assert "The place docker (docker) cannot run this: " in results["bash_tool"]["content"]
        assert results["local_bash_tool"]["content"].startswith("42")
