"""The catalogue for programs that call a model themselves: skills in, part of a system prompt out. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from skill_actors.skills.base import Skill
from skill_actors.skills.catalogue import write_catalogue
from skill_actors.skills.inventory import SKILL_FILE
from skill_actors.skills.lookup import index

__all__ = ["build_system_prompt", "system_prompt"]


def system_prompt(
    skills: Iterable[Skill],
    *,
    include_instructions: bool = True,
    location_of: Callable[[Skill], str] | None = None,
    budget_tokens: int | None = None,
) -> str:
    """What the model is told of the skills, the same for the same skills in whatever order; "" if there is none.

    Args:
        skills: of equal names the first is taken.
        include_instructions: whether the model is told how to use skills.
        location_of: where the tools find the skill's SKILL.md; by default in its folder on this host.
        budget_tokens: about how many tokens the text may have; descriptions are cut to fit, and the text says so.

    """
    where = location_of or _on_this_host
    located = [(skill, where(skill)) for skill in index(skills).values()]
    return write_catalogue(located, budget_tokens=budget_tokens, instructions=include_instructions).text


def build_system_prompt(
    base: str,
    skills: Iterable[Skill],
    *,
    include_instructions: bool = True,
    location_of: Callable[[Skill], str] | None = None,
    budget_tokens: int | None = None,
) -> str:
    """`base`, a blank line and what `system_prompt` gives; either alone where the other is empty."""
    told = system_prompt(
        skills, include_instructions=include_instructions, location_of=location_of, budget_tokens=budget_tokens
    )
    return "\n\n".join(part for part in (base.strip(), told) if part)


def _on_this_host(skill: Skill) -> str:
    return str(skill.root / SKILL_FILE)
