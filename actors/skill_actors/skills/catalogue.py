"""What the model is told about the skills it may use: the `<available_skills>` fragment of the system prompt.

Name, description and location come from whoever wrote the skill, so all three are escaped, and characters that do
not show (controls, bidirectional overrides, invisible tags) are taken out: a skill can describe itself, not speak
with the voice of the prompt.

Within a budget, descriptions are cut before skills are left out, and those of the least used skills before others; of
a skill that was used some description is left while another that never was is listed. The order of the entries does
not depend on use: it is that of the caller, so that a cached prompt stays valid.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

from skill_actors.skills._clean import clean_text
from skill_actors.skills.base import Skill

__all__ = ["MAX_DESCRIPTION_CHARS", "Catalogue", "catalogue", "estimate_tokens", "is_listed", "write_catalogue"]

MAX_DESCRIPTION_CHARS: Final = 1024
_SHORT_CHARS: Final = 80
_CHARS_PER_TOKEN: Final = 4

_INTRODUCTION: Final = """\
<skills_description>
Skills extend what you can do with instructions, scripts and reference files for particular tasks.
When a request matches the description of a skill, first read its SKILL.md with the view tool, at the location given, \
or call load_skill if you have that tool.
Then follow the instructions you find there.
</skills_description>"""

_INSTRUCTIONS: Final = """\
<skill_usage_instructions>
1. Read the skill's SKILL.md at its location with the view tool, or load it with load_skill, before you use the skill.
2. Follow its instructions; paths in it are relative to the folder that holds SKILL.md.
3. Use its scripts/, references/ and other files only as it directs; do not modify them.
4. Check that the tools and programs it needs are there, and say so plainly if they are not.
</skill_usage_instructions>"""

_BLANKS: Final = re.compile(r"\s+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The fragment, and what had to give way to the budget, by name in the order of the catalogue."""

    text: str = ""
    shortened: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def catalogue(skills: Iterable[tuple[Skill, str]]) -> str:
    """The fragment for these (skill, location of its SKILL.md) pairs, in the order given; "" if none is listed."""
    return write_catalogue(skills).text


def write_catalogue(
    skills: Iterable[tuple[Skill, str]],
    *,
    budget_tokens: int | None = None,
    uses: Mapping[str, int] | None = None,
    instructions: bool = True,
) -> Catalogue:
    """The fragment, cut to a budget.

    Args:
        skills: (skill, location of its SKILL.md) pairs, in the order in which they are listed.
        budget_tokens: for the whole fragment, as `estimate_tokens` counts; None for no bound.
        uses: how often each skill was used, by name; those used least give way first, then the last in the order.
        instructions: whether the model is told how to use skills.

    """
    entries = [_Entry(skill, location) for skill, location in skills if is_listed(skill)]
    if not entries:
        return Catalogue()
    shown = _text(entries, instructions)
    if budget_tokens is None or estimate_tokens(shown) <= budget_tokens:
        return Catalogue(text=shown)
    frame = _framed("", _note(len(entries), len(entries)), instructions)
    _cut_to(entries, budget_tokens * _CHARS_PER_TOKEN - len(frame), uses or {})
    return Catalogue(
        text=_text(entries, instructions),
        shortened=tuple(entry.skill.name for entry in entries if entry.is_shortened),
        left_out=tuple(entry.skill.name for entry in entries if entry.limit is None),
    )


def estimate_tokens(text: str) -> int:
    """A rough count, four characters a token."""
    return -(-len(text) // _CHARS_PER_TOKEN)


def is_listed(skill: Skill) -> bool:
    """Whether the model may choose the skill by itself (`disable-model-invocation` hides it from the catalogue)."""
    return str(skill.extra.get("disable-model-invocation", "")).strip().lower() not in ("true", "yes", "on")


class _Entry:
    """One skill of the catalogue; `limit` is the length its description may have, None if it is left out."""

    __slots__ = ("_frame", "_shown", "description", "limit", "skill")

    def __init__(self, skill: Skill, location: str) -> None:
        self.skill = skill
        self.limit: int | None = None
        self.description = _one_line(skill.description)
        place = escape(clean_text(location)).replace("\n", "?")
        self._frame = (
            f"<skill>\n<name>{escape(_one_line(skill.name))}</name>\n<description>",
            f"</description>\n<location>{place}</location>\n</skill>",
        )
        self._shown = ""
        self.cut_to(MAX_DESCRIPTION_CHARS)

    def cut_to(self, limit: int | None) -> None:
        """Show no more than so many characters of the description; with None leave the skill out."""
        self.limit = limit
        self._shown = "" if limit is None else escape(_cut(self.description, limit))

    @property
    def is_shortened(self) -> bool:
        return self.limit is not None and len(self.description) > self.limit < MAX_DESCRIPTION_CHARS

    @property
    def text(self) -> str:
        return self._shown.join(self._frame)

    @property
    def chars(self) -> int:
        """With the blank line between two entries."""
        return 0 if self.limit is None else len(self._shown) + sum(map(len, self._frame)) + 2


def _cut_to(entries: Sequence[_Entry], room: int, uses: Mapping[str, int]) -> None:
    """Take from the least used first: most of the description; then, of those never used, all of it and the entry."""
    numbered = sorted(enumerate(entries), key=lambda pair: (uses.get(pair[1].skill.name, 0), -pair[0]))
    least_used = [entry for _, entry in numbered]
    never_used = [entry for entry in least_used if not uses.get(entry.skill.name)]
    rest = least_used[len(never_used) :]
    total = sum(entry.chars for entry in entries)
    steps = ((least_used, _SHORT_CHARS), (never_used, 0), (never_used, None), (rest, 0), (rest, None))
    for group, limit in steps:
        for entry in group:
            if total <= room:
                return
            before = entry.chars
            entry.cut_to(limit)
            total += entry.chars - before


def _text(entries: Sequence[_Entry], instructions: bool) -> str:
    listed = "\n\n".join(entry.text for entry in entries if entry.limit is not None)
    shortened = sum(entry.is_shortened for entry in entries)
    return _framed(listed, _note(shortened, sum(entry.limit is None for entry in entries)), instructions)


def _framed(listed: str, note: str, instructions: bool) -> str:
    parts = [_INTRODUCTION, f"<available_skills>\n{listed}\n</available_skills>", note]
    parts += [_INSTRUCTIONS] if instructions else []
    return "<skills>\n" + "\n\n".join(part for part in parts if part) + "\n</skills>"


def _note(shortened: int, left_out: int) -> str:
    said = [f"{shortened} descriptions are shortened; the SKILL.md has the whole."] if shortened else []
    said += [f"{left_out} skills are left out; load_skill takes their names if the user gives one."] if left_out else []
    return f"<skills_note>There is not room for everything: {' '.join(said)}</skills_note>" if said else ""


def _one_line(text: str) -> str:
    return _BLANKS.sub(" ", clean_text(text)).strip()


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return text[: limit - 1] + "…" if limit else ""
