"""Versions of skills that were approved, and those that were not, in the real daemon."""

from __future__ import annotations

import json
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.harness import Daemon, running
from native_kit import write_native
from skill_actors.testing import FakeMessagesApi, serve_in_thread

pytestmark = pytest.mark.e2e

CONFIG = """
[skills]
paths = ["skills"]
trusted = ["skills"]
native = ["skills"]
system = false
bundled = false
approval = "version"

[skills.secrets.tides]
TOKEN = { file = "token" }

[policy]
ask = ["Bash"]
"""
SCRIPT = "import os\nprint('token', 'given' if os.environ.get('TOKEN') else 'kept')\n"
NATIVE = """
open({mark!r}, "a").write("imported")

class Skill(NativeSkill):
    skill_info = SkillInfo(name="greeter", description="Greets.", allowed_tools=["execute"])

    def execute(self, command: str, context: Context) -> str:
        return "hello, " + command
"""
SOON_S = 60.0


def write(folder: Path, body: str) -> None:
    root = folder / "skills/tides"
    (root / "scripts").mkdir(parents=True, exist_ok=True)
    (root / "scripts/run.py").write_text(SCRIPT)
    head = "name: tides\ndescription: Tells the tide.\nallowed-tools: Bash(echo:*) Bash(python3 scripts/run.py:*)"
    (root / "SKILL.md").write_text(f"---\n{head}\n---\n\n{body}\n")


class Service:
    def __init__(self, daemon: Daemon, api: FakeMessagesApi) -> None:
        self.daemon = daemon
        self.api = api

    def skill(self, name: str = "tides") -> dict[str, Any]:
        with self.daemon.http() as http:
            found: dict[str, Any] = http.get(f"/v1/skills/{name}").json()
        return found

    def until(self, done: Callable[[dict[str, Any]], bool], name: str = "tides") -> dict[str, Any]:
        deadline = time.monotonic() + SOON_S
        while not done(skill := self.skill(name)):
            assert time.monotonic() < deadline, skill
            time.sleep(0.02)
        return skill

    def codes(self) -> list[str]:
        return [found["code"] for found in self.skill()["diagnostics"]]

    def calls(self, *calls: tuple[str, dict[str, Any]]) -> list[str]:
        """What a model is told that loads the skill in a new conversation and then makes these calls."""
        session = self.daemon.create(policy={"on_ask": "deny"})
        text = "\n#then\n".join(f"#call {name} {json.dumps(input)}" for name, input in calls)
        turn = self.daemon.ask(session, text)
        assert turn["status"] == "finished", turn
        events = self.daemon.events(session)
        return [event["data"]["content"] for event in events if event["type"] == "tool.finished"]

    def echo(self) -> tuple[str, str]:
        """The instructions, and what a call says that they pre-approve."""
        instructions, said = self.calls(
            ("load_skill", {"name": "tides"}), ("bash_tool", {"command": "echo flood", "description": "d"})
        )
        return instructions, said


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Service]:
    (tmp_path / "token").write_text("s3cr3t-token-of-tides")
    (tmp_path / "token").chmod(0o600)
    write(tmp_path, "As approved.")
    write_native(tmp_path / "skills", "greeter", NATIVE.format(mark=str(tmp_path / "mark")))
    with serve_in_thread(FakeMessagesApi([])) as api:
        env = {"ANTHROPIC_API_KEY": "no-key", "ANTHROPIC_BASE_URL": api.base_url}
        with running(tmp_path, config=CONFIG, env=env) as daemon:
            yield Service(daemon, api)


def test_only_the_approved_version_runs_unasked_and_has_its_secrets(started: Service, tmp_path: Path) -> None:
    daemon = started.daemon
    assert started.codes() == ["not_approved"]
    instructions, said = started.echo()
    assert "As approved." in instructions
    assert said.startswith("Not run: it needs an approval")
    for command in ("status", "list"):
        assert "skillctl skills approve tides. [not_approved]" not in daemon.skillctl("skills", command).stderr
        assert "skillctl skills approve tides [not_approved]" in daemon.skillctl("skills", command).stdout
    assert "not_approved" in daemon.skillctl("skills", "show", "tides").stdout
    refused = daemon.ask(daemon.create(policy={"on_ask": "deny"}), "/tides")["result"]["error"]
    assert (refused["code"], refused["message"][:7]) == ("policy_denied", "Not run")

    seen = started.skill()["digest"]
    assert daemon.skillctl("skills", "approve", "tides").stdout == f"tides: {seen} is approved\n"
    daemon.kill()  # it was acknowledged
    daemon.start()
    assert (started.codes(), started.skill()["approved"], started.skill()["trusted"]) == ([], seen, True)
    assert started.echo()[1].startswith("flood")
    assert "token given" in daemon.ask(daemon.create(), "/tides")["result"]["text"]

    write(tmp_path, "As nobody has seen it.")
    started.until(lambda skill: skill["digest"] != seen)
    assert started.codes() == ["changed_since_approved"]
    instructions, said = started.echo()
    assert "As nobody has seen it." in instructions
    assert said.startswith("Not run: it needs an approval")
    stale = daemon.skillctl("skills", "approve", "tides", "--digest", seen)
    assert stale.returncode != 0
    assert "is another version now" in stale.stderr
    assert daemon.skillctl("skills", "approve", "tides").returncode == 0
    assert started.echo()[1].startswith("flood")

    saved = tmp_path / "backup.tar"
    assert daemon.skillctl("backup", str(saved)).returncode == 0
    with tarfile.open(saved) as archive:
        kept = archive.extractfile("approvals.json")
        assert kept is not None
        assert json.load(kept)["approved"] == {"tides": started.skill()["digest"]}
    assert daemon.skillctl("skills", "approve", "--revoke", "tides").returncode == 0
    assert started.echo()[1].startswith("Not run")


def test_a_secret_is_not_given_to_another_version(started: Service, tmp_path: Path) -> None:
    """Without a policy that asks: what runs anyway runs without the secret."""
    daemon = started.daemon
    daemon.stop()
    (tmp_path / "skilld.toml").write_text(CONFIG.replace('ask = ["Bash"]', ""))
    daemon.start()
    assert "token kept" in daemon.ask(daemon.create(), "/tides")["result"]["text"]
    assert "is not trusted, or not in this version" in daemon.skillctl("skills", "status").stdout
    assert daemon.skillctl("skills", "approve", "tides").returncode == 0
    assert "token given" in daemon.ask(daemon.create(), "/tides")["result"]["text"]


def test_native_code_is_imported_only_in_the_approved_version(started: Service, tmp_path: Path) -> None:
    daemon, mark = started.daemon, tmp_path / "mark"
    seen = started.skill("greeter")
    assert (seen["tools"], [found["code"] for found in seen["diagnostics"]]) == ([], ["not_approved"])
    assert not mark.exists()
    assert daemon.skillctl("skills", "approve", "greeter").returncode == 0
    assert started.skill("greeter")["tools"] == ["greeter_execute"]
    assert started.calls(("greeter_execute", {"command": "sea"})) == ["hello, sea"]
    other = tmp_path / "other"
    write_native(tmp_path / "skills", "greeter", NATIVE.format(mark=str(other)))
    assert started.until(lambda skill: skill["digest"] != seen["digest"], "greeter")["tools"] == []
    assert started.calls(("greeter_execute", {"command": "sea"}))[0].startswith("There is no tool")
    assert not other.exists()
    daemon.kill()
    daemon.start()
    assert not other.exists()


def test_damaged_file_approves_nothing_and_says_so_loudly(started: Service) -> None:
    daemon = started.daemon
    assert daemon.skillctl("skills", "approve", "tides").returncode == 0
    daemon.stop()
    file = daemon.state / "approvals.json"
    file.write_bytes(file.read_bytes()[:-1])
    daemon.start()
    assert started.codes() == ["not_approved"]
    status = daemon.skillctl("skills", "status")
    assert status.returncode == 1
    assert "[approvals_damaged]" in status.stdout
    assert "no version of any skill is approved" in daemon.log.read_text()
    assert daemon.skillctl("skills", "approve", "tides").returncode == 0
    assert started.echo()[1].startswith("flood")
    assert daemon.skillctl("skills", "status").returncode == 0
