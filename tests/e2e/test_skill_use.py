"""Skills as a model uses them, through the real daemon: found, loaded once, and allowed what they may."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import require
from e2e.harness import Daemon, have, program, running, write_skill
from skill_actors.testing import FakeMessagesApi, serve_in_thread

pytestmark = pytest.mark.e2e

CONFIG = """
[skills]
paths = ["trusted", "foreign"]
trusted = ["trusted"]
system = false
bundled = false
catalogue_tokens = 3000

[policy]
ask = ["Bash"]
deny = ["Edit"]
"""
INSTRUCTIONS = "Count the tides twice."
EDIT_S = 10.0  # ten times what an edit may take


class Service:
    """A daemon, the API it calls, and the folders of its skills."""

    def __init__(self, daemon: Daemon, api: FakeMessagesApi) -> None:
        self.daemon = daemon
        self.api = api

    def ask(self, session: str, *calls: tuple[str, dict[str, Any]]) -> list[str]:
        """A turn in which the model makes these calls, one after the other; their results."""
        text = "\n#then\n".join(f"#call {name} {json.dumps(input)}" for name, input in calls)
        turn = self.daemon.ask(session, text or "hello")
        assert turn["status"] == "finished", turn
        events = self.daemon.events(session)
        return [e["data"]["content"] for e in events if e["type"] == "tool.finished" and e["turn"] == turn["turn"]]

    def load(self, session: str, name: str = "tides") -> str:
        return self.ask(session, ("load_skill", {"name": name}))[0]

    def messages(self) -> str:
        """What the model was told last by us and by tools; what it says itself may quote that."""
        return json.dumps([each["content"] for each in self.api.bodies[-1]["messages"] if each["role"] == "user"])

    def system(self) -> str:
        system = self.api.bodies[-1]["system"]
        return system if isinstance(system, str) else "".join(block["text"] for block in system)

    def write(self, name: str, header: str = "", *, body: str = INSTRUCTIONS, folder: str = "trusted") -> Path:
        root = self.daemon.folder / folder / name
        (root / "scripts").mkdir(parents=True, exist_ok=True)
        (root / "scripts/run.py").write_text("import sys\nprint('ran', sys.argv[1:])\n")
        (root / "SKILL.md").write_text(f"---\nname: {name}\ndescription: About {name}.\n{header}---\n\n{body}\n")
        return root

    def serves(self, name: str, text: str) -> None:
        """Wait until an edit is in force."""
        until = time.monotonic() + EDIT_S
        with self.daemon.http() as http:
            while text not in http.get(f"/v1/skills/{name}").text:
                assert time.monotonic() < until, f"{name} was not reloaded"
                time.sleep(0.02)


def bash(command: str) -> tuple[str, dict[str, Any]]:
    return "bash_tool", {"command": command, "description": "d"}


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("daemon")
    with serve_in_thread(FakeMessagesApi([])) as api:
        env = {"ANTHROPIC_API_KEY": "sk-ant-secret-of-the-test", "ANTHROPIC_BASE_URL": api.base_url}
        service = Service(Daemon(folder, config=CONFIG, env=env), api)
        service.write("tides", "allowed-tools: Bash(echo:*) Bash(python3 scripts/run.py:*)\n")
        service.write("foreign", "allowed-tools: Bash Grep\n", folder="foreign")
        for number in range(30):
            root = service.write(f"zz-{number:02}")
            file = root / "SKILL.md"
            file.write_text(file.read_text().replace("About", f"{'Long ' * 40}about"))
        with running(folder, config=CONFIG, env=env) as daemon:
            yield Service(daemon, api)


def test_instructions_are_given_once_across_a_crash_a_fork_and_an_import(started: Service) -> None:
    daemon = started.daemon
    session = daemon.create()
    assert INSTRUCTIONS in started.load(session)
    daemon.kill()
    daemon.start()
    assert "loaded already" in started.load(session)
    assert started.messages().count(INSTRUCTIONS) == 1
    with daemon.http() as http:
        fork = http.post(f"/v1/sessions/{session}/fork", json={}).json()["id"]
        exported = http.get(f"/v1/sessions/{session}/export").content
        copy = http.post("/v1/sessions/import", content=exported).json()["id"]
        http.post(f"/v1/sessions/{session}/reset", json={})
    for other in (fork, copy):
        assert "loaded already" in started.load(other)
        assert started.messages().count(INSTRUCTIONS) == 1
    assert INSTRUCTIONS in started.load(session)  # it was reset
    assert started.messages().count(INSTRUCTIONS) == 1


def test_an_edit_reaches_a_conversation_that_has_loaded_the_skill(started: Service) -> None:
    started.write("edited", body="As it was.")
    started.serves("edited", "As it was.")
    session = started.daemon.create()
    started.load(session, "edited")
    started.write("edited", body="As it is now.")
    started.serves("edited", "As it is now.")
    started.ask(session)
    assert "the skill 'edited' was changed since it was loaded above" in started.messages()
    assert "As it is now." in started.load(session, "edited")
    assert started.messages().count("was changed since") == 1
    shown = started.daemon.skillctl("show", session)
    assert "[load_skill] edited" in shown.stdout
    assert shown.stdout.count("[the skill edited was changed since it was loaded here]") == 1


def test_the_location_can_be_read_where_the_tools_run(started: Service) -> None:
    session = started.daemon.create(skills=["tides"])
    started.ask(session)
    location = started.system().split("<location>")[1].split("</location>")[0]
    folder = os.path.dirname(location)
    instructions, script = started.ask(
        session, ("view", {"path": location}), ("view", {"path": f"{folder}/scripts/run.py"})
    )
    assert INSTRUCTIONS in instructions
    assert f'folder="{folder}"' in instructions
    assert "scripts/run.py" in instructions
    assert "sys.argv" in script


def test_a_trusted_skill_approves_what_it_lists_until_the_turn_ends(started: Service) -> None:
    session = started.daemon.create(policy={"on_ask": "deny"})
    load = ("load_skill", {"name": "tides"})
    assert "needs an approval" in started.ask(session, bash("echo hi"))[0]
    assert started.ask(session, load, bash("echo hi"))[1].strip() == "hi"
    assert "needs an approval" in started.ask(session, load, bash("echo hi; id"))[1]
    assert "needs an approval" in started.ask(session, bash("echo hi"))[0]
    edit = ("str_replace", {"path": "a", "old_str": "b", "new_str": "c", "description": "d"})
    assert "denies str_replace" in started.ask(session, load, edit)[1]
    offered = {tool["name"] for tool in started.api.bodies[-1]["tools"]}
    assert offered == {"view", "bash_tool", "create_file", "load_skill"}


def test_a_skill_of_a_source_that_is_not_trusted_approves_nothing(started: Service) -> None:
    load = ("load_skill", {"name": "foreign"})
    assert (
        "needs an approval" in started.ask(started.daemon.create(policy={"on_ask": "deny"}), load, bash("echo hi"))[1]
    )
    status = started.daemon.skillctl("skills", "status")
    assert "allowed-tools names unknown tools: 'Grep'" in status.stdout


def test_the_catalogue_keeps_to_its_budget_and_says_what_it_cut(started: Service) -> None:
    daemon = started.daemon
    used = daemon.create()
    started.load(used, "zz-29")
    started.ask(daemon.create())
    system = started.system()
    catalogue = system[system.index("<skills>") :]
    assert len(catalogue) <= 3000 * 4
    assert "There is not room for everything" in catalogue
    names = [part.partition("<")[0] for part in catalogue.split("<name>")[1:]]
    assert names == sorted(names)
    described = {part.partition("<")[0]: part.count("Long ") for part in catalogue.split("<name>")[1:]}
    assert described["zz-29"] == 40
    assert described["zz-28"] < 40
    started.ask(daemon.create())
    assert started.system().partition("<skills>")[2] == catalogue.partition("<skills>")[2]


def test_users_run_skills_by_name_and_the_shell_knows_the_names(started: Service, tmp_path: Path) -> None:
    daemon = started.daemon
    done = daemon.skillctl("send", "/tides 'a b' c")
    assert done.stdout.strip() == "ran ['a b', 'c']", done
    assert daemon.skillctl("send", "/zz-01 x").returncode == 3  # somebody has to allow it
    require(have("bash"), "bash is not installed")
    (tmp_path / "skillctl").write_text(f'#!/bin/sh\nexec {" ".join(program("skillctl"))} "$@"\n')
    (tmp_path / "skillctl").chmod(0o755)
    script = (
        'eval "$(skillctl completion bash)"\n'
        "COMP_WORDS=(skillctl send /ti) COMP_CWORD=2\n"
        "_skillctl_completion skillctl /ti send\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SKILLD_SOCKET": str(daemon.socket)}
    asked = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=env, timeout=60, check=False)
    assert (asked.stdout, asked.stderr) == ("/tides\n", "")


def test_a_command_that_is_not_permitted_has_failed_and_ran_nothing(started: Service) -> None:
    denied = [{"effect": "deny", "tool": "bash_tool", "reason": "not here"}]
    session = started.daemon.create(policy={"rules": denied})
    done = started.daemon.skillctl("send", "-s", session, "/tides now")
    assert (done.returncode, done.stdout) == (5, "")
    assert "not here" in done.stderr
    (turn,) = [event["data"] for event in started.daemon.events(session) if event["type"] == "turn.failed"]
    assert turn["error"]["code"] == "policy_denied"
    assert "tool.started" not in [event["type"] for event in started.daemon.events(session)]
    assert started.ask(session) == [], "a model takes the conversation as it is"


def test_a_limit_of_the_configuration_holds_for_commands_of_users(tmp_path: Path) -> None:
    config = '[skills]\npaths = ["skills"]\nrestrict_to_allowed_tools = true\n'
    for name, tools in (("reader", "Read"), ("runner", "Bash(python3 scripts/run.py:*)"), ("free", "")):
        root = write_skill(tmp_path / "skills", name, "print('ran')")
        file = root / "SKILL.md"
        file.write_text(file.read_text().replace("description:", f"allowed-tools: {tools}\ndescription:"))
    with running(tmp_path, config=config) as daemon:
        limited = daemon.skillctl("send", "/reader")
        assert (limited.returncode, limited.stdout) == (5, "")
        assert "do not list this call in allowed-tools" in limited.stderr
        assert daemon.skillctl("send", "/runner").stdout == "ran\n"
        assert daemon.skillctl("send", "/free").stdout == "ran\n"
