"""Native skills in the real daemon: their tools beside the backend's, edited live, cancelled, crashed and refused."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import Daemon, processes_with, running
from native_kit import write_native, write_offender
from skill_actors.testing import FakeMessagesApi, serve_in_thread

pytestmark = pytest.mark.e2e

EXAMPLES = Path(__file__).parents[2] / "examples" / "skills"
has_example = pytest.mark.skipif(
    not EXAMPLES.is_dir(), reason="the example is in the repository, and this is a copy of the tests"
)
SOON_S = 60.0
GREETER = """
class Skill(NativeSkill):
    skill_info = SkillInfo(name="greeter", description="Greets.", allowed_tools={tools})

    def execute(self, command: str, context: Context) -> str:
        context.emit("thinking about it")
        if command == "slow":
            import time
            time.sleep(1.5)
        return "{word}, " + command

    def read(self, path: str, context: Context, offset: int = 0, limit: int = 10) -> str:
        return context.resolve(path).read_text()
"""


class Service:
    """A daemon, the folder of its skills, and the model that it asks."""

    def __init__(self, daemon: Daemon, api: FakeMessagesApi, skills: Path) -> None:
        self.daemon = daemon
        self.api = api
        self.skills = skills

    def listing(self) -> dict[str, Any]:
        with self.daemon.http() as http:
            found: dict[str, Any] = http.get("/v1/skills").json()
        return found

    def workers(self, name: str) -> set[int]:
        """The daemon's processes for native skills whose names begin so; every process has TMPDIR."""
        return {*processes_with(f"native:{name}")} & {*processes_with(f"TMPDIR={temporary(self.daemon.folder)}")}

    def until(self, done: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The skills, as soon as they are as they should be."""
        deadline = time.monotonic() + SOON_S
        while not done(listing := self.listing()):
            assert time.monotonic() < deadline, listing
            time.sleep(0.05)
        return listing

    def offered(self) -> list[str]:
        """The tools of the last request."""
        return [tool["name"] for tool in self.api.bodies[-1]["tools"]]

    def finished(self, session: str) -> list[dict[str, Any]]:
        return [event["data"] for event in self.daemon.events(session) if event["type"] == "tool.finished"]


def temporary(folder: Path) -> Path:
    """The daemon's folder for temporary files."""
    return folder / "temporary"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("native")
    skills, others = folder / "skills", folder / "others"
    write_offender(skills)
    write_native(skills, "greeter", GREETER.format(tools='["execute", "read"]', word="hello"))
    if EXAMPLES.is_dir():
        shutil.copytree(EXAMPLES / "csv-tables", skills / "csv-tables", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("two-names", "two_names"):
        write_native(skills, name, GREETER.format(tools='["execute"]', word="x").replace('"greeter"', f'"{name}"'))
    write_native(skills, "undone", GREETER.format(tools='["write"]', word="x").replace('"greeter"', '"undone"'))
    write_native(skills, "rude", "raise RuntimeError('\\udcff \\x1b[31m')\n")
    write_native(others, "stranger", f"open({str(folder / 'ran')!r}, 'w')\n")
    token = folder / "token"
    token.write_text("correct horse battery")
    token.chmod(0o600)
    config = f'[skills]\nnative = ["{skills}"]\ntrusted = ["{skills}"]\n'
    config += f'[skills.secrets.offender]\nAPI_TOKEN = {{ file = "{token}" }}\n'
    with serve_in_thread(FakeMessagesApi([])) as api:
        temporary(folder).mkdir()
        env = {"ANTHROPIC_API_KEY": "no-key", "ANTHROPIC_BASE_URL": api.base_url, "TMPDIR": str(temporary(folder))}
        with running(folder, skills=[skills, others], config=config, env=env) as daemon:
            service = Service(daemon, api, skills)
            yield service
        assert service.workers("greeter@") == set(), "workers outlived the daemon"
    assert not (folder / "ran").exists(), "code of a folder that is not trusted was run"


def call(tool: str, **input: Any) -> str:
    return f"#call {tool} {json.dumps(input)}"


def test_what_may_not_run_is_refused_with_the_reason_and_the_rest_is_loaded(started: Service) -> None:
    listing = started.listing()
    loaded = {skill["name"] for skill in listing["items"]}
    assert loaded - {"csv-tables"} == {"greeter", "offender"}
    tools = {skill["name"]: skill["tools"] for skill in listing["items"]}
    assert tools["greeter"] == ["greeter_execute", "greeter_read"]
    refused = {Path(failure["path"]).name: failure["diagnostics"][0] for failure in listing["failures"]}
    assert {name: found["code"] for name, found in refused.items()} == {
        "rude": "native_import_failed",
        "stranger": "native_not_trusted",
        "two-names": "native_name_collision",
        "two_names": "native_name_collision",
        "undone": "native_missing_callback",
    }
    assert all(found["severity"] == "error" and found["remedy"] for found in refused.values())


@has_example
def test_native_tools_work_beside_those_of_the_local_backend(started: Service) -> None:
    session = started.daemon.create()
    write = call("create_file", path="sales.csv", file_text="region,sum\nnorth,7\nsouth,5\n", description="d")
    ask = call("csv_tables_execute", command="SELECT region FROM sales WHERE sum > 6")
    look = call("bash_tool", command="cat sales.csv", description="d")
    text = "\n".join([write, "#then", ask, look, call("greeter_read", path="sales.csv")])
    turn = started.daemon.ask(session, text)
    assert turn["status"] == "finished", turn
    assert {"view", "bash_tool", "load_skill", "csv_tables_execute", "csv_tables_read"} <= set(started.offered())
    assert not [name for name in started.offered() if name.startswith(("two", "undone", "stranger"))]
    assert "<name>csv-tables</name>" in json.dumps(started.api.bodies[-1]["system"])
    results = {data["name"]: data for data in started.finished(session)}
    assert "| north |" in results["csv_tables_execute"]["content"]
    assert "south" not in results["csv_tables_execute"]["content"]
    assert "south,5" in results["greeter_read"]["content"]
    assert "south,5" in results["bash_tool"]["content"]
    begun = [event["data"] for event in started.daemon.events(session) if event["type"] == "tool.started"]
    native = {data["name"]: data for data in begun}["csv_tables_execute"]
    assert (native["backend"], native["skill"]["name"]) == ("native", "csv-tables")
    assert len(native["skill"]["digest"]) == 64
    said = [event["data"]["text"] for event in started.daemon.events(session) if event["type"] == "tool.output"]
    assert "loaded sales.csv\n" in said


def test_a_session_gets_the_tools_of_its_own_skills_only(started: Service) -> None:
    session = started.daemon.create(skills=["greeter"])
    turn = started.daemon.ask(session, call("offender_execute", command="pid"))
    assert turn["status"] == "finished"
    assert "There is no tool 'offender_execute'" in turn["result"]["text"]
    assert [name for name in started.offered() if name.endswith("_execute")] == ["greeter_execute"]


def test_wrong_input_and_exceptions_are_results_that_the_model_reads(started: Service) -> None:
    session = started.daemon.create()
    wrong = call("greeter_execute", command=["not", "text"])
    turn = started.daemon.ask(session, "\n".join([wrong, call("greeter_read", path="/etc/passwd")]))
    assert turn["status"] == "finished"
    contents = [data["content"] for data in started.finished(session)]
    assert any("command must be a string" in content for content in contents)
    assert any(content.startswith("PermissionError: /etc/passwd is outside") for content in contents)


def test_a_secret_of_a_skill_is_in_its_calls_alone_and_is_never_shown(started: Service) -> None:
    session = started.daemon.create()
    asked = [call("offender_execute", command="environment"), call("offender_execute", command="secret")]
    look = call("bash_tool", command="echo token=$API_TOKEN", description="d")
    assert started.daemon.ask(session, "\n".join([*asked, look]))["status"] == "finished"
    events = started.daemon.events(session)
    contents = {event["data"]["content"].strip() for event in events if event["type"] == "tool.finished"}
    assert {"***", "token="} <= {content.partition("\n")[0] for content in contents}
    assert any('"API_TOKEN"' in content for content in contents)
    assert "correct horse" not in json.dumps([events, started.api.bodies]) + started.daemon.log.read_text()


def test_a_crash_of_the_worker_is_told_and_the_conversation_goes_on(started: Service) -> None:
    session = started.daemon.create()
    crashed = started.daemon.ask(session, call("offender_execute", command="segv"))
    assert crashed["status"] == "finished"
    assert "The tool's process was ended. worker 'native:offender@" in crashed["result"]["text"]
    assert "did well" in started.daemon.ask(session, call("offender_execute", command="well"))["result"]["text"]


def test_a_call_over_its_time_is_killed(started: Service) -> None:
    session = started.daemon.create(limits={"tool_timeout_s": 1})
    turn = started.daemon.ask(session, call("offender_execute", command="spin"))
    assert (turn["status"], "longer than" in turn["result"]["text"]) == ("finished", True)


def test_others_are_served_meanwhile_and_a_cancel_kills_what_ignores_everything(started: Service) -> None:
    daemon = started.daemon
    session = daemon.create()
    turn = daemon.post(session, call("offender_execute", command="deaf")).json()["turn"]
    deadline = time.monotonic() + SOON_S
    while not any(event["type"] == "tool.output" for event in daemon.events(session)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    neighbour = daemon.create()
    assert "did it" in daemon.ask(neighbour, call("offender_execute", command="it"))["result"]["text"]
    assert started.finished(session) == []
    with daemon.http() as http:
        http.post(f"/v1/turns/{turn}/cancel")
    assert daemon.wait(turn)["status"] == "cancelled"
    (result,) = started.finished(session)
    assert (result["outcome"], "Output until then:\ndeaf" in result["content"]) == ("cancelled", True)


def test_an_edit_is_used_by_the_next_turn_and_a_running_call_ends_on_the_old_code(started: Service) -> None:
    daemon, session = started.daemon, started.daemon.create()
    before = {skill["name"]: skill["digest"] for skill in started.listing()["items"]}["greeter"]
    slow = daemon.post(session, call("greeter_execute", command="slow")).json()["turn"]
    deadline = time.monotonic() + SOON_S
    while not any(event["type"] == "tool.output" for event in daemon.events(session)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    write_native(started.skills, "greeter", GREETER.format(tools='["execute"]', word="good day"))
    after = started.until(
        lambda listing: before not in [skill["digest"] for skill in listing["items"]] and listing["items"]
    )
    assert {skill["name"]: skill["tools"] for skill in after["items"]}["greeter"] == ["greeter_execute"]
    assert "hello, slow" in daemon.wait(slow)["result"]["text"]
    assert "good day, you" in daemon.ask(session, call("greeter_execute", command="you"))["result"]["text"]
    assert "greeter_read" not in started.offered()
    deadline = time.monotonic() + SOON_S
    while started.workers(f"greeter@{before[:12]}"):
        assert time.monotonic() < deadline, "the process of the old version stayed"
        time.sleep(0.1)


@has_example
def test_a_bad_edit_keeps_the_last_good_code_and_says_why(started: Service) -> None:
    good = (started.skills / "csv-tables" / "csv_tables.py").read_text()
    (started.skills / "csv-tables" / "csv_tables.py").write_text(good + "\nraise RuntimeError('half written')\n")
    listing = started.until(lambda listing: any(failure["kept"] for failure in listing["failures"]))
    (kept,) = [failure for failure in listing["failures"] if failure["kept"] == "csv-tables"]
    assert kept["diagnostics"][0]["code"] == "native_import_failed"
    assert "RuntimeError: half written" in kept["diagnostics"][0]["message"]
    session = started.daemon.create()
    answer = started.daemon.ask(session, call("csv_tables_execute", command="SELECT 6 * 7 AS x"))["result"]["text"]
    assert "| 42 |" in answer
    (started.skills / "csv-tables" / "csv_tables.py").write_text(good)
    started.until(lambda listing: not any(failure["kept"] for failure in listing["failures"]))


def test_nothing_survives_the_daemon_however_it_ends(started: Service) -> None:
    daemon, session = started.daemon, started.daemon.create()
    daemon.post(session, call("offender_execute", command="deaf"))
    deadline = time.monotonic() + SOON_S
    while not any(event["type"] == "tool.output" for event in daemon.events(session)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert started.workers("offender@")
    daemon.kill()
    deadline = time.monotonic() + 5
    while started.workers("offender@"):
        assert time.monotonic() < deadline, "a worker outlived the daemon"
        time.sleep(0.05)
    daemon.start()
    begun = daemon.ask(session, "go on")
    assert begun["status"] == "finished"
    results = [
        block["content"]
        for message in started.api.bodies[-1]["messages"]
        if message["role"] == "user" and not isinstance(message["content"], str)
        for block in message["content"]
        if block["type"] == "tool_result"
    ]
    assert any("may or may not have taken effect" in content for content in results)


ASKER = """
import os

class Skill(NativeSkill):
    skill_info = SkillInfo(name="{name}", description="Asks.", allowed_tools=["execute", "read"])

    def execute(self, command: str, context: Context) -> str:
        try:
            answer = context.ask(command, {{"do": "anything"}}, timeout_s=20)
        except AskFailed as failed:
            return f"{{failed.kind}}: {{failed}} (pid {{os.getpid()}})"
        return f"answer: {{answer}}"

    def read(self, path: str, context: Context) -> str:
        if path == "fail":
            raise FileNotFoundError(f"{{context.workspace}}/{{path}}")
        {waits}
        return context.environment.get("API_TOKEN", "no token") + str("API_TOKEN" in os.environ)
"""


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A daemon that runs some native skills in itself, and exposes one actor to all of them."""
    folder = tmp_path_factory.mktemp("mixed")
    skills = folder / "skills"
    write_native(skills, "near-asker", ASKER.format(name="near-asker", waits="import time; time.sleep(0.01)"))
    write_native(skills, "far-asker", ASKER.format(name="far-asker", waits="pass"))
    waits = "import threading; threading.Event().wait(30)"
    write_native(skills, "near-stuck", ASKER.format(name="near-stuck", waits=waits))
    token = folder / "token"
    token.write_text("correct horse battery")
    token.chmod(0o600)
    config = f'[skills]\nnative = ["{skills}"]\ntrusted = ["{skills}"]\n'
    config += f'[skills.secrets.near-asker]\nAPI_TOKEN = {{ file = "{token}" }}\n'
    config += '[backends.native]\ninline = ["near-*"]\nexpose = ["registry", "nobody"]\n'
    with serve_in_thread(FakeMessagesApi([])) as api:
        env = {"ANTHROPIC_API_KEY": "no-key", "ANTHROPIC_BASE_URL": api.base_url}
        with running(folder, skills=[skills], config=config, env=env) as daemon:
            yield Service(daemon, api, skills)


def test_the_operator_says_which_skills_run_in_the_daemon_itself_and_whom_they_may_ask(mixed: Service) -> None:
    daemon, session = mixed.daemon, mixed.daemon.create()
    tools = ("near_asker_execute", "far_asker_execute")
    calls = [call(tool, command=actor) for tool in tools for actor in ("registry", "nobody", "journal")]
    assert daemon.ask(session, "\n".join(calls))["status"] == "finished"
    for tool in tools:
        said = {data["content"].partition(":")[0]: data for data in mixed.finished(session) if data["name"] == tool}
        assert "registry' refused: Reject: " in said["refused"]["content"]
        assert "nobody' is not there" in said["gone"]["content"]
        assert "may not ask the actor 'journal'" in said["not_exposed"]["content"]
        in_daemon = f"(pid {daemon.pid})" in said["not_exposed"]["content"]
        assert in_daemon == tool.startswith("near")
    with daemon.http() as http:
        assert http.get("/v1/health/ready").status_code == 200


def test_a_skill_in_the_daemon_gets_its_secrets_from_its_context_alone(mixed: Service) -> None:
    session = mixed.daemon.create()
    asked = [call("near_asker_read", path="x"), call("near_asker_read", path="fail")]
    assert mixed.daemon.ask(session, "\n".join(asked))["status"] == "finished"
    contents = {data["content"] for data in mixed.finished(session)}
    assert contents == {"***False", "FileNotFoundError: fail"}


def test_a_skill_that_hangs_in_the_daemon_costs_its_call_and_its_own_turns_only(mixed: Service) -> None:
    session = mixed.daemon.create(limits={"tool_timeout_s": 1})
    turn = mixed.daemon.ask(session, call("near_stuck_read", path="x"))
    assert (turn["status"], "it was left alone and may go on" in turn["result"]["text"]) == ("finished", True)
    again = mixed.daemon.ask(session, call("near_stuck_read", path="x"))
    assert "busy with other calls, 1 of them abandoned" in again["result"]["text"]
    other = mixed.daemon.ask(mixed.daemon.create(), call("near_asker_execute", command="journal"))
    assert "not_exposed" in other["result"]["text"]


def test_an_edit_of_a_skill_in_the_daemon_is_used_by_the_next_turn(mixed: Service) -> None:
    daemon, session = mixed.daemon, mixed.daemon.create()
    before = {skill["name"]: skill["digest"] for skill in mixed.listing()["items"]}["near-asker"]
    edited = ASKER.format(name="near-asker", waits="return 'edited'")
    write_native(mixed.skills, "near-asker", edited.replace("def read", "async def read"))
    mixed.until(lambda listing: before not in [skill["digest"] for skill in listing["items"]])
    assert "edited" in daemon.ask(session, call("near_asker_read", path="x"))["result"]["text"]
