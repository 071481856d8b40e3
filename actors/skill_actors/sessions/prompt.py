"""What a turn tells the model before the conversation: the system prompt and its skills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from skill_actors.backends.base import Workspace
from skill_actors.models.base import SkillHint
from skill_actors.sessions.surroundings import PinnedSkill
from skill_actors.skills.catalogue import Catalogue, write_catalogue
from skill_actors.skills.entry import entry_argv
from skill_actors.skills.inventory import SKILL_FILE

__all__ = ["command_of", "hints_of", "skills_of", "system_prompt"]

_WORKSPACE = """\
You work in the folder {root}. Relative paths start there, and files you write there are kept between messages. \
You run unattended: nobody can answer a prompt of a command, so use non-interactive flags."""
_PROJECT = "The user's project is the folder {root}. It lies outside of yours: work on it with commands."


def skills_of(
    pinned: Sequence[PinnedSkill], workspace: Workspace, *, budget_tokens: int, uses: Mapping[str, int]
) -> Catalogue:
    """The catalogue of these skills, with locations as the tools see them."""
    located = [(pin.skill, f"{workspace.path_of_skill(pin.copy)}/{SKILL_FILE}") for pin in pinned]
    return write_catalogue(located, budget_tokens=budget_tokens, uses=uses)


def system_prompt(system: str | None, workspace: Workspace, skills: str, project: str | None = None) -> str:
    """The session's own instructions, where it works, its project, and the catalogue of skills, as far as there are."""
    told = "" if project is None else _PROJECT.format(root=project)
    parts = [system or "", _WORKSPACE.format(root=workspace.root), told, skills]
    return "\n\n".join(part for part in parts if part)


def command_of(pin: PinnedSkill, workspace: Workspace, arguments: str = "") -> tuple[str, ...]:
    """The skill's entry command with these arguments, as tools can run it. Raises Refused as `entry_argv` does."""
    return entry_argv(pin.skill, workspace.path_of_skill(pin.copy), arguments)


def hints_of(pinned: Sequence[PinnedSkill], workspace: Workspace) -> Sequence[SkillHint]:
    """The skills for a model that does not read."""
    return [
        SkillHint(
            name=pin.skill.name,
            description=pin.skill.description,
            entry=command_of(pin, workspace) if pin.skill.entry else None,
        )
        for pin in pinned
    ]
