"""Giving a skill's instructions to the model: the `load_skill` tool, and what it answers.

The answer is tagged and made of the pinned snapshot: no file is read. `content_key` names the instructions, so that
a conversation that holds them is not given them again; a skill of which only other files changed keeps its key.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

from skill_actors.skills._clean import clean_text
from skill_actors.skills.base import Skill
from skill_actors.skills.catalogue import is_listed
from skill_actors.skills.inventory import SKILL_FILE

__all__ = ["LOAD_SKILL", "MAX_RESOURCES", "already_loaded", "content_key", "is_cut", "load_skill_tool", "skill_content"]

LOAD_SKILL: Final = "load_skill"
MAX_RESOURCES: Final = 50  # listed; the rest is counted
_MAX_NAMED: Final = 100  # in the tool's schema; with more, the catalogue alone names them
_OUR_TAGS: Final = re.compile(r"<(?=\s*/?\s*skill_(?:content|resources))", re.IGNORECASE)


def load_skill_tool(skills: Iterable[Skill]) -> Mapping[str, Any] | None:
    """The definition of the tool, always the same for the same skills; None if there is none to load."""
    names = sorted(skill.name for skill in skills if is_listed(skill))
    if not names:
        return None
    name: dict[str, Any] = {"type": "string", "description": "Name of the skill, as in available_skills."}
    if len(names) <= _MAX_NAMED:
        name["enum"] = names
    return {
        "name": LOAD_SKILL,
        "description": (
            "Give the instructions of a skill, where its folder is, and what files it has. "
            "Use it before you work with a skill; once in a conversation is enough."
        ),
        "input_schema": {
            "type": "object",
            "properties": {"name": name},
            "required": ["name"],
            "additionalProperties": False,
        },
    }


def content_key(skill: Skill) -> str:
    """sha256 (hex) of the instructions: equal keys mean that the model would read the same."""
    return hashlib.sha256(skill.body.encode("utf-8", "surrogatepass")).hexdigest()


def is_cut(skill: Skill, max_chars: int) -> bool:
    """Whether the instructions are too long to be given whole."""
    return len(_instructions(skill)) > max_chars


def skill_content(skill: Skill, root: str, *, max_chars: int, replaces: bool = False) -> str:
    """What the model is given of a skill.

    Args:
        skill: in the version that the turn is pinned to.
        root: its folder as the tools see it.
        max_chars: of instructions; longer ones are cut, with a note where to read on.
        replaces: whether the conversation holds other instructions of this skill.

    """
    root = clean_text(root)
    newer = "These instructions replace those of this skill that were loaded before.\n" if replaces else ""
    return (
        f"{newer}<skill_content name={quoteattr(clean_text(skill.name))} folder={quoteattr(root)}>\n"
        f"{_shown(skill, root, max_chars)}\n</skill_content>{_resources(skill)}"
    )


def already_loaded(skill: Skill, root: str) -> str:
    """What the model is told instead of instructions that the conversation holds."""
    return (
        f"The skill {skill.name!r} is loaded already: this conversation holds its instructions, and they are "
        f"unchanged. Its folder is {clean_text(root)}."
    )


def _instructions(skill: Skill) -> str:
    return _OUR_TAGS.sub("&lt;", clean_text(skill.body))


def _shown(skill: Skill, root: str, max_chars: int) -> str:
    text = _instructions(skill)
    if len(text) <= max_chars:
        return text
    shown = text[: text.rfind("\n", 0, max_chars) + 1] or text[:max_chars]  # whole lines, if there are any
    lines = f"{shown.count(chr(10))} of {text.count(chr(10)) + 1} lines"
    how = f"Read on with view and view_range in {root}/{SKILL_FILE}, whose lines count the front matter too"
    return f"{shown.rstrip()}\n[Cut after {lines}. {how}.]"


def _resources(skill: Skill) -> str:
    files = [path for path in skill.files if path != SKILL_FILE]
    if not files:
        return ""
    listed = [escape(clean_text(path)).replace("\n", "?") for path in files[:MAX_RESOURCES]]
    more = [f"... and {len(files) - len(listed)} more files"] if len(files) > len(listed) else []
    text = "\n".join(listed + more)
    return f'\n<skill_resources files="{len(files)}">\n{text}\n</skill_resources>'
