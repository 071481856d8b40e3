"""`/skill-name arguments`: a message that runs a skill's entry command instead of asking the model."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from skill_actors.skills.names import normal_name

__all__ = ["SlashCommand", "parse_command"]


@dataclass(frozen=True, slots=True)
class SlashCommand:
    """A skill by name, and the text behind it."""

    skill: str
    arguments: str


def parse_command(text: str, skills: Container[str]) -> SlashCommand | None:
    """Read a message; None if it is an ordinary one, also when it begins with `/` but names no skill.

    Args:
        text: of the message.
        skills: their names, in the spelling of `normal_name`; another spelling in the message is the same name.

    """
    if not text.startswith("/"):
        return None
    words = text[1:].split(maxsplit=1)
    if not words or text[1].isspace():
        return None
    name = normal_name(words[0])
    return SlashCommand(name, words[1] if len(words) == 2 else "") if name in skills else None
