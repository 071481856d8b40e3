"""What the policy lets run: denied, asked for, pre-approved by a skill, limited to what skills list."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from policy_kit import ruled
from skill_actors.backends.base import ToolCall
from skill_actors.sessions.policy import ActiveSkill, Policy
from skill_actors.skills import Skill

TOOLS = ("view", "bash_tool", "create_file", "str_replace", "load_skill")


def call(tool: str = "bash_tool", /, *, argv: tuple[str, ...] | None = None, **input: Any) -> ToolCall:
    return ToolCall(id="t", name=tool, input=input or {"command": "git log"}, argv=argv)


def active(*tools: str, trusted: bool = True, name: str = "s", files: tuple[str, ...] = ()) -> ActiveSkill:
    skill = Skill(
        name=name, description="d", root=Path("/x"), digest="0", allowed_tools=tools, trusted=trusted, files=files
    )
    return ActiveSkill(skill, f"/skills/{name}")


def verdict(
    asked: ToolCall, *skills: ActiveSkill, deny: Collection[str] = (), ask: Collection[str] = (), **policy: Any
) -> str:
    rules = [ruled(deny=sorted(deny), ask=sorted(ask))]
    return Policy(tools=TOOLS, active=skills, rules=rules, **policy).decide(asked).verdict


def test_offered_tools_run_and_others_are_denied() -> None:
    assert [verdict(call(name)) for name in TOOLS] == ["allow"] * len(TOOLS)
    decision = Policy(tools=TOOLS).decide(call("rm"))
    assert decision.verdict == "deny"
    assert "Offered: bash_tool, create_file" in decision.reason


def test_what_needs_an_approval_does_not_run_and_the_model_is_told_so() -> None:
    decision = Policy(tools=TOOLS, rules=[ruled(ask=["bash_tool"])]).decide(call())
    assert decision.verdict == "ask"
    assert decision.reason.startswith("Not run: bash_tool needs an approval, and nobody can give one.")


def test_a_trusted_active_skill_approves_what_it_lists_and_nothing_else() -> None:
    skill = active("Bash(git:*)", "Write")
    assert verdict(call(), skill, ask={"bash_tool"}) == "allow"
    assert verdict(call(command="git log; id"), skill, ask={"bash_tool"}) == "ask"
    assert verdict(call(command="id"), skill, ask={"bash_tool"}) == "ask"
    assert verdict(call("create_file", path="a", file_text=""), skill, ask={"create_file"}) == "allow"
    assert verdict(call("str_replace", path="a"), skill, ask={"str_replace"}) == "ask"


def test_a_skill_that_is_not_trusted_approves_nothing() -> None:
    assert verdict(call(), active("*", trusted=False), ask={"bash_tool"}) == "ask"


@pytest.mark.parametrize("restrict", [False, True])
def test_nothing_overrides_a_denial(restrict: bool) -> None:
    for asked in (call(), call("view", path="/skills/s/a"), call("load_skill", name="s")):
        denied = verdict(asked, active("*"), deny={asked.name}, skill_roots=["/skills/s"], restrict=restrict)
        assert denied == "deny"
    assert verdict(call(), active("*"), deny={"bash_tool"}, ask={"bash_tool"}) == "deny"
    assert verdict(call(argv=("/skills/s/run",)), active("*"), deny={"bash_tool"}) == "deny"


def test_a_rule_for_a_script_of_the_skill_means_the_script_where_it_lies() -> None:
    skill = active("Bash(scripts/run.py:*)", files=("scripts/run.py",))
    assert verdict(call(command="/skills/s/scripts/run.py x"), skill, ask={"bash_tool"}) == "allow"
    assert verdict(call(command="scripts/run.py x"), skill, ask={"bash_tool"}) == "ask"
    other = active("Read", name="other", files=("scripts/run.py",))
    assert verdict(call(command="/skills/other/scripts/run.py"), skill, other, ask={"bash_tool"}) == "ask"


def test_reading_the_files_of_skills_needs_no_approval() -> None:
    policy: dict[str, Any] = {"ask": {"view", "load_skill"}, "skill_roots": ["/skills/s"]}
    for path in ("/skills/s", "/skills/s/SKILL.md", "/skills/s/references/../a.md", "/skills//s/a"):
        assert verdict(call("view", path=path), **policy) == "allow", path
    for path in ("/skills/s/../../etc/passwd", "/skills/sneaky/a", "a", "skills/s/a", "/skills", ""):
        assert verdict(call("view", path=path), **policy) == "ask", path
    assert verdict(call("view", path=7), **policy) == "ask"
    assert verdict(call("create_file", path="/skills/s/a"), ask={"create_file"}, skill_roots=["/skills/s"]) == "ask"
    assert verdict(call("load_skill", name="s"), **policy) == "ask"
    assert verdict(call("load_skill", name="s"), ask={"view"}) == "allow"


def test_restricted_to_what_active_skills_list() -> None:
    git, reader = active("Bash(git:*)"), active("Read", name="r")
    assert verdict(call(), git, restrict=True) == "allow"
    decision = Policy(tools=TOOLS, active=[git], restrict=True).decide(call(command="id"))
    assert decision.verdict == "deny"
    assert "the active skills (s) do not list this call" in decision.reason
    assert verdict(call(), reader, restrict=True) == "deny"
    assert verdict(call(), git, reader, restrict=True) == "allow"
    assert verdict(call(command="id"), git) == "allow"  # without restrict it is no limit


def test_the_limit_holds_for_entry_commands_as_well() -> None:
    entry = call(argv=("/skills/s/scripts/run.py", "a b"), command="/skills/s/scripts/run.py 'a b'")
    files = ("scripts/run.py",)
    assert verdict(entry, active("Read", files=files), restrict=True) == "deny"
    assert verdict(entry, active("Bash(scripts/run.py:*)", files=files), restrict=True) == "allow"


def test_arguments_of_users_are_words_and_no_line_for_a_shell() -> None:
    command = "/skills/s/scripts/run.py 'a; b' '$HOME'"
    skill = active("Bash(scripts/run.py:*)", files=("scripts/run.py",))
    entry = call(argv=("/skills/s/scripts/run.py", "a; b", "$HOME"), command=command)
    assert verdict(entry, skill, ask={"bash_tool"}) == "allow"
    assert verdict(call(command=command), skill, ask={"bash_tool"}) == "ask"


def test_very_many_rules_and_very_long_lines_do_not_hold_up_the_others() -> None:
    rules = tuple(f"Bash(word{number} scripts/x:*)" for number in range(5_000))
    skill = active(*rules, files=tuple(f"references/{number}" for number in range(10_000)))
    began = time.process_time()
    for line in ("echo " + "a b " * 2_000, "echo " + "a" * 1_000_000):
        assert verdict(call(command=line), skill, ask={"bash_tool"}, restrict=True) == "deny"
    assert time.process_time() - began < 2.0  # rule by rule it would take half a minute


def test_skills_without_a_list_set_no_limit() -> None:
    assert verdict(call(), restrict=True) == "allow"
    assert verdict(call(), active(), restrict=True) == "allow"
    assert verdict(call("create_file", path="a"), active(), active("Read", name="r"), restrict=True) == "deny"


def test_a_list_that_is_not_trusted_narrows_but_never_widens() -> None:
    mine, foreign = active("Read"), active("*", name="f", trusted=False)
    assert verdict(call(), mine, foreign, restrict=True) == "deny"
    assert verdict(call(), active("*"), active("Read", name="f", trusted=False), restrict=True) == "deny"
    assert verdict(call(), foreign, restrict=True) == "allow"


def test_a_limit_does_not_approve() -> None:
    assert verdict(call(), active("Bash", trusted=False), restrict=True, ask={"bash_tool"}) == "ask"


def test_under_a_limit_skills_can_still_be_read() -> None:
    limited = active("Bash(git:*)")
    assert verdict(call("load_skill", name="other"), limited, restrict=True) == "allow"
    assert (
        verdict(call("view", path="/skills/s/SKILL.md"), limited, restrict=True, skill_roots=["/skills/s"]) == "allow"
    )
    assert verdict(call("view", path="/etc/passwd"), limited, restrict=True, skill_roots=["/skills/s"]) == "deny"
