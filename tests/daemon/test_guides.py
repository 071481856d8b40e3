"""The guides that come with the program: agents are given them, and whatever they name is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import get_args

import pytest

from desk_kit import UID, open_desk, refused
from doc_kit import calls, parsed
from e2e.harness import clean_environment, program
from skill_actors.authoring.folder import open_skill
from skill_actors.authoring.lint import lint
from skill_actors.skills import validate_skill
from skill_actors.testing import Reply, ScriptedModel, Text
from skill_actors.workshop import guides
from skill_actors.workshop.board.item import Status
from skill_actors.workshop.guides import GUIDES, guide, role_rules
from skilld.mcp.tools import TOOLS
from support import run

FOLDER = Path(guides.__file__).parent
SKILL = "---\nname: solo\ndescription: What the owner has written.\n---\n\nAlways say hello first.\n"
SETTINGS = {"usd", "timeout_s", "retries", "rounds", "until"}  # of workflows, which a guide also names
OTHERS = {"workshop", "gh"}  # a server's name, and a program of others


def texts() -> dict[str, str]:
    return {**{name: (FOLDER / name / "SKILL.md").read_text() for name in GUIDES}, "rules": role_rules()}


def named(text: str) -> set[str]:
    """The words in code that can be names of tools, outside of blocks of commands."""
    return set(re.findall(r"`([a-z]+(?:_[a-z]+)*)`", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)))


def test_there_is_a_guide_for_each_way_of_working_and_each_is_a_good_skill() -> None:
    assert sorted(GUIDES) == sorted(path.parent.name for path in FOLDER.glob("*/SKILL.md"))
    assert len(GUIDES) == 9
    for name in GUIDES:
        found = guide(name)
        assert found is not None
        assert (found.name, found.diagnostics) == (name, ())
        assert validate_skill(FOLDER / name).valid
        assert len(found.body) < 3_000, "it is paid for with every message"
    assert guide("nothing") is None


@pytest.mark.parametrize("name", GUIDES)
def test_lint_finds_nothing_in_a_guide(name: str) -> None:
    assert list(lint(open_skill(FOLDER / name))) == []


@pytest.mark.parametrize(("name", "text"), texts().items(), ids=list(texts()))
def test_every_tool_that_a_guide_names_is_one(name: str, text: str) -> None:
    parameters = {key for each in TOOLS for key in each.schema()["properties"]}
    tools = {each.name for each in TOOLS}
    assert named(text) - tools - parameters - set(get_args(Status)) - SETTINGS - OTHERS == set()
    assert named(text) & tools, "a guide says which tools it is about"


@pytest.mark.parametrize("name", GUIDES)
def test_every_command_that_a_guide_shows_is_a_call_that_there_is(name: str) -> None:
    lines = [
        line for block in re.findall(r"^```sh\n(.*?)^```$", texts()[name], re.M | re.S) for line in block.split("\n")
    ]
    found = [call for line in lines for call in calls(line)]
    assert found
    for call in found:
        assert parsed(call[1:]).callback is not None, call


def test_the_rules_speak_to_who_leads_who_writes_and_who_judges() -> None:
    rules = role_rules()
    for part in ("an orchestrator", "a coder", "a reviewer", "LGTM", "you cannot loosen what binds you"):
        assert part in rules
    assert len(rules) < 3_000


def echoing() -> ScriptedModel:
    return ScriptedModel(respond=lambda request: Reply([Text("fine")]))


def test_an_agent_is_given_the_guide_and_nobody_elses_catalogue_has_it(tmp_path: Path) -> None:
    model = echoing()

    async def main() -> None:
        async with open_desk(tmp_path, model) as kit:
            await kit.define("a", role="You write.", skill="pair")
            await kit.define("b", role="You write.")
            found = guide("pair")
            assert found is not None
            assert (await kit.view("a"))["system_prompt"] == f"{found.body.strip()}\n\nYou write."
            await kit.ask("b", "x")
            assert "orchestrator" not in str(model.requests[-1])
            await refused("invalid_skill_spec", kit.define("c", skill="pears"))
            await refused("invalid_skill_spec", kit.define("c", skill="../workshop/guides/pair"))

    run(main)


def test_an_agent_with_the_tools_is_told_the_rules_and_a_reset_keeps_guide_tools_and_rules(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_desk(tmp_path, echoing()) as kit:
            await kit.define("a", role="You lead.", context="We sell tea.", skill="orchestrator", workshop_tools=True)
            before = await kit.view("a")
            found = guide("orchestrator")
            assert found is not None
            assert before["system_prompt"] == f"{found.body.strip()}\n\n{role_rules()}\n\nWe sell tea.\n\nYou lead."
            await kit.desk.reset(UID, "a")
            after = await kit.view("a")
            assert after["session"] != before["session"]
            assert after["system_prompt"] == before["system_prompt"]
            assert after["settings"]["workshop_tools"] is True

    run(main)


def test_a_skill_of_ones_own_comes_before_the_guide_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "given/solo").mkdir(parents=True)
    (tmp_path / "given/solo/SKILL.md").write_text(SKILL)

    async def main() -> None:
        async with open_desk(tmp_path, echoing(), skills=[tmp_path / "given/solo"]) as kit:
            await kit.define("a", skill="solo")
            agent = await kit.desk.agents.get(UID, "a")
            assert agent["system_prompt"] == "Always say hello first."

    run(main)


def skillctl(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Without a daemon, and with nothing to find one by."""
    return subprocess.run(
        [*program("skillctl"), *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env=clean_environment(SKILLD_SOCKET=str(folder / "none")),
        check=False,
    )


def test_guides_are_read_without_a_daemon(tmp_path: Path) -> None:
    listed = skillctl("workshop", "guide", "list", folder=tmp_path)
    assert [line.split()[0] for line in listed.stdout.splitlines()[1:]] == list(GUIDES)
    shown = skillctl("workshop", "guide", "show", "github", folder=tmp_path)
    assert shown.stdout == texts()["github"]
    none = skillctl("workshop", "guide", "show", "pears", folder=tmp_path)
    assert (none.returncode, "there is no guide 'pears'; there are solo" in none.stderr) == (2, True)
