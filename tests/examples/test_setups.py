"""The eleven set-ups of the workshop: each is applied and run as it stands, with no model and no network.

One daemon for all of them. Each takes away what it has made by applying a file with no more than its name.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import claude_kit
import codex_kit
from conftest import require
from doc_kit import blocks, calls
from e2e.harness import Daemon, clean_environment, program, running
from skill_actors.backends.agents.claude.arguments import FLAGS
from skill_actors.testing import FakeMessagesApi, FakeResponsesApi, Reply, Text, serve_in_thread
from skill_actors.workshop.guides import GUIDES, guide
from skilld.cli.app import App
from skilld.cli.commands.workshop.setup import validate_command

ROOT = Path(__file__).parents[2]
SETUPS = ROOT / "examples/setups"
NAMES = (
    *("solo", "pair", "team", "mixed", "board", "budget", "monitor", "orchestrator", "workflow", "github_sync"),
    "dogfood",
)
HOSTILE = "$(touch pwned) `touch pwned`; touch pwned"
GH = """#!/bin/sh
# A stand-in for gh: two issues, one of somebody who means no good, and a list of what was said on them.
case "$1 $2" in
"issue list") cat "$GH_FOLDER/issues.json" ;;
"issue comment") { echo "on $3:"; cat; } >> "$GH_FOLDER/comments" ;;
*) exit 1 ;;
esac
"""

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not SETUPS.is_dir(), reason="the set-ups are in the repository, and this is a copy of the tests"
    ),
]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("setups")
    (folder / "gh").mkdir()
    (folder / "gh/gh").write_text(GH)
    (folder / "gh/gh").chmod(0o755)
    claude = f'environment = {{ STAND_IN_HELP = "{" ".join(sorted(FLAGS))}" }}'
    config = config_of(folder, claude_kit.stand_in(folder), codex_kit.stand_in(folder), claude=claude)
    with running(folder, config=config) as daemon:
        yield daemon


def config_of(folder: Path, claude_program: str, codex_program: str, *, claude: str = "", codex: str = "") -> str:
    """Puts the set-ups into a folder of projects beside a key; what a daemon is to know of it and of the programs."""
    shutil.copytree(SETUPS, folder / "setups")
    key = folder / "key"
    key.write_text("key-of-the-test")
    key.chmod(0o600)
    return f"""
[skills]
projects = ["{folder}/setups"]
[backends]
agents = ["claude_cli", "codex_cli"]
[backends.claude_cli]
program = "{claude_program}"
api_key_file = "{key}"
{claude}
[backends.codex_cli]
program = "{codex_program}"
api_key_file = "{key}"
{codex}
"""


def environment(daemon: Daemon) -> dict[str, str]:
    """Our programs, the python that has them, and the stand-in of gh."""
    found = clean_environment(
        SKILLD_SOCKET=str(daemon.socket), HOME=str(daemon.folder), GH_FOLDER=str(daemon.folder / "gh")
    )
    ours = {str(Path(program(name)[0]).parent) for name in ("skillctl", "skilld")} | {str(Path(sys.executable).parent)}
    found["PATH"] = os.pathsep.join([str(daemon.folder / "gh"), *sorted(ours), found["PATH"]])
    return found


def run(daemon: Daemon, name: str) -> subprocess.CompletedProcess[str]:
    """The set-up as a user runs it."""
    return subprocess.run(
        [str(daemon.folder / "setups" / name / "run")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(daemon),
        check=False,
    )


def told(daemon: Daemon, *arguments: str) -> Any:
    """What a command prints as JSON."""
    done = daemon.skillctl(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def output(daemon: Daemon, request: pytest.FixtureRequest) -> Iterator[str]:
    """What the set-up of the test prints; afterwards nothing of it is left."""
    name = request.function.__name__.removeprefix("test_").partition("__")[0]
    assert name in NAMES
    done = run(daemon, name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    yield done.stdout
    empty = daemon.folder / f"{name}-gone.toml"
    empty.write_text(f'name = "{name}"\n')
    gone = daemon.skillctl("workshop", "apply", str(empty), "--prune", "--yes")
    assert gone.returncode == 0, gone.stderr
    assert told(daemon, "workshop", "agent", "list")["items"] == []


def answers(daemon: Daemon, agent: str) -> list[str]:
    """What the agent has answered, oldest first."""
    return [turn["result"]["text"] for turn in told(daemon, "workshop", "agent", "history", agent)["items"]]


def test_every_setup_is_named_has_a_file_that_is_valid_and_a_script() -> None:
    assert {path.parent.name for path in SETUPS.glob("*/workshop.toml")} == set(NAMES)
    page = (SETUPS / "README.md").read_text()
    for name in NAMES:
        assert f"| [{name}]({name}/workshop.toml) |" in page
        assert os.access(SETUPS / name / "run", os.X_OK)
        done = CliRunner().invoke(validate_command, [str(SETUPS / name / "workshop.toml")], obj=App(None))
        assert (done.exit_code, done.output.endswith(": good\n")) == (0, True), done.output


def test_the_commands_of_the_page_do_what_it_says(daemon: Daemon) -> None:
    (block,) = [block for block in blocks("examples/setups/README.md") if block.kind == "sh"]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text.replace("examples/setups", f"{daemon.folder}/setups")],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(daemon),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert daemon.skillctl("workshop", "agent", "dismiss", "solo").returncode == 0


def test_solo__keeps_its_conversation(daemon: Daemon, output: str) -> None:
    assert answers(daemon, "solo") == ["echo: the disk of host a is full", "echo: and nothing else is"]
    assert "echo: and nothing else is" in output
    about = told(daemon, "workshop", "agent", "info", "solo")
    assert about["system_prompt"].startswith("# One agent\n")
    assert about["settings"]["max_cost_usd"] == 5.0


def test_pair__hands_work_and_review_to_and_fro(daemon: Daemon, output: str) -> None:
    work = "echo: parse accepts an empty line now, with a test"
    assert output.splitlines()[-1] == f"echo: the review of reviewer: echo: LGTM: {work}"
    assert answers(daemon, "reviewer") == [f"echo: LGTM: {work}"]
    assert told(daemon, "workshop", "agent", "info", "reviewer")["settings"]["profile"] == "pair"


def test_team__answers_together(daemon: Daemon, output: str) -> None:
    for name in ("designer", "developer", "tester"):
        assert f"== {name}\necho: a basket of a thousand goods is slow\n" in output
        assert told(daemon, "workshop", "agent", "info", name)["system_prompt"].startswith("The project is a web shop.")
    assert output.count("echo: is it ready") >= 2


def test_mixed__speaks_to_three_backends_alike(daemon: Daemon, output: str) -> None:
    found = {agent["name"]: agent for agent in told(daemon, "workshop", "agent", "list")["items"]}
    assert {name: agent["backend"] for name, agent in found.items()} == {
        "planner": "claude_cli",
        "builder": "codex_cli",
        "clerk": None,  # the daemon's own choice
    }
    assert "say in one word what is to be built" in answers(daemon, "planner")[0]
    assert "say in one word what is to be built" in answers(daemon, "builder")[0], "the result was handed on"
    assert found["planner"]["cost_usd"] == 0.01
    assert "echo: noted" in output


def test_the_mixed_setup_with_the_real_programs(tmp_path: Path) -> None:
    claude_program, codex_program = claude_kit.real_claude(), codex_kit.real_codex()
    with (
        serve_in_thread(FakeMessagesApi(respond=lambda _body: Reply([Text("A bridge.")]))) as messages,
        serve_in_thread(FakeResponsesApi()) as responses,
    ):
        responses.enqueue(Reply([Text("Built.")]))
        claude = f'base_url = "{messages.base_url}"\nmax_retries = 0'
        codex = f'base_url = "{responses.base_url}"\nmodel = "gpt-test"\nretries = 0'
        with running(
            tmp_path, config=config_of(tmp_path, claude_program, codex_program, claude=claude, codex=codex)
        ) as own:
            done = run(own, "mixed")
            assert done.returncode == 0, done.stdout + done.stderr
            assert answers(own, "planner") == ["A bridge."]
            assert answers(own, "builder") == ["Built."]
        assert "You plan. You change nothing." in str(messages.bodies[-1])
        assert "Build this:\\n\\nA bridge." in json.dumps(responses.bodies[-1])


def test_board__does_every_item_once_and_in_order(daemon: Daemon, output: str) -> None:
    items = {item["id"]: told(daemon, "board", "show", item["id"]) for item in told(daemon, "board", "list")["items"]}
    assert {id: (item["status"], item["attempts"]) for id, item in items.items()} == {
        "printer": ("done", 1),
        "parser": ("done", 1),
        "notes": ("done", 1),
    }
    assert items["notes"]["started"] >= max(items["parser"]["ended"], items["printer"]["ended"])
    assert items["parser"]["labels"] == {"part": "text"}
    assert all(item["result"] for item in items.values())
    assert [each["state"] for each in told(daemon, "workshop", "worker", "list")["items"]] == []
    assert "Both are described" in output


def test_budget__refuses_the_third_call_and_does_nothing_of_it(daemon: Daemon, output: str) -> None:
    assert "echo: the second" in output
    assert "the third" not in output
    turns = told(daemon, "workshop", "agent", "history", "spender")["items"]
    assert [turn["status"] for turn in turns] == ["finished", "finished", "failed"]
    assert turns[-1]["result"]["error"]["code"] == "budget_exceeded"
    assert told(daemon, "workshop", "configure")["max_cost_usd"] == 10.0


def test_monitor__looks_at_once_and_remembers(daemon: Daemon, output: str) -> None:
    assert output.splitlines()[-1] == "echo: build 7 is green"
    assert told(daemon, "workshop", "store", "get", "monitor", "last")["version"] == 2
    schedules = {each["name"]: each for each in told(daemon, "workshop", "schedule", "list")["items"]}
    assert set(schedules) == {"hourly", "morning"}
    assert all(each["next_due"] for each in schedules.values())


def test_orchestrator__leads_by_its_tools_and_never_waits_for_itself(daemon: Daemon, output: str) -> None:
    assert "== north\necho: all hosts are up\n\n== south\necho: all hosts are up" in output
    assert "-- ask (refused)\nagent 'lead' cannot ask itself" in output
    assert re.search(r"^board: \d+ items \(.*\b1 ready", output, re.MULTILINE)
    assert answers(daemon, "lead") == []
    assert "# Rules of the workshop" in told(daemon, "workshop", "agent", "info", "lead")["system_prompt"]
    assert told(daemon, "board", "show", "report")["status"] == "ready"


def test_workflow__goes_through_its_stages(daemon: Daemon, output: str) -> None:
    (run,) = told(daemon, "workflow", "status", "--workflow", "notes")["items"]
    stages = told(daemon, "workflow", "status", run["id"])["stages"]
    assert {name: stage["status"] for name, stage in stages.items()} == {
        **dict.fromkeys(("collect", "write", "judge", "publish"), "done"),
        "mend": "skipped",
    }
    assert "echo: published echo: Notes: echo: 1.4 starts faster" in output


@pytest.fixture
def issues(daemon: Daemon) -> None:
    found = [
        {"number": 17, "title": "Crash on empty input", "body": "It ends with 139."},
        {"number": 18, "title": HOSTILE, "body": HOSTILE},
    ]
    (daemon.folder / "gh/issues.json").write_text(json.dumps(found))


@pytest.mark.usefixtures("issues")
def test_github_sync__takes_each_issue_once_and_runs_nothing_of_it(daemon: Daemon, output: str) -> None:
    for number in (17, 18):
        assert output.count(f"issue {number}: done\n") == 1
        assert output.count(f"issue {number}: taken before\n") == 1
    said = (daemon.folder / "gh/comments").read_text()
    assert [line for line in said.splitlines() if line.startswith("on ")] == ["on 17:", "on 18:"]
    assert said.count("done: ") == 2
    item = told(daemon, "board", "show", "gh_18")
    assert (item["title"], item["labels"]) == (HOSTILE, {"issue": "18", "said": "yes"})
    assert list(daemon.folder.rglob("pwned")) == []


def sync(daemon: Daemon, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(daemon.folder / "setups/github_sync/sync.py")],
        capture_output=True,
        text=True,
        timeout=60,
        env={**environment(daemon), **environ},
        check=False,
    )


def test_what_was_broken_off_before_the_issue_was_told_is_made_up_for(daemon: Daemon) -> None:
    (daemon.folder / "gh/issues.json").write_text(json.dumps([{"number": 21, "title": "Cut", "body": ""}]))
    assert daemon.skillctl("board", "add", "Cut", "--id", "gh_21", "--label", "issue=21").returncode == 0
    assert daemon.skillctl("board", "cancel", "gh_21", "--reason", "not ours").returncode == 0
    assert [sync(daemon).stdout for _ in range(2)] == ["issue 21: cancelled\n", "issue 21: taken before\n"]
    assert (daemon.folder / "gh/comments").read_text().count("on 21:\ncancelled: not ours\n") == 1


def test_a_missing_or_failing_gh_is_said_in_a_line(daemon: Daemon) -> None:
    without = sync(daemon, PATH=str(daemon.folder / "setups"))
    assert (without.returncode, without.stderr.count("\n"), "no program gh" in without.stderr) == (1, 1, True)
    failing = sync(daemon, GH_FOLDER=str(daemon.folder / "none"))
    assert (failing.returncode, "gh issue list ended with 1" in failing.stderr) == (1, True), failing.stderr


def git(folder: Path, *arguments: str) -> str:
    settings = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", *settings, *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def repository(daemon: Daemon) -> Path:
    """One that the set-up lies somewhere in."""
    require(shutil.which("git") is not None, "no git here")
    folder = daemon.folder / "setups"
    git(folder, "init", "--quiet")
    git(folder, "config", "user.name", "a")
    git(folder, "config", "user.email", "a@example.org")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "one")
    return folder


def test_dogfood__merges_what_was_changed_in_a_worktree(repository: Path, daemon: Daemon, output: str) -> None:
    assert "branch: agents/coder" in output
    assert "+a line" in output
    assert "echo: LGTM: echo: changed in my own worktree" in output
    assert (repository / "NEW.md").read_text() == "a line\n"
    assert "notes: a line" in git(repository, "log", "--oneline")
    assert told(daemon, "workshop", "worktree", "list")["items"] == []


MISSED = {  # what the offline model cannot bring about
    "skillctl board retry config": "is ready",
    'skillctl workshop fan "How would you do it?" planner builder --judge judge': "answered with no number",
}


@pytest.mark.deep
@pytest.mark.parametrize("name", GUIDES)
def test_the_commands_of_a_guide_are_taken(name: str, daemon: Daemon) -> None:
    found = guide(name)
    assert found is not None
    (block,) = re.findall(r"^```sh\n(.*?)^```$", found.body, re.M | re.S)
    shutil.copy(ROOT / "examples/workflows/release.toml", daemon.folder)
    daemon.skillctl("workshop", "agent", "define", "clerk")
    daemon.skillctl("board", "rm", "gh_17")
    for line in block.splitlines():
        if line.startswith("gh ") or "--follow" in line:
            continue
        run = told(daemon, "workflow", "status")["items"][0]["id"] if "RUN" in line else ""
        ((_, *words),) = calls(line.replace("RUN", run).replace(" --policy workspace", ""))  # which may ask somebody
        done = subprocess.run(
            [*program("skillctl"), *words],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment(daemon),
            cwd=daemon.folder,
            check=False,
        )
        if line in MISSED:
            assert (done.returncode, MISSED[line] in done.stderr) == (1, True), (line, done.stderr)
        else:
            assert done.returncode == 0, (line, done.stderr)
