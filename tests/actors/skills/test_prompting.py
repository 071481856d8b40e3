"""The catalogue as part of a system prompt."""

from __future__ import annotations

from pathlib import Path

from skill_actors.skills import Skill, build_system_prompt, system_prompt


def skill(name: str, description: str = "Does things") -> Skill:
    return Skill(name=name, description=description, root=Path("/skills") / name, digest=name)


def test_each_skill_stands_there_with_its_description_and_where_it_is() -> None:
    told = system_prompt([skill("tides", "Looks up tides.")])
    entry = (
        "<skill>\n<name>tides</name>\n<description>Looks up tides.</description>\n"
        "<location>/skills/tides/SKILL.md</location>\n</skill>"
    )
    assert entry in told
    assert told.startswith("<skills>\n<skills_description>")
    assert told.endswith("</skills>")


def test_instructions_can_be_left_out() -> None:
    assert "<skill_usage_instructions>" in system_prompt([skill("tides")])
    assert "<skill_usage_instructions>" not in system_prompt([skill("tides")], include_instructions=False)


def test_locations_are_those_that_the_tools_have() -> None:
    told = system_prompt([skill("tides")], location_of=lambda each: f"/mnt/{each.name}/SKILL.md")
    assert "<location>/mnt/tides/SKILL.md</location>" in told


def test_without_skills_there_is_nothing_to_tell() -> None:
    assert system_prompt([]) == ""
    assert build_system_prompt("You are a pilot.\n", []) == "You are a pilot."


def test_a_base_is_followed_by_a_blank_line_and_the_skills() -> None:
    skills = [skill("tides")]
    assert build_system_prompt(" You are a pilot.\n\n", skills) == f"You are a pilot.\n\n{system_prompt(skills)}"
    assert build_system_prompt("", skills) == system_prompt(skills)
