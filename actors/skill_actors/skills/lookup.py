"""Finding skills by name or by pattern, in any collection of them: no registry is needed. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType

from skill_actors.skills.base import Skill
from skill_actors.skills.names import normal_name

__all__ = ["find", "find_matching", "index"]


def index(skills: Iterable[Skill]) -> Mapping[str, Skill]:
    """The skills by name, sorted and immutable. Of equal names the first holds, as among sources."""
    found: dict[str, Skill] = {}
    for skill in skills:
        found.setdefault(skill.name, skill)
    return MappingProxyType(dict(sorted(found.items())))


def find(skills: Mapping[str, Skill], name: str) -> Skill | None:
    """The skill of this name, in whatever spelling NFKC makes the same; None if there is none.

    Args:
        skills: by name: `index(...)`, or those of a snapshot.
        name: whole.

    """
    return skills.get(normal_name(name))


def find_matching(skills: Mapping[str, Skill], pattern: str) -> tuple[Skill, ...]:
    """The skills whose whole name fits the pattern, in the order of their names.

    Args:
        skills: by name.
        pattern: `*` stands for any text, `?` for one character, `[...]` for one of these; all else for itself.

    """
    wanted = normal_name(pattern)
    return tuple(skills[name] for name in sorted(skills) if fnmatchcase(name, wanted))
