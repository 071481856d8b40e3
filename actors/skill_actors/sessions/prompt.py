"""What a turn tells the model before the conversation: the system prompt and its skills."""

from __future__ import annotations

from collections.abc import Sequence

from skill_actors.backends.base import Workspace
from skill_actors.models.base import SkillHint
from skill_actors.sessions.surroundings import PinnedSkill
from skill_actors.skills.catalogue import catalogue
from skill_actors.skills.entry import entry_argv

__all__ = ["command_of", "hints_of", "system_prompt"]

_WORKSPACE = """\
You work in the folder {root}. Relative paths start there, and files you write there are kept between messages. \
You run unattended: nobody can answer a prompt of a command, so use non-interactive flags."""


def system_prompt(system: str | None, pinned: Sequence[PinnedSkill], workspace: Workspace) -> str:
    """The session's own instructions, where it works, and the catalogue of skills (if there are any)."""
    located = [(pin.skill, f"{workspace.path_of_skill(pin.copy)}/SKILL.md") for pin in pinned]
    parts = [system or "", _WORKSPACE.format(root=workspace.root), catalogue(located)]
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
