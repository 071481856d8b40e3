"""What the model is told about the skills it may use: the `<available_skills>` fragment of the system prompt.

Name, description and location come from whoever wrote the skill, so all three are escaped, and characters that do
not show (controls, bidirectional overrides, invisible tags) are taken out: a skill can describe itself, not speak
with the voice of the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from xml.sax.saxutils import escape

from skill_actors.skills._clean import clean_text
from skill_actors.skills.base import Skill

__all__ = ["MAX_DESCRIPTION_CHARS", "catalogue", "is_listed"]

MAX_DESCRIPTION_CHARS: Final = 1024

_INTRODUCTION: Final = """\
<skills_description>
Skills extend what you can do with instructions, scripts and reference files for particular tasks.
When a request matches the description of a skill, first read its SKILL.md with the view tool, at the location given.
Then follow the instructions you find there.
</skills_description>"""

_INSTRUCTIONS: Final = """\
<skill_usage_instructions>
1. Read the skill's SKILL.md at its location with the view tool before you use the skill.
2. Follow its instructions; paths in it are relative to the folder that holds SKILL.md.
3. Use its scripts/, references/ and other files only as it directs; do not modify them.
4. Check that the tools and programs it needs are there, and say so plainly if they are not.
</skill_usage_instructions>"""

_BLANKS: Final = re.compile(r"\s+")


def catalogue(skills: Iterable[tuple[Skill, str]]) -> str:
    """The fragment for these (skill, location of its SKILL.md) pairs, in the order given; "" if none is listed."""
    entries = [_entry(skill, location) for skill, location in skills if is_listed(skill)]
    if not entries:
        return ""
    listed = "\n\n".join(entries)
    available = f"<available_skills>\n{listed}\n</available_skills>"
    return f"<skills>\n{_INTRODUCTION}\n\n{available}\n\n{_INSTRUCTIONS}\n</skills>"


def is_listed(skill: Skill) -> bool:
    """Whether the model may choose the skill by itself (`disable-model-invocation` hides it from the catalogue)."""
    return str(skill.extra.get("disable-model-invocation", "")).strip().lower() not in ("true", "yes", "on")


def _entry(skill: Skill, location: str) -> str:
    name = _one_line(skill.name)
    description = _cut(_one_line(skill.description))
    return (
        "<skill>\n"
        f"<name>{escape(name)}</name>\n"
        f"<description>{escape(description)}</description>\n"
        f"<location>{escape(clean_text(location))}</location>\n"
        "</skill>"
    )


def _one_line(text: str) -> str:
    return _BLANKS.sub(" ", clean_text(text)).strip()


def _cut(text: str) -> str:
    return text if len(text) <= MAX_DESCRIPTION_CHARS else text[: MAX_DESCRIPTION_CHARS - 1] + "…"
